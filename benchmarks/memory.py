"""Memory policies side by side: what a training step of T time steps holds, takes and gets right.

One network under different policies: all by the same weights, images and loss, and each compared with backpropagation through
time (BPTT). The 8.6 times less memory that T-RevSNN's paper reports compares two different networks, T-RevSNN small with the
Spike-driven Transformer; that is not what is measured here.

For each policy (`tfexplore.explore.policies.policies`) and T:

    peak       bytes that the step's tensors hold at once, at most, beyond parameters and input (`measure.peak`: on a CPU
               counted by storages, without the scratch memory within an operator; on a GPU by the allocator)
    kept       the most bytes that autograd has saved for backward; not of checkpointing, whose pieces no hook sees
    predicted  the same, derived from the equations; None for eager layers
    cosine     between the gradient of all parameters and that of BPTT
    accuracy   on the test images, after a short training with Adam at one T
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from statistics import median, quantiles

from benchmarks import harness
from benchmarks.harness import DEFAULT, FULL, QUICK, Row, Stage
from tfexplore.explore.policies import tasks
from tfexplore.explore.policies.curves import Curves, cosine, measured
from tfexplore.explore.policies.policies import CHECKPOINTING, POLICIES
from tfexplore.measure.clock import samples

WHAT = "Memory policies: forward + backward over T time steps, 16 digits, float32; the accuracy after a short training."
TS = {QUICK: (4, 16), DEFAULT: (4, 10, 16, 32, 64, 128, 256), FULL: (4, 10, 16, 32, 64, 128, 256)}
NETWORKS = {QUICK: ("levels", "mlp"), DEFAULT: tuple(tasks.NETWORKS), FULL: tuple(tasks.NETWORKS)}
ROUNDS, ENOUGH = {QUICK: 1, DEFAULT: 5, FULL: 15}, 5.0
"""Timed at every T; fewer where they would take more than so many seconds, and once at least."""
UPDATES = {QUICK: 5, DEFAULT: 60, FULL: 200}
BATCH, TRAINED = 16, 10
"""Images in a step that is measured; the time steps of a training."""


def run(stage: Stage, size: str) -> Iterator[Row]:
    for network in NETWORKS[size]:
        task = tasks.task(network, TS[size][-1], BATCH, stage.device)
        found = Curves.of(task, TS[size], tuple(policy.name for policy in POLICIES), network)
        for steps in TS[size]:
            yield row(found, network, steps, stage.device, ROUNDS[size])
        yield trained(found, network, stage.device, UPDATES[size])


def row(found: Curves, network: str, steps: int, device: str, rounds: int) -> Row:
    task, runs = found.task.over(steps), found.runs(steps)
    began = time.perf_counter()
    seen = {policy: measured(task, policy) for policy in runs}  # which also warms up
    fitting = min(rounds, int(ENOUGH / (time.perf_counter() - began)))
    *_, taken = samples({policy.name: partial(policy.step, task) for policy in runs}, fitting, device)
    quartiles = {name: quantiles(seconds * (1 + (len(seconds) < 2)), n=4) for name, seconds in taken.items()}
    return {
        "network": network, "T": steps, "B": task.x.shape[1], "dtype": "float32", "load": harness.load(),
        "rounds": {name: len(seconds) for name, seconds in taken.items()},
        "median_ms": {name: 1e3 * median(seconds) for name, seconds in taken.items()},
        "quartiles_ms": {name: [1e3 * q[0], 1e3 * q[2]] for name, q in quartiles.items()},
        "peak_bytes": {policy.name: memory.held for policy, (memory, _) in seen.items()},
        "kept_bytes": {policy.name: memory.saved for policy, (memory, _) in seen.items() if policy is not CHECKPOINTING},
        "predicted_bytes": {name: round(sizes[steps]) for name, sizes in found.saved.items() if steps in sizes},
        "cosine": {policy.name: cosine(gradient, seen[runs[0]][1]) for policy, (_, gradient) in seen.items()},
        "reasons": {name: why[steps] for name, why in found.reasons.items() if steps in why},
    }  # fmt: skip


def trained(found: Curves, network: str, device: str, updates: int) -> Row:
    """Accuracies after a training by each policy, from the same start with the same batches."""
    about: Row = {"network": network, "T": TRAINED, "B": tasks.networks.BATCH, "updates": updates, "median_ms": {}}
    accuracy: dict[str, float] = {}
    for policy in found.policies:
        if not policy.why_not(tasks.task(network, TRAINED, tasks.networks.BATCH, device)):
            *_, accuracy[policy.name] = tasks.training(network, policy, TRAINED, updates, device=device)
    return about | {"accuracy": accuracy}


def lines(row: Row) -> Iterator[str]:
    """A row as text: the policies in their order, those that cannot be run last, with the reason's beginning."""
    where = f"{row['network']}, T={row['T']}, B={row['B']}"
    if "accuracy" in row:
        yield f"{where}: accuracy on the test images after {row['updates']} updates"
        yield from (f"  {name:<24}{share:9.1%}" for name, share in row["accuracy"].items())
        return
    yield f"{where}, load={row['load']}"
    heads = ("median ms", "low", "high", "x BPTT", "peak MiB", "kept MiB", "predicted", "cosine")
    yield f"  {'':<24}" + "".join(f"{head:>11}" for head in heads)
    base = next(iter(row["median_ms"].values()))
    for name, ms in row["median_ms"].items():
        low, high = row["quartiles_ms"][name]
        sizes = [row[key].get(name) for key in ("peak_bytes", "kept_bytes", "predicted_bytes")]
        cells = [f"{ms:.1f}", f"{low:.1f}", f"{high:.1f}", f"{ms / base:.2f}"]
        cells += ["" if size is None else f"{size / 2**20:.3f}" for size in sizes] + [f"{row['cosine'][name]:.4f}"]
        yield f"  {name:<24}" + "".join(f"{cell:>11}" for cell in cells)
    for name, reason in row["reasons"].items():
        yield f"  {name:<24}   {re.split('[:;]', reason)[0]}"
