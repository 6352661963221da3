"""The figure of a breakdown: one stacked bar for each walk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Panel, Sheet
from tfexplore.explore.breakdown.parts import BATCH_NORM, NEURONS, OPTIMISER, OTHERS, REST, Parts

LOOKS = {
    NEURONS: (style.VIOLET, ""),
    BATCH_NORM: (style.TEAL, "-"),
    OTHERS: (style.SKY, "/"),
    OPTIMISER: (style.ROSE, "x"),
    REST: (style.SAND, "."),
}


def sheet(measured: Mapping[str, Parts], choice: str) -> Sheet:
    """measured: milliseconds of each part, by walk, for each place of the BatchNorm, of which `choice` is shown.

    The axis is the same for all choices, so that a bar is seen to shrink.
    """
    parts = measured[choice]
    walks, marks, start = list(parts), [], np.zeros(len(parts))
    for part, (colour, hatch) in LOOKS.items():
        if not any(each[part] for shown in measured.values() for each in shown.values()):
            continue  # no choice has it
        ms = np.array([max(0.0, each[part]) for each in parts.values()])
        marks.append(
            Bars(part, walks, ms, start, colour=colour, hatch=hatch, label=part,
                 words=[f"{walk}, {part}: {one:.2f} ms" for walk, one in zip(walks, ms, strict=True)])
        )  # fmt: skip
        start = start + ms
    longest = max(sum(max(0.0, ms) for ms in each.values()) for shown in measured.values() for each in shown.values())
    across = Axis("milliseconds per training step", 0, 1.03 * longest)
    panels = {"parts": Panel(marks, x=across, y=Axis(words=walks, backwards=True, bare=True))}
    return Sheet(panels, height=250, margin=100, legend="below")
