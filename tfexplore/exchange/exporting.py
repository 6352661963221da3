"""`to_nir`: a network of ours as a NIR graph, with the shapes of everything."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from tfexplore.exchange.counterparts import KIND, LEAKS, NIR, node_of, spread
from tfexplore.exchange.graph import Graph, Node
from tfexplore.exchange.kinds import KINDS
from tfexplore.exchange.modules import Chain, Delay, Imported, Network, Scale, Shape, shape_after
from tfexplore.neurons.parameters import check_between
from tfexplore.nn.fusion import FusedSequential
from tfexplore.nn.layers import Layer
from tfexplore.nn.recurrent import Recurrent
from tfexplore.nn.wrappers import FoldTime

Sources: TypeAlias = tuple[str, ...]
"""Nodes whose outputs are summed."""


def to_nir(
    net: nn.Module, *, dt: float, shape: int | Shape | None = None, reset: str | None = None, leak: str | None = None
) -> Graph:
    """A network of ours as a NIR graph: `exchange.write(graph, file)` writes it, `graph.to_nir()` is nir's object.

    Modules: `IF`, `LIF`, `ParametricLIF` (tau as it is now), `LI` and `CubaLIF`, with parameters of channels and neurons; what
    `from_nir` makes; of what `from_norse` and `from_spikingjelly` make, the neurons that NIR has; `nn.Linear`, `nn.Flatten`,
    `Recurrent`; in `FoldTime`, `nn.Conv1d`, `nn.Conv2d`, `nn.AvgPool2d` (with a `divisor_override` of 1, NIR's SumPool2d) and
    `nn.Flatten`; `nn.Sequential` of these, nested. Nodes have the modules' names, those of an imported network the names that
    they came with. Parameters of neurons and all shapes are written in full.

    What NIR cannot say: a surrogate, a dtype, a soft reset, and a spike at the threshold itself (`strict=False`): NIR's neurons
    fire above it. A neuron of the library is written beside its NIR equation as it is, as metadata, so that `from_nir` gives back
    the same neuron, and the same bits.

    Args:
        net: in time steps, as all networks here.
        dt: the length of a time step, in seconds.
        shape: the features of the input `[T, B, *features]`; left out for a network that begins with an `nn.Linear`, or that
            `from_nir` made.
        reset: `"hard"` writes neurons of any reset as NIR has it, to v_reset; a network that was trained with another one then
            computes something else.
        leak: how the reader is to take its steps, as in `from_nir`; None for what an imported network came with, else `"euler"`.

    Raises:
        ValueError: with the module's name: for what has no NIR form, or where shapes do not fit; without a shape where the
            network does not say it.

    Example:
        >>> import torch
        >>> from tfexplore import LIF
        >>> from tfexplore.exchange import to_nir
        >>> graph = to_nir(torch.nn.Sequential(torch.nn.Linear(3, 2), LIF(tau=4.0, reset="hard")), dt=0.001)
        >>> graph.edges, graph.nodes["1"].parameters["tau"].tolist()
        ((('input', '0'), ('0', '1'), ('1', 'output')), [0.004, 0.004])
    """
    check_between("dt", dt, 0.0, above=True)
    leak = leak or getattr(net, "leak", "euler")
    if leak not in LEAKS:
        raise ValueError(f"leak must be {' or '.join(map(repr, LEAKS))}, but got {leak!r}.")
    if reset not in (None, "hard"):
        raise ValueError(f"reset must be None or 'hard', the only one of NIR, but got {reset!r}.")
    given = first_shape(net) if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
    return Written(net, dt, leak, reset).graph(given)


def first_shape(net: nn.Module) -> Shape:
    """The features that a network takes, where it says so itself."""
    if isinstance(net, Imported):
        return net.graph.nodes[net.ends[0]].parameters["shape"]  # type: ignore[union-attr]
    first: Any = net
    while type(first) in (nn.Sequential, FoldTime) and len(first):
        first = first[0]
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    raise ValueError(
        f"to_nir must know the features of the input, and a {type(first).__name__} takes any; give them without time and batch, "
        "as shape=(2, 34, 34)."
    )


class Written:
    """The nodes and edges of a graph that is being written."""

    def __init__(self, net: nn.Module, dt: float, leak: str, reset: str | None) -> None:
        self.net, self.dt, self.leak, self.reset = net, dt, leak, reset
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []
        imported = [(name, part) for name, part in net.named_modules() if isinstance(part, Imported)]
        self.names = {
            inner(name, place): inner(name, node) for name, part in imported for node, place in part.places.items()
        }

    def graph(self, shape: Shape) -> Graph:
        taken = {*self.names.values(), *(name for name, _ in self.net.named_modules())}
        start, end = (
            self.net.ends if isinstance(self.net, Imported) else (unlike("input", taken), unlike("output", taken))
        )
        self.nodes[start] = Node("Input", {"shape": shape})
        last, shape = self._add("", self.net, (start,), shape, 2)
        self._node(end, Node("Output", {"shape": shape}), last)
        return Graph(self.nodes, tuple(self.edges))

    def _node(self, name: str, node: Node, sources: Sources) -> Sources:
        if len({*sources}) < len(sources):
            raise ValueError(f"Module {name!r} gets one input twice, but NIR's edges are a set; put a Scale into one.")
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return (name,)

    def _add(self, name: str, module: nn.Module, sources: Sources, shape: Shape, axes: int) -> tuple[Sources, Shape]:
        """Writes a module, or what is in it; what comes out of which nodes, and its shape. axes: before the features, 1 or 2."""
        if type(module) in (nn.Sequential, Chain, FusedSequential, FoldTime):
            axes = 1 if isinstance(module, FoldTime) else axes
            for key, part in children(module).items():
                path = inner(name, key)
                if axes == 1 and len(children(module)) == 1:
                    self.names.setdefault(path, self.names.get(name, name))
                sources, shape = self._add(path, part, sources, shape, axes)
            return sources, shape
        if isinstance(module, Network):
            return self._network(name, module, sources, shape)
        if type(module) is nn.Identity:
            return sources, shape
        if isinstance(module, Recurrent):
            return self._recurrent(name, module, sources, shape)
        try:
            node, after = self._written(module, shape, axes), shape_after(module, shape, axes)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"Module {name!r}: {str(error).rstrip('.')}.") from error
        return self._node(self.names.get(name, name or "0"), node, sources), after

    def _network(self, name: str, net: Network, sources: Sources, shape: Shape) -> tuple[Sources, Shape]:
        made = {"": (sources, shape)}

        def into(key: str) -> tuple[Sources, Shape]:
            found = [made[source] for source in net.sources[key]]
            return tuple(each for sources, _ in found for each in sources), found[0][1]

        for key, part in children(net).items():
            made[key] = self._add(inner(name, key), part, *into(key), 2)
        return into("")

    def _recurrent(self, name: str, module: Recurrent, sources: Sources, shape: Shape) -> tuple[Sources, Shape]:
        """The layer, and what returns to it."""
        out, _ = self._add(inner(name, "layer"), module.layer, sources, shape, 2)
        back, returned = self._add(inner(name, "feedback"), module.feedback, out, shape, 2)
        if returned != shape:
            raise ValueError(f"Module {name!r}: its feedback has the shape {returned}, and not its layer's, {shape}.")
        self.edges += [(source, out[0]) for source in back]
        return out, shape

    def _written(self, module: nn.Module, shape: Shape, axes: int) -> Node:
        if isinstance(module, Layer):
            return self._neurons(module, shape)
        if isinstance(module, Delay):
            return Node("Delay", {"delay": spread(array(module.steps) * self.dt, shape)})
        return stateless(module, shape, axes)

    def _neurons(self, layer: Layer, shape: Shape) -> Node:
        neuron = layer.neuron
        kind, name = KIND.get(type(neuron)), type(neuron).__name__
        if kind is None:
            raise ValueError(f"{name} has no counterpart in NIR; its neurons are {', '.join(NIR)}")
        if layer.smooth or (layer.temporal == "off" and kind != "Threshold"):
            raise ValueError(f"{name} with smooth=True or temporal='off' has no counterpart in NIR")
        if neuron.reset != "hard" and "v_reset" in KINDS[kind]:
            if self.reset != "hard":
                raise ValueError(
                    f"{name} has reset={neuron.reset!r}, but NIR only a hard one; give reset='hard' to write it so"
                )
            neuron = dataclasses.replace(neuron, reset="hard")
        own = layer.learned | dict(layer.fixed.named_buffers())
        values = {key: array(own[key]) if key in own else np.asarray(value) for key, value in neuron.parameters.items()}
        return node_of(neuron, values, shape, self.dt, self.leak)


def stateless(module: nn.Module, shape: Shape, axes: int) -> Node:
    """The node of a module without neurons."""
    given: Any = module
    if type(module) is nn.Linear:
        if shape != (given.in_features,):
            raise ValueError(f"NIR's Linear takes one axis of features, but this one gets {shape}")
        return Node("Linear" if given.bias is None else "Affine", weights(module))
    if type(module) in (nn.Conv1d, nn.Conv2d):
        if given.padding_mode != "zeros":
            raise ValueError(f"NIR pads with zeros, but its padding_mode is {given.padding_mode!r}")
        options = {name: getattr(given, name) for name in ("stride", "padding", "dilation", "groups")}
        none = {"bias": np.zeros(given.out_channels, np.float32)}
        return Node(type(module).__name__, {"input_shape": shape[1:], **none, **weights(module), **options})
    if isinstance(module, nn.AvgPool2d):
        pads = given.count_include_pad or given.padding in (0, (0, 0)) or given.divisor_override == 1
        if given.ceil_mode or given.divisor_override not in (None, 1) or not pads:
            raise ValueError(
                "NIR's pools count the padding, divide by nothing or the window, and drop what is left over"
            )
        kind = "AvgPool2d" if given.divisor_override is None else "SumPool2d"
        return Node(kind, {name: getattr(given, name) for name in ("kernel_size", "stride", "padding")})
    if type(module) is Scale:
        return Node("Scale", {"scale": spread(weights(module)["scale"], shape)})
    if type(module) is nn.Flatten:
        first, last = (d - axes if d >= 0 else d + len(shape) for d in (given.start_dim, given.end_dim))
        if first < 0:
            raise ValueError(f"it flattens time or batch; start at axis {axes}")
        return Node("Flatten", {"input_type": shape, "start_dim": first, "end_dim": last})
    raise ValueError(f"{type(module).__name__} has no counterpart in NIR")


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    """Its parameters by name, in their own precision, or float32 for half, which a NIR file does not have."""
    return {n: array(value, torch.promote_types(value.dtype, torch.float32)) for n, value in module.named_parameters()}


def array(values: Tensor, dtype: torch.dtype = torch.float64) -> np.ndarray:
    """A copy."""
    made: np.ndarray = values.detach().cpu().to(dtype, copy=True).numpy()
    return made


def children(module: nn.Module) -> dict[str, nn.Module]:
    """Its modules by name; `named_children` leaves out one that is there twice."""
    return {key: part for key, part in module._modules.items() if part is not None}


def inner(name: str, key: str) -> str:
    return f"{name}.{key}" if name and key else name or key


def unlike(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
