"""What the processes of the tests of costs and of the benchmark run: in a module, so that every process finds it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from benchmarks import split
from tests.split_jobs import apart
from tfexplore import LIF, step_by_step
from tfexplore.timesplit import Ranks
from tfexplore.timesplit.costs import costs
from tfexplore.timesplit.plan import Cost


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 5), LIF(keep="potential", backend="numba"), nn.Linear(5, 3))


def measured_together(ranks: Ranks) -> list[list[Cost]]:
    """By all ranks at once, and by the ranks of each replica of a mesh; what is in the way of the costs of one process is not."""
    mesh = dist.init_device_mesh("cpu", (ranks.size, 1), mesh_dim_names=("data", "time"))
    x = torch.rand(12, 2, 8)
    return [costs(net(), x, group, runs=1) for group in (ranks, Ranks(mesh["time"].get_group()))]


def measured_without_the_group(ranks: Ranks) -> str:
    try:
        costs(net(), torch.rand(12, 2, 8))
    except ValueError as error:
        return str(error)
    return ""


def apart_from_a_plain_loop(ranks: Ranks, kind: str, steps: int, batch: int) -> dict[str, float | None]:
    """One training step in float64 by each of the benchmark's ways on this rank: how far its gradients are from those of a loop
    over the time steps; None where it has none."""
    made: list[nn.Module] = []
    network: Any = split.network
    x = torch.rand(steps, batch, *split.SHAPES[kind], generator=torch.Generator().manual_seed(1)).double()
    try:
        split.network = lambda kind: made.append(network(kind).double()) or made[-1]
        ways = split.ways_of(ranks, kind, x)
    finally:
        split.network = network
    plain = network(kind).double()
    step_by_step(plain, x).mean(0).square().mean().backward()
    expected = [p.grad for p in plain.parameters()]
    assert all(float(p.abs().max()) > 1e-9 for p in expected)
    found: dict[str, float | None] = {}
    for (way, step), net in zip(ways.items(), made, strict=True):
        step()
        own = [p.grad for p in net.parameters()]
        no = all(grad is None for grad in own)
        found[way] = None if no else max(apart(a, b) for a, b in zip(own, expected, strict=True))
    return found
