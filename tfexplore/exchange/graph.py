"""A network as NIR sees it: named nodes and edges, as two frozen values that know nothing of torch, nir or HDF5."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfexplore.exchange.kinds import checked

DEEPEST = 32  # sub-graphs, and dictionaries of metadata, one inside the other
MOST_EDGES = 100_000

Edge = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Node:
    """One node: NIR's name of its type, and its parameters by the names they have in a NIR file.

    A `Graph` checks its nodes and has their parameters in one form: arrays as NumPy arrays, sizes as ints or tuples.

    Args:
        kind: such as "LIF", "Conv2d", "Input" (`tfexplore.exchange.kinds.KINDS` has all).
        parameters: by name; those of neurons are arrays with a value per neuron, times in seconds.
        metadata: text, numbers, arrays, and dictionaries of these; nothing here reads it.
    """

    kind: str
    parameters: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        """The same kind, and the same bits in all parameters."""
        if not isinstance(other, Node):
            return NotImplemented
        return self.kind == other.kind and _same([self.parameters, self.metadata], [other.parameters, other.metadata])


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes by name, and edges from one to another. A graph that exists is a valid one.

    Several edges into one node mean the sum of what they bring. The set of edges has no edge twice (so says NIR's definition):
    one that comes twice is taken once, with a warning.

    Args:
        nodes: by name; a `Graph` among them is a sub-graph, with one Input and one Output of its own.
        edges: pairs of names.
        metadata: as that of a node.

    Raises:
        ValueError: an edge from or to a node that is not there; no Input or no Output; an Input with an edge in or an Output with
            an edge out; a node that no Input reaches; a node that `kinds.checked` refuses; sub-graphs deeper than 32.

    Example:
        >>> graph = Graph(
        ...     {"in": Node("Input", {"shape": 2}), "neurons": Node("I", {"r": np.ones(2)}), "out": Node("Output", {"shape": 2})},
        ...     (("in", "neurons"), ("neurons", "neurons"), ("neurons", "out")),
        ... )
        >>> graph.order()
        (('in', 'neurons', 'out'), (('neurons', 'neurons'),))
    """

    nodes: Mapping[str, Node | Graph]
    edges: tuple[Edge, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    depth: int = field(init=False, repr=False)  # 1, and one more for each level of sub-graphs

    __hash__ = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        nodes = {name: node if isinstance(node, Graph) else _checked(name, node) for name, node in self.nodes.items()}
        if wrong := [edge for edge in self.edges if not _is_edge(edge)]:
            raise ValueError(f"An edge must be a pair of names, but got {wrong[0]!r}.")
        counted = Counter(tuple(edge) for edge in self.edges)
        depth = 1 + max((node.depth for node in nodes.values() if isinstance(node, Graph)), default=0)
        if depth > DEEPEST:
            raise ValueError(f"Sub-graphs must be at most {DEEPEST} deep, but got {depth}.")
        metadata = plain(self.metadata)
        for name, value in {"nodes": nodes, "edges": tuple(counted), "metadata": metadata, "depth": depth}.items():
            object.__setattr__(self, name, value)
        self._check_edges()
        if twice := [edge for edge, times in counted.items() if times > 1]:
            warnings.warn(
                f"{len(twice)} edges come more than once and are taken once, the first from {twice[0][0]!r} to {twice[0][1]!r}: "
                "the edges of NIR are a set.",
                stacklevel=3,
            )

    def _check_edges(self) -> None:
        for edge in self.edges:
            for end in edge:
                if end not in self.nodes:
                    raise ValueError(f"The edge {edge} needs a node {end!r}, which is not there.")
            if self.kind(edge[1]) == "Input" or self.kind(edge[0]) == "Output":
                raise ValueError(f"The edge {edge} goes into an Input or out of an Output; leave it out.")
        for kind in ("Input", "Output"):
            if not self.named(kind):
                raise ValueError(f"A graph must have a node of the kind {kind}, but has none.")
        reached = set(self.order()[0])
        if missed := [name for name in self.nodes if name not in reached]:
            raise ValueError(f"No Input reaches the node {missed[0]!r}; {len(missed)} nodes get no input.")

    def kind(self, name: str) -> str:
        """The kind of this node; "NIRGraph" for a sub-graph."""
        node = self.nodes[name]
        return node.kind if isinstance(node, Node) else "NIRGraph"

    def named(self, kind: str) -> tuple[str, ...]:
        """The names of the nodes of this kind."""
        return tuple(name for name in self.nodes if self.kind(name) == kind)

    def __eq__(self, other: object) -> bool:
        """The same nodes, edges in the same order, and the same bits in all arrays."""
        if not isinstance(other, Graph):
            return NotImplemented
        return self.edges == other.edges and _same([self.nodes, self.metadata], [other.nodes, other.metadata])

    def predecessors(self) -> dict[str, tuple[str, ...]]:
        """For each node the nodes with an edge into it, in the order of the edges; what they bring is summed."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            found[target].append(source)
        return {name: tuple(sources) for name, sources in found.items()}

    def order(self) -> tuple[tuple[str, ...], tuple[Edge, ...]]:
        """The order in which the nodes run, and the back edges: those that close a cycle.

        Depth first from the Inputs, edges in their order: an edge to a node whose search is not finished is a back edge
        (Tarjan, 1972). Without these the graph has no cycle, and the reverse of the order in which searches end is one where
        each node comes after all that it needs. A discrete simulation reads a back edge one step late.

        Returns:
            The names, of which none is missing, and the back edges, in the order found.
        """
        targets: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            targets[source].append(target)
        ended: list[str] = []
        back: list[Edge] = []
        state: dict[str, str] = {}
        # the last Input first: the reverse at the end puts the first one first
        for start in reversed(self.named("Input")):
            state[start] = "open"
            path: list[tuple[str, Iterator[str]]] = [(start, iter(targets[start]))]
            while path:
                name, rest = path[-1]
                for target in rest:
                    if target not in state:
                        state[target] = "open"
                        path.append((target, iter(targets[target])))
                        break
                    if state[target] == "open":
                        back.append((name, target))
                else:
                    state[name] = "ended"
                    ended.append(name)
                    path.pop()
        return tuple(reversed(ended)), tuple(back)

    def flat(self) -> Graph:
        """The same network without sub-graphs: the node `inner` of the sub-graph `outer` is named `outer.inner`.

        The Input and the Output of a sub-graph vanish: an edge that goes into the sub-graph goes to what its Input goes to. So
        does the metadata of sub-graphs; that of their nodes stays.

        Raises:
            ValueError: a sub-graph with several Inputs or Outputs (an edge does not say which of them it means); a name that is
                there already; an edge that would be there twice, as where a sub-graph hands its input on beside another
                edge from the same source; more than 100,000 edges.
        """
        if self.depth == 1:
            return self
        nodes: dict[str, Node | Graph] = {}
        edges: list[Edge] = []
        first: dict[str, str] = {}  # where an edge into a sub-graph goes, and
        last: dict[str, str] = {}  # where one out of it comes from
        for name, node in self.nodes.items():
            if isinstance(node, Node):
                nodes[name] = node
                continue
            inner = node.flat()
            ends = inner.named("Input"), inner.named("Output")
            if [len(end) for end in ends] != [1, 1]:
                raise ValueError(f"The sub-graph {name!r} must have one Input and one Output, but has {ends}.")
            first[name], last[name] = (f"{name}.{end}" for (end,) in ends)
            for within, part in inner.nodes.items():
                if (joined := f"{name}.{within}") in nodes or joined in self.nodes:
                    raise ValueError(f"Without sub-graphs two nodes are named {joined!r}; rename one.")
                nodes[joined] = part
            edges += [(f"{name}.{source}", f"{name}.{target}") for source, target in inner.edges]
        edges += [(last.get(source, source), first.get(target, target)) for source, target in self.edges]
        return Graph(*_without(nodes, edges, [*first.values(), *last.values()]), self.metadata)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Graph:
        """A graph from nested dictionaries, as a NIR file has them and `NIRGraph.to_dict` of nir gives them."""
        kind = tree.get("type") if isinstance(tree, Mapping) else tree
        if not isinstance(kind, str) or kind != "NIRGraph":
            raise ValueError(f"A graph must be of the type 'NIRGraph', but got {kind!r:.80}.")
        if extra := set(tree) - {"type", "nodes", "edges", "metadata"}:
            raise ValueError(f"A graph has nodes, edges and metadata, but got {sorted(extra)} as well.")
        if not isinstance(tree.get("nodes"), Mapping) or not isinstance(tree.get("edges"), list | tuple | set):
            raise ValueError("A graph must have nodes, by name, and edges, pairs of names.")
        nodes: dict[str, Node | Graph] = {}
        for name, given in tree["nodes"].items():
            if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
                raise ValueError(f"The node {name!r} has no type.")
            if given["type"] == "NIRGraph":
                try:
                    nodes[name] = cls.from_dict(given)
                except ValueError as error:
                    raise ValueError(f"In the sub-graph {name!r}: {error}") from None
            else:
                parameters = {key: value for key, value in given.items() if key not in ("type", "metadata")}
                nodes[name] = Node(given["type"], parameters, given.get("metadata", {}))
        return cls(nodes, tuple(tree["edges"]), tree.get("metadata", {}))

    def to_dict(self) -> dict[str, Any]:
        """The graph as nested dictionaries; `from_dict` of them is the same graph."""
        nodes = {
            name: node.to_dict()
            if isinstance(node, Graph)
            else {**node.parameters, "type": node.kind, "metadata": node.metadata}
            for name, node in self.nodes.items()
        }
        return {"nodes": nodes, "edges": list(self.edges), "metadata": self.metadata, "type": "NIRGraph"}

    @classmethod
    def from_nir(cls, graph: Any) -> Graph:
        """The graph of a `nir.NIRGraph`."""
        return cls.from_dict(graph.to_dict())

    def to_nir(self, *, type_check: bool = True) -> Any:
        """This graph as a `nir.NIRGraph`.

        Args:
            type_check: let nir infer and compare the shapes of inputs and outputs, as it does by default. Turn it off for what
                nir 1.0.8 gets wrong: kernels that are not square, and convolutions in groups.

        Raises:
            ImportError: without nir.
        """
        try:
            import nir
        except ImportError:
            raise ImportError("Objects of NIR come with nir: pip install nir.") from None
        nodes = {}
        for name, node in self.nodes.items():
            if isinstance(node, Graph):
                nodes[name] = node.to_nir(type_check=type_check)
            else:
                missing = {"input_shape": None} if node.kind.startswith("Conv") else {}
                given = missing | dict(node.parameters) | {"type": node.kind, "metadata": dict(node.metadata)}
                arrays = {key: np.array(value) if isinstance(value, tuple) else value for key, value in given.items()}
                nodes[name] = nir.dict2NIRNode(arrays)
        return nir.NIRGraph(nodes, list(self.edges), dict(self.metadata), type_check=type_check)


def _is_edge(edge: Any) -> bool:
    return isinstance(edge, list | tuple) and len(edge) == 2 and all(isinstance(end, str) for end in edge)


def _checked(name: str, node: Node) -> Node:
    try:
        return Node(node.kind, checked(node.kind, node.parameters), plain(node.metadata))
    except ValueError as error:
        raise ValueError(f"Node {name!r}: {error}.") from None


def _without(nodes: dict[str, Any], edges: list[Edge], names: list[str]) -> tuple[dict[str, Any], tuple[Edge, ...]]:
    """Nodes and edges without these nodes, which hand on what comes in: each of their sources gets all of their targets."""
    sources: dict[str, dict[str, None]] = {name: {} for name in nodes}  # a dictionary is a set that has an order
    targets: dict[str, dict[str, None]] = {name: {} for name in nodes}
    total = len(edges)
    for source, target in edges:
        targets[source][target] = sources[target][source] = None
    for name in names:
        if name in targets[name]:
            raise ValueError(f"{name!r} hands on what it gives itself: a cycle without a node.")
        total += len(sources[name]) * len(targets[name])
        if total > MOST_EDGES:
            raise ValueError(f"Without sub-graphs there are more than {MOST_EDGES:,} edges.")
        for target in targets[name]:
            del sources[target][name]
        for source in sources[name]:
            del targets[source][name]
            for target in targets[name]:
                if target in targets[source]:
                    raise ValueError(
                        f"Without sub-graphs the edge {(source, target)} is there twice: put a Scale into one of the two."
                    )
                targets[source][target] = sources[target][source] = None
        del targets[name], sources[name], nodes[name]
    return nodes, tuple((source, target) for target in nodes for source in sources[target])


def plain(metadata: Mapping[str, Any], depth: int = 1) -> dict[str, Any]:
    """Metadata in one form: text, numbers of Python, arrays, tuples of text, and dictionaries of these."""
    if depth > DEEPEST:
        raise ValueError(f"metadata must be at most {DEEPEST} deep")
    if not isinstance(metadata, Mapping):
        raise ValueError(f"metadata must be a dictionary, but got {type(metadata).__name__}")
    found: dict[str, Any] = {}
    for name, value in metadata.items():
        if isinstance(value, Mapping):
            found[str(name)] = plain(value, depth + 1)
        elif isinstance(value, str):
            found[str(name)] = str(value)
        elif isinstance(value, list | tuple) and value and all(isinstance(text, str) for text in value):
            found[str(name)] = tuple(map(str, value))
        else:
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise ValueError(
                    f"metadata {name!r} must be text, numbers or dictionaries of these, but got {array.dtype}"
                )
            found[str(name)] = array if array.ndim else array.item()
    return found


def _same(one: Any, two: Any) -> bool:
    """Whether two values, dictionaries and lists of them included, are the same bits."""
    if isinstance(one, Mapping):
        return isinstance(two, Mapping) and one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, np.ndarray | float):
        if type(one) is not type(two):
            return False
        a, b = np.asarray(one), np.asarray(two)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(one) is type(two) and one == two
