"""Graphs: what is refused, the order of the nodes against networkx, sub-graphs against a plain evaluation, nir's objects."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given

from tests.exchange.nir_graphs import EACH, around, chain, ends, graphs, nested, real, some
from tfexplore.exchange import Graph, Node
from tfexplore.exchange.kinds import KINDS

SCALE = Node("Scale", {"scale": [2.0, 3.0]})


def test_each_kind_is_tested() -> None:
    assert set(EACH) | {"Input", "Output"} == set(KINDS)


def sub(**changed: Any) -> Graph:
    return Graph(ends() | {"scale": SCALE}, chain("input", "scale", "output"), **changed)


WRONG: dict[str, tuple[dict[str, Any], tuple[Any, ...], str]] = {
    "no node": (
        ends(),
        (("input", "output"), ("input", "a")),
        r"The edge \('input', 'a'\) needs a node 'a', which is not there",
    ),
    "no Input": ({"output": ends()["output"]}, (), "must have a node of the kind Input, but has none"),
    "no Output": ({"input": ends()["input"]}, (), "must have a node of the kind Output, but has none"),
    "into an Input": (
        ends(),
        (*chain("input", "output"), ("input", "input")),
        "goes into an Input or out of an Output",
    ),
    "out of an Output": (
        ends() | {"a": SCALE},
        chain("input", "output", "a"),
        r"The edge \('output', 'a'\) goes into an Input or out of an Output",
    ),
    "not reached": (
        ends() | {"a": SCALE},
        (*chain("input", "output"), ("a", "output")),
        "No Input reaches the node 'a'; 1 nodes",
    ),
    "an edge of three": (ends(), (("input", "output", "x"),), "An edge must be a pair of names"),
    "an edge of text": (ends(), ("io",), "An edge must be a pair of names, but got 'io'"),
}


@pytest.mark.parametrize(("nodes", "edges", "message"), WRONG.values(), ids=WRONG)
def test_a_graph_that_is_none_is_refused(nodes: Any, edges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(nodes, edges)


NODES: dict[str, tuple[str, dict[str, Any], str]] = {
    "kind": ("ALIF", {}, "the kind 'ALIF' is unknown; known are Input, Output, I, IF, "),
    "missing": ("LIF", {"tau": 1.0}, "LIF needs the parameter 'r', which is missing"),
    "missing as None": ("I", {"r": None}, "I needs the parameter 'r', which is missing"),
    "missing where another is like it": ("IF", {"r": 1.0}, "IF needs the parameter 'v_threshold', which is missing"),
    "other": ("I", {"r": 1.0, "tau": 1.0}, "I has no parameter 'tau'; it has r"),
    "tau 0": ("LI", EACH["LI"][1] | {"tau": [0.1, 0]}, "tau of LI must be above 0, but got 0.0"),
    "tau_mem": ("CubaLI", EACH["CubaLI"][1] | {"tau_mem": -1}, "tau_mem of CubaLI must be above 0, but got -1"),
    "tau_syn": ("CubaLIF", EACH["CubaLIF"][1] | {"tau_syn": 0}, "tau_syn of CubaLIF must be above 0, but got 0"),
    "NaN": ("I", {"r": [1, np.nan]}, "r of I must be finite, but got values from nan to nan"),
    "infinite": ("Threshold", {"threshold": [1, np.inf]}, "must be finite, but got values from 1.0 to inf"),
    "-infinite": ("Linear", {"weight": [[-np.inf]]}, "weight of Linear must be finite"),
    "text": ("I", {"r": "1"}, "r of I must be numbers of up to 64 bits, but got dtype <U1"),
    "complex": ("I", {"r": 1j}, "but got dtype complex128"),
    "bool": ("I", {"r": True}, "but got dtype bool"),
    "nothing": ("I", {"r": np.ones((2, 0))}, r"r of I must have an element, but got shape \(2, 0\)"),
    "shapes": (
        "LI",
        {"tau": [1, 1], "r": [1], "v_leak": 0},
        r"must have one shape, but got \{'tau': \(2,\), 'r': \(1,\)\}",
    ),
    "delay": ("Delay", {"delay": -1.0}, "delay of Delay must be 0 or more, but got -1"),
    "vector": ("Linear", {"weight": [1.0]}, r"weight of Linear must have 2 dimensions or more, but got shape \(1,\)"),
    "bias": (
        "Affine",
        {"weight": np.ones((2, 3)), "bias": np.ones(3)},
        r"bias of Affine must have shape \(2,\), .*\(3,\)",
    ),
    "kernel": ("Conv1d", EACH["Conv1d"][1] | {"weight": np.ones((2, 2))}, "weight of Conv1d must have 3 dimensions"),
    "bias of Conv": ("Conv2d", EACH["Conv2d"][1] | {"bias": np.ones(3)}, r"bias of Conv2d must have shape \(4,\)"),
    "groups": (
        "Conv1d",
        EACH["Conv1d"][1] | {"groups": 3},
        "groups of Conv1d must divide the 4 output channels, but got 3",
    ),
    "stride 0": ("SumPool2d", EACH["SumPool2d"][1] | {"stride": 0}, r"from 1 to 2147483647, but got \(0, 0\)"),
    "padding": (
        "Conv2d",
        EACH["Conv2d"][1] | {"padding": "full"},
        "must be 'same' or 'valid' or whole numbers, but got 'full'",
    ),
    "a float": (
        "Conv2d",
        EACH["Conv2d"][1] | {"dilation": 1.0},
        "dilation of Conv2d must be whole numbers, but got dtype float",
    ),
    "three": ("AvgPool2d", EACH["AvgPool2d"][1] | {"kernel_size": (1, 2, 3)}, "must be 2 whole numbers"),
    "huge": ("Input", {"shape": (2**40,)}, "shape of Input must be from 1 to 2147483647"),
    "dimensions": ("Input", {"shape": [1] * 33}, "shape of Input must be whole numbers"),
}


@pytest.mark.parametrize(("kind", "parameters", "message"), NODES.values(), ids=NODES)
def test_a_node_that_is_none_is_refused_by_name(kind: str, parameters: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Node 'wrong': .*{message}") as caught:
        Graph(ends() | {"wrong": Node(kind, parameters)}, chain("input", "wrong", "output"))
    assert len(str(caught.value)) < 400


def test_what_may_be_missing() -> None:
    """As nir's own classes: v_reset 0 and w_in 1, in the dtype of the other parameters."""
    nir = pytest.importorskip("nir", reason="compared with nir")
    given = {name: some(3) for name in ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold")}
    node = Graph(ends() | {"a": Node("CubaLIF", given)}, chain("input", "a", "output")).nodes["a"]
    theirs = nir.CubaLIF(**given)
    for name in ("v_reset", "w_in"):
        ours = node.parameters[name]
        assert ours.dtype == getattr(theirs, name).dtype == np.float32
        np.testing.assert_array_equal(ours, getattr(theirs, name))


def test_a_number_stands_for_all_neurons() -> None:
    node = Graph(
        ends() | {"a": Node("LI", {"tau": some(2), "r": 3, "v_leak": 0.5})}, chain("input", "a", "output")
    ).nodes["a"]
    assert node.parameters["r"].tolist() == [3, 3]
    assert node.parameters["v_leak"].tolist() == [0.5, 0.5]


def test_an_edge_that_comes_twice_is_one_edge_and_said() -> None:
    with pytest.warns(UserWarning, match="1 edges come more than once .* the first from 'input' to 'output'"):
        graph = Graph(ends(), (("input", "output"),) * 3)
    assert graph.edges == (("input", "output"),)


def test_values_are_frozen() -> None:
    graph = sub()
    with pytest.raises(FrozenInstanceError):
        graph.edges = ()  # type: ignore[misc]
    with pytest.raises(TypeError, match="unhashable"):
        hash(graph)


def test_equal_is_bit_for_bit() -> None:
    one = around("I", r=np.array([0.0, 1.0]))
    assert one == around("I", r=np.array([0.0, 1.0]))
    assert one != around("I", r=np.array([-0.0, 1.0]))
    assert one != around("I", r=np.array([0.0, 1.0], np.float32))
    assert one != around("I", r=np.array([[0.0, 1.0]]))
    assert one != around("I", r=np.array([0.0, np.nextafter(1.0, 2)]))
    assert one.nodes["node"] != Node("Scale", one.nodes["node"].parameters)
    assert sub() != sub(metadata={"a": 1})
    assert sub(metadata={"a": 1}) != sub(metadata={"a": 1.0})
    assert one != "a graph"


def plain_graph(graph: Graph) -> nx.DiGraph:
    theirs = nx.DiGraph(graph.edges)
    theirs.add_nodes_from(graph.nodes)
    return theirs


@given(graphs())
def test_the_order_is_a_topological_one_without_the_back_edges(graph: Graph) -> None:
    order, back = graph.order()
    theirs = plain_graph(graph)
    assert sorted(order) == sorted(theirs)
    assert len(set(back)) == len(back)
    for source, target in back:  # each closes a cycle
        assert nx.has_path(theirs, target, source)
    assert bool(back) is not nx.is_directed_acyclic_graph(theirs)
    theirs.remove_edges_from(back)
    assert nx.is_directed_acyclic_graph(theirs)
    place = {name: i for i, name in enumerate(order)}
    assert all(place[source] < place[target] for source, target in theirs.edges)
    assert {name: set(sources) for name, sources in graph.predecessors().items()} == {
        name: set(plain_graph(graph).predecessors(name)) for name in graph.nodes
    }


def test_the_back_edge_of_a_recurrent_layer_is_that_of_its_weights() -> None:
    nodes = ends() | {"fc": SCALE, "lif": SCALE, "w_rec": SCALE}
    graph = Graph(nodes, (*chain("input", "fc", "lif", "w_rec", "lif"), ("lif", "output")))
    assert graph.order() == (("input", "fc", "lif", "output", "w_rec"), (("w_rec", "lif"),))


def test_a_long_chain_needs_no_recursion() -> None:
    names = [f"n{i}" for i in range(20_000)]
    graph = Graph(ends() | dict.fromkeys(names, SCALE), chain("input", *names, "output"))
    assert graph.order() == (("input", *names, "output"), ())


def value(graph: Graph, x: np.ndarray) -> np.ndarray:
    """What comes out of a graph of Scales without cycles: nodes by recursion, sub-graphs as functions."""

    def of(name: str) -> np.ndarray:
        node = graph.nodes[name]
        given = (
            x if graph.kind(name) == "Input" else sum(of(source) for source, target in graph.edges if target == name)
        )
        if isinstance(node, Graph):
            return value(node, given)
        return given * node.parameters["scale"] if node.kind == "Scale" else given

    return of("output")


def scale(number: int) -> Node:
    return Node("Scale", {"scale": np.array([float(number), 1.0])})


def test_without_sub_graphs_it_is_the_same_network() -> None:
    two = Graph(
        ends() | {"a": scale(2), "b": scale(3), "c": scale(5)},
        (("input", "a"), ("input", "b"), ("a", "c"), ("b", "c"), ("c", "output"), ("a", "output")),
    )
    middle = Graph(ends() | {"s": two, "t": sub()}, (*chain("input", "s", "t", "output"), ("s", "output")))
    outer = Graph(
        ends() | {"x": scale(7), "y": scale(11), "m": middle, "z": scale(13)},
        (("input", "x"), ("input", "y"), ("x", "m"), ("y", "m"), ("m", "z"), ("m", "output"), ("z", "output")),
    )
    flat = outer.flat()
    assert set(flat.nodes) == {"input", "output", "x", "y", "z", "m.s.a", "m.s.b", "m.s.c", "m.t.scale"}
    assert not any(isinstance(node, Graph) for node in flat.nodes.values())
    x = np.array([1.0, 10.0])
    np.testing.assert_array_equal(value(flat, x), value(outer, x))
    assert flat.flat() == flat


def test_edges_of_a_sub_graph_to_itself_and_straight_through_it() -> None:
    recurrent = Graph(ends() | {"s": sub()}, (*chain("input", "s", "output"), ("s", "s"))).flat()
    assert set(recurrent.edges) == {("input", "s.scale"), ("s.scale", "s.scale"), ("s.scale", "output")}
    skip = Graph(ends() | {"a": scale(3)}, (*chain("input", "a", "output"), ("input", "output")))
    flat = Graph(ends() | {"x": scale(2), "s": skip}, chain("input", "x", "s", "output")).flat()
    assert set(flat.edges) == {("input", "x"), ("x", "s.a"), ("s.a", "output"), ("x", "output")}
    straight = Graph(ends(), chain("input", "output"))
    both = Graph(ends() | {"a": scale(2), "s": straight}, (*chain("input", "a", "s", "output"), ("a", "output")))
    with pytest.raises(ValueError, match=r"the edge \('a', 'output'\) is there twice: put a Scale into one of the two"):
        both.flat()  # one edge would be half of the sum
    itself = Graph(ends() | {"s": straight}, (*chain("input", "s", "output"), ("s", "s")))
    with pytest.raises(ValueError, match="hands on what it gives itself: a cycle without a node"):
        itself.flat()


def test_sub_graphs_that_cannot_be_flattened() -> None:
    two = Graph(ends() | {"other": Node("Input", {"shape": 2})}, (("input", "output"), ("other", "output")))
    with pytest.raises(ValueError, match=r"sub-graph 's' must have one Input and one Output"):
        Graph(ends() | {"s": two}, chain("input", "s", "output")).flat()
    taken = Graph(ends() | {"s": sub(), "s.scale": SCALE}, chain("input", "s", "s.scale", "output"))
    with pytest.raises(ValueError, match=r"two nodes are named 's\.scale'; rename one"):
        taken.flat()
    inside = {f"a{i}": SCALE for i in range(400)}
    wide = Graph(ends() | inside, tuple(e for name in inside for e in chain("input", name, "output")))
    outer = Graph(
        ends() | inside | {"s": wide}, (("s", "output"), *(e for name in inside for e in chain("input", name, "s")))
    )
    with pytest.raises(ValueError, match="more than 100,000 edges"):
        outer.flat()


def test_depth_is_bounded() -> None:
    graph = nested(32)
    assert graph.depth == 32
    assert len(graph.flat().nodes) == 2 + 32 * 2 + 1
    with pytest.raises(ValueError, match="Sub-graphs must be at most 32 deep, but got 33"):
        Graph(ends() | {"s": graph}, chain("input", "s", "output"))
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="metadata must be at most 32 deep"):
        sub(metadata=deep)


@pytest.mark.parametrize("kind", EACH)
def test_to_nir_and_from_it(kind: str) -> None:
    """nir's object has the very arrays; its own checks of types and shapes pass."""
    nir = pytest.importorskip("nir", reason="compared with nir")
    graph = around(kind)
    theirs = graph.to_nir()
    node = theirs.nodes["node"]
    assert type(node) is getattr(nir, kind)
    shape, parameters, out = EACH[kind]
    for name, expected in parameters.items():
        found = node.input_type["input"] if name == "input_type" else getattr(node, name)
        np.testing.assert_array_equal(found, expected)
        if isinstance(expected, np.ndarray):
            assert found.dtype == expected.dtype
    assert tuple(theirs.nodes["input"].input_type["input"]) == shape
    assert tuple(theirs.nodes["output"].output_type["output"]) == out
    assert Graph.from_nir(theirs) == graph


@given(graphs())
def test_random_graphs_to_nir_and_from_it(graph: Graph) -> None:
    pytest.importorskip("nir", reason="compared with nir")
    assert Graph.from_nir(graph.to_nir(type_check=False)) == graph


@pytest.mark.parametrize("name", ["lif_norse.nir", "cnn_sinabs.nir", "braille_noDelay_noBias_subtract.nir"])
def test_real_graphs(name: str) -> None:
    nir = pytest.importorskip("nir", reason="compared with nir")
    graph = Graph.from_nir(nir.read(real(name)))
    order, back = graph.order()
    assert len(order) == len(graph.nodes)
    assert back == ((("lif1.w_rec", "lif1.lif"),) if "braille" in name else ())
    assert graph.flat() == graph


def test_importing_loads_nothing_that_is_used_later() -> None:
    text = "import sys, tfexplore.exchange; print([name for name in ('h5py', 'nir', 'jax') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nir_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match="come with nir: pip install nir"):
        sub().to_nir()
