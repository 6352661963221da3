"""The figure of the whole step: the time of one step on the left, and on the right that of many, with what comes before them."""

from __future__ import annotations

import math

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Line, Panel, Points, Sheet
from tfexplore.explore.whole_step.times import CAPTURED, COMPILED, EAGER, WAYS, StepTimes

LOOKS = {
    EAGER: (style.STEPPED, "solid", "/"),
    CAPTURED: (style.FUSED, "dash", ""),
    COMPILED: (style.LAYERED, "dot", "."),
}
MOST = 1_000_000
"""Steps that are shown."""


def sheet(made: StepTimes) -> Sheet:
    count = np.unique(np.geomspace(1, MOST, 121).round())
    timed = [way for way in WAYS if way in made.seconds]
    ways = [way for way in WAYS if way != COMPILED or way in timed]
    step = 1e3 * np.array([made.seconds.get(way, 0.0) for way in ways])
    bars = Bars(
        "steps", ways, step, thickness=0.6, upright=True, colour=[LOOKS[way][0] for way in ways],
        hatch=[LOOKS[way][2] for way in ways], texts=[f"{ms:.2f} ms" if ms else "" for ms in step], words="{x}: {y:.3f} ms",
    )  # fmt: skip
    marks: list[Line | Points] = []
    for way, (colour, dash, _) in LOOKS.items():
        shown = way in timed
        seconds = made.before[way] + count * made.seconds[way] if shown else np.array([])
        marks.append(
            Line(
                way,
                count if shown else (),
                seconds,
                colour,
                dash,
                2.5,
                label=way,
                words=way + ", {x:,.0f} steps: {y:.3g} s",
            )
        )
    for way in WAYS[1:]:
        after = made.pays_after(way) if way in timed and EAGER in timed else math.inf
        at = [after] if after <= MOST else []
        marks.append(
            Points(f"{way} pays", at, [n * made.seconds[EAGER] for n in at], LOOKS[way][0], "diamond", 12, style.INK,
                   words=way + " pays after {x:,.0f} steps")
        )  # fmt: skip
    total = [line.y for line in marks if isinstance(line, Line) and len(line.y)]
    low, high = (min(y[0] for y in total) / 2, max(y[-1] for y in total) * 2) if total else (1e-3, 1e3)
    many = {10**k: f"{10**k:,}" for k in range(0, 7, 2)}
    panels = {
        "step": Panel([bars], title="one training step", x=Axis(words=ways, bare=True),
                      y=Axis("milliseconds", 0, 1.2 * float(step.max()) or 1.0)),
        "total": Panel(
            marks, title="a whole training, with what is done before",
            x=Axis("training steps", 0.8, 1.3 * MOST, log=True, ticks=many), y=Axis("seconds", low, high, log=True),
        ),
    }  # fmt: skip
    return Sheet(panels, widths=(0.4, 0.6), height=430, legend="below")
