"""Traces that gradients flow through: `layer(x, trace="v")`, and `record(net, "v", differentiable=True)`.

The oracles: autograd through the eager backend and through plain loops, and finite differences of the smooth spike.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests import oracle
from tests.cases import CASES, SINGLE, Case, distance, noise, same_bits
from tfexplore import Layer, neurons, surrogates
from tfexplore.codegen.keep import KEEP, why_not


def gradients(layer: Layer, x: Tensor, names: tuple[str, ...], weights: tuple[float, ...] = ()) -> list[Tensor]:
    """The traces, then the gradients of x, of the start and of what is learned, for dense random ones that arrive.

    weights: of the spikes, of the last states and of each trace.
    """
    states = len(layer.state_names)
    weights = weights or (1.0,) * (2 + len(names))
    x = x.detach().requires_grad_()
    rest = torch.tensor([float(z) for z in dataclasses.replace(layer.neuron).initial()], dtype=x.dtype)
    start = (
        rest.view(-1, *(1,) * (x.ndim - 1)) + noise(states, *x.shape[1:], seed=1, dtype=x.dtype) / 20
    ).requires_grad_()
    out, state, *traces = layer(x, tuple(start), return_state=True, trace=names)
    made = [out, torch.stack(state), *traces]
    parts = [
        weight * (noise(*each.shape, seed=k, dtype=each.dtype) * each).sum()
        for k, (weight, each) in enumerate(zip(weights, made, strict=True))
        if weight
    ]
    learned = [layer.raw[key] for key in layer.neuron.learn]
    found = torch.autograd.grad(sum(parts, torch.zeros((), dtype=x.dtype)), [x, start, *learned])
    return [*(trace.detach() for trace in traces), *found]


@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_every_neuron_has_the_gradients_of_autograd(case: Case):
    """Through the traces of every variable; with one trace unused, with only traces in the loss; for every exact keep."""
    neuron = case.learning()
    names = ("h", *neuron.states)
    x = case.input(35, (2, 3), dtype=torch.float64)
    keeps = [keep for keep in KEEP if keep != "bits" or not why_not(neurons.step_of(neuron))]
    eager = Layer(neuron, backend="torch").double()
    every = (1.0, 1.0, *(1.0 for _ in names))
    unused, only = (1.0, 1.0, 1.0, *(0.0 for _ in neuron.states)), (0.0, 0.0, *every[2:])
    for weights in (every, unused, only):
        wanted = gradients(eager, x, names, weights)
        for keep in keeps:
            found = gradients(Layer(neuron, backend="numba", keep=keep).double(), x, names, weights)
            for mine, theirs in zip(found, wanted, strict=True):
                assert distance(mine, theirs) <= 1e-9, (keep, weights)


BOX = surrogates.Rectangle()


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_lif_has_the_gradients_of_a_plain_loop(reset, detach):
    neuron = neurons.LIF(tau=3.0, v_threshold=0.8, v_reset=-0.1, reset=reset, detach_reset=detach, learn="tau")
    x = noise(40, 2, 3, seed=0, dtype=torch.float64) + 0.3
    g, start = noise(3, 40, 2, 3, seed=1, dtype=torch.float64), noise(2, 3, seed=2, dtype=torch.float64)
    layer = Layer(neuron, backend="numba").double()
    made = []
    for names in (("v", "h"), ("h", "v")):
        given = [x.clone().requires_grad_(), start.clone().requires_grad_()]
        spikes, *traces = layer(given[0], (given[1],), trace=names)
        v, h = traces if names[0] == "v" else reversed(traces)
        made.append([h, v, *torch.autograd.grad((spikes, h, v), (*given, layer.raw["tau"]), tuple(g))])
    given = [x.clone().requires_grad_(), start.clone().requires_grad_()]
    raw = layer.raw["tau"].detach().requires_grad_()
    spikes, _, h, v = oracle.lif(*given, 1 + raw.exp(), v_threshold=0.8, v_reset=-0.1, reset=reset, detach_reset=detach)
    wanted = [h, v, *torch.autograd.grad((spikes, h, v), (*given, raw), tuple(g))]
    assert spikes.any()
    for found in made:
        assert all(distance(mine, theirs) <= 1e-12 for mine, theirs in zip(found, wanted, strict=True))


def test_alif_has_the_gradients_of_a_plain_loop():
    numbers = {"tau": 3.0, "tau_b": 12.0, "beta": 0.4, "v_threshold": 0.8, "v_reset": -0.1}
    layer = Layer(neurons.ALIF(**numbers, reset="hard", detach_reset=False), backend="numba")
    x = (noise(40, 2, 3, seed=0, dtype=torch.float64) + 0.3).requires_grad_()
    v = (noise(2, 3, seed=2, dtype=torch.float64) / 5).requires_grad_()
    b = (noise(2, 3, seed=3, dtype=torch.float64).abs() / 5).requires_grad_()
    g = noise(2, 40, 2, 3, seed=1, dtype=torch.float64)
    out, trace = layer(x, (v, b), trace="b")
    found = torch.autograd.grad((out, trace), (x, v, b), tuple(g))
    # the loop's last adaptation after each number of steps is its trace
    tensors = {key: torch.tensor(number, dtype=torch.float64) for key, number in numbers.items()}
    spikes, bs, state = [], [], (v, b)
    for x_t in x.split(1):
        s, *state = oracle.alif(x_t, *state, **tensors)
        spikes.append(s)
        bs.append(state[1])
    wanted = torch.autograd.grad((torch.cat(spikes), torch.stack(bs)), (x, v, b), tuple(g))
    assert torch.equal(out, torch.cat(spikes))
    assert out.any()
    assert distance(trace, torch.stack(bs)) <= 1e-13
    assert all(distance(mine, theirs) <= 1e-12 for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("keep", ["input", "potential"])
@pytest.mark.parametrize(
    "neuron",
    [neurons.LIF(reset="hard", detach_reset=False, learn="tau"), neurons.ALIF(detach_reset=False), neurons.LI(learn="tau"),
     neurons.CubaLIF(detach_reset=False)],
    ids=lambda neuron: type(neuron).__name__,
)  # fmt: skip
def test_gradcheck_of_spikes_traces_and_final_states(neuron, keep):
    layer = Layer(neuron, backend="numba", keep=keep, smooth=True).double()
    x = (noise(6, 2, 2, seed=0, dtype=torch.float64) + 0.3).requires_grad_()
    start = (noise(len(neuron.states), 2, 2, seed=1, dtype=torch.float64) / 5).requires_grad_()
    raw = [layer.raw[key] for key in neuron.learn]

    def run(x, start, *raw):
        tensors = {f"raw.{key}": value for key, value in zip(neuron.learn, raw, strict=True)}
        options = {"return_state": True, "trace": ("h", *neuron.states)}
        out, state, *traces = torch.func.functional_call(layer, tensors, (x, tuple(start)), options)
        return (out, *state, *traces)

    assert torch.autograd.gradcheck(run, (x, start, *raw))


def test_a_trace_is_what_record_has_and_changes_no_spike():
    x = CASES[1].input(40, (2, 3))
    for backend in ("torch", "numba"):
        layer = tfexplore.ALIF(backend=backend)
        with tfexplore.record(layer, "h", "v", "b") as traces:
            plain = layer(x)
        spikes, b, h = layer(x, trace=["b", "h"])
        assert torch.equal(spikes, plain)
        assert same_bits(b, traces[""]["b"])
        assert same_bits(h, traces[""]["h"])
        spikes, (v, _), v_trace = layer(x, return_state=True, trace="v")
        assert torch.equal(v_trace[-1], v)
        assert not v_trace.requires_grad
        assert [t.dtype for t in layer(x.half(), trace="v")] == [torch.float16, torch.float32]
        empty = layer(x[:0], trace=("v", "b"))
        assert [t.shape for t in empty] == [(0, 2, 3)] * 3


def saved_bytes(run: object) -> int:
    """Bytes of the storages that a forward pass keeps for backward."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


@pytest.mark.parametrize("keep", KEEP)
def test_nothing_more_is_saved_for_a_trace(keep):
    layer = Layer(neurons.LIF(surrogate=BOX), backend="numba", keep=keep)
    x = noise(64, 2, 3, seed=0).requires_grad_()
    without, with_traces = saved_bytes(lambda: layer(x)), saved_bytes(lambda: layer(x, trace=("v", "h")))
    assert with_traces == without > 0


def test_traces_that_the_loss_does_not_use_cost_no_gradient_of_theirs():
    x, results = CASES[1].input(40, (2, 3)), []
    for trace in ((), ("v", "h")):
        layer, given = tfexplore.LIF(backend="numba", learn="tau"), x.clone().requires_grad_()
        spikes = layer(given, trace=trace)[0] if trace else layer(given)
        results.append(torch.autograd.grad(spikes.square().sum(), (given, layer.raw["tau"])))
    assert all(map(same_bits, *results))


class Potential(nn.Module):
    """Returns what a loss may want: the potential before the reset."""

    def __init__(self, **options: str) -> None:
        super().__init__()
        self.first, self.last = tfexplore.LIF(v_threshold=0.5, **options), tfexplore.LIF(tau=3.0, **options)

    def forward(self, x: Tensor) -> Tensor:
        spikes, v = self.first(x, trace="v")
        _, h = self.last(spikes + 0.1 * v, trace="h")
        return h


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_in_pieces_and_step_by_step_as_in_one(backend):
    net, g = Potential(backend=backend), noise(20, 2, 3, seed=5, dtype=torch.float64)
    x = noise(20, 2, 3, seed=0, dtype=torch.float64).requires_grad_()
    out = net(x)
    (wanted,) = torch.autograd.grad(out, x, g)
    with tfexplore.carry(net):
        pieces = torch.cat([net(piece) for piece in x.split([7, 1, 0, 12])])
    for made in (pieces, tfexplore.step_by_step(net, x)):
        assert distance(made, out) <= 1e-14
        assert distance(torch.autograd.grad(made, x, g)[0], wanted) <= 1e-13


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_loss_on_recorded_traces(backend):
    """record(differentiable=True) against the traces that calls return; in one pass, in pieces, step by step."""
    net = nn.Sequential(tfexplore.LIF(v_threshold=0.5, backend=backend), tfexplore.ALIF(tau=3.0, backend=backend))
    x = (noise(20, 2, 3, seed=0, dtype=torch.float64) + 0.3).requires_grad_()
    g = noise(3, 20, 2, 3, seed=5, dtype=torch.float64)
    spikes, v0 = net[0](x, trace="v")
    _, v1, h1 = net[1](spikes, trace=("v", "h"))
    (wanted,) = torch.autograd.grad((v0, v1, h1), x, tuple(g))

    def pieces():
        with tfexplore.carry(net):
            for piece in x.split([7, 13]):
                net(piece)

    for run in (lambda: net(x), pieces, lambda: tfexplore.step_by_step(net, x)):
        with tfexplore.record(net, "v", "h", differentiable=True) as traces:
            run()
        made = (traces["0"]["v"], traces["1"]["v"], traces["1"]["h"])
        assert all(distance(mine, theirs) <= 1e-14 for mine, theirs in zip(made, (v0, v1, h1), strict=True))
        assert distance(torch.autograd.grad(made, x, tuple(g))[0], wanted) <= 1e-13
    with tfexplore.record(net, "v") as traces:
        net(x)
    assert not traces["0"]["v"].requires_grad


def test_a_call_that_asks_for_a_trace_within_record_has_both():
    layer, x = tfexplore.ALIF(backend="numba"), CASES[1].input(20, (2, 3)).requires_grad_()
    with tfexplore.record(layer, "b") as traces:
        _, v = layer(x, trace="v")
    assert v.requires_grad
    assert not traces[""]["b"].requires_grad
    assert same_bits(v, layer(x, trace="v")[1])
    assert same_bits(traces[""]["b"], layer(x, trace="b")[1])
    (found,), (wanted,) = (torch.autograd.grad(t.square().sum(), x) for t in (v, layer(x, trace="v")[1]))
    assert same_bits(found, wanted)


def test_compiled_in_one_graph():
    torch.compiler.reset()
    net, x = Potential(backend="numba"), noise(20, 2, 3, seed=0)
    results = []
    for call in (torch.compile(net, fullgraph=True, backend="aot_eager"), net):
        given = x.clone().requires_grad_()
        out = call(given)
        results.append((out.detach(), torch.autograd.grad(out.square().sum(), given)[0]))
    assert all(distance(mine, theirs) <= 1e-6 for mine, theirs in zip(*results, strict=True))
    torch.compiler.reset()


def test_training_on_the_potential_reduces_its_loss():
    torch.manual_seed(0)
    layer, linear = tfexplore.LIF(tau=4.0, learn="tau"), nn.Linear(4, 3)
    x, target = noise(30, 8, 4, seed=0), noise(8, 3, seed=1) / 3
    optimiser, losses = torch.optim.Adam([*linear.parameters(), *layer.parameters()], 0.02), []
    for _ in range(40):
        optimiser.zero_grad()
        _, v = layer(linear(x), trace="v")
        loss = (v.mean(0) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("keep", ["input", "potential", "bits"])
def test_the_cuda_text_takes_the_gradients_of_traces(fake_cupy, keep):
    """Whole accesses and single ones, chunks that T fills and that it does not."""
    neuron = neurons.ALIF(surrogate=BOX) if keep == "bits" else neurons.ALIF(learn="beta")
    layers = {"cuda": Layer(neuron, backend="cuda", keep=keep), "torch": Layer(neuron, backend="torch")}
    for steps, count in ((1, 8), (16, 5), (33, 8), (33, 257)):
        x = noise(steps, 1, count, seed=steps) + 0.3
        found, wanted = (gradients(layers[backend], x, ("h", "v", "b")) for backend in ("cuda", "torch"))
        for k, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
            assert same_bits(mine, theirs) if k < 3 else distance(mine, theirs) <= 1e-5, (steps, count, k)
