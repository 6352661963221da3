"""The figure of the inverse explorer: one neuron's state, forward and inverted, and below it the errors of all."""

from __future__ import annotations

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Line, Panel, Points, Rule, Sheet
from tfexplore.explore.inverse.backwards import Backwards

THERE, BACK = style.VIOLET, style.ROSE
LOOKS = (
    (style.SKY, "solid", 6.0),
    (style.GREEN, "dash", 3.0),
    (style.PURPLE, "dot", 2.0),
    (style.OLIVE, "dashdot", 1.5),
)
"""Colour, dash and width of the levels, from the lowest up, so that each shows on the others; then they repeat."""
DECADES = {10.0**k: f"10{str(k).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}" for k in range(-18, 19, 3)}


def sheet(made: Backwards, level: int, neuron: int, back: int) -> Sheet:
    """back: how many steps have been inverted."""
    steps = made.steps
    at, first = np.arange(1, steps + 1), steps - 1 - back
    there, found = made.there[level][:, neuron], made.found[level][:, neuron]
    near = np.concatenate([there, found[np.isfinite(found) & (np.abs(found) < 2 * np.abs(there).max() + 1)]])
    low, high = min(near.min(), -0.1), max(near.max(), 0.6)
    margin = 0.12 * (high - low)
    low, high = low - margin, high + 2 * margin
    along = Axis(low=0.5, high=steps + 0.5, silent=True)
    shown = found[first:]
    flips = made.exactness.flips.sum(0)
    panels = {
        "state": Panel(
            [
                Rule("threshold", y=made.threshold if np.isfinite(made.threshold) else None, colour=style.GREEN),
                Line("there", at, there, THERE, width=4, alpha=0.45, label="forward", words="step {x}: {y:.4f}"),
                Line("found", at[first:], np.where((shown > low) & (shown < high), shown, np.nan), BACK, "dash", sign="circle",
                     size=5, label="backwards, by the inverse", words="step {x}: {y:.4f}"),
                Points("fired", *spikes(made.fired, level, neuron, 0, high - 0.6 * margin), THERE, "tick", size=9,
                       label="seen as a spike, forward", words="step {x}"),
                Points("refound", *spikes(made.refound, level, neuron, first, high - 1.3 * margin), BACK, "tick", size=9,
                       label="and backwards", words="step {x}"),
                Rule("now", x=first + 1, colour=style.MUTED),
            ],
            title=f"state of neuron {neuron} of level {level}", x=along, y=Axis("c", low, high),
        ),
        "error": Panel(errors(made, first), title="largest error of a state, by level", x=along, y=decades(made)),
        "flips": Panel(
            [Bars("flips", at[first:], flips[first:], thickness=0.7, colour=style.ROSE, upright=True,
                  words="step {x}: {y:,.0f} of " + f"{sum(made.exactness.neurons):,} neurons")],
            title="neurons that are seen differently", x=Axis("time step", 0.5, steps + 0.5),
            y=Axis(low=0, high=max(1.0, 1.1 * flips.max()), form=",.0f", every=whole(flips.max())),
        ),
    }  # fmt: skip
    return Sheet(
        panels,
        [["state"], ["error"], ["flips"]],
        heights=(0.42, 0.36, 0.22),
        gaps=(0.1, 0.09),
        height=620,
        legend="below",
    )


def whole(high: float) -> float:
    """The distance of ticks at whole numbers, at most four up to `high`.

    >>> whole(0), whole(3), whole(720)
    (1, 1, 200)
    """
    return next(digit * 10**k for k in range(20) for digit in (1, 2, 5) if 4 * digit * 10**k >= high)


def spikes(
    fired: list[np.ndarray], level: int, neuron: int, first: int, height: float
) -> tuple[np.ndarray, np.ndarray]:
    """The steps, from `first` on, at which a neuron is seen as a spike."""
    if not fired:
        return np.array([]), np.array([])
    times = first + np.flatnonzero(fired[level][first:, neuron] > 0.5)
    return times + 1, np.full(len(times), height)


def errors(made: Backwards, first: int) -> list[Line | Rule]:
    """A line for each level, as far back as the inverse has come, and what rounding alone predicts."""
    at = np.arange(1, made.steps + 1)
    lines: list[Line | Rule] = [
        Line("bound", at, positive(made.exactness.bound), style.MUTED, width=1.5, label="from rounding alone, predicted",
             words="step {x}: {y:.1e}"),
    ]  # fmt: skip
    for level, states in enumerate(made.exactness.states):
        colour, dash, width = LOOKS[level % len(LOOKS)]
        lines.append(
            Line(f"level {level}", at[first:], positive(states[first:]), colour, dash, width, label=f"level {level}",
                 words=f"level {level}, step {{x}}: {{y:.1e}}")
        )  # fmt: skip
    return [*lines, Rule("now, errors", x=first + 1, colour=style.MUTED)]


def positive(values: np.ndarray) -> np.ndarray:
    """Zero and what is no number have no place on a logarithmic axis."""
    return np.where((values > 0) & np.isfinite(values), values, np.nan)


def decades(made: Backwards) -> Axis:
    values = positive(np.concatenate([made.exactness.states.ravel(), made.exactness.bound]))
    low, high = np.nanmin(values, initial=1e-7), np.nanmax(values, initial=1e-5)
    low, high = low / 3, min(high, 1e18) * 3
    return Axis("", low, high, log=True, ticks={at: word for at, word in DECADES.items() if low <= at <= high})
