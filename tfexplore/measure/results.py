"""Recorded measurements: the files of `benchmarks/results`, each with the machine that it was measured on.

They are shown beside what is measured live, always labelled. In a checkout they lie in `benchmarks/results`, in an installed
wheel in `tfexplore/results`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfexplore.machine.paths import PACKAGE

FOLDERS = (PACKAGE / "results", PACKAGE.parent / "benchmarks" / "results")
AXES = ("T", "N", "dtype")


@dataclass(frozen=True, eq=False)
class Record:
    """One benchmark on one machine.

    Attributes:
        benchmark: its name.
        machine: the name of the device.
        device: "cpu" or "cuda".
        torch: the version of PyTorch.
        date: when, as YYYY-MM-DD.
        what: what was measured, in one sentence.
        cores: of the CPU; None if that was not recorded.
        rows: one for each case, with the case (T, N, dtype, passes ...), "median_ms" by contestant, and more: see
            `benchmarks/harness.py`.
        versions: of what each contestant used, where that was recorded.
    """

    benchmark: str
    machine: str
    device: str
    torch: str
    date: str
    what: str
    cores: int | None
    rows: tuple[dict[str, Any], ...]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Where and when, to stand beside every figure."""
        return ", ".join(filter(None, [self.machine, f"torch {self.torch}", self.date]))


@dataclass(frozen=True)
class Curve:
    """Recorded seconds of one contestant over one axis (T, N or dtype), the others being `fixed`.

    Attributes:
        record: where it was measured.
        contestant: whose seconds they are.
        axis: "T", "N" or "dtype".
        values: along the axis.
        seconds: the median of one pass at each value.
        rows: the recorded row at each value.
    """

    record: Record
    contestant: str
    axis: str
    values: tuple[int | str, ...]
    seconds: tuple[float, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def fixed(self) -> dict[str, int | str]:
        return {axis: self.rows[0][axis] for axis in AXES if axis != self.axis}


def read(path: Path) -> list[Record]:
    """The records of one file: one for each benchmark of a machine.

    Raises:
        ValueError: the file is not a recorded measurement; the message names it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        parts = data["parts"] if "parts" in data else {data.get("benchmark", "neuron"): data}  # or a file of one script
        return [
            Record(
                benchmark=benchmark,
                machine=data["machine"],
                device=data.get("device", "cpu"),
                torch=part["torch"],
                date=part.get("date", ""),
                what=part["what"],
                cores=data.get("cores"),
                rows=tuple(part["results"]),
                versions=part.get("versions", {}),
            )
            for benchmark, part in parts.items()
        ]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a recorded measurement ({type(error).__name__}: {error}); `tfexplore bench` and the scripts in "
            "benchmarks/ write such files."
        ) from error


def folder() -> Path | None:
    """The folder with the recorded measurements of this installation; None if it has none."""
    return next((place for place in FOLDERS if any(place.glob("*.json"))), None)


def records(place: Path | None = None, benchmark: str | None = None) -> list[Record]:
    """The recorded measurements of a folder, sorted by file name.

    Args:
        place: the folder; by default that of this installation.
        benchmark: only those of this benchmark; by default of all.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a file in it is not a recorded measurement.

    Example:
        >>> [record.machine for record in records(benchmark="neuron")][:1]
        ['AMD EPYC, 2 of 2 cores']
    """
    if place is not None and not place.is_dir():
        raise FileNotFoundError(f"place must be a folder of recorded measurements (*.json), but there is no {place}.")
    found = place or folder()
    every = [record for path in sorted(found.glob("*.json")) for record in read(path)] if found else []
    return [record for record in every if benchmark in (None, record.benchmark)]


def milliseconds(benchmark: str, machine: str, place: Path | None = None, **case: Any) -> dict[str, float]:
    """The recorded medians of one case, by contestant.

    Args:
        benchmark: its name.
        machine: a part of the machine's name.
        place: the folder; by default that of this installation.
        case: what the row says, such as T=32, N=10_000_000, dtype="float32".

    Raises:
        ValueError: no row, or more than one, is of this case; the message says how many.

    Example:
        >>> sorted(milliseconds("recurrent", "Xeon", n=256, passes="forward"))[:2]
        ['copy', 'eager torch']
    """
    of = [record for record in records(place, benchmark) if machine in record.machine]
    rows = [row for record in of for row in record.rows if case.items() <= row.items()]
    if len(rows) != 1:
        raise ValueError(
            f"case must say which recorded row of {benchmark!r} on {machine!r}, but {len(rows)} match {case}."
        )
    return dict(rows[0]["median_ms"])


def curve(record: Record, contestant: str, axis: str, passes: str, wanted: dict[str, Any]) -> Curve | None:
    """The recorded curve over an axis whose other values are nearest to those wanted.

    Args:
        record: of a benchmark with T, N and dtype in its rows.
        contestant: whose seconds to take.
        axis: "T", "N" or "dtype".
        passes: of the rows to take, such as "forward + backward".
        wanted: the values of the other axes; T and N may be replaced by the nearest ones recorded, dtype never.

    Returns:
        The `Curve`, or None without two points.

    Raises:
        ValueError: `axis` is none of the three.
    """
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(map(repr, AXES))}, but got {axis!r}.")
    others = [name for name in AXES if name != axis]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in record.rows:
        fits = contestant in row["median_ms"] and row.get("passes") == passes
        if fits and (axis == "dtype" or row["dtype"] == wanted["dtype"]):
            groups[tuple(row[name] for name in others)].append(row)

    def distance(key: tuple[Any, ...]) -> float:
        numbers = [(value, wanted[name]) for name, value in zip(others, key, strict=True) if name != "dtype"]
        return sum(abs(math.log(value / want)) for value, want in numbers)

    enough = [key for key, rows in groups.items() if len(rows) > 1]
    if not enough:
        return None
    rows = groups[min(enough, key=distance)]
    if axis != "dtype":
        rows = sorted(rows, key=lambda row: row[axis])
    return Curve(
        record,
        contestant,
        axis,
        tuple(row[axis] for row in rows),
        tuple(row["median_ms"][contestant] / 1e3 for row in rows),
        tuple(rows),
    )
