"""What crosses from process to process in one training step: bytes and messages, counted where they are handed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tfexplore.timesplit.ranks import Ranks
from tfexplore.timesplit.split import TimeSplit

CUTS = TIME, BATCH = ("time", "batch")


class Traffic(NamedTuple):
    """What one rank handed over in a training step.

    messages: hidden states, or their gradients, sent to a neighbour.   states: bytes of these.
    sums: all-reduces that it took part in.   summed: bytes of its part in them: the loss, the weights' gradients.
    """

    messages: int
    states: int
    sums: int
    summed: int


class Counting(Ranks):
    """The same rank of the same group, which counts what it hands over."""

    def __init__(self, group: Ranks) -> None:
        super().__init__(group.group)
        self.sent: list[int] = []
        self.reduced: list[int] = []

    def isend(self, tensor: Tensor, to: int, tag: int) -> None:
        self.sent.append(tensor.nbytes)
        super().isend(tensor, to, tag)

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        self.reduced.append(tensor.nbytes)
        return super().all_reduce(tensor, what)


def traffic(group: Ranks, net: nn.Module, x: Tensor, cut: str = TIME) -> Traffic:
    """Runs one training step on every rank, after one that warms up, and counts what this rank hands over.

    The loss is the mean square of the output's mean over time. With the batch cut, the weights' gradients are summed in one
    all-reduce, as `DistributedDataParallel` does in parts. (How a sum travels is up to gloo or NCCL: in a ring, each rank
    sends nearly twice its bytes.)

    Args:
        group: the ranks; all call this function.
        net: the network, the same on every rank.
        x: the whole input `[T, B, *features]`, the same on every rank.
        cut: what is split over the ranks, "time" or "batch".

    Returns:
        The `Traffic` of this rank.

    Raises:
        ValueError: for another cut, or fewer samples, or time steps, than ranks.

    Example:
        >>> from tfexplore import LIF, timesplit
        >>> with timesplit.ranks() as group:           # one rank alone: nothing crosses but sums, with itself
        ...     timesplit.traffic(group, nn.Sequential(nn.Linear(8, 5), LIF()), torch.rand(12, 2, 8), "batch")
        Traffic(messages=0, states=0, sums=1, summed=180)
    """
    if cut not in CUTS:
        raise ValueError(f"cut must be one of {', '.join(map(repr, CUTS))}, but got {cut!r}.")
    if cut == BATCH and x.shape[1] < group.size:
        raise ValueError(f"x must have at least one sample for each of the {group.size} ranks, but has {x.shape[1]}.")
    counting = Counting(group)
    step = _split_in_time(net, x, counting) if cut == TIME else _split_in_samples(net, x, counting)
    step()  # the first one also tells the neighbours what the states are like
    counting.sent.clear()
    counting.reduced.clear()
    step()
    return Traffic(len(counting.sent), sum(counting.sent), len(counting.reduced), sum(counting.reduced))


def _split_in_time(net: nn.Module, x: Tensor, ranks: Ranks) -> Callable[[], None]:
    split = TimeSplit(net, ranks=ranks)

    def step() -> None:
        split.mean(split(split.segment(x))).square().mean().backward()

    return step


def _split_in_samples(net: nn.Module, x: Tensor, ranks: Ranks) -> Callable[[], None]:
    part = x.tensor_split(ranks.size, 1)[ranks.rank]

    def step() -> None:
        net.zero_grad()
        net(part).mean(0).square().mean().backward()
        ranks.all_reduce(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]), "the gradients")

    return step
