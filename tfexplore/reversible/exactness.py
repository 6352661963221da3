"""How exactly the inverse holds: for a network and an input, the states found backwards against those that were there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from tfexplore.nn import constant
from tfexplore.nn.checks import check_input
from tfexplore.reversible.backward import run
from tfexplore.reversible.levels import ReversibleTime
from tfexplore.reversible.reading import seen
from tfexplore.reversible.recompute import Generators, drawn, set_generators, undrawn
from tfexplore.reversible.safety import MANTISSA, Choice, lost
from tfexplore.reversible.walk import Plan, walk

Levels: TypeAlias = list[Tensor]
Walked: TypeAlias = list[Levels]
"""The levels behind each step."""


@dataclass(frozen=True)
class Exactness:
    """The inverse from the last state alone, beside what was there; T steps, L levels.

    Args:
        states: the largest error of a level's state behind each step, `[L, T]`; in the units of the state.
        flips: how many neurons are seen differently behind each step, `[L, T]`: their spike, or whether its gradient passes;
            0 where levels are read as numbers.
        neurons: of each level, the batch included.
        bound: what rounding alone predicts for the error behind each step, `[T]`: the largest state times
            :math:`2^{-m} \\sum_j |\\alpha|^{-j}`, with m bits of mantissa.
        gradient: the relative error of the weights' gradient by the inverse against that of BPTT, in the 2-norm.
        cosine: their cosine similarity.
    """

    states: np.ndarray
    flips: np.ndarray
    neurons: tuple[int, ...]
    bound: np.ndarray
    gradient: float
    cosine: float

    @property
    def verdict(self) -> str:
        """What becomes of the weights' gradient."""
        if not np.isfinite(self.gradient):
            return "is no number any more"
        if self.gradient == 0:
            return "is that of BPTT, bit for bit"
        return f"is off by {short(self.gradient)}, with a cosine of {self.cosine:.4f} to that of BPTT"

    def __str__(self) -> str:
        states, flips = self.states.max(0), self.flips.sum(0)
        back = len(states) - 1
        words = [f"{back} steps back the states are off by {short(states[0])}"]
        if flips.any():
            first = back - int(np.flatnonzero(flips)[-1])
            words.append(f"the first comparisons flip {first} steps back, {int(flips.sum()):,} in total")
        return "; ".join([*words, f"the weights' gradient {self.verdict}"]) + "."


def short(size: float) -> str:
    """
    >>> short(0.00012), short(0.33), short(210.0), short(2.3e6)
    ('1.2e-04', '0.33', '210', '2.3e+06')
    """
    return f"{size:.2g}" if 0.01 <= size < 100 else f"{size:.0f}" if 100 <= size < 1e4 else f"{size:.1e}"


def error(net: ReversibleTime, x: Tensor) -> Exactness:
    """How exactly `keep="last"` would hold for this network and input, also where it is refused.

    The gradients are those of a fixed random projection of the output. Running statistics, random generators and gradients stay
    as they are.

    Args:
        net: a `ReversibleTime`, in training or evaluation.
        x: its input `[T, B, *features]`.

    Returns:
        An `Exactness`; printed, it is one sentence.

    Example:
        >>> from tfexplore.reversible import Level, ReversibleTime, error
        >>> net = ReversibleTime([Level(nn.Linear(4, 8), nn.Linear(6, 8)), Level(nn.Linear(8, 6))], channels=(8, 6))
        >>> found = error(net, torch.rand(8, 3, 4))
        >>> found.states.shape, bool(found.states.max() < 1e-3)
        ((2, 8), True)
    """
    if not isinstance(net, ReversibleTime) or not any(p.requires_grad for p in net.parameters()):
        raise TypeError(f"net must be a ReversibleTime whose weights are trained, but got {type(net).__name__}.")
    check_input(x)
    x = x.detach()
    plan, alphas = net.plan(x, None, Choice("graph", "")), [alpha.detach() for alpha in net.alphas]
    there, found = walks(net, x)
    outcomes, refound = ([list(map(partial(compared, plan), levels)) for levels in walked] for walked in (there, found))
    if isinstance(net.read, nn.Identity):
        refound = outcomes
    states = table(there, found, lambda a, b: (a - b).abs().max())
    flips = table(outcomes, refound, lambda a, b: (a != b).any(0).sum())
    largest = max(c.abs().max().item() for levels in there for c in levels)
    least = min(alpha.abs().min().item() for alpha in alphas)
    back = np.arange(plan.steps)[::-1]
    bound = np.array([largest * 2.0 ** (lost(int(k), least) - MANTISSA[plan.dtype]) if k else 0.0 for k in back])
    exact, inverted = (gradient_of(net, x, Choice(name, "")) for name in ("graph", "last"))
    size, neurons = exact.norm() * inverted.norm(), tuple(c.numel() for c in there[-1])
    off, cosine = float((exact - inverted).norm() / exact.norm()), float(exact @ inverted / size)
    return Exactness(states, flips.astype(int), neurons, bound, off, cosine)


def compared(plan: Plan, state: Tensor) -> Tensor:
    """What the other levels see of a level, and the slope with which its gradient passes."""
    made = seen(plan.see, state)
    return torch.stack([made.values, made.back(torch.ones_like(made.values)).to(made.values.dtype)])


def table(one: Walked, other: Walked, differ: Callable[[Tensor, Tensor], Tensor]) -> np.ndarray:
    """[L, T]"""
    steps = zip(one, other, strict=True)
    return np.array([[differ(a, b).item() for a, b in zip(*step, strict=True)] for step in steps]).T


def walks(net: ReversibleTime, x: Tensor) -> tuple[Walked, Walked]:
    """The levels behind each step, and as the inverse finds them from the last; nothing of it stays in the network."""
    plan, current, alphas = net.plan(x, None, Choice("graph", "")), constant.current(x), net.alphas
    draws: dict[tuple[int, int], Generators | None] = {}

    def call(t: int, level: int, module: nn.Module, below: Tensor, above: Tensor | None) -> Tensor:
        made, draws[t, level] = drawn(lambda: module(below, above), x.device)
        return made

    def both() -> tuple[Walked, Walked]:
        there = [levels for _, levels, _ in walk(plan, current, alphas, (), call)]
        return there, list(inverse(plan, current, alphas, there[-1], draws))[::-1]

    with torch.no_grad(), undrawn(x):
        return plan.holder().again({}, both)


def inverse(
    plan: Plan, x: Tensor, alphas: Sequence[Tensor], last: Levels, draws: dict[tuple[int, int], Generators | None]
) -> Iterator[Levels]:
    """The levels behind each step, from the last one back to the first."""
    now = last
    yield now
    for t in reversed(range(1, plan.steps)):
        before: Levels = []  # from the top down: a level's feedback is the one above a step earlier
        for k in reversed(range(len(now))):
            below = plan.step_of(x, t) if k == 0 else plan.see(now[k - 1])
            if (state := draws[t, k]) is not None:
                set_generators(state, x.device)
            made = plan.at(t)[k](below, plan.see(before[-1]) if before else None).to(plan.dtype)
            before.append((now[k] - made) / plan.alpha(alphas, k, t, made))
        now = before[::-1]
        yield now


def gradient_of(net: ReversibleTime, x: Tensor, choice: Choice) -> Tensor:
    """The gradient of all weights and alphas, in one row, of a fixed projection of the output."""
    plan, weights = net.plan(x, None, choice), [p for p in net.parameters() if p.requires_grad]
    before = {b: b.clone() for b in net.buffers()}
    with torch.enable_grad(), undrawn(x):
        out = run(plan, constant.current(x), net.alphas, ())[0]
        projection = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)
        found = torch.autograd.grad((out * projection).sum(), weights, allow_unused=True)
    with torch.no_grad():
        for b, value in before.items():
            b.copy_(value)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(weights, found, strict=True)])
