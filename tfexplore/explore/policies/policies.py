"""The policies: ways to run the same training step of a network over T time steps, which keep more or less for backward.

A loss is a mean over time: of the outputs of some steps, or, of a network whose levels return their mean over time, of that.
So a step in chunks of time adds up the losses of its chunks, each weighted by its length. All leave the gradient in `.grad`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tfexplore.codegen.keep import why_not
from tfexplore.nn.layers import Layer
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.states import Key, States, carry
from tfexplore.reversible import ReversibleTime


@dataclass(frozen=True)
class Task:
    """What is trained.

    net:    maps x to outputs [T, B, ...], or to their mean over time [B, ...].
    x:      the input, [T, B, *features].
    loss:   of the outputs of some time steps [t, B, ...], or of their mean [B, ...].
    """

    net: nn.Module
    x: Tensor
    loss: Callable[[Tensor], Tensor]

    def over(self, steps: int) -> Task:
        """The same over so many time steps: the first of x, or a held x for longer."""
        x = self.x[:1].expand(steps, *self.x.shape[1:]) if held(self.x) else self.x[:steps]
        return replace(self, x=x)

    @property
    def chunk(self) -> int:
        """The time steps of a chunk: as many as there are chunks, the least memory of checkpointing."""
        return math.isqrt(len(self.x) - 1) + 1


def held(x: Tensor) -> bool:
    """Whether an input is the same at every time step."""
    return x.stride(0) == 0 or len(x) == 1


# -- how the loss's gradient is found ----------------------------------------------------------------------------


def whole(task: Task) -> Tensor:
    """All time steps, then backward: backpropagation through time, by whatever the network's modules keep for it."""
    loss = task.loss(task.net(task.x))
    loss.backward()
    return loss.detach()


def truncated(task: Task, steps: int | None = None) -> Tensor:
    """Chunk by chunk forward and backward; the gradient ends where a chunk begins."""
    total = task.x.new_zeros(())
    with carry(task.net) as states:
        for part in task.x.split(steps or task.chunk):
            loss = task.loss(task.net(part)) * (len(part) / len(task.x))
            loss.backward()
            states.detach()
            total += loss.detach()
    return total


class Handed(States):
    """States that are arguments of a chunk, which is computed again from the same ones."""

    handed_over = False

    def take(self, layer: Stateful) -> tuple[Tensor, ...] | None:
        return self.get(self.key(layer))


def checkpointed(task: Task) -> Tensor:
    """Chunk by chunk, of which only the states between are kept; each chunk is computed again in the backward pass."""
    outs: list[Tensor] = []
    kinds: list[tuple[Key, int]] = []  # the layers' keys, and how many states each has
    states: tuple[Tensor, ...] = ()

    def chunk(part: Tensor, kinds: list[tuple[Key, int]], *given: Tensor) -> tuple[Any, ...]:
        rest = iter(given)
        handed = Handed()
        handed.update({key: tuple(next(rest) for _ in range(count)) for key, count in kinds})
        with carry(task.net, handed):
            out = task.net(part)
        return out, [(key, len(state)) for key, state in handed.items()], *(z for each in handed.values() for z in each)

    parts = task.x.split(task.chunk)
    for part in parts:
        out, kinds, *states = checkpoint(chunk, part, kinds, *states, use_reentrant=False)
        outs.append(out * (len(part) / len(task.x)) if means(task.net) else out)
    loss = task.loss(torch.stack(outs).sum(0) if means(task.net) else torch.cat(outs))
    loss.backward()
    return loss.detach()


def means(net: nn.Module) -> bool:
    """Whether the network returns its outputs' mean over time."""
    return any(part.out == "mean" for part in reversible(net))


# -- the policies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """One way to run a training step.

    name:   in tables and figures.
    words:  what it does.
    find:   leaves the gradient.
    keep, backend:  those of the layers of neurons within it.
    levels: what `ReversibleTime` keeps within it.
    anchors: whether it keeps its states at some steps too, as far apart as the inverse allows, at most a chunk.
    exact:  whether the gradient is that of backpropagation through time.
    own:    whether it belongs to networks with (True) or without (False) `ReversibleTime` only.
    """

    name: str
    words: str
    find: Callable[[Task], Tensor] = whole
    keep: str = "potential"
    backend: str = "auto"
    levels: str = "graph"
    anchors: bool = False
    exact: bool = True
    own: bool | None = None

    def step(self, task: Task) -> Tensor:
        """A training step without the optimiser: the loss; the gradient is in the parameters' `.grad`."""
        task.net.zero_grad(set_to_none=True)
        with self.prepared(task):
            return self.find(task)

    @contextmanager
    def prepared(self, task: Task) -> Iterator[None]:
        """Within, the network's modules have this policy's options."""
        net = task.net
        with ExitStack() as undo:
            for layer in layers(net):
                undo.enter_context(set_to(layer, {"keep": self.keep, "backend": self.backend}))
            for part in reversible(net):
                undo.enter_context(set_to(part, {"keep": self.levels, "anchors": None}))
                if self.anchors:
                    undo.enter_context(set_to(part, {"anchors": anchors(part, task)}))
            yield

    def why_not(self, task: Task) -> str:
        """Why this network cannot be trained so, or ""."""
        levels = reversible(task.net)
        if self.own is not None and self.own != bool(levels):
            return "the network has no reversible levels" if self.own else "levels are walked step by step in any case"
        if self.keep == "bits":
            reasons = (why_not(layer.step, layer.smooth) for layer in layers(task.net))
            return next(filter(None, reasons), "")
        try:
            with self.prepared(task):
                for part in levels:
                    part.choice(seen_by(part, task))
        except ValueError as error:
            return str(error)
        return ""


POLICIES = BPTT, INPUT, BITS, EAGER, CHECKPOINTING, TRUNCATED, SLTT, LEVELS, LEVEL_BITS, LAST, ANCHORS = (
    Policy("BPTT", "backpropagation through time"),
    Policy("BPTT (input)", "the layers' inputs are kept", keep="input", own=False),
    Policy("BPTT (bits)", "a bit or two of each neuron and step", keep="bits", own=False),
    Policy("eager BPTT", "PyTorch's own operators", backend="torch", own=False),
    Policy("checkpointing", "chunks of √T steps, computed again", checkpointed),
    Policy("truncated BPTT", "the gradient ends every √T steps", truncated, exact=False),
    Policy("SLTT", "no gradient through time", lambda task: truncated(task, 1), exact=False),
    Policy("reversible: levels", "the levels' states", levels="levels", own=True),
    Policy("reversible: bits", "two bits of each level's neuron and step", levels="bits", own=True),
    Policy("reversible: last", "the last states, inverted", levels="last", own=True),
    Policy(
        "reversible: anchors", "states every few steps, inverted between", levels="last", anchors=True, own=True
    ),
)  # fmt: skip
BY_NAME = {policy.name: policy for policy in POLICIES}
"""After Xu et al. (SpikingJelly's memopt, checkpointing), Meng et al. (SLTT, ICCV 2023), Hu et al. (T-RevSNN, ICML 2024)."""


def policies_of(task: Task) -> list[Policy]:
    """Those that this network may be trained by."""
    return [policy for policy in POLICIES if policy.own in (None, bool(reversible(task.net)))]


# -- the modules whose options they set --------------------------------------------------------------------------


def reversible(net: nn.Module) -> list[ReversibleTime]:
    return [part for part in net.modules() if isinstance(part, ReversibleTime)]


def layers(net: nn.Module) -> list[Layer]:
    """The layers of neurons with a state; those within levels have none."""
    return [part for part in net.modules() if isinstance(part, Layer) and part.state_names]


@contextmanager
def set_to(module: nn.Module, options: Mapping[str, Any]) -> Iterator[None]:
    """Within, the module's attributes of these names have these values."""
    before = {name: getattr(module, name) for name in options}
    try:
        for name, value in options.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def seen_by(part: ReversibleTime, task: Task) -> Tensor:
    """What comes into a part of the network, found by its first time step; expanded to all of them."""
    came: list[Tensor] = []
    hook = part.register_forward_pre_hook(lambda _, given: came.append(given[0]))
    try:
        with torch.no_grad():
            task.net(task.x[:1])
    finally:
        hook.remove()
    return came[0][:1].expand(len(task.x), *came[0].shape[1:])


def anchors(part: ReversibleTime, task: Task) -> int | None:
    """The largest distance of anchors, at most a chunk, from which the inverse is right; 1 where none is, which it refuses."""
    x = seen_by(part, task)
    for distance in range(task.chunk, 1, -1):
        with set_to(part, {"anchors": distance}):
            try:
                part.choice(x)
            except ValueError:
                continue
            return distance
    return 1


def gradient(task: Task) -> Tensor:
    """That of all parameters, one after the other."""
    given: Iterable[Tensor] = (
        (p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in task.net.parameters()
    )
    return torch.cat(list(given))
