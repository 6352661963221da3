"""The figure of the policies: memory over T, predicted and measured, and the time of a training step relative to BPTT."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Sheet
from tfexplore.explore.policies import policies as ways
from tfexplore.explore.policies.curves import MIB, Curves, Point
from tfexplore.explore.policies.policies import CHECKPOINTING, Policy

LOOKS = {
    ways.BPTT: (style.ROSE, "circle"), ways.INPUT: (style.PURPLE, "triangle"), ways.BITS: (style.GREEN, "star"),
    ways.EAGER: (style.SAND, "square"), ways.CHECKPOINTING: (style.OLIVE, "cross"), ways.TRUNCATED: (style.SKY, "square"),
    ways.SLTT: (style.TEAL, "diamond"), ways.LEVELS: (style.VIOLET, "diamond"), ways.LEVEL_BITS: (style.GREEN, "star"),
    ways.LAST: (style.PURPLE, "triangle"), ways.ANCHORS: (style.SAND, "circle"),
}  # fmt: skip
"""Colour and sign; those of networks of layers and of levels do not meet."""
HELD, SAVED = "peak of memory", "saved for backward"


def sheet(found: Curves, shown: str) -> Sheet:
    """shown: `HELD` or `SAVED`."""
    memory, time = [], []
    for policy, (colour, sign) in LOOKS.items():
        there = policy in found.policies
        predicted = found.saved.get(policy.name, {}) if there else {}
        at, size = found.line(policy, lambda point: value(point, shown)) if there else ([], [])
        if shown == SAVED and policy is CHECKPOINTING:  # autograd's hooks do not see it
            at, size = [], []
        ticks, ratio = found.relative(policy) if there else ([], [])
        name, size_of = policy.name, 11 if sign == "star" else 8
        label = name if predicted or at else ""
        memory += [
            Line(name, at, [v / MIB for v in size], colour, sign=sign, size=size_of, label=label,
                 words=under_the_pointer(found, policy, shown, at)),
            Line(f"{name}: predicted", list(predicted), [v / MIB for v in predicted.values()], colour, "dot", 1.5, label=label,
                 words=f"{name}, T = {{x}}: {{y:.3g}} MiB saved, predicted"),
        ]  # fmt: skip
        words = f"{name}, T = {{x}}: {{y:.3g}} times the time of BPTT"
        time.append(
            Line(f"{name}: time", ticks, ratio, colour, sign=sign, size=size_of, label=label and name, words=words)
        )
    first, last = found.steps[0], found.steps[-1]
    x = Axis("time steps T", first / 1.1, last * 1.1, log=True, ticks={steps: str(steps) for steps in found.steps})
    sizes, ratios = ([v for line in lines for v in line.y] for lines in (memory, time))
    panels = {
        "memory": Panel(memory, title=shown, x=x, y=upright("MiB", sizes, (1e-2, 1.0))),
        "time": Panel(time, title="time of a training step", x=x, y=upright("times BPTT", ratios, (0.5, 2.0))),
    }
    return Sheet(panels, [["memory", "memory", "time"]], height=470, legend="below")


def under_the_pointer(found: Curves, policy: Policy, shown: str, at: Sequence[int]) -> list[str]:
    """A text for every point: its memory, and how much of the gradient is left."""
    said = []
    for steps in at:
        point = found.points[policy.name][steps]
        words = f"{policy.name} ({policy.words}), T = {steps}: {value(point, shown) / MIB:.3g} MiB, {shown}"
        said.append(words if policy is ways.BPTT else f"{words}<br>cosine with BPTT's gradient: {point.cosine:.4f}")
    return said


def value(point: Point, shown: str) -> float:
    return float(point.memory.held if shown == HELD else point.memory.saved)


def upright(title: str, values: Sequence[float], usual: tuple[float, float]) -> Axis:
    """A logarithmic axis from a tick below all values to one above; ticks are at 1, 2, 5, 10 ..., or at powers of ten."""
    values = [v for v in values if v > 0] or list(usual)
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [digit * 10.0**k for k in decades for digit in digits]
    low, high = max(v for v in ticks if v <= low), min(v for v in ticks if v >= high)
    return Axis(title, low / 1.1, high * 1.1, log=True, ticks={v: f"{v:g}" for v in ticks if low <= v <= high})
