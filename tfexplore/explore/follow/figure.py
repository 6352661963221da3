"""The figure of a loss on the potential: the potential and its curve, the gradient below it, the loss beside them."""

from __future__ import annotations

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Points, Rule, Sheet
from tfexplore.explore.follow.fitting import EVERY, ROUNDS, STEPS, Fit

FLOOR = 1e-6  # where the axis of the loss ends


def sheet(made: Fit) -> Sheet:
    t, threshold = np.arange(1, STEPS + 1), made.neuron.v_threshold
    fired = t[made.spikes > 0]
    seen = t[:0] if made.where == EVERY else t[-1:]
    potential = Panel(
        [
            Rule("threshold", y=threshold, colour=style.GREEN),
            Line("potential", t, made.potential, style.VIOLET, width=3, label="potential h"),
            Line("target", t, made.target, style.ROSE, "dash", label="curve to follow"),
            Points("loss looks", seen, made.target[seen - 1], style.ROSE, "diamond", size=10, label="the loss looks here only"),
            Points("spikes", fired, np.full(len(fired), threshold), style.INK, "tick", size=12, label="spikes"),
        ],
        title="the potential of one neuron (dotted: its threshold)", x=Axis(low=0.5, high=STEPS + 0.5),
        y=Axis(low=-0.25, high=1.25),
    )  # fmt: skip
    gradient = Panel(
        [Line("gradient", t, made.gradient, style.TEAL, steps=True, words="step {x}: {y:.2g}")],
        title="gradient of the loss, at the current of each step", x=Axis("time step", 0.5, STEPS + 0.5), y=Axis(form=".1e"),
        along="potential",
    )  # fmt: skip
    losses = np.maximum(made.losses, FLOOR) if made.losses else np.zeros(0)
    loss = Panel(
        [Line("loss", np.arange(len(losses)), losses, style.VIOLET)],
        title="loss", x=Axis("round of training", -0.02 * ROUNDS, ROUNDS), y=Axis(low=FLOOR, high=1, log=True),
    )  # fmt: skip
    panels = {"potential": potential, "loss": loss, "gradient": gradient}
    rows = [["potential", "loss"], ["gradient", "loss"]]
    return Sheet(panels, rows, (0.68, 0.32), (0.62, 0.38), (0.1, 0.16), height=460, legend="below")
