"""The machine: its device, driver, versions, and the report of `tfexplore doctor`."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import subprocess
from typing import Any

import torch

from benchmarks.work import versions
from tfexplore.backends import cuda
from tfexplore.machine import doctor
from tfexplore.measure.clock import machine

DISTRIBUTIONS = ("torch", "numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "triton")
PEERS = ("spikingjelly", "jax")


def measure(device: str, out: str) -> dict[str, Any]:
    """ "key": what the rows of all other points depend on; on the peers' versions only where they take part."""
    reason = cuda.why_not() if device == "cuda" else ""
    if reason:
        raise RuntimeError(reason)
    installed, peers = versions(*DISTRIBUTIONS), versions(*PEERS)
    return {
        "machine": machine(device), "device": device, "cores": os.cpu_count(), "date": dt.date.today().isoformat(),
        "torch": torch.__version__, "python": platform.python_version(), "versions": installed | peers,
        "doctor": [str(check) for check in doctor.checks()],
        "key": {"machine": machine(device), "driver": driver(), "versions": installed, "peers": peers, "device": device},
    }  # fmt: skip


def driver() -> str:
    if not (program := shutil.which("nvidia-smi")):
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
