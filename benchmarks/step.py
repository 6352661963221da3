"""The whole training step as one program: as it stands, captured, by torch.compile, and in Spyx, whose JAX compiles all of it.

The networks, the batch, the weights and SGD with momentum are those of `benchmarks.networks`. All must have the losses of a plain
loop over `COMPARED` steps, which go beyond the calls that warm a captured step up. In float32, sums in another order make some
spikes flip, and later weights follow: so the first loss must be near, and the later ones need only show the same learning.

"first s" is what the first `COMPARED` steps took, compiling included (our kernels are loaded before); "pays after" is the number
of steps after which the time that these took longer than the step as it stands is made up for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import networks
from benchmarks.harness import FULL, OURS, QUICK, Row, Stage, Tolerance
from benchmarks.networks import NETWORKS, Library, Training
from benchmarks.work import Arrays, Case, Modes, Work
from tfexplore.measure.contestants import why_not_compiled
from tfexplore.nn.capturing import capture

WHAT = "A training step as one program: as it stands, captured, torch.compile, Spyx; SGD with momentum; float32."
LOSSES = "losses"
COMPARED = 16
BATCHES = {"mlp": 64, "conv": 16}
ALLOWED = {LOSSES: Tolerance(5e-2)}
EAGER, CAPTURED, COMPILED = "as it stands", "captured", "torch.compile"


def cases(size: str) -> Iterator[Case]:
    for network in ("mlp",) if size == QUICK else BATCHES:
        for count in (4,) if size == QUICK else (4, 32, 128) if size == FULL else (4, 32):
            yield {
                "network": network, "T": count, "B": BATCHES[network], "dtype": "float32", "surrogate": "ATan", "seed": 0,
            }  # fmt: skip


def run(stage: Stage, size: str) -> Iterator[Row]:
    with Stage((OURS, "spyx"), stage.device, stage.effort) as here:
        for case in cases(size):
            nbytes = 4 * case["T"] * case["B"] * NETWORKS[case["network"]].largest
            yield here.race("step", case, expected, ALLOWED, nbytes)
        stage.versions |= here.versions


def modes(case: Case, library: Library) -> Modes:
    """The ways to run the same step of torch's. What a process does once (our kernels, torch's libraries) is done before."""
    Training(case, library).step()
    return {name: partial(work, case, library, way) for name, way in WAYS.items()}


def work(case: Case, library: Library, way: Callable[[Training], Callable[[], Tensor]]) -> Work:
    made = Training(case, library)
    step = way(made)
    return Work(run=step, result=lambda: losses(step))


def losses(step: Callable[[], Tensor]) -> Arrays:
    return {LOSSES: np.array([step().item() for _ in range(COMPARED)], np.float32)}


def captured(made: Training) -> Callable[[], Tensor]:
    """The batch is no argument: it is the same at every step, and on the device."""
    step: Any = capture(made.step, device=made.x.device)
    return partial(step)


def compiled(made: Training) -> Callable[[], Tensor]:
    if reason := why_not_compiled(made.x.device.type):
        raise ValueError(reason)
    step: Callable[[], Tensor] = torch.compile(made.step)
    return step


WAYS: dict[str, Callable[[Training], Callable[[], Tensor]]] = {
    EAGER: lambda made: made.step, CAPTURED: captured, COMPILED: compiled,
}  # fmt: skip


def expected(case: Case) -> Arrays:
    return losses(Training(case, networks.plain(stepped=False, delayed=False)).step)


def pays_after(row: Row, label: str) -> int | None:
    """Steps after which a way is ahead of the step as it stands; None where it never is."""
    gain = row["median_ms"][EAGER] - row["median_ms"][label]
    return None if gain <= 0 else max(0, math.ceil(1e3 * (row["first_s"][label] - row["first_s"][EAGER]) / gain))


def lines(row: Row) -> Iterator[str]:
    """A row as text, the fastest first."""
    medians = row["median_ms"]
    width = max(map(len, [*medians, *row["reasons"], ""])) + 2
    yield f"{row['network']}, T={row['T']}, B={row['B']}, load={row['load']}"
    yield f"  {'':<{width}}{'first s':>9}{'median ms':>11}{'quartiles':>17}{'rounds':>8}{'speed':>7}  pays after"
    for label, ms in sorted(medians.items(), key=lambda item: item[1]):
        low, high = row["quartiles_ms"][label]
        speed, after = "", ""
        if EAGER in medians and label != EAGER:
            count = pays_after(row, label)
            speed, after = f"{medians[EAGER] / ms:.2f}", "never" if count is None else f"{count:,} steps"
        yield (
            f"  {label:<{width}}{row['first_s'][label]:9.2f}{ms:11.2f}{f'{low:.2f} – {high:.2f}':>17}{row['rounds'][label]:8}"
            f"{speed:>7}  {after}"
        )
    for label, text in row["reasons"].items():
        yield f"  {label}: {text}"
