"""One layer of LIF neurons alone: inference, forward, backward, and both, over T, N and dtype.

tau = 2, soft reset (detached), threshold 1, a normal random current, a dense normal random gradient; the surrogate is ATan, or,
in the rows of keep="bits", the rectangle. "copy" copies a tensor of x's size: two words per element-step, the unit of
memory-bound work. A library that cannot express the equation is timed with its nearest one, which the row names.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import reference
from benchmarks.harness import FULL, QUICK, Row, Stage, Tolerance
from benchmarks.work import BOTH, PASSES, Case

WHAT = "One layer of LIF neurons alone: tau = 2, soft detached reset, threshold 1, normal random current and gradient."
LARGE, SMALL = (32, 16 * 32768), (16, 2000)
STEPS, NEURONS = (4, 32, 128, 500), (10**4, 10**5, 10**6, 10**7)
LARGEST = {"cpu": 2 * 10**7, "cuda": 4 * 10**8}
"""Element-steps of the default grid; --full goes up to what memory holds."""
RESETS = ("", " (delayed reset)", " (hard reset)")
HALF = {"cpu": ("bfloat16",), "cuda": ("float16", "bfloat16")}


def allowed(dtype: str) -> dict[str, Tolerance]:
    """A spike that rounding flips changes the gradient of its neuron too; with a state in half precision, one in a hundred."""
    spikes = Tolerance(0.5, 1e-4)
    gradient = Tolerance(1e-4 if dtype == "float32" else 2e-2, 1e-3)
    exact = {f"{name}{reset}": t for name, t in (("spikes", spikes), ("x.grad", gradient)) for reset in RESETS}
    return exact | {"spikes (rough state)": Tolerance(0.5, 5e-2)}


def cases(size: str, device: str) -> Iterator[Case]:
    kind = torch.device(device).type
    room = LARGEST[kind] * (16 if size == FULL else 1)
    grid = [(steps, neurons) for steps in STEPS for neurons in NEURONS if steps * neurons <= room]
    for steps, neurons in [LARGE, SMALL] if size == QUICK else [LARGE, SMALL, *grid]:
        special = (steps, neurons) in (LARGE, SMALL)
        all_passes = size == FULL or (size != QUICK and (special or kind == "cuda"))
        for passes in PASSES if all_passes else (BOTH,):
            yield case(steps, neurons, passes)
        if (steps, neurons) == LARGE or size == FULL:
            yield case(steps, neurons, BOTH, surrogate="Rectangle")
            for dtype in HALF[kind] if size != QUICK else ():
                yield case(steps, neurons, BOTH, dtype)


def case(steps: int, neurons: int, passes: str = BOTH, dtype: str = "float32", surrogate: str = "ATan") -> Case:
    about = {"dtype": dtype, "passes": passes, "surrogate": surrogate}
    return {"T": steps, "N": neurons, "B": 16, **about, "seed": 0, "every": reference.every(steps * neurons)}


def run(stage: Stage, size: str) -> Iterator[Row]:
    for made in cases(size, stage.device):
        nbytes = (4 if made["dtype"] == "float32" else 2) * made["T"] * made["N"]
        yield stage.race("neuron", made, reference.neuron, allowed(made["dtype"]), nbytes)
