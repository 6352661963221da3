"""Graphs for the tests of files: a node of each kind, graphs around them, random ones, and the real ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from tfexplore.exchange import Graph, Node

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "nir"


def real(name: str) -> Path:
    """A graph of the NIR paper, in the folder beside the checkout; the test skips where it is absent."""
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} of the NIR paper is not in ../shared/nir")
    return SHARED / name


def some(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Numbers above 0, all different, that have no short decimal."""
    return (np.sqrt(np.arange(2, 2 + np.prod(shape, dtype=int))) / 7).reshape(shape).astype(dtype)


N = (2, 3)
CUBA = {"tau_syn": some(*N), "tau_mem": some(*N), "r": some(*N), "v_leak": some(*N) - 1, "w_in": some(*N)}
FIRES = {"v_threshold": some(*N), "v_reset": -some(*N)}
CONV = {"groups": 1, "bias": some(4)}
POOL = {"kernel_size": (2, 2), "stride": (2, 1), "padding": (0, 1)}
# kind: (shape of its input, its parameters, shape of its output)
EACH: dict[str, tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "I": (N, {"r": some(*N)}, N),
    "IF": (N, {"r": some(*N), **FIRES}, N),
    "LI": (N, {"tau": some(*N), "r": some(*N), "v_leak": -some(*N)}, N),
    "LIF": (N, {"tau": some(*N), "r": some(*N), "v_leak": -some(*N), **FIRES}, N),
    "CubaLI": (N, CUBA, N),
    "CubaLIF": (N, {**CUBA, **FIRES}, N),
    "Affine": ((3,), {"weight": some(5, 3), "bias": some(5)}, (5,)),
    "Linear": ((3,), {"weight": some(5, 3, dtype=np.float64)}, (5,)),
    "Conv1d": (
        (2, 9),
        {"input_shape": 9, "weight": some(4, 2, 3), "stride": 2, "padding": 1, "dilation": 1, **CONV},
        (4, 5),
    ),
    "Conv2d": (
        (2, 9, 8),
        {
            "input_shape": (9, 8),
            "weight": some(4, 2, 3, 3),
            "stride": (2, 1),
            "padding": (1, 0),
            "dilation": (1, 2),
            **CONV,
        },
        (4, 5, 4),
    ),
    "SumPool2d": ((2, 4, 4), POOL, (2, 2, 5)),
    "AvgPool2d": ((2, 4, 4), POOL, (2, 2, 5)),
    "Flatten": ((2, 3, 4), {"input_type": (2, 3, 4), "start_dim": 1, "end_dim": 2}, (2, 12)),
    "Scale": (N, {"scale": some(*N, dtype=np.float16)}, N),
    "Threshold": (N, {"threshold": some(*N)}, N),
    "Delay": (N, {"delay": some(*N)}, N),
}


def ends(shape: Any = 2, out: Any = None) -> dict[str, Node]:
    return {
        "input": Node("Input", {"shape": shape}),
        "output": Node("Output", {"shape": shape if out is None else out}),
    }


def around(kind: str, **changed: Any) -> Graph:
    """Input, a node of this kind, Output."""
    shape, parameters, out = EACH[kind]
    return Graph(
        ends(shape, out) | {"node": Node(kind, parameters | changed, {"made": "for a test"})},
        (("input", "node"), ("node", "output")),
    )


def chain(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple(pairwise(names))


def nested(depth: int, recurrent: bool = True) -> Graph:
    """Graphs one inside the other, with two neurons and a cycle at each level."""
    inner: dict[str, Any] = {"sub": nested(depth - 1)} if depth > 1 else {"sub": Node("Scale", {"scale": some(2)})}
    nodes = ends() | {"a": Node("I", {"r": some(2)}), "b": Node("Threshold", {"threshold": some(2)})} | inner
    return Graph(
        nodes, chain("input", "a", "sub", "b", "output") + ((("b", "a"),) if recurrent else ()), {"depth": depth}
    )


FLOATS = st.sampled_from([np.float16, np.float32, np.float64])
NAMES = st.text(
    st.characters(exclude_characters="/", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp", "Cf", "Co", "Cn")),
    min_size=1,
    max_size=8,
).filter(lambda name: name not in (".", "input", "output"))


@st.composite
def graphs(draw: st.DrawFn, depth: int = 2) -> Graph:
    """Any graph: each new node gets an edge from one that is there, then edges anywhere, cycles and sub-graphs included."""
    nodes: dict[str, Any] = {"input": Node("Input", {"shape": 2})}
    edges: dict[tuple[str, str], None] = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        edges[draw(st.sampled_from(sorted(nodes))), name] = None
        if depth > 1 and draw(st.integers(0, 4)) == 0:
            nodes[name] = draw(graphs(depth=depth - 1))
            continue
        numbers = st.floats(-1e4, 1e4, width=16)
        array = np.array(draw(st.lists(numbers, min_size=2, max_size=2)), draw(FLOATS))
        kind, parameter = draw(st.sampled_from([("I", "r"), ("Scale", "scale"), ("Threshold", "threshold")]))
        nodes[name] = Node(
            kind, {parameter: array}, draw(st.dictionaries(NAMES, st.text("aé", max_size=3), max_size=2))
        )
    edges[draw(st.sampled_from(sorted(nodes))), "output"] = None
    inside = sorted(set(nodes) - {"input"})
    if inside:
        more = st.tuples(st.sampled_from(sorted(nodes)), st.sampled_from([*inside, "output"]))
        edges |= dict.fromkeys(draw(st.lists(more, max_size=4)))
    # what ends nowhere gets an edge to the Output: nir would add an Output of its own to a sub-graph
    edges |= {(name, "output"): None for name in inside if not any(source == name for source, _ in edges)}
    return Graph(nodes | {"output": Node("Output", {"shape": 2})}, tuple(edges))
