"""NIR files: exchanged with nir's own reader and writer both ways, the same bits; old files; nothing left half written."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.exchange.nir_graphs import EACH, around, chain, ends, graphs, nested, real, some
from tfexplore import exchange
from tfexplore.exchange import Graph, Node

h5py = pytest.importorskip("h5py", reason="NIR files are HDF5: pip install h5py")
nir = pytest.importorskip("nir", reason="compared with nir's own reader and writer: pip install nir")

SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def same_arrays(theirs: Any, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        found = theirs.input_type["input"] if name == "input_type" else getattr(theirs, name)
        np.testing.assert_array_equal(found, value)
        if isinstance(value, np.ndarray):
            assert (found.dtype, found.tobytes()) == (value.dtype, value.tobytes())


@pytest.mark.parametrize("kind", EACH)
def test_nir_reads_ours_and_we_read_nirs(tmp_path: Path, kind: str) -> None:
    graph = around(kind)
    exchange.write(graph, tmp_path / "ours.nir")
    theirs = nir.read(tmp_path / "ours.nir")  # its own check of types and shapes included
    assert type(theirs.nodes["node"]) is getattr(nir, kind)
    same_arrays(theirs.nodes["node"], EACH[kind][1])
    assert theirs.nodes["node"].metadata == {"made": "for a test"}
    assert exchange.read(tmp_path / "ours.nir") == graph
    nir.write(tmp_path / "theirs.nir", theirs)
    assert exchange.read(tmp_path / "theirs.nir") == graph


@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d"])
def test_padding_as_a_word(tmp_path: Path, kind: str) -> None:
    shape, parameters, _ = EACH[kind]
    given = parameters | {"padding": "same", "stride": 1}
    graph = Graph(ends(shape, (4, *shape[1:])) | {"node": Node(kind, given)}, chain("input", "node", "output"))
    exchange.write(graph, tmp_path / "a.nir")
    assert nir.read(tmp_path / "a.nir").nodes["node"].padding == "same"
    assert exchange.read(tmp_path / "a.nir") == graph


@SAME_FOLDER
@given(graphs())
def test_random_graphs(tmp_path: Path, graph: Graph) -> None:
    """Ours, file, ours; ours, file, nir, file, ours: the same bits."""
    exchange.write(graph, tmp_path / "ours.nir")
    assert exchange.read(tmp_path / "ours.nir") == graph
    nir.write(tmp_path / "theirs.nir", nir.read(tmp_path / "ours.nir", type_check=False))
    assert exchange.read(tmp_path / "theirs.nir") == graph


def test_sub_graphs_and_metadata(tmp_path: Path) -> None:
    graph = nested(3)
    metadata = {"text": "é", "number": 3, "part": {"x": some(2, 2), "yes": True, "f": 0.1}, "words": ("a", "bc")}
    graph = Graph(graph.nodes, graph.edges, metadata)
    exchange.write(graph, tmp_path / "a.nir")
    assert exchange.read(tmp_path / "a.nir") == graph
    theirs = nir.read(tmp_path / "a.nir", type_check=False)
    assert theirs.metadata["text"] == "é"
    assert theirs.metadata["part"]["f"] == 0.1
    assert set(theirs.nodes["sub"].nodes["sub"].nodes) == {"input", "output", "a", "b", "sub"}
    exchange.write(nested(32), tmp_path / "deep.nir")
    assert exchange.read(tmp_path / "deep.nir") == nested(32)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}], ids=["plain", "all"]
)
def test_other_storage(tmp_path: Path, options: dict[str, Any]) -> None:
    """What another writer may choose: no compression or all of it, several chunks, big-endian numbers, texts of one length."""
    weight = some(40, 30)
    exchange.write(
        Graph(ends(30, 40) | {"a": Node("Linear", {"weight": weight})}, chain("input", "a", "output")), tmp_path / "a"
    )
    with h5py.File(tmp_path / "a", "r+") as file:
        for name in ("node/nodes/a/weight", "node/nodes/a/type", "node/edges"):
            del file[name]
        chunks = (16, 16) if options else None
        file.create_dataset("node/nodes/a/weight", data=weight.astype(">f4"), chunks=chunks, **options)
        file["node/nodes/a/type"] = np.bytes_(b"Linear")
        file["node/edges"] = np.array([[b"input", b"a"], [b"a", b"output"]])
    found = exchange.read(tmp_path / "a")
    assert found.edges == chain("input", "a", "output")
    assert found.nodes["a"].parameters["weight"].dtype == np.float32
    np.testing.assert_array_equal(found.nodes["a"].parameters["weight"], weight)


def test_a_file_without_v_reset_says_it_once(tmp_path: Path) -> None:
    nodes = ends() | {"a": Node("IF", {"r": some(2), "v_threshold": some(2)})}
    inner = Graph(nodes, chain("input", "a", "output"))
    exchange.write(Graph(nodes | {"s": inner}, chain("input", "a", "s", "output")), tmp_path / "old.nir")
    with h5py.File(tmp_path / "old.nir", "r+") as file:
        del file["node/nodes/a/v_reset"], file["node/nodes/s/nodes/a/v_reset"]
    with pytest.warns(
        UserWarning, match=r"old.nir: 2 nodes have no v_reset, the first 'a': taken as a reset to 0"
    ) as caught:
        graph = exchange.read(tmp_path / "old.nir")
    assert len(caught) == 1
    np.testing.assert_array_equal(graph.nodes["a"].parameters["v_reset"], np.zeros(2, np.float32))
    assert graph == Graph.from_nir(nir.read(tmp_path / "old.nir"))


@pytest.mark.parametrize("name", ["lif_norse.nir", "cnn_sinabs.nir", "braille_noDelay_noBias_subtract.nir"])
def test_real_graphs(tmp_path: Path, name: str) -> None:
    path = real(name)
    with pytest.warns(UserWarning, match="have no v_reset"):
        graph = exchange.read(path)
    theirs = nir.read(path)
    assert graph.nodes.keys() == theirs.nodes.keys()
    assert list(graph.edges) == theirs.edges
    for node, found in theirs.nodes.items():
        if node not in ("input", "output"):
            same_arrays(found, dict(graph.nodes[node].parameters))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # v_reset is there now
        exchange.write(graph, tmp_path / "a.nir")
        assert exchange.read(tmp_path / "a.nir") == graph


UNWRITABLE = {
    "a slash": (
        Graph(ends() | {"a/b": Node("I", {"r": 1})}, chain("input", "a/b", "output")),
        r"no '/', but got 'a/b'",
    ),
    "a dot": (Graph(ends() | {".": Node("I", {"r": 1})}, chain("input", ".", "output")), "but got '.'"),
    "no name": (Graph(ends() | {"": Node("I", {"r": 1})}, chain("input", "", "output")), "but got ''"),
    "metadata": (Graph(ends(), chain("input", "output"), {"a": {"b\0": 1}}), r"must be printable, .* but got 'b\\x00'"),
    "no input_shape": (around("Conv1d", input_shape=None), "'node': Conv1d needs an input_shape in a file"),
}


@pytest.mark.parametrize(("graph", "message"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_is_not_written(tmp_path: Path, graph: Graph, message: str) -> None:
    (tmp_path / "a.nir").write_text("as it was")
    with pytest.raises(ValueError, match=message):
        exchange.write(graph, tmp_path / "a.nir")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.nir", "as it was")]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nir").write_text("as it was")

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match="no space left"):
        exchange.write(around("I"), tmp_path / "a.nir")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.nir", "as it was")]


def test_h5py_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    for call in (lambda: exchange.read(tmp_path), lambda: exchange.write(around("I"), tmp_path / "a")):
        with pytest.raises(ImportError, match="need h5py: pip install h5py"):
            call()
