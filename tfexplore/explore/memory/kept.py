"""What a backward pass costs in memory and traffic: predicted from the equations, and counted while a network runs.

Kept: the bytes that autograd holds when the backward pass begins, each piece of memory once, whatever shares it. The
network's own parameters and buffers are there anyway, and left out. Moved: the bytes of the tensors that a layer's operators
take and return, forward and backward. That is what they must touch: caches may spare some of it, temporaries inside of an
operator come on top.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.codegen.keep import why_not
from tfexplore.codegen.traffic import kept_bytes, nbytes, traffic_of
from tfexplore.codegen.variant import Variant
from tfexplore.measure.timeline import Counting
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of
from tfexplore.nn.checks import check_input
from tfexplore.nn.layers import Layer
from tfexplore.nn.schedules import layer_by_layer, step_by_step


@dataclass(frozen=True)
class Way:
    """One way to run a network forward, and (`gradient`) backward.

    walk: the order of layers and time steps.   fused: by the fused kernels.   keep: what they save for backward.
    """

    name: str
    walk: Callable[[nn.Module, Tensor], Tensor]
    fused: bool = False
    keep: str = "auto"
    gradient: bool = True


def _step_by_step(net: nn.Module, x: Tensor) -> Tensor:
    return step_by_step(net, x, batch_norm="per step")  # other values, but the same number of them


WAYS = STEPPED, LAYERED, POTENTIAL, INPUT, BITS, NOTHING = (
    Way("step by step", _step_by_step),
    Way("layer by layer", layer_by_layer),
    Way("fused, keep potential", layer_by_layer, fused=True, keep="potential"),
    Way("fused, keep input", layer_by_layer, fused=True, keep="input"),
    Way("fused, keep bits", layer_by_layer, fused=True, keep="bits"),
    Way("fused, no gradient", layer_by_layer, fused=True, gradient=False),
)


@dataclass(frozen=True)
class Cells:
    """A layer of neurons in a network: how many it has, batch included, and the dtype of its input."""

    neuron: Neuron
    neurons: int
    dtype: str

    def why_not(self, way: Way) -> str:
        """Why this way would not be exact for these neurons, or ""."""
        return why_not(step_of(self.neuron)) if way.keep == "bits" else ""

    def kept(self, way: Way, steps: int) -> float | None:
        """Predicted bytes saved per element-step; None for an eager way, of which the equations know nothing.

        With keep="input" the state at the start of every chunk but the first is saved, so it depends a little on T.
        """
        if not way.fused or self.why_not(way):
            return None
        if not way.gradient:
            return 0.0
        saved = kept_bytes(self.neuron, way.keep, self.dtype)
        if way.keep == "input":
            states = [a for a in traffic_of(self.neuron, "input") if (a.kernel, a.array) == ("forward", "kept")]
            chunk = Variant(step_of(self.neuron), keep="input").chunk
            saved -= nbytes(states, self.dtype) * (1 - Fraction((steps - 1) // chunk * chunk, steps))
        return float(saved)

    def moved(self, way: Way) -> float | None:
        """Predicted bytes moved per element-step, forward and backward; None for an eager way."""
        if not way.fused or self.why_not(way):
            return None
        accesses = traffic_of(self.neuron, way.keep if way.gradient else "input", way.gradient)
        return float(nbytes(accesses, self.dtype))


def prepared(net: nn.Module, way: Way) -> nn.Module:
    """A copy of the network whose layers run this way; the network itself stays as it is."""
    made = copy.deepcopy(net)
    for layer in neuron_layers(made).values():
        layer.backend, layer.keep = ("auto" if way.fused else "torch"), way.keep
    return made


def neuron_layers(net: nn.Module) -> dict[str, Layer]:
    """The layers of neurons by module name, those that never fire (LI) too."""
    return {name: module for name, module in net.named_modules() if isinstance(module, Layer)}


def cells_of(net: nn.Module, x: Tensor) -> dict[str, Cells]:
    """The layers of neurons by name, found by running one time step of x."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, but got {type(net).__name__}.")
    check_input(x)
    if len(x) == 0:
        raise ValueError(f"x must have at least one time step, but got shape {tuple(x.shape)}.")
    if not neuron_layers(net):
        raise ValueError("net has no layer of neurons, so nothing of it is fused; use layers such as tfexplore.LIF().")
    probe, found = prepared(net, LAYERED), {}
    with torch.no_grad():
        for name, given in inputs_of(probe, x[:1]).items():
            count = sum(part.numel() for part in given)
            found[name] = Cells(neuron_layers(net)[name].neuron, count, str(given[0].dtype).removeprefix("torch."))
    return found


def inputs_of(net: nn.Module, x: Tensor) -> dict[str, list[Tensor]]:
    """The input of every layer of neurons, call by call, when the network runs layer by layer."""
    came: dict[str, list[Tensor]] = {}
    with ExitStack() as undo:
        for name, layer in neuron_layers(net).items():
            hook = layer.register_forward_pre_hook(lambda _, given, key=name: came.setdefault(key, []).append(given[0]))
            undo.callback(hook.remove)
        layer_by_layer(net, x)
    return came


class Saved:
    """A tensor saved for backward; it lives as long as autograd needs it."""

    def __init__(self, tensor: Tensor, owner: str) -> None:
        self.tensor, self.owner = tensor, owner


def kept(net: nn.Module, x: Tensor, way: Way) -> dict[str, int]:
    """Bytes saved for backward, by the module that saved them first; "" is what is saved between the modules.

    The gradient of x is computed too, as in the middle of a network.

    >>> from tfexplore.nn import LIF
    >>> kept(nn.Sequential(LIF()), torch.rand(64, 1, 100), INPUT) == {"0": 4 * 64 * 100 + 4 * 1 * 100}
    True
    """
    made = prepared(net, way)
    own = {part.untyped_storage().data_ptr() for part in (*made.parameters(), *made.buffers())}
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()
    running: list[str] = [""]

    def pack(tensor: Tensor) -> Saved:
        saved = Saved(tensor.detach(), running[-1])  # an output with its grad_fn would keep itself alive forever
        alive.add(saved)
        return saved

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor)
    with naming(made, running), torch.set_grad_enabled(way.gradient), hooks:
        out = way.walk(made, x.detach().requires_grad_(way.gradient))
    names = ["", *(name for name, _ in made.named_modules())]
    total: dict[str, int] = {}
    for saved in sorted(alive, key=lambda saved: names.index(saved.owner)):
        storage = saved.tensor.untyped_storage()
        if storage.data_ptr() not in own and storage.nbytes():
            own.add(storage.data_ptr())
            total[saved.owner] = total.get(saved.owner, 0) + storage.nbytes()
    del out  # until here it held the graph
    return total


@contextmanager
def naming(net: nn.Module, running: list[str]) -> Iterator[None]:
    """Within, the last of `running` is the name of the innermost module that runs."""
    with ExitStack() as undo:
        for name, module in net.named_modules():
            undo.callback(module.register_forward_pre_hook(lambda *_, key=name: running.append(key)).remove)
            undo.callback(module.register_forward_hook(lambda *_: void(running.pop()), always_call=True).remove)
        yield


def void(_: object) -> None:
    """A hook's return value would replace the module's output."""


class Counter(Counting):
    """Adds up the bytes of the tensors that operators take and return; views move nothing."""

    bytes = 0

    def note(self, words: int, nbytes: int, *_: Any) -> None:
        self.bytes += nbytes


def moved(net: nn.Module, x: Tensor, way: Way) -> dict[str, float]:
    """Bytes per element-step that the operators of each layer of neurons move, forward and backward; each runs alone.

    Only what grows with T: the difference between all time steps and half of them.

    >>> from tfexplore.nn import LIF
    >>> moved(nn.Sequential(LIF()), torch.rand(64, 1, 100), POTENTIAL)
    {'0': 24.0}
    """
    made = prepared(net, way)
    found = {}
    with torch.no_grad():
        inputs = inputs_of(prepared(net, NOTHING), x)
    for name, layer in neuron_layers(made).items():
        total, cells = 0, 0
        for given in inputs.get(name, []):
            less = given[: len(given) - len(given) // 2] if len(given) > 1 else given[:0]
            total += bytes_moved(layer, given, way) - bytes_moved(layer, less, way)
            cells += given.numel() - less.numel()
        if cells:
            found[name] = total / cells
    return found


def bytes_moved(layer: Layer, x: Tensor, way: Way) -> int:
    """Bytes of one whole pass."""
    if len(x) == 0:
        return 0
    x = x.detach().requires_grad_(way.gradient)
    g_out = torch.ones_like(x)
    with torch.set_grad_enabled(way.gradient), Counter() as counter:
        out = way.walk(nn.Sequential(layer), x)
        if way.gradient:
            torch.autograd.grad(out, (x, *layer.parameters()), g_out, allow_unused=True)
    return counter.bytes
