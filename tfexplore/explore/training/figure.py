"""The training explorer's figure: loss and accuracy, one hidden neuron and its layer, the image, and the firing rates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Heat, Line, Panel, Points, Sheet
from tfexplore.explore.neuron.membrane import zigzag
from tfexplore.explore.training.observe import Traces, TrainingRun, spiking

COLOURS = {"fused": style.FUSED, "layer by layer": style.LAYERED, "step by step": style.STEPPED}
FIRED = "spike of this neuron"


def sheet(run: TrainingRun, seen: Traces, row: int) -> Sheet:
    """row: that of the raster whose neuron is shown above it."""
    steps, cells, colour = len(seen.h), seen.cells, COLOURS[run.walk]
    h, v, s = (part[:, cells[row]] for part in (seen.h, seen.v, seen.s))
    fired = np.flatnonzero(s)
    times, rows = np.nonzero(seen.s[:, cells])
    others = rows != row
    level = [] if seen.threshold is None else [seen.threshold] * 2
    height, width = seen.image.shape
    names = [shown(name) for name in spiking(run.net)]
    before, now = (list(run.rates[k][1].values()) if run.rates else [] for k in (0, -1))
    top = 1.05 * max(filter(math.isfinite, run.losses), default=3.0)
    batches = Axis("batches", 0, max(10.0, 1.03 * len(run.losses)))
    time, follows = Axis("time step", 0.5, steps + 0.5), Axis(low=0.5, high=steps + 0.5, silent=True)
    panels = {
        "loss": Panel(
            [Line("loss", np.arange(1, len(run.losses) + 1), list(run.losses), colour)],
            title="loss", x=replace(batches, title="", silent=True),
            y=Axis(low=0, high=top), along="accuracy",
        ),
        "potential": Panel(
            [
                Line("potential", *zigzag(h, v), style.VIOLET, width=1.8, label="potential"),
                Line("threshold", [1, steps][: len(level)], level, style.MUTED, "dash", 1.5, label="threshold"),
                Points("spike", fired + 1, h[fired], style.ROSE, label=FIRED),
            ],
            title=f"potential of neuron {row}" + (f" ({where})" if (where := seen.address(cells[row])) else ""),
            x=follows, along="spikes",
        ),
        "image": Panel(
            [Heat("image", seen.image, colours=(f"{style.MUTED}00", style.MUTED), low=float(seen.image.min()),
                  high=float(seen.image.max()), words="{z:.3g}")],
            title=f"a {seen.label}, read as {seen.guess}", square=True,
            x=Axis(low=-0.5, high=width - 0.5, ticks=()), y=Axis(low=height - 0.5, high=-0.5, ticks=()),
        ),
        "accuracy": Panel(
            [Line("accuracy", [n for n, _ in run.accuracies], [right for _, right in run.accuracies], colour, sign="circle")],
            title="test accuracy", x=batches, y=Axis(low=0, high=1.02, form=".0%"),
        ),
        "spikes": Panel(
            [
                Points("spikes of the layer", times[others] + 1, rows[others], style.VIOLET, "square", 3,
                       words="step {x}, neuron {y}", label="spikes of its layer"),
                Points("spikes of the neuron", fired + 1, np.full(len(fired), row), style.ROSE, size=6, label=FIRED),
            ],
            title=f"spikes of {len(cells)} neurons of {shown(seen.layer)}",
            x=time, y=Axis("neuron", -1, len(cells)),
        ),
        "rates": Panel(
            [
                Bars("rate", names[: len(now)], now, colour=style.TEAL, words="{y}: {x:.3f}", label="rate now"),
                Points("rate before", before, names[: len(before)], style.INK, "diamond", 11, hollow=True,
                       words="{y}, untrained: {x:.3f}", label="untrained"),
            ],
            title="firing rates", x=Axis("spikes per neuron and step", low=0), y=Axis(words=names, backwards=True),
        ),
    }  # fmt: skip
    rows_of_panels = [["loss", "potential", "image"], ["accuracy", "spikes", "rates"]]
    return Sheet(panels, rows_of_panels, (0.3, 0.42, 0.28), gaps=(0.08, 0.16), height=580, legend="below")


def shown(name: str) -> str:
    """A layer's name to read: a module without a name of its own has its place, such as 3."""
    return f"layer {name}" if name.isdigit() else name
