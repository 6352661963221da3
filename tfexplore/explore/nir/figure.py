"""The figure of the NIR explorer: the graph on the left; the input, a neuron's potential and its node's spikes on the right."""

from __future__ import annotations

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Arrows, Axis, Bars, Line, Panel, Points, Rule, Sheet
from tfexplore.explore.nir.runs import Shown

NODE, NEURONS, CHOSEN = style.WAITING, style.SKY, style.SAND
STEPS, FINE = style.VIOLET, style.MUTED
MOST = 40
"""Rows of a raster."""


def sheet(seen: Shown, neuron: int) -> Sheet:
    run, fine, drawn = seen.run, seen.fine, seen.drawn
    end = 1.01 * float(fine.times[-1])
    time, steps = Axis("", 0, end, silent=True), np.arange(1, len(seen.x) + 1) * 1e3 * run.dt
    level = float(seen.threshold[neuron])
    shown = np.concatenate([run.h[:, neuron], fine.h[:, neuron], [0.0] if np.isnan(level) else [0.0, level]])
    low, high = float(shown.min()), float(shown.max())
    margin = 0.08 * (high - low) or 0.1
    names = list(drawn.row)
    wide = 0.92
    boxes = Bars(
        "nodes", [drawn.row[name] for name in names], [wide] * len(names), [drawn.column[name] - wide / 2 for name in names], 0.5,
        colour=[CHOSEN if name == seen.node else NEURONS if name in drawn.neurons else NODE for name in names], inside=True,
        texts=[drawn.words(name).replace(": ", "\n", 1) for name in names],
        words=[f"{name}: {drawn.parameters(name)}" for name in names],
    )  # fmt: skip
    at = {name: (drawn.column[name], drawn.row[name]) for name in names}
    forward = [((at[a][0], at[a][1] + 0.27), (at[b][0], at[b][1] - 0.27)) for a, b in drawn.forward]
    back = [((at[a][0] - 0.3, at[a][1] - 0.27), (at[b][0] - 0.3, at[b][1] + 0.27)) for a, b in drawn.back]
    half = (drawn.columns - 1) / 2
    fired = [run.spikes(neuron), fine.spikes(neuron)] if seen.spiking else [np.array([])] * 2
    rows = min(fine.h.shape[1], MOST)
    which, when = np.nonzero((run.s[:, :rows] > 0.5).T) if seen.spiking else (np.array([]), np.array([], dtype=int))
    inputs = seen.x[:, :MOST]
    source, moment = np.nonzero((inputs > 0).T)
    panels = {
        "graph": Panel(
            [boxes, Arrows("forward", forward, style.INK), Arrows("back", back, style.ROSE, "dash")],
            title="the graph; dashed: one step late",
            x=Axis("", -half - 0.55, half + 0.55, ticks=(), bare=True),
            y=Axis("", max(drawn.row.values()) + 0.6, -0.6, ticks=(), bare=True),
        ),
        "input": Panel(
            [Points("input", steps[moment], source, style.TEAL, "tick", 5, words="input {y}, {x:.1f} ms")],
            title=f"input{first(seen.x.shape[1])}", x=time,
            y=Axis("input", inputs.shape[1] - 0.4, -0.6, every=-(-inputs.shape[1] // 4), bare=True),
        ),
        "potential": Panel(
            [
                Rule("threshold", y=None if np.isnan(level) else level, colour=style.GREEN),
                Line("fine", fine.times, fine.h[:, neuron], FINE, width=1.5, label="nearly continuous time", words=None),
                Line("steps", run.times, run.h[:, neuron], STEPS, "dash", sign="circle" if len(run.times) < 150 else "", size=4,
                     label="in steps", words="{x:.1f} ms: {y:.3f}"),
                Points("fired", fired[0], np.full(len(fired[0]), high + margin), STEPS, "tick", 9, words="spike at {x:.1f} ms"),
                Points("fired, fine", fired[1], np.full(len(fired[1]), high + 2.2 * margin), FINE, "tick", 9,
                       words="nearly continuous: {x:.2f} ms"),
            ],
            title=f"potential of neuron {neuron} of {seen.node!r}, before the reset", x=time,
            y=Axis("v", low - margin, high + 3 * margin),
        ),
        "raster": Panel(
            [Points("spikes", run.times[when], which, STEPS, "tick", 5, words="neuron {y}, {x:.1f} ms")],
            title=f"spikes of {seen.node!r}{first(fine.h.shape[1])}" if seen.spiking else f"{seen.node!r} does not fire",
            x=Axis("time in ms", 0, end), y=Axis("neuron", rows - 0.4, -0.6, every=-(-rows // 4), bare=True),
        ),
    }  # fmt: skip
    height = max(560, 90 + 62 * (max(drawn.row.values()) + 1))
    grid = [["graph", "input"], ["graph", "potential"], ["graph", "raster"]]
    return Sheet(panels, grid, (0.4, 0.6), (0.22, 0.48, 0.3), (0.07, 0.09), height=height, legend="below")


def first(count: int) -> str:
    """What a raster's title adds, where it has not room for all."""
    return f", the first {MOST} of {count}" if count > MOST else ""
