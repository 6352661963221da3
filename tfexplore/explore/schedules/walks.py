"""The walks that the schedules explorer shows: recorded, not made up. Small networks, and what a cell of the grid needs.

The grid has a row for every layer and a column for every time step. What a cell needs is taken from the record of a walk
step by step; any other walk is then checked for an order in which all needs were met.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tfexplore.measure.timeline import Events, is_leaf, what_ran
from tfexplore.nn.checks import State, check_input
from tfexplore.nn.layers import Layer
from tfexplore.nn.library import LIF
from tfexplore.nn.schedules import layer_by_layer, step_by_step
from tfexplore.nn.stateful import Stateful

WALKS = ("step by step", "layer by layer", "fused")
NETWORKS = ("feed-forward", "recurrent layer", "feedback")
BATCH, INPUTS, HIDDEN, OUTPUTS = 32, 16, 32, 10

Cell = tuple[int, int]
"""(row, time step)."""
Need = tuple[Cell, Cell]
"""(the cell that is needed, the cell that needs it)."""


class Loop(Stateful):
    """What leaves `body` comes back to its input one step later, through `back`: body(x[t] + back(out[t-1])).

    Called with one time step at a time, under `carry`, it is right. Called with several, it takes what is known when the
    call begins: the last output for the first step, and zeros for the others. The library's `Recurrent` steps inside
    instead; this one shows what goes wrong.
    """

    feeds_back = True

    def __init__(self, body: nn.Module, back: nn.Linear) -> None:
        super().__init__()
        self.back, self.body = back, body

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("last output",)

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        before = x.new_zeros(x.shape[1], self.back.in_features) if state is None else state[0]
        known = before.unsqueeze(0)
        if len(x) > 1:
            known = torch.cat([known, before.new_zeros(len(x) - 1, *before.shape)])
        out = self.body(x + self.back(known))
        return out, (out[-1],)


def example(kind: str) -> nn.Module:
    """Three linear layers and two of LIF neurons, with or without feedback; always the same weights, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second, last = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)
        back = nn.Linear(HIDDEN, HIDDEN, bias=False)
    with torch.no_grad():
        for linear in (first, second, back):
            linear.weight *= 4.0  # enough to fire
    net = {
        "feed-forward": nn.Sequential(first, LIF(), second, LIF(), last),
        "recurrent layer": nn.Sequential(first, Loop(LIF(), back), second, LIF(), last),
        "feedback": nn.Sequential(first, Loop(nn.Sequential(LIF(), second, LIF()), back), last),
    }
    if kind not in net:
        raise ValueError(f"network must be one of {', '.join(map(repr, net))}, but got {kind!r}.")
    return net[kind].double()


def example_input(steps: int) -> Tensor:
    """Input for `example`, [T, B, features]."""
    return torch.rand(steps, BATCH, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Piece:
    """One piece of executed work, with what it cost and which needs of its cells were not met when it ran."""

    row: int
    first: int
    last: int
    launches: int
    words: int
    needs: tuple[Need, ...]
    unmet: tuple[Need, ...]

    @property
    def cells(self) -> list[Cell]:
        return [(self.row, t) for t in range(self.first, self.last)]


@dataclass(frozen=True)
class Walk:
    """One walk over the grid: its pieces in the order in which they ran, and what came out.

    Args:
        name: "step by step", "layer by layer" or "fused".
        pieces: of work, as they ran.
        launches: of all operations.
        words: moved by them, read or written.
        outside: launches and words between the layers.
        refusal: why the library refuses this walk of this network ("" if it does not); it is then walked anyway.
        out: the network's output.
        apart: the largest difference of an output from the walk step by step.
        different: how many of the outputs differ.
    """

    name: str
    pieces: tuple[Piece, ...]
    launches: int
    words: int
    outside: tuple[int, int]
    refusal: str
    out: Tensor
    apart: float
    different: int

    @property
    def unmet(self) -> set[Cell]:
        """The cells that needed something which was not yet computed."""
        return {cell for piece in self.pieces for _, cell in piece.unmet}

    def verdict(self) -> str:
        if self.name == WALKS[0]:
            return ""
        if self.apart == 0:
            return "The result is that of step by step, bit for bit."
        if self.apart < (1e-10 if self.out.dtype == torch.float64 else 1e-4):
            return "The result is that of step by step, up to rounding."
        return (
            f"{self.different:,} of {self.out.numel():,} outputs differ from step by step, by up to {self.apart:.2g}."
        )


@dataclass(frozen=True)
class Grid:
    """The grid of (layer, time) cells and the walks over it.

    Args:
        rows: the names of the layers; row 0 is executed first.
        kinds: their classes.
        steps: time steps `T`.
        walks: by name, each with its `pieces`, `launches` and `words`.
    """

    rows: tuple[str, ...]
    kinds: tuple[str, ...]
    steps: int
    walks: dict[str, Walk]


def walked(net: nn.Module, x: Tensor, walk: str) -> tuple[Events, Tensor, str]:
    """Runs a copy of the network without gradient and records it: what ran, the result, and the library's refusal."""
    net = copy.deepcopy(net)  # a BatchNorm in training mode would move its statistics
    for module in net.modules():
        if isinstance(module, Layer):
            module.backend = "auto" if walk == "fused" else "torch"
    refusal = ""
    with torch.no_grad(), what_ran(net) as events:
        try:
            out = step_by_step(net, x) if walk == WALKS[0] else layer_by_layer(net, x)
        except ValueError as error:
            refusal = str(error)
            out = step_by_step(net, x, batch_norm="per step") if walk == WALKS[0] else net(x)
    return events, out, refusal


def check(net: nn.Module, x: Tensor | None) -> Tensor:
    """The input, after checking that this network takes it. Raises TypeError or ValueError that names what is wrong."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, but got {type(net).__name__}.")
    if x is None:
        raise TypeError("x is missing: give net an input too, [T, B, *features] with time first.")
    check_input(x)
    if len(x) == 0:
        raise ValueError(f"x must have at least one time step, but got shape {tuple(x.shape)}.")
    if not any(isinstance(module, Layer) for module in net.modules()):
        raise ValueError(
            "net has no layer of spiking neurons (tfexplore.LIF, ...), so every order is as good as any other."
        )
    with torch.no_grad():
        try:
            copy.deepcopy(net)(x)
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f"net does not run on x of shape {tuple(x.shape)}; is it [T, B, *features], with time first? {error}"
            ) from error
    return x


def grid(net: nn.Module, x: Tensor) -> Grid:
    """Walks the network in all three ways, and finds out which needs were met.

    >>> made = grid(example("feed-forward"), example_input(4))
    >>> [len(walk.pieces) for walk in made.walks.values()]
    [20, 11, 5]
    >>> any(walk.unmet for walk in made.walks.values())
    False
    """
    ran = {walk: walked(net, x, walk) for walk in WALKS}
    stepped, truth, _ = ran[WALKS[0]]
    # step by step comes last: a leaf may work only when it is given several steps (`x.contiguous()` after `expand`)
    rows = list(dict.fromkeys(event.layer for walk in reversed(WALKS) for event in ran[walk][0]))
    names = {name or type(module).__name__: module for name, module in net.named_modules() if is_leaf(module)}
    kinds = tuple(_kind(names[row.partition(", call ")[0]]) for row in rows)
    cell = [(rows.index(event.layer), event.first) for event in stepped]
    needs = {cell[k]: tuple(cell[n] for n in event.needs) for k, event in enumerate(stepped)}
    walks = {name: _walk(name, *made, rows, needs, truth) for name, made in ran.items()}
    return Grid(tuple(rows), kinds, len(x), walks)


def _kind(module: nn.Module) -> str:
    return type(module.neuron).__name__ if isinstance(module, Layer) else type(module).__name__


def _walk(
    name: str,
    events: Events,
    out: Tensor,
    refusal: str,
    rows: list[str],
    needs: dict[Cell, tuple[Cell, ...]],
    truth: Tensor,
) -> Walk:
    pieces: list[Piece] = []
    done: set[Cell] = set()
    for event in events:
        if event.kind == "gather":  # puts the pieces before it together: part of the last of them
            last = pieces.pop()
            more = (last.launches + event.launches, last.words + event.words)
            pieces.append(Piece(last.row, last.first, last.last, *more, last.needs, last.unmet))
            continue
        row = rows.index(event.layer)
        own = [(row, t) for t in range(event.first, event.last)]
        wanted = tuple((need, here) for here in own for need in needs.get(here, ()) if need not in own)
        unmet = tuple((need, here) for need, here in wanted if need not in done)
        pieces.append(Piece(row, event.first, event.last, event.launches, event.words, wanted, unmet))
        done.update(own)
    distance = (out - truth).abs()
    outside = (events.outside.launches, events.outside.words)
    apart, different = float(distance.max()), int((distance > 1e-10 + 1e-5 * truth.abs()).sum())
    return Walk(name, tuple(pieces), events.launches, events.words, outside, refusal, out, apart, different)
