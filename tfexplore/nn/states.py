"""Hidden states and traces of a whole network, from outside: `carry` hands every layer its state, `record` collects variables.

`carry` is the one state provider: streaming, chunks of time, truncated backpropagation and step-by-step are all "take
the state that the last call left". A provider is anything with the four methods of `States`: take, leave, begin_pass, end_pass.
`leave` gets the layer's output too and returns it, so that time splitting can attach the state's backward pass to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.machine.torch_private import backward_frees_graph, backward_pass, is_recorded
from tfexplore.nn.checks import State, check_integers
from tfexplore.nn.layers import Layer
from tfexplore.nn.stateful import Stateful

Key = tuple[str, int]
"""A module's name, and which of its calls within one pass of the network (a shared layer has several)."""


class Passes:
    """Distinguishes the calls of a layer within one pass of the network. Passes nest: a part may be walked on its own."""

    def __init__(self) -> None:
        self._names: dict[nn.Module, str] = {}
        self._passes: list[Counter[nn.Module]] = []

    def know(self, net: nn.Module) -> None:
        self._names |= {module: name for name, module in net.named_modules() if isinstance(module, Stateful)}

    def begin_pass(self, *_: Any) -> None:
        self._passes.append(Counter())

    def end_pass(self, *_: Any) -> None:
        self._passes.pop()

    def key(self, layer: nn.Module) -> Key:
        # outside a pass of the whole network (its layers called one by one) every call is the first
        return self._names[layer], self._passes[-1][layer] if self._passes else 0

    def called(self, layer: nn.Module) -> None:
        if self._passes:
            self._passes[-1][layer] += 1


class States(dict[Key, State], Passes):
    """The hidden states that layers left: `carry` yields them.

    A dictionary from (module name, number of its call within one pass of the network) to a tuple of tensors `[B, *features]`.
    """

    handed_over = True
    """To the user, who may detach them."""

    def __init__(self) -> None:
        dict.__init__(self)
        Passes.__init__(self)

    def take(self, layer: Stateful) -> State | None:
        if backward_pass() is not None:
            raise RuntimeError(
                "a layer runs again during the backward pass (activation checkpointing), when carry holds a later state; "
                "hand the state over explicitly: layer(x, state, return_state=True)."
            )
        return self.get(self.key(layer))

    def leave(self, layer: Stateful, state: State, out: Tensor) -> Tensor:
        self[self.key(layer)] = state
        self.called(layer)
        if self.handed_over:
            explain_a_freed_graph(out, state)
        return out

    def detach(self) -> None:
        """Cuts the gradient here (truncated backpropagation): call it after each `backward()`; later ones end at this point."""
        for key, state in self.items():
            self[key] = tuple(z.detach() for z in state)


def explain_a_freed_graph(out: Tensor, state: State) -> None:
    """A backward pass that comes through `state` when an earlier one, through `out`, has freed the graph raises what to do.

    The hooks are those of nodes, not of tensors: a gradient taken at a tensor does not go through its node.
    """
    freed_by: list[int | None] = []  # the backward pass that freed it

    def freed(*_: Any) -> None:
        if backward_frees_graph():
            freed_by.append(backward_pass())

    def reached(*_: Any) -> None:
        if freed_by and freed_by[0] != backward_pass():
            raise RuntimeError(
                "the backward pass comes, through the states that carry holds, to an earlier call whose graph a backward pass "
                "has freed; call states.detach() after each backward(), or keep the graph: backward(retain_graph=True)."
            )

    if out.grad_fn is not None:
        out.grad_fn.register_hook(freed)
        for z in state:
            if z.grad_fn is not None:
                z.grad_fn.register_prehook(reached)


def stateful(net: nn.Module) -> list[Stateful]:
    """The modules of `net` with a hidden state, in the order in which it names them."""
    return [module for module in net.modules() if isinstance(module, Stateful)]


@contextmanager
def attached(
    net: nn.Module, role: str, given: Any, layers: Iterable[Stateful], watching: Iterable[Any]
) -> Iterator[None]:
    """Sets the `provider`, `sink` or `padding` of the layers, and tells `watching` when a pass of `net` begins and ends."""
    before = [(layer, getattr(layer, role)) for layer in layers]
    with ExitStack() as undo:
        for layer, old in before:
            undo.callback(setattr, layer, role, old)
            setattr(layer, role, given)
        for watcher in watching:
            undo.callback(net.register_forward_pre_hook(watcher.begin_pass).remove)
            undo.callback(net.register_forward_hook(watcher.end_pass, always_call=True).remove)
        yield


@contextmanager
def carry(net: nn.Module, states: States | None = None) -> Iterator[States]:
    """Within this block, every layer of `net` goes on from the hidden state that its last call left.

    Running T steps equals running T1 and then T2 of them, forward and backward: gradients flow through the states too. Where
    each chunk has a `backward()` of its own, call `states.detach()` after it (truncated backpropagation).

    Args:
        net: any module; its layers are found by `net.modules()`.
        states: those of an earlier block, or of a copy of the network, to go on from there; None begins anew.

    Yields:
        The states, a dictionary from (module name, number of the call within a pass) to a tuple of tensors.

    Raises:
        RuntimeError: where a forward pass within `carry` is recomputed by activation checkpointing (the state has moved on by
            then), or a backward pass comes to a graph that an earlier one has freed; the message says what to do.

    Example:
        >>> import torch, tfexplore
        >>> net, x = torch.nn.Sequential(tfexplore.LIF(), tfexplore.LIF()), torch.rand(10, 2, 3)
        >>> with tfexplore.carry(net) as states:
        ...     first, second = net(x[:4]), net(x[4:])
        >>> torch.equal(torch.cat([first, second]), net(x))
        True
    """
    states = States() if states is None else states
    states.know(net)
    with attached(net, "provider", states, stateful(net), [states]):
        yield states


@contextmanager
def carry_on(net: nn.Module) -> Iterator[None]:
    """Like `carry`, for one walk in several calls of `net`: layers within a `carry` of the user's keep its provider."""
    new = States()
    new.handed_over = False
    new.know(net)
    layers = stateful(net)
    watching = {id(w): w for layer in layers for w in (layer.provider, layer.sink, layer.padding) if w is not None}
    without = [layer for layer in layers if layer.provider is None]
    with attached(net, "provider", new, without, [new, *watching.values()]):
        yield


class Traces(Passes):
    """What was recorded: `record` yields them. `traces[module name][variable]` is a tensor `[T, B, *features]`.

    Passes follow each other in time, as in step-by-step. A module called several times in one pass has a trace for each:
    `traces[name]` is that of the first call, `traces[name, 1]` that of the second.
    """

    def __init__(self, net: nn.Module, names: tuple[str, ...], differentiable: bool) -> None:
        super().__init__()
        self.know(net)
        self.names, self.differentiable = names, differentiable
        self._parts: dict[Key, dict[str, list[Tensor]]] = {}
        known = {"s", "h"}.union(*(layer.neuron.states for layer in stateful(net) if isinstance(layer, Layer)))
        if len(known) == 2:
            raise ValueError("net has no layer of neurons, so there is nothing to record.")
        for name in names:
            if name not in known:
                raise ValueError(f"No layer records {name!r}; there is {', '.join(sorted(known))}.")

    def kernel_names(self, layer: Layer) -> tuple[str, ...]:
        """What the kernel of this layer must write: h, the charged potential, and states after each step.

        In one order, whatever the order of the names: each order would be a kernel of its own.
        """
        return tuple(name for name in ("h", *layer.neuron.states) if name in self.names)

    def add(self, layer: Layer, out: Tensor, watched: dict[str, Tensor]) -> None:
        # copied: an in-place module behind the layer may change its output
        seen = watched | ({"s": out.clone()} if "s" in self.names else {})
        parts = self._parts.setdefault(self.key(layer), {})
        for name, trace in seen.items():
            parts.setdefault(name, []).append(trace if self.differentiable else trace.detach())
        self.called(layer)

    def __getitem__(self, key: str | Key) -> dict[str, Tensor]:
        key = (key, 0) if isinstance(key, str) else key
        if key not in self._parts:
            have = ", ".join(repr(name if call == 0 else (name, call)) for name, call in self._parts) or "nothing yet"
            raise KeyError(f"Nothing recorded for {key[0] if key[1] == 0 else key!r}; recorded: {have}.")
        return {name: torch.cat(parts) for name, parts in self._parts[key].items()}

    def __iter__(self) -> Iterator[str | Key]:
        return iter(name if call == 0 else (name, call) for name, call in self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@contextmanager
def record(net: nn.Module, *names: str, differentiable: bool = False) -> Iterator[Traces]:
    """Within this block, the layers of `net` also write the variables named here, at every time step.

    The fused kernels write them, so that recording changes neither the spikes nor the gradients.

    Args:
        net: any module; its layers are found by `net.modules()`.
        names: a state as it is after the step (`"v"`; ALIF's `"b"`, ...), `"h"` (the charged potential, before the reset) or
            `"s"` (the output); by default `"v"`.
        differentiable: gradients flow through the traces, for a loss on them; the fused backward pass takes them in.

    Yields:
        The traces: `traces[module name][variable]` is a tensor `[T, B, *features]`, without gradient unless `differentiable`.

    Raises:
        ValueError: if `net` has no layer of neurons, or none that has such a variable.

    Example:
        >>> import torch, tfexplore
        >>> net = torch.nn.Sequential(tfexplore.LIF())
        >>> with tfexplore.record(net, "v", "s") as traces:
        ...     _ = net(torch.full((3, 1, 1), 0.8))
        >>> [round(v, 4) for v in traces["0"]["v"].flatten().tolist()]
        [0.8, 0.2, 0.9]
    """
    traces = Traces(net, names or ("v",), differentiable)
    with attached(net, "sink", traces, stateful(net), [traces]):
        yield traces


class Padding(Passes):
    """The lengths of a batch's samples, for all layers of a network, wherever each of them is in time."""

    def __init__(self, net: nn.Module, lengths: Tensor) -> None:
        super().__init__()
        self.know(net)
        self.lengths = lengths
        self.gone: Counter[Key] = Counter()

    def take(self, layer: Stateful, x: Tensor, own: Tensor | None) -> Tensor:
        """The steps of this call that are valid: its own, or what is left of the samples where layers go on from their state."""
        if own is not None:
            raise ValueError(
                "lengths came with the call, within `padded`, which gives every layer its lengths; leave one out."
            )
        if layer.provider is None:
            return self.lengths
        key, steps = self.key(layer), x.shape[0]
        gone = self.gone[key]
        self.gone[key] += steps
        self.called(layer)
        return (self.lengths - gone).clamp(0, steps)


@contextmanager
def padded(net: nn.Module, lengths: Tensor) -> Iterator[None]:
    """Within this block, the samples of a batch have different lengths, and are padded to T.

    In every layer of `net`, after a sample's last step its state stays as it was, its spikes are 0, and no gradient comes from
    there. Stateless modules see the padded steps as they come; BatchNorm in training mode counts them. Within `carry`, or step by
    step, lengths are counted from the first call in this block.

    Args:
        net: any module; its layers are found by `net.modules()`.
        lengths: the number of steps of each sample, `[B]`, int64, from 0 to T.

    Raises:
        TypeError: for lengths that are no integers.
        ValueError: for a negative length; at the call of a layer, for lengths that do not fit its input.
        RuntimeError: within another `padded`.

    Example:
        >>> import torch, tfexplore
        >>> net = torch.nn.Sequential(tfexplore.LIF())
        >>> with tfexplore.padded(net, torch.tensor([3, 1])):
        ...     net(torch.full((3, 2, 1), 1.0))[..., 0].tolist()
        [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    """
    check_integers("lengths", lengths, len(lengths))
    if not is_recorded() and bool((lengths < 0).any()):
        raise ValueError(f"lengths must be from 0 on, but got {lengths.tolist()}.")
    layers = stateful(net)
    if any(layer.padding is not None for layer in layers):
        raise RuntimeError("the network is within `padded` already; lengths cannot nest.")
    padding = Padding(net, lengths)
    with attached(net, "padding", padding, layers, [padding]):
        yield
