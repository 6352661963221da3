"""Where the time of one training step goes, before and after the neurons are fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore import measure
from tfexplore.data import digits
from tfexplore.explore import plots
from tfexplore.explore.training import BATCH, WALKS, fit, network

PARTS = ("neurons", "linear layers", "optimiser, loss, Python")


@dataclass(frozen=True)
class Breakdown:
    """Milliseconds of one training step by part, for each walk; `parts[walk][part]`. Shows itself as stacked bars."""

    parts: dict[str, dict[str, float]]
    machine: str

    def total(self, walk: str) -> float:
        return sum(self.parts[walk].values())

    def sentence(self) -> str:
        eager, fused = self.parts["layer by layer"], self.parts["fused"]
        share = eager["neurons"] / self.total("layer by layer")
        return (
            f"The neurons took {share:.0%} of a training step. Fused they are {eager['neurons'] / fused['neurons']:.1f} times "
            f"as fast, the whole step {self.total('layer by layer') / self.total('fused'):.1f} times: the rest is the same work."
        )

    def __repr__(self) -> str:
        return f"Breakdown: {self.sentence()} ({self.machine})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": repr(self), "image/png": self.picture()}

    def picture(self) -> bytes:
        drawing = plots.static_figure(8, 2.1)
        axes = drawing.subplots()
        for walk, parts in self.parts.items():
            left = 0.0
            for k, (part, hatch) in enumerate(zip(PARTS, ("", "//", ".."), strict=True)):
                label = part if walk == "fused" else None
                axes.barh(
                    walk,
                    parts[part],
                    left=left,
                    color=plots.rgb((4, 0, 2)[k]),
                    hatch=hatch,
                    edgecolor="white",
                    label=label,
                )
                left += parts[part]
        axes.invert_yaxis()
        axes.set(xlabel="milliseconds of one training step")
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def breakdown(steps: int = 16, hidden: int = 128, rounds: int = 15) -> Breakdown:
    """Times the parts of a training step of the digits network one by one, and the whole of it; the rest is the difference.

    >>> sorted(breakdown(steps=2, hidden=16, rounds=1).parts)
    ['fused', 'layer by layer']
    """
    data = digits()

    def there_and_back(modules: list[nn.Module], inputs: list[Tensor]) -> Callable[[], None]:
        wanted = [
            [*module.parameters(), *([x] if x.requires_grad else [])] for module, x in zip(modules, inputs, strict=True)
        ]
        gradients = [torch.rand_like(module(x)) for module, x in zip(modules, inputs, strict=True)]

        def work() -> None:
            for module, x, of, gradient in zip(modules, inputs, wanted, gradients, strict=True):
                torch.autograd.grad(module(x), of, gradient)

        return work

    pixels = torch.rand(steps, BATCH, 64)  # nobody asks for the gradient of the images
    first, second = (torch.rand(steps, BATCH, hidden, requires_grad=True) for _ in range(2))
    contestants: dict[str, Callable[[], object]] = {}
    for walk in ("layer by layer", "fused"):
        schedule, backend = WALKS[walk]
        net = network(hidden, backend=backend)
        contestants[f"{walk}: whole"] = fit(net, data, schedule, steps).__next__
        contestants[f"{walk}: neurons"] = there_and_back([net[1], net[3]], [first, second])
    linear = network(hidden)
    contestants["linear"] = there_and_back([linear[0], linear[2], linear[4]], [pixels, first, second])
    *_, medians = measure.rounds(contestants, rounds)
    parts = {}
    for walk in ("layer by layer", "fused"):
        whole, neurons = 1e3 * medians[f"{walk}: whole"], 1e3 * medians[f"{walk}: neurons"]
        rest = max(0.0, whole - neurons - 1e3 * medians["linear"])
        parts[walk] = dict(zip(PARTS, (neurons, 1e3 * medians["linear"], rest), strict=True))
    return Breakdown(parts, measure.machine())
