"""What users of other libraries reported when networks went through NIR; each of these, here, against a plain loop."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import noise
from tests.exchange.nir_loops import parameters, walked
from tfexplore import IF, LIF, FoldTime, Recurrent
from tfexplore.exchange import Graph, Node, from_nir, read, to_nir, write

DT = 1e-4  # that of the paper


def one(kind, p, n=1):
    ends = {"in": Node("Input", {"shape": n}), "out": Node("Output", {"shape": n})}
    return Graph({**ends, "n": Node(kind, p)}, (("in", "n"), ("n", "out")))


def test_an_if_has_no_leak():
    """snnTorch #416: an IF came in as a Leaky with beta = 0.9."""
    net = from_nir(one("IF", {"r": np.full(1, 1 / DT), "v_threshold": 1.0}), dt=DT)
    x = torch.zeros(1000, 1, 1)
    x[0], x[999] = 0.6, 0.6  # silent for 998 steps in between
    assert net(x).flatten().nonzero().tolist() == [[999]]
    assert to_nir(IF(reset="hard"), dt=DT, shape=1).nodes["0"].kind == "IF"


def test_tau_is_divided_by_and_not_multiplied():
    """norse #411: dt * tau and dt / tau change places. After one tau, a leak has 1 / e left; it had 1 - 1e-7, or nothing."""
    tau = 0.005
    net = from_nir(one("LI", {"tau": np.full(1, tau), "r": 1.0, "v_leak": 0.0}), dt=DT)
    steps = round(tau / DT)
    v = net(torch.ones(steps, 1, 1))[-1].item()
    assert v == pytest.approx(1 - (1 - DT / tau) ** steps, rel=1e-5)
    assert v == pytest.approx(1 - np.exp(-1), abs=0.005)
    assert to_nir(net, dt=DT).nodes["n"].parameters["tau"].item() == pytest.approx(tau)
    assert to_nir(LIF(tau=50.0, reset="hard"), dt=DT, shape=1).nodes["0"].parameters["tau"].item() == pytest.approx(tau)


@pytest.mark.parametrize("tau", [1e-4, 2.5e-3, 1e-2])
def test_the_input_is_scaled_by_dt_over_tau_too(tau):
    """spyx #40: only the leak was; right where tau = dt, and by tau / dt wrong elsewhere. A constant input ends at r x."""
    graph = one("LI", {"tau": np.full(1, tau), "r": 3.0, "v_leak": 0.0})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "dt / tau is above 0.5")
        net = from_nir(graph, dt=DT)
    assert net(torch.full((2000, 1, 1), 0.5))[-1].item() == pytest.approx(1.5, rel=1e-4)


def test_another_dt_changes_the_steps_and_not_the_neuron():
    """The same current for the same 50 ms, in steps of 0.1 and of 0.05 ms: as many spikes."""
    p = {"tau": np.full(1, 2.5e-3), "r": 1.0, "v_leak": 0.0, "v_threshold": 0.1}
    counts = [from_nir(one("LIF", p), dt=DT / k)(torch.full((500 * k, 1, 1), 0.15)).sum().item() for k in (1, 2)]
    assert counts[0] > 3
    assert abs(counts[0] - counts[1]) <= 1


def test_w_in_is_a_weight_and_not_a_part_of_the_threshold():
    """snnTorch #435: the threshold was divided by w_in dt / tau_syn. Here the potential is NIR's, and so are reset and leak."""
    p = parameters("CubaLIF", 5, DT)
    p |= {"w_in": np.array([0.25, 1.0, 2.0, 4.0, -1.0]), "v_reset": np.full(5, 0.1), "v_leak": np.full(5, 0.2)}
    net = from_nir(one("CubaLIF", p, 5), dt=DT)
    x = noise(100, 2, 5, seed=0) + 0.5
    expected, potentials = walked("CubaLIF", p, x.numpy(), DT, dtype=np.float32)
    out, v = net.n(x, trace="v")
    assert np.array_equal(net.n.neuron.w_in.array, p["w_in"])
    assert np.array_equal(net.n.neuron.v_threshold.array, p["v_threshold"])
    assert torch.equal(v, torch.tensor(potentials))
    assert torch.equal(out, torch.tensor(expected))


def test_an_export_has_all_shapes():
    """snnTorch #410: Conv2d, Flatten and pools came without, and nir could not infer them."""
    net = nn.Sequential(
        FoldTime(nn.Conv2d(1, 2, 3)), IF(reset="hard"), FoldTime(nn.AvgPool2d(2)), nn.Flatten(2), nn.Linear(18, 2)
    )
    graph = to_nir(net, dt=DT, shape=(1, 8, 8))
    assert graph.nodes["0"].parameters["input_shape"] == (8, 8)
    assert graph.nodes["1"].parameters["r"].shape == (2, 6, 6)
    assert graph.nodes["3"].parameters["input_type"] == (2, 3, 3)
    pytest.importorskip("nir", reason="NIR's own objects come with nir")
    theirs = graph.to_nir()
    assert theirs.nodes["2"].output_type["output"].tolist() == [2, 3, 3]
    assert theirs.nodes["output"].input_type["input"].tolist() == [2]


def test_a_file_without_v_reset_is_read_and_says_so(tmp_path):
    """snnTorch #384, NIR #155: files of nir before 1.0.5 have none."""
    h5py = pytest.importorskip("h5py", reason="NIR files are HDF5")
    write(one("LIF", {"tau": np.full(1, 2.5e-3), "r": 1.0, "v_leak": 0.05, "v_threshold": 0.1}), tmp_path / "net.nir")
    with h5py.File(tmp_path / "net.nir", "a") as file:
        del file["node/nodes/n/v_reset"]
    with pytest.warns(UserWarning, match="no v_reset"):
        net = from_nir(tmp_path / "net.nir", dt=DT)
    assert net.n.neuron.v_reset == 0.0
    _, v = net.n(torch.full((100, 1, 1), 2.0), trace="v")
    assert (v == 0).any()
    assert (v[v != 0] > 0.05).all()


W = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


def nested(name="rnn"):
    """A recurrent layer as snnTorch writes it: a sub-graph of its own."""
    p = parameters("CubaLIF", 3, DT)
    inner = {"input": Node("Input", {"shape": 3}), "lif": Node("CubaLIF", p), "w_rec": Node("Linear", {"weight": W})}
    inner |= {"output": Node("Output", {"shape": 3})}
    edges = (("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output"))
    ends = {"in": Node("Input", {"shape": 3}), "out": Node("Output", {"shape": 3})}
    return Graph({**ends, name: Graph(inner, edges)}, (("in", name), (name, "out")))


def test_a_recurrent_layer_nested_or_flattened_is_the_same(tmp_path):
    """NIRTorch #51: a recurrent layer in a sub-graph, and the same flattened into its graph, must both be found."""
    x = noise(80, 2, 3, seed=1) + 0.3
    outs = []
    for graph in (nested(), nested().flat()):
        write(graph, tmp_path / "net.nir")
        net = from_nir(read(tmp_path / "net.nir"), dt=DT)
        assert type(net.rnn_lif) is Recurrent
        outs.append(net(x))
    assert 0 < outs[0].mean() < 1
    assert torch.equal(*outs)
    two = Graph({**nested().nodes, "b": nested().nodes["rnn"]}, (("in", "rnn"), ("rnn", "b"), ("b", "out")))
    net = from_nir(two, dt=DT)
    assert [type(module) for module in net] == [Recurrent, Recurrent]
    assert torch.equal(net(x), net.b_lif(outs[0]))


def test_the_bias_of_an_affine_stays():
    """nirtorch's default Affine loses it."""
    given = {"weight": W, "bias": np.array([1.0, 2.0, 3.0], np.float32)}
    graph = one("Affine", given, 3)
    assert from_nir(graph, dt=DT)(torch.zeros(1, 1, 3)).flatten().tolist() == [1.0, 2.0, 3.0]
    assert np.array_equal(to_nir(from_nir(graph, dt=DT), dt=DT).nodes["n"].parameters["bias"], given["bias"])


def test_numbers_for_all_neurons_are_read():
    """NIR #135, #176, and snnTorch's export: a parameter of shape (1,) or () before a layer of any size."""
    for shape in ((), (1,)):
        p = {"tau": 1e-3, "r": 2.0, "v_leak": 0.0, "v_threshold": 0.5}
        node = Node("LIF", {name: np.full(shape, value) for name, value in p.items()})
        ends = {"in": Node("Input", {"shape": 3}), "out": Node("Output", {"shape": 3})}
        net = from_nir(Graph({**ends, "n": node}, (("in", "n"), ("n", "out"))), dt=DT)
        assert net(torch.ones(9, 2, 3)).sum() > 0
        assert to_nir(net, dt=DT).nodes["n"].parameters["tau"].shape == (3,)
