"""The figure of the map: a cell for every T and N, the predicted border of the chunked scan, and this machine's points.

The serial kernel is the sea, in blue: the paler, the nearer another way comes. What beats it is an island of its own colour.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Heat, Line, Panel, Points, Sheet
from tfexplore.explore.scan_map import cells as values
from tfexplore.explore.scan_map.cells import FASTEST, TIME, Row, ScanMap, foreseen, rival, short, spacing, winner
from tfexplore.explore.scan_map.ways import CHUNKED, CUT, EXACT, FIXED, SERIAL, SPECULATIVE

COLOURS = {
    SERIAL: style.SKY, CHUNKED: style.SAND, SPECULATIVE: style.ROSE, CUT: style.TEAL, FIXED: style.OLIVE,
}  # fmt: skip
TINTS, EDGES = (0.65, 0.35, 0.0), (1.25, 2.5)
"""How much white is in a way's three shades, and the lead of the winner at which they change."""
REACH = {TIME: 3.0, "work": 3.0, "words": 3.0, "depth": 10.0, "rounds": 8.0}
"""Doublings up to which the colours tell multiples apart."""
STEPS, NEURONS = [4**k for k in range(2, 9)], [10**k for k in range(7)]
"""The plane where nothing is known."""


def sheet(found: ScanMap, shown: str, way: str) -> Sheet:
    """shown: a key of `cells.UNITS`.   way: whose time or cost, where not the fastest is shown."""
    steps, neurons = found.steps or STEPS, found.neurons or NEURONS
    x, y = spacing(steps, 2), spacing(neurons, 10)
    names = [name for name in EXACT if name == SERIAL or name in found.ways]
    z, texts, under = [], [], []
    for n in neurons:
        rows = [found.cells.get((t, n)) for t in steps]
        z.append([math.nan if row is None else number(row, shown, way, names, found) for row in rows])
        texts.append([written(row, shown, way, found) for row in rows])
        under.append([pointed(row, t, n, found) for row, t in zip(rows, steps, strict=True)])
    look = distinct(names) if shown == FASTEST else smooth(shown)
    cells = Heat("cells", z if found.cells else (), x, y, texts=texts, gap=3, under=under, words="{under}", **look)
    marks = [
        cells, outline(found, steps, neurons, x, y), *own(found, x, y),
        Line("chosen", *around(found.at, x, y), style.VIOLET, width=4, label="T and N chosen", words=None),
    ]  # fmt: skip
    (left, right), (low, high) = ends(x), ends(y)
    across = Axis("time steps T", left, right, ticks=dict(zip(x, map("{:,}".format, steps), strict=True)), bare=True)
    up = Axis("neurons N", low, high, ticks=dict(zip(y, map("{:,}".format, neurons), strict=True)), bare=True)
    panel = Panel(marks, title=titled(found, shown, way), x=across, y=up)
    return Sheet({"map": panel}, height=540, margin=90, legend="below")


def titled(found: ScanMap, shown: str, way: str) -> str:
    where = found.machine.split(", torch")[0] if found.machine else "predicted" if found.cells else "nothing recorded"
    what = values.UNITS[shown] if shown == FASTEST else f"{values.UNITS[shown]}, {way}"
    return f"{found.neuron}, {found.passes} ({where}): {what}"


def half(places: Sequence[float]) -> float:
    """Half the width of a cell."""
    return (places[1] - places[0]) / 2 if len(places) > 1 else 0.5


def ends(places: Sequence[float]) -> tuple[float, float]:
    """Half a cell beyond the outermost."""
    return places[0] - half(places), places[-1] + half(places)


# -- the cells -----------------------------------------------------------------------------------------------------


def number(row: Row, shown: str, way: str, names: Sequence[str], found: ScanMap) -> float:
    """The value that a cell's colour stands for: the number of its winner's shade, or doublings."""
    if shown != FASTEST:
        ratio, reach = values.value(row, shown, way), REACH[shown]
        return ratio if math.isnan(ratio) else max(-reach, min(reach, math.log2(ratio)))
    if found.machine:
        won, other = winner(row), rival(row)
        ratio = EDGES[-1] if other is None else other[1]
    else:
        won, ratio = foreseen(row), row.get("predicted", {}).get(CHUNKED, math.nan)
    if won not in names:
        return math.nan
    lead = ratio if won == SERIAL else 1 / ratio
    return float(len(TINTS) * names.index(won) + sum(lead >= edge for edge in EDGES))


def written(row: Row | None, shown: str, way: str, found: ScanMap) -> str:
    """What stands in a cell: the winner where it is not the serial kernel, and the number."""
    if row is None:
        return ""
    if shown != FASTEST:
        ratio = values.value(row, shown, way)
        return "" if math.isnan(ratio) else short(ratio)
    if found.machine:
        other, won = rival(row), winner(row)
    else:
        ratio, won = row.get("predicted", {}).get(CHUNKED), foreseen(row)
        other = None if ratio is None else (CHUNKED, ratio)
    if other is None:
        return ""
    return f"{won} {short(other[1])}" if won == other[0] else short(other[1])


def pointed(row: Row | None, steps: int, neurons: int, found: ScanMap) -> str:
    """The text under the pointer: the time of every way."""
    place = f"T = {steps:,}, N = {neurons:,}"
    if row is None:
        return f"{place}: not run"
    foretold = "".join(f"<br>{name}: predicted {r:.2g} times" for name, r in row.get("predicted", {}).items())
    if not row["median_ms"]:
        return place + foretold
    taken = row["median_ms"]
    order = sorted(taken, key=lambda name: taken[name])
    lines = [f"{name}: {taken[name]:.3g} ms, {taken[name] / taken[SERIAL]:.2g} times" for name in order]
    missing = [f"no {name}: {textwrap.shorten(why, 70)}" for name, why in row["reasons"].items()]
    return "<br>".join([place, *lines]) + foretold + "".join(f"<br>{line}" for line in missing)


def distinct(names: Sequence[str]) -> dict[str, Any]:
    colours = [tint(COLOURS[name], white) for name in names for white in TINTS]
    return {"colours": colours, "distinct": True, "bar": {len(TINTS) * k + 1: name for k, name in enumerate(names)}}


def tint(colour: str, white: float) -> str:
    """
    >>> tint("#88ccee", 0.0), tint("#88ccee", 1.0)
    ('#88ccee', '#ffffff')
    """
    parts = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * white):02x}" for part in parts)


def smooth(shown: str) -> dict[str, Any]:
    """Blue where there is less of it than of the serial kernel's, red where there is more."""
    reach = REACH[shown]
    colours = [tint(style.VIOLET, 0.1), tint(style.VIOLET, 0.6), "#f2f2f2", tint(style.ROSE, 0.5), style.ROSE]
    return {"colours": colours, "low": -reach, "high": reach,
            "bar": {at: short(2**at) for at in (-reach, -reach / 2, 0.0, reach / 2, reach)}}  # fmt: skip


# -- what lies on them ---------------------------------------------------------------------------------------------


def outline(found: ScanMap, steps: list[int], neurons: list[int], x: Sequence[float], y: Sequence[float]) -> Line:
    """Around the cells in which the chunked scan is predicted to be faster."""
    across: list[float] = []
    up: list[float] = []
    for a, b in values.border(found.cells, steps, neurons) if found.machine else ():
        across += [x[0] + 2 * half(x) * a[0], x[0] + 2 * half(x) * b[0], math.nan]
        up += [y[0] + 2 * half(y) * a[1], y[0] + 2 * half(y) * b[1], math.nan]
    label = "within: the chunked scan is predicted to be faster"
    return Line("predicted", across, up, style.PURPLE, "dash", 3, label=label, words=None)


def around(at: tuple[int, int], x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """A frame, as large as a cell, around T and N."""
    (t, n), (wide, tall) = place(at), (0.94 * half(x), 0.92 * half(y))
    return [t - wide, t + wide, t + wide, t - wide, t - wide], [n - tall, n - tall, n + tall, n + tall, n - tall]


def place(at: tuple[int, int]) -> tuple[float, float]:
    return math.log2(at[0]), math.log10(at[1])


def own(found: ScanMap, x: Sequence[float], y: Sequence[float]) -> list[Points]:
    """The points measured here, a star in the colour of each winner; beside the number of a cell."""
    marks = []
    for name, colour in COLOURS.items():
        won = [at for at, row in found.own.items() if winner(row) == name]
        said = [f"{pointed(found.own[at], *at, found)}<br>measured here" for at in won]
        beside = [(0.78 * half(x), 0.5 * half(y)) if at in found.cells else (0.0, 0.0) for at in won]
        across = [place(at)[0] - left for at, (left, _) in zip(won, beside, strict=True)]
        up = [place(at)[1] + over for at, (_, over) in zip(won, beside, strict=True)]
        label = f"measured here: {name}" if won else ""
        marks.append(
            Points(f"own: {name}", across, up, colour, "star", size=17, edge=style.INK, label=label, words=said)
        )
    return marks
