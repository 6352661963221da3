"""The figures of time splitting: a plan beside the speed-ups of other numbers of devices; a real run above its plan."""

from __future__ import annotations

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Points, Sheet
from tfexplore.explore.split import gantt
from tfexplore.explore.split.prediction import Prediction
from tfexplore.explore.split.runs import Runs

MOST = 1024
"""Devices up to which speed-ups are shown."""
SPLIT, DATA, BOTH = style.TEAL, style.PURPLE, style.OLIVE


def predicted(found: Prediction) -> Sheet:
    """What every device does when, and how many times as fast as one they are."""
    devices, plan = found.sweep.devices, found.plan
    words = "{x:,} devices: {y:.3g} times as fast as one"
    curves = (
        ("time splitting", found.sweep.time_splitting, SPLIT, "solid"),
        ("data parallel", found.sweep.data_parallel, DATA, "dash"),
        ("both together", found.sweep.combined, BOTH, "dot"),
    )
    points = (
        ("chosen P, time split", plan, SPLIT, "circle", 11),
        ("fastest P, time split", found.fastest, style.SAND, "star", 15),
    )
    marks = [
        *(
            Line(name, devices, found.speedup(seconds), colour, dash, 2.5, label=name, words=words)
            for name, seconds, colour, dash in curves
        ),
        *(
            Points(name, [at.ranks], [found.speedup(at.seconds)], colour, sign, size, style.INK, label=name, words=words)
            for name, at, colour, sign, size in points
        ),
        Line("P times", [1, MOST], [1, MOST], style.MUTED, "dot", 1, label="P times", words=None),
    ]  # fmt: skip
    panels = {
        "plan": gantt.panel(plan.events(), [cost.layer for cost in plan.costs], plan.ranks, who="device"),
        "speed": Panel(
            marks, x=Axis("devices", 0.9, 1.1 * MOST, log=True, form=",.0f"),
            y=Axis("times as fast as one", 0.2, 400, log=True, form=",.0f"),
        ),
    }  # fmt: skip
    return Sheet(panels, widths=(0.62, 0.38), height=450, legend="below")


def measured(found: Runs) -> Sheet:
    """What every process did when, and below what was planned; both over the same time."""
    plan = found.plan if found.runs else None
    planned = [] if plan is None else plan.events()
    layers = [] if plan is None else [cost.layer for cost in plan.costs]
    until = 1.02e3 * max((event.end for event in (*found.events, *planned)), default=1e-3)
    charts = (("measured", "", found.events, ""), ("planned", "planned ", planned, "measured"))
    panels = {
        name: gantt.panel(
            events, layers, found.ranks, who="process", prefix=prefix, title=name, until=until, along=along
        )
        for name, prefix, events, along in charts
    }
    return Sheet(panels, [[name] for name in panels], gaps=(0.0, 0.2), height=480)
