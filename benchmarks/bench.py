"""What `tfexplore bench` does: runs the benchmarks, prints every row when it is there, and records it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness, record
from tfexplore.measure.clock import machine

NAMES = (
    "neuron", "small", "keep", "linear_lif", "recurrent", "batchnorm", "training", "growth", "memory", "inverse", "bits", "split",
    "cuts", "step", "scan", "relaxations",
)  # fmt: skip


def run(
    names: Sequence[str] = NAMES,
    size: str = harness.DEFAULT,
    device: str = "cpu",
    folder: Path | None = record.FOLDER,
    **stage: Any,
) -> None:
    """folder: where this machine's file is or will be; None records nothing. stage: what else `harness.Stage` takes."""
    print(f"{machine(device)}; torch {torch.__version__}; load {harness.load()}")
    path = None if folder is None else record.path_of(device, folder)
    with harness.Stage(device=device, **stage) as open_stage:
        for name in names:
            benchmark = importlib.import_module(f"benchmarks.{name}")
            print(f"\n== {name}: {benchmark.WHAT}", flush=True)
            rows = []
            for row in benchmark.run(open_stage, size):
                rows.append(row)
                print(*getattr(benchmark, "lines", harness.lines)(row), sep="\n", flush=True)
                if path is not None:  # after every row: what is there is there
                    record.write(path, name, benchmark.WHAT, rows, open_stage.versions, device)
    print(f"\n{'not recorded' if path is None else f'recorded in {path}'}")
