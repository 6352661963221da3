"""Draws a sheet by matplotlib: the picture that stands where no kernel runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.plotly_sheet import DARK_TEXT, bright, each, empty
from tfexplore.explore.base.sheet import Arrows, Axis, Bars, Heat, Line, Mark, Panel, Points, Rule, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIGNS = {"circle": "o", "square": "s", "diamond": "D", "cross": "X", "triangle": "^", "star": "*", "tick": "|", "": ""}
STYLES = {"": "", "solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
HATCHES = {"": "", "/": "//", "x": "xx", ".": "..", "\\": "\\\\", "-": "--"}
WIDTH, PIXELS = 10, 105  # inches; pixels of a live figure in one of them


def picture(sheet: Sheet, words: str = "") -> Figure:
    """The sheet as a matplotlib figure, with the words above it; every artist has its mark's name as its gid."""
    text = textwrap.fill(words, 140)
    height = sheet.height / PIXELS + 0.18 * (text.count("\n") + bool(text))
    with style.static_figure(WIDTH, height) as drawing:
        grid = sheet.grid
        axes = drawing.subplot_mosaic(
            [list(row) for row in grid],
            width_ratios=list(sheet.widths) or None,
            height_ratios=list(sheet.heights) or None,
        )
        for name, own in axes.items():
            fill(own, sheet.panels[name])
        entries: dict[str, Any] = {}  # equal labels are one entry
        for own in axes.values():
            for handle, label in zip(*own.get_legend_handles_labels(), strict=True):
                entries.setdefault(label, handle)
        if entries and sheet.legend:  # below, as the words are above
            columns = max(1, min(len(entries), 160 // (9 + max(map(len, entries)))))
            drawing.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=columns)
        if text:
            drawing.suptitle(text, fontsize=9, x=0.01, ha="left")
    return drawing


def fill(axes: Axes, panel: Panel) -> None:
    """Draws a panel's marks and axes."""
    letters: tuple[tuple[Literal["x", "y"], Axis], ...] = (("x", panel.x), ("y", panel.y))
    for letter, given in letters:
        if given.log:
            getattr(axes, f"set_{letter}scale")("log")
        axes.grid(not given.bare and given.ticks != (), axis=letter)
        if given.low is not None and given.high is not None:  # known: never derived from marks, which may be empty
            getattr(axes, f"set_{letter}lim")(given.low, given.high)
    for mark in panel.marks:
        if isinstance(mark, Rule) or not empty(mark):
            MARKS[type(mark)](axes, mark, panel)
    for letter, given in letters:
        adorn(axes, letter, given)
    if panel.square:
        axes.set_aspect("equal", anchor="NW")
    if panel.table:
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_title(panel.title)


def adorn(axes: Axes, letter: str, given: Axis) -> None:
    """Limits, ticks and title of one axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullLocator

    own, limits = getattr(axes, f"{letter}axis"), getattr(axes, f"set_{letter}lim")
    getattr(axes, f"set_{letter}label")(given.title)
    if (given.low is None) != (given.high is None):
        limits(given.low, given.high)
    elif given.words and given.low is None:
        limits(-0.6, len(given.words) - 0.4)
    if given.backwards:
        own.set_inverted(True)
    if given.words:
        own.set_ticks(range(len(given.words)), list(given.words))
    elif isinstance(given.ticks, Mapping):
        own.set_ticks(list(given.ticks), list(given.ticks.values()))
    elif given.ticks is not None:
        own.set_ticks(list(given.ticks))
    elif given.log:
        own.set_major_locator(LogLocator(10.0 ** (given.every or 1), numticks=12))
    elif given.every:
        own.set_major_locator(MultipleLocator(given.every))
    if given.log:
        own.set_minor_locator(NullLocator())
    if not isinstance(given.ticks, Mapping) and not given.words and (given.form or given.log):
        own.set_major_formatter(FuncFormatter(lambda value, _: format(value, given.form or "g")))
    if given.silent:
        own.set_tick_params(**{"labelbottom" if letter == "x" else "labelleft": False})
    if given.bare and given.ticks == ():
        axes.spines["bottom" if letter == "x" else "left"].set_visible(False)


def places(at: Any, given: Axis) -> np.ndarray:
    """Places on an axis as numbers; a word's is its number among the categories."""
    words = list(given.words)
    return np.array([words.index(place) if isinstance(place, str) else place for place in at], float)


def line(axes: Axes, mark: Line, panel: Panel) -> None:
    x, y = places(mark.x, panel.x), np.asarray(mark.y, float)
    (made,) = axes.plot(
        x, y, color=mark.colour, lw=0.8 * mark.width, alpha=mark.alpha,
        ls=STYLES[mark.dash] or "none", marker=SIGNS[mark.sign] or None, ms=0.7 * mark.size,
        mfc=style.PAPER if mark.hollow else mark.colour, drawstyle="steps-mid" if mark.steps else "default",
        label=mark.label,
    )  # fmt: skip
    made.set_gid(mark.name)


def points(axes: Axes, mark: Points, panel: Panel) -> None:
    x, y = places(mark.x, panel.x), places(mark.y, panel.y)
    colour, size = mark.colour if isinstance(mark.colour, str) else list(mark.colour), (0.75 * mark.size) ** 2
    filled: dict[str, Any] = {"facecolors": style.PAPER if mark.hollow else colour, "edgecolors": mark.edge or colour}
    look = {"color": colour} if mark.sign == "tick" else filled
    made = axes.scatter(x, y, s=size, marker=SIGNS[mark.sign], linewidths=1.2 if mark.sign == "tick" else 0.7,
                        label=mark.label, zorder=3, **look)  # fmt: skip
    made.set_gid(mark.name)


def bars(axes: Axes, mark: Bars, panel: Panel) -> None:
    at, length = places(mark.at, panel.x if mark.upright else panel.y), np.asarray(mark.length, float)
    start = np.broadcast_to(np.asarray(mark.start, float), at.shape)
    colours, edges = each(mark.colour, len(at)), each(mark.edge, len(at))
    draw: Any = axes.bar if mark.upright else axes.barh
    end = start + length
    if (
        panel.y if mark.upright else panel.x
    ).log:  # where nothing is zero, a bar begins at the edge, and ends where it should
        start = np.where(start > 0, start, (axes.get_ylim() if mark.upright else axes.get_xlim())[0])
    made = draw(
        at + mark.shift, end - start, mark.thickness, color=colours, edgecolor=[e or style.PAPER for e in edges],
        linewidth=[1.3 * bool(e) for e in edges], hatch=[HATCHES[h] for h in each(mark.hatch, len(at))], label=mark.label,
        **{"bottom" if mark.upright else "left": start},
    )  # fmt: skip
    for bar in made:
        bar.set_gid(mark.name)
    if len(mark.texts) and not mark.inside:
        axes.bar_label(made, list(mark.texts), padding=4, fontsize=8)
    for k, text in enumerate(mark.texts if mark.inside else ()):
        ink = DARK_TEXT if colours[k] == style.WAITING or bright(colours[k]) else style.PAPER
        x, y = (at[k] + mark.shift, start[k]) if mark.upright else (start[k] + 0.06, at[k] + mark.shift)
        axes.text(x, y, text, va="center", fontsize=7.5, color=ink)


def heat(axes: Axes, mark: Heat, _: Panel) -> None:
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap

    z, count = np.asarray(mark.z, float), len(mark.colours)
    low, high = (-0.5, count - 0.5) if mark.distinct else (mark.low, mark.high)
    scale = ListedColormap(mark.colours) if mark.distinct else LinearSegmentedColormap.from_list("", list(mark.colours))
    x, y = (borders(given, n) for given, n in ((mark.x, z.shape[1]), (mark.y, z.shape[0])))
    made = axes.pcolormesh(
        x, y, z, cmap=scale, vmin=low, vmax=high, edgecolors=style.PAPER if mark.gap else "none", linewidth=mark.gap / 2
    )
    made.set_gid(mark.name)
    for (row, column), text in np.ndenumerate(np.asarray(mark.texts) if mark.texts is not None else np.empty((0, 0))):
        if text:
            axes.text(
                x[column : column + 2].mean(), y[row : row + 2].mean(), text, ha="center", va="center", fontsize=6
            )
    if mark.bar is not None:
        bar = axes.figure.colorbar(made, ax=axes, ticks=list(mark.bar))
        bar.ax.set_yticklabels(list(mark.bar.values()), fontsize=7)
        bar.outline.set_visible(False)


def borders(middles: Any, count: int) -> np.ndarray:
    """The edges of cells from their middles, which are equally far apart."""
    at = np.arange(count) if middles is None else np.asarray(middles, float)
    half = (at[1] - at[0]) / 2 if count > 1 else 0.5
    return np.append(at - half, at[-1] + half)


def arrows(axes: Axes, mark: Arrows, _: Panel) -> None:
    look = {"arrowstyle": "->", "color": mark.colour, "linestyle": STYLES[mark.dash], "lw": 0.8 * mark.width}
    for begin, end in mark.ends:
        axes.annotate("", end, begin, arrowprops=look).set_gid(mark.name)


def rule(axes: Axes, mark: Rule, _: Panel) -> None:
    look = {"color": mark.colour, "linestyle": STYLES[mark.dash], "lw": 0.8 * mark.width}
    if mark.x is None and mark.y is None:
        return
    made = axes.axhline(mark.y, **look) if mark.x is None else axes.axvline(mark.x, **look)  # type: ignore[arg-type]
    made.set_gid(mark.name)


MARKS: dict[type[Mark], Any] = {Line: line, Points: points, Bars: bars, Heat: heat, Arrows: arrows, Rule: rule}
