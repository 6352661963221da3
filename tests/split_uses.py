"""Less usual ways to use a split network, each against one process: jobs of tests/timesplit/test_timesplit_uses.py."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tfexplore
from tests.split_jobs import TwoHeads, apart, data, mlp, rate, seeded, split_loss
from tfexplore import LIF, FoldTime
from tfexplore.nn.checks import State
from tfexplore.nn.stateful import Stateful
from tfexplore.timesplit import TimeSplit


def worst(net: nn.Module, one: nn.Module) -> float:
    return max(apart(p.grad, q.grad) for p, q in zip(net.parameters(), one.parameters(), strict=True))


def gradient_of_the_input(ranks: Any, frozen: bool, alone: bool) -> float:
    """With weights that are trained or not, by `backward` or alone, by `autograd.grad`."""
    net, one = seeded(mlp).requires_grad_(not frozen), seeded(mlp)
    split = TimeSplit(net, ranks=ranks)
    x, y = data(13)
    whole, own = x.clone().requires_grad_(), split.segment(x).clone().requires_grad_()
    expected = torch.autograd.grad(rate(one(whole), y), whole)[0]
    for _ in range(2):
        own.grad = None
        loss = split_loss(split, split(own), y, "rate")
        if alone:
            (found,) = torch.autograd.grad(loss, own)
        else:
            loss.backward()
            assert own.grad is not None
            found = own.grad
    return apart(found, split.segment(expected))


def one_step(split: TimeSplit, one: nn.Module, x: Tensor, y: Tensor) -> float:
    """How far the gradients of a training step are from those of one process."""
    split.net.zero_grad()
    one.zero_grad()
    cross_entropy(split.mean(split(split.segment(x))), y).backward()
    rate(one(x), y).backward()
    return worst(split.net, one)


class Branching(TwoHeads):
    """Gives one head only; the other one runs anyway."""

    head = 0

    def forward(self, x: Tensor) -> Tensor:
        body = self.body(x)
        outs: list[Tensor] = [head(body) for head in self.heads]
        return outs[self.head]


def two_splits_and_an_unused_branch(ranks: Any) -> float:
    """A branch that runs and is not used leaves a receive posted; another split network must not match it."""
    a, b, one_a, one_b = seeded(Branching), seeded(mlp), seeded(Branching), seeded(mlp)
    splits = TimeSplit(a, ranks=ranks), TimeSplit(b, ranks=ranks), TimeSplit(b, micro_batches=2, ranks=ranks)
    x, y = data(13)
    found = 0.0
    for head in (1, 0, 1):
        a.head = one_a.head = head
        for one, split in zip((one_a, one_b, one_b), splits, strict=True):
            found = max(found, one_step(split, one, x, y))
    return found


def frozen_and_thawed(ranks: Any) -> float:
    net, one = seeded(mlp), seeded(mlp)
    split = TimeSplit(net, ranks=ranks)
    x, y = data(13)
    found = 0.0
    for trained in (False, True, False):
        for part in (net[0], one[0], net[2], one[2]):
            part.requires_grad_(trained)
        found = max(found, one_step(split, one, x, y))
    return found


class Counter(Stateful):
    """Its output does not depend on its state."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("count",)

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        before = torch.zeros_like(x[0]) if state is None else state[0]
        return x * 2, (before + x.sum(0),)


def a_state_without_effect(ranks: Any) -> float:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(12, 8), Counter(), LIF(v_threshold=0.2), nn.Linear(8, 5), Counter())

    net, one = seeded(make), seeded(make)
    split = TimeSplit(net, ranks=ranks)
    x, y = data(13)
    return max(one_step(split, one, x, y) for _ in range(2))


def stopped_inside(ranks: Any) -> float:
    """A gradient of something inside the network; then the network is used without the split."""
    net = seeded(mlp)
    split = TimeSplit(net, ranks=ranks)
    x, _ = data(13)
    out = split(split.segment(x))
    torch.autograd.grad(split.mean(out).square().sum(), out)
    return apart(tfexplore.step_by_step(net, x), net(x))


def dropped(ranks: Any) -> tuple[list[float], float]:
    """What Dropout leaves of ones on this rank, and a number drawn afterwards."""
    torch.manual_seed(7)
    split = TimeSplit(nn.Sequential(nn.Dropout(0.5)), ranks=ranks)
    out = split(torch.ones(2, 3, 8))
    return out.flatten().tolist(), float(torch.rand(()))


def half_precision(ranks: Any, dtype: str) -> tuple[float, float, bool]:
    """BatchNorm over more values than float16 can count: output and running mean against one process."""
    kind = getattr(torch, dtype)
    net, one = (nn.Sequential(FoldTime(nn.BatchNorm1d(2))) for _ in range(2))
    x = torch.rand(6, 12_001, 2, generator=torch.Generator().manual_seed(0)).to(kind)
    split = TimeSplit(net, ranks=ranks)
    out, expected = split(split.segment(x)), split.segment(one(x))
    means = [module[0][0].running_mean for module in (net, one)]
    return apart(out.float(), expected.float()), apart(means[0], means[1]), out.dtype == kind


def one_value(ranks: Any) -> str:
    split = TimeSplit(nn.Sequential(FoldTime(nn.BatchNorm1d(2))), ranks=ranks)
    try:
        split(torch.ones(1, 1, 2))
    except ValueError as error:
        return str(error)
    return "nothing"


def leaves_first(ranks: Any) -> float:
    """Rank 0 has sent its last state and leaves, when rank 1 has not posted the receive yet."""
    split = TimeSplit(seeded(mlp), ranks=ranks)
    x, _ = data(13)
    with torch.no_grad():
        split(split.segment(x))
        if ranks.rank == 1:
            time.sleep(1)
        return float(split(split.segment(x)).sum())


def twice_derived(ranks: Any) -> str:
    split = TimeSplit(seeded(mlp), ranks=ranks)
    x, y = data(13)
    out = split(split.segment(x))
    (gradient,) = torch.autograd.grad(split_loss(split, out, y, "rate"), out, create_graph=True)
    try:
        gradient.square().sum().backward()
    except RuntimeError as error:
        return str(error)
    return "nothing"


def on_a_mesh_one_hangs(ranks: Any) -> str:
    """The groups of a mesh have the timeout of `ranks`, not torch's half an hour."""
    mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "time"))
    split = TimeSplit(nn.Linear(2, 2), ranks=mesh["time"])
    if ranks.rank == 1:
        time.sleep(30)
    split(torch.rand(2, 1, 2))
    return "nothing"


def copied(ranks: Any) -> tuple[str, list[str]]:
    split = TimeSplit(seeded(mlp), ranks=ranks)
    try:
        copy.deepcopy(split)
    except TypeError as error:
        return str(error), list(copy.deepcopy(split.net).state_dict())
    return "nothing", []


def grown(ranks: Any) -> float:
    """A layer that came after wrapping."""
    net, one = seeded(mlp), seeded(mlp)
    split = TimeSplit(net, ranks=ranks)
    for changed in (net, one):
        changed.append(tfexplore.LI(tau=3.0))
    x, _ = data(13)
    return apart(split.whole(split(split.segment(x))), one(x))
