"""The custom operators as PyTorch citizens: opcheck, torch.compile, autocast, and what autograd may require of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests.cases import CASES, NEURONS, same_bits
from tfexplore import Layer, neurons
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.step import by_value, step_of
from tfexplore.nn import layers, ops

VARIANTS = [
    pytest.param(neurons.LIF(), "input", (), torch.float32, id="LIF-input"),
    pytest.param(neurons.LIF(), "nothing", ("v", "h"), torch.float32, id="LIF-recorded"),
    pytest.param(neurons.LIF(), "potential", ("h", "v"), torch.float32, id="LIF-traced"),
    pytest.param(neurons.ALIF(learn="tau", reset="hard"), "potential", (), torch.float64, id="ALIF-learned-potential"),
    pytest.param(neurons.LI(), "input", (), torch.float32, id="LI-needs-nothing"),
]


def arguments(neuron: neurons.Neuron, keep: str, record: tuple[str, ...], dtype: torch.dtype, grad: bool) -> tuple:
    """Those of `ops.forward`: 6 neurons in groups of 2, and 3 samples of different length."""
    real = str(dtype).removeprefix("torch.")
    key = ops.register("numba", Variant(step_of(neuron), real, real, keep, record, traced=grad and bool(record)))
    torch.manual_seed(0)
    x, start = torch.randn(35, 6, dtype=dtype), torch.rand(len(neuron.states), 6, dtype=dtype)
    per_neuron = torch.rand(len(neuron.learn), 3, dtype=dtype).add_(2).requires_grad_(grad) if neuron.learn else None
    lengths = (
        torch.tensor([35, 7, 0]) if keep == "nothing" else None
    )  # what is kept of steps behind them is not defined
    return (x.requires_grad_(grad), start.requires_grad_(grad), per_neuron, lengths, 35, 2, by_value(neuron), True, key)


@pytest.mark.parametrize(("neuron", "keep", "record", "dtype"), VARIANTS)
def test_opcheck_forward(neuron, keep, record, dtype):
    given = arguments(neuron, keep, record, dtype, grad=keep != "nothing")
    torch.library.opcheck(ops.forward, given, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("neuron", "keep", "record", "dtype"), [v for v in VARIANTS if v.id != "LIF-recorded"])
def test_opcheck_backward(neuron, keep, record, dtype):
    x, start, per_neuron, lengths, _, inner, scalars, last, key = arguments(neuron, keep, record, dtype, grad=False)
    backend, variant = ops.find(key)
    key = ops.register(backend, dataclasses.replace(variant, traced=bool(record)))
    out, watched, state, kept = ops.forward(x, start, per_neuron, lengths, 35, inner, scalars, last, key)
    g_watched = torch.randn_like(watched) if record else None
    for first in (True, False):
        ends = (torch.randn_like(state), g_watched, start)
        given = (x, torch.randn_like(out), *ends, per_neuron, lengths, inner, scalars, kept, first, key)
        torch.library.opcheck(ops.backward, given)


@pytest.mark.parametrize("constant", [False, True], ids=["", "constant"])
@pytest.mark.parametrize("keep", ["input", "potential", "nothing"])
def test_opcheck_with_nothing_at_the_ends_of_time(keep, constant):
    """All neurons begin alike, neither the last state nor the gradient of the first is requested, and x has its own shape."""
    x, scalars = torch.randn(1 if constant else 35, 2, 3), by_value(neurons.LIF())
    key = ops.register("numba", Variant(step_of(neurons.LIF()), keep=keep, constant=constant))
    given = (x.clone().requires_grad_(keep != "nothing"), None, None, None, 35, 1, scalars, False, key)
    torch.library.opcheck(ops.forward, given, atol=1e-6, rtol=1e-5)
    out, _, state, kept = ops.forward(x, None, None, None, 35, 1, scalars, False, key)
    assert out.shape == (35, 2, 3)
    assert state.numel() == 0
    if keep != "nothing":
        read = x if keep == "input" else None
        back = (read, torch.randn_like(out), None, None, None, None, None, 1, scalars, kept, False, key)
        torch.library.opcheck(ops.backward, back)
        g_x, g_start, g_rows = ops.backward(*back)
        assert g_x.shape == x.shape
        assert g_start.numel() == g_rows.numel() == 0


@pytest.mark.parametrize(
    "piece", [(slice(None), slice(None), slice(8)), (slice(None), slice(1))], ids=["neurons", "samples"]
)
def test_a_piece_of_something_larger_does_not_keep_all_of_it(piece):
    whole = torch.randn(8, 4, 512)
    piece = whole[piece].requires_grad_()
    spikes = tfexplore.LIF(backend="numba", keep="input")(piece)
    held = [t for t in spikes.grad_fn.saved_tensors if t is not None]
    assert max(t.untyped_storage().nbytes() for t in held) == piece.numel() * 4
    (found,) = torch.autograd.grad(spikes.sum(), piece)
    copied = piece.detach().clone().requires_grad_()
    (wanted,) = torch.autograd.grad(tfexplore.LIF(backend="torch")(copied).sum(), copied)
    torch.testing.assert_close(found, wanted)


class Readout(nn.Module):
    """Learns, mixes stateless modules with layers, and hands a state on explicitly."""

    def __init__(self, **options: str) -> None:
        super().__init__()
        self.front = nn.Sequential(
            tfexplore.FoldTime(nn.Conv2d(1, 3, 3), nn.AvgPool2d(2)),
            tfexplore.LIF(**options),
            tfexplore.FoldTime(nn.Flatten(), nn.Linear(27, 8)),
            tfexplore.ParametricLIF(channels=8, **options),
            nn.Linear(8, 5),
        )
        self.readout = tfexplore.LI(**options)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out, state = self.readout(self.front(x), return_state=True)
        out, (v,) = self.readout(out, state, return_state=True)
        return out, v


def results(net: nn.Module, module: nn.Module, x: Tensor) -> list[Tensor]:
    module.zero_grad()
    given = x.clone().requires_grad_()
    out, v = net(given)
    (out.square().sum() + v.sum()).backward()
    return [out.detach(), v.detach(), given.grad, *(p.grad.clone() for p in module.parameters())]


def close(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(
        (a - b).abs().max() <= 1e-5 * b.abs().max().clamp(min=1e-3) for a, b in zip(found, expected, strict=True)
    )


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("keep", ["input", "potential"])
def test_compiled_without_graph_break_equals_eager_also_for_another_number_of_steps(keep):
    torch.manual_seed(0)
    net = Readout(keep=keep, backend="numba")
    frames = []

    def backend(graph, inputs):
        from torch._dynamo.backends.debugging import aot_eager

        frames.append(graph)
        return aot_eager(graph, inputs)

    compiled = torch.compile(net, fullgraph=True, backend=backend)
    # the second makes T dynamic, and the others compile nothing more; that no chunk, one or more are saved is another graph each
    for steps in (9, 70, 100, 170):
        x = torch.randn(steps, 2, 1, 8, 8) + 0.5
        assert close(results(compiled, net, x), results(net, net, x))
    assert len(frames) <= 2
    targets = [str(node.target) for node in frames[-1].graph.nodes]
    assert sum("tfexplore" in target for target in targets) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own, of its toolchain
def test_compiled_by_inductor_equals_eager(require):
    require("g++", "clang++", why="to compile what inductor writes")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), tfexplore.LIF(), nn.Linear(8, 3), tfexplore.LI())
    compiled, x = torch.compile(net, fullgraph=True), torch.randn(20, 4, 6)
    found = []
    for module in (compiled, net):
        net.zero_grad()
        out = module(x)
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in net.parameters())])
    assert close(*found)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_no_neuron_breaks_the_graph(cls):
    layer = Layer(cls(), backend="auto")
    explained = torch._dynamo.explain(layer)(torch.randn(3, 2, 4).requires_grad_())
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_only_literals_reach_what_the_compiler_holds_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11 makes a constant of nothing else; torch 2.13 would take the step itself, so its tests would not show it."""
    seen = []
    kernel_for = layers.kernel_for
    monkeypatch.setattr(layers, "kernel_for", lambda *wanted: seen.append(wanted) or kernel_for(*wanted))
    for layer in (tfexplore.LIF(), tfexplore.LIF(backend="torch"), Layer(neurons.ALIF(), smooth=True)):
        with tfexplore.record(layer, "v"):
            layer(torch.zeros(2, 1, 3))

    def flat(value: object) -> list[object]:
        return [leaf for item in value for leaf in flat(item)] if isinstance(value, tuple) else [value]

    assert len(seen) == 3
    assert {type(leaf) for wanted in seen for leaf in flat(wanted)} <= {str, int, bool, torch.dtype}


def test_the_eager_backend_stays_eager_within_a_compiled_network():
    net, x = nn.Sequential(nn.Linear(3, 3), tfexplore.LIF(backend="torch")), CASES[1].input(6, (2, 3))
    with torch.no_grad():
        assert same_bits(torch.compile(net, backend="aot_eager")(x), net(x))


def test_autocast_is_honoured():
    """The matrix product runs in bfloat16, the state stays float32, and the parameters get float32 gradients."""
    torch.manual_seed(0)
    linear, layer = nn.Linear(6, 8), tfexplore.LIF(backend="numba")
    with torch.autocast("cpu", torch.bfloat16):
        current = linear(torch.randn(20, 4, 6))
        spikes, (v,) = layer(current, return_state=True)
    assert current.dtype == spikes.dtype == torch.bfloat16
    assert v.dtype == torch.float32
    spikes.float().sum().backward()
    assert linear.weight.grad.dtype == torch.float32
    assert linear.weight.grad.any()
    with torch.autocast("cpu", torch.bfloat16):
        eager, (v_eager,) = tfexplore.LIF(backend="torch")(current, return_state=True)
    assert torch.equal(spikes, eager)
    assert same_bits(v, v_eager)


def test_inference_mode_leaves_nothing_behind_that_training_trips_over():
    for backend in ("torch", "numba"):
        layer, x = Layer(neurons.LIF(tau=2.125, v_threshold=0.75), backend=backend), torch.rand(4, 2, 3)
        with torch.inference_mode():
            layer(x)
        x = x.clone().requires_grad_()
        layer(x).sum().backward()
        assert x.grad.any()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_second_derivative(backend):
    layer, x = tfexplore.LIF(backend=backend), CASES[1].input(5, (2, 3)).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    if backend == "numba":
        with pytest.raises(RuntimeError, match=r"no second derivative .*; use backend='torch' for it\.$"):
            gradient.sum().backward()
    else:
        gradient.sum().backward()


def test_checkpointing_recomputes_the_same():
    layer, x = tfexplore.LIF(backend="numba"), CASES[1].input(40, (2, 3))
    plain, recomputed = x.clone().requires_grad_(), x.clone().requires_grad_()
    layer(plain).cumsum(0).sum().backward()
    torch.utils.checkpoint.checkpoint(layer, recomputed, use_reentrant=False).cumsum(0).sum().backward()
    assert same_bits(plain.grad, recomputed.grad)


def test_changing_the_input_in_place_before_the_backward_pass_is_noticed():
    x = torch.rand(4, 2, 3, requires_grad=True)
    y = x * 2
    spikes = tfexplore.LIF(backend="numba", keep="input")(y)
    y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


def test_a_kernel_of_another_process_is_named():
    with pytest.raises(RuntimeError, match=r"^The kernel 'numba-X-0' is not known in this process"):
        ops.forward(torch.rand(1, 1), torch.rand(1, 1), None, None, 1, 1, [], True, "numba-X-0")
