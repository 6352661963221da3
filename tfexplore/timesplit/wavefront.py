"""The schedule of a time split, timed: when each rank runs each layer, from what layers and messages cost.

The ranks work as a wavefront over (layer, rank): rank p runs its layers one after the other, and a layer with a hidden state
first waits for the state that rank p-1 has at the cut. The backward pass is the same in reverse.

    begin = max(end of the layer before on this rank, arrival of the state)        end = begin + seconds of this layer

It is the schedule that `TimeSplit` runs: all micro-batches forward, a small all-reduce for the loss, all micro-batches backward
in reverse order, then one all-reduce of the weights' gradients. A BatchNorm over all ranks is a barrier: two small all-reduces
in each pass.

All that a rank has to remember is one number: how long it has waited so far. It only grows, so for all layers at once it is a
cumulative maximum: `wavefront` loops over the ranks, many plans side by side, and never over layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np


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


class Stretch(NamedTuple):
    """What every rank runs from one barrier to the next, for several plans at once."""

    kind: str  # "forward" or "backward"
    ends_pass: bool
    rows: list[tuple[int, Cost]]  # (micro-batch, layer), in order
    rate: np.ndarray  # [plans, rows], seconds per time step
    call: np.ndarray  # [rows], seconds
    stateful: np.ndarray  # [rows], truth values
    transfer: np.ndarray  # [plans, stateful rows], seconds for which a state occupies the link


def stretches_of(costs: Sequence[Cost], shares: np.ndarray, link: Link) -> list[Stretch]:
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
            found.append(Stretch(kind, end == len(walk), own, share * rate, call, state > 0, transfer))
    return found


def wavefront(stretches: list[Stretch], ranks: list[int], steps: int, link: Link) -> Iterator[tuple[np.ndarray, ...]]:
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


def seconds_of(
    costs: Sequence[Cost], steps: int, batch: int, link: Link, plans: Sequence[tuple[int, int]], parts: int
) -> np.ndarray:
    """The seconds of many plans (ranks, replicas) side by side, those with most ranks first."""
    stretches = stretches_of(costs, shares_of(batch, [d for _, d in plans], parts), link)
    rate = np.stack([stretch.rate.sum(1) for stretch in stretches], axis=1)
    call = np.array([stretch.call.sum() for stretch in stretches])
    ends = np.zeros(rate.shape)  # of each stretch, by the last rank
    for lengths, waited in wavefront(stretches, [p for p, _ in plans], steps, link):
        n = len(lengths)
        np.maximum(ends[:n], waited[..., -1] + lengths * rate[:n] + call, out=ends[:n])
    sums = np.array([sums_of(costs, link, *p) for p in plans]).reshape(-1, 3) @ [
        2 * sum(c.barrier for c in costs),
        1,
        1,
    ]
    return ends.sum(1) + sums


def sums_of(costs: Sequence[Cost], link: Link, ranks: int, replicas: int) -> tuple[float, float, float]:
    """Seconds of the all-reduces: two of a BatchNorm's statistics, the loss's (both latency only), that of the gradients."""
    devices, weights = ranks * replicas, sum(cost.weights for cost in costs)
    return 2 * link.all_reduce(0, devices), link.all_reduce(0, ranks), link.all_reduce(weights, devices)


def lengths_of(whole: int, parts: int) -> np.ndarray:
    """The lengths that `torch.tensor_split` gives."""
    return whole // parts + (np.arange(parts) < whole % parts)


def shares_of(batch: int, replicas: Sequence[int], parts: int) -> np.ndarray:
    """The fraction of the batch in each micro-batch of a replica that has the most samples [plans, parts]."""
    return np.array([lengths_of(-(-batch // d), parts) / batch for d in replicas]).reshape(-1, parts)
