"""Sums over all ranks as autograd functions. Three of them, as a value's gradient depends on what the ranks do with it.

share      everybody has the same value, and uses it for its own piece of time     gradient: the sum over the ranks
total      the sum of everybody's value, for a loss that all compute alike         gradient: as it comes, counted once
mix        the sum of everybody's value, which each uses for its own piece         gradient: the sum over the ranks
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tfexplore.timesplit.ranks import Ranks


def share(
    ranks: Ranks, x: Tensor, parameters: Sequence[Tensor], done: Callable[[], None]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """An anchor, x, and the parameters for this rank's use. What hangs on the anchor comes before all of them on the way back,
    whichever of them a gradient is asked for.

    done: called when all that hangs on them is through with its way back.
    """
    anchor, own, *shared = Share.apply(ranks, done, x, *(parameters or [torch.zeros((), requires_grad=True)]))
    return anchor, own if x.requires_grad else x, shared if parameters else []


def total(ranks: Ranks, value: Tensor, what: str = "the others' part of the loss") -> Tensor:
    found: Tensor = Sum.apply(value, ranks, what, False)
    return found


def mix(ranks: Ranks, value: Tensor, what: str) -> Tensor:
    found: Tensor = Sum.apply(value, ranks, what, True)
    return found


class Share(torch.autograd.Function):
    """One node for all parameters: its backward comes last, when all their gradients are there, and sums them up at once."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, done: Callable[[], None], x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks, ctx.done = ranks, done
        ctx.set_materialize_grads(False)
        ctx.kinds = [(p.shape, p.dtype, p.device) for p in parameters]
        return (parameters[0].new_zeros(()), x.view_as(x), *(p.view_as(p) for p in parameters))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, _: Tensor | None, g_x: Tensor | None, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        ranks: Ranks = ctx.ranks
        ctx.done()  # all layers are through
        ranks.sent()
        found: list[Tensor | None] = [None] * len(gradients)
        for dtype, device in dict.fromkeys((dtype, device) for _, dtype, device in ctx.kinds):
            mine = [k for k, kind in enumerate(ctx.kinds) if kind[1:] == (dtype, device)]
            # ahead of the values, how many ranks have a gradient: one that no rank has stays None, as without time splitting
            has = torch.tensor([gradients[k] is not None for k in mine], dtype=dtype, device=device)
            parts = [
                torch.zeros(ctx.kinds[k][0], dtype=dtype, device=device) if (g := gradients[k]) is None else g
                for k in mine
            ]
            summed = ranks.sum(torch.cat([has, *(part.flatten() for part in parts)]), "the weights' gradients")
            counts, values = summed[: len(mine)].tolist(), summed[len(mine) :].split([part.numel() for part in parts])
            for k, count, value in zip(mine, counts, values, strict=True):
                found[k] = value.view(ctx.kinds[k][0]).clone() if count else None
        return (None, None, g_x, *found)


class Sum(torch.autograd.Function):
    """mixed: each rank uses the sum for itself, so that its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks, what: str, mixed: bool) -> Tensor:
        ctx.ranks, ctx.what, ctx.mixed = ranks, what, mixed
        return ranks.sum(value, what)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.ranks.sum(gradient, f"the gradient of {ctx.what}") if ctx.mixed else gradient, None, None, None
