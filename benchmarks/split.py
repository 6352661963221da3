"""Time splitting over processes of this machine: the seconds of a training step, measured and predicted, and data parallelism.

Each row is one network on P processes (gloo, one thread each), all measured in the same processes, in turn: one rank alone while
the others wait, time splitting with 1 and 4 micro-batches, and DistributedDataParallel, which divides the batch instead (left out
where there are fewer samples than ranks). The plan starts from costs that all ranks measured at once, and from the measured link.

The network "devices" consists of layers that only sleep (`timesplit.standin`): every rank is a device of its own, even where a
machine has fewer cores. The others compute, so that ranks share cores where there are more of them, which the plan ignores.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import DEFAULT, FULL, QUICK, Row, Stage
from tfexplore import LIF
from tfexplore.nn.networks import conv
from tfexplore.timesplit import Crew, Ranks, TimeSplit
from tfexplore.timesplit.costs import costs, link, mean_costs
from tfexplore.timesplit.plan import plan
from tfexplore.timesplit.standin import StandIn

WHAT = (
    "Time splitting over processes of one machine (gloo), a training step: measured, predicted, and data parallelism."
)
SHAPES: dict[str, tuple[int, ...]] = {"devices": (8,), "mlp": (256,), "conv": (1, 8, 8)}
CASES = [("devices", 64, 8), ("mlp", 64, 64), ("mlp", 2048, 1), ("conv", 64, 64)]
RANKS = {QUICK: (2,), DEFAULT: (2, 3, 4), FULL: (2, 3, 4)}
RUNS = {QUICK: 3, DEFAULT: 15, FULL: 31}
MICRO_BATCHES = (1, 4)


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "devices":
        return nn.Sequential(*(StandIn(1e-4) for _ in range(6)))
    if kind == "conv":
        return conv()
    return nn.Sequential(*(part for _ in range(6) for part in (nn.Linear(256, 256), LIF(v_threshold=0.3))))


def run(stage: Stage, size: str) -> Iterator[Row]:
    if torch.device(stage.device).type != "cpu":
        print("  time splitting is measured on CPU processes only, so far: left out")
        return
    for ranks in RANKS[size]:
        with Crew(ranks, threads=1) as crew:
            for kind, steps, batch in CASES:
                found = crew.run(measured, kind, steps, batch, RUNS[size])[0]
                yield {"network": kind, "T": steps, "B": batch, "ranks": ranks, "cores": os.cpu_count(), **found}


def measured(group: Ranks, kind: str, steps: int, batch: int, runs: int) -> dict[str, Any]:
    """Runs in every process: the medians of all ways, and the plan's predictions."""
    x = torch.rand(steps, batch, *SHAPES[kind], generator=torch.Generator().manual_seed(1))  # the same on all ranks
    ways = ways_of(group, kind, x)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, step in ways.items():
            group.all_gather([turn])
            begin = time.perf_counter()
            step()
            group.all_gather([turn])  # until the last rank has finished
            if turn:  # the first is for warming up
                seconds[name].append(time.perf_counter() - begin)
    found, wire = mean_costs(group.all_gather_object(costs(network(kind), x, group))), link(group)
    predicted = {
        name: 1e3 * plan(found, steps, batch, wire, **how).seconds
        for name, how in {
            "one rank": {},
            **{label(m): {"ranks": group.size, "micro_batches": m} for m in MICRO_BATCHES if m <= batch},
            **({"data parallel": {"replicas": group.size}} if batch >= group.size else {}),
        }.items()
    }
    quartiles = {name: statistics.quantiles(taken, n=4, method="inclusive") for name, taken in seconds.items()}
    return {
        "median_ms": {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()},
        "quartiles_ms": {name: [1e3 * low, 1e3 * high] for name, (low, _, high) in quartiles.items()},
        "predicted_ms": predicted,
        "costs": [vars(cost) for cost in found],
        "link": {"latency_us": 1e6 * wire.latency, "bandwidth_gb_s": wire.bandwidth / 1e9},
        "rounds": {name: len(taken) for name, taken in seconds.items()},
    }


def label(micro_batches: int) -> str:
    return f"time split, {micro_batches} micro-batch{'es' * (micro_batches > 1)}"


def ways_of(group: Ranks, kind: str, x: Tensor) -> dict[str, Callable[[], None]]:
    alone = network(kind)
    ways = {"one rank": lambda: train(alone, lambda: alone(x).mean(0)) if group.first else None}
    for m in MICRO_BATCHES:
        if m <= x.shape[1]:
            split = TimeSplit(network(kind), micro_batches=m, ranks=group)
            ways[label(m)] = lambda split=split: train(split, lambda: split.mean(split(split.segment(x))))  # type: ignore[misc]
    if x.shape[1] >= group.size:
        both = nn.parallel.DistributedDataParallel(network(kind))
        part = x.tensor_split(group.size, 1)[group.rank]
        share = part.shape[1] / x.shape[1]
        ways["data parallel"] = lambda: train(both, lambda: both(part).mean(0), share * group.size)
    return ways


def train(net: nn.Module, rate: Callable[[], Tensor], weight: float = 1.0) -> None:
    """weight: of this rank's loss, where the mean over the ranks is taken and their parts of the batch differ."""
    net.zero_grad()
    (weight * rate().square().mean()).backward()


def lines(row: Row) -> Iterator[str]:
    wire = row["link"]
    yield (
        f"{row['network']}, T={row['T']}, B={row['B']}, {row['ranks']} ranks on {row['cores']} cores; link "
        f"{wire['latency_us']:.0f} us, {wire['bandwidth_gb_s']:.1f} GB/s"
    )
    yield f"  {'':<28}{'median ms':>10}{'low':>8}{'high':>8}{'speed-up':>10}{'predicted':>11}{'of measured':>13}"
    one = row["median_ms"]["one rank"]
    for name, ms in row["median_ms"].items():
        low, high = row["quartiles_ms"][name]
        predicted = row["predicted_ms"][name]
        yield f"  {name:<28}{ms:>10.1f}{low:>8.1f}{high:>8.1f}{one / ms:>10.2f}{predicted:>11.1f}{predicted / ms:>13.2f}"
