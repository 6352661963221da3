"""Where the nodes of a graph are drawn: a row for each, in the order in which they run; parallel ones beside each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfexplore.exchange.graph import Edge, Graph, Node

NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")


@dataclass(frozen=True)
class Drawing:
    """Nodes in rows, from the Input down.

    Args:
        graph: without sub-graphs.
        row, column: of each node; nodes of a row do not depend on each other.
        columns: of the widest row.
        forward, back: the edges; those that close a cycle are read one step late.
    """

    graph: Graph
    row: dict[str, int]
    column: dict[str, float]
    columns: int
    forward: tuple[Edge, ...]
    back: tuple[Edge, ...]

    @property
    def neurons(self) -> tuple[str, ...]:
        """The names of the nodes that are neurons."""
        return tuple(name for name in self.graph.nodes if self.graph.kind(name) in NEURONS)

    def words(self, name: str) -> str:
        """A node in a line: "hidden: CubaLIF, 40"."""
        node = self.graph.nodes[name]
        assert isinstance(node, Node)
        return f"{name}: {node.kind}{shape_of(node)}"

    def parameters(self, name: str) -> str:
        """Its parameters, each with its size or its range."""
        node = self.graph.nodes[name]
        assert isinstance(node, Node)
        return ", ".join(f"{key} {summary(value)}" for key, value in node.parameters.items() if value is not None)


def drawing(graph: Graph) -> Drawing:
    """Each node one row below the lowest of those that it needs."""
    flat = graph.flat()
    order, back = flat.order()
    forward = tuple(edge for edge in flat.edges if edge not in set(back))
    row: dict[str, int] = {}
    for name in order:
        row[name] = 1 + max((row[source] for source, target in forward if target == name), default=-1)
    column: dict[str, float] = {}
    widest = 1
    for level in range(max(row.values()) + 1):
        beside = [name for name in order if row[name] == level]
        widest = max(widest, len(beside))
        column |= {name: k - (len(beside) - 1) / 2 for k, name in enumerate(beside)}
    return Drawing(flat, row, column, widest, forward, back)


def shape_of(node: Node) -> str:
    """The sizes that tell most of a node: neurons, or a weight's shape."""
    for key in ("weight", "tau", "tau_mem", "r", "threshold", "scale", "delay", "shape"):
        if (value := node.parameters.get(key)) is not None:
            size = value if key == "shape" else np.shape(value)
            return f", {' × '.join(map(str, np.atleast_1d(size)))}" if np.size(size) else ""
    return ""


def summary(value: object) -> str:
    """
    >>> summary(np.array([1.0, 3.0])), summary(np.array(2.0)), summary((1, 2))
    ('1 to 3', '2', '(1, 2)')
    """
    if not isinstance(value, np.ndarray):
        return str(value)
    low, high = float(value.min()), float(value.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
