"""NIR files (HDF5), read without trusting them: all that a file declares is surveyed before any of its data is read."""

from __future__ import annotations

import math
import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfexplore.exchange.graph import DEEPEST, MOST_EDGES, Graph
from tfexplore.exchange.kinds import KINDS

SIGNATURE = b"\x89HDF\r\n\x1a\n"
VERSION = "1.0.8"  # of nir, whose layout this is
MOST_OBJECTS = 100_000  # groups and data sets; a node has up to nine
MOST_CHUNKS = 100_000
MOST_LETTERS = 1_000  # of a name
DEEPEST_GROUP = 3 * DEEPEST + 4  # two for each sub-graph, one for each level of metadata
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # the filters of HDF5 that are read

Tree = dict[str, Any]


def read(path: str | os.PathLike[str], *, most_bytes: int = 2**30) -> Graph:
    """The graph in a NIR file.

    A file is input from outside. nir's own reader (1.0.8) follows links and external storage out of the file, recurses into
    cycles, and allocates what the file declares. Here the whole file is surveyed first, and refused where it has: soft or
    external links, a group that is reached twice, groups too deep, external storage, virtual data sets, compound,
    reference or object types, filters other than gzip, shuffle and fletcher32, a chunk that inflates to more than it
    declares, more than `most_bytes` of data declared, too many objects, nodes or edges. Then the data is read and
    the graph checked (`Graph`, `kinds.checked`): NaN, tau = 0, shapes that do not agree, an unknown kind are refused, with the
    node.

    What cannot be promised: libhdf5 is C, and parses the bytes before anything here can look at them. It refuses what it
    recognises as damaged, but a file made to crash it is outside of what this reader can catch. Read files of strangers in a
    process of their own, with a limit on its memory and time.

    A neuron without `v_reset` (older files have none, NIR #155) is reset to 0, as nir does. This is said as a warning, once a
    file, since such a network may have been trained with another reset: the NIR paper's Braille network was, by subtraction.

    Args:
        path: a file.
        most_bytes: of data that the file may declare, one buffer per data set for its largest chunk included.
            Reading takes up to about three times this in memory.

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
                survey = _Survey(h5py, raw, file, most_bytes)
                tree = survey.group(survey.entry(file, "node"), "node", 1)
                graph = Graph.from_dict(_values(tree))
        # h5py raises all of these for a damaged file; RecursionError and MemoryError stay
        except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, RecursionError):
                raise
            text = str(error.args[0] if error.args else error)
            raise ValueError(f"{path}: {text[:400]}") from (error if not isinstance(error, ValueError) else None)
    if missing := list(_without_reset(_values_of_kinds(tree))):
        warnings.warn(
            f"{path}: {len(missing)} nodes have no v_reset, the first {missing[0]!r}: taken as a reset to 0, as nir does. Check "
            "how the network was trained: a file of this age says nothing of its reset.",
            stacklevel=2,
        )
    return graph
