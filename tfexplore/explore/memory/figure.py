"""The memory explorer's figure: what every way saves and moves, how that grows with time, and which modules save it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Line, Panel, Sheet
from tfexplore.explore.memory.footprint import Footprint
from tfexplore.explore.memory.kept import BITS, INPUT, LAYERED, NOTHING, POTENTIAL, STEPPED, Way

Values = Sequence[float | None]
MB, EACH = 1e6, "bytes per neuron and step"
LOOKS: dict[Way, dict[str, Any]] = {
    STEPPED: {"colour": style.STEPPED, "sign": "circle", "width": 8, "size": 13},
    LAYERED: {"colour": style.LAYERED, "sign": "square", "width": 4.5, "size": 10},
    POTENTIAL: {"colour": style.FUSED, "sign": "diamond", "size": 8},
    INPUT: {"colour": style.PURPLE, "sign": "triangle", "size": 8, "dash": "dash"},
    BITS: {"colour": style.GREEN, "sign": "star", "size": 8, "dash": "dot"},
    NOTHING: {"colour": style.MUTED, "sign": "cross", "size": 8, "dash": "dashdot"},
}
"""Those that save alike lie on each other, so the lower ones are wider."""


def sheet(found: Footprint, way: str) -> Sheet:
    """way: the one that is shown module by module."""
    ways, modules = found.ways, found.by_module(way)
    names = [each.name for each in ways]
    kept = [found.predicted_kept(each) for each in ways], [found.counted_kept(each) for each in ways]
    moved = [found.predicted_moved(each) for each in ways], [found.counted_moved(each) for each in ways]
    predicted, counted = (
        [None if size is None else size / MB for size in each] for each in zip(*modules.values(), strict=True)
    )
    panels = {
        "kept": bars("kept", "saved for backward", EACH, names, *kept),
        "moved": bars("moved", "moved, forward and backward", EACH, names, *moved, silent=True),
        "growth": growth(found),
        "modules": bars(
            "modules", "saved by each module", "MB", [name or "(between them)" for name in modules], predicted, counted
        ),
    }
    rows = [["kept", "moved"], ["growth", "modules"]]
    return Sheet(panels, rows, heights=(0.52, 0.48), gaps=(0.12, 0.17), height=620, margin=160, legend="below")


def bars(
    name: str, title: str, unit: str, places: list[str], predicted: Values, counted: Values, silent: bool = False
) -> Panel:
    """Two bars at each place: predicted above, hatched, and counted below."""
    series = {"predicted": (predicted, -0.19, style.SKY, "/"), "counted": (counted, 0.19, style.TEAL, "")}
    marks = [
        Bars(
            f"{label} {name}", places, values, thickness=0.36, shift=shift, colour=colour, hatch=hatch, label=label,
            texts=["" if value is None else f"{value:.4g}" for value in values], words=f"{{y}}: {{x:.4g}} {unit}, {label}",
        )
        for label, (values, shift, colour, hatch) in series.items()
    ]  # fmt: skip
    y = Axis("", words=places, bare=True, backwards=True, silent=silent)
    return Panel(marks, title=title, x=Axis(unit, 0, beyond((*predicted, *counted))), y=y)


def growth(found: Footprint) -> Panel:
    """What the neurons save, over T: counted, and before that a straight line through its prediction, with hollow signs."""
    marks, most = [], [0.0]
    for way, look in LOOKS.items():
        counted, predicted = found.lines.get(way.name), found.predicted_kept(way)
        at = [] if found.why_not(way) else [t for t, _ in counted] if counted else [0, found.steps]
        each = np.nan if predicted is None else predicted * found.neurons / MB
        y = [size / MB for _, size in counted] if counted else [each * t for t in at]
        marks.append(Line(way.name, at, y, **look, hollow=not counted, label=way.name, words="T = {x}: {y:.4g} MB"))
        most += [size for size in y if size == size]
    time, size = Axis("time steps T", 0, 1.04 * found.steps), Axis("MB", 0, beyond(most))
    return Panel(marks, title="saved by the neurons", x=time, y=size)


def beyond(values: Values) -> float:
    """The end of an axis, with room for the numbers beside the largest."""
    return 1.25 * max([value for value in values if value is not None], default=0.0) or 1.0
