"""What is found out about the policies over T: predicted and measured memory, the time of a training step, and its gradient."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import cosine_similarity

from tfexplore.explore.policies import predicted
from tfexplore.explore.policies.policies import BPTT, Policy, Task, gradient, policies_of
from tfexplore.measure.peaks import Peak, peak

MIB = 2**20


@dataclass(frozen=True)
class Point:
    """A policy at one T. memory: bytes.   cosine: of the gradient with that of backpropagation through time."""

    memory: Peak
    seconds: float
    cosine: float


EXACT = 0.9995
"""The cosine from which a gradient counts as that of BPTT."""


@dataclass
class Curves:
    """The policies of a network, and what is known of each.

    Args:
        task: a training step; `task.over(T)` is that of T time steps.
        steps: every T.
        policies: by which it is run.
        what: the network and its batch, in words.
        reasons: why a policy has no point, by its name and T.
        saved: bytes that are predicted to be saved for backward, by name and T.
        points: what has been measured so far, by name and T.
    """

    task: Task
    steps: tuple[int, ...]
    policies: list[Policy]
    what: str
    reasons: dict[str, dict[int, str]] = field(default_factory=dict)
    saved: dict[str, dict[int, float]] = field(default_factory=dict)
    points: dict[str, dict[int, Point]] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, steps: tuple[int, ...], names: tuple[str, ...], what: str) -> Curves:
        """The predictions alone. names: of the policies; backpropagation through time is always among them."""
        made = cls(task, steps, [p for p in policies_of(task) if p.name in names or p is BPTT], what)
        graphs: dict[str, predicted.Graph] = {}
        for policy in made.policies:
            for count in steps:
                if reason := policy.why_not(each := task.over(count)):
                    made.reasons.setdefault(policy.name, {})[count] = reason
                    continue
                graph = graphs[policy.keep] = graphs.get(policy.keep) or predicted.Graph.of(each, policy)
                if (size := predicted.saved(each, policy, graph)) is not None:
                    made.saved.setdefault(policy.name, {})[count] = size
        return made

    def runs(self, steps: int) -> list[Policy]:
        """The policies that can be run over so many steps, backpropagation through time first."""
        return [policy for policy in self.policies if steps not in self.reasons.get(policy.name, {})]

    def line(self, policy: Policy, value: Callable[[Point], float]) -> tuple[list[int], list[float]]:
        """T and a value of each point that has been measured."""
        found = self.points.get(policy.name, {})
        return list(found), [value(point) for point in found.values()]

    def relative(self, policy: Policy) -> tuple[list[int], list[float]]:
        """T, and the time of a step in units of backpropagation through time."""
        base = self.points.get(BPTT.name, {})
        found = {steps: point for steps, point in self.points.get(policy.name, {}).items() if steps in base}
        return list(found), [point.seconds / base[steps].seconds for steps, point in found.items()]

    def sentence(self) -> str:
        """Of the largest T that is measured."""
        done = [steps for steps in self.steps if steps in self.points.get(BPTT.name, {})]
        if not done:
            last = self.steps[-1]
            said = ", ".join(
                f"{policy.name} {mebibytes(self.saved[policy.name][last])}"
                for policy in self.policies
                if last in self.saved.get(policy.name, {})
            )
            return f"{self.what}: predicted to save at T = {last}: {said}. Press Start to measure."
        last = done[-1]
        here = {policy.name: self.points[policy.name][last] for policy in self.runs(last)}
        base = here.pop(BPTT.name)
        parts = [f"{self.what[:1].upper()}{self.what[1:]}: at T = {last} BPTT holds {mebibytes(base.memory.held)}"]
        for words, exact in (("of what has its gradient too", True), ("of what cuts it", False)):
            fit = {name: point for name, point in here.items() if (point.cosine > EXACT) == exact}
            if fit:
                name, point = min(fit.items(), key=lambda pair: pair[1].memory.held)
                least = f"{words}, {name} holds the least, {mebibytes(point.memory.held)}"
                parts.append(least + ("" if exact else f", and its cosine is {point.cosine:.2f}"))
        refused = [
            f" No {name!r} there: {re.split('[:;]', why[last])[0]}."
            for name, why in self.reasons.items()
            if last in why
        ]
        return "; ".join(parts) + "." + "".join(refused)


def measured(task: Task, policy: Policy) -> tuple[Peak, Tensor]:
    """The memory of a training step, and its gradient."""
    task.net.zero_grad(set_to_none=True)
    found = peak(lambda: policy.step(task), [task.x, *task.net.parameters(), *task.net.buffers()])
    return found, gradient(task)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(cosine_similarity(a.double(), b.double(), 0))


def mebibytes(count: float) -> str:
    """
    >>> mebibytes(12.9e6), mebibytes(1000)
    ('12.3 MiB', '0.000954 MiB')
    """
    return f"{count / MIB:.3g} MiB"
