"""The plan of a time split: how long a training step takes on P ranks, predicted from what each layer costs on one.

`plan` predicts one step in detail; `sweep`, `best` and `rule` compare numbers of ranks, beside data parallelism. The schedule and
its arithmetic are in `wavefront.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tfexplore.measure.timeline import Event
from tfexplore.neurons.parameters import checked_count
from tfexplore.timesplit.wavefront import (
    Cost,
    Link,
    lengths_of,
    seconds_of,
    shares_of,
    stretches_of,
    sums_of,
    wavefront,
)

DEVICES = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 192, 256, 384, 512, 768, 1024)
"""The numbers of devices that `sweep` tries; `best` tries none beyond the last."""


@dataclass(frozen=True)
class Plan:
    """A training step as `plan` predicts it: the arguments of `plan`, and the `seconds`.

    Where the samples do not divide, some replicas have one more: busy, memory and events are those of such a replica.
    """

    costs: tuple[Cost, ...]
    steps: int
    batch: int
    link: Link
    ranks: int
    micro_batches: int
    replicas: int
    seconds: float

    @property
    def segments(self) -> list[tuple[int, int]]:
        """The time steps first <= t < last of each rank."""
        return list(pairwise([0, *lengths_of(self.steps, self.ranks).cumsum().tolist()]))

    @property
    def busy(self) -> np.ndarray:
        """Seconds of computation of each rank."""
        per_step = sum(cost.forward + cost.backward for cost in self.costs)
        calls = sum(cost.forward_call + cost.backward_call for cost in self.costs)
        return self._work * per_step + self.micro_batches * calls

    @property
    def bubble(self) -> float:
        """The fraction of all ranks' time without computation: waits and all-reduces."""
        return max(0.0, 1 - float(self.busy.mean()) / self.seconds) if self.seconds else 0.0

    @property
    def speedup(self) -> float:
        """The seconds of one rank that takes the whole batch at once, divided by those of this plan."""
        return plan(self.costs, self.steps, self.batch, self.link).seconds / self.seconds if self.seconds else 1.0

    def memory(self, copies: int = 4) -> np.ndarray:
        """Bytes on each rank: what is saved for backward, and `copies` of the weights (4: gradients and Adam's two moments)."""
        return self._work * sum(cost.kept for cost in self.costs) + copies * sum(cost.weights for cost in self.costs)

    @property
    def _work(self) -> np.ndarray:
        """Of each rank, in time steps of the whole batch."""
        return lengths_of(self.steps, self.ranks) * shares_of(self.batch, [self.replicas], 1)[0]

    def events(self) -> list[Event]:
        """Everything that the ranks do, in the order in which it ends; no two events of a rank overlap.

        An event's `device` is "rank 0", ..., its `part` the micro-batch. Its `kind` is "forward" or "backward" for the work of a
        layer; "wait" for the state of `layer`, or for the other ranks before an all-reduce; "sum" for the all-reduce of a
        BatchNorm's statistics, of the "loss" or of the "weights".
        """
        stretches = stretches_of(self.costs, shares_of(self.batch, [self.replicas], self.micro_batches), self.link)
        walk = list(wavefront(stretches, [self.ranks], self.steps, self.link))
        statistics, loss, weights = sums_of(self.costs, self.link, self.ranks, self.replicas)
        segments, done, events = self.segments, [0.0] * self.ranks, list[Event]()

        def add(rank: int, layer: str, begin: float, end: float, kind: str, part: int = 0) -> None:
            event = Event(layer, *segments[rank], f"rank {rank}", begin, end, kind, 0, 0, 0, part=part)
            if begin - done[rank] > 1e-12 * self.seconds:  # less is rounding
                events.append(replace(event, begin=done[rank], end=begin, kind="wait"))
            if end > begin or kind != "sum":
                events.append(event)
            done[rank] = end

        for k, stretch in enumerate(stretches):
            now, last = max(done), stretch.rows[-1][1]
            for turn, (lengths, waited) in enumerate(walk):
                rank = turn if stretch.kind == "forward" else self.ranks - 1 - turn
                work = now + np.cumsum([0.0, *(lengths[0, k] * stretch.rate[0] + stretch.call)])
                so_far = np.append(0.0, waited[0, k])[np.cumsum(stretch.stateful)]
                begins, ends = (work[:-1] + so_far).tolist(), (work[1:] + so_far).tolist()
                for (part, cost), begin, end in zip(stretch.rows, begins, ends, strict=True):
                    add(rank, cost.layer, begin, end, stretch.kind, part)
            of_pass = ("loss", loss) if stretch.kind == "forward" else ("weights", weights)
            for what, seconds in [(last.layer, statistics)] * last.barrier + [of_pass] * stretch.ends_pass:
                now = max(done)
                for rank in range(self.ranks):
                    add(rank, what, now, now + seconds, "sum")
        return sorted(events, key=lambda event: event.end)


def plan(
    costs: Iterable[Cost], steps: int, batch: int, link: Link, ranks: int = 1, micro_batches: int = 1, replicas: int = 1
) -> Plan:
    """Predicts the seconds of one training step whose time steps are split over ranks.

    Args:
        costs: the cost of each layer, in the order of the network.
        steps: time steps T; where they do not divide, the first ranks have one more.
        batch: samples.
        link: the link between the ranks.
        ranks: ranks that share the time steps.
        micro_batches: parts of the batch, which follow each other through the ranks.
        replicas: data parallelism on top: groups of `ranks` ranks that share the batch, and all-reduce the gradients.

    Returns:
        A `Plan` with the seconds, and from it each rank's work, waits and memory.

    Raises:
        ValueError: a count is less than 1, there are more ranks than steps or more parts than samples, or a barrier meets
            micro-batches.

    Example:
        Two equal layers, on two ranks with two steps each: three turns in each pass instead of four; each rank is idle for one.

        >>> costs = [Cost(name, forward=0.5, backward=1.0, state=8) for name in "ab"]
        >>> halves = plan(costs, steps=4, batch=1, link=Link(latency=0, bandwidth=math.inf), ranks=2)
        >>> halves.seconds, halves.busy.tolist()                           # one rank takes 12.0
        (9.0, [6.0, 6.0])
        >>> for event in halves.events()[:4]:
        ...     print(event.device, event.kind, event.layer, event.begin, event.end)
        rank 0 forward a 0.0 1.0
        rank 1 wait a 0.0 1.0
        rank 0 forward b 1.0 2.0
        rank 1 forward a 1.0 2.0
    """
    costs = tuple(costs)
    _whole("the number of costs", len(costs))
    _whole("steps", steps)
    _whole("batch", batch)
    _whole("ranks", ranks, steps, f"each takes at least one of the {steps} time steps")
    _whole("replicas", replicas, batch, f"each takes at least one of the {batch} samples")
    _whole("micro_batches", micro_batches, batch // replicas, "each takes at least one sample of every replica")
    barrier = next((cost.layer for cost in costs if cost.barrier), None)
    if barrier is not None and micro_batches > 1:
        raise ValueError(f"{barrier!r} takes its mean over the whole batch: use micro_batches=1, not {micro_batches}.")
    seconds = float(seconds_of(costs, steps, batch, link, [(ranks, replicas)], micro_batches)[0])
    return Plan(costs, steps, batch, link, ranks, micro_batches, replicas, seconds)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Predicted seconds for several numbers of devices; NaN where there are fewer time steps or samples than devices.

    Attributes:
        devices: the numbers of devices.
        time_splitting: seconds with P = devices ranks.
        data_parallel: seconds with D = devices replicas of one rank each, without micro-batches.
        combined: seconds of the fastest D x P = devices.
        replicas: the D of `combined`; 0 where there is none.
    """

    devices: np.ndarray
    time_splitting: np.ndarray
    data_parallel: np.ndarray
    combined: np.ndarray
    replicas: np.ndarray


def sweep(
    costs: Iterable[Cost], steps: int, batch: int, link: Link, devices: list[int] | None = None, micro_batches: int = 1
) -> Sweep:
    """Predicts the seconds for many numbers of devices: split in time, data-parallel, and the fastest combination of both.

    Data parallelism ends where the samples do; time splitting goes on, and the two multiply.

    Args:
        costs: as for `plan`, and so are `steps`, `batch`, `link` and `micro_batches`.
        devices: the numbers of devices; by default `DEVICES`, up to the time steps.

    Returns:
        A `Sweep`.

    Raises:
        ValueError: as for `plan`.

    Example:
        >>> costs = [Cost(f"lif {k}", forward=1e-4, backward=2e-4, state=1e4) for k in range(8)]
        >>> found = sweep(costs, steps=64, batch=4, link=Link(latency=1e-5, bandwidth=1e9), devices=[1, 4, 16])
        >>> for row in zip(found.devices, found.time_splitting, found.data_parallel, found.combined, found.replicas):
        ...     print("{:2}: {:.4f} {:.4f} {:.4f} with D = {}".format(*row))
         1: 0.1536 0.1536 0.1536 with D = 1
         4: 0.0530 0.0385 0.0385 with D = 4
        16: 0.0288 nan 0.0136 with D = 4
    """
    costs = plan(costs, steps, batch, link, micro_batches=micro_batches).costs  # checked
    counts = sorted({n for n in DEVICES if n < steps} | {min(steps, DEVICES[-1])}) if devices is None else devices
    for count in counts:
        _whole("devices", count)

    def seconds(pairs: list[tuple[int, int]], parts: int) -> dict[tuple[int, int], float]:
        return dict(zip(pairs, seconds_of(costs, steps, batch, link, pairs, parts).tolist(), strict=True))

    pairs = sorted({pair for n in counts for pair in _divisions(n, steps, batch)}, reverse=True)  # most ranks first
    split = seconds([(p, d) for p, d in pairs if (p > 1 or d == 1) and d <= batch // micro_batches], micro_batches)
    parallel = seconds(
        [(p, d) for p, d in pairs if p == 1], 1
    )  # they wait for none: micro-batches would only cost calls
    fastest = []
    for n in counts:
        candidates = [
            (way[p, d], d) for way in (split, parallel) for p, d in _divisions(n, steps, batch) if (p, d) in way
        ]
        fastest.append(min(candidates, default=(math.nan, 0)))
    return Sweep(
        devices=np.array(counts, dtype=int),
        time_splitting=np.array([split.get((n, 1), math.nan) for n in counts]),
        data_parallel=np.array([parallel.get((1, n), math.nan) for n in counts]),
        combined=np.array([least for least, _ in fastest]),
        replicas=np.array([d for _, d in fastest], dtype=int),
    )


def _divisions(devices: int, steps: int, batch: int) -> list[tuple[int, int]]:
    """All (ranks, replicas) whose product is `devices`, with a time step for each rank and a sample for each replica."""
    return [(devices // d, d) for d in range(1, min(devices, batch) + 1) if devices % d == 0 and devices // d <= steps]


def best(costs: Iterable[Cost], steps: int, batch: int, link: Link, micro_batches: int = 1) -> int:
    """The number of ranks with the smallest predicted seconds, up to the time steps or 1,024.

    All numbers up to 64 are tried, and from there those that shorten the longest or the shortest rank: between them, one more
    rank is mostly one more message (where layers differ widely, the minimum over all numbers may be a few per cent lower).

    Args:
        costs: as for `plan`, and so are the others.

    Raises:
        ValueError: as for `plan`.

    Example:
        >>> costs = [Cost(f"lif {k}", forward=1e-4, backward=2e-4, state=1e4) for k in range(8)]
        >>> best(costs, steps=64, batch=4, link=Link(latency=1e-3, bandwidth=1e9))
        5
    """
    costs = plan(costs, steps, batch, link, micro_batches=micro_batches).costs  # checked
    up_to = range(min(steps, DEVICES[-1]), 0, -1)
    tried = [p for p in up_to if p <= 64 or steps // p < steps // (p - 1) or -steps // p > -steps // (p - 1)]
    seconds = seconds_of(costs, steps, batch, link, [(p, 1) for p in tried], micro_batches)
    return min(zip(seconds.tolist(), tried, strict=True))[1]


def rule(serial: float, communication: float) -> float:
    """The rule of thumb for the best number of ranks: the root of `serial / communication`.

    With L layers and M micro-batches, one rank takes L * M turns of T_s / (L * M) seconds, a slot. On P ranks a turn takes a
    P-th of that, and the last rank begins P - 1 turns and messages late:

        seconds = T_s / P + (P - 1) * (slot / P + T_c)

    The derivative by P, -(T_s - slot) / P**2 + T_c, is zero at P = sqrt((T_s - slot) / T_c); a slot is a small part of T_s.

    Args:
        serial: T_s, the seconds of one rank.
        communication: T_c, the seconds that each further rank adds: a message in each pass, its rounds of the all-reduces.

    Raises:
        ValueError: one of them is negative.

    Example:
        >>> rule(serial=1.0, communication=1e-4)
        100.0
    """
    if not (serial >= 0 and communication >= 0):
        raise ValueError(f"serial and communication must be seconds from 0 on, but got {serial!r}, {communication!r}.")
    return math.sqrt(serial / communication) if communication else math.inf


def _whole(name: str, value: int, most: int | None = None, why: str = "") -> None:
    checked_count(name, value)
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, since {why}, but got {value}; use fewer.")
