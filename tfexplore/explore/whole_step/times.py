"""A training step as it stands, captured, and by torch.compile: what each costs before it runs, and at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfexplore.data import currents, digits
from tfexplore.nn import LI, LIF, capture
from tfexplore.nn.networks import strong

EAGER, CAPTURED, COMPILED = WAYS = ("as it stands", "captured", "torch.compile")
BATCH = 32


@dataclass
class StepTimes:
    """What each way takes.

    Args:
        steps: time steps `T`.
        hidden: neurons of the hidden layer.
        machine: where it was measured.
        before: seconds that a way takes before its steps run at full speed, beyond those of as many steps as it stands.
        seconds: median seconds of a training step.
        apart: the largest difference of a loss from that of the step as it stands, over the first steps.
    """

    steps: int
    hidden: int
    machine: str
    before: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)

    def pays_after(self, way: str) -> float:
        """Steps after which a way is ahead of the step as it stands; infinite where it never is."""
        gain = self.seconds[EAGER] - self.seconds[way]
        return max(1.0, math.ceil(self.before[way] / gain)) if gain > 0 else math.inf

    def sentence(self) -> str:
        if EAGER not in self.seconds:
            return "Press Start: the same training step, with Python at every step and without."
        parts = [f"{1e3 * self.seconds[EAGER]:.2f} ms a step as it stands"]
        for way in WAYS[1:]:
            if way in self.seconds:
                after = self.pays_after(way)
                pays = "never pays" if after == math.inf else f"pays after {after:,.0f} step{'s' * (after > 1)}"
                by, before = "by " if way == COMPILED else "", f"{self.before[way]:.2g} s before"
                parts.append(f"{1e3 * self.seconds[way]:.2f} ms {by}{way}, which takes {before} and {pays}")
        return f"{'; '.join(parts)} ({self.machine})."


def training(
    steps: int, hidden: int, seed: int = 0
) -> tuple[Callable[[Tensor, Tensor], Tensor], list[tuple[Tensor, Tensor]]]:
    """A training step of a small network on the digits, Adam included, and its batches; alike for the same seed."""
    images, labels, *_ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, hidden), LIF(), nn.Linear(hidden, 10), LI())
        for module in (net[0], net[2]):
            strong(module, 2)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, capturable=True)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimiser.zero_grad()
        loss = cross_entropy(net(x).mean(0), y)
        loss.backward()
        optimiser.step()
        return loss.detach()

    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).split(BATCH)[:-1]
    return step, [(currents(images[batch], steps), labels[batch]) for batch in order]


def made(way: str, step: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """The step, run that way."""
    return {EAGER: lambda: step, CAPTURED: lambda: capture(step), COMPILED: lambda: torch.compile(step)}[way]()
