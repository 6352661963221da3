"""The explorer of memory over time: what each policy keeps of T steps, predicted and measured, and what that costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.explore.base.controls import Choice, Scale, moved
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.policies import figure, tasks
from tfexplore.explore.policies.curves import Curves, Point, cosine, measured
from tfexplore.explore.policies.policies import BY_NAME, POLICIES, held
from tfexplore.measure import clock

STEPS = (4, 10, 16, 32, 64, 128, 256)
BATCHES = (1, 4, 16, 64)
GROUPS = {
    "all": lambda policy: True,
    "with BPTT's gradient": lambda policy: policy.exact,
    "that cut the gradient": lambda policy: not policy.exact,
}
ROUNDS, ENOUGH = 3, 0.3
"""Timed at every T; where one round of all policies takes longer than so many seconds, once."""


class MemoryOverTime(Runner):
    """Memory of a training step over the number of time steps T, for the policies that keep more or less of them.

    Backpropagation through time (BPTT) with each choice of what layers keep; checkpointing in chunks of time; truncated BPTT
    and SLTT, which cut the gradient; reversible levels with their states, two bits of each, or the last states only. What each
    saves for backward is predicted from the equations; Start then runs a training step of each at every T, counts the peak of
    memory, times it, and compares its gradient with that of BPTT.

    Args:
        net: a network of yours, which maps `[T, B, ...]` to `[T, B, ...]` (a `ReversibleTime` may return its mean over time);
            without it, a small one is trained on digits.
        x: its input, of shape `[T, B, *features]`. One that is the same at every step, `image.expand(T, ...)`, is shown for as
            many steps as are asked for; of another the first.
        network: "levels" (three reversible levels), "conv" or "mlp".
        batch: images in a training step: 1, 4, 16 or 64.
        longest: the largest T, of 4, 10, 16, 32, 64, 128 and 256; of yours, as far as x goes.
        policies: which: "all", "with BPTT's gradient", "that cut the gradient"; or a list of names, such as ["SLTT"].
        dtype: "float32" or "float64", in which an inverse goes further.
        device: "cpu" or "cuda"; by default the GPU, if there is one, and that of x.

    Controls: shown, policies, longest; for the small networks also network, batch, dtype; start, stop.

    Result: `tfexplore.explore.policies.curves.Curves`, with a `Point` (memory, seconds, cosine) for each policy and T.

    Raises:
        TypeError: if net or x is missing, or no network or tensor.
        ValueError: if an argument is none of those allowed.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> result = asyncio.run(explore.memory_over_time(network="mlp", longest=16).run())
        >>> held = {name: points[16].memory.held for name, points in result.points.items()}
        >>> held["SLTT"] < held["checkpointing"] < held["BPTT"]
        True

    Checkpointing: Chen et al., 2016. SLTT: Meng et al., ICCV 2023. Reversible levels: T-RevSNN, Hu et al., ICML 2024.
    """

    caption = (
        "Left: memory of a training step against the number of time steps, on logarithmic axes. Dotted: what is saved for "
        "backward, predicted from the equations. Signs: counted while it runs; the peak also has gradients and whatever is in "
        "flight. Right: the time of the step in units of backpropagation through time (BPTT)."
    )

    shown = Choice(
        "memory shown", [figure.HELD, figure.SAVED], help="all that tensors hold at once, or what autograd saves"
    )
    network = Choice("network", tasks.NETWORKS)
    policies = Choice("policies", list(GROUPS), help="BPTT is always shown: the others are compared with it")
    batch = Scale("images in a batch", {size: str(size) for size in BATCHES})
    longest = Scale("largest T", {steps: str(steps) for steps in STEPS[1:]}, help="time steps")
    dtype = Choice("number format", ["float32", "float64"], help="in float64 an inverse goes further")

    def __init__(
        self, net: nn.Module | None = None, x: Tensor | None = None, *, network: str = "levels", batch: int = 16,
        longest: int = 32, policies: str | Sequence[str] = "all", dtype: str = "float32", device: str | None = None,
    ) -> None:  # fmt: skip
        if (net is None) != (x is None):
            raise TypeError(
                "memory_over_time takes your network and its input together, memory_over_time(net, x), or neither."
            )
        self.net, self.x, self.names = net, x, tuple(BY_NAME)
        own: dict[str, Any] = dict(network=network, batch=batch, dtype=dtype)  # noqa: C408
        if not isinstance(policies, str):
            self.names, own["policies"] = tuple(policies), None
            if unknown := [name for name in self.names if name not in BY_NAME]:
                raise ValueError(f"policies must be of {', '.join(map(repr, BY_NAME))}, but got {unknown[0]!r}.")
        else:
            own["policies"] = policies
        most = STEPS[-1]
        if net is not None and x is not None:
            tasks.own(net, x)
            own |= dict.fromkeys(("network", "batch", "dtype"))
            most = STEPS[-1] if held(x) else len(x)
            if most < STEPS[0]:
                raise ValueError(f"x must have at least {STEPS[0]} time steps, but got shape {tuple(x.shape)}.")
            longest = max(steps for steps in STEPS if steps <= min(most, longest))
        self.device = str(x.device) if x is not None else clock.or_gpu(device)
        allowed = {steps: str(steps) for steps in STEPS if steps <= most}
        super().__init__(longest=Scale("largest T", allowed, value=longest, help="time steps"), **own)

    # -- what the controls do --------------------------------------------------------------------------------------

    def look(self) -> Curves:
        if self.net is not None and self.x is not None:
            task, what = tasks.own(self.net, self.x), f"{type(self.net).__name__}, a batch of {self.x.shape[1]}"
        else:
            task = tasks.task(self.network, self.longest, self.batch, self.device, getattr(torch, self.dtype))
            what = f"{tasks.NETWORKS[self.network]}, {self.batch} images, {self.dtype}"
        wanted = GROUPS[self.policies] if "policies" in self.controls else lambda policy: policy.name in self.names
        names = tuple(policy.name for policy in POLICIES if wanted(policy))
        return Curves.of(task, tuple(steps for steps in STEPS if steps <= self.longest), names, what)

    def work(self, result: Curves) -> Iterator[object]:
        self.say_compiling(self.device)
        for steps in result.steps:
            task, runs, found = result.task.over(steps), result.runs(steps), {}
            began = time.perf_counter()
            for policy in runs:
                yield (step := self.in_background(partial(measured, task, policy)))
                found[policy] = step.result()
            quick = time.perf_counter() - began < ENOUGH
            taken: dict[str, list[float]] = {}
            work = {policy.name: partial(policy.step, task) for policy in runs}
            yield from self.in_turn(work, ROUNDS * quick, ENOUGH, self.device, taken)
            for policy, (memory, gradient) in found.items():
                same = cosine(gradient, found[runs[0]][1])
                points = result.points.setdefault(policy.name, {})
                points[steps] = Point(memory, statistics.median(taken[policy.name]), same)
            self.show_memory()

    # -- what is shown ---------------------------------------------------------------------------------------------

    @moved("shown")
    def show_memory(self) -> None:
        """Another memory is shown, or there is more of it."""
        self.draw()
        self.say(self.sentence())

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.shown)
