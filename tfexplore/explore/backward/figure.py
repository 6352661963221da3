"""The surrogate explorer's figure: the surrogate over the potentials, and the gradient over time beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfexplore.explore.backward.gradient import DECADES, FAINT, BackwardPass, U, curves, pooled, shade
from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Heat, Line, Panel, Points, Rule, Sheet

BINS = np.linspace(-2, 2, 41)
MOST_DOTS = 2000
ZERO = "#bdbdbd"  # grey: exactly zero


def sheet(made: BackwardPass, colours: str) -> Sheet:
    """colours: one of `gradient.SCALES`, how the magnitude of a gradient becomes a colour."""
    flow = made.flow
    share, zero = histogram(made)
    t, z, gradient = cells(made, colours)
    steps, neurons = flow.gradient.shape
    time = Axis("time step", 0.5, steps + 0.5)
    panels = {
        "surrogate": Panel(
            [
                Line("step", U, (U >= 0).astype(float), style.GREEN, "dot", label="step"),
                Line("smooth step", U, made.smooth, style.TEAL, "dash", label="smooth step"),
                Line("surrogate", U, made.slope, style.VIOLET, width=3, label="surrogate (slope)"),
            ],
            title="the surrogate", x=Axis(low=-2, high=2),
            y=Axis(low=-0.05, high=1.08 * max(1.0, float(made.slope.max()))),
        ),
        "gradient": Panel(
            [
                Heat("zero", np.where(np.isnan(z), 0.0, np.nan), t, colours=(ZERO, ZERO), words="step {x}, neuron {y}: 0"),
                Heat("gradient", z, t, bar=ticks(colours), under=gradient, words="step {x}, neuron {y}: {under:.2g}"),
                Points("spike", *dots(made), size=3, words=None),
            ],
            title=f"gradient of the spikes at steps {flow.first}–{flow.loss_at}",
            x=replace(time, title="", bare=True), y=Axis("neuron", -0.5, neurons - 0.5, bare=True),
        ),
        "potentials": Panel(
            [Bars("potentials", (BINS[1:] + BINS[:-1]) / 2, share, thickness=BINS[1] - BINS[0],
                  colour=[ZERO if z else style.VIOLET for z in zero], upright=True, words="u = {x:.2f}: {y:.1%}")],
            title="where the potentials fall", x=Axis("u = h − threshold", -2, 2), y=Axis(low=0, form=".0%"),
        ),
        "size": Panel(
            [
                Rule("faint", y=FAINT, colour=style.GREEN),
                Line("mean magnitude", np.arange(1, steps + 1), shares(flow.magnitude, made), style.VIOLET),
                Line("decay", made.decay[0], shares(made.decay[1], made), style.ROSE, "dash", label="(1 − 1/τ) per step"),
            ],
            title="mean gradient, of the largest", x=time,
            y=Axis("", 10.0**-DECADES, 2, log=True,
                   ticks={10.0**-k: percent(10.0**-k) for k in range(0, DECADES + 1, 2)}),
        ),
    }  # fmt: skip
    rows = [["surrogate", "gradient"], ["potentials", "size"]]
    return Sheet(panels, rows, (0.36, 0.64), (0.62, 0.38), (0.12, 0.13), height=600, legend="below")


def histogram(made: BackwardPass) -> tuple[np.ndarray, list[bool]]:
    """The share of all (step, neuron) cells in every bin of u, and whether the surrogate is zero there."""
    slope, _ = curves(made.neuron.surrogate, (BINS[1:] + BINS[:-1]) / 2)
    return np.histogram(made.flow.u, BINS)[0] / made.flow.u.size, list(slope == 0)


def dots(made: BackwardPass) -> tuple[np.ndarray, np.ndarray]:
    times, cells = np.nonzero(made.flow.spikes)
    return (times + 1, cells) if len(times) <= MOST_DOTS else (times[:0], cells[:0])


def cells(made: BackwardPass, colours: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time steps, colours and gradients of the heat map, [neurons, columns]."""
    pool, group = pooled(made.flow.gradient)
    at = 1 + (group - 1) / 2 + group * np.arange(len(pool))
    return at, shade(pool, colours).T.round(3), short(pool.T)


def shares(size: np.ndarray, made: BackwardPass) -> np.ndarray:
    """Magnitudes as shares of the largest mean; nothing below the axis."""
    share = size / (made.flow.magnitude.max() or 1.0)
    return np.where(share > 10.0 ** -(DECADES + 1), share, np.nan)


def ticks(colours: str) -> dict[float, str]:
    """The colour bar's."""
    if colours == "linear":
        return {-1: "−100 %", -0.5: "−50 %", 0: "0", 0.5: "50 %", 1: "100 %"}
    words = {1 - k / DECADES: percent(10.0**-k) for k in (0, 2, 4)}
    return {-at: f"−{word}" for at, word in words.items()} | {0: "≈ 0"} | dict(reversed(words.items()))


def short(values: np.ndarray) -> np.ndarray:
    """Rounded to three digits: less to send."""
    with np.errstate(divide="ignore"):
        unit = 10.0 ** np.floor(np.log10(np.where(values == 0, 1.0, np.abs(values))))
    rounded: np.ndarray = np.round(values / unit, 2) * unit
    return rounded


def percent(share: float) -> str:
    return f"{100 * share:g} %"
