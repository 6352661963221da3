"""What the processes of the tests of faults run: one rank does something else; each of them returns what it has raised."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import tfexplore
from tests.split_jobs import data, mlp, normed, seeded
from tfexplore import LIF, neurons
from tfexplore.timesplit import TimeSplit


def outcome(work: Callable[[], Any]) -> tuple[str, str, float]:
    """What was raised, and after how many seconds."""
    begin = time.monotonic()
    try:
        work()
    except Exception as error:  # noqa: BLE001  (the test looks at it)
        return type(error).__name__, str(error), time.monotonic() - begin
    return "nothing", "", time.monotonic() - begin


class Failing(nn.Module):
    def __init__(self, rank: int, where: str) -> None:
        super().__init__()
        self.rank, self.where = rank, where

    def forward(self, x: Tensor) -> Tensor:
        if dist.get_rank() != self.rank:
            return x * 1
        if self.where == "forward":
            raise ArithmeticError("a mistake in the network")
        if self.where == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.where == "hangs":
            time.sleep(60)
        if self.where == "another width":
            return torch.cat([x, x], -1)
        out = x * 1
        if self.where == "backward":
            out.register_hook(self.fail)
        return out

    def fail(self, gradient: Tensor) -> Tensor:
        raise ArithmeticError("a mistake in the backward pass")


def step_with(ranks: Any, where: str, rank: int = 1) -> tuple[str, str, float]:
    net = nn.Sequential(nn.Linear(12, 8), LIF(v_threshold=0.2), Failing(rank, where), LIF(v_threshold=0.2)).double()
    split = TimeSplit(net, ranks=ranks)
    x, _ = data(13)

    def work() -> None:
        for _ in range(2):
            split.mean(split(split.segment(x))).sum().backward()

    if where in ("backward", "hangs"):
        work()  # an error of the network itself in the backward pass is published when it leaves the group
    return outcome(work)


def fails_outside(ranks: Any) -> tuple[str, str, float]:
    """An error between two passes; the group is left with it, and the others are waiting in the next pass."""
    split = TimeSplit(seeded(mlp), ranks=ranks)
    x, _ = data(13)
    split(split.segment(x))
    if ranks.rank == 1:
        raise ArithmeticError("a mistake in the loss")
    return outcome(lambda: split(split.segment(x)))


def other_inputs(ranks: Any, what: str) -> tuple[str, str, float]:
    """One rank has another input than the rest."""
    split = TimeSplit(seeded(mlp), ranks=ranks)
    x, _ = data(13)
    odd = ranks.rank == 1
    own = split.segment(x)
    if odd:
        own = {
            "batch": own[:, :4],
            "no steps": own[:0],
            "dtype": own.float(),
            "no tensor": [1.0],
            "one axis": own[:, 0, 0],
        }[what]
    return outcome(lambda: split(own))


def other_networks(ranks: Any, what: str) -> tuple[str, str, float]:
    odd = ranks.rank == 1
    width = 11 if odd and what == "width" else 9
    neuron = neurons.ALIF() if odd and what == "neuron" else neurons.LIF(tau=3.0 if odd and what == "tau" else 2.0)
    net = nn.Sequential(nn.Linear(12, width), tfexplore.Layer(neuron))
    return outcome(lambda: TimeSplit(net, micro_batches=2 if odd and what == "micro-batches" else 1, ranks=ranks))


def too_few_steps(ranks: Any) -> tuple[str, str, float]:
    split = TimeSplit(seeded(mlp), ranks=ranks)
    return outcome(lambda: split.segment(data(ranks.size - 1)[0]))


class Moody(nn.Module):
    """Calls other layers, or in another order, by its mood."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.linear = LIF(), LIF(tau=3.0), nn.Linear(12, 12)
        self.mood = "usual"

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        if self.mood == "usual":
            return self.b(self.a(x))
        if self.mood == "turned":
            return self.a(self.b(x))
        if self.mood == "one only":
            return self.a(x)
        if self.mood == "given a state":
            return self.b(self.a(x, (torch.zeros_like(x[0]),)))
        if self.mood == "wider":
            return self.b(self.a(torch.cat([x, x], -1)))
        return x.mean(0)  # "mean"


def moods(ranks: Any, before: str | None, mood: str, odd: tuple[int, ...] = (0, 1, 2, 3)) -> tuple[str, str, float]:
    net = Moody().double()
    x, _ = data(13)
    net(x)  # loads the kernels
    split = TimeSplit(net, ranks=ranks)
    if before is not None:
        net.mood = before
        split(split.segment(x))
    net.mood = mood if ranks.rank in odd else "usual"
    return outcome(lambda: split.mean(split(split.segment(x))))


class Quarter(nn.BatchNorm1d):
    """As tdBN: more than the normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.25 * super().forward(x)


def own_norm() -> nn.Module:
    return nn.Sequential(tfexplore.FoldTime(Quarter(12)), LIF())


def memory() -> nn.Module:
    return nn.Sequential(nn.GRU(12, 12))  # refused before it is called


def refused(ranks: Any, what: str) -> tuple[str, str, float]:
    """What all ranks raise alike; the group remains usable."""
    x, _ = data(13, batch=4)
    make: Any = {"batch norm": normed, "norm of its own": own_norm, "memory of its own": memory}.get(what, mlp)
    net = seeded(make)
    split = TimeSplit(net, micro_batches={"batch norm": 2, "few": 5}.get(what, 1), ranks=ranks)
    if what == "carry":
        with tfexplore.carry(net):
            found = outcome(lambda: split(split.segment(x)))
    elif what == "recorded":
        with tfexplore.record(net):
            found = outcome(lambda: TimeSplit(net, micro_batches=2, ranks=ranks)(split.segment(x)))
    elif what == "many axes":
        found = outcome(lambda: split(split.segment(x).reshape(-1, *[1] * 7, 4 * 12)))
    elif what == "other length":
        split(split.segment(x))
        found = outcome(lambda: split.mean(x))
    else:
        found = outcome(lambda: split(split.segment(x)))
    if what in ("carry", "recorded", "many axes", "other length"):
        split(split.segment(x))  # the group is as it was
    return found


def checkpointing(ranks: Any) -> tuple[str, str, float]:
    from torch.utils.checkpoint import checkpoint

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(12, 12), LIF())

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = checkpoint(self.inner, x, use_reentrant=False)
            return out

    split = TimeSplit(Again().double(), ranks=ranks)
    x, _ = data(13)
    checkpoint(nn.Identity(), x, use_reentrant=False)  # the first one loads all of Dynamo, which is not waiting
    return outcome(lambda: split.mean(split(split.segment(x))).sum().backward())


def pid(ranks: Any) -> int:
    return os.getpid()


def sleep(ranks: Any, seconds: float) -> None:
    time.sleep(seconds)


def copied(ranks: Any) -> tuple[int, float, float]:
    """The process that started this one, and random numbers of this one."""
    return os.getppid(), random.random(), float(np.random.random())  # noqa: NPY002  (what a job may draw from)
