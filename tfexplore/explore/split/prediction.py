"""Time splitting, planned: what a training step costs on P devices, and how many of them pay, beside data parallelism."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from tfexplore.measure import results
from tfexplore.timesplit.plan import Cost, Plan, Sweep, best, plan, rule, sweep

MEASURED_BATCH = 64
Seconds = TypeVar("Seconds", float, np.ndarray)


def recorded() -> tuple[list[Cost], str]:
    """One block (linear, LIF) of 256 neurons as it was measured, for a batch of 64, and on which machine."""
    for record in results.records(benchmark="split"):
        for row in record.rows:
            if (row["network"], row["B"], row["ranks"]) == ("mlp", MEASURED_BATCH, 2) and "costs" in row:
                linear, lif = (Cost(**cost) for cost in row["costs"][2:4])
                return [replace(linear, layer="linear"), replace(lif, layer="lif")], record.machine
    raise FileNotFoundError("no measured costs of layers are recorded; run `tfexplore bench split`, or give costs=.")


def blocks(costs: list[Cost], layers: int, batch: int, measured_batch: int, barrier: bool = False) -> list[Cost]:
    """The costs of `layers` blocks at another batch: what grows with the batch, and what does not.

    barrier: every layer without a state waits for all ranks, as BatchNorm does.
    """
    scale = batch / measured_batch
    found = []
    for k in range(1, layers + 1):
        for cost in costs:
            grown = {name: scale * getattr(cost, name) for name in ("forward", "backward", "state", "kept")}
            found.append(replace(cost, layer=f"{cost.layer}{k}", **grown, barrier=barrier and not cost.state))
    return found


@dataclass(frozen=True)
class Prediction:
    """The plan of the chosen devices, and what is predicted for other numbers of them.

    Args:
        plan: of one training step.
        machine: where the costs of the layers were measured.
    """

    plan: Plan
    machine: str

    @cached_property
    def sweep(self) -> Sweep:
        """Seconds for every number of devices."""
        p = self.plan
        return sweep(p.costs, p.steps, p.batch, p.link, micro_batches=p.micro_batches)

    @cached_property
    def fastest(self) -> Plan:
        """Split in time, on as many devices as are fastest."""
        p = self.plan
        ranks = best(p.costs, p.steps, p.batch, p.link, p.micro_batches)
        return plan(p.costs, p.steps, p.batch, p.link, ranks, p.micro_batches)

    @property
    def best(self) -> int:
        """The fastest number of devices."""
        return self.fastest.ranks

    def speedup(self, seconds: Seconds) -> Seconds:
        """How many times as fast as one device."""
        return self.one.seconds / seconds

    @cached_property
    def one(self) -> Plan:
        """The whole on one device."""
        p = self.plan
        return plan(p.costs, p.steps, p.batch, p.link)

    @property
    def rule(self) -> float:
        """sqrt(T_s / T_c): one device's seconds, and what every further one adds: a message each way, its rounds of the two
        sums, and the calls of a layer whose state it waits for a second time."""
        p = self.plan
        stateful = [cost for cost in p.costs if cost.state]
        message = max(p.link.message(cost.state / p.micro_batches) for cost in stateful)
        calls = max(cost.forward_call + cost.backward_call for cost in stateful)
        return rule(self.one.seconds, 2 * message + 4 * p.link.latency + calls)

    @cached_property
    def data_parallel(self) -> Plan | None:
        """The same devices, each with a part of the batch; None where there are fewer samples than devices."""
        p = self.plan
        return plan(p.costs, p.steps, p.batch, p.link, replicas=p.ranks) if p.ranks <= p.batch else None

    def sentence(self) -> str:
        """What the devices do together, beside data parallelism and the fastest number of them."""
        p, barrier = self.plan, any(cost.barrier for cost in self.plan.costs)
        took = f"{1e3 * p.seconds:.3g} ms a training step, {self.times(p.seconds)} as one"
        waits = f"each waits {p.bubble:.0%} of the time and needs {size(p.memory().max())}"
        found = [f"{p.ranks} device{'s' * (p.ranks > 1)}: {took}; {waits}."]
        if p.ranks > 1:
            if other := self.data_parallel:
                found.append(f"Data parallel: {self.times(other.seconds)}, {size(other.memory().max())} each.")
            else:
                found.append(f"Data parallelism cannot use them: a batch of {p.batch} for {p.ranks} devices.")
            both = sweep(p.costs, p.steps, p.batch, p.link, [p.ranks], p.micro_batches)
            parts, faster = int(both.replicas[0]), self.times(float(both.combined[0]))
            found.append(
                f"Both together: {faster} ({parts} part{'s' * (parts > 1)} of the batch × {p.ranks // parts} of time)."
            )
        says = "" if barrier else f"; the rule √(T_s/T_c) says {self.rule:.0f}"
        found.append(f"Time splitting is fastest with {self.best} ({self.times(self.fastest.seconds)}){says}.")
        return " ".join([*found, f"Costs of layers: measured on {self.machine}."])

    def times(self, seconds: float) -> str:
        """In words, how much faster than one device."""
        return f"{self.speedup(seconds):.3g} times as fast"


def size(nbytes: float) -> str:
    """Bytes for people.

    >>> size(3 * 2**20)
    '3 MiB'
    """
    unit = min(3, int(math.log2(max(nbytes, 1)) // 10))
    return f"{nbytes / 2 ** (10 * unit):.3g} {('B', 'KiB', 'MiB', 'GiB')[unit]}"
