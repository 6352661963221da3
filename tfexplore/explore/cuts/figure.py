"""The figure of the cuts: cosines while the network trains, and where one layer alone is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Points, Sheet
from tfexplore.explore.cuts.experiment import ALL, CUT, KEPT, RANDOM_CUT, RANDOM_KEPT
from tfexplore.explore.cuts.runs import CutRuns

LOOKS = {
    CUT: (style.ROSE, "solid", "circle"),
    RANDOM_CUT: (style.ROSE, "dash", "star"),
    KEPT: (style.VIOLET, "solid", "square"),
    RANDOM_KEPT: (style.VIOLET, "dash", "triangle"),
    ALL: (style.MUTED, "dot", "cross"),
}
"""Colour, dash and sign of each set of cuts; a control has its case's colour, dashed."""


def sheet(found: CutRuns, shown: Sequence[str], batches: int) -> Sheet:
    """shown: sets of cuts.   batches: how far a run goes."""
    kinds = ((False, "elsewhere", style.MUTED, "circle"), (True, "end of a stage", style.ROSE, "diamond"))
    curves = Panel(
        [mark for name in LOOKS for mark in lines(found, name, name in shown)],
        title="while it trains: cosine with the full gradient",
        x=Axis("batches trained", -0.03 * batches, 1.03 * batches, form=",.0f"),
        y=Axis("cosine (1: same direction)", form=".2f"),
    )
    depths = Panel(
        [mark for kind in kinds for mark in dots(found, *kind)],
        title="trained: this one layer cut",
        x=Axis("cosine (1: same direction)", form=".3f"),
        y=Axis("", len(found.layers) - 0.4, -0.6, ticks=dict(enumerate(found.layers))),
    )
    height = max(420, 110 + 20 * len(found.layers))
    return Sheet(
        {"training": curves, "alone": depths}, widths=(1.25, 1), gaps=(0.2, 0.14), height=height, legend="below"
    )


def lines(found: CutRuns, name: str, shown: bool) -> Iterator[Line]:
    """Thin, every seed and draw; thick, their mean."""
    colour, dash, sign = LOOKS[name]
    x, every = np.array(found.batches()), found.values(name) if shown and found.runs else np.empty((0, 0, 0))
    each = [curve for seed in every for curve in seed.T] if len(x) else []
    thin_x = np.array([at for _ in each for at in (*x, np.nan)])
    thin_y = np.array([value for curve in each for value in (*curve, np.nan)])
    mean = every.mean((0, 2)) if each else np.empty(0)
    yield Line(f"{name}: each", thin_x, thin_y, colour, dash, 1.0, 0.35, words=None)
    yield Line(
        name, x[: len(mean)], mean, colour, dash, 2.5, sign=sign, size=7, label=name if shown else "",
        words=f"{name}: {{y:.4f}}",
    )  # fmt: skip


def dots(found: CutRuns, ends: bool, label: str, colour: str, sign: str) -> Iterator[Line | Points]:
    """The mean over the seeds, and a line from the lowest to the highest."""
    names = [name for name in found.layers if (name in found.ends) == ends] if found.alone else []
    each = [found.layer(name) for name in names]
    at = [found.layers.index(name) for name in names]
    x = np.array([value for values in each for value in (values.min(), values.max(), np.nan)])
    y = np.array([value for place in at for value in (place, place, np.nan)])
    yield Line(f"{label}: range", x, y, colour, width=2.0, alpha=0.6, words=None)
    yield Points(
        label, [values.mean() for values in each], at, colour, sign, 9.0, label=label, words="{x:.4f}"
    )  # fmt: skip
