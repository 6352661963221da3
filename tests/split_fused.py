"""What the processes of the tests of fused BatchNorms run (as in split_jobs.py)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import tfexplore
from tests.cases import noise
from tests.split_jobs import apart, seeded
from tfexplore import FoldTime, fuse
from tfexplore.timesplit import TimeSplit

T, B, C, H, W = 6, 4, 3, 4, 5


def conv_net() -> nn.Sequential:
    first = FoldTime(nn.Conv2d(2, C, 3, bias=False), nn.BatchNorm2d(C))
    second = FoldTime(nn.Flatten(), nn.Linear(C * 4, 5, bias=False), nn.BatchNorm1d(5, momentum=None))
    return nn.Sequential(
        first, tfexplore.LIF(v_threshold=0.4), second, tfexplore.ParametricLIF(channels=5), nn.Linear(5, 3)
    )


def synchronised(ranks: Any, uneven: bool) -> dict[str, float]:
    """torch's SyncBatchNorm, fused, with a part of the batch on each rank, against one process with all of it."""
    x = 2 * noise(T, B + 1, C, H, W, seed=0, dtype=torch.float64) + 0.7
    g = noise(*x.shape, seed=1, dtype=torch.float64)
    cuts = [slice(0, 1 if uneven else 2), slice(1 if uneven else 2, None if uneven else 4)]
    mine, whole = cuts[ranks.rank], slice(0, None if uneven else 4)
    one, other = nn.SyncBatchNorm(C, momentum=0.3).double(), nn.BatchNorm2d(C, momentum=0.3).double()
    one.load_state_dict(other.state_dict())
    layer = tfexplore.ParametricLIF(v_threshold=0.4).double()
    found = x[:, mine].clone().requires_grad_()
    out = layer(found, batch_norm=one)
    gradients = torch.autograd.grad(out, [found, one.weight, one.bias], g[:, mine])
    summed = [each.clone() for each in gradients[1:]]  # of the parameters: DistributedDataParallel would add them up
    for each in summed:
        dist.all_reduce(each)
    wanted = x[:, whole].clone().requires_grad_()
    expected = layer(other(wanted.flatten(0, 1)).unflatten(0, wanted.shape[:2]))
    theirs = torch.autograd.grad(expected, [wanted, other.weight, other.bias], g[:, whole])
    pairs = {"out": (out, expected[:, mine]), "x": (gradients[0], theirs[0][:, mine]), "weight": (summed[0], theirs[1]),
             "bias": (summed[1], theirs[2]), "mean": (one.running_mean, other.running_mean),
             "variance": (one.running_var, other.running_var)}  # fmt: skip
    return {name: apart(*pair) for name, pair in pairs.items()}


def split_apart(ranks: Any) -> list[float]:
    """A fused network, split in time, against the network in one process."""
    other, net = seeded(conv_net), fuse(seeded(conv_net))
    x = noise(13, B, 2, 4, 4, seed=0, dtype=torch.float64) + 0.3
    split = TimeSplit(net, ranks=ranks)
    differences = []
    for _ in range(2):
        other.zero_grad()
        net.zero_grad()
        expected = other(x)
        expected.mean(0).square().sum().backward()
        own = split.segment(x)
        out = split(own)
        split.mean(out).square().sum().backward()
        differences.append(apart(split.whole(out), expected))
        differences += [apart(p.grad, q.grad) for p, q in zip(net.parameters(), other.parameters(), strict=True)]
        differences += [apart(p.double(), q.double()) for p, q in zip(net.buffers(), other.buffers(), strict=True)]
    assert not any("all_reduce" in vars(module) or "forward" in vars(module) for module in net.modules())
    return differences
