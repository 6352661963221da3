"""The figure of the seeds explorer: losses and accuracies of both walks, and the difference of each pair of losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Sheet
from tfexplore.explore.seeds.pairs import FUSED, LAYERED, STEPPED, SeedPairs

LOOKS = {
    STEPPED: (style.STEPPED, "solid", 6.0),
    LAYERED: (style.LAYERED, "solid", 6.0),
    FUSED: (style.FUSED, "dash", 2.5),
}
"""Colour, dash and width of a walk's mean; the fused one lies on top of the other."""
DECADES = {1e-16: "10⁻¹⁶", 1e-12: "10⁻¹²", 1e-8: "10⁻⁸", 1e-4: "10⁻⁴", 1.0: "1"}


def sheet(made: SeedPairs) -> Sheet:
    drift = [np.where((d := pair.drift()) > 0, d, np.nan) for pair in made.pairs]  # equal bits are not on a log axis
    equal = len(found := made.drift()) > 0 and not found.any()
    losses = [values for pair in made.pairs for values in pair.losses.values()]
    top = 1.05 * max((loss for values in losses for loss in values if math.isfinite(loss)), default=3.0)
    along = Axis("batches", 0, max([10.0, *(1.03 * len(values) for values in losses)]))
    panels = {
        "loss": Panel([*curves(made, "losses")], title="loss", x=along, y=Axis(low=0, high=top)),
        "accuracy": Panel(
            [*curves(made, "accuracies", "circle")], title="test accuracy",
            x=Axis("epochs", 0.7, made.epochs + 0.3, every=1), y=Axis(low=0, high=1.02, form=".0%"),
        ),
        "difference": Panel(
            [Line("difference", *one_line(drift), style.GREEN, width=1.5, sign="circle", size=3,
                  words="batch {x}: {y:.1e}")],
            title="|difference| of the two losses" + ": none" * equal, x=along, y=Axis("", 3e-18, 3, log=True, ticks=DECADES),
        ),
    }  # fmt: skip
    return Sheet(panels, height=400, legend="below")


def curves(made: SeedPairs, what: str, sign: str = "") -> Iterator[Line]:
    """For both walks: thin, every seed; thick, the mean of the seeds that are finished."""
    finished = made.finished()
    for walk in made.walks:
        colour, dash, width = LOOKS[walk]
        each = [getattr(pair, what)[walk] for pair in made.pairs]
        mean = np.mean([getattr(pair, what)[walk] for pair in finished], axis=0) if finished else np.array([])
        yield Line(
            f"{walk}: {what}", *one_line(each), colour, dash, 1.0, 0.5, sign=sign, size=4, words=f"{walk}: {{y:.4g}}"
        )
        yield Line(
            f"{walk}: mean {what}", np.arange(1, len(mean) + 1), mean, colour, dash, width, sign=sign, label=walk
        )


def one_line(runs: Sequence[Sequence[float] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Several curves over 1, 2, ... as one line with gaps between them."""
    x = [at for run in runs for at in (*range(1, len(run) + 1), np.nan)]
    y = [value for run in runs for value in (*run, np.nan)]
    return np.array(x), np.array(y)
