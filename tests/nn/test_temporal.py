"""`temporal="off"`, layers without memory, and `temporal_gradient=False`, layers whose gradient ends at every step.

The oracle: plain loops (oracle.py) that begin anew, or detach the states, before every step.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.func import grad, vmap

import tfexplore
from tests import oracle
from tests.cases import CASES, SINGLE, Case, distance, noise, same_bits
from tfexplore import FoldTime, Layer, Recurrent, fuse, neurons, surrogates
from tfexplore.codegen.keep import KEEP, why_not
from tfexplore.neurons.step import cut_in_time, step_of
from tfexplore.nn.constant import repeated

T, B, C = 35, 2, 3
OFF, CUT = {"temporal": "off"}, {"temporal_gradient": False}
Found = dict[str, Tensor]


def layer_of(case: Case, backend: str = "numba", keep: str = "auto", learn: bool = True, **options: Any) -> Layer:
    """A layer of this neuron with every number learned, one for each channel."""
    neuron = case.learning() if learn else case(surrogate=surrogates.ATan())
    return Layer(neuron, backend=backend, keep=keep, channels=C if learn else None, **options)


def by_hand(layer: Layer, x: Tensor, state: Any) -> tuple[Tensor, tuple[Tensor, ...], Found]:
    neuron = layer.neuron
    numbers = neuron.parameters | layer.learned
    how = {"reset": neuron.reset, "detach_reset": neuron.detach_reset}
    how |= {"temporal": layer.temporal, "temporal_gradient": layer.temporal_gradient}
    return oracle.walked(type(neuron).__name__, numbers, x, state, **how)


def ours(layer: Layer, x: Tensor, state: Any) -> tuple[Tensor, tuple[Tensor, ...], Found]:
    out, after, *traces = layer(x, state, return_state=True, trace=layer.trace_names)
    return out, after, dict(zip(layer.trace_names, traces, strict=True))


def in_two(layer: Layer, x: Tensor, state: Any) -> tuple[Tensor, tuple[Tensor, ...], Found]:
    """The same by two calls, of which the second goes on from the state of the first."""
    assert state is None
    with tfexplore.carry(layer) as states:
        parts = [layer(part, trace=layer.trace_names) for part in (x[:13], x[13:])]
    out, *traces = (torch.cat(pair) for pair in zip(*parts, strict=True))
    return out, states["", 0], dict(zip(layer.trace_names, traces, strict=True))


def results(walk: Any, layer: Layer, x: Tensor, state: Any = None) -> Found:
    """Outputs, states, traces, and the gradients of a loss in which all of them take part."""
    x = x.detach().requires_grad_()
    out, after, traces = walk(layer, x, state)
    made = {"out": out, **{f"state {k}": z for k, z in enumerate(after)}, **traces}
    if layer.temporal == "off":
        made = {name: z for name, z in made.items() if not name.startswith("state")}  # the loop's, which nobody sees
    wanted = {"x": x, **layer.raw}
    g = [noise(*z.shape, seed=k, dtype=z.dtype) for k, z in enumerate(made.values())]
    found = torch.autograd.grad(list(made.values()), list(wanted.values()), g, materialize_grads=True)
    return {name: z.detach() for name, z in made.items()} | {
        f"g {name}": z for name, z in zip(wanted, found, strict=True)
    }


def agree(found: Found, wanted: Found, close: float) -> None:
    """To `close` of the largest; the gradients of learned numbers, which are long sums, to ten times that."""
    assert found.keys() == wanted.keys()
    assert torch.equal(found["out"], wanted["out"]) or not set(wanted["out"].unique().tolist()) <= {0.0, 1.0}
    for name, theirs in wanted.items():
        assert distance(found[name], theirs) <= (10 if name[:2] == "g " and name != "g x" else 1) * close, name


def same(found: Found, wanted: Found) -> None:
    assert found.keys() == wanted.keys()
    assert all(same_bits(found[name], wanted[name]) for name in wanted)


def keeps(layer: Layer) -> list[str]:
    return [keep for keep in KEEP if keep != "bits" or not why_not(layer.step)]


# -- the temporal gradient -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_a_temporal_gradient_it_is_the_loop_that_detaches(case: Case):
    """Every neuron in every reset, attached or not in turn; of outputs, traces and the last state."""
    x = case.input(T, (B, C))
    eager, fused = layer_of(case, "torch", **CUT), layer_of(case, keep=case.keep, **CUT)
    wanted = results(by_hand, eager, x)
    # what is rounded off is multiplied by the slopes of a step, and these three have steep ones
    close = 1e-5 if case.cls in (neurons.QIF, neurons.EIF, neurons.Izhikevich) else 2e-6
    for layer in (eager, fused):
        agree(results(ours, layer, x), wanted, close)
        agree(results(in_two, layer, x), wanted, close)
    found = results(ours, fused, x)
    fused.temporal_gradient = eager.temporal_gradient = True
    plain = results(ours, eager, x)
    forward = [name for name in plain if not name.startswith("g ")]
    if case.cls is not neurons.EIF:  # torch's exp and libm's
        same({name: found[name] for name in forward}, {name: plain[name] for name in forward})
    assert distance(found["g x"], plain["g x"]) > 1e-3  # it is another gradient
    assert case.runaway or wanted["out"].any()


@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_whatever_is_kept_the_gradients_are_the_same(case: Case):
    x = case.input(T, (B, C))
    layers = [layer_of(case, keep=keep, **CUT) for keep in keeps(layer_of(case, **CUT))]
    first, *others = (results(ours, layer, x) for layer in layers)
    assert others
    for found in others:
        same(found, first)


def test_bits_suffice_for_more_neurons():
    """QIF's slope from step to step is of v; without it, comparisons alone are left."""
    neuron = neurons.QIF(surrogate=surrogates.Rectangle())
    assert why_not(step_of(neuron))
    layer, x = Layer(neuron, keep="bits", temporal_gradient=False), CASES[1].input(T, (B, C))
    same(results(ours, layer, x), results(ours, Layer(neuron, keep="potential", temporal_gradient=False), x))
    with pytest.raises(ValueError, match=r"keep='bits' is not exact for this QIF: .*Use keep='input' or keep='auto'\."):
        layer.temporal_gradient = True
    assert layer.temporal_gradient is False
    assert not layer.step.temporal_gradient


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_no_state_before_the_first_step_has_a_gradient(backend):
    layer = Layer(neurons.LI(learn="v_reset", decay_input=False), backend=backend, temporal_gradient=False).double()
    x, start = (noise(*shape, seed=0, dtype=torch.float64).requires_grad_() for shape in ((4, B, C), (B, C)))
    out, (v,) = layer(x, (start,), return_state=True)
    g_start, g_x = torch.autograd.grad(out.sum() + v.sum(), (start, x), allow_unused=True)
    assert g_start is None
    assert g_x[:, 0, 0].tolist() == [1.0, 1.0, 1.0, 2.0]
    layer(x).sum().backward()  # from its v_reset: only the leak of each step has a gradient, which is 1 / tau
    assert layer.raw["v_reset"].grad.item() == pytest.approx(4 * B * C / 2)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_the_last_state_of_a_sample_acts_on_its_own_last_step(backend):
    """Also where the calls after it have no step of that sample, whose state they hand on."""
    layer = tfexplore.CubaLIF(backend=backend, temporal_gradient=False).double()
    x, lengths = CASES[1].input(9, (4, C), dtype=torch.float64).requires_grad_(), torch.tensor([9, 4, 0, 6])
    g = noise(9, 4, C, seed=1, dtype=torch.float64)
    out, state = layer(x, lengths=lengths, return_state=True)
    (found,) = torch.autograd.grad((out, *state), x, (g, g[0], g[1]))
    for b, steps in enumerate(lengths.tolist()):
        assert not found[steps:, b].any()
        if steps:
            alone = x[:steps, b : b + 1]
            made, after, _ = by_hand(layer, alone, None)
            pulled = g[:steps, b : b + 1], *(g[k, b : b + 1] for k in range(2))
            (wanted,) = torch.autograd.grad((made, *after), alone, pulled)
            assert distance(found[:steps, b : b + 1], wanted) <= 1e-12
    with tfexplore.carry(layer) as states, tfexplore.padded(layer, lengths):
        parts = torch.cat([layer(part) for part in (x[:2], x[2:5], x[5:5], x[5:])])
    assert distance(torch.autograd.grad((parts, *states["", 0]), x, (g, g[0], g[1]))[0], found) <= 1e-12


def test_chunks_of_time_need_no_detach():
    """No graph leads to the calls before, so that each may be freed by its own backward pass."""
    net, x = nn.Sequential(tfexplore.LIF(temporal_gradient=False)), CASES[1].input(8, (B, C)).requires_grad_()
    with tfexplore.carry(net):
        for part in x.split(2):
            net(part).sum().backward()
    assert x.grad.any()


@pytest.mark.parametrize("options", [{}, {"temporal_gradient": False}, {"temporal": "off"}], ids=str)
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_recurrent_detaches_the_spikes_that_return(backend, options):
    """As one operator and as a loop of modules (for a trace, or without memory), against a loop that is not ours."""
    linear = nn.Linear(C, C).double()
    with torch.no_grad():
        linear.weight.copy_(0.7 * noise(C, C, seed=3))
    net = Recurrent(tfexplore.LIF(tau=3.0, backend=backend, **options), linear)
    x = CASES[1].input(20, (B, C), dtype=torch.float64).requires_grad_()
    g = noise(20, B, C, seed=1, dtype=torch.float64)
    start = 0.2 * noise(B, C, seed=2, dtype=torch.float64), (noise(B, C, seed=4) > 0).double()
    start = tuple(z.requires_grad_() for z in start[net.layer.temporal == "off" :])
    (v, s), outs, potentials = (torch.zeros(B, C, dtype=torch.float64), start[-1]), [], []
    v = start[0] if len(start) == 2 else v
    for x_t in x:
        if "temporal" in options:
            v = torch.zeros_like(v)
        if "temporal_gradient" in options:
            v, s = v.detach(), s.detach()
        (s,), v, *_ = oracle.lif((x_t + linear(s))[None], v, 3.0)
        outs.append(s)
        potentials.append(v)
    assert 0.05 < torch.stack(outs).mean() < 0.95
    wanted = [x, *linear.parameters(), *start]
    for trace in ((), ("v",)):
        out, state, *traces = net(x, start, return_state=True, trace=trace)
        assert net.state_names == (*net.layer.state_names, "last spikes")
        assert len(state) == len(start)
        is_one = backend == "numba" and not trace and "temporal" not in options
        assert ("RecurrentFunction" in out.grad_fn.name()) == is_one
        assert torch.equal(out, torch.stack(outs))
        made = [out, *state, *traces]
        theirs = [torch.stack(outs), *(v, s)[-len(state) :], *(torch.stack(potentials) for _ in trace)]
        pulled = [g, *(g[k] for k in range(len(state))), *(g for _ in trace)]
        how = {"allow_unused": True, "retain_graph": True}
        found, expected = (torch.autograd.grad(each, wanted, pulled, **how) for each in (made, theirs))
        for mine, other in zip(found, expected, strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or distance(mine, other) <= 1e-12


def test_recurrent_without_memory_over_sequences_of_different_length():
    """Each sample is that alone; its last spikes stay."""
    net = Recurrent(tfexplore.ALIF(v_threshold=0.4, temporal="off"), nn.Linear(C, C)).double()
    x, lengths = CASES[1].input(9, (3, C), dtype=torch.float64), torch.tensor([9, 4, 0])
    out, (last,), b = net(x, lengths=lengths, return_state=True, trace="b")
    for k, steps in enumerate(lengths.tolist()):
        alone, (s,), each = net(x[:steps, k : k + 1], return_state=True, trace="b")
        assert torch.equal(out[:steps, k : k + 1], alone)
        assert torch.equal(last[k : k + 1], s)
        assert distance(b[:steps, k : k + 1], each) <= 1e-12
        assert not out[steps:, k].any()
    assert out.any()


# -- without memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_without_memory_each_step_begins_anew(case: Case):
    x = case.input(T, (B, C))
    eager, fused = layer_of(case, "torch", **OFF), layer_of(case, keep=case.keep, **OFF)
    wanted = results(by_hand, eager, x)
    for layer in (eager, fused):
        agree(results(ours, layer, x), wanted, 1e-6)
    assert wanted["g x"].any()


@pytest.mark.parametrize("neuron", [neurons.LIF(learn="tau"), neurons.ALIF(learn=("v_reset", "beta"))], ids=repr)
def test_gradcheck(neuron):
    layer = Layer(dataclasses.replace(neuron, detach_reset=False), smooth=True, temporal="off").double()
    x = noise(3, B, C, seed=0, dtype=torch.float64).requires_grad_()

    def run(x: Tensor, *raw: Tensor) -> tuple[Tensor, ...]:
        given = {f"raw.{key}": value for key, value in zip(neuron.learn, raw, strict=True)}
        return torch.func.functional_call(layer, given, (x,), {"trace": ("h", "v")})

    assert torch.autograd.gradcheck(run, (x, *(layer.raw[key] for key in neuron.learn)))


def test_it_has_no_state():
    layer, x = tfexplore.ALIF(temporal="off"), CASES[1].input(6, (B, C))
    spikes, state = layer(x, (), return_state=True)
    assert state == layer.state_names == ()
    assert layer.trace_names == ("h", "v", "b")
    with tfexplore.carry(layer) as states:
        parts = torch.cat([layer(x[:2]), layer(x[2:])])
        assert states == {("", 0): ()}
        states.detach()
    assert torch.equal(parts, spikes)
    sentence = r"state must be None or \(\) for a layer with temporal='off', but got {}; leave it out, or set temporal = 'on'\."
    for given, came in ((tuple(torch.zeros(2, B, C)), "2 values"), (x, "Tensor")):
        with pytest.raises(TypeError, match=sentence.format(came)):
            layer(x, given)
    layer.temporal = "on"
    with pytest.raises(TypeError, match=r"state must be a tuple of 2 tensors \(v, b\), but got 0 values\."):
        layer(x, ())


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_lengths(backend):
    """What is behind the end of a sample may be anything."""
    layer = Layer(neurons.LIF(learn="tau"), backend=backend, temporal="off").double()
    x, lengths = CASES[1].input(6, (4, C), dtype=torch.float64), torch.tensor([6, 0, 3, 3])
    valid = torch.arange(6)[:, None, None] < lengths[:, None]
    spoilt, x = torch.where(valid, x, torch.nan).requires_grad_(), x.requires_grad_()
    pulled = noise(2, *x.shape, seed=1, dtype=x.dtype)
    made = layer(spoilt, lengths=lengths, trace="h")
    out, _, traces = by_hand(layer, x, None)
    theirs = [torch.where(valid, z, 0) for z in (out, traces["h"])]
    assert all(map(torch.equal, made, theirs))
    found = torch.autograd.grad(made, (spoilt, layer.raw["tau"]), tuple(pulled))
    wanted = torch.autograd.grad(theirs, (x, layer.raw["tau"]), tuple(pulled))
    assert all(distance(mine, other) <= 1e-12 for mine, other in zip(found, wanted, strict=True))
    with tfexplore.padded(layer, lengths), tfexplore.carry(layer):
        assert torch.equal(torch.cat([layer(x[:2]), layer(x[2:])]), made[0])


@pytest.mark.parametrize("options", [{}, {"lengths": torch.tensor([3, 5])}], ids=["", "lengths"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_constant_current_is_walked_once(backend, options):
    layer, image = layer_of(CASES[1], backend, **OFF), CASES[1].input(1, (B, C))
    made = []
    for repeat in (lambda x: repeated(x, 5), lambda x: x.repeat(5, 1, 1)):
        given = image.clone().requires_grad_()
        out, v = layer(repeat(given), trace="v", **options)
        assert (out.stride(0) == 0) == (made == [] and not options)
        pulled = tuple(noise(2, 5, B, C, seed=1))
        made.append([out, v, *torch.autograd.grad((out, v), [given, *layer.raw.values()], pulled)])
    found, wanted = made
    assert all(map(same_bits, found[:2], wanted[:2]))
    assert all(distance(mine, other) <= 1e-6 for mine, other in zip(found[2:], wanted[2:], strict=True))


@pytest.mark.parametrize("constant", [False, True], ids=["", "constant"])
@pytest.mark.parametrize("learn", [(), ("tau",)], ids=["fixed", "learned"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_batch_norm_has_its_statistics_of_time_and_batch(backend, learn, constant):
    """In training, plain, with a trace, and padded, and in evaluation: torch's BatchNorm and then the layer."""
    layer = Layer(neurons.LIF(v_threshold=0.6, learn=learn), backend=backend, temporal="off").double()
    one, other = nn.BatchNorm2d(C, momentum=0.3).double(), nn.BatchNorm2d(C, momentum=0.3).double()
    image = noise(1 if constant else 5, B, C, 4, 3, seed=0, dtype=torch.float64) + 0.7
    image.requires_grad_()
    x = image.expand(5, -1, -1, -1, -1) if constant else image.movedim(2, -1).contiguous().movedim(-1, 2)
    lengths = torch.tensor([3, 5])
    for trace, train, padded in ((), True, None), (("h",), True, None), (("h",), True, lengths), ((), False, None):
        one.train(train)
        other.train(train)
        options = {"trace": trace, "lengths": padded}
        makes = [
            layer(x, batch_norm=one, **options),
            layer(other(x.flatten(0, 1)).unflatten(0, x.shape[:2]), **options),
        ]
        gradients = []
        for norm, made in zip((one, other), makes, strict=True):
            made = made if trace else (made,)
            pulled = [noise(*z.shape, seed=k, dtype=z.dtype) for k, z in enumerate(made)]
            gradients.append(torch.autograd.grad(made, [image, *norm.parameters(), *layer.parameters()], pulled))
            assert 0.05 < made[0].mean() < 0.95
        for mine, theirs in ((makes[0], makes[1]), *zip(*gradients, strict=True)):
            pairs = zip(mine, theirs, strict=True) if isinstance(mine, tuple) else ((mine, theirs),)
            assert all(distance(*pair) <= 1e-10 for pair in pairs)
        for mine, theirs in zip(one.buffers(), other.buffers(), strict=True):
            assert distance(mine.double(), theirs.double()) <= 1e-12


def test_a_network_of_them_in_any_order_of_its_steps():
    torch.manual_seed(0)
    net = nn.Sequential(
        FoldTime(nn.Conv2d(1, C, 3), nn.BatchNorm2d(C)), tfexplore.LIF(v_threshold=0.3, **OFF),
        FoldTime(nn.Flatten(), nn.Linear(C * 16, 4)), Recurrent(tfexplore.LIF(v_threshold=0.2, **OFF), nn.Linear(4, 4)),
        nn.Linear(4, 2), tfexplore.LI(),
    ).eval()  # fmt: skip
    x = noise(5, B, 1, 6, 6, seed=0)
    assert (net[:2](x) > 0).any()
    assert torch.equal(tfexplore.step_by_step(net, x), net(x))
    assert torch.equal(tfexplore.layer_by_layer(net[:3], x), net[:3](x))
    assert distance(fuse(copy.deepcopy(net))(x), net(x)) <= 1e-5


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_what_else_a_layer_does(backend):
    """Empty sizes, other strides, half precision, recording, and transforms."""
    layer, x = tfexplore.ALIF(backend=backend, temporal="off"), CASES[1].input(6, (B, C, 4))
    spikes = layer(x)
    for shape in ((0, B, C), (6, 0, C), (6, B, 0), (0, 0, 0)):
        empty = torch.rand(shape, requires_grad=True)
        out, v = layer(empty, trace="v")
        (out.sum() + v.sum()).backward()
        assert out.shape == v.shape == empty.grad.shape == shape
    for turned in (
        x.transpose(0, 1).contiguous().transpose(0, 1),
        x.mT.contiguous().mT,
        torch.stack([x, x], -1)[..., 0],
    ):
        assert torch.equal(layer(turned), spikes)
    last = x.mT.contiguous().mT
    assert layer(last).stride() == tfexplore.ALIF(backend=backend)(last).stride()
    half = layer(x.bfloat16(), trace="v")
    assert (half[0].dtype, half[1].dtype) == (torch.bfloat16, torch.float32)
    with tfexplore.record(layer, "s", "b", "h") as traces:
        layer(x)
    out, _, seen = by_hand(layer, x, None)
    assert torch.equal(traces[""]["s"], out)
    assert all(torch.equal(traces[""][name], seen[name]) for name in "bh")
    each = vmap(grad(lambda sample: layer(sample.unsqueeze(1)).square().sum()), in_dims=1)(x)
    given = x.clone().requires_grad_()
    layer(given).square().sum().backward()
    assert distance(each.movedim(0, 1), given.grad) <= 1e-6


@pytest.mark.parametrize("options", [OFF, CUT], ids=str)
def test_compiled_without_graph_break_and_once(options):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    layer = Layer(neurons.LIF(learn="tau"), channels=C, backend="numba", **options)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = CASES[1].input(5, (B, C)).requires_grad_()
    for _ in range(3):
        made = compiled(x)
        assert torch.equal(made, layer(x))
        assert same_bits(*(torch.autograd.grad(z.square().sum(), x)[0] for z in (made, layer(x))))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


# -- both ------------------------------------------------------------------------------------------------------------


def test_both_may_be_set_at_any_time():
    x = CASES[1].input(T, (B, C))
    net = nn.Sequential(tfexplore.LIF(), tfexplore.LIF())
    before = results(ours, net[0], x)
    net(x)  # a kernel is found, and known
    for name, value, usual in (("temporal", "off", "on"), ("temporal_gradient", False, True)):
        for layer in net:
            setattr(layer, name, value)
        fresh = tfexplore.LIF(**{name: value})
        same(results(ours, net[0], x), results(ours, fresh, x))
        given = [x.clone().requires_grad_() for _ in range(2)]
        outs = [net(given[0]), nn.Sequential(fresh, fresh)(given[1])]
        assert torch.equal(*outs)
        assert same_bits(*(torch.autograd.grad(out.sum(), z)[0] for out, z in zip(outs, given, strict=True)))
        net[0].neuron = neurons.LIF(tau=3.0)
        assert getattr(net[0], name) == value
        net[0].neuron = neurons.LIF()
        for layer in net:
            setattr(layer, name, usual)
    same(results(ours, net[0], x), before)


def test_copies_and_what_a_layer_shows():
    layer, x = tfexplore.LIF(temporal="off", temporal_gradient=False), CASES[1].input(6, (B, C))
    assert repr(layer).endswith("decay_input=False, temporal='off', temporal_gradient=False)")
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (other.temporal, other.temporal_gradient, other.step) == (
            "off",
            False,
            cut_in_time(step_of(other.neuron)),
        )
        assert torch.equal(other(x), layer(x))
    old = copy.deepcopy(tfexplore.LIF())  # as one that was saved before there was a choice
    for value, name in ((old, "_temporal"), (old, "_temporal_gradient"), (old.step, "temporal_gradient")):
        vars(value).pop(name, None)
    old = pickle.loads(pickle.dumps(old))
    assert (old.temporal, old.temporal_gradient, repr(old)) == ("on", True, repr(tfexplore.LIF()))
    assert torch.equal(old(x), tfexplore.LIF()(x))


def test_errors():
    with pytest.raises(ValueError, match=r"^temporal must be 'on' or 'off', but got False\.$"):
        tfexplore.LIF(temporal=False)
    with pytest.raises(TypeError, match=r"^temporal_gradient must be True or False, but got 'off'\.$"):
        Layer(neurons.LIF(), temporal_gradient="off")
    layer = tfexplore.LIF(learn="tau", channels=3, temporal="off")
    with pytest.raises(ValueError, match=r"tau has values for \[3\], so x must be .* but got shape \(5, 2, 4\)\."):
        layer(torch.zeros(5, 2, 4))
    layer.temporal, before = "on", layer.temporal
    with pytest.raises(ValueError, match="temporal must be"):
        layer.temporal = "never"
    assert (layer.temporal, before) == ("on", "off")


CUDA = [
    (neurons.LIF(), "input"), (neurons.ALIF(detach_reset=False, learn=("beta", "tau_b")), "potential"),
    (neurons.Izhikevich(), "potential"), (neurons.PaperLIF(v_reset=0.05), "bits"), (neurons.LI(learn="v_reset"), "auto"),
]  # fmt: skip


@pytest.mark.parametrize("options", [CUT, OFF], ids=str)
@pytest.mark.parametrize(("neuron", "keep"), CUDA, ids=str)
def test_the_cuda_text(fake_cupy, neuron, keep, options):
    case = next(case for case in CASES if case.cls is type(neuron))
    if keep == "bits" and why_not(cut_in_time(step_of(neuron))):
        keep = "input"
    fused, eager = (
        Layer(
            neuron,
            backend=name,
            keep=keep if name == "cuda" else "auto",
            channels=C if neuron.learn else None,
            **options,
        )
        for name in ("cuda", "torch")
    )
    x = case.input(T, (B, C))
    found, wanted = results(ours, fused, x), results(ours, eager, x)
    assert all(same_bits(found[name], z) for name, z in wanted.items() if not name.startswith("g "))
    agree(found, wanted, 3e-6)
    assert {name for name, _ in fake_cupy.launches} == {"forward", "backward"}
