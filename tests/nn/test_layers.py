"""Layers as modules: shapes, empty dimensions, explicit state, learned parameters, copies, and what wraps them."""

from __future__ import annotations

import ast
import copy
import doctest
import inspect
import pickle
import re
import subprocess

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import tfexplore
from tests.cases import CASES, NEURONS, Case, same_bits
from tfexplore import FoldTime, Layer, Recurrent, neurons
from tfexplore.nn import NeuronLayer
from tools import layer_stubs

BACKENDS = ["torch", "numba"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4), (3, 2, 4, 5, 6)], ids=str)
def test_spikes_have_the_shape_of_x_and_states_have_it_without_time(shape, backend):
    spikes, state = tfexplore.ALIF(backend=backend)(torch.rand(shape), return_state=True)
    assert spikes.shape == shape
    assert [z.shape for z in state] == [shape[1:]] * 2
    assert not spikes.requires_grad


@pytest.mark.parametrize("learn", [(), ("tau", "v_reset")], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 0, 0), (0, 2), (2, 3, 0, 4)], ids=str)
def test_empty_dimensions_give_empty_spikes_and_the_state_unchanged(shape, backend, learn):
    layer = Layer(neurons.ALIF(learn=learn), backend=backend)
    x = torch.rand(shape, requires_grad=True)
    given = tuple(torch.rand(shape[1:], requires_grad=True) for _ in range(2))
    for state in (None, given):
        with tfexplore.record(layer, "v", "s", "b") as traces:
            spikes, after = layer(x, state, return_state=True)
        assert spikes.shape == shape
        assert [z.shape for z in after] == [shape[1:]] * 2
        assert all(traces[""][name].shape == shape for name in "vsb")
        if state is not None:
            assert all(map(torch.equal, after, state))
        (spikes.sum() + after[0].sum()).backward()
    assert x.grad.shape == shape
    assert torch.equal(given[0].grad, torch.ones_like(given[0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_explicit_state_is_the_start_and_gets_its_gradient(backend):
    layer = tfexplore.LIF(tau=2.0, reset="hard", backend=backend)
    start = torch.full((1, 1), 0.5, requires_grad=True)
    spikes, (v,) = layer(torch.zeros(3, 1, 1), (start,), return_state=True)
    assert (spikes.sum(), v.item()) == (0.0, 0.0625)
    v.sum().backward()
    assert start.grad.item() == 0.125


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_initial_state_follows_a_learned_reset(backend):
    layer = Layer(neurons.LI(v_reset=-0.5, learn="v_reset"), backend=backend, channels=3)
    with torch.no_grad():
        layer.raw["v_reset"].copy_(torch.tensor([-1.0, 0.0, 2.0]))
    out = layer(torch.zeros(4, 2, 3))
    assert torch.equal(out, torch.tensor([-1.0, 0.0, 2.0]).expand(4, 2, 3))  # at rest, and it stays there
    out.sum().backward()
    assert layer.raw["v_reset"].grad.tolist() == [8.0, 8.0, 8.0]


def train(layer: Layer, x: torch.Tensor, target: torch.Tensor) -> list[float]:
    optimiser, losses = torch.optim.Adam(layer.parameters(), 0.1), []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (layer(x).mean(0) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("channels", [None, 4])
def test_training_a_time_constant_reduces_a_loss_and_keeps_it_in_bounds(channels):
    torch.manual_seed(0)
    x = torch.rand(40, 5, 4) * 0.6
    wanted = torch.tensor([1.5, 3.0, 6.0, 12.0]) if channels else torch.tensor(8.0)
    target = tfexplore.LI(learn="tau", channels=channels)
    with torch.no_grad():
        target.raw["tau"].copy_((wanted - 1).log())
        goal = target(x).mean(0)
    layer = tfexplore.LI(tau=2.0, learn="tau", channels=channels)
    assert layer.raw["tau"].shape == wanted.shape
    losses = train(layer, x, goal)
    assert losses[-1] < 0.05 * losses[0]
    assert (layer.learned["tau"] > 1).all()
    spiking = tfexplore.ParametricLIF(tau=2.0, channels=channels)
    losses = train(spiking, 2 * x, torch.full((5, 4), 0.8))
    assert losses[-1] < losses[0]


def test_learned_values_start_where_asked_and_show_in_parameters():
    layer = Layer(neurons.PaperLIF(decay=0.25, v_threshold=0.3, learn=("v_threshold", "decay")))
    assert {key: pytest.approx(value.item()) for key, value in layer.learned.items()} == {
        "decay": 0.25,
        "v_threshold": 0.3,
    }
    assert sorted(dict(layer.named_parameters())) == ["raw.decay", "raw.v_threshold"]
    assert list(tfexplore.LIF().parameters()) == []
    assert [name for name, _ in tfexplore.ParametricLIF(channels=3).named_parameters()] == ["raw.tau"]


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_copies_pickles_and_state_dicts(cls, tmp_path):
    case = Case(cls, cls().reset, cls().surrogate, True, "input")
    layer, x = getattr(tfexplore, cls.__name__)(learn="v_reset", backend="numba"), case.input(5, (2, 3))
    with torch.no_grad():
        layer.raw["v_reset"] += 0.125
    expected = layer(x)
    torch.save(layer, tmp_path / "layer.pt")
    fresh = getattr(tfexplore, cls.__name__)(learn="v_reset", backend="numba")
    fresh.load_state_dict(layer.state_dict())
    others = [
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(tmp_path / "layer.pt", weights_only=False),
        fresh,
    ]
    for other in others:
        assert other is not layer
        assert other.neuron == layer.neuron
        assert same_bits(other(x), expected)
        assert other.raw["v_reset"] is not layer.raw["v_reset"]


def test_a_pickled_layer_runs_in_another_process(tmp_path, python):
    net = nn.Sequential(nn.Linear(3, 4), tfexplore.LIF(backend="numba"))
    x = torch.randn(5, 2, 3)
    torch.save((net, x, net(x)), tmp_path / "net.pt")  # after a call: the kernel's name is known here, not there
    text = f"import torch; net, x, y = torch.load({str(tmp_path / 'net.pt')!r}, weights_only=False); assert net(x).equal(y)"
    subprocess.run([python, "-W", "error", "-c", text], check=True, timeout=60)


def test_a_copy_made_within_carry_and_record_leaves_them_behind():
    layer = tfexplore.LIF()
    with tfexplore.carry(layer), tfexplore.record(layer):
        other = copy.deepcopy(layer)
    assert (other.provider, other.sink, layer.provider, layer.sink) == (None, None, None, None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_module_dtypes(dtype):
    net = nn.Sequential(nn.Linear(3, 4), tfexplore.ParametricLIF(channels=4, backend="numba")).to(dtype)
    out = net(torch.randn(5, 2, 3, dtype=dtype))
    assert out.dtype == dtype
    out.float().sum().backward()
    assert net[1].raw["tau"].grad.dtype == dtype


def test_meta_tensors_give_shapes():
    net = nn.Sequential(
        FoldTime(nn.Conv2d(1, 2, 3)), tfexplore.ParametricLIF(channels=2), tfexplore.ALIF(), tfexplore.LI()
    )
    with tfexplore.record(net, "v") as traces:
        out = net.to("meta")(torch.zeros(7, 2, 1, 5, 5, device="meta"))
    assert (out.shape, out.device.type) == ((7, 2, 2, 3, 3), "meta")
    assert traces["2"]["v"].shape == out.shape


def test_what_a_layer_shows():
    assert repr(tfexplore.LIF(tau=3.0)) == "LIF(tau=3.0, v_threshold=1.0, v_reset=0.0, decay_input=False)"
    assert repr(tfexplore.IF(reset="hard", keep="input", backend="torch")) == (
        "IF(v_threshold=1.0, v_reset=0.0, reset='hard', backend='torch', keep='input')"
    )
    shown = "LI(tau=2.0, v_reset=0.0, decay_input=True, reset='none', learn=('tau',), channels=4)"
    assert repr(Layer(neurons.LI(learn="tau"), channels=4)) == shown
    assert f"(0): {shown}" in repr(nn.Sequential(tfexplore.LI(learn="tau", channels=4)))
    assert "tau" in tfexplore.LIF.__doc__
    assert "keep" in str(tfexplore.LIF.__signature__)


@pytest.mark.parametrize("layer", NeuronLayer.__subclasses__(), ids=lambda layer: layer.__name__)
def test_every_argument_of_a_layer_is_described_and_its_example_runs(layer):
    text = inspect.getdoc(layer)
    described = re.findall(r"^    (\w+): ", text.partition("\nArgs:\n")[2].partition("\nShape:\n")[0], re.MULTILINE)
    assert described == list(inspect.signature(layer).parameters)
    example = doctest.DocTestParser().get_doctest(text, {}, layer.__name__, None, None)
    assert len(example.examples) >= 3
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_the_stub_of_the_layers_is_up_to_date():
    """Editors and mypy read it in place of the layers: python tools/layer_stubs.py writes it."""
    assert layer_stubs.STUB.read_text(encoding="utf-8") == layer_stubs.stub()
    names = [node.name for node in ast.parse(layer_stubs.stub()).body if isinstance(node, ast.ClassDef)]
    assert names[1:] == [kind.__name__ for kind in neurons.ALL]


# -- what wraps layers ----------------------------------------------------------------------------------------------


def test_fold_time_runs_stateless_modules_over_all_steps():
    torch.manual_seed(0)
    modules = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    fold, x = FoldTime(*modules), torch.randn(5, 2, 2, 6, 6)
    fold.eval()
    expected = torch.stack([nn.Sequential(*modules)(x_t) for x_t in x])
    assert torch.allclose(fold(x), expected, atol=1e-6)
    assert isinstance(fold[:2], FoldTime)
    assert FoldTime(nn.Linear(3, 2))(torch.zeros(4, 0, 3)).shape == (4, 0, 2)
    assert FoldTime(nn.Linear(3, 2))(torch.zeros(0, 4, 3)).shape == (0, 4, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_recurrent_feeds_the_last_spikes_back(backend):
    torch.manual_seed(0)
    feedback = nn.Linear(4, 4)
    net = Recurrent(tfexplore.LIF(v_threshold=0.5, backend=backend), feedback)
    x = torch.randn(6, 2, 4, requires_grad=True)
    spikes, (v, last) = net(x, return_state=True)
    # a hand-written loop: one step after the other
    s, z, expected = torch.zeros(2, 4), torch.zeros(2, 4), []
    for x_t in x:
        h = z - z / 2 + (x_t + feedback(s))
        s = (h >= 0.5).float()
        z = h - 0.5 * s
        expected.append(s)
    assert torch.equal(spikes, torch.stack(expected))
    assert torch.equal(last, expected[-1])
    assert torch.allclose(v, z, atol=1e-6)
    spikes.sum().backward()
    assert feedback.weight.grad.any()  # through the spikes of every step
    first, middle = net(x[:2], return_state=True)
    second, after = net(x[2:], middle, return_state=True)
    assert torch.equal(torch.cat([first, second]), spikes)
    assert all(map(torch.equal, after, (v, last)))


def test_recurrent_over_no_steps_keeps_its_state():
    net = Recurrent(tfexplore.LIF(), nn.Linear(4, 4))
    state = tuple(torch.rand(2, 2, 4).unbind(0))
    spikes, after = net(torch.zeros(0, 2, 4), state, return_state=True)
    assert spikes.shape == (0, 2, 4)
    assert all(map(torch.equal, after, state))
    assert [z.shape for z in net(torch.zeros(0, 2, 4), return_state=True)[1]] == [(2, 4), (2, 4)]


def test_a_layer_takes_any_neuron_value():
    x = CASES[1].input(10, (2, 3))
    assert same_bits(Layer(neurons.LIF(tau=3.0))(x), tfexplore.LIF(tau=3.0)(x))


def test_another_neuron_may_be_set_but_not_one_that_learns_otherwise():
    x = 1.5 * torch.rand(9, 2, 3)
    layer = tfexplore.LIF(tau=2.0)
    layer.neuron = tfexplore.neurons.LIF(tau=7.0, v_reset=0.5)
    assert torch.equal(layer(x), tfexplore.LIF(tau=7.0, v_reset=0.5)(x))
    with pytest.raises(ValueError, match=r"this layer learns \(\), but the new neuron \('tau',\)"):
        layer.neuron = tfexplore.neurons.ParametricLIF()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_tracing_shapes_leaves_nothing_behind(backend):
    layer = tfexplore.LIF(tau=9.9, backend=backend)
    with FakeTensorMode():
        assert layer(torch.rand(3, 1, 2)).shape == (3, 1, 2)
    assert layer(torch.rand(3, 1, 2)).shape == (3, 1, 2)


@pytest.mark.parametrize("channels", [None, 3])
def test_a_learned_parameter_makes_no_graph_break_and_one_graph(channels):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    layer = tfexplore.ParametricLIF(channels=channels, backend="numba")
    x = 1.5 * torch.rand(5, 2, 3)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        assert torch.equal(compiled(x), layer(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_returned_state_may_be_changed_in_place():
    _, (v,) = tfexplore.LIF()(torch.rand(3, 4, 2, requires_grad=True), return_state=True)
    v[0] = 0  # as after the end of an episode
    v.sum().backward()
