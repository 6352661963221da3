"""A figure without controls: a sheet that is there already, shown like an explorer's; and the commonest one, bars by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tfexplore.explore.base import style
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Axis, Bars, Panel, Sheet

COLOURS = (style.FUSED, style.TEAL, style.SAND, style.ROSE, style.SKY, style.PURPLE, style.GREEN, style.OLIVE)


class Drawn(Explorer):
    """A sheet of panels and marks, shown as an explorer's figure is.

    Args:
        sheet: what is drawn (`tfexplore.explore.base.sheet.Sheet`).
        sentence: what it shows, above it.
        caption: how it is to be read, below it.

    Raises:
        TypeError: if sheet is no `Sheet`.

    Example:
        >>> from tfexplore import explore
        >>> from tfexplore.explore.base.sheet import Line, Panel, Sheet
        >>> panel = Panel([Line("work", [1, 2, 4], [5, 10, 20])])
        >>> explore.drawn(Sheet({"work": panel}), "Twice the steps are twice the work.")
        Twice the steps are twice the work.
    """

    def __init__(self, sheet: Sheet, sentence: str, caption: str = "") -> None:
        if not isinstance(sheet, Sheet):
            raise TypeError(f"sheet must be a Sheet of panels, but got {type(sheet).__name__}.")
        self.given, self.words, self.caption = sheet, sentence, caption
        super().__init__()

    def look(self) -> Sheet:
        return self.given

    def sheet(self) -> Sheet:
        return self.given

    def sentence(self) -> str:
        return self.words

    def __repr__(self) -> str:
        return self.words


def bars(
    groups: Mapping[str, Mapping[str, float]], unit: str, sentence: str, *, log: bool = False, caption: str = ""
) -> Drawn:
    """Bars by name, a panel for each group: numbers that were counted, measured or recorded, side by side.

    Args:
        groups: for each panel, by its title, the numbers by name; the same name has the same colour in every panel.
        unit: of all numbers.
        sentence: what they show, above the figure.
        log: whether equal distances are equal ratios.
        caption: where they come from, below the figure.

    Raises:
        ValueError: without numbers, or for one that is not finite and positive (with `log`) or negative (without).

    Example:
        >>> from tfexplore import explore
        >>> explore.bars({"a spike": {"float32": 4, "uint8": 1}}, "bytes", "A byte is a quarter.")
        A byte is a quarter.
    """
    if not isinstance(groups, Mapping) or not all(isinstance(group, Mapping) for group in groups.values()):
        raise TypeError(
            f"groups must have the numbers by name, by panel: {{title: {{name: number}}}}, but got {groups!r}."
        )
    values = {f"{name}, {title}": value for title, group in groups.items() for name, value in group.items()}
    if not values or not all(groups.values()):
        raise ValueError("groups must have at least one number in each panel.")
    for where, value in values.items():
        if not math.isfinite(value) or value < 0 or (log and not value):
            raise ValueError(
                f"Bars are as long as finite, {'positive' if log else 'non-negative'} numbers, but {where} is {value!r}."
            )
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    panels = {title: _panel(title, group, unit, colours, log) for title, group in groups.items()}
    rows = [[title] for title in panels]
    heights = [len(group) + 1.2 for group in groups.values()]
    margin, between = 40 + 7 * max(map(len, names)), 70  # pixels; an axis' title and a panel's lie between two panels
    height = int(70 + 34 * sum(heights) + between * (len(rows) - 1))
    made = Sheet(panels, rows, heights=heights, gaps=(0.1, between / (height - 70)), height=height, margin=margin)
    return Drawn(made, sentence, caption)


def _panel(title: str, group: Mapping[str, float], unit: str, colours: Mapping[str, str], log: bool) -> Panel:
    sizes, most = list(group.values()), max(group.values())
    marks = [
        Bars(f"bars, {title}", list(group), sizes, thickness=0.7, colour=[colours[name] for name in group],
             texts=[f"{size:,.3g}" if size < 1000 else f"{size:,.0f}" for size in sizes], words=f"{{y}}: {{x:,.4g}} {unit}")
    ]  # fmt: skip
    low, high = (10 ** math.floor(math.log10(min(sizes)) - 0.3), 8 * most) if log else (0, 1.15 * most or 1)
    ticks: Any = {10.0**k: f"{10.0**k:,g}" for k in range(-9, 15) if low <= 10.0**k <= high} if log else None
    across = Axis(f"{unit}, logarithmic" if log else unit, low, high, log=log, ticks=ticks)
    return Panel(marks, title=title, x=across, y=Axis(words=list(group), bare=True, backwards=True))
