"""The figure of a breakdown: one stacked bar for each walk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Panel, Sheet
from tfexplore.explore.breakdown.parts import PARTS

LOOKS = dict(zip(PARTS, ((style.VIOLET, ""), (style.SKY, "/"), (style.ROSE, "x"), (style.SAND, ".")), strict=True))


def sheet(parts: Mapping[str, Mapping[str, float]]) -> Sheet:
    """parts: milliseconds of each part, by walk."""
    walks, marks, start = list(parts), [], np.zeros(len(parts))
    for part, (colour, hatch) in LOOKS.items():
        ms = np.array([max(0.0, each[part]) for each in parts.values()])
        marks.append(
            Bars(part, walks, ms, start, colour=colour, hatch=hatch, label=part,
                 words=[f"{walk}, {part}: {one:.2f} ms" for walk, one in zip(walks, ms, strict=True)])
        )  # fmt: skip
        start = start + ms
    across = Axis("milliseconds per training step", 0, 1.03 * float(start.max()))
    panels = {"parts": Panel(marks, x=across, y=Axis(words=walks, backwards=True, bare=True))}
    return Sheet(panels, height=250, margin=100, legend="below")
