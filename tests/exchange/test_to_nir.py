"""Networks of ours as graphs of NIR: what is written, what comes back to the bit, what is refused."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import tfexplore
from tests.cases import noise, same_bits
from tests.exchange.nir_loops import walked
from tfexplore import IF, LI, LIF, CubaLIF, FoldTime, Layer, ParametricLIF, Recurrent, neurons
from tfexplore.exchange import from_nir, read, to_nir, write
from tfexplore.exchange.modules import Delay, Scale, SumPool2d
from tfexplore.exchange.neurons import NirCubaLI, NirLIF, NirThreshold

DT = 1e-3
HARD = {"reset": "hard"}


def everything():
    """A network with each module that has a NIR form, nested, its neurons with values of channels and neurons."""
    torch.manual_seed(0)
    learned = ParametricLIF(channels=10, v_threshold=0.3, **HARD)
    with torch.no_grad():
        learned.raw["tau"] += torch.linspace(-0.5, 0.5, 10)
    return nn.Sequential(
        FoldTime(nn.Conv2d(2, 4, 3, padding=1, bias=False)),
        LIF(tau=torch.tensor([1.7, 2.3, 5.1, 3.3]), decay_input=True, v_threshold=0.2, **HARD),
        FoldTime(nn.AvgPool2d(2), nn.Conv2d(4, 4, (3, 1), padding="same"), SumPool2d((2, 1))),
        IF(v_threshold=0.5, **HARD),
        nn.Flatten(2),
        nn.Linear(32, 20),
        Recurrent(CubaLIF(tau=3.3, tau_syn=2.1, v_threshold=0.1, v_reset=-0.1, **HARD), nn.Linear(20, 20)),
        nn.Sequential(nn.Linear(20, 10), learned, nn.Identity(), Scale(torch.rand(10))),
        Delay(torch.arange(10) % 3),
        LI(tau=4.0),
    )


def test_ours_to_a_file_and_back_to_the_bit(tmp_path):
    net = everything()
    graph = to_nir(net, dt=DT, shape=(2, 8, 8))
    write(graph, tmp_path / "net.nir")
    back = from_nir(read(tmp_path / "net.nir"), dt=DT)
    assert list(graph.nodes) == [
        "input", "0", "1", "2.0", "2.1", "2.2", "3", "4", "5", "6.layer", "6.feedback", "7.0", "7.1", "7.3", "8", "9", "output",
    ]  # fmt: skip
    ours = [value for name, value in net.named_parameters() if "raw" not in name]
    theirs = [
        value for value in back.parameters() if value.numel() != 4 or value.any()
    ]  # NIR's Conv2d has a bias: zeros
    assert all(itertools.starmap(same_bits, zip(ours, theirs, strict=True)))
    x = (noise(60, 3, 2, 8, 8, seed=0) > 0).float()
    names = ("1", "3", "6.layer", "7.1", "9")
    with tfexplore.record(net, "s", "v") as mine, tfexplore.record(back, "s", "v") as other:
        assert same_bits(net(x), back(x))
    for name in names:
        place = back.places[name]
        assert 0 < mine[name]["s"].abs().mean() < 1
        assert same_bits(mine[name]["s"], other[place]["s"])
        assert same_bits(mine[name]["v"], other[place]["v"])
    assert to_nir(back, dt=DT).nodes["6.layer"] == graph.nodes["6.layer"]


def test_shapes_are_written_in_full():
    """snnTorch #410: a reader must not have to guess them. nir's own inference agrees."""
    nir = pytest.importorskip("nir", reason="NIR's own objects come with nir")
    graph = to_nir(everything(), dt=DT, shape=(2, 8, 8))
    given = {name: node.parameters for name, node in graph.nodes.items()}
    assert given["input"]["shape"] == (2, 8, 8)
    assert given["output"]["shape"] == (10,)
    assert (given["0"]["input_shape"], given["2.1"]["input_shape"]) == ((8, 8), (4, 4))
    assert given["4"] == {"input_type": (4, 2, 4), "start_dim": 0, "end_dim": 2}
    for name, shape in {"1": (4, 8, 8), "3": (4, 2, 4), "6.layer": (20,), "7.1": (10,), "9": (10,)}.items():
        assert {value.shape for value in given[name].values()} == {shape}
    assert given["8"]["delay"].tolist() == pytest.approx([0, 0.001, 0.002] * 3 + [0])
    square = nn.Sequential(FoldTime(nn.Conv2d(2, 4, 3, stride=2)), IF(**HARD), nn.Flatten(2), nn.Linear(36, 5))
    theirs = to_nir(square, dt=DT, shape=(2, 8, 8)).to_nir()  # nir checks all types
    assert {
        name: node.output_type["output"].tolist() for name, node in theirs.nodes.items() if isinstance(node, nir.IF)
    } == {"1": [4, 3, 3]}


@pytest.mark.parametrize("decay_input", [False, True])
@pytest.mark.parametrize("kind", ["LIF", "LI", "CubaLIF", "IF"])
def test_what_is_written_is_the_same_equation(kind, decay_input):
    """The graph's numbers in a plain loop of NIR's equations give our potentials, to rounding."""
    given = {"v_reset": 0.125} | ({} if kind == "IF" else {"tau": 3.5, "decay_input": decay_input})
    given |= {"tau_syn": 2.5} if kind == "CubaLIF" else {}
    given |= {} if kind == "LI" else {"v_threshold": 0.9, **HARD}
    layer = getattr(tfexplore, kind)(**given)
    node = to_nir(layer, dt=DT, shape=6).nodes["0"]
    assert node.kind == kind
    x = noise(50, 2, 6, seed=3) + 0.4
    outs, potentials = walked(kind, dict(node.parameters), x.double().numpy(), DT)
    out, v = layer(x, trace="v")
    assert np.abs(v.numpy() - potentials).max() < 1e-5
    if kind != "LI":
        assert np.array_equal(out.numpy(), outs)
    known = {"tau": 3.5 * DT, "tau_mem": 3.5 * DT, "tau_syn": 2.5 * DT, "v_leak": 0.125, "v_reset": 0.125, "w_in": 2.5}
    known["r"] = 1 / DT if kind == "IF" else 1.0 if decay_input else 3.5
    for name, value in node.parameters.items():
        assert value == pytest.approx(known.get(name, 0.9)), name


def test_a_neuron_that_was_edited_in_the_graph_counts_as_it_is_written():
    graph = to_nir(nn.Sequential(nn.Linear(3, 3), LIF(tau=4.0, **HARD)), dt=DT)
    own, other = from_nir(graph, dt=DT), from_nir(graph, dt=DT / 2)
    assert repr(own[1]) == repr(LIF(tau=4.0, **HARD))
    assert other[1].neuron.rate == pytest.approx(1 / 8)  # with another dt it is no longer the same neuron
    graph.nodes["1"].parameters["tau"][:] = 0.008
    assert from_nir(graph, dt=DT)[1].neuron.rate == pytest.approx(1 / 8)
    assert type(from_nir(graph, dt=DT)[1].neuron) is NirLIF
    for wrong in (
        {"tau": "x"},
        {"tau": np.ones(7)},
        {"nothing": 1.0},
        {"reset": "soft"},
        {"strict": 1, "decay_input": "y"},
    ):
        graph = to_nir(LIF(tau=4.0, **HARD), dt=DT, shape=3)
        graph.nodes["0"].metadata["tfexplore"].update(wrong)
        neuron = from_nir(graph, dt=DT)[0].neuron
        assert (neuron.v_threshold, neuron.reset) == (1.0, "hard")


@pytest.mark.filterwarnings("ignore:dt / tau is above 0.5")
@pytest.mark.parametrize("leak", ["euler", "exact"])
def test_a_network_that_came_goes_back_as_it_was(leak):
    first = to_nir(everything(), dt=DT, shape=(2, 8, 8))
    for node in first.nodes.values():
        node.metadata.pop("tfexplore", None)
    net = from_nir(first, dt=DT, leak=leak)
    again = to_nir(net, dt=DT)
    assert again.edges == first.edges
    for name, node in first.nodes.items():
        for key, value in node.parameters.items():
            other = again.nodes[name].parameters[key]
            assert other == value if isinstance(value, str) else np.allclose(other, value, rtol=1e-6), (name, key)
    x = (noise(30, 2, 2, 8, 8, seed=1) > 0).float()
    assert same_bits(net(x), from_nir(again, dt=DT, leak=leak)(x))
    inside = to_nir(nn.Sequential(net, nn.Linear(10, 2)), dt=DT, shape=(2, 8, 8), leak=leak)
    assert list(inside.nodes)[:3] == ["input", "0.0", "0.1"]
    assert inside.edges[-2:] == (("0.9", "1"), ("1", "output"))


def test_of_a_branching_network():
    layers = nn.Sequential(nn.Linear(4, 3), LIF(**HARD))
    graph = to_nir(layers, dt=DT)
    graph = type(graph)(graph.nodes, (*graph.edges, ("0", "output")))
    net = from_nir(graph, dt=DT)
    assert set(to_nir(net, dt=DT).edges) == set(graph.edges)
    x = noise(9, 2, 4, seed=2)
    assert torch.allclose(net(x), layers(x) + layers[0](x))
    assert same_bits(from_nir(to_nir(net, dt=DT), dt=DT)(x), net(x))
    assert set(to_nir(nn.Sequential(nn.Linear(4, 4), net), dt=DT).edges) == {
        ("input", "0"), ("0", "1.0"), ("1.0", "1.1"), ("1.1", "output"), ("1.0", "output"),
    }  # fmt: skip


def test_a_soft_reset_has_no_form_unless_a_hard_one_is_asked_for():
    net = nn.Sequential(nn.Linear(3, 3), LIF(tau=4.0))
    with pytest.raises(
        ValueError, match=r"Module '1': LIF has reset='soft', but NIR only a hard one; give reset='hard'"
    ):
        to_nir(net, dt=DT)
    graph = to_nir(net, dt=DT, reset="hard")
    assert graph.nodes["1"].parameters["v_reset"].tolist() == [0.0] * 3
    assert from_nir(graph, dt=DT)[1].neuron.reset == "hard"
    with pytest.raises(ValueError, match="reset must be None or 'hard'"):
        to_nir(net, dt=DT, reset="soft")


@pytest.mark.parametrize(
    ("module", "shape", "match"),
    [
        (tfexplore.ALIF(**HARD), 3, "Module '': ALIF has no counterpart in NIR; its neurons are I, IF"),
        (Layer(neurons.QIF()), 3, "QIF has no counterpart"),
        (tfexplore.LIF(temporal="off", **HARD), 3, "LIF with smooth=True or temporal='off' has no counterpart"),
        (nn.Dropout(), 3, "Dropout has no counterpart in NIR"),
        (FoldTime(nn.BatchNorm2d(2)), (2, 4, 4), "Module '0': BatchNorm2d has no counterpart in NIR"),
        (nn.Linear(3, 3), (2, 3), r"NIR's Linear takes one axis of features, but this one gets \(2, 3\)"),
        (nn.Linear(3, 3), 4, r"but this one gets \(4,\)"),
        (FoldTime(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), (2, 4, 4), "its padding_mode is 'circular'"),
        (FoldTime(nn.Conv2d(2, 2, 3)), (3, 4, 4), "Module '0': "),
        (FoldTime(nn.AvgPool2d(2, ceil_mode=True)), (2, 5, 5), "NIR's pools count the padding"),
        (FoldTime(nn.AvgPool2d(2, padding=1, count_include_pad=False)), (2, 5, 5), "NIR's pools count"),
        (nn.Flatten(1), (2, 4), "it flattens time or batch; start at axis 2"),
        (FoldTime(nn.Flatten(0)), (2, 4), "it flattens time or batch; start at axis 1"),
        (Recurrent(IF(**HARD), nn.Linear(4, 3)), 4, r"its feedback has the shape \(3,\)"),
        (Layer(NirLIF(rate=1.0)), 3, "no tau with leak='exact'"),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, nn.Module) else "",
)
def test_what_has_no_form_is_refused_with_the_module(module, shape, match):
    with pytest.raises(ValueError, match=match):
        to_nir(module, dt=DT, shape=shape, leak="exact" if "exact" in match else None)


def test_the_shape_of_the_input():
    assert to_nir(nn.Sequential(nn.Sequential(nn.Linear(3, 2))), dt=DT).nodes["input"].parameters["shape"] == (3,)
    with pytest.raises(ValueError, match=r"a LIF takes any; give them without time and batch, as shape=\(2, 34, 34\)"):
        to_nir(LIF(**HARD), dt=DT)
    with pytest.raises(TypeError, match="dt"):
        to_nir(LIF(**HARD), shape=3)
    with pytest.raises(ValueError, match="leak must be 'euler' or 'exact'"):
        to_nir(LIF(**HARD), shape=3, dt=DT, leak="fast")


def test_nirs_own_neurons_and_half_precision():
    net = nn.Sequential(
        nn.Linear(3, 3).bfloat16(), Layer(NirThreshold(v_threshold=0.1)), Layer(NirCubaLI(rate=0.3, w_in=2.0))
    )
    graph = to_nir(net, dt=DT)
    assert [node.kind for node in graph.nodes.values()] == ["Input", "Affine", "Threshold", "CubaLI", "Output"]
    assert graph.nodes["0"].parameters["weight"].dtype == np.float32
    x = noise(9, 2, 3, seed=4).bfloat16()
    assert torch.equal(from_nir(graph, dt=DT, dtype=torch.bfloat16)(x), net(x))


def test_a_module_that_is_there_twice_is_written_twice():
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, LIF(**HARD), shared)
    graph = to_nir(net, dt=DT)
    assert graph.edges == (("input", "0"), ("0", "1"), ("1", "2"), ("2", "output"))
    x = noise(9, 2, 3, seed=4) * 3
    assert same_bits(from_nir(graph, dt=DT)(x), net(x))
    branching = from_nir(type(graph)(graph.nodes, (*graph.edges, ("0", "2"))), dt=DT)
    setattr(branching, "1", nn.Identity())
    with pytest.raises(ValueError, match="Module '2' gets one input twice"):
        to_nir(branching, dt=DT)


def test_names_that_are_taken():
    net = nn.Sequential()
    net.add_module("input", nn.Linear(3, 2))
    net.add_module("output", LI())
    assert to_nir(net, dt=DT).edges == (("input_", "input"), ("input", "output"), ("output", "output_"))


@pytest.mark.filterwarnings("ignore")  # of norse and what it imports
def test_norse_runs_what_is_written():
    """A strict network: Norse reads our graph, and gives the same spikes."""
    pytest.importorskip("nir", reason="NIR's own objects come with nir")
    norse = pytest.importorskip("norse.torch", reason="runs beside ours where norse is installed")
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(10, 30), LIF(tau=5.3, decay_input=True, strict=True, v_threshold=0.3, **HARD), nn.Linear(30, 5)
    )
    theirs, state = norse.from_nir(to_nir(net, dt=DT).to_nir(), dt=DT), None
    x, outs = (noise(80, 4, 10, seed=5) > 0).float() * 3, []
    for x_t in x:
        out, state = theirs(x_t, state)
        outs.append(out)
    assert net[1](net[0](x)).mean() > 0.05
    assert torch.allclose(torch.stack(outs), net(x), atol=1e-6)
