"""The pair BatchNorm + LIF, which stands behind almost every convolution: the two apart, and both in the neuron's kernel.

A BatchNorm in training mode over [T*B, 64, 32, 32], then the LIF of the neuron benchmark; the gradients are those of x and of the
BatchNorm's weight and bias. x and the gradient lie with channels first or last. A library that runs step by step normalises each
step by itself, or resets a step late: other computations, each compared with its own reference and named in the row.

The words that each way moves are derived (`codegen.traffic`): 13 apart, 9 fused; "copy" moves two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks import reference
from benchmarks.harness import QUICK, Row, Stage, Tolerance
from benchmarks.work import BOTH, LAST, LAYOUTS, Case

WHAT = "BatchNorm2d in training mode, then LIF neurons (tau = 2, soft detached reset, threshold 1, ATan): 64 channels, 32 x 32."
STEPS = (4, 32)
COMPARED = 2**22
"""About the number of element-steps that are compared: every k-th channel, since each is normalised by itself."""
NEAR = {
    "spikes": Tolerance(0.5, 1e-4),
    "x.grad": Tolerance(1e-4, 1e-3),
    "weight.grad": Tolerance(2e-2),
    "bias.grad": Tolerance(2e-2),
}
"""A spike that rounding flips changes the gradients of its neuron, and a little all those of its channel. torch sums channels
last in float32: at T = 32 its mean is 7e-6 off (channels first and here: 3e-8), and these sums 1.2e-2."""
ALLOWED = {name + which: near for name, near in NEAR.items() for which in reference.NORMALISED}


def case(steps: int, layout: str = LAST, batch: int = 16, channels: int = 64, size: int = 32) -> Case:
    count = batch * channels * size * size
    shape = {"T": steps, "N": count, "B": batch, "channels": channels, "size": size, "layout": layout}
    about = {"dtype": "float32", "passes": BOTH, "surrogate": "ATan", "seed": 0}
    return shape | about | {"every": math.ceil(steps * count / COMPARED)}


def run(stage: Stage, size: str) -> Iterator[Row]:
    for steps in STEPS[:1] if size == QUICK else STEPS:
        for layout in LAYOUTS:
            yield race(stage, case(steps, layout))


def race(stage: Stage, made: Case) -> Row:
    return stage.race("batchnorm", made, reference.batchnorm, ALLOWED, 4 * made["T"] * made["N"])
