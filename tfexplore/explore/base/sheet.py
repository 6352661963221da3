"""A figure as plain values: a sheet of panels, and the marks in them. It knows neither plotly nor matplotlib.

An explorer describes its figure once, by a pure function from its result to a sheet; `plotly_sheet.py` draws and updates
it live, `picture.py` draws its static twin. All sheets of one explorer have the same panels and marks in the same order:
a mark with nothing to show is empty, a panel without a use is hidden. Values are in the units of their axis, also on a
logarithmic one; not-a-number leaves a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfexplore.explore.base.style import DIVERGING, INK, MUTED

Values = Any  # a sequence or an array of numbers or words
Colours = str | Sequence[str]
Dash = str
"""One of "", "solid", "dash", "dot" and "dashdot"."""
Sign = str
"""One of "", "circle", "square", "diamond", "cross", "triangle", "star" and "tick"."""


@dataclass(frozen=True, eq=False)
class Mark:
    """What is drawn in a panel. `name` is unique in its sheet; `label` stands in the legend, where equal labels are one.

    `words` are shown under the pointer: a pattern such as "{y}: {x:.2f} ms", or a text for every point; None shows nothing.
    """

    name: str
    label: str = field(default="", kw_only=True)
    words: str | Sequence[str] | None = field(default="", kw_only=True)


@dataclass(frozen=True, eq=False)
class Line(Mark):
    """Points joined by a line, with a sign at each if `sign` names one. `steps`: level around each x, then a jump."""

    x: Values = ()
    y: Values = ()
    colour: str = INK
    dash: Dash = "solid"
    width: float = 2.0
    alpha: float = 1.0
    steps: bool = False
    sign: Sign = ""
    size: float = 6.0
    hollow: bool = False


@dataclass(frozen=True, eq=False)
class Points(Mark):
    """Signs at points; `edge` is the colour of their outline."""

    x: Values = ()
    y: Values = ()
    colour: Colours = INK
    sign: Sign = "circle"
    size: float = 8.0
    edge: str = ""
    hollow: bool = False


@dataclass(frozen=True, eq=False)
class Bars(Mark):
    """Horizontal bars (vertical: `upright`) at places along one axis (numbers, or words of a category axis).

    A bar begins at `start` and is `length` long, so stacked bars start where the one before ended; `shift` moves them
    beside their place. `texts` stand behind the bars, or `inside` at their beginning (if of two lines, in the middle).
    """

    at: Values = ()
    length: Values = ()
    start: Values = 0.0
    thickness: float = 0.8
    shift: float = 0.0
    colour: Colours = INK
    hatch: Colours = ""
    edge: Colours = ""
    texts: Sequence[str] = ()
    inside: bool = False
    upright: bool = False


@dataclass(frozen=True, eq=False)
class Heat(Mark):
    """Cells z [rows, columns] coloured by value, with their middles at x and y (default: 0, 1, ...).

    colours: a smooth scale from `low` to `high`, or (`distinct`) one colour for each of the values 0, 1, ...
    Cells that are not a number are left out.   texts: one in each cell.   bar: ticks of a colour bar.
    """

    z: Values = ()
    x: Values = None
    y: Values = None
    colours: Sequence[str] = DIVERGING
    low: float = -1.0
    high: float = 1.0
    distinct: bool = False
    texts: Values = None
    gap: float = 0.0
    bar: Mapping[Any, str] | None = None
    under: Values = None  # what {under} in `words` stands for, in every cell


@dataclass(frozen=True, eq=False)
class Arrows(Mark):
    """Arrows from point to point: ((x, y), (x, y)) each."""

    ends: Sequence[tuple[tuple[float, float], tuple[float, float]]] = ()
    colour: str = INK
    dash: Dash = "solid"
    width: float = 1.5


@dataclass(frozen=True, eq=False)
class Rule(Mark):
    """A line across the panel at one x or one y, with neither no line; not in the legend."""

    x: float | None = None
    y: float | None = None
    colour: str = MUTED
    dash: Dash = "dot"
    width: float = 1.5


@dataclass(frozen=True, eq=False)
class Axis:
    """What an axis shows. `low` above `high` runs backwards; None for either: as far as the marks need.

    ticks: where, and the words there; () for none.   every: the distance of ticks.   form: a format such as ".0%" or ",.0f".
    words: the categories in order.   bare: no grid, and no line if it has no ticks either.
    silent: no ticks, as another axis has them.
    """

    title: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    ticks: Mapping[Any, str] | Sequence[float] | None = None
    every: float | None = None
    form: str = ""
    words: Sequence[str] = ()
    bare: bool = False
    silent: bool = False
    backwards: bool = False


@dataclass(frozen=True, eq=False)
class Panel:
    """Marks in one pair of axes.

    square: cells as wide as they are high.   along: the panel whose x axis this one follows.
    table: cells that are read like a table's: no axis lines, and the ticks of x above.
    """

    marks: Sequence[Mark] = ()
    title: str = ""
    x: Axis = Axis()
    y: Axis = Axis()
    square: bool = False
    table: bool = False
    along: str = ""
    hidden: bool = False


@dataclass(frozen=True, eq=False)
class Sheet:
    """Panels by name, and where they lie: `rows` of names, a name again where a panel goes on.

    widths, heights: of the columns and rows, relative to each other.   gaps: between them, as parts of the whole.
    height: of the whole, in pixels.   margin: left of it, in pixels, where the words of an axis need more.
    legend: "above" or "below" the panels; "" for none.
    """

    panels: Mapping[str, Panel]
    rows: Sequence[Sequence[str]] = ()
    widths: Sequence[float] = ()
    heights: Sequence[float] = ()
    gaps: tuple[float, float] = (0.09, 0.14)
    height: int = 420
    margin: int = 70
    legend: str = ""

    @property
    def grid(self) -> list[list[str]]:
        """`rows`, by default all panels side by side; without the hidden ones."""
        rows = self.rows or [list(self.panels)]
        shown = [[name for name in row if not self.panels[name].hidden] for row in rows]
        return [row for row in shown if row]

    def marks(self) -> list[tuple[str, Mark]]:
        """All marks, each with the name of its panel."""
        return [(name, mark) for name, panel in self.panels.items() for mark in panel.marks]
