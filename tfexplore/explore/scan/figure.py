"""The figure of the scan explorer: rounds over time steps, the potential as it is known so far, and work beside depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Arrows, Axis, Heat, Line, Panel, Points, Rule, Sheet
from tfexplore.explore.scan.ways import FINAL, WAYS, Played

COLOURS = (f"{style.MUTED}20", style.SKY, style.SAND, style.GREEN)
"""Of cells that are waiting, on their way, right by luck, final."""
DOT = "#17202a"  # on a coloured cell, whatever the page's theme
LOOKS = dict(
    zip(
        WAYS,
        (
            ("circle", style.STEPPED), ("square", style.VIOLET), ("triangle", style.GREEN), ("diamond", style.OLIVE),
            ("star", style.PURPLE), ("square", style.TEAL),
        ),
        strict=True,
    )
)  # fmt: skip
"""Sign and colour of a way, among what it costs."""
STATES = ("not begun", "on its way", "right, but nobody knows yet", "final")


def sheet(made: Played, done: int, ways: Sequence[Played], shown: int) -> Sheet:
    """done: how many rounds have run.   ways: those whose cost is compared.   shown: the rows there is room for."""
    steps, rounds = made.steps, made.rounds
    first = max(0, min(done, len(rounds)) - shown)
    window = range(first, min(len(rounds), first + shown))
    grid = np.full((len(window), steps), np.nan)
    for k, row in enumerate(window):
        if row < done:
            grid[k] = rounds[row].cells
    states = [[STATES[int(cell)] if np.isfinite(cell) else "" for cell in row] for row in grid]
    visible = [(row, rounds[row]) for row in window if row < done]
    ran = [(int(t), row) for row, each in visible for t in np.flatnonzero(each.ran & ~each.wasted)]
    vain = [(int(t), row) for row, each in visible for t in np.flatnonzero(each.wasted)]
    now = rounds[done - 1] if done else None
    needs = [((a, done - 1.45), (b, done - 1.2)) for a, b in now.needs] if now is not None else []
    panels = {
        "grid": Panel(
            [
                Heat("cells", grid, np.arange(steps), np.array(window), COLOURS, distinct=True, gap=2,
                     words="step {x}, round {y}: {under}", under=states),
                Points("ran", *across(ran), DOT, size=6, edge=style.MUTED, label="computed in this round", words="step {x}"),
                Points("in vain", *across(vain), style.ROSE, "cross", size=7, label="computed in vain", words="step {x}"),
                Arrows("needs", needs, width=1.0),
            ],
            title=f"{made.way}: {done} of {len(rounds)} rounds" + (f", {now.what}" if now is not None else ""),
            x=Axis("", -0.5, steps - 0.5, every=-(-steps // 16), bare=True),
            y=Axis("round", window[-1] + 0.5, first - 0.9, ticks={row: str(row + 1) for row in ticks(window)}, bare=True),
        ),
        "v": potential(made, done),
        "cost": cost(made, done, ways),
    }  # fmt: skip
    grid_of = [["grid", "cost"], ["v", "cost"]]
    return Sheet(panels, grid_of, (0.72, 0.28), (0.62, 0.38), (0.1, 0.12), height=640, legend="below")


def ticks(window: range) -> range:
    return window[:: -(-len(window) // 12)]


def across(at: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [t for t, _ in at], [row for _, row in at]


def potential(made: Played, done: int) -> Panel:
    """The potential by the serial loop, and as the cells have it after these rounds."""
    at, steps = np.arange(made.steps), made.steps
    now = made.rounds[done - 1] if done else None
    v = np.full(steps, np.nan) if now is None else now.v
    final = np.zeros(steps, bool) if now is None else now.cells == FINAL
    fires = made.neuron.reset != "none"
    low, high = min(made.v.min(), 0.0), max(made.v.max(), made.neuron.v_threshold if fires else 0.0)
    margin = 0.12 * (high - low)
    low, high = low - margin, high + (2 if fires else 1) * margin
    times = np.flatnonzero(made.spikes) if fires else np.array([], int)
    seen = np.where((v > low) & (v < high), v, np.nan)  # a wrong guess may be anywhere
    return Panel(
        [
            Rule("threshold", y=made.neuron.v_threshold if fires else None, colour=style.MUTED),
            Line("truth", at, made.v, style.MUTED, width=5, alpha=0.35, label="v, step by step", words="step {x}: {y:.3f}"),
            Points("known", at[~final], seen[~final], style.SKY, size=7, edge=style.INK, label="v, not final",
                   words="step {x}: {y:.3f}"),
            Points("final", at[final], seen[final], style.GREEN, "square", size=7, label="v, final", words="step {x}: {y:.3f}"),
            Points("spikes", times, np.full(len(times), high - 0.5 * margin), style.INK, "tick", size=9, label="spike",
                   words="step {x}"),
        ],
        title="membrane potential after the step",
        x=Axis("time step t", -0.5, steps - 0.5, every=-(-steps // 16)), y=Axis("v", low, high),
    )  # fmt: skip


def cost(made: Played, done: int, ways: Sequence[Played]) -> Panel:
    """Each way as a sign: operations on the longest chain, and in total; and how this one came there."""
    compared = {each.way: each for each in ways}
    work, depth = [each.work() for each in ways], [each.depth() for each in ways]
    signs = [
        Points(
            way, *(([each.depth()], [each.work()]) if each else ([], [])), colour, sign, 13 if way == made.way else 9,
            hollow=way != made.way, label=way if each else "", words=way + ": {y:,} operations, {x:,} on the longest chain",
        )
        for (way, (sign, colour)), each in zip(LOOKS.items(), map(compared.get, LOOKS), strict=True)
    ]  # fmt: skip
    so_far = range(1, done + 1)
    path = Line(
        "so far", [*map(made.depth, so_far)], [*map(made.work, so_far)], LOOKS[made.way][1], width=3, words=None
    )
    return Panel(
        [path, *signs],
        title="what it costs",
        x=doubling("longest chain (depth)", min(2, *depth) / 1.5, 2 * max(depth)),
        y=doubling("operations (work)", min(work) / 2, 2 * max(work)),
    )


def doubling(title: str, low: float, high: float) -> Axis:
    """A logarithmic axis with ticks at powers of two, at most seven."""
    powers = [k for k in range(20) if low <= 2**k <= high]
    return Axis(title, low, high, log=True, ticks={2**k: f"{2**k:,}" for k in powers[:: -(-len(powers) // 7)]})
