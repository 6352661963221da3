"""The data of the speed curves: measured and recorded series of plain numbers, and the remarks that they need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from tfexplore.measure import results
from tfexplore.measure.contestants import COMPILED, DTYPES, FUSED, LAYERS, STEPPED, WAYS

SWEEPS = {"T": "time steps T", "N": "neurons N", "dtype": "dtype"}
UNITS = {"ns per element-step": 1e9, "ms per pass": 1e3}
EVERYBODY = (*WAYS, COMPILED)


@dataclass
class SpeedCurves:
    """The points of the curves that have been measured.

    Args:
        axis: what grows: "T", "N" or "dtype".
        values: of it, one for each point.
        steps: time steps `T`, unless they grow.
        neurons: `N` of each layer, unless they grow.
        dtype: of x and of the spikes, unless it is swept.
        passes: "forward + backward" or "forward".
        machine: where it was measured.
        backend: the one that ran "fused".
        seconds: medians of one pass by contestant, one for each of `values` so far.
        compiled: what `measure.contestants.point` returned for torch.compile, by value.
    """

    axis: str
    values: tuple[Any, ...]
    steps: int
    neurons: int
    dtype: str
    passes: str
    machine: str
    backend: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in WAYS})
    compiled: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def case(self, value: Any) -> dict[str, Any]:
        """The numbers of one point."""
        return {"T": self.steps, "N": self.neurons, "dtype": self.dtype} | {self.axis: value}

    def element_steps(self, value: Any) -> int:
        at = self.case(value)
        return int(LAYERS * at["T"] * at["N"])

    def fixed(self) -> str:
        shown = {"T": f"T = {self.steps}", "N": f"N = {self.neurons:,}", "dtype": self.dtype}
        return ", ".join([text for axis, text in shown.items() if axis != self.axis] + [self.passes])

    def times(self, k: int) -> str:
        """How fused compares with step by step at point k."""
        ratio = self.seconds[STEPPED][k] / self.seconds[FUSED][k]
        if 0.95 < ratio < 1.05:
            return "as fast"
        return f"{ratio:.1f} times as fast" if ratio >= 1 else f"{1 / ratio:.1f} times as slow"

    def sentence(self) -> str:
        done = len(self.seconds[FUSED])
        if done == 0:
            return f"Three ways through two layers of LIF neurons ({self.fixed()}). Press Start."
        if done < len(self.values):
            return f"{done} of {len(self.values)} points measured."
        first, last = (
            str(value) if self.axis == "dtype" else f"{self.axis} = {value:,}"
            for value in (self.values[0], self.values[-1])
        )
        other = f", and {self.times(-1)} at {last}" if done > 1 else ""
        return (
            f"Fused is {self.times(0)} as step by step at {first}{other} "
            f"({self.fixed()}; {self.machine}; backend {self.backend})."
        )


@dataclass(frozen=True)
class Series:
    """A contestant's y (in the chosen unit) over x. A recorded one names its record."""

    contestant: str
    x: tuple[Any, ...]
    y: tuple[float, ...]
    record: results.Record | None = None
    curve: results.Curve | None = None

    @property
    def label(self) -> str:
        where = "" if self.record is None else f", recorded ({self.record.machine.split(',')[0]})"
        return self.contestant + where


def shown(device: str) -> list[tuple[results.Record, str]]:
    """The recorded contestants to show beside live ones: torch.compile's on the same kind of device, and all of a GPU's."""
    kind, found = torch.device(device).type, []
    for record in results.records(benchmark="torch_compile"):
        if record.device == kind:
            found.append((record, COMPILED))
        elif record.device == "cuda":
            found += [(record, name) for name in EVERYBODY]
    return found


def series(result: SpeedCurves, unit: str, recorded: list[tuple[results.Record, str]]) -> list[Series]:
    """Those measured here, as far as they go, then torch.compile's points, then one for each recorded contestant."""

    def scaled(seconds: float, element_steps: float) -> float:
        return UNITS[unit] * seconds / (element_steps if "element-step" in unit else 1)

    found = []
    for name in WAYS:
        points = dict(zip(result.values, result.seconds[name], strict=False))
        y = (scaled(seconds, result.element_steps(value)) for value, seconds in points.items())
        found.append(Series(name, tuple(points), tuple(y)))
    own = {value: point["seconds"][COMPILED]["median"] for value, point in sorted(result.compiled.items())}
    y = (scaled(seconds, result.element_steps(value)) for value, seconds in own.items())
    found.append(Series(COMPILED, tuple(own), tuple(y)))
    for record, name in recorded:
        curve = results.curve(record, name, result.axis, result.passes, result.case(None))
        if curve is None:
            found.append(Series(name, (), (), record))
            continue
        sizes = (LAYERS * row["T"] * row["N"] for row in curve.rows)
        y = (scaled(seconds, size) for seconds, size in zip(curve.seconds, sizes, strict=True))
        found.append(Series(name, curve.values, tuple(y), record, curve))
    return found


def remarks(result: SpeedCurves, found: list[Series], device: str) -> list[str]:
    """Where the recorded series come from, and what limits them."""
    notes = []
    for record in {id(each.record): each.record for each in found if each.record is not None}.values():
        curves = [each.curve for each in found if each.record is record and each.curve is not None]
        if not curves:
            notes.append(f"Nothing was recorded on {record.label} for {result.passes}, {result.dtype}.")
            continue
        fixed = ", ".join(str(v) if key == "dtype" else f"{key} = {v:,}" for key, v in curves[0].fixed.items())
        names = ", ".join(curve.contestant for curve in curves)
        notes.append(f"Recorded, not measured now: {names}, at {fixed}, on {record.label}.")
        busiest, cores = max(row.get("load", 0.0) for c in curves for row in c.rows), record.cores
        if cores and busiest > 2 * cores:
            notes.append(
                f"Other work ran on that machine at the time (a load of up to {busiest:.0f} on {cores} cores): on an idle one "
                "all are faster, and those with several threads most."
            )
        if first := [row["first_call_s"] for c in curves for row in c.rows if c.contestant == COMPILED]:
            notes.append(f"There torch.compile compiled for {min(first):.0f} to {max(first):.0f} s before each point.")
    if torch.device(device).type == "cpu" and (result.axis == "dtype" or DTYPES[result.dtype].itemsize == 2):
        notes.append(
            "On a CPU, half precision is unpacked into float32 before the kernel and packed again behind it, so it saves no "
            "traffic; on a GPU the kernel itself reads and writes it."
        )
    return notes
