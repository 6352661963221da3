"""`Recurrent` as one operator: the spikes and gradients of plain loops, what it saves, and when it steps through modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tests import oracle
from tests.cases import CASES, SINGLE, distance, noise, same_bits
from tests.cuda_text import FakeCupy, on_cpu
from tfexplore import FoldTime, Layer, Recurrent, neurons
from tfexplore.measure.timeline import what_ran
from tfexplore.nn import recurrent

STEPS, BATCH = 9, 3
CONVOLUTIONS = [
    FoldTime(nn.Conv1d(4, 4, 3, padding=1)),
    FoldTime(nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=2)),
    FoldTime(nn.Conv2d(4, 4, (1, 3), padding=(0, 1), bias=False)),
    FoldTime(nn.Conv3d(4, 4, 1, padding="valid")),
]
FEEDBACKS = [nn.Linear(4, 4), nn.Linear(4, 4, bias=False), FoldTime(nn.Linear(4, 4)), *CONVOLUTIONS]
SHAPES = {nn.Linear: (4,), nn.Conv1d: (4, 5), nn.Conv2d: (4, 5, 3), nn.Conv3d: (4, 2, 3, 2)}
Found = dict[str, Tensor]


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels of the calls that were one operator."""
    used: list[str] = []
    function = recurrent.RecurrentFunction

    class Spy:
        @staticmethod
        def apply(*given: Any) -> Any:
            used.append(given[-1].key)
            return function.apply(*given)

    monkeypatch.setattr(recurrent, "RecurrentFunction", Spy)
    return used


def weighted(feedback: nn.Module, dtype: torch.dtype = torch.float32, scale: float = 0.7) -> nn.Module:
    made = copy.deepcopy(feedback).to(dtype)
    with torch.no_grad():
        for k, p in enumerate(made.parameters()):
            p.copy_(scale * noise(*p.shape, seed=40 + k))
    return made


def shape_of(feedback: nn.Module) -> tuple[int, ...]:
    return SHAPES[type(feedback[0] if isinstance(feedback, FoldTime) else feedback)]


def looped(net: Recurrent, x: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """By modules, one step after the other: layer and feedback are called from outside."""
    inner, s = (None, torch.zeros_like(x[0])) if state is None else (state[:-1], state[-1])
    spikes = []
    for x_t in x:
        current = x_t + net.feedback(s.to(x.dtype)[None])[0]
        out, inner = net.layer(current[None], inner, return_state=True)
        s = out[0].to(inner[0].dtype)
        spikes.append(out[0])
    return torch.stack(spikes), (*inner, s)


def results(walk: Callable[..., Any], net: Recurrent, x: Tensor, state: tuple[Tensor, ...] | None) -> Found:
    """Spikes, states, and the gradients of everything, of a loss in which spikes and states take part."""
    x = x.detach().clone().requires_grad_()
    state = None if state is None else tuple(z.detach().clone().requires_grad_() for z in state)
    out, after = walk(net, x, state)
    g_out, *g_after = (noise(*z.shape, seed=k, dtype=z.dtype) for k, z in enumerate((out, *after)))
    parameters = dict(net.named_parameters())
    wanted = [x, *(state or ()), *parameters.values()]
    gradients = torch.autograd.grad((out, *after), wanted, (g_out, *g_after), allow_unused=True)
    names = ["x", *(f"state {k}" for k in range(len(state or ()))), *parameters]
    found = {f"g {name}": g for name, g in zip(names, gradients, strict=True) if g is not None}
    return {"out": out, **{f"after {k}": z for k, z in enumerate(after)}, **found}


def as_operator(net: Recurrent, x: Tensor, state: tuple[Tensor, ...] | None) -> Any:
    return net(x, state, return_state=True)


def agree(found: Found, wanted: Found, near: float = 1e-6) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if not name.startswith("g "):
            assert same_bits(found[name], value), name
        else:
            within = near if name == "g x" or "state" in name else 10 * near
            assert distance(found[name], value) <= within, name


def states(layer: Layer, x: Tensor) -> tuple[Tensor, ...]:
    """Some: small potentials, and last spikes."""
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    names = len(layer.state_names)
    made = [0.2 * noise(*x.shape[1:], seed=20 + k, dtype=real) for k in range(names)]
    if isinstance(layer.neuron, neurons.Izhikevich):
        made = [z - 60.0 for z in made[:1]] + [z - 12.0 for z in made[1:]]
    return *made, (noise(*x.shape[1:], seed=30, dtype=real) > 0.5).to(real)


@pytest.mark.parametrize("given", [False, True], ids=["anew", "from a state"])
@pytest.mark.parametrize(
    ("case", "learn"),
    [*((case, False) for case in CASES), *((case, True) for case in SINGLE)],
    ids=lambda each: {False: "fixed", True: "learned"}.get(each, str(each)),
)
def test_every_neuron_gives_what_the_loop_gives(case, learn, given, operators):
    names = tuple(tfexplore.neurons.parameters.parameters_of(case.cls))[:2] if learn else ()
    neuron, feedback = case(learn=names), weighted(nn.Linear(4, 4), scale=0.1 if case.runaway else 0.7)
    x = case.input(STEPS, (BATCH, 4))
    options = {"keep": "potential", "channels": 4 if learn else None}
    fused, eager = (Recurrent(Layer(neuron, backend=name, **options), feedback) for name in ("numba", "torch"))
    state = states(fused.layer, x) if given else None
    found, loop, reference = (
        results(walk, net, x, state) for walk, net in ((as_operator, fused), (looped, fused), (looped, eager))
    )
    assert len(operators) == 1
    agree(found, loop)
    assert all(same_bits(found[name], value) for name, value in reference.items() if not name.startswith("g "))
    if case.cls is not neurons.Izhikevich:  # autograd sums its large terms in another order than the adjoint
        agree(found, reference, 1e-5)


@pytest.mark.parametrize("case", [case for case in SINGLE if case.cls.spiking], ids=str)
@pytest.mark.parametrize("feedback", [nn.Linear(3, 3), FoldTime(nn.Conv1d(1, 1, 3, padding=1))], ids=["matrix", "conv"])
def test_gradcheck(case, feedback, operators):
    x = case.input(4, (2, 3) if isinstance(feedback, nn.Linear) else (2, 1, 3), dtype=torch.float64)
    made = weighted(feedback, torch.float64, 0.1 if case.runaway else 0.5)
    net = Recurrent(Layer(case(detach_reset=False), smooth=True), made).double()
    state, parameters = states(net.layer, x), dict(net.named_parameters())

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(parameters, rest[len(state) :], strict=True))
        out, after = torch.func.functional_call(net, given, (x, rest[: len(state)]), {"return_state": True})
        return out, *after

    given = [t.detach().clone().requires_grad_() for t in (x, *state, *parameters.values())]
    assert torch.autograd.gradcheck(run, given, atol=1e-5)
    assert operators


@pytest.mark.parametrize("given", [False, True], ids=["anew", "from a state"])
@pytest.mark.parametrize("feedback", FEEDBACKS, ids=str)
def test_every_feedback_gives_what_the_loop_gives(feedback, given, operators):
    net = Recurrent(tfexplore.ALIF(keep="potential"), weighted(feedback))
    x = CASES[1].input(STEPS, (BATCH, *shape_of(feedback)))
    state = states(net.layer, x) if given else None
    agree(results(as_operator, net, x, state), results(looped, net, x, state))
    assert len(operators) == 1


@pytest.mark.parametrize("detach", [True, False])
def test_lif_with_a_matrix_agrees_with_a_loop_that_is_not_ours(detach, operators):
    """Each step of the oracle gets x[t] + W s[t-1] + b, from the state before."""
    linear, x = weighted(nn.Linear(4, 4), torch.float64), CASES[1].input(30, (BATCH, 4), dtype=torch.float64)
    net = Recurrent(tfexplore.LIF(tau=3.0, detach_reset=detach), linear)

    def by_hand(net: Recurrent, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (v, s), spikes = state, []
        for x_t in x:
            current = x_t + (s @ linear.weight.T + linear.bias)
            (s,), v, *_ = oracle.lif(current[None], v, 3.0, detach_reset=detach)
            spikes.append(s)
        return torch.stack(spikes), (v, s)

    state = states(net.layer, x)
    found, wanted = results(as_operator, net, x, state), results(by_hand, net, x, state)
    assert operators
    assert 0.05 < wanted["out"].mean() < 0.95
    assert torch.equal(found["out"], wanted["out"])
    assert all(distance(found[name], wanted[name]) < 1e-12 for name in wanted)


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_traces_and_their_gradients_are_those_of_a_loop_that_is_not_ours(reset, operators):
    """A loss on the spikes and on both traces; alone, and together with the state."""
    linear, x = weighted(nn.Linear(4, 4), torch.float64), CASES[1].input(30, (BATCH, 4), dtype=torch.float64)
    net, x = Recurrent(tfexplore.LIF(tau=3.0, reset=reset), linear), x.requires_grad_()
    spikes, state, v, h = net(x, trace=("v", "h"), return_state=True)

    wanted: list[list[Tensor]] = [[], [], []]
    potential, s = torch.zeros(BATCH, 4, dtype=torch.float64), torch.zeros(BATCH, 4, dtype=torch.float64)
    for x_t in x:
        s, potential, *both = oracle.lif((x_t + linear(s))[None], potential, 3.0, reset=reset)
        s = s[0]
        for kept, value in zip(wanted, (s, both[1][0], both[0][0]), strict=True):
            kept.append(value)
    expected = [torch.stack(values) for values in wanted]
    assert 0.05 < expected[0].mean() < 0.95
    assert torch.equal(spikes, expected[0])
    assert all(distance(*pair) < 1e-12 for pair in zip((v, h), expected[1:], strict=True))
    assert torch.equal(state[0], v[-1])
    assert torch.equal(net(x, trace="v")[1], v)
    weights = [noise(*x.shape, seed=k, dtype=x.dtype) for k in range(3)]
    gradients = [
        torch.autograd.grad(sum((w * z).sum() for w, z in zip(weights, found, strict=True)), [x, *linear.parameters()])
        for found in ((spikes, v, h), expected)
    ]
    assert all(distance(*pair) < 1e-12 for pair in zip(*gradients, strict=True))
    assert not operators


def test_traces_of_sequences_of_different_length_are_those_of_each_alone():
    net, x = Recurrent(tfexplore.ALIF(), weighted(nn.Linear(4, 4))), CASES[1].input(STEPS, (BATCH, 4))
    lengths = torch.tensor([STEPS, 4, 0])
    spikes, v, b = net(x, trace=("v", "b"), lengths=lengths)
    for k, steps in enumerate(lengths.tolist()):
        alone = net(x[:steps, k : k + 1], trace=("v", "b"))
        for found, wanted in zip((spikes, v, b), alone, strict=True):
            assert distance(found[:steps, k], wanted[:, 0]) <= 1e-6  # a product of one row adds in another order
            assert not found[steps:, k].any()
    assert net(x[:0], trace="v")[1].shape == (0, BATCH, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("feedback", [FEEDBACKS[0], CONVOLUTIONS[1]], ids=["matrix", "conv"])
@pytest.mark.parametrize("neuron", [neurons.LIF(), neurons.LI(), neurons.ParametricLIF()], ids=repr)
def test_dtypes(dtype, feedback, neuron, operators):
    net = Recurrent(Layer(neuron), weighted(feedback, dtype, 0.3))
    x = CASES[1].input(STEPS, (BATCH, *shape_of(feedback)), dtype=dtype)
    for state in (None, states(net.layer, x)):
        found, loop = (results(walk, net, x, state) for walk in (as_operator, looped))
        # the loop rounds a sum at every step; the learned tau is float32
        near = 1e-6 if dtype == torch.float64 else 8 * torch.finfo(dtype).eps
        assert found.keys() == loop.keys()
        for name, value in loop.items():
            assert found[name].dtype == value.dtype
            if name.startswith("g "):
                assert distance(found[name].double(), value.double()) < near, name
            else:
                assert same_bits(found[name], value), name
    assert len(operators) == 2


@pytest.mark.parametrize("feedback", [FEEDBACKS[0], CONVOLUTIONS[1]], ids=["matrix", "conv"])
def test_any_strides(feedback, operators):
    """Neurons that lie in another order are walked as they lie; a part of a larger tensor is copied."""
    net, shape = Recurrent(tfexplore.LIF(keep="potential"), weighted(feedback)), shape_of(feedback)
    x = CASES[1].input(STEPS, (BATCH, *shape))
    turned = x.movedim(2, -1).contiguous().movedim(-1, 2) if len(shape) > 1 else x.transpose(1, 2).contiguous().mT
    part = torch.cat([x, x], 1)[:, :BATCH]
    for given in (turned, part, x[:1].expand(x.shape)):
        assert not given.is_contiguous()
        agree(results(as_operator, net, given, None), results(looped, net, given, None))
    assert len(operators) == 3


def test_chunks_of_time_equal_the_whole(operators):
    net, x = Recurrent(tfexplore.ALIF(), weighted(nn.Linear(4, 4))).double(), noise(STEPS, 2, 4, seed=1).double()

    def in_chunks(net: Recurrent, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        first, state = net(x[:4], state, return_state=True)
        second, state = net(x[4:], state, return_state=True)
        return torch.cat([first, second]), state

    state = states(net.layer, x)
    found, whole = results(in_chunks, net, x, state), results(as_operator, net, x, state)
    assert all(torch.equal(found[name], whole[name]) for name in whole if not name.startswith("g "))
    assert all(distance(found[name], value) < 1e-12 for name, value in whole.items())
    with tfexplore.carry(net):
        carried = torch.cat([net(piece) for piece in x.split(4)])
    assert torch.equal(carried, net(x))
    assert len(operators) == 3 + 3 + 1


def test_only_the_gradients_that_are_wanted():
    x, linear = CASES[1].input(STEPS, (BATCH, 4)), weighted(nn.Linear(4, 4))
    net = Recurrent(tfexplore.LIF(), linear)
    everything = results(as_operator, net, x, None)
    g = noise(*x.shape, seed=0)
    through_out = torch.autograd.grad(net(x), [linear.weight, linear.bias], g)  # x needs none, nor does a state
    again = net(x.clone().requires_grad_())
    assert torch.equal(again, everything["out"])
    both = torch.autograd.grad(again, [linear.weight, linear.bias], g)
    assert all(map(torch.equal, through_out, both))
    wanted = torch.autograd.grad(looped(net, y := x.clone().requires_grad_())[0], y, g)[0]
    linear.requires_grad_(False)
    (g_x,) = torch.autograd.grad(net(y), y, g)
    assert distance(g_x, wanted) < 1e-6
    out, (v, last) = net(y, return_state=True)  # a loss of the states alone
    _, (v_loop, last_loop) = looped(net, y)
    for found, expected in ((v, v_loop), (last, last_loop)):
        assert distance(*(torch.autograd.grad(z.sum(), y, retain_graph=True)[0] for z in (found, expected))) < 1e-6
    assert out.requires_grad


# -- what is saved -----------------------------------------------------------------------------------------------------


def saved(run: Callable[[], object], but: nn.Module) -> list[int]:
    """Bytes of each storage that autograd saves, without those of a module's parameters."""
    held: dict[int, int] = {}

    def pack(values: Tensor) -> Tensor:
        held[values.untyped_storage().data_ptr()] = values.untyped_storage().nbytes()
        return values

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda values: values):
        _out = run()
    own = {p.untyped_storage().data_ptr() for p in but.parameters()}
    return sorted(size for address, size in held.items() if address not in own)


@pytest.mark.parametrize("feedback", [FEEDBACKS[0], CONVOLUTIONS[1]], ids=["matrix", "conv"])
def test_spikes_and_needs_are_saved_once(feedback):
    x = CASES[1].input(50, (BATCH, *shape_of(feedback)))
    net = Recurrent(tfexplore.LIF(), weighted(feedback))
    whole = x.numel() * 4
    assert saved(lambda: net(x), net) == [whole, whole]  # the spikes, and the charged potential
    with torch.no_grad():
        assert saved(lambda: net(x), net) == []
    net.feedback.requires_grad_(False)
    assert saved(lambda: net(x), net) == []
    assert saved(lambda: net(x.clone().requires_grad_()), net) == [whole]  # only the weight's gradient needs the spikes


def test_autograd_sees_one_node():
    net, x = Recurrent(tfexplore.LIF(), nn.Linear(4, 4)), torch.rand(50, BATCH, 4)
    nodes, waiting = set(), [net(x).grad_fn]
    while waiting:
        if (node := waiting.pop()) is not None and node not in nodes:
            nodes.add(node)
            waiting += [following for following, _ in node.next_functions]
    assert len(nodes) == 3  # it, and where the gradients of weight and bias arrive


def test_a_second_derivative_is_refused():
    net, x = Recurrent(tfexplore.LIF(), weighted(nn.Linear(4, 4))), torch.rand(5, 2, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
    assert torch.equal(gradient, torch.autograd.grad(net(x).square().sum(), x)[0])
    with pytest.raises(RuntimeError, match=r"no second derivative .*; use backend='torch' for it\.$"):
        gradient.sum().backward()


def test_spikes_changed_in_place_are_noticed():
    net, x = Recurrent(tfexplore.LIF(), nn.Linear(4, 4)), torch.rand(5, 2, 4, requires_grad=True)
    spikes = net(x)
    spikes *= 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


# -- when it steps through modules ---------------------------------------------------------------------------------------


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda module, given, out: out)
    return module


@pytest.mark.parametrize(
    ("feedback", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Tanh()), (4,)),
        (nn.Linear(4, 1), (4,)),  # torch adds it to all of them
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), (4,)),
        (hooked(nn.Linear(4, 4)), (4,)),
        (FoldTime(hooked(nn.Conv2d(4, 4, 3, padding=1))), (4, 5, 3)),
        (FoldTime(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")), (4, 5, 3)),
        (FoldTime(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)), (4, 5, 3)),
        (FoldTime(nn.Conv1d(4, 4, 3, padding=1, stride=5)), (4, 1)),
        (FoldTime(nn.Conv1d(4, 4, 2, padding="same")), (4, 5)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_any_other_feedback_is_a_module_at_every_step(feedback, shape, operators):
    net, x = Recurrent(tfexplore.LIF(), feedback).eval(), CASES[1].input(STEPS, (BATCH, *shape))
    agree(results(as_operator, net, x, None), results(looped, net, x, None))
    assert operators == []


def test_what_watches_steps_or_operators_gets_the_loop(operators):
    net, x = Recurrent(tfexplore.LIF(), weighted(nn.Linear(4, 4))), CASES[1].input(STEPS, (BATCH, 4))
    expected = net(x)
    assert len(operators) == 1
    with tfexplore.record(net, "v", "s") as traces:
        assert torch.equal(net(x), expected)
    assert list(traces) == ["layer"]  # one trace of all steps
    assert torch.equal(traces["layer"]["s"], expected)
    assert torch.equal(traces["layer"]["v"], net(x, trace="v")[1])
    assert not traces["layer"]["v"].requires_grad
    with tfexplore.record(net, "v", differentiable=True) as traces:
        out, h, v = net(x, trace=("h", "v"))
    assert torch.equal(traces["layer"]["v"], v)
    assert traces["layer"]["v"].requires_grad
    assert out.shape == h.shape
    with torch.no_grad(), what_ran(net, count=False) as events:
        net(x)
    assert [event.first for event in events] == list(range(STEPS))
    with torch.profiler.profile():
        net(x)
    assert torch.equal(Recurrent(tfexplore.LIF(backend="torch"), net.feedback)(x), expected)
    assert len(operators) == 1


def test_autocast_is_that_of_the_loop(operators):
    net, x = Recurrent(tfexplore.LIF(), weighted(nn.Linear(4, 4))), CASES[1].input(STEPS, (BATCH, 4))
    with torch.autocast("cpu", torch.bfloat16):
        agree(results(as_operator, net, x, None), results(looped, net, x, None))
    assert operators == []


def test_torch_compile_traces_the_loop(operators):
    net, x = Recurrent(tfexplore.LIF(), weighted(nn.Linear(4, 4))), CASES[1].input(3, (BATCH, 4))
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    agree(results(lambda _, x, s: compiled(x, s, return_state=True), net, x, None), results(looped, net, x, None))
    assert operators == []


@pytest.mark.parametrize("shape", [(0, 2, 4), (3, 0, 4)], ids=str)
def test_no_elements(shape):
    net, x = Recurrent(tfexplore.LIF(), nn.Linear(4, 4)), torch.zeros(shape, requires_grad=True)
    spikes, after = net(x, return_state=True)
    spikes.sum().backward()
    assert spikes.shape == x.grad.shape == shape
    assert [z.shape for z in after] == [shape[1:]] * 2


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_cupy(require: Callable[..., str]) -> Iterator[FakeCupy]:
    with on_cpu(require("g++", "clang++", why="to run the CUDA kernels as C++")) as fake:
        yield fake


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("neuron", [neurons.LIF(), neurons.ALIF(learn=("tau", "beta"))], ids=repr)
def test_cuda_kernels_run_step_by_step(fake_cupy, neuron, dtype, operators):
    feedback, x = weighted(nn.Linear(4, 4), dtype), CASES[1].input(STEPS, (BATCH, 4), dtype=dtype)
    on_gpu, on_cpu = (Recurrent(Layer(neuron, backend=backend), feedback) for backend in ("cuda", "torch"))
    for state in (None, states(on_gpu.layer, x)):
        found, wanted = results(as_operator, on_gpu, x, state), results(looped, on_cpu, x, state)
        near = 1e-5 if dtype == torch.float32 else 8 * torch.finfo(dtype).eps
        for name, value in wanted.items():
            if name.startswith("g "):
                assert distance(found[name].double(), value.double()) < near, name
            else:
                assert torch.equal(found[name], value), name
    assert len(operators) == 2
    assert [name for name, _ in fake_cupy.launches] == 2 * (STEPS * ["forward"] + STEPS * ["backward"])
