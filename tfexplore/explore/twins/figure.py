"""The figure of the twins: losses and accuracies of both trainings, and the memory that a step of each holds."""

from __future__ import annotations

import math

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Line, Panel, Sheet
from tfexplore.explore.twins.trainings import BPTT, WORDS, Twins

LOOKS = ((style.STEPPED, "solid", 6.0), (style.FUSED, "dash", 2.5))
"""Colour, dash and width of BPTT, and of the other on top of it."""


def sheet(made: Twins, epochs: int) -> Sheet:
    losses = [loss for values in made.losses.values() for loss in values if math.isfinite(loss)]
    along = Axis("batches", 0, max([10.0, *(1.03 * len(values) for values in made.losses.values())]))
    held = {WORDS[keep]: found.held / 2**20 for keep, found in made.memory.items()}
    panels = {
        "loss": Panel(curves(made, "losses"), title="loss of every batch", x=along,
                      y=Axis(low=0, high=1.05 * max(losses, default=9.0))),
        "accuracy": Panel(curves(made, "accuracies", "circle"), title="test accuracy",
                          x=Axis("epochs", 0.7, epochs + 0.3, every=1), y=Axis(low=0, high=1.02, form=".0%")),
        "memory": Panel(
            [Bars("memory", list(held), list(held.values()), thickness=0.55, colour=[look[0] for look in LOOKS][: len(held)],
                  texts=[f"{mib:.1f} MiB" for mib in held.values()], upright=True, words="{x}: {y:.2f} MiB")],
            title="held by a training step", x=Axis(words=[WORDS[BPTT], WORDS[made.keep]]),
            y=Axis("MiB", 0, 1.25 * max(held.values(), default=1.0)),
        ),
    }  # fmt: skip
    return Sheet(panels, widths=(0.4, 0.32, 0.28), height=400, legend="below")


def curves(made: Twins, what: str, sign: str = "") -> list[Line]:
    lines = []
    for (keep, values), (colour, dash, width) in zip(getattr(made, what).items(), LOOKS, strict=True):
        at = np.arange(1, len(values) + 1)
        lines.append(
            Line(f"{what}, {'BPTT' if keep == BPTT else 'other'}", at, np.array(values), colour, dash, width, sign=sign,
                 label=WORDS[keep], words=WORDS[keep] + ": {y:.4g}")
        )  # fmt: skip
    return lines
