"""The schedules explorer's figure: the grid of cells as one walk executes it, and the cost of all walks beside it."""

from __future__ import annotations

from itertools import accumulate

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Arrows, Axis, Bars, Line, Panel, Points, Sheet
from tfexplore.explore.schedules.walks import WALKS, Grid, Need, Piece, Walk

NUMBERED = 16
"""Time steps with which a cell has room for a number."""
HEIGHT, GAP = 0.56, 0.13  # of a bar, and left and right of it: room for the arrows
NOW, WRONG = style.SAND, style.ROSE
LOOKS = dict(zip(WALKS, ((style.STEPPED, "solid"), (style.LAYERED, "dash"), (style.FUSED, "dot")), strict=True))
"""Colour and dash of a walk."""


def sheet(made: Grid, walk: Walk, position: int) -> Sheet:
    """The grid when `position` pieces of work of this walk have run."""
    pieces, wrong = walk.pieces, broken(walk, position)
    crossed = sorted({cell for _, cell in wrong})
    cells, *counts = progress(pieces)
    grid = [
        Bars(
            "pieces", [p.row for p in pieces], [p.last - p.first - 2 * GAP for p in pieces],
            [p.first - 0.5 + GAP for p in pieces], HEIGHT, colour=[paint(k, position) for k in range(len(pieces))],
            edge=[style.INK if k == position - 1 else "" for k in range(len(pieces))], inside=True,
            texts=[str(k + 1) if numbered(made, walk) else "" for k in range(len(pieces))],
            words=[f"{label(made, p.row)}, {when(p)}: {p.launches} launches, {p.words:,} words" for p in pieces],
        ),
        Arrows("needs", [segment(need) for need in met(walk, position)]),
        Arrows("unmet needs", [segment(need) for need in wrong], WRONG, "dash"),
        Points("unmet", [t for _, t in crossed], [row for row, _ in crossed], WRONG, "cross", 11, words=None),
    ]  # fmt: skip
    labels = {row: label(made, row) for row in range(len(made.rows))}
    panels = {
        "grid": Panel(
            grid, title=f"{walk.name}: {position} of {len(pieces)} pieces of work",
            x=Axis("time step t", -0.6, made.steps - 0.4, every=-(-made.steps // 16), bare=True),
            y=Axis("", -0.6, len(labels) - 0.4, ticks=labels, bare=True),
        )
    }  # fmt: skip
    for what, so_far in zip(("launches", "words"), counts, strict=True):
        whole = {name: progress(other.pieces) for name, other in made.walks.items()}
        colour, _ = LOOKS[walk.name]
        panels[what] = Panel(
            [
                *(
                    Line(f"{name}: {what}", way[0], way[1 + (what == "words")], *LOOKS[name], width=1.5, label=name,
                         words=None)
                    for name, way in whole.items()
                ),
                Line(f"{what} so far", cells[: position + 1], so_far[: position + 1], colour, width=4, words=None),
                Points(f"{what} now", [cells[position]], [so_far[position]], colour, size=10, edge=style.INK,
                       words="{y:,} " + what),
            ],
            title=what, x=Axis("cells done" if what == "words" else ""), y=Axis(low=0, form=",.0f"),
        )  # fmt: skip
    height = 220 + 44 * max(5, len(made.rows))
    rows = [["grid", "launches"], ["grid", "words"]]
    return Sheet(panels, rows, (0.7, 0.3), (1, 1), (0.09, 0.2), height=height, legend="above")


def label(made: Grid, row: int) -> str:
    return f"{made.rows[row]} {made.kinds[row]}"


def when(piece: Piece) -> str:
    alone = piece.last == piece.first + 1
    return f"step {piece.first}" if alone else f"steps {piece.first} to {piece.last - 1}"


def paint(k: int, position: int) -> str:
    """The colour of piece k when `position` pieces are done."""
    return style.WAITING if k >= position else NOW if k == position - 1 else style.DONE


def numbered(made: Grid, walk: Walk) -> bool:
    """Whether there is room for the numbers of the pieces."""
    return made.steps <= NUMBERED or len(walk.pieces) < 2 * NUMBERED


def met(walk: Walk, position: int) -> list[Need]:
    """What the piece that ran last needed and got."""
    last = walk.pieces[position - 1 : position]
    return [need for piece in last for need in piece.needs if need not in piece.unmet]


def broken(walk: Walk, position: int) -> list[Need]:
    """What the pieces so far needed and did not get."""
    return [need for piece in walk.pieces[:position] for need in piece.unmet]


def segment(need: Need) -> tuple[tuple[float, float], tuple[float, float]]:
    """An arrow from the edge of a cell to the edge of another."""
    (r0, t0), (r1, t1) = need
    dx, dy = t1 - t0, r1 - r0
    off = min((0.5 - GAP) / max(abs(dx), 0.1), HEIGHT / 2 / max(abs(dy), 0.1))
    aside = 0.2 if dx == 0 and abs(dy) > 1 else 0.0  # past the rows between
    return (t0 + off * dx + aside, r0 + off * dy), (t1 - off * dx + aside, r1 - off * dy)


def progress(pieces: tuple[Piece, ...]) -> tuple[list[int], list[int], list[int]]:
    """Cells done, launches and words, before the first piece and after each."""
    counts = ([p.last - p.first for p in pieces], [p.launches for p in pieces], [p.words for p in pieces])
    cells, launches, words = (list(accumulate(values, initial=0)) for values in counts)
    return cells, launches, words
