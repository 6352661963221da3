"""The speed curves' figure: time over T, N or dtype, one line for each contestant, measured or recorded."""

from __future__ import annotations

import math

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Sheet
from tfexplore.explore.speed.curves import SWEEPS, Series, SpeedCurves
from tfexplore.measure.contestants import COMPILED, FUSED, LAYERED, STEPPED

LOOKS = {
    STEPPED: (style.STEPPED, "solid", "circle", 9),
    LAYERED: (style.LAYERED, "dot", "square", 9),
    FUSED: (style.FUSED, "solid", "diamond", 9),
    COMPILED: (style.TEAL, "dash", "star", 14),
}
"""Colour, dash, sign and its size of a contestant."""


def sheet(curves: SpeedCurves, found: list[Series], unit: str) -> Sheet:
    """A recorded series is thin, with open signs; over dtypes there are signs only."""
    words = curves.axis == "dtype"
    lines = []
    for each in found:
        colour, dash, sign, size = LOOKS[each.contestant]
        recorded = each.record is not None
        lines.append(Line(
            f"{each.contestant}, {each.record.label}" if each.record else each.contestant, each.x, each.y, colour,
            "" if words else dash, width=1.2 if recorded else 2.5, sign=sign, size=9 if recorded else size,
            hollow=recorded, label=each.label, words=f"{each.label}, {{x}}: {{y:.3g}} {unit}",
        ))  # fmt: skip
    names = {value: f"{value:,}" for value in curves.values} if not words else None
    x = Axis(
        f"{SWEEPS[curves.axis]}   ({curves.fixed()})", log=not words, ticks=names, words=curves.values if words else ()
    )
    return Sheet({"speed": Panel(lines, x=x, y=upright(found, unit))}, legend="below")


def upright(found: list[Series], unit: str) -> Axis:
    """The axis of time, from a tick below all values to one above; ticks are at 1, 2, 5, 10, ..."""
    values = [y for each in found for y in each.y] or [2.0, 50.0]
    decades = range(math.floor(math.log10(min(values))) - 1, math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**k for k in decades for digit in (1, 2, 5)]
    low, high = max(y for y in ticks if y < min(values)), min(y for y in ticks if y > max(values))
    return Axis(unit, low, high, log=True, ticks={y: f"{y:,g}" for y in ticks if low <= y <= high})
