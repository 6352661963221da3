"""The race's figure: a bar for each way through the two layers."""

from __future__ import annotations

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Panel, Sheet
from tfexplore.explore.race.times import RaceTimes
from tfexplore.measure.contestants import WAYS


def sheet(times: RaceTimes) -> Sheet:
    """A way that has not run yet has a bar without length."""
    milliseconds = [1e3 * times.seconds.get(name, 0.0) for name in WAYS]
    bars = Bars(
        "times", WAYS, milliseconds, colour=(style.STEPPED, style.LAYERED, style.FUSED), hatch=("/", ".", ""),
        texts=[f"{value:,.2f} ms" if value else "" for value in milliseconds], words="{y}: {x:.2f} ms",
    )  # fmt: skip
    across = Axis("milliseconds", 0, 1.15 * max(milliseconds) or 1)
    return Sheet({"race": Panel([bars], x=across, y=Axis(words=WAYS, bare=True, backwards=True))}, height=260)
