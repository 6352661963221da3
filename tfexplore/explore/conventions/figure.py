"""The figure of the conventions explorer: two libraries' potentials, and below the spikes of all."""

from __future__ import annotations

import numpy as np

from tfexplore.exchange.conventions import LIBRARIES
from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Points, Rule, Sheet
from tfexplore.explore.conventions.traces import NAMES, Traces

LOOKS = ((style.VIOLET, "solid", 2.5, "circle"), (style.ROSE, "dash", 2.0, "diamond"))
OTHERS = style.MUTED


def sheet(made: Traces, library: str, other: str) -> Sheet:
    steps = np.arange(1, len(made.x) + 1)
    along = Axis("", 0.5, len(steps) + 0.5, silent=True)
    pair = {library: LOOKS[0], other: LOOKS[1]}
    shown = np.concatenate([made.by_library[name].h for name in pair])
    low, high = min(0.0, float(shown.min())), max(made.v_threshold, float(shown.max()))
    margin = 0.08 * (high - low)
    potentials = [
        Line(f"potential {k}", steps, made.by_library[name].h, colour, dash, width, sign=sign if len(steps) <= 60 else "",
             size=6 - k, label=NAMES[name], words=f"{NAMES[name]}, step {{x}}: {{y:.4f}}")
        for k, (name, (colour, dash, width, sign)) in enumerate(zip((library, other), LOOKS, strict=True))
    ]  # fmt: skip
    first = made.apart(library, other)
    rows = [
        Points(name, made.by_library[name].fired, np.full(len(made.by_library[name].fired), k),
               pair[name][0] if name in pair else OTHERS, "tick", 12, words=f"{NAMES[name]}: spike in step {{x}}")
        for k, name in enumerate(LIBRARIES)
    ]  # fmt: skip
    panels = {
        "current": Panel([Line("current", steps, made.x, style.TEAL, steps=True, words="step {x}: {y:.2f}")],
                         title="input current", x=along, y=Axis("x", 0, 1.15 * float(made.x.max()))),
        "potential": Panel(
            [Rule("threshold", y=made.v_threshold, colour=style.GREEN), *potentials, Rule("apart", x=first, colour=style.MUTED)],
            title="potential that is compared with the threshold", x=along, y=Axis("v", low - margin, high + margin),
        ),
        "spikes": Panel(
            [*rows, Rule("apart, spikes", x=first, colour=style.MUTED)], title="spikes of all six",
            x=Axis(f"time step of {1e3 * made.dt:g} ms", 0.5, len(steps) + 0.5),
            y=Axis("", len(rows) - 0.4, -0.6, ticks={k: NAMES[name] for k, name in enumerate(LIBRARIES)}, bare=True),
        ),
    }  # fmt: skip
    return Sheet(panels, [[name] for name in panels], heights=(0.17, 0.47, 0.36), gaps=(0.1, 0.09), height=640, margin=105,
                 legend="below")  # fmt: skip
