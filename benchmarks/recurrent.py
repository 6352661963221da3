"""A layer of LIF neurons whose spikes come back through a matrix one step later: x[t] + W s[t-1], by every library's own way.

No library can run it layer by layer: step t needs the spikes of t - 1. "step by step, autograd per step" is the loop that
`Recurrent` takes where it is no operator: a product and a fused layer of one step each, which autograd strings together.
"the products alone" are matrix products without any neuron: what no layer can beat.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import reference
from benchmarks.harness import QUICK, Row, Stage, Tolerance
from benchmarks.work import BOTH, FORWARD, Case

WHAT = "LIF neurons with a matrix from all to all: tau = 2, soft detached reset, threshold 1, ATan; float32."
SIZES = ((100, 64, 256), (500, 16, 128), (100, 64, 1024))
"""T, B, n."""
ALLOWED = {
    name + reset: tolerance
    for name, tolerance in (
        ("spikes", Tolerance(0.5, 2e-2)), ("x.grad", Tolerance(1e-3, 2e-2)), ("weight.grad", Tolerance(5e-2, 2e-2)),
    )
    for reset in ("", " (delayed reset)", " (hard reset)")
}  # fmt: skip
"""A spike that rounding flips changes all that follows in its row of the batch: such a network is chaotic."""


def case(steps: int, batch: int, n: int, passes: str = BOTH) -> Case:
    about = {"dtype": "float32", "passes": passes, "surrogate": "ATan", "seed": 0}
    return {"T": steps, "B": batch, "n": n, "N": batch * n, **about}


def run(stage: Stage, size: str) -> Iterator[Row]:
    for steps, batch, n in SIZES[:1] if size == QUICK else SIZES:
        for passes in (FORWARD, BOTH):
            made = case(steps, batch, n, passes)
            yield stage.race("recurrent", made, reference.recurrent, ALLOWED, 4 * (steps * batch * n + n * n))
