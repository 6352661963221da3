"""The cells of the map: what was recorded or measured at each T and N, which way wins there, and where the winner changes.

A row is what `measured.row` makes (the rows of `tfexplore bench scan`). Only exact ways can win: PSN is another equation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

from tfexplore.explore.scan_map.ways import CHUNKED, EXACT, LABELS, SERIAL, never

Row: TypeAlias = dict[str, Any]
Cells: TypeAlias = dict[tuple[int, int], Row]
"""Rows by (T, N)."""
Edge: TypeAlias = tuple[tuple[float, float], tuple[float, float]]

COSTS = ("work", "depth", "words", "rounds")
FASTEST, TIME = "fastest", "time"
UNITS = {
    FASTEST: "fastest; number: best other time / serial",
    TIME: "times the serial time",
    "work": "times the serial work",
    "depth": "times the serial depth",
    "words": "times the words of the serial kernel",
    "rounds": "rounds",
}
"""What the map shows."""
CLEARLY = 0.95
"""A way beats the serial kernel where it takes at most this part of its time: what is nearer is noise."""


def times(row: Row) -> dict[str, float]:
    """The time of each exact way as a multiple of the serial kernel's, the fastest first.

    >>> times({"median_ms": {"serial": 2.0, "chunked": 1.0, "PSN": 0.1}})
    {'chunked': 0.5, 'serial': 1.0}
    """
    taken = row["median_ms"]
    found = {way: taken[way] / taken[SERIAL] for way in EXACT if way in taken}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def winner(row: Row) -> str:
    """The fastest exact way; the serial kernel, unless another one is clearly faster.

    >>> winner({"median_ms": {"serial": 1.0, "chunked": 0.97}}), winner({"median_ms": {"serial": 1.0, "chunked": 0.5}})
    ('serial', 'chunked')
    """
    way, ratio = next(iter(times(row).items()))
    return way if ratio <= CLEARLY else SERIAL


def rival(row: Row) -> tuple[str, float] | None:
    """The fastest exact way beside the serial kernel, and its time as a multiple of that one's; None where none was run."""
    return next(((way, ratio) for way, ratio in times(row).items() if way != SERIAL), None)


def value(row: Row, shown: str, way: str) -> float:
    """What the map shows of a way in a cell; not-a-number where it was not run. A predicted cell has a time alone."""
    if shown == TIME:
        if not (taken := row["median_ms"]):
            return float(row["predicted"].get(way, math.nan))
        return float(taken[way] / taken[SERIAL]) if way in taken else math.nan
    found = row.get(shown, {})
    if way not in found:
        return math.nan
    return float(found[way] if shown == "rounds" else found[way] / found[SERIAL])


def foreseen(row: Row) -> str:
    """The faster of the serial kernel and the chunked scan by the predicted cost; "" without a prediction."""
    ratio = row.get("predicted", {}).get(CHUNKED)
    return "" if ratio is None else CHUNKED if ratio < 1 else SERIAL


def crossover(cells: Mapping[tuple[int, int], Row], predicted: bool = False) -> dict[int, int | None]:
    """For each N the smallest T from which on the chunked scan beats the serial kernel; None where it never does.

    predicted: by the predicted cost instead of the measured time.

    >>> rows = {(t, 1): {"median_ms": {"serial": 1.0, "chunked": c}} for t, c in ((16, 0.9), (64, 1.2), (256, 0.6))}
    >>> crossover(rows)
    {1: 256}
    """
    found: dict[int, int | None] = {}
    for neurons in sorted({n for _, n in cells}):
        first: int | None = None
        for t in sorted((t for t, n in cells if n == neurons), reverse=True):
            row = cells[t, neurons]
            if predicted:
                beats = foreseen(row) == CHUNKED
            else:
                beats = times(row).get(CHUNKED, math.inf) <= CLEARLY if row["median_ms"] else False
            if not beats:
                break
            first = t
        found[neurons] = first
    return found


def border(cells: Mapping[tuple[int, int], Row], steps: list[int], neurons: list[int]) -> Iterable[Edge]:
    """The edges between cells where the chunked scan is predicted to be faster and those where it is not.

    Each is ((column, row), (column, row)) in numbers of cells, the middle of the first being (0, 0).
    """
    inside = {
        (i, k)
        for i, t in enumerate(steps)
        for k, n in enumerate(neurons)
        if (t, n) in cells and foreseen(cells[t, n]) == CHUNKED
    }
    for i, k in sorted(inside):
        for beside, a, b in (
            ((i - 1, k), (-1, -1), (-1, 1)), ((i + 1, k), (1, -1), (1, 1)),
            ((i, k - 1), (-1, -1), (1, -1)), ((i, k + 1), (-1, 1), (1, 1)),
        ):  # fmt: skip
            if beside not in inside:
                yield (i + a[0] / 2, k + a[1] / 2), (i + b[0] / 2, k + b[1] / 2)


@dataclass
class ScanMap:
    """The map of one neuron and kind of pass, with a point of this machine.

    Args:
        neuron: its name in `ways.NEURONS`.
        passes: "forward" or "forward + backward".
        machine: where the cells were measured, with date; "" where they are predicted.
        cells: the rows by (T, N).
        here: the name of this machine.
        at: the T and N that Start measures.
        own: the rows measured here since the kernel began, by (T, N).
    """

    neuron: str
    passes: str
    machine: str
    cells: Cells
    here: str
    at: tuple[int, int]
    own: Cells = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        return sorted({t for t, _ in self.cells})

    @property
    def neurons(self) -> list[int]:
        return sorted({n for _, n in self.cells})

    @property
    def ways(self) -> set[str]:
        """Those that were run, or predicted, in any cell."""
        return {
            name for row in self.cells.values() for what in ("median_ms", "predicted") for name in row.get(what, {})
        }

    @property
    def row(self) -> tuple[Row | None, str]:
        """What is known of the chosen T and N, and from where: measured here, else recorded."""
        if self.at in self.own:
            return self.own[self.at], "measured here now"
        if self.machine and self.at in self.cells:
            return self.cells[self.at], f"recorded on {self.machine}"
        return None, ""

    def sentence(self, shown: str = FASTEST, way: str = CHUNKED) -> str:
        return f"{self.point(shown, way)} {self.whole()}"

    def point(self, shown: str = FASTEST, way: str = CHUNKED) -> str:
        """Of the chosen T and N."""
        (steps, neurons), (row, where) = self.at, self.row
        place = f"At N = {neurons:,} and T = {steps:,}"
        if row is None:
            return f"{place} nothing has been measured yet: press Start."
        other = rival(row) if shown == FASTEST else (way, value(row, TIME, way))
        if other is None or math.isnan(other[1]):
            return f"{place} {why_alone(row, way if other else '', self.neuron, self.passes)} ({where})."
        name, ratio = other
        work = value(row, "work", name)
        part = f"{ratio:.2g} of" if ratio < 1 else f"{ratio:.2g} times"
        text = f"{place} {LABELS[name]} takes {part} the serial kernel's time with {work:.2g} times its work"
        if (rounds := row["rounds"].get(name, 1)) > 1:
            text += f" in {rounds:,} rounds"
        if (ratio := row.get("predicted", {}).get(name)) is not None:
            text += f"; predicted {ratio:.2g}"
        return f"{text} ({where})."

    def whole(self) -> str:
        """Of all cells."""
        if not self.cells:
            what = f"recorded on {self.machine}" if self.machine else "predicted"
            return f"No cell of {self.neuron}, {self.passes}, is {what}: `tfexplore bench scan` records this machine's map."
        if not self.machine:
            count = sum(foreseen(row) == CHUNKED for row in self.cells.values())
            return f"Predicted, not measured: the chunked scan wins {count} of {len(self.cells)} cells on this machine."
        won: dict[str, list[tuple[int, int]]] = {}
        for at, row in self.cells.items():
            won.setdefault(winner(row), []).append(at)
        won.pop(SERIAL, None)
        if not won:
            return f"No way beats the serial kernel in any of the {len(self.cells)} cells: the map is empty."
        said = []
        for name, places in sorted(won.items(), key=lambda item: -len(item[1])):
            most, least = max(n for _, n in places), min(t for t, _ in places)
            neurons = "N = 1" if most == 1 else f"N ≤ {most:,}"
            said.append(f"{LABELS[name]} wins {len(places)}, all with {neurons} and T ≥ {least:,}")
        return f"Of {len(self.cells)} cells {'; '.join(said)}; the serial kernel wins the rest."


def short(ratio: float) -> str:
    """
    >>> short(0.2134), short(1.26), short(31.4), short(1638.4)
    ('0.21', '1.3', '31', '1,638')
    """
    return f"{ratio:.2f}" if ratio < 0.995 else f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def why_alone(row: Row, way: str, neuron: str, passes: str) -> str:
    """Why there is nothing to compare with the serial kernel in a cell; way: "" for none at all."""
    name = way or CHUNKED
    why = never(name, neuron, passes) or row["reasons"].get(name, "it was not run")
    return f"there is no {name}: {why}" if way else f"only the serial kernel was run ({name}: {why})"


def spacing(values: list[int], log: float) -> list[float]:
    """Their places on a logarithmic axis; they must be equally far apart on it.

    >>> spacing([16, 64, 256], 2)
    [4.0, 6.0, 8.0]
    """
    places = [math.log(v, log) for v in values]
    gaps = {round(b - a, 2) for a, b in pairwise(places)}
    if len(gaps) > 1:
        raise ValueError(f"a map's T and N must be equally far apart on a logarithmic axis, but got {values}.")
    return places
