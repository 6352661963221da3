"""The fastest build of a neuron's kernels, found by measuring; the row has every build that was tried, as a share of a copy.

Every later point runs the winner (`tfexplore.backends.tuned`). On a CPU (`--dry`) the kernels run as C++, in a few builds.
"""

from __future__ import annotations

import importlib
import shutil
import statistics
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import torch

from tfexplore import neurons, surrogates
from tfexplore.backends import tuned
from tfexplore.codegen import traffic
from tfexplore.codegen.builds import Build, Shape
from tfexplore.measure import tune
from tfexplore.measure.clock import pass_seconds

WHAT = (
    "Each build of the fused kernels that the search for the fastest tried: milliseconds of one pass, and the share of a copy's "
    "pace that it reaches in least bytes"
)
FEW: tune.Options = (("backward.shared", (False, True)), ("forward.ahead", (4, 8)))


def measure(device: str, out: str, neuron: str, keep: str, dtype: str, T: int, N: int) -> dict[str, Any]:
    given = {"surrogate": surrogates.Rectangle()} if keep == "bits" else {}
    dry = torch.device(device).type == "cpu"
    with as_cpp() if dry else nullcontext():
        made = getattr(neurons, neuron)(**given)
        moved = traffic.traffic_of(made, keep) if keep != "nothing" else traffic.traffic_of(made, gradient=False)
        trial = tune.Trial(made, keep, dtype, device, T, N)
        shape, tried = trial.shape, []
        copy = statistics.median(pass_seconds(trial.x.clone, device) for _ in range(7))
        pace = 2 * trial.x.nbytes / copy

        def seconds(loop: str, build: Build, chunk: int) -> float:
            taken = trial.seconds(loop, build, chunk)
            share = float(traffic.nbytes(moved, dtype, loop)) * trial.x.numel() / taken / pace
            why = trial.why.get((loop, build, chunk))
            found = {"share": share, "ms": 1e3 * taken} if why is None else {"failed": why}
            tried.append({"loop": loop, "chunk": chunk, **asdict(build), **found})
            return taken

        config, gain = tune.fastest(shape, seconds, FEW if dry else tune.OPTIONS)
    row = {
        "T": T, "N": trial.neurons, "neuron": neuron, "shape": asdict(shape), "config": asdict(config), "copy_gb_s": pace / 1e9,
        "gain": gain, "tried": tried,
    }  # fmt: skip
    if not dry:
        remember(row, torch.cuda.get_device_name(device))
    return row


def builds(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's builds, each a row of benchmarks/results."""
    case = {key: row[key] for key in ("T", "N", "neuron")} | {
        "dtype": row["shape"]["data"],
        "keep": row["shape"]["keep"],
    }
    tried = [one for one in row["tried"] if "share" in one]
    return [
        case | {"passes": one["loop"], "median_ms": {"kernel": one["ms"]}}
        | {key: one[key] for key in ("vector", "ahead", "chunk", "shared", "streaming", "share")} for one in tried
    ]  # fmt: skip


def remember(row: dict[str, Any], machine: str) -> None:
    """Stores this row's winner for every later process; also in another cache, when a run resumes on a fresh machine."""
    tuned.remember(Shape(**row["shape"]), machine, tuned.config_of(row["config"]))


def as_cpp() -> AbstractContextManager[object]:
    """As the tests run the CUDA kernels (tests/cuda_text.py)."""
    if not (compiler := shutil.which("g++") or shutil.which("clang++")):
        raise RuntimeError("without a GPU the kernels run as C++, and there is neither g++ nor clang++")
    made: AbstractContextManager[object] = importlib.import_module("tests.cuda_text").on_cpu(compiler)
    return made
