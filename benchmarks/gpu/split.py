"""Time splitting with the network on the GPU: several ranks share it, and gloo carries the states; equal to one process."""

from __future__ import annotations

import importlib
from typing import Any

from tfexplore.timesplit import Crew

NETWORKS, NEAR = ("mlp", "conv", "normed"), 1e-9  # float64
COMPARED = ("loss", "out", "gradients", "input", "buffers")


def measure(device: str, out: str, ranks: int) -> dict[str, Any]:
    """By network the largest difference from one process; what is compared is that of the tests (tests/split_jobs.py)."""
    jobs = importlib.import_module("tests.split_jobs")
    apart: dict[str, float] = {}
    with Crew(ranks, timeout=60) as crew:
        for name in NETWORKS:
            given = {"given": ("auto",), "device": device}
            found = crew.run(jobs.compare, getattr(jobs, name), **given)
            if not all(own["spikes"] > 0 and own["live"] > 1e-6 for own in found):
                raise RuntimeError(f"{name}: nothing fires, or no gradient is there, so nothing is shown")
            apart[name] = max(own[what] for own in found for what in COMPARED)
            if not apart[name] < NEAR:
                raise RuntimeError(f"{name}: {apart[name]:.1e} apart from one process; {NEAR:.0e} is allowed.")
    return {"ranks": ranks, "apart": apart}
