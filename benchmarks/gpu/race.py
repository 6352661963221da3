"""A case of the benchmarks `neuron` and `training`, run by `benchmarks.harness` as on a CPU, for benchmarks/results."""

from __future__ import annotations

import atexit
import importlib
from functools import cache
from typing import Any

from benchmarks import neuron, reference, training
from benchmarks.harness import OURS, Effort, Stage

NAMES = (OURS, "spikingjelly", "jax")
EFFORT = Effort(seconds=0.2, least=3, most=7, patience=60.0, long=3.0)


@cache
def stage(device: str) -> Stage:
    """The contestants' processes stay for the next case."""
    made = Stage(NAMES, device, EFFORT)
    atexit.register(made.__exit__)
    return made


def measure(device: str, out: str, benchmark: str, case: dict[str, Any]) -> dict[str, Any]:
    """The row, with the versions of what each contestant used."""
    here = stage(device)
    if benchmark == "training":
        row = training.race(here, case)
    else:
        nbytes = (4 if case["dtype"] == "float32" else 2) * case["T"] * case["N"]
        row = here.race(benchmark, case, reference.neuron, neuron.allowed(case["dtype"]), nbytes)
    if not row["median_ms"]:
        raise RuntimeError(f"no contestant was timed: {row['reasons']}")
    what = importlib.import_module(f"benchmarks.{benchmark}").WHAT
    return row | {"about": {"benchmark": benchmark, "what": what, "versions": here.versions}}
