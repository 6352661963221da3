"""The parts of one training step, each timed by itself: neurons, the modules between them, the optimiser, and the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfexplore.data import currents
from tfexplore.explore.training.networks import WALKS, Subject, tuned
from tfexplore.measure import clock
from tfexplore.nn.networks import BATCH, fit
from tfexplore.nn.stateful import Stateful

BEFORE, AFTER = "layer by layer", "fused"
PARTS = ("neurons", "linear and conv", "optimiser", "loss, Python, the rest")


def timed(trained: Subject, steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of one training step by part, for each walk; the parts and the wholes take turns, `rounds` times."""
    nets = {walk: tuned(trained.net, walk) for walk in (BEFORE, AFTER)}
    x = currents(trained.data.train_images[:BATCH], steps)
    contestants: dict[str, Callable[[], object]] = {}
    for walk, net in nets.items():
        schedule, _ = WALKS[walk]
        contestants[f"{walk}: whole"] = fit(net, trained.data, schedule, steps, trained.rate).__next__
        alone = tuned(trained.net, walk)  # its weights stay, whatever the whole learns meanwhile
        contestants[f"{walk}: neurons"] = forward_and_backward(alone, x, neurons=True)
    contestants["linear and conv"] = forward_and_backward(tuned(trained.net, AFTER), x, neurons=False)
    contestants["optimiser"] = optimise(tuned(trained.net, AFTER), x, trained.rate)
    *_, medians = clock.rounds(contestants, rounds)
    ms = {key: 1e3 * value for key, value in medians.items()}
    parts = {}
    for walk in nets:
        known = [ms[f"{walk}: neurons"], ms["linear and conv"], ms["optimiser"]]
        parts[walk] = dict(zip(PARTS, [*known, ms[f"{walk}: whole"] - sum(known)], strict=True))
    return parts


def forward_and_backward(net: nn.Module, x: Tensor, neurons: bool) -> Callable[[], None]:
    """Forward and backward through each neuron layer (or each of the other modules) by itself, on its input in the net."""
    parts: list[tuple[nn.Module, Tensor, list[Tensor], Tensor]] = []
    for place, module in enumerate(net.children()):
        with torch.no_grad():
            out = module(x)
        if isinstance(module, Stateful) == neurons:
            x = x.detach().requires_grad_(place > 0)  # the images need no gradient
            wanted = [p for p in module.parameters() if p.requires_grad] + [x] * (place > 0)
            parts.append((module, x, wanted, torch.rand_like(out)))
        x = out

    def work() -> None:
        for module, x, wanted, gradient in parts:
            out = module(x)
            if wanted:
                torch.autograd.grad(out, wanted, gradient)

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
