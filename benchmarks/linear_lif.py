"""The case of Open Neuromorphic's comparison of libraries: Linear(n, n) and LIF neurons over 500 steps, in batches of 16.

Every contestant multiplies all time steps by the weight at once, then runs its neurons; the device is synchronised before and
after every run. Forward, with what is saved for backward, and forward + backward, with the gradients of the weight and of x.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import reference
from benchmarks.harness import QUICK, Row, Stage, Tolerance
from benchmarks.work import BOTH, FORWARD, Case

WHAT = "Linear(n, n) and LIF neurons, T = 500, B = 16: tau = 2, soft detached reset, threshold 1, ATan."
STEPS, BATCH = 500, 16
SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (512, 1024, 2048, 4096, 8192, 16384)}
ALLOWED = {
    name + reset: tolerance
    for name, tolerance in (("spikes", Tolerance(0.5, 1e-3)), ("weight.grad", Tolerance(1e-2, 1e-3)))
    for reset in ("", " (delayed reset)")
}
"""Matrix products add in different orders, and a spike that this flips changes a row of the weight's gradient."""


def case(n: int, passes: str = BOTH) -> Case:
    about = {"dtype": "float32", "passes": passes, "surrogate": "ATan", "seed": 0}
    return {"T": STEPS, "B": BATCH, "n": n, "N": BATCH * n, **about, "every": reference.every(STEPS * BATCH * n)}


def run(stage: Stage, size: str) -> Iterator[Row]:
    sizes = SIZES[torch.device(stage.device).type]
    for n in sizes[1:2] if size == QUICK else sizes:
        for passes in (FORWARD, BOTH):
            made = case(n, passes)
            yield stage.race("linear_lif", made, reference.linear_lif, ALLOWED, 4 * (STEPS * BATCH * n + n * n))
