"""State and traces of a whole network, from outside: `carry` hands every layer its state, `record` listens in.

`carry` is the one state provider: streaming, chunks of time, truncated backpropagation and step-by-step are all "take
the state you left last time". A provider is anything with the four methods of `States`: take, leave, begin_pass, end_pass.
`leave` is given the layer's output too and returns it, so that time splitting can hang the state's way back on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.nn.layers import Layer, State, Stateful

Key = tuple[str, int]
"""A module's name, and which of its calls within one pass of the network (a shared layer has several)."""


class Passes:
    """Tells the calls of a layer within one pass of the network apart. Passes nest: a part may be walked on its own."""

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
    """The states that the layers left, keyed by (module name, which call of it within one pass of the network)."""

    handed_over = True
    """To the user, who may detach them."""

    def __init__(self) -> None:
        dict.__init__(self)
        Passes.__init__(self)

    def take(self, layer: Stateful) -> State | None:
        if (
            torch._C._current_graph_task_id() != -1
        ):  # as torch's own checkpointing asks whether a backward pass is running
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
        """Cuts the gradient here, after `backward()`: what follows does not reach back before this point."""
        for key, state in self.items():
            self[key] = tuple(z.detach() for z in state)


def explain_a_freed_graph(out: Tensor, state: State) -> None:
    """A backward pass that comes through `state` when an earlier one, through `out`, has freed the graph says what to do.

    Hooks of the nodes and not of the tensors: a gradient asked for at a tensor does not go through its node.
    """
    freed_by: list[int] = []  # the backward pass that did

    def freed(*_: Any) -> None:
        if not torch._C._autograd._get_current_graph_task_keep_graph():
            freed_by.append(torch._C._current_graph_task_id())

    def reached(*_: Any) -> None:
        if freed_by and freed_by[0] != torch._C._current_graph_task_id():
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
    return [module for module in net.modules() if isinstance(module, Stateful)]


@contextmanager
def _within(
    net: nn.Module, role: str, given: Any, layers: Iterable[Stateful], watching: Iterable[Any]
) -> Iterator[None]:
    """Sets the `provider` or `sink` of the layers, and tells all of `watching` when a pass of `net` begins and ends."""
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
    """Within this block, every layer of `net` goes on from the state it left at its last call.

    Give the states of an earlier block, or of a copy of the network, to go on from there. A forward pass within `carry`
    cannot be recomputed by activation checkpointing: the state has moved on by then.

    A gradient flows back through the states too. Where each chunk has a `backward()` of its own, call `states.detach()` after it.

    >>> from tfexplore.nn.layers import LIF
    >>> net, x = nn.Sequential(LIF(), LIF()), torch.rand(10, 2, 3)
    >>> with carry(net) as states:
    ...     first, second = net(x[:4]), net(x[4:])
    >>> torch.equal(torch.cat([first, second]), net(x))
    True
    """
    states = States() if states is None else states
    states.know(net)
    with _within(net, "provider", states, stateful(net), [states]):
        yield states


@contextmanager
def carry_on(net: nn.Module) -> Iterator[None]:
    """Like `carry`, for a walk in several calls of `net`: layers within a `carry` of the user's keep theirs."""
    new = States()
    new.handed_over = False
    new.know(net)
    layers = stateful(net)
    watching = {id(w): w for layer in layers for w in (layer.provider, layer.sink) if w is not None}
    without = [layer for layer in layers if layer.provider is None]
    with _within(net, "provider", new, without, [new, *watching.values()]):
        yield


class Traces(Passes):
    """What was recorded: `traces[module name][variable]` is a tensor [T, B, *features], without gradient.

    Passes follow each other in time, as in step-by-step. A module called several times in one pass has a trace for each:
    `traces[name]` is that of the first call, `traces[name, 1]` that of the second.
    """

    def __init__(self, net: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.know(net)
        self.names = names
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
            parts.setdefault(name, []).append(trace.detach())
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
def record(net: nn.Module, *names: str) -> Iterator[Traces]:
    """Within this block, the layers of `net` also write the variables named here, at every time step.

    A state ("v"; ALIF's "b", ...) as it is after the step, "h" the charged potential before the reset, "s" the output.

    >>> from tfexplore.nn.layers import LIF
    >>> net = nn.Sequential(LIF())
    >>> with record(net, "v", "s") as traces:
    ...     _ = net(torch.full((3, 1, 1), 0.8))
    >>> [round(v, 4) for v in traces["0"]["v"].flatten().tolist()]
    [0.8, 0.2, 0.9]
    """
    traces = Traces(net, names or ("v",))
    with _within(net, "sink", traces, stateful(net), [traces]):
        yield traces
