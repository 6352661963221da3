"""The kernel explorer's figure: the arrays in memory, a row per time step and a column per thread."""

from __future__ import annotations

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Heat, Panel, Sheet
from tfexplore.explore.kernel.stepping import MEMORY, Stepped

STATES = ("not touched yet", "touched before", "read now", "written now")
COLOURS = ("#7b879430", "#b4bec9", style.SKY, style.ROSE)
SIGNS = ("", "", "R", "W")
TALLEST = 16  # rows that leave room for values


def sheet(run: Stepped, moment: int) -> Sheet:
    """The words of memory at this moment, -1 before the first. All arrays have cells of one height."""
    tall, (first, *_), marks = max(map(len, run.grids.values())), run.grids, run.marks(moment)
    panels = {}
    for name in MEMORY:
        if name not in run.grids:
            panels[name] = Panel([Heat(name, texts=(), under=())], hidden=True)
            continue
        labels = run.labels[name]
        every = -(-len(labels) // 20)
        cells = Heat(
            name, marks[name], colours=COLOURS, distinct=True, gap=2, texts=texts(run, name, marks[name]),
            words="thread {x}, row {y}: {under}", under=np.array(STATES)[marks[name]].tolist(),
        )  # fmt: skip
        panels[name] = Panel(
            [cells], title=run.titles[name], table=True,
            x=Axis("", -0.5, run.threads - 0.5, every=-(-run.threads // 16), bare=True),
            y=Axis("time step t" if name == first else "", tall - 0.5, -0.5, bare=True,
                   ticks=dict(list(enumerate(labels))[::every])),
        )  # fmt: skip
    return Sheet(panels, gaps=(0.08, 0), height=60 + min(28 * max(tall, 5), 420))


def texts(run: Stepped, name: str, marks: np.ndarray) -> list[list[str]]:
    """What is written into the cells of an array, as far as there is room."""
    rows, threads = marks.shape
    room = 0 if rows > TALLEST else 32 // (len(run.grids) * threads)
    pairs = zip(marks, run.grids[name], strict=True)
    return [[text(mark, value, room) for mark, value in zip(*pair, strict=True)] for pair in pairs]


def text(mark: int, value: float, room: int) -> str:
    """R or W at this moment, and where there is room the value of a touched word."""
    if not mark or not room or np.isnan(value):
        return SIGNS[mark]
    digits = f"{value:.0f}" if value == int(value) else f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"
    digits = digits.replace("0.", ".", 1) if abs(value) < 1 else digits
    return f"{SIGNS[mark]} {digits}".strip() if room > 1 or mark == 1 else SIGNS[mark]
