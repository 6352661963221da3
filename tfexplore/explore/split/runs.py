"""Time splitting, run: training steps of real processes on this machine, and what each of them did when."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from torch import nn

from tfexplore.measure.timeline import Event
from tfexplore.nn import library
from tfexplore.timesplit.costs import costs, link, mean_costs
from tfexplore.timesplit.events import rank_events
from tfexplore.timesplit.plan import Cost, Link, Plan
from tfexplore.timesplit.ranks import Ranks
from tfexplore.timesplit.split import TimeSplit
from tfexplore.timesplit.standin import StandIn

WAITING, COMPUTING = NETWORKS = ("layers that only wait", "linear and LIF layers")
BATCH, FEATURES = 8, 256
PASSES = 5
"""Training steps that are run; the one of median length is shown."""


def network(kind: str, blocks: int) -> nn.Module:
    """The same on every rank: layers that sleep, as if each rank were a device of its own, or that compute."""
    torch.manual_seed(0)
    parts: dict[str, nn.Module] = {}
    for k in range(1, blocks + 1):
        if kind == WAITING:
            parts[f"layer{k}"] = StandIn(seconds=4e-5)
        else:
            parts |= {f"linear{k}": nn.Linear(FEATURES, FEATURES), f"lif{k}": library.LIF(v_threshold=0.3)}
    return nn.Sequential(OrderedDict(parts))


def inputs(kind: str, steps: int) -> torch.Tensor:
    """Input for `network`, [T, B, features]."""
    return torch.rand(steps, BATCH, 8 if kind == WAITING else FEATURES)


def prepared(group: Ranks, kind: str, blocks: int, steps: int) -> tuple[list[Cost], Link]:
    """On every rank: what the layers cost while all are at work, and the link; a free one where there is only one rank."""
    found = mean_costs(group.all_gather_object(costs(network(kind, blocks), inputs(kind, steps), group, runs=3)))
    return found, link(group) if group.size > 1 else Link(latency=0.0, bandwidth=float("inf"))


def one_pass(group: Ranks, kind: str, blocks: int, steps: int, micro_batches: int) -> tuple[float, list[Event]]:
    """On every rank: one training step, timed and recorded, after one that warms up."""
    split = TimeSplit(network(kind, blocks), micro_batches=micro_batches, ranks=group)
    x = inputs(kind, steps)
    split.mean(split(split.segment(x))).square().mean().backward()
    with rank_events(split) as events:
        group.all_gather([0])
        begin = time.perf_counter()
        split.mean(split(split.segment(x))).square().mean().backward()
        group.all_gather([0])
        seconds = time.perf_counter() - begin
    return seconds, events


def alone(group: Ranks, kind: str, blocks: int, steps: int) -> float:
    """On every rank: the seconds of a whole training step on the first one; the others wait for it."""
    net, x = network(kind, blocks), inputs(kind, steps)
    group.all_gather([0])
    begin = time.perf_counter()
    if group.first:
        net(x).mean(0).square().mean().backward()
    group.all_gather([0])
    return time.perf_counter() - begin


@dataclass
class Runs:
    """The training steps so far.

    Args:
        ranks: how many processes there are.
        network: the kind of its layers.
        machine: where it ran.
        seconds: of each training step.
        runs: the events of each.
        alone: seconds of the same step on one process.
        plan: of this step, from the measured costs of the layers.
    """

    ranks: int
    network: str
    machine: str
    seconds: list[float] = field(default_factory=list)
    runs: list[list[Event]] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    plan: Plan | None = None

    @property
    def events(self) -> list[Event]:
        """Those of the step of median length, from the first layer's work on."""
        if not self.runs:
            return []
        middle = sorted(range(len(self.runs)), key=self.seconds.__getitem__)[len(self.runs) // 2]
        begin = min(event.begin for event in self.runs[middle] if event.kind == "forward")
        return [event.moved(-begin) for event in self.runs[middle] if event.begin >= begin]

    def waiting(self) -> float:
        """The fraction of all ranks' time in which they wait."""
        events = self.events
        waited = sum(event.end - event.begin for event in events if event.kind == "wait")
        return waited / (self.ranks * max(event.end for event in events))

    def sentence(self) -> str:
        """How fast the steps were, how long the ranks waited, and what was planned."""
        if not self.seconds:
            return "Press Start: it starts the processes, and draws what each of them does in a training step."
        took = statistics.median(self.seconds)
        found = f"{self.ranks} process{'es' * (self.ranks > 1)}: {1e3 * took:.3g} ms a training step"
        found += f" (median of {len(self.seconds)})"
        if self.alone:
            found += f", {statistics.median(self.alone) / took:.2f} times as fast as one"
        found += f"; {'they' if self.ranks > 1 else 'it'} waited {self.waiting():.0%} of the time."
        if self.plan is not None:
            share = self.plan.seconds / took
            found += f" Planned: {1e3 * self.plan.seconds:.3g} ms, {share:.2f} of what was measured."
        return f"{found} ({self.machine}.)"
