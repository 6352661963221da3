"""The neuron explorer's figure: current, potential and spikes over time, and the rate at constant currents beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Points, Sheet
from tfexplore.explore.neuron.membrane import Array, Curve, Recording

Range = tuple[float, float]


def sheet(seen: Recording, strengths: Range, current: Range | None = None) -> Sheet:
    """strengths: the range of constant currents.   current: from where to where its axis goes, instead of what is seen."""
    t, fired, none = np.arange(1, len(seen.x) + 1), seen.times, np.array([])
    low, high = current or height(seen.x, strengths)
    drawn, level = seen.drawn(), seen.threshold
    found = seen.curve or Curve(none, none, none)
    here = (np.array([seen.x.mean()]), np.array([seen.rate])) if seen.curve else (none, none)
    across, up = reach(seen, strengths)
    time = Axis("time step", 0.5, len(seen.x) + 0.5)
    follows = replace(time, title="", silent=True)
    panels = {
        "current": Panel(
            [Line("input current", t, seen.x, style.TEAL, steps=True)],
            title="input current x", x=follows, y=Axis(low=low, high=high), along="spikes",
        ),
        "rate": Panel(
            [
                Line("continuous time", *curve(found, found.textbook), style.GREEN, "dot", 1.5, label="continuous time"),
                Points("measured", found.currents, found.measured, style.TEAL, size=6, label="measured"),
                Line("exact", *curve(found, found.exact), style.VIOLET, width=1.5, label="exact"),
                Points("the trace on the left", *here, style.ROSE, "diamond", 13, style.INK, label="the trace on the left"),
            ],
            title="rate at a constant current" if seen.curve else "no rate: it does not fire",
            x=Axis("constant current", *across), y=Axis("spikes per step", *up),
        ),
        "potential": Panel(
            [
                Line("potential", *drawn, style.VIOLET, width=1.8, label="potential"),
                Line("threshold", t, level, style.MUTED, "dash", 1.5, label="threshold"),
                Points("spike", fired, seen.h[fired - 1], style.ROSE, label="spike"),
            ],
            title="potential", x=follows, along="spikes",
        ),
        "spikes": Panel(
            [Points("spike time", fired, 0 * fired, style.ROSE, "tick", 14)],
            title="spikes", x=time, y=Axis(low=-1, high=1, ticks=()),
        ),
    }  # fmt: skip
    rows = [[name, "rate"] for name in ("current", "potential", "spikes")]
    return Sheet(panels, rows, (0.68, 0.32), (0.24, 0.66, 0.1), (0.11, 0.09), height=600, legend="below")


def curve(found: Curve, rates: Array | None) -> tuple[Array, Array]:
    return (np.array([]), np.array([])) if rates is None else (found.x, rates)


def height(x: Array, strengths: Range) -> Range:
    """How far the axis of the current goes; zero is always in it."""
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    room = 0.1 * ((high - low) or strengths[1] - strengths[0])
    return low - room, high + room


def reach(seen: Recording, strengths: Range) -> tuple[Range, Range]:
    """How far the axes of the rates go: all that was measured, and the trace."""
    low, high = strengths
    if seen.curve is None:
        return strengths, (0.0, 1.05)
    mean = float(seen.x.mean())
    top = max(0.05, float(seen.curve.measured.max()), seen.rate)
    edge = 0.03 * (high - low)
    return (min(low, mean) - edge, max(high, mean) + edge), (-0.03 * top, 1.08 * top)
