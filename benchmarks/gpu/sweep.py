"""One kernel alone at a size far beyond the cache, as a share of a copy measured in turn with it, in least bytes.

Both kernels, forward and backward, for each dtype and each thing kept: what is told is of the kernel that a layer launches.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks import neuron, reference
from benchmarks.contestants import ours
from benchmarks.play import apart
from benchmarks.work import Case, Work, copy_work, neuron_inputs
from tfexplore.keep import fastest
from tfexplore.measure import event_seconds, seconds
from tfexplore.step import step_of

ROUNDS = 7


def measure(device: str, out: str, case: Case, keep: str) -> dict[str, Any]:
    case = case | {"device": device}
    work = ours.neuron(case)[f"{ours.fused(case)}, keep={keep}"]()
    check(work, case)
    copy = copy_work(case, neuron_inputs(case)[0])
    taken: dict[str, list[float]] = {"copy": [], "kernel": []}
    for _ in range(ROUNDS):
        for name, each in (("copy", copy), ("kernel", work)):
            taken[name].append(once(each, device))
    median = {name: statistics.median(values) for name, values in taken.items()}
    assert work.least is not None
    assert copy.least is not None
    bandwidth = {"copy": copy.least / median["copy"], "kernel": work.least / median["kernel"]}
    return {
        "T": case["T"], "N": case["N"], "dtype": case["dtype"], "passes": case["passes"], "surrogate": case["surrogate"],
        "keep": keep, "auto": fastest(step_of(ours.lif(case)), ours.fused(case)), "rounds": ROUNDS,
        "median_ms": {name: 1e3 * value for name, value in median.items()},
        "gb_s": {name: value / 1e9 for name, value in bandwidth.items()},
        "share": bandwidth["kernel"] / bandwidth["copy"],
        "kept_bytes_per_element_step": (work.kept() or 0) / (case["T"] * case["N"]),
    }  # fmt: skip


def check(work: Work, case: Case) -> None:
    """Correct before fast."""
    expected, allowed = reference.neuron(case), neuron.allowed(case["dtype"])
    for name, found in work.result().items():
        far = apart(name, found, expected[name], allowed[name].near)
        if not far <= allowed[name].share:
            raise RuntimeError(f"wrong result: {far:.1e} of {name} differ from the reference, so it is not timed")


def once(work: Work, device: str) -> float:
    if torch.device(device).type == "cuda":
        return event_seconds(work.run, work.before)
    work.before()
    return seconds(work.run)
