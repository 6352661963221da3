"""`schedule=`: how a fused layer walks time. Serial, chunked and speculative give the same layer, with PyTorch around it.

The oracle: plain loops in torch (oracle.py), and the serial kernel where bits are compared.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import tfexplore
from tests import oracle
from tests.cases import CASES, SINGLE, Case, distance, noise, same_bits
from tfexplore import Layer, Recurrent, neurons, surrogates
from tfexplore.codegen import schedule as scheduling
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.step import by_value, step_of
from tfexplore.nn import ops
from tfexplore.nn.constant import repeated

T, B, C = 200, 2, 3


def test_what_may_be_chosen() -> None:
    with pytest.raises(
        ValueError, match=r"schedule must be one of 'auto', 'serial', 'chunked', 'speculative', but got 'scan'"
    ):
        tfexplore.LIF(schedule="scan")
    layer = tfexplore.LIF(schedule="chunked")
    assert repr(layer).endswith("schedule='chunked')")
    assert "schedule" not in repr(tfexplore.LIF())
    layer.schedule = "serial"
    with pytest.raises(ValueError, match="schedule must be one of"):
        layer.schedule = "fast"
    assert layer.schedule == "serial"
    assert pickle.loads(pickle.dumps(layer)).schedule == copy.deepcopy(layer).schedule == "serial"


def test_a_layer_saved_before_there_was_a_choice() -> None:
    layer = tfexplore.LIF(schedule="serial")
    del layer._schedule
    assert layer.schedule == "auto"


def test_the_eager_loop_has_none() -> None:
    for schedule in ("chunked", "speculative"):
        with pytest.raises(ValueError, match=r"backend='torch' is an eager loop.*tfexplore\.scan"):
            tfexplore.LIF(backend="torch", schedule=schedule)
        layer = tfexplore.LIF(schedule=schedule)
        layer.backend = "torch"
        with pytest.raises(ValueError, match=r"tfexplore\.scan"):
            layer(torch.zeros(3, 1, 1))
    assert tfexplore.LIF(backend="torch").schedule_for(torch.zeros(9, 1, 1)).reason == "the eager loop over time"


def test_chunks_have_no_lengths_and_no_feedback() -> None:
    x, lengths = torch.zeros(9, 2, 3), torch.tensor([4, 9])
    with pytest.raises(
        ValueError, match=r"schedule='chunked' runs chunks of time side by side, but samples of different lengths"
    ):
        tfexplore.LIF(schedule="chunked")(x, lengths=lengths)
    net = Recurrent(tfexplore.LIF(schedule="speculative"), nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"but Recurrent walks step by step.*use schedule='auto' or 'serial'"):
        net(x)
    for schedule in ("auto", "serial"):
        tfexplore.LIF(schedule=schedule)(x, lengths=lengths)
        Recurrent(tfexplore.LIF(schedule=schedule), nn.Linear(3, 3))(x)


def layer_of(case: Case, schedule: str, **options: Any) -> Layer:
    return Layer(case.learning(), backend="numba", keep=case.keep, channels=C, schedule=schedule, **options)


ONCE_MORE = [case for case in CASES if case.detach_reset and case.reset != "none" and case.cls is not neurons.LI]


@pytest.mark.parametrize(
    ("case", "detach_reset"),
    [*((case, case.detach_reset) for case in CASES), *((case, False) for case in ONCE_MORE)],
    ids=lambda each: {True: "detached", False: "attached"}.get(each, str(each)),
)
def test_gradients_of_every_neuron_are_those_of_a_plain_loop(case: Case, detach_reset: bool) -> None:
    """Float64: of x, of the given state, of every number; spikes, last state and traces too."""
    layer = layer_of(case, "chunked").double()
    layer.neuron = case(learn=layer.neuron.learn, surrogate=surrogates.ATan(), detach_reset=detach_reset)
    x = case.input(T, (B, C), seed=2, dtype=torch.float64)
    if case.runaway:
        x = x[:120]
    assert layer.schedule_for(x).backward == "chunked"
    start = tuple(0.1 * noise(B, C, seed=k, dtype=torch.float64) for k in range(len(layer.neuron.states)))
    start = tuple(z - 65 if case.cls is neurons.Izhikevich else z for z in start)

    def losses(out: Tensor, after: Any, seen: Any) -> Tensor:
        weights = noise(*x.shape, seed=5, dtype=torch.float64)
        return (out * weights).sum() + (seen["h"] * weights.flip(0)).sum() + sum((z * z).sum() for z in after)

    found = []
    for ours in (True, False):
        given = [z.clone().requires_grad_() for z in (x, *start)]
        if ours:
            out, after, *traces = layer(given[0], tuple(given[1:]), return_state=True, trace=layer.trace_names)
            seen = dict(zip(layer.trace_names, traces, strict=True))
        else:
            how = {"reset": case.reset, "detach_reset": detach_reset}
            numbers = layer.neuron.parameters | layer.learned
            out, after, seen = oracle.walked(case.cls.__name__, numbers, given[0], tuple(given[1:]), **how)
        leaves = [*given, *layer.parameters()]
        gradients = torch.autograd.grad(losses(out, after, seen), leaves, allow_unused=True)
        found.append((out.detach(), gradients))
    assert distance(found[0][0], found[1][0]) < 1e-9
    largest = max(g.abs().max() for g in found[1][1] if g is not None)
    for ours_, theirs in zip(found[0][1], found[1][1], strict=True):
        if theirs is not None:
            assert (ours_ - theirs).abs().max() <= 1e-9 * largest


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*((case, torch.float64) for case in CASES), *((case, torch.float32) for case in SINGLE)],
    ids=lambda each: str(each).removeprefix("torch."),
)
def test_speculation_changes_no_bit(case: Case, dtype: torch.dtype) -> None:
    x = case.input(T, (B, C), seed=4, dtype=dtype)
    results = []
    for schedule in ("serial", "speculative"):
        layer = layer_of(case, schedule).to(dtype)
        out, after, *traces = layer(x, return_state=True, trace=layer.trace_names)
        results.append([out, *after, *traces])
    assert all(same_bits(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("neuron", [neurons.LI(), neurons.LIF(), neurons.ALIF()], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("shape", [(100, 1, 1), (1000, 2, 3), (64, 8, 64)], ids=str)
def test_auto_has_the_bits_of_serial_where_it_is_serial(neuron: neurons.Neuron, shape: tuple[int, ...]) -> None:
    results = []
    for schedule in ("serial", "auto"):
        layer, x = Layer(neuron, schedule=schedule), noise(*shape, seed=1).requires_grad_()
        assert layer.schedule_for(x)[:2] == ("serial", "serial")
        out = layer(x)
        results.append([out, *torch.autograd.grad(out.sin().sum(), x)])
    assert all(same_bits(a, b) for a, b in zip(*results, strict=True))


def test_auto_takes_chunks_for_one_neuron_and_much_time_and_changes_no_spike() -> None:
    x = noise(1 << 17, 1, 1, seed=3)
    assert tfexplore.LI().schedule_for(x)[:2] == ("chunked", "chunked")
    for neuron in (neurons.LIF(), neurons.LIF(reset="none")):
        found = []
        for schedule in ("serial", "auto"):
            layer, given = Layer(neuron, schedule=schedule), x.clone().requires_grad_()
            out = layer(given)
            found.append((out, *torch.autograd.grad((out * x).sum(), given)))
        assert layer.schedule_for(x)[:2] == ("serial", "chunked")
        assert same_bits(found[0][0], found[1][0])
        assert distance(found[1][1], found[0][1]) < 1e-6
    assert tfexplore.LI(schedule="serial").schedule_for(x) == ("serial", "serial", "requested")


def test_the_reason_says_what_was_predicted() -> None:
    x = torch.zeros(100, 1, 1)
    assert "million cycles predicted for serial" in tfexplore.LI().schedule_for(x).reason
    assert "'auto' changes none" in tfexplore.LIF(reset="none").schedule_for(x).reason
    assert (
        tfexplore.LIF(schedule="chunked")
        .schedule_for(x)
        .reason.startswith("forward: its v[t] depends on its own spike")
    )
    assert tfexplore.LI(schedule="chunked").schedule_for(x[:1]).reason == "1 steps are too few for two chunks"
    assert tfexplore.LI(schedule="chunked", temporal="off").schedule_for(x)[:2] == ("serial", "serial")


def test_many_neurons_are_never_predicted_to_gain() -> None:
    """What chunks fill is lanes that would be empty."""
    for neuron in (neurons.LI(), neurons.LIF(), neurons.Izhikevich()):
        variant = Variant(step_of(neuron), keep="input")
        for steps in (1024, 1 << 14, 1 << 18):
            for count in (64, 256, 1024, 4096):
                for loop in ("forward", "backward"):
                    cost = scheduling.predicted(variant, loop, steps, count, 2)
                    assert cost.serial < cost.chunked


def both(layer: Layer, x: Tensor, *, tolerance: float = 1e-5, **given: Any) -> None:
    """The layer in chunks and serial: values, last state, gradients."""
    found = []
    for schedule in ("chunked", "serial"):
        layer.schedule = schedule
        leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        out, after = layer(leaf, return_state=True, **given)
        loss = (out.float() * noise(*x.shape, seed=9)).sum() + sum(z.sum() for z in after)
        found.append([out, *after, *torch.autograd.grad(loss, [leaf, *layer.parameters()])])
    for ours, serial in zip(*found, strict=True):
        assert ours.dtype == serial.dtype
        assert distance(ours.double(), serial.double()) < tolerance


@pytest.mark.parametrize("make", [tfexplore.LI, tfexplore.LIF, tfexplore.ALIF], ids=lambda make: make.__name__)
def test_strides_states_half_precision_and_constant_currents(make: Any) -> None:
    layer, x = make(), noise(T, B, C, seed=1)
    both(layer, x)
    both(layer, noise(B, T, C, seed=1).transpose(0, 1))
    both(layer, noise(2 * T, B, 2 * C, seed=1)[::2, :, ::2])
    state = tuple(noise(B, C, seed=k) for k in range(len(layer.state_names)))
    both(layer, x, state=state)
    for dtype in (torch.float16, torch.bfloat16):
        both(layer, x.to(dtype), tolerance=2e-2)
    layer.schedule = "chunked"
    once = noise(1, B, C, seed=2)
    assert same_bits(layer(once.expand(T, B, C)), layer(once.repeat(T, 1, 1)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(nn.functional.linear(x, torch.eye(C))).dtype == torch.bfloat16


def test_a_gradient_that_ends_at_every_step_needs_no_scan() -> None:
    both(tfexplore.LIF(temporal_gradient=False), noise(T, B, C, seed=1))
    both(tfexplore.ALIF(temporal_gradient=False, learn="tau", channels=C), noise(T, B, C, seed=1))


def test_numbers_of_channels_and_a_batch_norm_before() -> None:
    layer = tfexplore.LIF(tau=torch.tensor([2.0, 3.0, 4.0]), reset="none")
    both(layer, noise(T, B, C, seed=1))
    results = []
    for schedule in ("chunked", "serial"):
        torch.manual_seed(0)
        norm, layer = nn.BatchNorm1d(C), tfexplore.LIF(schedule=schedule)
        x = noise(T, B, C, seed=1).requires_grad_()
        out = layer(x, batch_norm=norm)
        results.append([out, *torch.autograd.grad((out * noise(T, B, C, seed=3)).sum(), [x, *norm.parameters()])])
    assert all(distance(a, b) < 1e-5 for a, b in zip(*results, strict=True))


def test_carried_states_and_records() -> None:
    x, results = noise(T, B, C, seed=1), []
    for schedule in ("chunked", "serial"):
        net = nn.Sequential(tfexplore.LIF(schedule=schedule), tfexplore.LI(schedule=schedule))
        with tfexplore.carry(net), tfexplore.record(net, "v") as traces:
            out = torch.cat([net(x[:77]), net(x[77:])])
        results.append([out, traces["0"]["v"], traces["1"]["v"]])
    assert all(distance(a, b) < 1e-5 for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    "neuron", [neurons.LIF(detach_reset=False), neurons.CubaLIF(reset="none"), neurons.LI()], ids=str
)
def test_gradcheck_on_the_smooth_spike(neuron: neurons.Neuron) -> None:
    layer = Layer(neuron, smooth=True, schedule="chunked", keep="potential")
    x = noise(12, 1, 2, seed=1, dtype=torch.float64).requires_grad_()
    start = tuple(noise(1, 2, seed=k, dtype=torch.float64).requires_grad_() for k in range(len(neuron.states)))
    assert layer.schedule_for(x).backward == "chunked"
    assert torch.autograd.gradcheck(lambda x, *z: layer(x, z, return_state=True)[0], (x, *start))


@pytest.mark.parametrize("schedule", ["chunked", "speculative", "auto"])
def test_opcheck(schedule: str) -> None:
    x = noise(70, 2, 3, seed=1)
    key = ops.register("numba", Variant(step_of(neurons.LIF(reset="none")), keep="input", schedule=schedule))
    given = (x.clone().requires_grad_(), None, None, None, 70, 1, by_value(neurons.LIF()), True, key)
    torch.library.opcheck(ops.forward, given, atol=1e-6, rtol=1e-5)
    _, _, state, kept = ops.forward(*given)
    back = (
        x,
        noise(70, 2, 3, seed=2),
        torch.ones_like(state),
        None,
        None,
        None,
        None,
        1,
        by_value(neurons.LIF()),
        kept,
        True,
        key,
    )
    torch.library.opcheck(ops.backward, back, atol=1e-6, rtol=1e-5)


def test_transforms() -> None:
    layer = tfexplore.LI(learn="tau", schedule="chunked")
    x = noise(4, T, 1, 2, seed=1)

    def loss(raw: Tensor, x: Tensor) -> Tensor:
        return functional_call(layer, {"raw.tau": raw}, (x,)).square().mean()

    raw = layer.raw["tau"].detach()
    found = vmap(grad(loss, argnums=(0, 1)), (None, 0))(raw, x)
    for k in range(4):
        leaves = raw.clone().requires_grad_(), x[k].clone().requires_grad_()
        wanted = torch.autograd.grad(loss(*leaves), leaves)
        assert all(distance(a[k], b) < 1e-5 for a, b in zip(found, wanted, strict=True))


def test_compiled() -> None:
    torch._dynamo.reset()
    net = nn.Sequential(tfexplore.LIF(schedule="chunked"), tfexplore.LI(schedule="chunked"))
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    for steps in (150, 213):
        results = []
        for module in (net, compiled):
            x = noise(steps, B, C, seed=1).requires_grad_()
            out = module(x)
            results.append([out, *torch.autograd.grad(out.sin().sum(), x)])
        assert all(distance(a, b) < 1e-6 for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("schedule", ["chunked", "speculative"])
@pytest.mark.parametrize("make", [tfexplore.LI, tfexplore.LIF], ids=lambda make: make.__name__)
def test_a_constant_current_behind_a_batch_norm(make: Any, schedule: str) -> None:
    """In float64, against the same current written out at every step, through torch's own BatchNorm."""
    found = []
    for together in (True, False):
        norm, once = nn.BatchNorm1d(C).double(), noise(1, B, C, seed=1, dtype=torch.float64).requires_grad_()
        if together:
            out, (v,) = make(schedule=schedule)(repeated(once * 1, T), batch_norm=norm, return_state=True)
        else:
            x = norm(once.repeat(T, 1, 1).flatten(0, 1)).view(T, B, C)
            out, (v,) = make(backend="torch")(x, return_state=True)
        loss = (out * noise(T, B, C, seed=2, dtype=torch.float64)).sum() + v.square().sum()
        found.append([out, v, *torch.autograd.grad(loss, [*norm.parameters(), once])])
    for ours, theirs in zip(*(each[:-1] for each in found), strict=True):
        assert distance(ours, theirs) < 1e-9
    # two samples: their normalised values are +-1 whatever they are, but for epsilon, and so the sums cancel
    assert (found[0][-1] - found[1][-1]).abs().max() < 1e-9 * found[1][2].abs().max()


@pytest.mark.parametrize("schedule", ["chunked", "speculative"])
def test_the_default_device_is_not_that_of_the_input(schedule: str) -> None:
    x = noise(T, B, C, seed=1).requires_grad_()
    with torch.device("meta"):
        (tfexplore.LI(schedule=schedule)(x) * 2).sum().backward()
    assert distance(x.grad, torch.autograd.grad(tfexplore.LI(backend="torch")(x).sum() * 2, x)[0]) < 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38], ids=str)
def test_what_is_no_number_stays_where_it_is(value: float) -> None:
    """The same values are no numbers as in a plain loop: behind it, of its own neuron, and of the states it reaches."""
    x = noise(T, 1, 4, seed=1)
    x[T // 2, 0, 1] = value
    neuron = neurons.CubaLIF(reset="none")
    _, after, v = Layer(neuron, schedule="chunked")(x, return_state=True, trace="v")
    wanted = Layer(neuron, backend="torch")(x, return_state=True, trace="v")
    for ours, theirs in zip((*after, v), (*wanted[1], wanted[2]), strict=True):
        fine = theirs.isfinite()
        assert torch.equal(ours.isfinite(), fine)
        assert distance(ours[fine], theirs[fine]) < 1e-5
