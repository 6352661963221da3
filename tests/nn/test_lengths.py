"""Samples of different length, padded to T: `layer(x, lengths=...)` and `padded(net, lengths)`.

The oracle: each sample in a call of its own, with its own number of steps, and zeros behind them.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests.cases import EDGES, distance, noise, same_bits
from tfexplore import FoldTime, Layer, neurons, timesplit
from tfexplore.backends import streaming
from tfexplore.nn.constant import repeated

T = 70
LENGTHS = torch.tensor([T, 0, 33, 33, 1, T, 32, 64, 65])  # runs of one length too
B = len(LENGTHS)
NEURONS = [neurons.LIF(tau=3.0, reset="hard", learn="tau"), neurons.ALIF(learn=("beta", "tau_b"))]


def padding(lengths: Tensor = LENGTHS, steps: int = T) -> Tensor:
    """Where a sample has ended, [T, B]."""
    return torch.arange(steps).unsqueeze(1) >= lengths


def results(
    layer: Layer, x: Tensor, start: Tensor, g: list[Tensor], names: tuple[str, ...], **options: Tensor
) -> dict[str, Tensor]:
    x, start = x.detach().requires_grad_(), start.detach().requires_grad_()
    out, state, *traces = layer(x, tuple(start), return_state=True, trace=names, **options)
    made = {"out": out, "state": torch.stack(state), **dict(zip(names, traces, strict=True))}
    learned = {f"g_{key}": layer.raw[key] for key in layer.neuron.learn}
    found = torch.autograd.grad(list(made.values()), [x, start, *learned.values()], g, materialize_grads=True)
    return {key: t.detach() for key, t in made.items()} | dict(zip(("g_x", "g_start", *learned), found, strict=True))


def alone(
    layer: Layer, x: Tensor, start: Tensor, g: list[Tensor], names: tuple[str, ...], lengths: Tensor
) -> dict[str, Tensor]:
    """Each sample alone; the gradients of learned parameters are summed."""
    parts = []
    for b, steps in enumerate(lengths.tolist()):
        sample = [g[0][:steps, b : b + 1], g[1][:, b : b + 1], *(each[:steps, b : b + 1] for each in g[2:])]
        parts.append(results(layer, x[:steps, b : b + 1], start[:, b : b + 1], sample, names))
    found = {}
    for key in parts[0]:
        if key in ("out", "g_x", *names):
            filled = [torch.cat([p[key], p[key].new_zeros(len(x) - len(p[key]), *p[key].shape[1:])]) for p in parts]
            found[key] = torch.cat(filled, 1)
        else:
            found[key] = (
                torch.cat([p[key] for p in parts], 1) if key in ("state", "g_start") else sum(p[key] for p in parts)
            )
    return found


def given(neuron: neurons.Neuron, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, list[Tensor]]:
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    states = len(neuron.states)
    start = noise(states, *x.shape[1:], seed=1, dtype=real).abs() / 5
    g = [noise(*x.shape, seed=2, dtype=x.dtype), noise(states, *x.shape[1:], seed=3, dtype=real)]
    return start, [*g, *(noise(*x.shape, seed=4 + k, dtype=real) for k in range(len(names)))]


def check(found: dict[str, Tensor], wanted: dict[str, Tensor], exact: bool = True) -> None:
    """The same bits, but for gradients that are sums over neurons, and (not `exact`) those of autograd."""
    assert wanted["out"].any()
    for key, theirs in wanted.items():
        if key not in ("out", "state", "v", "b", "g_x", "g_start"):
            assert distance(found[key], theirs) <= 1e-5, key
        elif key.startswith("g_") and not exact:
            assert distance(found[key], theirs) <= 1e-6, key
        else:
            assert same_bits(found[key], theirs), key


@pytest.mark.parametrize("keep", ["input", "potential"])
@pytest.mark.parametrize("neuron", NEURONS, ids=lambda neuron: type(neuron).__name__)
def test_each_sample_is_as_it_is_alone(neuron, keep):
    names = neuron.states
    for shape, last in (((5,), False), ((3, 2, 3), True)):
        x = noise(T, B, *shape, seed=0) + 0.3
        layer = Layer(neuron, backend="numba", keep=keep)
        start, g = given(neuron, x, names)
        wanted = alone(layer, x, start, g, names, LENGTHS)
        lying = x.movedim(2, -1).contiguous().movedim(-1, 2) if last else x
        # what is behind the end counts for nothing, whatever it is
        lying = lying.clone(memory_format=torch.preserve_format)
        lying[padding()] = torch.nan
        g[0][padding()] = g[2][padding()] = torch.nan
        found = results(layer, lying, start, g, names, lengths=LENGTHS)
        check(found, wanted)
        for key in ("out", "g_x", *names):
            assert not found[key][padding()].any(), key


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda neuron: type(neuron).__name__)
def test_the_eager_backend_too(neuron):
    x, layer, names = noise(T, B, 5, seed=0) + 0.3, Layer(neuron, backend="torch"), neuron.states
    start, g = given(neuron, x, names)
    wanted = alone(layer, x, start, g, names, LENGTHS)
    x[padding()] = torch.nan
    check(results(layer, x, start, g, names, lengths=LENGTHS), wanted, exact=False)
    fused = Layer(neuron, backend="numba")(x, tuple(start), lengths=LENGTHS)
    assert torch.equal(fused, layer(x, tuple(start), lengths=LENGTHS))


@pytest.mark.parametrize("steps", EDGES)
def test_around_the_edges_of_chunks(steps):
    """Every length from 0 to T, in steps of odd numbers of neurons; the last chunk of most samples is not whole."""
    lengths = torch.arange(steps + 1)[torch.randperm(steps + 1, generator=torch.Generator().manual_seed(0))][:9]
    x, layer = noise(steps, len(lengths), 5, seed=0) + 0.3, Layer(NEURONS[0], backend="numba", keep="input")
    start, g = given(layer.neuron, x, ("v",))
    check(results(layer, x, start, g, ("v",), lengths=lengths), alone(layer, x, start, g, ("v",), lengths))


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_stores_past_the_cache_begin_anywhere_in_a_line(monkeypatch, keep):
    """As with tensors larger than the cache; samples of an odd number of neurons."""
    monkeypatch.setattr(streaming, "CACHE", 0)
    x, layer = noise(9, 5, 777, seed=0) + 0.3, Layer(NEURONS[1], backend="numba", keep=keep)
    lengths, (start, g) = torch.tensor([9, 0, 4, 9, 1]), given(layer.neuron, x, ("v", "b"))
    check(results(layer, x, start, g, ("v", "b"), lengths=lengths), alone(layer, x, start, g, ("v", "b"), lengths))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("keep", ["input", "potential", "bits"])
def test_the_cuda_text(fake_cupy, keep, dtype):
    """Wide accesses where each sample is a whole number of them, else single ones; around the edges of chunks."""
    neuron = neurons.LIF(surrogate=tfexplore.surrogates.Rectangle()) if keep == "bits" else NEURONS[1]
    layer = Layer(neuron, backend="cuda", keep=keep)
    for count, steps in ((8, 35), (5, 35), (8, 1), (64, 17)):
        lengths = torch.tensor([steps, 0, min(steps, 16), min(steps, 33), max(steps - 1, 0), 1])
        x = noise(steps, len(lengths), count, seed=count).to(dtype) + 0.3
        start, g = given(neuron, x, neuron.states)
        wanted = alone(layer, x, start, g, neuron.states, lengths)
        x[padding(lengths, steps)] = torch.nan
        check(results(layer, x, start, g, neuron.states, lengths=lengths), wanted)
    assert {loop for loop, _ in fake_cupy.launches} == {"forward", "backward"}


def test_all_of_full_length_and_all_of_none():
    layer, x = tfexplore.LIF(backend="numba"), noise(9, 3, 5, seed=0) + 0.3
    plain, (v,) = layer(x, return_state=True)
    spikes, (last,) = layer(x, return_state=True, lengths=torch.full((3,), 9))
    assert torch.equal(spikes, plain)
    assert same_bits(last, v)
    given = x.clone().requires_grad_()
    start = torch.rand(3, 5, requires_grad=True)
    spikes, (last,) = layer(given, (start,), return_state=True, lengths=torch.zeros(3, dtype=torch.int32))
    assert not spikes.any()
    assert torch.equal(last, start)
    (spikes.sum() + last.sum()).backward()
    assert not given.grad.any()
    assert torch.equal(start.grad, torch.ones_like(start))
    assert layer(x[:, :0], lengths=torch.zeros(0, dtype=torch.int64)).shape == (9, 0, 5)
    assert layer(x[:0], lengths=torch.zeros(3, dtype=torch.int64)).shape == (0, 3, 5)


def test_a_constant_current_of_different_length():
    once = (noise(1, B, 5, seed=0) + 0.6).requires_grad_()
    for backend in ("torch", "numba"):
        layer = tfexplore.LIF(backend=backend)
        results = []
        for x in (repeated(once, T), once.expand(T, B, 5).clone()):
            out = layer(x, lengths=LENGTHS)
            results.append((out, torch.autograd.grad(out, once, noise(*out.shape, seed=2))[0]))
        (out, g), (wanted, g_wanted) = results
        assert same_bits(out, wanted)
        assert distance(g, g_wanted) <= 1e-6
        assert not g[:, LENGTHS == 0].any()


# -- whole networks --------------------------------------------------------------------------------------------------


def net(backend: str = "numba") -> nn.Module:
    torch.manual_seed(0)
    recurrent = tfexplore.Recurrent(tfexplore.LIF(v_threshold=0.3, backend=backend), nn.Linear(4, 4))
    shared = tfexplore.ALIF(tau=3.0, v_threshold=0.3, backend=backend)
    return nn.Sequential(
        FoldTime(nn.Linear(5, 4)), shared, nn.Linear(4, 4), recurrent, nn.Linear(4, 4), shared
    ).double()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_network_of_padded_samples_is_each_of_them_alone(backend):
    module, g = net(backend), noise(T, B, 4, seed=2, dtype=torch.float64)
    x = (noise(T, B, 5, seed=0, dtype=torch.float64) + 0.3).requires_grad_()
    parts, sums = [], []
    for b, steps in enumerate(LENGTHS.tolist()):
        sample = x[:steps, b : b + 1]
        out = module(sample)
        parts.append(torch.cat([out, out.new_zeros(T - steps, 1, 4)]))
        if steps:
            sums.append(torch.autograd.grad(out, [x, *module.parameters()], g[:steps, b : b + 1]))
    wanted, g_wanted = torch.cat(parts, 1), [sum(each) for each in zip(*sums, strict=True)]
    assert wanted.any()

    def pieces() -> Tensor:
        with tfexplore.carry(module):
            return torch.cat([module(piece) for piece in x.split([31, 1, 0, 38])])

    for run in (lambda: module(x), pieces, lambda: tfexplore.step_by_step(module, x)):
        with tfexplore.padded(module, LENGTHS):
            out = run()
        assert torch.equal(out, wanted)
        found = torch.autograd.grad(out, [x, *module.parameters()], g)
        assert all(distance(mine, theirs) <= 1e-11 for mine, theirs in zip(found, g_wanted, strict=True))
        assert not found[0][padding()].any()
    assert all(m.padding is None for m in module.modules() if hasattr(m, "padding"))
    assert not torch.equal(module(x), wanted)  # behind the block all samples have T steps


def test_states_stay_from_the_end_of_a_sample_on():
    module, x = net(), noise(T, B, 5, seed=0, dtype=torch.float64) + 0.3
    with tfexplore.carry(module) as states, tfexplore.padded(module, LENGTHS):
        for piece in x.split(13):
            module(piece)
    found = {key: torch.stack(state) for key, state in states.items()}
    for b, steps in enumerate(LENGTHS.tolist()):
        if not steps:
            continue
        with tfexplore.carry(module) as states:
            module(x[:steps, b : b + 1])
        for key, state in states.items():
            assert distance(found[key][:, b : b + 1], torch.stack(state)) <= 1e-14, (
                key,
                b,
            )  # a product of another size


def test_traces_of_padded_samples_are_0_behind_their_end():
    module, x = net(), noise(T, B, 5, seed=0, dtype=torch.float64) + 0.3
    module = nn.Sequential(*list(module)[:2])
    with tfexplore.record(module, "v", "s") as traces, tfexplore.padded(module, LENGTHS):
        out = module(x)
    assert torch.equal(traces["1"]["s"], out)
    assert not traces["1"]["v"][padding()].any()
    assert traces["1"]["v"][~padding()].all()


def test_a_recurrent_layer_takes_lengths_and_hands_its_last_spikes_on():
    torch.manual_seed(0)
    module = tfexplore.Recurrent(tfexplore.LIF(v_threshold=0.4), nn.Linear(4, 4))
    x = noise(9, 3, 4, seed=0) + 0.4
    lengths = torch.tensor([9, 0, 4])
    out, (v, last) = module(x, return_state=True, lengths=lengths)
    short, (v_short, last_short) = module(x[:4, 2:], return_state=True)
    assert torch.equal(out[:4, 2:], short)
    assert short[-1].any()
    assert torch.equal(last[2:], last_short)
    assert same_bits(v[2:], v_short)
    assert not out[:, 1].any()
    assert torch.equal(v[1], torch.zeros(4))


def test_lengths_are_given_once():
    module, x = net(), torch.zeros(3, 2, 5, dtype=torch.float64)
    lengths = torch.tensor([3, 1])
    with tfexplore.padded(module, lengths):
        with pytest.raises(ValueError, match=r"^lengths came with the call, within `padded`, .*; leave one out\.$"):
            module[1](x, lengths=lengths)
        with (
            pytest.raises(RuntimeError, match=r"^the network is within `padded` already"),
            tfexplore.padded(module, lengths),
        ):
            pass
        with pytest.raises(
            ValueError, match=r"^lengths must be \[B\], one for each of the 3 samples, but got shape \(2,\)\.$"
        ):
            module(torch.zeros(3, 3, 5, dtype=torch.float64))
    with (
        tfexplore.padded(module, torch.tensor([4, 1])),
        pytest.raises(ValueError, match=r"from 0 to T = 3, but got \[4, 1\]\.$"),
    ):
        module(x)
    module(x)  # nothing is left of it


def test_a_layer_with_lengths_compiles_in_one_graph():
    torch.compiler.reset()
    layer, x = tfexplore.LIF(backend="numba"), noise(20, 3, 5, seed=0) + 0.3
    lengths = torch.tensor([20, 3, 7])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    made = []
    for call in (compiled, layer):
        given = x.clone().requires_grad_()
        out = call(given, lengths=lengths)
        made.append((out.detach(), torch.autograd.grad(out.square().sum(), given)[0]))
    assert all(map(same_bits, *made))
    torch.compiler.reset()


def test_a_time_split_takes_samples_of_one_length():
    class Short(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = tfexplore.LIF()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, lengths=torch.tensor([2, 1]))

    with timesplit.ranks() as alone:
        split = timesplit.TimeSplit(nn.Sequential(tfexplore.LIF()), ranks=alone)
        with (
            tfexplore.padded(split.net, torch.tensor([3, 1])),
            pytest.raises(
                ValueError, match=r"^'0' is within `padded`, whose lengths count from the first time step, .*"
            ),
        ):
            split(torch.zeros(3, 2, 4))
        assert split(torch.ones(3, 2, 4)).any()
        split = timesplit.TimeSplit(Short(), ranks=alone)
        with pytest.raises(ValueError, match=r"^net passes a LIF lengths, which count from the first time step, .*"):
            split(torch.zeros(3, 2, 4))
