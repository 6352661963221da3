"""The parts of one training step, each timed by itself: neurons, BatchNorm, the modules between them, the optimiser, the rest.

A network is taken apart into `Piece`s. With BatchNorm in the kernel it is no piece of its own: it belongs to the neurons'.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore.data import currents
from tfexplore.explore.training.networks import WALKS, Subject, tuned
from tfexplore.measure import clock
from tfexplore.nn import constant
from tfexplore.nn.fusion import fuse, pairs_of
from tfexplore.nn.networks import BATCH, fit
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.wrappers import FoldTime

BEFORE, AFTER = "layer by layer", "fused"
NEURONS, BATCH_NORM, OTHERS, OPTIMISER, REST = PARTS = (
    "neurons", "BatchNorm", "linear and conv", "optimiser", "loss, Python, the rest",
)  # fmt: skip
NONE, APART, INSIDE = CHOICES = ("none", "apart", "in the kernel")
"""Where a network has its BatchNorm."""

WHOLE, ENOUGH = "whole", 20.0

Parts = dict[str, dict[str, float]]
"""Milliseconds of one training step, by walk and by part."""


def timed(networks: dict[str, Subject], steps: int, rounds: int) -> dict[str, Parts]:
    """Milliseconds of one training step by part, for each network (by where it has its BatchNorm) and each walk.

    All parts and all wholes take turns, `rounds` times. "in the kernel" differs from "apart" in the neurons and the whole after
    fusion only: what is the same is measured once.
    """
    contestants: dict[tuple[str, ...], Callable[[], object]] = {}
    for choice, trained in networks.items():
        x, inside = currents(trained.data.train_images[:BATCH], steps), choice == INSIDE
        for walk in (AFTER,) if inside else (BEFORE, AFTER):
            learning, alone = (tuned(trained.net, walk) for _ in range(2))  # the weights of the second stay
            learning, schedule = fuse(learning) if inside else learning, WALKS[walk][0]
            contestants[choice, walk, WHOLE] = fit(learning, trained.data, schedule, steps, trained.rate).__next__
            parts = list(pieces(alone, x, inside))
            kinds = [NEURONS] if walk == BEFORE or inside else sorted({part.kind for part in parts})
            for kind in kinds:
                contestants[choice, walk, kind] = forward_and_backward([part for part in parts if part.kind == kind])
        if not inside:
            contestants[choice, AFTER, OPTIMISER] = optimise(tuned(trained.net, AFTER), x, trained.rate)
    ms = {key: 1e3 * value for key, value in medians(contestants, rounds).items()}

    def of(choice: str, walk: str) -> dict[str, float]:
        """What is not known of this walk is that of the fused one, or of BatchNorm apart."""
        inside = choice == INSIDE and walk == AFTER
        own, like = (choice if inside or choice != INSIDE else APART), APART if choice == INSIDE else choice
        known = {part: ms.get((own, walk, part), ms.get((like, AFTER, part), 0.0)) for part in PARTS[:-1]}
        known[BATCH_NORM] *= not inside
        return known | {REST: ms[own, walk, WHOLE] - sum(known.values())}

    return {choice: {walk: of(choice, walk) for walk in (BEFORE, AFTER)} for choice in networks}


def medians(contestants: dict[tuple[str, ...], Callable[[], object]], rounds: int) -> dict[tuple[str, ...], float]:
    """Seconds of each; on a busy machine no round begins after `ENOUGH` seconds."""
    names, began, found = {" ".join(key): key for key in contestants}, time.perf_counter(), dict[str, float]()
    turns = clock.rounds({name: contestants[key] for name, key in names.items()}, rounds)
    for turn, taken in enumerate(turns, 1):
        found = taken
        whole_rounds, within = divmod(turn, len(contestants))
        if whole_rounds > 1 and not within and time.perf_counter() - began > ENOUGH:
            break
    return {key: found[name] for name, key in names.items()}


class Piece(NamedTuple):
    """A part of the network that is timed: what runs, on the input that it gets in the network.

    leaf: the tensor of which a gradient is wanted, None for the images. A current that is the same at every step comes to the
    neurons as it does in the network: as one step.
    """

    kind: str
    work: Callable[[Tensor], Tensor]
    x: Tensor
    leaf: Tensor | None
    parameters: list[nn.Parameter]


def pieces(net: nn.Module, x: Tensor, inside: bool = False) -> Iterator[Piece]:
    """Takes a chain of modules apart; `inside`: a BatchNorm directly before a layer belongs to its piece, as after `fuse`."""
    modules = list(net.children())
    pairs, norm = dict(pairs_of(modules)) if inside else {}, None
    first = True
    for place, module in enumerate(modules):
        if place in pairs:
            front, norm = pairs[place]
            each: list[nn.Module] = [FoldTime(*front)] if front else []
        else:
            each = list(apart(module))
        for part in each:
            own, work = [p for p in part.parameters() if p.requires_grad], part.__call__
            if isinstance(part, Stateful) and norm is not None:
                own, work = [*own, *norm.parameters()], with_norm(part, norm)
                norm = None
            leaf = None
            if not first:
                single = constant.once(x.detach())
                leaf = (x if single is None else single).detach().requires_grad_()
                x = leaf if single is None else constant.repeated(leaf, len(x))
            yield Piece(kind_of(part), work, x, leaf, own)
            with torch.no_grad():
                x = work(x)
            first = False


def apart(module: nn.Module) -> Iterator[nn.Module]:
    """The module, or where it is a `FoldTime` with a BatchNorm, this and what is before and behind it."""
    if isinstance(module, FoldTime) and any(isinstance(part, _BatchNorm) for part in module):
        for _, run in groupby(module, lambda part: isinstance(part, _BatchNorm)):
            yield FoldTime(*run)
    else:
        yield module


def kind_of(part: nn.Module) -> str:
    if isinstance(part, Stateful):
        return NEURONS
    return BATCH_NORM if isinstance(part, FoldTime) and isinstance(part[0], _BatchNorm) else OTHERS


def with_norm(layer: Stateful, norm: _BatchNorm) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x, batch_norm=norm)


def forward_and_backward(parts: list[Piece]) -> Callable[[], None]:
    """Forward and backward through each of these pieces by itself."""
    ready = []
    for piece in parts:
        with torch.no_grad():
            out = piece.work(piece.x)
        single = constant.once(out)
        wanted = [*piece.parameters, *([] if piece.leaf is None else [piece.leaf])]
        ready.append((piece, wanted, torch.rand_like(out if single is None else single)))

    def work() -> None:
        for piece, wanted, gradient in ready:
            out = piece.work(piece.x)
            if wanted:
                single = constant.once(out)  # the layer behind sums its gradient over time on its way
                torch.autograd.grad(out if single is None else single, wanted, gradient)

    return work


def optimise(net: nn.Module, x: Tensor, rate: float) -> Callable[[], None]:
    """One step of the optimiser, from given gradients, and setting them to zero."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    net(x).sum().backward()
    gradients = [p.grad for p in net.parameters()]

    def work() -> None:
        for p, gradient in zip(net.parameters(), gradients, strict=True):
            p.grad = gradient
        optimiser.step()
        optimiser.zero_grad()

    return work


def variants(trained: Subject) -> dict[str, Subject]:
    """A network by where it has its BatchNorm: as it is, and where one stands directly before a layer, in the kernel too."""
    if not any(isinstance(module, _BatchNorm) for module in trained.net.modules()):
        return {NONE: trained}
    try:
        fuse(copy.deepcopy(trained.net))
    except ValueError:
        return {APART: trained}
    return {APART: trained, INSIDE: trained}
