"""One kernel alone at a size far beyond the cache, as a share of a copy measured in turn with it, in least bytes.

Both kernels, forward and backward, for each dtype and each thing kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import neuron, reference
from benchmarks.contestants import ours
from benchmarks.play import apart
from benchmarks.work import FORWARD, Case, Work, copy_work, neuron_inputs
from tfexplore import backends
from tfexplore.backends import tuned
from tfexplore.codegen.keep import fastest
from tfexplore.codegen.variant import Variant
from tfexplore.measure.clock import pass_seconds
from tfexplore.neurons.step import by_value, step_of

ROUNDS = 7
WHAT = "One kernel of a layer of LIF alone, in the build that it gets, beside a copy of x: the share of its pace in least bytes"


def measure(device: str, out: str, case: Case, keep: str) -> dict[str, Any]:
    case = case | {"device": device}
    work = ours.neuron(case)[f"{ours.fused(case)}, keep={keep}"]()
    check(work, case)
    runs = {"copy": copy_work(case, neuron_inputs(case)[0]).run, "kernel": kernel(case, keep)}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            taken[name].append(pass_seconds(run, device))
    median = {name: statistics.median(values) for name, values in taken.items()}
    moved = {"copy": 2 * neuron_inputs(case)[0].nbytes, "kernel": ours.least(case, keep)}
    return {
        "T": case["T"], "N": case["N"], "dtype": case["dtype"], "passes": case["passes"], "surrogate": case["surrogate"],
        "keep": keep, "auto": fastest(step_of(ours.lif(case)), ours.fused(case)), "rounds": ROUNDS,
        "median_ms": {name: 1e3 * value for name, value in median.items()},
        "gb_s": {name: moved[name] / value / 1e9 for name, value in median.items()},
        "share": (moved["kernel"] / median["kernel"]) / (moved["copy"] / median["copy"]),
        "kept_bytes_per_element_step": (work.kept() or 0) / (case["T"] * case["N"]),
    }  # fmt: skip


def kernel(case: Case, keep: str) -> Callable[[], object]:
    """One launch of the backend's forward or backward kernel, and the memory for its results; no autograd, no other kernel."""
    neuron, backend = ours.lif(case), backends.module(ours.fused(case))
    x, g = (values.flatten(1) for values in neuron_inputs(case))
    variant = Variant(step_of(neuron), "float32", case["dtype"] if x.is_cuda else "float32", keep)
    if x.is_cuda:
        variant = tuned.built(variant, x.device.index)
    # as in most layers: no initial state, and the last state is not wanted
    given = backends.Given(len(x), by_value(neuron))
    if case["passes"] == FORWARD:
        return lambda: backend.forward(variant, x, given, want_state=False)
    _, _, kept, _ = backend.forward(variant, x, given, want_state=False)
    return lambda: backend.backward(variant, x, g, None, None, given, kept, want_g_start=False)


def check(work: Work, case: Case) -> None:
    """Correct before fast."""
    expected, allowed = reference.neuron(case), neuron.allowed(case["dtype"])
    for name, found in work.result().items():
        far = apart(name, found, expected[name], allowed[name].near)
        if not far <= allowed[name].share:
            raise RuntimeError(f"wrong result: {far:.1e} of {name} differ from the reference, so it is not timed")
