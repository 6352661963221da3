"""The compile cost's figure: a bar for each case, hatched where kernels were compiled."""

from __future__ import annotations

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Panel, Sheet
from tfexplore.explore.compile_cost.costs import CASES, CompileCosts


def sheet(costs: CompileCosts) -> Sheet:
    """All cases have their place from the beginning; those measured have a bar."""
    cases = [case for case in CASES if case in costs.seconds]
    compiled = [costs.compiled[case] > 0 for case in cases]
    words = [costs.words(case) for case in cases]
    names = {case: costs.name(case) for case in CASES}
    bars = Bars(
        "times", [names[case] for case in cases], [1e3 * costs.seconds[case] for case in cases],
        colour=[style.ROSE if new else style.SKY for new in compiled], hatch=["/" if new else "" for new in compiled],
        texts=words, words=[f"{names[case]}: {text}" for case, text in zip(cases, words, strict=True)],
    )  # fmt: skip
    ticks = {10.0**k: f"{10.0**k:,g}" for k in range(-1, 6)}
    milliseconds = Axis("milliseconds", 10**-1.5, 10**6, log=True, ticks=ticks)  # on the right there is room for words
    upright = Axis(low=len(CASES) - 0.5, high=-0.5, words=list(names.values()), bare=True)
    return Sheet({"costs": Panel([bars], x=milliseconds, y=upright)}, height=320, margin=190)
