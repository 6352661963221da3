"""What a policy saves for backward, derived: from the neurons' equations, the shapes of what comes into modules, and T.

The layers of neurons save what `codegen` derives for their `keep`; a product with weights, a pooling and a BatchNorm their
input; a level of `ReversibleTime` its state for alpha's gradient, or what its `keep` says. Memory that two of them share counts
once. Other modules are left out, as are the loss and what is in flight in the backward pass: it is a bound from below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd

from tfexplore.codegen.keep import fastest
from tfexplore.codegen.traffic import kept_bytes
from tfexplore.explore.policies.policies import CHECKPOINTING, SLTT, TRUNCATED, Policy, Task, reversible
from tfexplore.nn.layers import Layer
from tfexplore.nn.states import carry
from tfexplore.reversible import Level, ReversibleTime

BIT = 1 / 8
KEEP_INPUT = (nn.Linear, _ConvNd, _AvgPoolNd, _BatchNorm)


def saved(task: Task, policy: Policy, graph: Graph | None = None) -> float | None:
    """The most bytes that a training step under this policy saves for backward at once; None for an eager one.

    graph: `Graph.of` the same task and policy, at any T.
    """
    if policy.backend == "torch" or policy.why_not(task):
        return None
    steps, chunk, graph = len(task.x), task.chunk, graph or Graph.of(task, policy)
    if policy.levels != "graph":
        return in_levels(task, policy, graph)
    if policy is SLTT:
        return graph.saved(1, begun=True)
    if policy is TRUNCATED:
        return graph.saved(chunk, begun=True)
    if policy is CHECKPOINTING:
        return graph.saved(chunk, begun=True) + graph.states * (math.ceil(steps / chunk) - 1)
    return graph.saved(steps)


def in_levels(task: Task, policy: Policy, graph: Graph) -> float:
    """Of a network with `ReversibleTime`, under a policy that does not keep its graph."""
    steps, kept = len(task.x), 0.0
    for part, (neurons, nbytes) in zip(reversible(task.net), graph.levels, strict=True):
        with policy.prepared(task):
            apart = part.anchors or steps
        if policy.levels == "bits":
            kept += neurons * planes(part.read) * BIT * steps
        else:
            kept += nbytes * (steps if policy.levels == "levels" else math.ceil(steps / apart))
    return kept + graph.largest


def planes(read: nn.Module) -> int:
    """Bits of a level's neuron and step: whether it fires, and the outcomes that its adjoint needs."""
    assert isinstance(read, Layer)
    return 1 + int(kept_bytes(read.neuron, "bits") / BIT)


@dataclass(frozen=True)
class Graph:
    """Bytes of the graph of modules over T time steps, once + T each, and of the states between two chunks.

    levels: of each `ReversibleTime` how many neurons its levels have, and their bytes.
    learned: bytes of the levels whose alpha is learned: its gradient needs them as they were before each step.
    largest: bytes of the graph of one level's F at one step, the largest.
    """

    once: float
    each: float
    states: float
    levels: tuple[tuple[int, int], ...]
    learned: float
    largest: float

    @classmethod
    def of(cls, task: Task, policy: Policy) -> Graph:
        """From the network's first time steps, three at most."""
        with policy.prepared(task), torch.no_grad(), carry(task.net) as states:
            task.net(task.x[:1])
        with policy.prepared(task):
            found = {steps: pieces(task, steps) for steps in (1, 2, 3)}
        two, three = (sum({piece.place: piece.size for piece in found[steps]}.values()) for steps in (2, 3))
        names = {name: part for name, part in task.net.named_modules() if isinstance(part, ReversibleTime)}
        behind = {name: state for (name, _), state in states.items() if name in names}
        levels = tuple((sum(z.numel() for z in state), sum(z.nbytes for z in state)) for state in behind.values())
        trained = {name for name in behind if any(alpha.requires_grad for alpha in names[name].alphas)}
        learned = float(sum(z.nbytes for name in trained for z in behind[name]))
        inside: dict[str, float] = {}
        roofs = [name for name, part in task.net.named_modules() if isinstance(part, Level)]
        for piece in found[1]:
            for roof in roofs:
                if piece.name.startswith(f"{roof}."):
                    inside[roof] = inside.get(roof, 0.0) + piece.size
        every = float(sum(z.nbytes for state in states.values() for z in state))
        return cls(3 * two - 2 * three, three - two, every, levels, learned, max(inside.values(), default=0.0))

    def saved(self, steps: int, begun: bool = False) -> float:
        """Over so many steps; before the first there are states only where they have `begun`."""
        return self.once + self.each * steps + self.learned * (steps - 1 + begun)


@dataclass(frozen=True)
class Piece:
    """Bytes that a module saves, and where they lie; `tensor` keeps the place from being given to another."""

    name: str
    place: object
    size: float
    tensor: Tensor


def pieces(task: Task, steps: int) -> list[Piece]:
    """What the modules of the network would save in its first time steps."""
    found: list[Piece] = []
    x = task.x[:steps]
    there = x.untyped_storage().data_ptr()

    def look(module: nn.Module, name: str, given: Tensor) -> None:
        found.extend(piece for piece in kept_by(module, name, given) if piece.place != there)

    with ExitStack() as undo, torch.no_grad():
        for name, module in task.net.named_modules():
            if isinstance(module, (*KEEP_INPUT, Layer)):
                hook = module.register_forward_pre_hook(lambda m, given, name=name: look(m, name, given[0]))
                undo.callback(hook.remove)
        task.net(x)
    return found


def kept_by(module: nn.Module, name: str, x: Tensor) -> Iterator[Piece]:
    keep = "input"
    if isinstance(module, Layer):
        auto = module.keep == "auto"
        keep = fastest(module.step, module.choice(x).name, module.smooth) if auto else module.keep
    if isinstance(module, Layer) and keep != "input":  # the states of "input" at every 32nd step are left out
        each = float(kept_bytes(module.neuron, keep, str(x.dtype).removeprefix("torch.")))
        # a byte holds bits of several time steps, and a layer without memory sees one at a time
        alone = keep == "bits" and not module.state_names
        yield Piece(name, object(), max(each, float(alone)) * x.numel(), x)
    elif isinstance(module, nn.Linear) and not x.is_contiguous():
        yield Piece(name, object(), x.nbytes, x)  # a copy
    else:
        yield Piece(name, x.untyped_storage().data_ptr(), x.untyped_storage().nbytes(), x)
