"""NIR files (HDF5), read without trusting them: all that a file declares is surveyed before any of its data is read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfexplore.exchange.graph import Graph
from tfexplore.exchange.kinds import KINDS
from tfexplore.exchange.survey import MOST_LETTERS, Survey, values

SIGNATURE = b"\x89HDF\r\n\x1a\n"
VERSION = "1.0.8"  # of nir, whose layout this is


def read(path: str | Path, *, most_bytes: int = 2**30) -> Graph:
    """The graph in a NIR file.

    A file is input from outside. nir's own reader (1.0.8) follows links and external storage out of the file, recurses into
    cycles, and allocates what the file declares. Here the whole file is surveyed first, and refused where it has: soft or
    external links, a group that is reached twice, groups too deep, external storage, virtual data sets, compound,
    reference or object types, filters other than gzip, shuffle and fletcher32, a chunk that inflates to more than it
    declares, more than `most_bytes` of data declared, too many objects or edges. Then the data is read and the graph
    checked (`Graph`, `kinds.checked`): NaN, tau = 0, shapes that do not agree, an unknown kind are refused, with the node.

    What cannot be promised: libhdf5 is C, and parses the bytes before anything here can look at them. It refuses what it
    recognises as damaged; a file made to crash it, or to keep it busy, is beyond what this reader can catch. Read files of
    strangers in a process of their own, with a limit on its memory and time.

    A neuron without `v_reset` (older files have none, NIR #155) is reset to 0, as in nir. This is a warning, once a file, and
    not a remark in the metadata that nobody reads: the network may have been trained with another reset. The NIR
    paper's Braille network was, by subtraction.

    Args:
        path: a file.
        most_bytes: of data that the file may declare, the text and one chunk for each data set included. Reading takes about
            twice this in memory.

    Raises:
        ValueError: with the file, the place in it, and what is wrong.
        FileNotFoundError: when there is none.
        ImportError: without h5py.

    Example:
        >>> import tempfile
        >>> from tfexplore.exchange import Node
        >>> ends = {"in": Node("Input", {"shape": 2}), "out": Node("Output", {"shape": 2})}
        >>> graph = Graph(ends | {"li": Node("LI", {"tau": 0.01, "r": np.ones(2), "v_leak": 0})}, (("in", "li"), ("li", "out")))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(graph, f"{folder}/net.nir")
        ...     read(f"{folder}/net.nir") == graph
        True
    """
    h5py = _h5py()
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} must be a file, but is a folder or a device.")
    with path.open("rb") as raw:
        if (first := raw.read(len(SIGNATURE))) != SIGNATURE:
            raise ValueError(f"{path} is no HDF5 file: it begins with {first!r}.")
        try:
            with h5py.File(path, "r") as file:
                survey = Survey(h5py, raw, most_bytes)
                tree = values(h5py, survey.members(file, "", 0, only="node")["node"])
        except ValueError as error:  # ours; h5py's, of a type that NumPy does not have
            raise _refused(path, error) from None
        except (OSError, RuntimeError, LookupError, TypeError, AttributeError) as error:  # what h5py raises for damage
            raise ValueError(f"{path} is damaged: HDF5 says {_short(error)}") from error
    try:
        graph = Graph.from_dict(tree)
    except ValueError as error:
        raise _refused(path, error) from None
    if missing := list(_without_reset(tree, "")):
        warnings.warn(
            f"{path}: {len(missing)} nodes have no v_reset, the first {missing[0]!r}: taken as a reset to 0, as nir does. "
            "Check how the network was trained: older files do not say it.",
            stacklevel=2,
        )
    return graph


def write(graph: Graph, path: str | Path) -> None:
    """Writes a NIR file: the layout of nir 1.0.8, which reads it, arrays compressed with gzip.

    A process that reads the path meanwhile finds the old file or the new one.

    Args:
        graph: what is written.
        path: replaced where it is there.

    Raises:
        ValueError: a name that HDF5 cannot hold, or a convolution without `input_shape`, which nir's reader asks for.
        ImportError: without h5py.
    """
    h5py = _h5py()
    path = Path(path)
    _check_writable(graph, "")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with h5py.File(partial, "w") as file:
            file.create_dataset("version", data=VERSION, dtype=h5py.string_dtype())
            _put(h5py, file.create_group("node"), graph.to_dict())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError("NIR files are HDF5 files and need h5py: pip install h5py.") from None
    return h5py


def _short(error: Exception) -> str:
    text = str(error.args[0] if error.args else error)  # the argument, since a KeyError's text is the repr of it
    return text if len(text) <= 400 else text[:400] + " ..."


def _refused(path: Path, error: ValueError) -> ValueError:
    return ValueError(f"{path}: {_short(error)}")


def _without_reset(tree: Mapping[str, Any], outer: str) -> Iterator[str]:
    """The names of the nodes that have no v_reset and should."""
    for name, node in tree["nodes"].items():
        if node["type"] == "NIRGraph":
            yield from _without_reset(node, f"{outer}{name}.")
        elif "v_reset" in KINDS[node["type"]] and "v_reset" not in node:
            yield outer + name


def _check_writable(graph: Graph, outer: str) -> None:
    for name, node in graph.nodes.items():
        _check_name(name)
        _check_metadata(node.metadata)
        if isinstance(node, Graph):
            _check_writable(node, f"{outer}{name}.")
        elif node.kind.startswith("Conv") and "input_shape" not in node.parameters:
            raise ValueError(
                f"Node {outer + name!r}: {node.kind} needs an input_shape in a file, which nir's reader asks for."
            )
    _check_metadata(graph.metadata)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    for name, value in metadata.items():
        _check_name(name)
        if isinstance(value, Mapping):
            _check_metadata(value)


def _check_name(name: str) -> None:
    if name in ("", ".") or "/" in name or not name.isprintable() or len(name) > MOST_LETTERS:
        raise ValueError(
            f"A name in a file must be printable, have 1 to {MOST_LETTERS:,} letters, not '.', no '/', but got {name[:80]!r}."
        )


def _put(h5py: Any, group: Any, tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if name != "metadata" or value:
                _put(h5py, group.create_group(name), value)
        elif isinstance(value, str):
            group.create_dataset(name, data=value, dtype=h5py.string_dtype())
        elif isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(name, data=value, compression="gzip")
        else:
            group.create_dataset(name, data=np.array(value, np.int64) if value == () else value)
