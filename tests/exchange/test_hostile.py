"""Hostile and damaged NIR files: one clear error each, in little time and memory, and nothing read from another file."""

from __future__ import annotations

import os
import resource
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchange.nir_graphs import around, chain, ends, nested, some
from tfexplore import exchange
from tfexplore.exchange import Graph, Node, survey

h5py = pytest.importorskip("h5py", reason="NIR files are HDF5: pip install h5py")

GRAPH = Graph(
    ends(3, 5)
    | {
        "li": around("LI", tau=some(3), r=some(3), v_leak=some(3)).nodes["node"],
        "w": Node("Linear", {"weight": some(5, 3)}),
    },
    chain("input", "li", "w", "output"),
    {"who": "a test"},
)
WEIGHT = "node/nodes/w/weight"


def replaced(name: str, value: Any = None, **options: Any) -> Callable[[Any, Path], None]:
    """A file in which this data set is another one."""

    def change(file: Any, folder: Path) -> None:
        del file[name]
        file.create_dataset(name, data=value, **options)

    return change


def soft(file: Any, folder: Path) -> None:
    file["secret"] = np.ones((5, 3))
    del file[WEIGHT]
    file[WEIGHT] = h5py.SoftLink("/secret")


def external(target: str, name: str = WEIGHT) -> Callable[[Any, Path], None]:
    def change(file: Any, folder: Path) -> None:
        os.mkfifo(folder / "fifo")  # whoever opens it hangs
        with h5py.File(folder / "other", "w") as other:
            other["x"] = np.ones((5, 3))
        del file[name]
        file[name] = h5py.ExternalLink(target, "/x")

    return change


def external_storage(file: Any, folder: Path) -> None:
    (folder / "secret").write_bytes(some(5, 3).tobytes())
    replaced(WEIGHT, shape=(5, 3), dtype="f4", external=[(str(folder / "secret"), 0, 60)])(file, folder)


def virtual(unlimited: bool) -> Callable[[Any, Path], None]:
    def change(file: Any, folder: Path) -> None:
        os.mkfifo(folder / "fifo")
        most = (None, 3) if unlimited else (5, 3)
        layout = h5py.VirtualLayout((5, 3), "f4", maxshape=most)
        source = h5py.VirtualSource(str(folder / "fifo"), "x", (5, 3), "f4", maxshape=most)
        if unlimited:
            layout[: h5py.h5s.UNLIMITED, :] = source[: h5py.h5s.UNLIMITED, :]
        else:
            layout[:] = source
        del file[WEIGHT]
        file.create_virtual_dataset(WEIGHT, layout)

    return change


def cycle(file: Any, folder: Path) -> None:
    file["node/nodes/w/metadata"] = file["node"]


def diamond(file: Any, folder: Path) -> None:
    """40 levels, each with two links to the next: 2**40 paths."""
    group = file.create_group("node/nodes/w/metadata")
    for _ in range(40):
        below = group.create_group("a")
        group["b"] = below
        group = below


def deep(file: Any, folder: Path) -> None:
    group = file["node/nodes/w"].create_group("metadata")
    for _ in range(1_200):
        group = group.create_group("a")


def sub_graphs(file: Any, folder: Path) -> None:
    """Sub-graphs 33 deep: within what the survey of groups allows."""
    exchange.write(nested(32), folder / "deep.nir")
    with h5py.File(folder / "deep.nir") as other:
        del file["node/nodes/w"]
        other.copy("node", file["node/nodes"], "w")


def bomb(file: Any, folder: Path) -> None:
    """One chunk of 60 bytes that inflates to 64 MiB: HDF5 would go on inflating."""
    replaced(WEIGHT, shape=(5, 3), dtype="f4", chunks=(5, 3), compression="gzip")(file, folder)
    file[WEIGHT].id.write_direct_chunk((0, 0), zlib.compress(bytes(2**26)))


def short_chunk(file: Any, folder: Path) -> None:
    replaced(WEIGHT, shape=(5, 3), dtype="f4", chunks=(5, 3), compression="gzip")(file, folder)
    file[WEIGHT].id.write_direct_chunk((0, 0), zlib.compress(bytes(8)))


def cut_chunk(file: Any, folder: Path) -> None:
    replaced(WEIGHT, shape=(5, 3), dtype="f4", chunks=(5, 3), compression="gzip")(file, folder)
    file[WEIGHT].id.write_direct_chunk((0, 0), zlib.compress(some(5, 3).tobytes())[:-6])


def no_zlib(file: Any, folder: Path) -> None:
    replaced(WEIGHT, shape=(5, 3), dtype="f4", chunks=(5, 3), compression="gzip")(file, folder)
    file[WEIGHT].id.write_direct_chunk((0, 0), bytes(60))


def gzip_twice(file: Any, folder: Path) -> None:
    """Two filters of a thousand to one each."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((5, 3))
    for _ in range(2):
        plan.set_deflate(9)
    del file[WEIGHT]
    h5py.h5d.create(file["node/nodes/w"].id, b"weight", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((5, 3)), plan)


def long_name(file: Any, folder: Path) -> None:
    file["node/nodes"]["x" * 60_000] = file["node/nodes/w/type"]


def null(file: Any, folder: Path) -> None:
    del file[WEIGHT]
    file[WEIGHT] = h5py.Empty("f4")


def named_type(file: Any, folder: Path) -> None:
    del file[WEIGHT]
    file[WEIGHT] = np.dtype("f4")


def a_dataset_for(name: str) -> Callable[[Any, Path], None]:
    return replaced(name, 1.0)


NAMES_OF_EDGES = [("input", "li"), ("li", "w"), ("w", "output")]
REFERENCE = h5py.ref_dtype
LONG = h5py.vlen_dtype(np.float32)
HOSTILE: dict[str, tuple[Callable[[Any, Path], None], str]] = {
    "soft link": (soft, f"{WEIGHT} is a soft or external link, which is not followed"),
    "external link": (external("other"), f"{WEIGHT} is a soft or external link"),
    "external link to what hangs": (external("fifo"), f"{WEIGHT} is a soft or external link"),
    "the graph an external link": (external("fifo", "node"), "node is a soft or external link"),
    "external storage": (external_storage, f"{WEIGHT} is stored in another file"),
    "virtual": (virtual(False), f"{WEIGHT} is stored in another file"),
    "virtual, unlimited": (virtual(True), f"{WEIGHT} is stored in another file"),
    "a cycle": (cycle, "the group node/nodes/w/metadata is reached by two ways"),
    "a diamond": (diamond, "is reached by two ways"),
    "deep": (deep, "is 101 groups deep, at most 100 are read"),
    "deep sub-graphs": (sub_graphs, "at most 32 deep, but got 33"),
    "298 GiB": (replaced(WEIGHT, shape=(200_000, 400_000), dtype="f4", chunks=(1000, 1000)), "declares more than most_bytes = "),
    "298 GiB without chunks": (replaced(WEIGHT, shape=(200_000, 400_000), dtype="f4"), "declares more than most_bytes = "),
    "beyond 64 bits": (replaced(WEIGHT, shape=(2**40, 2**40), dtype="f4", chunks=(1, 1)), "declares more than most_bytes = "),
    "a small one in a chunk of 2 GiB": (
        replaced(WEIGHT, shape=(5, 3), maxshape=(None, None), dtype="f4", chunks=(2**15, 2**14), compression="gzip"),
        r"declares more than most_bytes = .* with node/nodes/w/weight it is 2,147,48",
    ),
    "chunks of one": (replaced(WEIGHT, shape=(50_000, 50), dtype="f4", chunks=(1, 1)), "cut into too many chunks"),
    "a long fixed text": (
        replaced("node/nodes/w/type", shape=(2_000,), chunks=(1,), dtype="S1000000"),
        "declares more than most_bytes = ",
    ),
    "many texts": (replaced("node/edges", shape=(10**9, 2), dtype="S1"), "has 2,000,000,000 texts, at most 100,000 edges"),
    "a gzip bomb": (bomb, "declares chunks of 60 bytes, but one has more"),
    "a short chunk": (short_chunk, "declares chunks of 60 bytes, but one has fewer"),
    "a chunk cut off": (cut_chunk, f"{WEIGHT} is damaged: a chunk ends early"),
    "a chunk that is none": (no_zlib, f"{WEIGHT} is damaged: Error -3"),
    "gzip twice": (gzip_twice, r"but has the filters \[1, 1\]"),
    "lzf": (replaced(WEIGHT, some(5, 3), compression="lzf"), r"but has the filters \[32000\]"),
    "scale-offset": (replaced(WEIGHT, some(5, 3), scaleoffset=2), r"but has the filters \[6"),
    "objects": (replaced(WEIGHT, shape=(5, 3), dtype=REFERENCE), "must be numbers or text, but is a TypeReferenceID"),
    "arrays of any length": (replaced(WEIGHT, shape=(5, 3), dtype=LONG), "but is a TypeVlenID"),
    "compound": (replaced(WEIGHT, np.zeros((5, 3), "f4,i4")), "but is a TypeCompoundID"),
    "opaque": (replaced(WEIGHT, np.zeros((5, 3), "V4")), "but is a TypeOpaqueID"),
    "an array as a type": (replaced(WEIGHT, shape=(5,), dtype="(3,)f4"), "but is a TypeArrayID"),
    "no data": (null, f"{WEIGHT} has no data"),
    "a type for a data set": (named_type, f"{WEIGHT} must be a group or a data set, but is a Datatype"),
    "text that is no UTF-8": (replaced("node/nodes/w/type", b"\xff", dtype=h5py.string_dtype()), "type must be text in UTF-8"),
    "text in chunks": (
        replaced("node/edges", NAMES_OF_EDGES, dtype=h5py.string_dtype(), chunks=(1, 2)),
        "node/edges must have its text stored contiguously",
    ),
    "a long name": (long_name, "must be printable, of at most 1,000 letters"),
    "a name with a newline": (lambda file, _: file.create_group("node/nodes/a\nb"), r"the name 'a\\nb' must be printable"),
    "NaN": (replaced(WEIGHT, np.full((5, 3), np.nan)), "Node 'w': weight of Linear must be finite, but got values from nan"),
    "tau -1": (replaced("node/nodes/li/tau", [1.0, -1.0, 1.0]), "Node 'li': tau of LI must be above 0, but got -1"),
    "shapes": (replaced("node/nodes/li/tau", [1.0, 1.0]), r"Node 'li': the parameters of LI must have one shape.*'tau': \(2,\)"),
    "a number of 16 bytes": (replaced(WEIGHT, np.ones((5, 3), np.longdouble)), "Linear must be numbers of up to 64 bits"),
    "an unknown kind": (replaced("node/nodes/w/type", "Evil"), "Node 'w': the kind 'Evil' is unknown"),
    "edges to nowhere": (replaced("node/edges", [("a", "b")]), r"The edge \('a', 'b'\) needs a node 'a'"),
    "edges of one": (replaced("node/edges", ["input"]), "An edge must be a pair of names"),
    "edges of numbers": (replaced("node/edges", [[1, 2]]), "A graph must have nodes, by name, and edges"),
    "nodes as a number": (a_dataset_for("node/nodes"), "A graph must have nodes, by name"),
    "the graph a number": (a_dataset_for("node"), "must be of the type 'NIRGraph', but got np.float64"),
    "a node as a number": (a_dataset_for("node/nodes/w"), "The node 'w' has no type"),
    "a type as a number": (a_dataset_for("node/nodes/w/type"), "The node 'w' has no type"),
    "no type": (lambda file, _: file.__delitem__("node/type"), "must be of the type 'NIRGraph', but got None"),
    "metadata as a number": (a_dataset_for("node/metadata"), "metadata must be a dictionary, but got"),
    "no graph": (lambda file, _: file.__delitem__("node"), "the file has no group 'node'"),
    "a missing parameter": (lambda file, _: file.__delitem__(WEIGHT), "Node 'w': Linear needs the parameter 'weight'"),
    "a group for a parameter": (lambda file, _: (file.__delitem__(WEIGHT), file.create_group(WEIGHT)), "must be numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile(tmp_path: Path, change: Callable[[Any, Path], None], message: str) -> None:
    path = tmp_path / "a.nir"
    exchange.write(GRAPH, path)
    with h5py.File(path, "r+") as file:
        change(file, tmp_path)
    assert path.stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message) as caught:
        exchange.read(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 600 + len(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB: 64 MiB


def test_many_texts_of_one_heap(tmp_path: Path) -> None:
    """Elements that all point to one long text: 2 MB in the file, 200 GB to read."""
    path = tmp_path / "a.nir"
    exchange.write(GRAPH, path)
    with h5py.File(path, "r+") as file:
        replaced("node/edges", [["x" * 10**6, "b"], *[["a", "b"]] * 9_999], dtype=h5py.string_dtype())(file, tmp_path)
        where = file["node/edges"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[where : where + 16 * 20_000] = bytes(data[where : where + 16]) * 20_000
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"most_bytes = 1,073,741,824 .* with node/edges it is 20,000,"):
        exchange.read(path)


def test_a_text_longer_than_what_is_stored(tmp_path: Path) -> None:
    """It would go on with the bytes of its neighbours."""
    exchange.write(GRAPH, tmp_path / "a.nir")
    with h5py.File(tmp_path / "a.nir") as file:
        where = file["node/nodes/w/type"].id.get_offset()
    data = bytearray((tmp_path / "a.nir").read_bytes())
    data[where] = 7
    (tmp_path / "a.nir").write_bytes(data)
    with pytest.raises(ValueError, match="node/nodes/w/type is damaged: its text is not where it should be"):
        exchange.read(tmp_path / "a.nir")


def test_the_budget_is_the_callers(tmp_path: Path) -> None:
    exchange.write(GRAPH, tmp_path / "a.nir")
    assert exchange.read(tmp_path / "a.nir", most_bytes=2_000) == GRAPH
    with pytest.raises(ValueError, match="declares more than most_bytes = 100 bytes of data"):
        exchange.read(tmp_path / "a.nir", most_bytes=100)


NO_HDF5 = {
    "empty": (b"", "is no HDF5 file: it begins with b''"),
    "text": (b"import os", "is no HDF5 file: it begins with b'import o'"),
    "the signature alone": (b"\x89HDF\r\n\x1a\n", "is damaged: HDF5 says"),
    "behind a user block": (b"\0" * 512 + b"\x89HDF\r\n\x1a\n", "is no HDF5 file"),
}


@pytest.mark.parametrize(("data", "message"), NO_HDF5.values(), ids=NO_HDF5)
def test_what_is_no_hdf5_file(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.nir").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        exchange.read(tmp_path / "a.nir")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        exchange.read(tmp_path / "a.nir")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ValueError, match="must be a file, but is a folder or a device"):
            exchange.read(path)


def test_too_many_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_OBJECTS", 100)
    exchange.write(GRAPH, tmp_path / "a.nir")
    assert exchange.read(tmp_path / "a.nir") == GRAPH
    with h5py.File(tmp_path / "a.nir", "r+") as file:
        for i in range(100):
            file[f"node/nodes/w/metadata/{i}"] = i
    with pytest.raises(ValueError, match="the file has more than 100 groups, data sets and texts"):
        exchange.read(tmp_path / "a.nir")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    exchange.write(GRAPH, folder / "valid.nir")
    return (folder / "valid.nir").read_bytes(), folder / "case.nir"


def outcome(data: bytes, path: Path) -> None:
    """Damaged bytes give a graph or a ValueError, within a second or two."""
    path.write_bytes(data)
    start = time.perf_counter()
    with suppress(ValueError):
        exchange.read(path)
    assert time.perf_counter() - start < 20


@settings(max_examples=60)
@given(where=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_bytes_that_flip(valid: tuple[bytes, Path], where: list[tuple[float, int]]) -> None:
    data = bytearray(valid[0])
    for place, byte in where:
        data[int(place * len(data))] = byte
    outcome(bytes(data), valid[1])


@settings(max_examples=30)
@given(st.floats(0, 1, exclude_max=True))
def test_files_that_end_early(valid: tuple[bytes, Path], part: float) -> None:
    cut = valid[0][: int(part * len(valid[0]))]
    valid[1].write_bytes(cut)
    with pytest.raises(ValueError, match=r"is no HDF5 file|is damaged: HDF5 says"):
        exchange.read(valid[1])


def test_a_heap_on_which_libhdf5_does_not_return(valid: tuple[bytes, Path]) -> None:
    """Found by fuzzing: a text's descriptor, its heap or the heap's objects damaged at each byte."""
    data = valid[0]
    heap = data.index(b"GCOL")
    for place in range(heap, heap + 64):
        for byte in (0, 1, 0xFF):
            changed = bytearray(data)
            changed[place] = byte
            outcome(bytes(changed), valid[1])
