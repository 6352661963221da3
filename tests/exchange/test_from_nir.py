"""Each node of NIR as a module, each form of graph; expected values from NumPy and torch's functions."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tfexplore
from tests.cases import noise, same_bits
from tests.exchange.nir_loops import parameters, walked
from tfexplore import Recurrent, record, surrogates
from tfexplore.exchange import Graph, Node, from_nir, to_nir, write
from tfexplore.exchange.modules import Chain, Delay, Network, SumPool2d

RNG = np.random.default_rng(0)
DT = 1e-3


def drawn(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def chain(shape_in, shape_out, **nodes):
    """A graph whose nodes follow each other."""
    nodes = {"in": Node("Input", {"shape": shape_in}), **nodes, "out": Node("Output", {"shape": shape_out})}
    return Graph(nodes, tuple(zip(nodes, list(nodes)[1:], strict=False)))


def lif(n, seed=0):
    return Node("LIF", parameters("LIF", n, DT, seed))


CONV = {"input_shape": (9, 8), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
CONV |= {"weight": drawn(6, 2, 3, 3), "bias": drawn(6)}
SAME = {
    "input_shape": (9, 8),
    "stride": 1,
    "padding": "same",
    "dilation": 1,
    "groups": 1,
    "weight": drawn(3, 4, 3, 3),
    "bias": drawn(3),
}
LINE = {
    "input_shape": 9,
    "stride": 2,
    "padding": 1,
    "dilation": 1,
    "groups": 1,
    "weight": drawn(3, 4, 3),
    "bias": drawn(3),
}
POOL = {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 1)}
AFFINE = {"weight": drawn(3, 4), "bias": drawn(3)}
SCALE = drawn(4)


def tensors(p):
    return torch.tensor(p["weight"]), torch.tensor(p["bias"])


NODES = {
    "Affine": ((4,), AFFINE, lambda x: x @ tensors(AFFINE)[0].T + tensors(AFFINE)[1]),
    "Linear": ((4,), {"weight": AFFINE["weight"]}, lambda x: x @ tensors(AFFINE)[0].T),
    "Conv2d": ((4, 9, 8), CONV, lambda x: F.conv2d(x, *tensors(CONV), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)),
    "Conv2d same": ((4, 9, 8), SAME, lambda x: F.conv2d(x, *tensors(SAME), padding=1)),
    "Conv1d": ((4, 9), LINE, lambda x: F.conv1d(x, *tensors(LINE), stride=2, padding=1)),
    "SumPool2d": ((4, 9, 8), POOL, lambda x: F.avg_pool2d(x, (2, 3), (2, 1), (1, 1)) * 6),
    "AvgPool2d": ((4, 9, 8), POOL, lambda x: F.avg_pool2d(x, (2, 3), (2, 1), (1, 1))),
    "Flatten": ((4, 9, 8), {"start_dim": 0, "end_dim": 1, "input_type": (4, 9, 8)}, lambda x: x.reshape(-1, 36, 8)),
    "Flatten all": ((4, 9, 8), {"start_dim": 0, "end_dim": -1}, lambda x: x.reshape(-1, 288)),
    "Scale": ((4,), {"scale": SCALE}, lambda x: x * torch.tensor(SCALE)),
    "Threshold": ((4,), {"threshold": SCALE}, lambda x: (x > torch.tensor(SCALE)).float()),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_a_node_computes_what_it_says(name):
    shape, given, expected = NODES[name]
    x = noise(5, 2, *shape, seed=1)
    wanted = expected(x.flatten(0, 1)).unflatten(0, (5, 2))
    net = from_nir(chain(shape, tuple(wanted.shape[2:]), node=Node(name.split()[0], given)), dt=DT)
    assert type(net) is Chain
    found = net(x)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-5)


def test_weights_are_parameters_of_its_own():
    given = {name: value.copy() for name, value in AFFINE.items()}
    graph = chain(4, 3, fc=Node("Affine", given), lif=lif(3))
    net = from_nir(graph, dt=DT, surrogate=surrogates.SuperSpike(5.0))
    assert [name for name, _ in net.named_parameters()] == ["fc.weight", "fc.bias"]
    with torch.no_grad():
        net.fc.weight.zero_()
    assert np.array_equal(graph.nodes["fc"].parameters["weight"], AFFINE["weight"])
    assert net.lif.neuron.surrogate == surrogates.SuperSpike(5.0)
    net(noise(9, 2, 4, seed=2)).sum().backward()
    assert net.fc.weight.grad.abs().sum() > 0
    assert torch.equal(from_nir(graph, dt=DT, dtype=torch.float64).fc.weight, torch.tensor(AFFINE["weight"]).double())
    half = from_nir(graph, dt=DT, dtype=torch.bfloat16)
    assert (half.fc.weight.dtype, half.lif.fixed["rate"].dtype) == (torch.bfloat16, torch.float32)
    assert torch.get_default_dtype() == torch.float32


def test_it_draws_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    from_nir(chain(4, 3, fc=Node("Affine", AFFINE)), dt=DT)
    assert torch.equal(before, torch.get_rng_state())


def test_it_runs_fused_and_is_read_at_sight(kernels_used):
    net = from_nir(chain(4, 3, fc=Node("Affine", AFFINE), lif=lif(3)), dt=DT)
    net(noise(9, 2, 4, seed=2))
    assert kernels_used
    assert None not in kernels_used
    assert repr(net).splitlines()[1:3] == [
        "  (fc): Linear(in_features=4, out_features=3, bias=True)",
        f"  (lif): {net.lif!r}",
    ]
    assert "NirLIF(rate=<3 values, " in repr(net.lif)


def test_a_file_a_graph_and_nirs_object_give_the_same(tmp_path):
    pytest.importorskip("nir", reason="NIR's own objects come with nir")
    graph = chain(4, 3, fc=Node("Affine", AFFINE), lif=lif(3))
    write(graph, tmp_path / "net.nir")
    x = noise(30, 2, 4, seed=3)
    outs = [
        from_nir(given, dt=DT)(x) for given in (graph, graph.to_nir(), tmp_path / "net.nir", str(tmp_path / "net.nir"))
    ]
    assert all(same_bits(out, outs[0]) for out in outs)


def test_a_network_branches_sums_and_is_copied():
    """in -> a, b; a -> n, b -> n: the sum; n -> out and a -> out: another sum."""
    a, b, c = drawn(3, 4), drawn(3, 4), drawn(2, 3)
    nodes = {
        "in": Node("Input", {"shape": 4}),
        "b": Node("Linear", {"weight": b}),
        "a.1": Node("Linear", {"weight": a}),
    }
    nodes |= {
        "n": Node("LI", parameters("LI", 3, DT)),
        "out": Node("Output", {"shape": 2}),
        "c": Node("Linear", {"weight": c}),
    }
    nodes |= {"dead": Node("Threshold", {"threshold": np.zeros(3)})}
    edges = (
        ("in", "a.1"),
        ("in", "b"),
        ("a.1", "n"),
        ("b", "n"),
        ("n", "c"),
        ("a.1", "c"),
        ("c", "out"),
        ("n", "dead"),
    )
    net = from_nir(Graph(nodes, edges), dt=DT)
    assert type(net) is Network
    assert net.places == {"a.1": "a_1", "b": "b", "n": "n", "c": "c", "dead": "dead"}
    x = noise(20, 2, 4, seed=4)
    left, right = x.numpy() @ a.T, x.numpy() @ b.T
    v, _ = walked("LI", parameters("LI", 3, DT), left + right, DT, dtype=np.float32)
    with record(net, "v", "s") as traces:
        out = net(x)
    assert np.allclose(out.detach().numpy(), (v + left) @ c.T, atol=1e-5)
    assert np.allclose(traces[net.places["n"]]["v"].numpy(), v, atol=1e-5)
    assert torch.equal(traces["dead"]["s"], (traces["n"]["v"] > 0).float())
    assert "c = a_1 + n" in repr(net) or "c = n + a_1" in repr(net)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), out)
        assert other.graph == net.graph


def test_a_sub_graph_and_one_that_is_twice_in_an_edge():
    inner = chain(3, 3, lif=lif(3), scale=Node("Scale", {"scale": SCALE[:3]}))
    outer = chain(4, 3, fc=Node("Affine", AFFINE), part=inner)
    with pytest.warns(UserWarning, match="come more than once"):
        twice = Graph(outer.nodes, (*outer.edges, outer.edges[0]))
    flat = chain(4, 3, fc=Node("Affine", AFFINE), lif=lif(3), scale=Node("Scale", {"scale": SCALE[:3]}))
    x = noise(20, 2, 4, seed=5)
    nets = [from_nir(graph, dt=DT) for graph in (outer, twice, flat)]
    assert nets[0].places == {"fc": "fc", "part.lif": "part_lif", "part.scale": "part_scale"}
    assert all(torch.equal(net(x), nets[2](x)) for net in nets[:2])


def recurrent(*back, seed=0, kind="LIF"):
    """fc -> n with a path of nodes from n to itself."""
    nodes = {
        "in": Node("Input", {"shape": 4}),
        "fc": Node("Affine", AFFINE),
        "n": Node(kind, parameters(kind, 3, DT, seed)),
    }
    nodes |= {f"back{k}": node for k, node in enumerate(back)} | {"out": Node("Output", {"shape": 3})}
    loop = ["n", *(f"back{k}" for k in range(len(back))), "n"]
    return Graph(nodes, (("in", "fc"), ("fc", "n"), ("n", "out"), *itertools.pairwise(loop)))


def looped(x, w, p):
    """A plain loop: LIF with the spikes of the step before, through the weights w."""
    v, s, spikes = p["v_leak"], np.zeros(3), []
    for x_t in x @ AFFINE["weight"].T.astype(float) + AFFINE["bias"]:
        v = v + DT / p["tau"] * (p["v_leak"] - v + p["r"] * (x_t + s @ w.T))
        s = (v > p["v_threshold"]).astype(float)
        v = np.where(s == 1, p["v_reset"], v)
        spikes.append(s)
    return np.stack(spikes)


W, U = drawn(3, 3), drawn(3, 3)


@pytest.mark.parametrize(
    ("back", "weight", "places"),
    [
        ([Node("Linear", {"weight": W})], W, {"back0": "n.feedback"}),
        ([Node("Affine", {"weight": W, "bias": np.zeros(3)})], W, {"back0": "n.feedback"}),
        ([], np.eye(3), {}),
        ([Node("Linear", {"weight": W}), Node("Scale", {"scale": SCALE[:3]})], W * SCALE[:3, None],
         {"back0": "n.feedback.back0", "back1": "n.feedback.back1"}),
    ],
    ids=["Linear", "Affine", "itself", "two nodes"],
)  # fmt: skip
def test_a_cycle_becomes_recurrent_one_step_late(back, weight, places):
    graph = recurrent(*back)
    net = from_nir(graph, dt=DT)
    assert type(net) is Chain
    assert type(net.n) is Recurrent
    assert net.places == {"fc": "fc", "n": "n.layer", **places}
    x = noise(60, 1, 4, seed=6)
    expected = looped(x[:, 0].double().numpy(), weight.astype(float), parameters("LIF", 3, DT))
    assert 0 < expected.mean() < 1
    assert np.array_equal(net(x)[:, 0].detach().numpy(), expected)
    assert set(to_nir(net, dt=DT).edges) == set(graph.edges)


def test_a_cycle_through_a_convolution_and_one_of_potentials():
    conv = {"input_shape": (4, 4), "stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    conv |= {"weight": drawn(2, 2, 3, 3), "bias": np.zeros(2)}
    nodes = {
        "in": Node("Input", {"shape": (2, 4, 4)}),
        "n": Node("IF", {"r": np.full((2, 4, 4), 500.0), "v_threshold": 1.0}),
    }
    nodes |= {"conv": Node("Conv2d", conv), "out": Node("Output", {"shape": (2, 4, 4)})}
    net = from_nir(Graph(nodes, (("in", "n"), ("n", "conv"), ("conv", "n"), ("n", "out"))), dt=DT)
    x = noise(20, 2, 2, 4, 4, seed=7) + 0.5
    v, s, spikes = torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4), []
    for x_t in x:
        v = v + 0.5 * (x_t + F.conv2d(s, torch.tensor(conv["weight"]), padding=1))
        s = (v > 1).float()
        v = v * (1 - s)
        spikes.append(s)
    assert torch.equal(net(x), torch.stack(spikes))
    li = from_nir(recurrent(Node("Linear", {"weight": 0.1 * W}), kind="LI"), dt=DT)
    assert li(noise(9, 2, 4, seed=8)).isfinite().all()


SECOND = {"n2": Node("LIF", parameters("LIF", 3, DT))}


@pytest.mark.parametrize(
    ("edges", "more", "match"),
    [
        ((("n", "n2"), ("n2", "n")), SECOND, r"edge \('n2', 'n'\) closes has no counterpart"),
        ((("fc2", "fc"), ("n", "fc2")), {"fc2": Node("Linear", {"weight": drawn(4, 3)})}, r"\('fc2', 'fc'\) closes"),
        ((("n", "d"), ("d", "n")), {"d": Node("Delay", {"delay": np.full(3, DT)})}, r"\('d', 'n'\) closes"),
        ((("n", "w"), ("w", "n"), ("w", "out")), {"w": Node("Linear", {"weight": W})}, r"\('w', 'n'\) closes"),
        ((("n", "w"), ("w", "n"), ("fc", "w")), {"w": Node("Linear", {"weight": W})}, "closes has no counterpart"),
        ((("n", "w"), ("w", "n"), ("n", "n")), {"w": Node("Linear", {"weight": W})}, r"Several cycles go through one of \['n'\]"),
    ],
)  # fmt: skip
def test_other_cycles_are_refused_by_name(edges, more, match):
    graph = chain(4, 3, fc=Node("Affine", AFFINE), n=lif(3))
    with pytest.raises(ValueError, match=match):
        from_nir(Graph({**graph.nodes, **more}, (*graph.edges, *edges)), dt=DT)


def test_a_delay_of_each_feature_and_what_is_carried():
    delay = np.array([0.0, 0.001, 0.004, 0.002])
    net = from_nir(chain(4, 4, d=Node("Delay", {"delay": delay})), dt=DT)
    x = noise(12, 3, 4, seed=9)
    expected = torch.zeros_like(x)
    for feature, steps in enumerate((0, 1, 4, 2)):
        expected[steps:, :, feature] = x[: 12 - steps, :, feature]
    assert torch.equal(net(x), expected)
    assert "0 to 4 steps" in repr(net)
    with tfexplore.carry(net):
        assert torch.equal(torch.cat([net(part) for part in x.split([1, 2, 0, 9])]), expected)
    out, state = net.d(x[:5], return_state=True)
    assert torch.equal(torch.cat([out, net.d(x[5:], state)]), expected)
    lengths = torch.tensor([12, 5, 0])
    cut, (last,) = net.d(x, lengths=lengths, return_state=True)
    assert torch.equal(cut[:5, 1], expected[:5, 1])
    assert not cut[5:, 1].any()
    assert torch.equal(last[:, 1], x[1:5, 1])
    assert not last[:, 2].any()
    leaf = x.clone().requires_grad_()
    net(leaf).sum().backward()
    assert leaf.grad[:, 0].sum(0).tolist() == [12.0, 11.0, 8.0, 10.0]
    with pytest.raises(ValueError, match="last inputs must be"):
        net.d(x[:, :1], state)


def test_a_delay_is_a_whole_number_of_steps():
    tiny = np.full(4, 0.003, np.float32)  # 3.0000000875 steps: a rounding
    assert from_nir(chain(4, 4, d=Node("Delay", {"delay": tiny})), dt=DT).d.most == 3
    assert torch.equal(Delay(torch.tensor(0))(x := noise(3, 1, 2, seed=0)), x)
    with pytest.raises(ValueError, match=r"Node 'd': a delay of 0.0025 s is 2.5 steps of 0.001 s"):
        from_nir(chain(4, 4, d=Node("Delay", {"delay": np.array([0.001, 0.0025, 0, 0])})), dt=DT)


def test_a_delay_of_all_features_is_one_number():
    """An array of no axes, as a file has it."""
    net = from_nir(chain(2, 2, d=Node("Delay", {"delay": np.array(0.002)})), dt=DT)
    x = noise(5, 1, 2, seed=0)
    assert torch.equal(net(x), torch.cat([torch.zeros(2, 1, 2), x[:3]]))


@pytest.mark.parametrize("seconds", [2000.0, 1e300])
def test_a_delay_beyond_all_memory_is_refused(seconds):
    for delay in (np.array(seconds), np.array([0.0, seconds])):
        with pytest.raises(ValueError, match=r"Node 'd': a delay of .* and at most 1,000,000 are kept"):
            from_nir(chain(2, 2, d=Node("Delay", {"delay": delay})), dt=DT)


def test_how_far_a_step_may_go():
    graph = chain(
        3, 3, n=Node("CubaLI", {"tau_mem": np.full(3, 0.01), "tau_syn": np.full(3, 0.0015), "r": 1.0, "v_leak": 0.0})
    )
    with pytest.warns(UserWarning, match=r"dt / tau is above 0.5 at 'n' \(0.67 of tau_syn\)"):
        from_nir(graph, dt=DT)
    with pytest.raises(ValueError, match=r"Node 'n': dt = 0.002 s is longer than its tau_syn = 0.0015 s.*leak='exact'"):
        from_nir(graph, dt=0.002)
    assert from_nir(graph, dt=0.002, leak="exact").n.neuron.rate_syn == pytest.approx(1 - np.exp(-4 / 3))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"dt": 0.0}, "dt must be a finite number above 0"),
        ({"dt": float("nan")}, "dt must be"),
        ({"dt": True}, "dt must be"),
        ({"leak": "Euler"}, "leak must be 'euler' or 'exact', but got 'Euler'"),
        ({"reset": "none"}, "reset must be 'hard' or 'soft'"),
        ({"dtype": torch.int32}, "dtype must be"),
    ],
)
def test_arguments_are_checked(given, match):
    with pytest.raises(ValueError, match=match):
        from_nir(chain(3, 3, n=lif(3)), **{"dt": DT, **given})


def test_dt_is_never_a_default():
    with pytest.raises(TypeError, match="dt"):
        from_nir(chain(3, 3, n=lif(3)))
    with pytest.raises(TypeError, match=r"takes a Graph, a nir.NIRGraph or the path of a file, but got int"):
        from_nir(3, dt=DT)


@pytest.mark.parametrize(
    ("nodes", "shape", "match"),
    [
        ({"fc": Node("Affine", AFFINE)}, (5,), r"Node 'fc': it takes \(4,\), but gets \(5,\)"),
        ({"fc": Node("Affine", AFFINE)}, (2, 4), r"Node 'fc': it takes \(4,\), but gets \(2, 4\)"),
        ({"fc": Node("Linear", {"weight": drawn(2, 3, 4)})}, (2, 4), "Node 'fc': its weight must be a matrix"),
        ({"n": lif(3)}, (4,), r"Node 'n': it has values for \(3,\), but gets \(4,\)"),
        ({"n": lif(3)}, (3, 2), r"Node 'n': it has values for \(3,\), but gets \(3, 2\)"),
        ({"c": Node("Conv2d", CONV)}, (3, 9, 8), r"Node 'c': it takes 4 channels of \(9, 8\), but gets \(3, 9, 8\)"),
        ({"c": Node("Conv2d", CONV)}, (4, 8, 8), r"Node 'c': it takes 4 channels of \(9, 8\), but gets \(4, 8, 8\)"),
        ({"c": Node("Conv1d", LINE)}, (4, 9, 9), r"Node 'c': it takes 4 channels of 9, but gets \(4, 9, 9\)"),
        ({"c": Node("Conv2d", {**SAME, "stride": 2})}, (4, 9, 8), "Node 'c': padding='same' is not supported"),
        ({"f": Node("Flatten", {})}, (4,), r"Node 'f': it cannot flatten the axes 1 to -1 of \(4,\)"),
        ({"fc": Node("Affine", AFFINE)}, (4,), r"Node 'out' is an Output of \(9,\), but gets \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_the_node(nodes, shape, match):
    with pytest.raises(ValueError, match=match):
        from_nir(chain(shape, 9, **nodes), dt=DT)


def test_graphs_of_other_forms_are_refused():
    graph = chain(4, 3, fc=Node("Affine", AFFINE))
    two = Graph({**graph.nodes, "in2": Node("Input", {"shape": 4})}, (*graph.edges, ("in2", "fc")))
    with pytest.raises(ValueError, match="one Input, but got 2: in, in2"):
        from_nir(two, dt=DT)
    unlike = Graph(
        {**graph.nodes, "fc2": Node("Linear", {"weight": drawn(2, 4)})}, (*graph.edges, ("in", "fc2"), ("fc2", "out"))
    )
    with pytest.raises(ValueError, match="Node 'out' sums what has different shapes"):
        from_nir(unlike, dt=DT)


@pytest.mark.parametrize("name", ["forward", "graph", "a.b", "training", "sources", "append", "a_b_"])
def test_any_name_of_a_node_finds_a_module(name):
    net = from_nir(chain(4, 3, **{name: Node("Affine", AFFINE), "a_b": lif(3)}), dt=DT)
    assert type(net.get_submodule(net.places[name])) is torch.nn.Linear
    assert net(noise(3, 2, 4, seed=0)).shape == (3, 2, 3)
    assert list(to_nir(net, dt=DT).nodes) == ["in", name, "a_b", "out"]


def test_an_input_straight_to_the_output():
    nodes = {"in": Node("Input", {"shape": 4}), "out": Node("Output", {"shape": 4})}
    net = from_nir(Graph(nodes, (("in", "out"),)), dt=DT)
    assert torch.equal(net(x := noise(3, 2, 4, seed=0)), x)


def test_a_soft_reset_when_asked_for():
    graph = chain(1, 1, n=Node("IF", {"r": np.full(1, 1.0), "v_threshold": 1.0}))
    x = torch.full((4, 1, 1), 0.75)
    assert from_nir(graph, dt=1.0)(x).flatten().tolist() == [0.0, 1.0, 0.0, 1.0]
    assert from_nir(graph, dt=1.0, reset="soft")(x).flatten().tolist() == [0.0, 1.0, 1.0, 0.0]


def test_a_sum_pool_is_no_average_of_torchs():
    assert SumPool2d(2)(torch.ones(1, 1, 2, 4)).tolist() == [[[[4.0, 4.0]]]]
