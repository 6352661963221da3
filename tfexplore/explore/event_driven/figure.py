"""The figure of the event-driven explorer: cost over the firing rate, and where a trained network's layers are."""

from __future__ import annotations

import math

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Mark, Panel, Points, Rule, Sheet
from tfexplore.explore.event_driven.rates import UNITS, EventCosts
from tfexplore.measure.event_driven import DENSE, EVENTS_FAR, EVENTS_NEAR

LOOKS = {DENSE: (style.FUSED, "solid"), EVENTS_FAR: (style.ROSE, "dash"), EVENTS_NEAR: (style.TEAL, "dashdot")}
RATES = [10 ** (k / 20 - 3) for k in range(61)]
LOWEST = 1e-4


def sheet(found: EventCosts) -> Sheet:
    unit = UNITS[found.counted]
    marks: list[Mark] = []
    for how, (colour, dash) in LOOKS.items():
        costs = [found.each(how, rate) for rate in RATES]
        there = costs if min(costs) > 0 else []  # a logarithmic axis has no nothing
        words = f"{how}: {{y:.3g}} {unit} at a rate of {{x:.2%}}"
        marks.append(Line(how, RATES if there else [], there, colour, dash, label=how, words=words))
        rates = list(found.rates.values()) if there else []
        names = [f"{name}, trained: {rate:.1%}" for name, rate in found.rates.items()] if there else []
        at = [found.each(how, rate) for rate in rates]
        marks.append(Points(f"{how}: trained", rates, at, colour, "diamond", size=10, edge=style.INK, words=names))
    for how in (EVENTS_FAR, EVENTS_NEAR):
        cross = found.crossing(how)
        marks.append(Rule(f"{how}: as dense", x=cross if LOWEST < cross <= 1 else None, colour=LOOKS[how][0]))
    all_of = [y for mark in marks if isinstance(mark, Line) for y in mark.y]
    low, high = (10.0 ** f(math.log10(g(all_of))) for f, g in ((math.floor, min), (math.ceil, max)))
    ticks = {10.0**k: f"{10.0**k:g}" for k in range(-9, 9) if low <= 10.0**k <= high}
    x = Axis("firing rate", RATES[0], 1.0, log=True, ticks={0.001: "0.1 %", 0.01: "1 %", 0.1: "10 %", 1.0: "100 %"})
    y = Axis(f"{unit} per synapse-step", low, high, log=True, ticks=ticks)
    return Sheet({"cost": Panel(marks, title=found.counted, x=x, y=y)}, height=430, legend="below")
