"""The plan of a time split: how long a training step takes on P ranks, predicted from what each layer costs on one.

The ranks work as a wavefront over (layer, rank): rank p runs its layers one after the other, and a layer with a hidden state
first waits for the state that rank p-1 has at the cut. The backward pass is the same in reverse.

    begin = max(end of the layer before on this rank, arrival of the state)        end = begin + seconds of this layer

It is the schedule that `TimeSplit` runs: all micro-batches forward, a small all-reduce for the loss, all micro-batches backward
in reverse order, then one all-reduce of the weights' gradients. A BatchNorm over all ranks is a barrier: two small all-reduces
in each pass.

All that a rank has to remember is one number: how long it has waited so far. It only grows, so for all layers at once it is a
cumulative maximum: `_wavefront` loops over the ranks, many plans side by side, and never over layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tfexplore.measure.timeline import Event
from tfexplore.neurons.parameters import checked_count

DEVICES = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 192, 256, 384, 512, 768, 1024)
"""The numbers of devices that `sweep` tries; `best` tries none beyond the last."""


@dataclass(frozen=True)
class Cost:
    """What one layer costs on one device: a row of the (layer, time) grid.

    Args:
        layer: its name.
        forward: seconds per time step of the forward pass, for the whole batch.
        backward: the same of the backward pass.
        forward_call: seconds per call, which fewer time steps or a smaller batch do not save (launches).
        backward_call: the same of the backward pass.
        state: bytes that cross the cut, for the whole batch; 0 for a layer without hidden state: it sends and receives nothing.
        kept: bytes per time step that are saved for backward, for the whole batch.
        weights: bytes of its weights.
        barrier: no rank continues before all have run the layer: BatchNorm with the statistics of all time steps.

    Raises:
        ValueError: a number is negative or not finite.
    """

    layer: str
    forward: float
    backward: float
    forward_call: float = 0.0
    backward_call: float = 0.0
    state: float = 0.0
    kept: float = 0.0
    weights: float = 0.0
    barrier: bool = False

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items())[1:]:
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} of {self.layer!r} must be finite, from 0 on, but got {value!r}.")


@dataclass(frozen=True)
class Link:
    """The link between neighbouring ranks. A message starts when all bytes of the one before are on the wire.

    Args:
        latency: seconds that every message takes, however small.
        bandwidth: bytes per second.

    Raises:
        ValueError: `latency` is negative or not finite, or `bandwidth` is not greater than 0.

    Example:
        >>> link = Link(latency=0.5, bandwidth=1e9)
        >>> link.message(2e9), link.all_reduce(2e9, ranks=4)               # six rounds, of a quarter of the bytes each
        (2.5, 6.0)
    """

    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        if not (0 <= self.latency < math.inf and self.bandwidth > 0):
            raise ValueError(f"latency must be finite, from 0 on, and bandwidth more than 0, but got {self!r}.")

    def message(self, nbytes: float) -> float:
        """Seconds of one message, from the send until all bytes have arrived: latency + nbytes / bandwidth."""
        return self.latency + nbytes / self.bandwidth

    def all_reduce(self, nbytes: float, ranks: int) -> float:
        """Seconds of an all-reduce by a ring: a reduce-scatter of P-1 rounds, then an all-gather of P-1 rounds."""
        return 2 * (ranks - 1) * (self.latency + nbytes / (ranks * self.bandwidth))


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
    def pieces(self) -> list[tuple[int, int]]:
        """The time steps first <= t < last of each rank."""
        return list(pairwise([0, *_lengths(self.steps, self.ranks).cumsum().tolist()]))

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
        return _lengths(self.steps, self.ranks) * _shares(self.batch, [self.replicas], 1)[0]

    def events(self) -> list[Event]:
        """Everything that the ranks do, in the order in which it ends; no two events of a rank overlap.

        An event's `device` is "rank 0", ..., its `part` the micro-batch. Its `kind` is "forward" or "backward" for the work of a
        layer; "wait" for the state of `layer`, or for the other ranks before an all-reduce; "sum" for the all-reduce of a
        BatchNorm's statistics, of the "loss" or of the "weights".
        """
        stretches = _stretches(self.costs, _shares(self.batch, [self.replicas], self.micro_batches), self.link)
        walk = list(_wavefront(stretches, [self.ranks], self.steps, self.link))
        statistics, loss, weights = _sums(self.costs, self.link, self.ranks, self.replicas)
        pieces, done, events = self.pieces, [0.0] * self.ranks, list[Event]()

        def add(rank: int, layer: str, begin: float, end: float, kind: str, part: int = 0) -> None:
            event = Event(layer, *pieces[rank], f"rank {rank}", begin, end, kind, 0, 0, 0, part=part)
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
    seconds = float(_seconds(costs, steps, batch, link, [(ranks, replicas)], micro_batches)[0])
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
        return dict(zip(pairs, _seconds(costs, steps, batch, link, pairs, parts).tolist(), strict=True))

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
        4
    """
    costs = plan(costs, steps, batch, link, micro_batches=micro_batches).costs  # checked
    up_to = range(min(steps, DEVICES[-1]), 0, -1)
    tried = [p for p in up_to if p <= 64 or steps // p < steps // (p - 1) or -steps // p > -steps // (p - 1)]
    seconds = _seconds(costs, steps, batch, link, [(p, 1) for p in tried], micro_batches)
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


class _Stretch(NamedTuple):
    """What every rank runs from one barrier to the next, for several plans at once."""

    kind: str  # "forward" or "backward"
    ends_pass: bool
    rows: list[tuple[int, Cost]]  # (micro-batch, layer), in order
    rate: np.ndarray  # [plans, rows], seconds per time step
    call: np.ndarray  # [rows], seconds
    stateful: np.ndarray  # [rows], truth values
    transfer: np.ndarray  # [plans, stateful rows], seconds for which a state occupies the link


def _stretches(costs: Sequence[Cost], shares: np.ndarray, link: Link) -> list[_Stretch]:
    """Both passes, cut after each barrier; shares [plans, micro-batches] of the batch."""
    found = []
    rows = [(part, cost) for part in range(shares.shape[1]) for cost in costs]
    for kind, walk in (("forward", rows), ("backward", rows[::-1])):
        cuts = [k for k, (_, cost) in enumerate(walk[:-1], 1) if cost.barrier]
        for begin, end in pairwise([0, *cuts, len(walk)]):
            own = walk[begin:end]
            share = shares[:, [part for part, _ in own]]
            rate, call, state = np.array([(getattr(c, kind), getattr(c, f"{kind}_call"), c.state) for _, c in own]).T
            transfer = (share * state / link.bandwidth)[:, state > 0]
            found.append(_Stretch(kind, end == len(walk), own, share * rate, call, state > 0, transfer))
    return found


def _wavefront(stretches: list[_Stretch], ranks: list[int], steps: int, link: Link) -> Iterator[tuple[np.ndarray, ...]]:
    """Rank by rank, in the order of the wave: its time steps [plans, stretches], and its total wait before each stateful row
    [plans, stretches, rows]; of those plans that have this rank (plans with most ranks come first).

    A rank leaves a row after its waits and its own work so far. A state is on the wire once all messages before it have been.
    The next rank has waited until all states so far have arrived, less its own work before them. Both are maxima over all rows
    so far.
    """
    shape = (len(ranks), len(stretches), max([1, *(stretch.transfer.shape[1] for stretch in stretches)]))
    before, after = (
        np.zeros(shape),
        np.zeros(shape),
    )  # own work up to a row, and including it: seconds per time step ...
    enter, leave = np.full(
        (2, *shape), -np.inf
    )  # ... and everything else; where there is no row, nothing arrives or leaves
    for k, (_, _, _, rate, call, stateful, transfer) in enumerate(stretches):
        rates, calls, sent, rows = rate.cumsum(1), call.cumsum(), transfer.cumsum(1), np.s_[:, k, : transfer.shape[1]]
        before[rows], after[rows] = (rates - rate)[:, stateful], rates[:, stateful]
        enter[rows], leave[rows] = sent + link.latency - (calls - call)[stateful], calls[stateful] - (sent - transfer)

    count, forward = np.array(ranks, dtype=int)[:, None], np.array([stretch.kind == "forward" for stretch in stretches])
    extra = (
        steps % count
    )  # the number of ranks with one more step: the first ones, which the backward pass reaches last
    lengths = steps // count + forward * (extra > 0)
    enter, leave = enter - lengths[..., None] * before, leave + lengths[..., None] * after
    change = np.where(extra > 0, np.where(forward, extra, count - extra), 0)
    wire = np.full(shape, -np.inf)
    for turn, active in enumerate((count > np.arange(max(ranks, default=0))).sum(0).tolist()):
        if turn and (change == turn).any():
            at = np.nonzero(change == turn)
            more = np.where(forward[at[1]], -1, 1)
            lengths[at] += more
            enter[at] -= more[:, None] * before[at]
            leave[at] += more[:, None] * after[at]
        waited = wire[:active] + enter[:active]
        np.maximum(waited[..., 0], 0, out=waited[..., 0])
        np.maximum.accumulate(waited, axis=-1, out=waited)
        yield lengths[:active].copy(), waited
        wire = np.maximum.accumulate(waited + leave[:active], axis=-1)


def _seconds(
    costs: Sequence[Cost], steps: int, batch: int, link: Link, plans: Sequence[tuple[int, int]], parts: int
) -> np.ndarray:
    """The seconds of many plans (ranks, replicas) side by side, those with most ranks first."""
    stretches = _stretches(costs, _shares(batch, [d for _, d in plans], parts), link)
    rate = np.stack([stretch.rate.sum(1) for stretch in stretches], axis=1)
    call = np.array([stretch.call.sum() for stretch in stretches])
    ends = np.zeros(rate.shape)  # of each stretch, by the last rank
    for lengths, waited in _wavefront(stretches, [p for p, _ in plans], steps, link):
        n = len(lengths)
        np.maximum(ends[:n], waited[..., -1] + lengths * rate[:n] + call, out=ends[:n])
    sums = np.array([_sums(costs, link, *p) for p in plans]).reshape(-1, 3) @ [2 * sum(c.barrier for c in costs), 1, 1]
    return ends.sum(1) + sums


def _sums(costs: Sequence[Cost], link: Link, ranks: int, replicas: int) -> tuple[float, float, float]:
    """Seconds of the all-reduces: two of a BatchNorm's statistics, the loss's (both latency only), that of the gradients."""
    devices, weights = ranks * replicas, sum(cost.weights for cost in costs)
    return 2 * link.all_reduce(0, devices), link.all_reduce(0, ranks), link.all_reduce(weights, devices)


def _lengths(whole: int, parts: int) -> np.ndarray:
    """The lengths that `torch.tensor_split` gives."""
    return whole // parts + (np.arange(parts) < whole % parts)


def _shares(batch: int, replicas: Sequence[int], parts: int) -> np.ndarray:
    """The fraction of the batch in each micro-batch of a replica that has the most samples [plans, parts]."""
    return np.array([_lengths(-(-batch // d), parts) / batch for d in replicas]).reshape(-1, parts)


def _whole(name: str, value: int, most: int | None = None, why: str = "") -> None:
    checked_count(name, value)
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, since {why}, but got {value}; use fewer.")
