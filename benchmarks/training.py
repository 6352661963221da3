"""A whole training step (forward, loss, backward, optimiser) of each network in `benchmarks.networks`, and where its time goes.

Every contestant starts with the same weights and the same images, and must train as a plain loop does before it is timed: in
float64 it has the same losses and norms of gradients (`EXACTLY`). In float32, which is timed, sums in another order make some
spikes flip; over many steps and layers a few become many, so there they need only be near (`NEAR`). A library that runs step by
step normalises each step by itself where there is BatchNorm: another computation with another reference, named in the row.

The parts are timed by themselves, forward and backward on the inputs that they get in the network, in turn with all else; "the
rest" is the difference to the whole step: pooling, additions, the loss, Python's and autograd's work between the parts. A part
alone finds its data in a cache more often than within the whole, so the rest is an estimate.
A BatchNorm in a layer's kernel counts with the neurons.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.harness import FULL, QUICK, Row, Stage, Tolerance
from benchmarks.networks import EXACT, NETWORKS, PARTS, REFERENCES, RESULTS, expected, parts_of
from benchmarks.work import Case
from tfexplore.measure.contestants import FUSED

WHAT = "A training step of whole networks: LIF with tau = 2, soft detached reset, ATan; SGD with momentum; float32."
BATCHES = {"cpu": {"mlp": 64, "conv": 64, "resnet18": 2, "vgg11": 4}, "cuda": dict.fromkeys(NETWORKS, 64)}
STEPS, REST = (4, 32), "the rest"
SMALL = ("mlp", "conv")
"""Networks that a CPU trains at every T by default; the others only at the first."""
BY_WAY = ("rounds", "median_ms", "quartiles_ms", "first_s", "kept_bytes", "least_bytes", "apart", "equation")
NEAR = dict(zip(RESULTS, (5e-2, 0.5, 0.5), strict=True))
"""Relative to the largest: that the same network learns. The plain loop itself is this far from its own float64: at T = 32 up to
1e-2, 3e-2 and 0.2. Products in bfloat16 are compared in the same way."""
EXACTLY = NEAR | dict.fromkeys(RESULTS[:2], 1e-6)
"""Of the first step. The later ones follow weights that snnTorch's float32 spikes, and their gradients, have rounded."""
ALLOWED = {
    name + which + end: Tolerance(near)
    for end, wanted in (("", NEAR), (EXACT, EXACTLY))
    for name, near in wanted.items()
    for which in REFERENCES
}


def cases(size: str, device: str) -> Iterator[Case]:
    kind = torch.device(device).type
    for network in SMALL[:1] if size == QUICK else NETWORKS:
        for steps in STEPS:
            if kind == "cuda" or size == FULL or network in SMALL or steps == STEPS[0]:
                about = {"network": network, "T": steps, "B": BATCHES[kind][network]}
                yield about | {"dtype": "float32", "surrogate": "ATan", "seed": 0}


def run(stage: Stage, size: str) -> Iterator[Row]:
    for case in cases(size, stage.device):
        yield race(stage, case)


def race(stage: Stage, case: Case) -> Row:
    """The row of the whole step, with the milliseconds of its parts, by contestant, in "parts_ms"."""
    nbytes = 4 * case["T"] * case["B"] * NETWORKS[case["network"]].largest
    row = stage.race("training", case, expected, ALLOWED, nbytes)
    named = {label: label.rpartition(": ") for label in row["median_ms"]}
    parts: dict[str, dict[str, float]] = {label: {} for label, (*_, part) in named.items() if part not in PARTS}
    for label, (way, _, part) in named.items():
        if way in parts:
            parts[way][part] = row["median_ms"][label]
    whole = {key: {k: v for k, v in values.items() if k in parts} for key, values in row.items() if key in BY_WAY}
    return row | whole | {"parts_ms": parts}


def lines(row: Row) -> Iterator[str]:
    """A row as text: for each contestant the time of the whole step, and the share of each part."""
    medians, base = row["median_ms"], row["median_ms"].get(FUSED)
    width = max(map(len, [*medians, *row["reasons"], ""])) + 2
    yield f"{row['network']}, T={row['T']}, B={row['B']}, load={row['load']}"
    heads = "".join(f"{part:>15}" for part in (*PARTS, REST))
    yield f"  {'':<{width}}{'median ms':>11}{'quartiles':>21}{'rounds':>8}{'x fused':>9}{'kept MiB':>10}{heads}"
    for label, ms in sorted(medians.items(), key=lambda item: item[1]):
        low, high = row["quartiles_ms"][label]
        found = shares(row, label)
        yield (
            f"  {label:<{width}}{ms:11.2f}{f'{low:.2f} – {high:.2f}':>21}{row['rounds'][label]:8}"
            f"{'' if base is None else f'{ms / base:.2f}':>9}{row['kept_bytes'][label] / 2**20:10.1f}"
            + "".join(f"{f'{found[part]:.0%}' if part in found else '':>15}" for part in (*PARTS, REST))
        )
    for label, text in (row["equation"] | row["reasons"]).items():
        yield f"  {label}: {text}"


def shares(row: Row, label: str) -> dict[str, float]:
    """Of the whole step; the rest too, unless a part has no time."""
    whole, parts = row["median_ms"][label], row["parts_ms"][label]
    found = {part: ms / whole for part, ms in parts.items()}
    return found | ({REST: 1 - sum(found.values())} if set(found) == set(parts_of(row["network"])) else {})
