"""How the cost of one layer of LIF neurons grows, and what its first result costs.

Forward and backward pass, against T and against N: the time, the bytes saved for backward, and the peak of memory within the
pass, of the fused layer (each `keep`; the surrogate is the rectangle, which admits them all) and of the eager one. Each is
fitted by a power law: the slope of log cost against log size, with its standard error. A slope of 1 is proportional; overheads
make it less where the work is small. The peak is measured in a fresh process for each way and case: the resident memory (Linux),
or what PyTorch allocated (GPU), above what there was before the pass.

The time from `import tfexplore` to the first result is measured in fresh processes: TFEXPLORE_CACHE is empty, then filled.

As a program, `python -m benchmarks.growth`, it answers requests for a pass's peak (see `tfexplore.measure.server_process`).
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness, neuron, reference
from benchmarks.harness import DEFAULT, FULL, OURS, QUICK, ROOT, Row, Stage
from benchmarks.work import BOTH, Case
from tfexplore.measure.server_process import ServerProcess

WHAT = "One layer of LIF neurons, forward + backward, float32, rectangle: growth over T and N; import to first result."
TS = {QUICK: (4, 16, 64), DEFAULT: (8, 16, 32, 64, 128), FULL: (8, 16, 32, 64, 128, 256, 512)}
NS = {QUICK: (16_000, 64_000, 256_000), DEFAULT: (4_000, 16_000, 64_000, 256_000, 1_024_000)}
NS[FULL] = (*NS[DEFAULT], 4_096_000)
USUAL = {"T": 32, "N": 64_000}
TINY = {"T": 2, "N": 32}
COSTS = {"median_ms": "time", "kept_bytes": "bytes kept", "peak_bytes": "peak of memory"}
FIRST = {"T": 32, "N": 1_000}
FRESH = {QUICK: 1, DEFAULT: 3, FULL: 5}
"""Fresh processes whose first result is timed, for each state of the cache."""


def run(stage: Stage, size: str) -> Iterator[Row]:
    with Stage((OURS,), stage.device, stage.effort) as alone:
        for axis, values in (("T", TS[size]), ("N", NS[size])):
            rows = []
            for value in values:
                rows.append(grown(alone, axis, value))
                yield rows[-1]
            yield fitted(axis, rows)
        stage.versions |= alone.versions
    yield from first_results(stage.device, FRESH[size])


# -- growth ------------------------------------------------------------------------------------------------------


def grown(stage: Stage, axis: str, value: int) -> Row:
    size = USUAL | {axis: value}
    case = neuron.case(size["T"], size["N"], BOTH, surrogate="Rectangle")
    row = stage.race("growth", case, reference.neuron, neuron.allowed("float32"), 4 * size["T"] * size["N"])
    peaks: dict[str, int] = {}
    for mode in row["median_ms"]:
        with (
            suppress(RuntimeError),
            ServerProcess("benchmarks.growth") as process,
        ):  # a peak that cannot be measured is left out
            peaks[mode] = process.request(case=case | {"device": stage.device}, mode=mode)["peak"]
    return row | {"axis": axis, "peak_bytes": peaks}


def peak(case: Case, mode: str) -> dict[str, int]:
    """The peak of memory in use during one pass, in bytes, above that before it."""
    from benchmarks.contestants import ours

    ours.growth(case | TINY)[mode]().run()  # compiles or loads, and starts threads
    work = ours.growth(case)[mode]()
    before = memory(case["device"], reset=True)
    work.run()
    return {"peak": memory(case["device"]) - before}


def memory(device: str, reset: bool = False) -> int:
    """The peak of the memory in use since it was last `reset`, which gives the memory in use now."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def fitted(axis: str, rows: Sequence[Row]) -> Row:
    """The power laws of all costs over one axis, by contestant: {"slopes": {cost: {label: [slope, its standard error]}}}."""
    slopes: dict[str, dict[str, list[float]]] = {}
    for cost in COSTS:
        for label in rows[0]["median_ms"]:
            points = [(row[axis], row[cost][label]) for row in rows if row[cost].get(label, 0) > 0]
            if len(points) > 2:
                slopes.setdefault(cost, {})[label] = list(power(*zip(*points, strict=True)))
    return {"axis": axis, "from": rows[0][axis], "to": rows[-1][axis], "slopes": slopes, "median_ms": {}}


def power(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The exponent of y ~ x**exponent by least squares of the logarithms, and its standard error.

    >>> round(power([1, 2, 4, 8], [3, 12, 48, 192])[0], 6)
    2.0
    """
    (slope, _), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    return float(slope), math.sqrt(max(0.0, covariance[0, 0]))


# -- the first result --------------------------------------------------------------------------------------------


def first_results(device: str, count: int) -> Iterator[Row]:
    """With an empty cache, then with the one that the last process filled; medians of `count` processes."""
    cold, cached = [], []
    for _ in range(count):
        with tempfile.TemporaryDirectory(prefix="tfexplore-", ignore_cleanup_errors=True) as folder:
            cold.append(first_result(device, folder))
            cached.append(first_result(device, folder))
    for state, taken in (("empty", cold), ("filled", cached)):
        row: Row = {"cache": state, **FIRST, "dtype": "float32", "rounds": {}, "median_ms": {}, "quartiles_ms": {}}
        for part in taken[0]:
            low, middle, high = statistics.quantiles(
                [times[part] for times in taken] * (1 + (count < 2)), method="inclusive"
            )
            row["rounds"][part], row["median_ms"][part], row["quartiles_ms"][part] = count, middle, [low, high]
        yield row


def first_result(device: str, cache: str) -> dict[str, float]:
    env = os.environ | {"TFEXPLORE_CACHE": cache, "CUPY_CACHE_DIR": str(Path(cache) / "cupy"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks" / "first_result.py"), str(FIRST["T"]), str(FIRST["N"]), device]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    times: dict[str, float] = json.loads(done.stdout)
    return times


# -- as text -----------------------------------------------------------------------------------------------------


def lines(row: Row) -> Iterator[str]:
    if "slopes" in row:
        yield f"slopes of log cost against log {row['axis']}, {row['axis']} = {row['from']} … {row['to']}, ± standard error"
        for cost, slopes in row["slopes"].items():
            for label, (slope, error) in slopes.items():
                yield f"  {COSTS[cost]:<16}{label:<24}{slope:6.3f} ± {error:.3f}"
    elif "cache" in row:
        yield f"import to first result, cache {row['cache']}, T={row['T']}, N={row['N']}: median ms (quartiles)"
        for part, ms in row["median_ms"].items():
            low, high = row["quartiles_ms"][part]
            yield f"  {part:<34}{ms:9.1f}   ({low:.1f} – {high:.1f})"
    else:
        yield from harness.lines(row)
        yield "  peak of memory, MiB: " + ", ".join(f"{k} {v / 2**20:.1f}" for k, v in row["peak_bytes"].items())


if __name__ == "__main__":
    from tfexplore.measure.server_process import serve

    serve(lambda request: peak(**request))
