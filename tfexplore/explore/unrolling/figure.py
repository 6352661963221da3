"""The figure of the unrolling explorer: the longest chain of operations, and their number, over T."""

from __future__ import annotations

from collections.abc import Callable

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Sheet
from tfexplore.explore.unrolling.unrolled import PAIRED, SUBSTITUTED, Formula, Unrolled

LOOKS = {SUBSTITUTED: (style.ROSE, "circle", "solid"), PAIRED: (style.FUSED, "diamond", "dash")}
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
WRITTEN = "substituted, written out"


def sheet(found: Unrolled) -> Sheet:
    chains = [line(found, way, "in a row", lambda each: each.depth) for way in LOOKS]
    works = [line(found, way, "in total", lambda each: each.work) for way in LOOKS]
    formulas = found.formulas[SUBSTITUTED]
    works.append(
        Line(WRITTEN, list(formulas), [each.written for each in formulas.values()], style.SAND, "dot", sign="square",
             label=WRITTEN, words="written out, T = {x}: {y:,} operations")
    )  # fmt: skip
    last = max(formulas)
    x = Axis(
        "time steps T",
        0,
        1.05 * last,
        ticks={steps: str(steps) for steps in formulas if steps in (1, last) or steps > last / 8},
    )
    most = max(each.written for each in formulas.values())
    apart = 1 if most < 10**7 else 3 if most < 10**13 else 6
    tens = {
        10.0**k: f"{10**k:,}" if k < 6 else f"10{str(k).translate(RAISED)}"
        for k in range(0, 40, apart)
        if 10.0**k <= 10 * most
    }
    panels = {
        "chain": Panel(chains, title="operations in a row (depth)", x=x, y=Axis("operations", 0)),
        "work": Panel(
            works, title="operations in total (work)", x=x, y=Axis("operations", 1, 4 * most, log=True, ticks=tens)
        ),
    }
    return Sheet(panels, height=400, legend="below")


def line(found: Unrolled, way: str, what: str, value: Callable[[Formula], int]) -> Line:
    colour, sign, dash = LOOKS[way]
    formulas = found.formulas.get(way, {})
    words = f"{way}, T = {{x}}: {{y}} operations {what}"
    return Line(
        f"{way}, {what}",
        list(formulas),
        list(map(value, formulas.values())),
        colour,
        dash,
        sign=sign,
        label=way,
        words=words,
    )
