"""Small layers, whose time is Python's and autograd's: one layer of LIF neurons, forward and backward, beside one operation.

Up to a few thousand neurons the kernels take microseconds, and what is left is the way to them and back. "one operation" is x * x
with its gradient, "an empty function" an autograd.Function that returns what it gets: what no layer called from Python can beat.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import neuron, reference
from benchmarks.harness import FUSED, QUICK, Row, Stage
from benchmarks.work import Case

WHAT = "A small layer of LIF neurons, forward + backward, beside one autograd operation: tau = 2, soft detached reset, ATan."
STEPS, NEURONS, BATCH = 32, (100, 500, 1000, 2000), 4


def case(neurons: int) -> Case:
    return neuron.case(STEPS, neurons) | {"B": BATCH, "operations": True}


def run(stage: Stage, size: str) -> Iterator[Row]:
    for neurons in NEURONS[-1:] if size == QUICK else NEURONS:
        made = case(neurons)
        yield stage.race("neuron", made, reference.neuron, neuron.allowed("float32"), 4 * STEPS * neurons)


def lines(row: Row) -> Iterator[str]:
    """A row as text: microseconds, and bytes saved for backward, from the fastest on."""
    medians = row["median_ms"]
    ours = min((ms for label, ms in medians.items() if label.startswith(FUSED)), default=None)
    width = max(map(len, [*medians, *row["reasons"], ""])) + 2
    yield f"T={row['T']}, N={row['N']}, {row['passes']}, load={row['load']}"
    yield f"  {'':<{width}}{'median us':>10}{'low':>9}{'high':>9}{'x ours':>8}{'kept KiB':>10}"
    for label, ms in sorted(medians.items(), key=lambda item: item[1]):
        low, high = row["quartiles_ms"][label]
        kept = row["kept_bytes"].get(label)
        yield (
            f"  {label:<{width}}{1e3 * ms:10.1f}{1e3 * low:9.1f}{1e3 * high:9.1f}"
            f"{'' if ours is None else f'{ms / ours:.2f}':>8}{'' if kept is None else f'{kept / 1024:.1f}':>10}"
        )
    for label, text in (row["equation"] | row["reasons"]).items():
        yield f"  {label}: {text}"
