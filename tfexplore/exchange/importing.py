"""`from_nir`: a NIR graph as a module of ours, each node a module, each cycle a `Recurrent`."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init

from tfexplore.exchange.counterparts import LEAKS, NIR, neuron_of, own_neuron, rate_of
from tfexplore.exchange.file import read
from tfexplore.exchange.graph import Graph, Node
from tfexplore.exchange.modules import Chain, Delay, Network, Scale, Shape, SumPool2d, shape_after
from tfexplore.neurons.parameters import check_between
from tfexplore.neurons.surrogates import ATan, Surrogate
from tfexplore.nn.checks import DTYPES
from tfexplore.nn.layers import Layer
from tfexplore.nn.recurrent import Recurrent
from tfexplore.nn.wrappers import FoldTime

WEIGHTS = ("Affine", "Linear", "Conv1d", "Conv2d", "Scale")
"""What a feedback may go through."""
NAMES = ("graph", "dt", "leak", "places", "sources", "training")
"""Attributes of a network, which no module within it may have for a name."""
MOST_STEPS = 1_000_000
"""Of a delay."""
FAR = 0.5
"""dt / tau from which on a forward Euler step is far from the continuous equation, and worth a warning."""


def from_nir(
    graph_or_file: Any,
    *,
    dt: float,
    leak: str = "euler",
    reset: str = "hard",
    surrogate: Surrogate = ATan(),  # noqa: B008  (a frozen value)
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
    keep: str = "auto",
) -> Chain | Network:
    """A network in NIR as a module of ours, `[T, B, *features]` in and out, whose layers run fused.

    NIR's equations are continuous; here they take steps of dt seconds (`exchange.neurons` has each). A graph whose nodes follow
    each other becomes a `Chain`, an `nn.Sequential`; any other a `Network`, which sums where edges meet. Its modules are named
    as the nodes (a dot becomes "_"; `net.places` has each node's module), and its weights are parameters of its own.

    A cycle becomes a `Recurrent`: a layer whose output returns to it through weights, **one step late**, since the spikes of a
    step are not known before it. NIR's own cycle has no such delay.

    Args:
        graph_or_file: a `Graph`, a `nir.NIRGraph`, or the path of a file, which `exchange.read` reads without trusting it.
        dt: the length of a time step, in seconds: that of the data. Files of frameworks that count in steps, as sinabs' and
            Norse's IF do (v += x at every step), want `dt=1`.
        leak: `"euler"`, a forward Euler step (dt / tau), or `"exact"` (1 - exp(-dt / tau)), as some frameworks have it.
        reset: NIR's, `"hard"`, or `"soft"` for a network that was trained so, which no file says.
        surrogate: the derivative of the spikes, for training; NIR has none.
        dtype: of the weights. Neurons compute in float32 (float64 for float64).
        backend, keep: as in `Layer`.

    Shape:
        - x: `[T, B, *features]`, with the features of the graph's Input
        - output: `[T, B, *features]` of its Output

    Returns:
        The network, with what it was made from: `net.graph`, `net.dt`, `net.leak`, `net.places`.

    Raises:
        ValueError: with the node's name: for what has no counterpart here, shapes that do not fit, a tau below dt, a delay of no
            whole number of steps, a cycle of another form.
        TypeError: for anything but a graph or a path.

    Example:
        >>> import numpy as np, torch
        >>> from tfexplore.exchange import Graph, Node, from_nir
        >>> ends = {"in": Node("Input", {"shape": 2}), "out": Node("Output", {"shape": 2})}
        >>> lif = Node("LIF", {"tau": np.full(2, 0.01), "r": 2.0, "v_leak": 0.0, "v_threshold": 0.5})
        >>> net = from_nir(Graph(ends | {"lif": lif}, (("in", "lif"), ("lif", "out"))), dt=0.001)
        >>> net(torch.ones(5, 1, 2)).sum((1, 2)).tolist()
        [0.0, 0.0, 2.0, 0.0, 0.0]
    """
    check_between("dt", dt, 0.0, above=True)
    for name, value, allowed in (("leak", leak, LEAKS), ("reset", reset, ("hard", "soft")), ("dtype", dtype, DTYPES)):
        if value not in allowed:
            raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, but got {value!r}.")
    graph = graph_of(graph_or_file).flat()
    made = Made(graph, dt, leak, reset, surrogate, dtype, {"backend": backend, "keep": keep})
    with default_dtype(torch.float64 if dtype == torch.float64 else torch.float32):  # that of per-neuron parameters
        net = made.network()
    net.graph, net.dt, net.leak, net.places = graph, dt, leak, made.places
    return net


def graph_of(given: Any) -> Graph:
    """The graph that was given, or that a file holds."""
    if isinstance(given, Graph):
        return given
    if isinstance(given, str | os.PathLike):
        return read(Path(given))
    if type(given).__name__ == "NIRGraph":
        return Graph.from_nir(given)
    raise TypeError(f"from_nir takes a Graph, a nir.NIRGraph or the path of a file, but got {type(given).__name__}.")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass
class Made:
    """The modules of a graph without sub-graphs, and how they were asked for."""

    graph: Graph
    dt: float
    leak: str
    reset: str
    surrogate: Surrogate
    dtype: torch.dtype
    options: dict[str, Any]

    def __post_init__(self) -> None:
        self.sources = self.graph.predecessors()
        self.targets = Counter(source for source, _ in self.graph.edges)
        self.places: dict[str, str] = {}
        self.far: list[str] = []

    def network(self) -> Chain | Network:
        """All nodes as modules, in the order in which they run."""
        (start, end), (order, back) = map(self._only, ("Input", "Output")), self.graph.order()
        feedback = dict(map(self._feedback, back))
        if len(feedback) < len(back):
            raise ValueError(f"Several cycles go through one of {list(feedback)}; let one node sum what returns to it.")
        late, inner = {*back}, {name for path in feedback.values() for name in path}
        modules: dict[str, nn.Module] = {}
        called, wired = {start: ""}, {}
        shapes: dict[str, Shape] = {start: self.graph.nodes[start].parameters["shape"]}  # type: ignore[union-attr]
        for name in order:
            if name in inner or name == start:
                continue
            from_before = tuple(source for source in self.sources[name] if (source, name) not in late)
            shape = self._arriving(name, {source: shapes[source] for source in from_before})
            called[name] = "" if name == end else module_name(name, modules)
            wired[called[name]] = tuple(called[source] for source in from_before)
            if name != end:
                with naming(name):
                    modules[called[name]], shapes[name] = self._module(name, shape, called[name], feedback.get(name))
        if self.far:
            warnings.warn(
                f"dt / tau is above {FAR} at {', '.join(self.far)}: Euler steps so long are far from the equation; take a "
                "shorter dt, or leak='exact', unless the network was trained with this dt.",
                stacklevel=3,
            )
        follows = dict(zip([*modules, ""], [("",), *((name,) for name in modules)], strict=True))
        return Chain(OrderedDict(modules)) if wired == follows else Network(modules, wired)

    def _only(self, kind: str) -> str:
        names = self.graph.named(kind)
        if len(names) > 1:
            raise ValueError(f"from_nir takes a graph with one {kind}, but got {len(names)}: {', '.join(names)}.")
        return names[0]

    def _feedback(self, edge: tuple[str, str]) -> tuple[str, tuple[str, ...]]:
        """The neurons that a back edge returns to, and the nodes that it comes through from them; else refused."""
        end, neurons = edge
        path, name = [], end
        plain = self.graph.kind(neurons) in NIR
        while plain and name != neurons:
            path.append(name)
            plain = self.graph.kind(name) in WEIGHTS and len(self.sources[name]) == 1 == self.targets[name]
            (name, *_) = self.sources[name]
        if not plain:
            raise ValueError(
                f"The cycle that the edge {edge} closes has no counterpart: what returns to neurons must be their own output, "
                f"through nodes with one edge in and one out, of the kinds {', '.join(WEIGHTS)}."
            )
        return neurons, tuple(reversed(path))

    def _arriving(self, name: str, shapes: dict[str, Shape]) -> Shape:
        """The shape of what a node gets, which all edges into it must bring."""
        if len({*shapes.values()}) != 1:
            raise ValueError(f"Node {name!r} sums what has different shapes: {shapes}.")
        (shape,) = {*shapes.values()}
        node = self.graph.nodes[name]
        assert isinstance(node, Node)
        if node.kind == "Output" and node.parameters["shape"] != shape:
            raise ValueError(f"Node {name!r} is an Output of {node.parameters['shape']}, but gets {shape}.")
        return shape

    def _module(self, name: str, shape: Shape, called: str, path: tuple[str, ...] | None) -> tuple[nn.Module, Shape]:
        """The module of a node, with what returns to it, and the shape that it gives."""
        module = self._alone(name, shape)
        if path is None:
            self.places[name] = called
            return module, shape_after(module, shape)
        assert isinstance(module, Layer)
        parts, given = OrderedDict[str, nn.Module](), shape
        for part in path:
            with naming(part):
                parts[module_name(part, parts)] = made = self._alone(part, given)
                given = shape_after(made, given)
        if given != shape:
            raise ValueError(f"what returns to it has the shape {given}, and not its own, {shape}")
        self.places[name] = f"{called}.layer"
        if len(path) == 1:
            self.places[path[0]] = f"{called}.feedback"
            return Recurrent(module, next(iter(parts.values()))), shape
        self.places |= {part: f"{called}.feedback.{key}" for part, key in zip(path, parts, strict=True)}
        return Recurrent(module, nn.Sequential(parts) if path else nn.Identity()), shape

    def _alone(self, name: str, shape: Shape) -> nn.Module:
        node = self.graph.nodes[name]
        assert isinstance(node, Node)
        if node.kind in NIR:
            return self._layer(name, node, shape)
        if node.kind == "Delay":
            return Delay(fitting(torch.from_numpy(steps_of(node.parameters["delay"], self.dt)), shape))
        return stateless(node, shape, self.dtype)

    def _layer(self, name: str, node: Node, shape: Shape) -> Layer:
        for value in node.parameters.values():
            fitting(value, shape)
        common: dict[str, Any] = {"surrogate": self.surrogate}
        if self.reset == "soft" and "v_reset" in node.parameters:
            common["reset"] = self.reset
        own = own_neuron(node, self.dt, self.leak)
        if own is None and self.leak == "euler":
            self._check_steps(name, node)
        neuron = neuron_of(node, self.dt, self.leak) if own is None else own
        return Layer(dataclasses.replace(neuron, **common), **self.options)

    def _check_steps(self, name: str, node: Node) -> None:
        """An Euler step goes no further than its target, and is far from the equation where it goes more than half of the way."""
        for key, tau in node.parameters.items():
            if key.startswith("tau"):
                if (part := float(rate_of(tau, self.dt, "euler").max())) > 1:
                    raise ValueError(
                        f"dt = {self.dt:g} s is longer than its {key} = {tau.min():g} s, so an Euler step would overshoot; take "
                        "a shorter dt, or leak='exact'"
                    )
                if part > FAR:
                    self.far.append(f"{name!r} ({part:.2g} of {key})")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Errors within name this node."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"Node {name!r}: {str(error).rstrip('.')}.") from error


def module_name(node: str, taken: Mapping[str, object]) -> str:
    """A name for the module of a node: its own, where a module may have it."""
    name = node.replace(".", "_")
    while name in taken or hasattr(Chain, name) or hasattr(Network, name) or name in NAMES or not name:
        name += "_"
    return name


def fitting(values: Any, shape: Shape) -> Any:
    """Values for each feature, or a number for all of them; raises ValueError for another shape than that of the features."""
    if tuple(values.shape) == shape:
        return values
    if math.prod(values.shape) != 1:
        raise ValueError(f"it has values for {tuple(values.shape)}, but gets {shape}")
    return values.reshape(())


def steps_of(delay: np.ndarray, dt: float) -> np.ndarray:
    """A delay in seconds as a whole number of time steps."""
    steps = np.asarray(delay.astype(float) / dt)
    whole = np.asarray(np.rint(steps))
    if (most := steps.max()) > MOST_STEPS:  # each holds an input of the whole batch
        raise ValueError(
            f"a delay of {delay.max():g} s is {most:g} steps of {dt:g} s, and at most {MOST_STEPS:,} are kept"
        )
    if (wrong := np.abs(steps - whole) > 1e-6 * np.maximum(steps, 1)).any():
        raise ValueError(
            f"a delay of {delay[wrong][0]:g} s is {steps[wrong][0]:g} steps of {dt:g} s, and no whole number of them"
        )
    return whole.astype(np.int64)


def stateless(node: Node, shape: Shape, dtype: torch.dtype) -> nn.Module:
    """The module of a node without neurons, which gets this shape."""
    given: Any = node.parameters
    if node.kind in ("Affine", "Linear"):
        return linear(given, shape, dtype)
    if node.kind in ("Conv1d", "Conv2d"):
        return FoldTime(convolution(given, shape, dtype))
    if node.kind in ("SumPool2d", "AvgPool2d"):
        pool = SumPool2d if node.kind == "SumPool2d" else nn.AvgPool2d
        return FoldTime(pool(given["kernel_size"], given["stride"], given["padding"]))
    if node.kind == "Scale":
        return Scale(torch.tensor(fitting(given["scale"], shape), dtype=dtype))
    if node.kind == "Flatten":
        first, last = (d + len(shape) if d < 0 else d for d in (given["start_dim"], given["end_dim"]))
        if not 0 <= first <= last < len(shape):
            raise ValueError(
                f"it cannot flatten the axes {given['start_dim']} to {given['end_dim']} of {shape}, where no batch is counted"
            )
        return nn.Flatten(first + 2, last + 2)  # behind time and batch
    raise ValueError(f"{node.kind} has no counterpart here")


def linear(given: Mapping[str, Any], shape: Shape, dtype: torch.dtype) -> nn.Linear:
    weight = given["weight"]
    if weight.ndim != 2:
        raise ValueError(f"its weight must be a matrix, but got shape {weight.shape}")
    if shape != weight.shape[1:]:
        raise ValueError(f"it takes {weight.shape[1:]}, but gets {shape}")
    module = skip_init(nn.Linear, *weight.shape[::-1], bias="bias" in given, dtype=dtype)
    return filled(module, given)


def convolution(given: Mapping[str, Any], shape: Shape, dtype: torch.dtype) -> nn.Module:
    weight = given["weight"]
    channels = weight.shape[1] * given["groups"], weight.shape[0]
    size = given.get("input_shape", shape[1:])
    if shape != (channels[0], *((size,) if isinstance(size, int) else size)) or len(shape) != weight.ndim - 1:
        raise ValueError(f"it takes {channels[0]} channels of {size}, but gets {shape}")
    options = {name: given[name] for name in ("stride", "padding", "dilation", "groups")}
    cls = nn.Conv1d if weight.ndim == 3 else nn.Conv2d
    return filled(skip_init(cls, *channels, weight.shape[2:], **options, dtype=dtype), given)


def filled(module: Any, given: Mapping[str, Any]) -> Any:
    """The module with these weights, copied."""
    for name, parameter in module.named_parameters():
        parameter.data.copy_(torch.tensor(given[name]))
    return module
