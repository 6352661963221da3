"""What the check found, and how a notebook shows it: a sentence, and a picture drawn by matplotlib from arrays.

The functions that draw import matplotlib and the look of the explorers: `check` itself works without them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tfexplore.puzzles.puzzle import Array, Case, Puzzle, digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTCOMES = ("right", "too much traffic", "wrong", "crashed", "not finished", "not yet")


@dataclass(frozen=True)
class Verdict:
    """What `check` found. A notebook shows it as its sentence and a picture.

    Attributes:
        puzzle: which was checked.
        outcome: one of `OUTCOMES`.
        sentence: what was found, in words.
        case: the case that shows it.
        expected: what the picture shows as expected.
        yours: what it shows as the answer's; None where nothing was returned.
        differs: where both differ.
        traffic: words per element-step by array and direction, of a puzzle with a budget.
    """

    puzzle: Puzzle
    outcome: str
    sentence: str
    case: Case
    expected: Array
    yours: Array | None = None
    differs: Array | None = None
    traffic: Mapping[str, Fraction] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Whether the answer is right and within its budget."""
        return self.outcome == "right"

    def __repr__(self) -> str:
        return self.sentence

    def describe(self) -> str:
        """What the picture shows, in words."""
        shown = "what is expected" if self.yours is None else "what is expected beside what came"
        return f"The puzzle {self.puzzle.name}: {shown}, with {self.case.name}. {self.sentence}"

    def picture(self) -> bytes:
        """The answer and what is expected, as a PNG."""
        return compared(self)

    def _ipython_display_(self) -> None:
        show(self.sentence, framed(self.sentence, self.outcome), self.picture(), self.describe())


def framed(sentence: str, outcome: str) -> str:
    """The sentence as HTML: a sign, a colour, and words that say the same."""
    from tfexplore.explore.base.style import ALARM, GREEN, MUTED, OLIVE

    looks = {"right": ("✓", GREEN), "too much traffic": ("≈", OLIVE), "not yet": ("…", MUTED)}
    sign, colour = looks.get(outcome, ("✗", ALARM))
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(sentence, quote=False))
    look = f"border-left:4px solid {colour};padding:2px 12px;font-size:110%;line-height:1.5"
    return f'<div role="status" style="{look}"><b style="color:{colour}">{sign}</b> {text}</div>'


def show(text: str, markup: str, png: bytes, words: str) -> None:
    """Displays a sentence, and a picture with an alternative text: two outputs, so that both are shown."""
    from IPython.display import display

    display({"text/plain": text, "text/html": markup}, raw=True)
    display({"text/plain": words, "image/png": png}, raw=True, metadata={"image/png": {"alt": words}})


def compared(verdict: Verdict) -> bytes:
    """The PNG of a verdict: what is expected, the answer and where they differ; beside it the traffic, if it was counted."""
    from tfexplore.explore.base import style

    expected = np.atleast_1d(verdict.expected)
    yours = None if verdict.yours is None else np.atleast_1d(np.asarray(verdict.yours, float))
    if yours is not None and yours.shape != expected.shape:
        yours = None
    panels = {"expected": expected}
    if yours is not None and expected.ndim > 1:
        panels["yours"] = yours
        if verdict.outcome == "wrong" and (differs := away(verdict, expected, yours)).any():
            panels["where they differ"] = differs
    budget = verdict.case.budget if verdict.traffic else None
    widths = [5.2 if expected.ndim == 1 else 2.8] * len(panels) + [3.0] * (budget is not None)
    with style.static_figure(sum(widths) + 0.6, 2.7) as figure:
        axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        if expected.ndim == 1:
            line(axes[0], verdict, expected, yours)
        else:
            images = [
                grid(ax, verdict, values, title) for ax, (title, values) in zip(axes, panels.items(), strict=False)
            ]
            scale = figure.colorbar(images[0], ax=axes[min(1, len(panels) - 1)], label=verdict.puzzle.value)
            scale.outline.set_visible(False)
        if budget is not None:
            bars(axes[-1], verdict, budget)
    return style.png(figure)


def away(verdict: Verdict, expected: Array, yours: Array) -> Array:
    """Where the picture marks a difference."""
    if verdict.differs is not None and verdict.differs.size == expected.size:
        return verdict.differs.reshape(expected.shape)
    if verdict.outcome in ("right", "too much traffic"):
        return np.zeros(expected.shape, bool)
    same: Array = np.isclose(yours, expected)
    return ~same


def line(ax: Axes, verdict: Verdict, expected: Array, yours: Array | None) -> None:
    """Values along one axis; joined by a line where the axis is a quantity, not where it counts neurons or names."""
    from matplotlib.ticker import MaxNLocator

    from tfexplore.explore.base import style

    given = verdict.case.x
    named = given is not None and isinstance(given[0], str)
    joined = "time" in verdict.case.axes[0] if given is None else not named
    x = np.arange(len(expected)) if given is None or named else np.asarray(given)
    ax.plot(x, expected, "-o" if joined else "o", color=style.SKY, ms=9, lw=4, label="expected")
    if yours is not None:
        ax.plot(x, yours, ":x" if joined else "x", color=style.VIOLET, ms=6, mew=1.5, label="yours")
        wrong = away(verdict, expected, yours)
        if wrong.any():
            for k, at in enumerate(x[wrong]):
                ax.axvline(at, color=style.ROSE, alpha=0.25, linewidth=7, zorder=0, label="" if k else "differs")
    if named:
        ax.set_xticks(x, given, rotation=30 if max(map(len, given)) > 8 else 0)
    elif given is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if x.min() > 0 and x.max() / x.min() > 100:
        ax.set(xscale="log", yscale="log")
    ax.set(xlabel=verdict.case.axes[0], ylabel=verdict.puzzle.value, title=verdict.case.name)
    if len(expected) == 1:
        ax.set(xticks=[], xlabel="")
    ax.margins(y=0.15)
    ax.figure.legend(loc="outside lower left", ncols=3)


def grid(ax: Axes, verdict: Verdict, values: Array, title: str) -> Any:
    """Values over two axes, as colours on the scale of what is expected; a few whole numbers are labelled as well."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    from tfexplore.explore.base import style

    mask = values.dtype == bool
    low, high = (0, 1) if mask else (np.nanmin(verdict.expected), np.nanmax(verdict.expected))
    colours = LinearSegmentedColormap.from_list(
        "", (style.WAITING, style.ROSE) if mask else (style.SKY, style.VIOLET, style.INK)
    )
    look: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    image = ax.imshow(values.T.astype(float), cmap=colours, vmin=low, vmax=high, **look)
    ax.set(title=title, xlabel=verdict.case.axes[0], ylabel=verdict.case.axes[1])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    if not mask and values.size <= 24 and (verdict.expected == np.round(verdict.expected)).all():
        for place, value in np.ndenumerate(values):
            if np.isfinite(value):
                shade = style.INK if value < (low + high) / 2 else style.PAPER
                ax.text(place[0], place[1], f"{value:g}", ha="center", va="center", color=shade, fontsize=8)
    return image


def bars(ax: Axes, verdict: Verdict, budget: Fraction) -> None:
    """Words per element-step by array, stacked, against the budget."""
    from tfexplore.explore.base import style

    at = 0.0
    hatches = ("", "//", "..", "xx", "--", "\\\\")
    for k, (what, words) in enumerate(verdict.traffic.items()):
        look: dict[str, Any] = {
            "color": style.PALETTE[k % len(style.PALETTE)],
            "hatch": hatches[k % 6],
            "edgecolor": style.PAPER,
        }
        ax.bar([0], [float(words)], 0.5, bottom=at, label=what, **look)
        at += float(words)
    ax.hlines(float(budget), -0.4, 0.4, style.INK, "--", label=f"budget {digits(budget)}")
    ax.set(xlim=(-0.4, 2.4), ylim=(0, 1.15 * max(at, float(budget))), xticks=[0], xticklabels=["yours"])
    ax.set(ylabel="words per element-step", title="memory traffic")
    ax.legend(loc="lower right")


def tiles(score: dict[str, list[tuple[str, str]]]) -> bytes:
    """The PNG of a score: one tile per puzzle, a row per notebook; filled and ticked where solved."""
    from tfexplore.explore.base import style

    looks = {"right": (style.GREEN, "✓ "), "too much traffic": (style.SAND, "≈ ")}
    with style.static_figure(8.4, 0.5 * len(score) + 0.2) as figure:
        ax = figure.subplots()
        for row, (notebook, found) in enumerate(score.items()):
            ax.text(-0.1, row, notebook, ha="right", va="center")
            for column, (name, outcome) in enumerate(found):
                colour, sign = looks.get(outcome, (style.WAITING, ""))
                ax.barh(row, 0.92, 0.7, left=column, color=colour)
                ink = style.PAPER if outcome == "right" else style.INK
                ax.text(column + 0.46, row, sign + name, ha="center", va="center", fontsize=7.5, color=ink)
        ax.set(xlim=(-1.4, max(map(len, score.values()))), ylim=(len(score) - 0.5, -0.5))
        ax.set_axis_off()
    return style.png(figure)
