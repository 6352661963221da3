"""State and traces of a whole network, from outside: `carry` hands every layer its state, `record` listens in.

`carry` is the one state provider: streaming, chunks of time, truncated backpropagation and step-by-step are all "take
the state you left last time". A provider is anything with `take(layer)` and `leave(layer, state)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.layers import Layer, State, Stateful


class States(dict[tuple[str, int], State]):
    """The states left by the layers, keyed by (module name, which call of it within one pass of the network)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._names = {module: name for name, module in net.named_modules() if isinstance(module, Stateful)}
        self._calls: Counter[nn.Module] | None = None

    def begin_pass(self, *_: Any) -> None:
        self._calls = Counter()

    def end_pass(self, *_: Any) -> None:
        self._calls = None

    def _key(self, layer: Stateful) -> tuple[str, int]:
        # outside a pass of the whole network (its layers called one by one) there is one state per module
        return self._names[layer], 0 if self._calls is None else self._calls[layer]

    def take(self, layer: Stateful) -> State | None:
        return self.get(self._key(layer))

    def leave(self, layer: Stateful, state: State) -> None:
        self[self._key(layer)] = state
        if self._calls is not None:
            self._calls[layer] += 1

    def detach(self) -> None:
        """Cuts the gradient here: what follows does not reach back before this point (truncated backpropagation)."""
        for key, state in self.items():
            self[key] = tuple(z.detach() for z in state)


@contextmanager
def carry(net: nn.Module, states: States | None = None) -> Iterator[States]:
    """Within this block, every layer of `net` goes on from the state it left at its last call.

    Give the states of an earlier block to go on from there.

    >>> from tfexplore.layers import LIF
    >>> net, x = nn.Sequential(LIF(), LIF()), torch.rand(10, 2, 3)
    >>> with carry(net) as states:
    ...     first, second = net(x[:4]), net(x[4:])
    >>> torch.equal(torch.cat([first, second]), net(x))
    True
    """
    states = States(net) if states is None else states
    layers = [module for module in net.modules() if isinstance(module, Stateful)]
    before = [layer.provider for layer in layers]
    hooks = [
        net.register_forward_pre_hook(states.begin_pass),
        net.register_forward_hook(states.end_pass, always_call=True),
    ]
    for layer in layers:
        layer.provider = states
    try:
        yield states
    finally:
        for layer, provider in zip(layers, before, strict=True):
            layer.provider = provider
        for hook in hooks:
            hook.remove()


class Traces:
    """What was recorded: `traces[module name][variable]` is a tensor [T, B, *features], without gradient.

    Calls of one layer follow each other in time, as in step-by-step.
    """

    def __init__(self, net: nn.Module, names: tuple[str, ...]) -> None:
        self.names = names
        self._modules = {module: name for name, module in net.named_modules() if isinstance(module, Layer)}
        self._parts: dict[str, dict[str, list[Tensor]]] = {}
        for module in self._modules:
            self.kernel_names(module)
            unknown = [name for name in names if name not in ("s", "h", *module.neuron.states)]
            if unknown and not any(unknown[0] in other.neuron.states for other in self._modules):
                known = sorted({"s", "h"}.union(*(m.neuron.states for m in self._modules)))
                raise ValueError(f"No layer records {unknown[0]!r}; there is {', '.join(known)}.")

    def kernel_names(self, layer: Layer) -> tuple[str, ...]:
        """What the kernel of this layer must write: a state after each step, or h, the charged potential."""
        return tuple(name for name in self.names if name in ("h", *layer.neuron.states))

    def add(self, layer: Layer, out: Tensor, watched: dict[str, Tensor]) -> None:
        seen = watched | ({"s": out} if "s" in self.names else {})
        parts = self._parts.setdefault(self._modules[layer], {})
        for name, trace in seen.items():
            parts.setdefault(name, []).append(trace.detach())

    def __getitem__(self, module: str) -> dict[str, Tensor]:
        if module not in self._parts:
            raise KeyError(
                f"Nothing recorded for {module!r}; recorded: {', '.join(map(repr, self._parts)) or 'nothing yet'}."
            )
        return {name: torch.cat(parts) for name, parts in self._parts[module].items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@contextmanager
def record(net: nn.Module, *names: str) -> Iterator[Traces]:
    """Within this block, the layers of `net` also write the variables named here, at every time step.

    A state ("v"; ALIF's "b", ...) as it is after the step, "h" the charged potential before the reset, "s" the output.

    >>> from tfexplore.layers import LIF
    >>> net = nn.Sequential(LIF())
    >>> with record(net, "v", "s") as traces:
    ...     _ = net(torch.full((3, 1, 1), 0.8))
    >>> [round(v, 4) for v in traces["0"]["v"].flatten().tolist()]
    [0.8, 0.2, 0.9]
    """
    traces = Traces(net, names or ("v",))
    layers = [module for module in net.modules() if isinstance(module, Layer)]
    before = [layer.sink for layer in layers]
    for layer in layers:
        layer.sink = traces
    try:
        yield traces
    finally:
        for layer, sink in zip(layers, before, strict=True):
            layer.sink = sink
