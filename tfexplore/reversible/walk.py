r"""The walk through the levels: in each time step from the lowest up, with s = read(c) and the input below the lowest.

.. math:: c_l[t] = F_l(s_{l-1}[t], s_{l+1}[t-1]) + \alpha_l \, c_l[t-1]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tfexplore.nn.routes import state_dtype
from tfexplore.reversible.recompute import Holder, undrawn
from tfexplore.reversible.safety import Choice

Call: TypeAlias = Callable[[int, int, nn.Module, Tensor, Tensor | None], Tensor]
"""How a level is called: the step, the level, its module, and what it sees below and above."""


@dataclass(frozen=True)
class Plan:
    """What a walk is made of besides tensors.

    Args:
        levels: the modules of each step [T][L], or of all steps [1][L].
        channels: of each level.
        read: how the levels are seen.
        choice: what is kept.
        out: the steps whose top level is returned, or "mean" over all.
        steps: T.
        dtype: of the states.
        data: of what the levels see of each other: x's.
    """

    levels: Sequence[Sequence[nn.Module]]
    channels: tuple[int, ...]
    read: nn.Module
    choice: Choice
    out: Sequence[int] | str
    steps: int
    dtype: torch.dtype
    data: torch.dtype

    def see(self, state: Tensor) -> Tensor:
        """What the other levels see of a level."""
        seen: Tensor = self.read(state)
        return seen.to(self.data)

    def at(self, t: int) -> Sequence[nn.Module]:
        return self.levels[t % len(self.levels)]

    def holder(self) -> Holder:
        return Holder([*(module for step in self.levels for module in step), self.read])

    def alpha(self, alphas: Sequence[Tensor], level: int, t: int, like: Tensor) -> Tensor:
        """The level's at this step, as it multiplies a state."""
        alpha = alphas[level]
        return (alpha[t] if alpha.ndim == 2 else alpha).to(like.dtype).view(-1, *(1,) * (like.ndim - 3))

    def step_of(self, x: Tensor, t: int) -> Tensor:
        """x at this step, [1, B, ...]; of a constant x [1, B, ...], its only one."""
        return x[t : t + 1] if len(x) > 1 else x

    def sees(self, level: int, t: int) -> bool:
        """Whether another level sees this one behind step t: the one above at once, the one below a step later."""
        return level < len(self.channels) - 1 or (level > 0 and t < self.steps - 1)

    def keeps_numbers(self, t: int) -> bool:
        """Whether the levels behind step t are kept as numbers."""
        name, anchors = self.choice.name, self.choice.anchors
        last = t == self.steps - 1 and (name == "last" or anchors is not None)
        return name == "levels" or last or (anchors is not None and (t + 1) % anchors == 0)


def plainly(t: int, level: int, module: nn.Module, below: Tensor, above: Tensor | None) -> Tensor:
    made: Tensor = module(below, above)
    return made


def walk(
    plan: Plan, x: Tensor, alphas: Sequence[Tensor], state: Sequence[Tensor], call: Call = plainly
) -> Iterator[tuple[int, list[Tensor], list[Any]]]:
    """Yields each step, the levels behind it, [1, B, C, ...] each, and what the others see of them."""
    top = len(plan.channels) - 1
    c: list[Any] = [z.unsqueeze(0) for z in state] or [None] * (top + 1)
    s: list[Any] = [plan.see(z) if z is not None and k > 0 else None for k, z in enumerate(c)]
    for t in range(plan.steps):
        for k, module in enumerate(plan.at(t)):
            below = plan.step_of(x, t) if k == 0 else s[k - 1]
            made = call(t, k, module, below, s[k + 1] if k < top else None)
            check_level(k, made, (1, below.shape[1], plan.channels[k]), c[k])
            made = made.to(plan.dtype)
            c[k] = made if c[k] is None else made + plan.alpha(alphas, k, t, made) * c[k]
            if plan.sees(k, t):
                s[k] = plan.see(c[k])
        yield t, list(c), s


def check_level(level: int, made: Any, begins: tuple[int, int, int], before: Tensor | None) -> None:
    """Raises TypeError or ValueError unless a level's module has given its state."""
    if not isinstance(made, Tensor):
        raise TypeError(f"level {level} must give a tensor [1, B, C, ...], but gave {type(made).__name__}.")
    if made.shape[:3] != begins:
        wanted = ", ".join(map(str, begins))
        raise ValueError(f"level {level} must give [1, B, C, ...] = [{wanted}, ...], but gave {list(made.shape)}.")
    if before is not None and before.shape != made.shape:
        raise ValueError(
            f"level {level} gave {list(made.shape)}, but its state has the shape {list(before.shape)}; begin anew with "
            "state=None (or a new carry) when the input changes."
        )


class Outputs:
    """The top level at the steps that are wanted [k, B, C, ...], or its mean over all [1, B, C, ...]."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.found: list[Tensor] = []

    def add(self, t: int, top: Tensor) -> None:
        if self.plan.out == "mean":
            self.found = [self.found[0] + top if self.found else top]
        elif t in self.plan.out:
            self.found.append(top)

    def made(self) -> Tensor:
        return self.found[0] / self.plan.steps if self.plan.out == "mean" else torch.cat(self.found)

    def gradient(self, g_out: Tensor | None, t: int) -> Tensor | None:
        """That of the top level behind step t."""
        if g_out is None:
            return None
        if self.plan.out == "mean":
            return g_out / self.plan.steps
        if t not in self.plan.out:
            return None
        place = self.plan.out.index(t)  # type: ignore[arg-type]
        return g_out[place : place + 1]


def unrolled(plan: Plan, x: Tensor, alphas: Sequence[Tensor], state: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The output, then the levels behind the last step: by autograd, which keeps all it wants of every step (BPTT)."""
    outputs = Outputs(plan)
    c: list[Tensor] = []
    for t, c, _ in walk(plan, x, alphas, state):
        outputs.add(t, c[-1])
    return outputs.made(), *(z.squeeze(0) for z in c)


def shapes(levels: Sequence[nn.Module], read: nn.Module, channels: tuple[int, ...], x: Tensor) -> list[torch.Size]:
    """Those of the levels' states [1, B, C, ...] for an input of one step; nothing of the step that finds them stays."""
    plan = Plan([levels], channels, read, Choice("graph", ""), (0,), 1, state_dtype(x.dtype), x.dtype)
    with torch.no_grad(), undrawn(x):
        return plan.holder().again({}, lambda: [c.shape for c in next(walk(plan, x, (), ()))[1]])
