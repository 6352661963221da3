"""Sums over all ranks as autograd functions. Three of them, since a gradient depends on how the ranks use the sum.

==========  ========================================================  ==============================================
function    forward pass                                              backward pass
==========  ========================================================  ==============================================
replicate   every rank uses the same value for its own time steps     the gradients are summed over the ranks
total       a sum over the ranks, for a loss that all compute alike   the gradient as it is, counted once
all_reduce  a sum over the ranks, which each uses for its own steps   the gradients are summed over the ranks
==========  ========================================================  ==============================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tfexplore.timesplit.ranks import Ranks


def replicate(
    ranks: Ranks, x: Tensor, parameters: Sequence[Tensor], done: Callable[[], None]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """An anchor, x, and the parameters for this rank's use.

    What depends on the anchor runs before all of them in the backward pass, whichever of their gradients is requested.

    Args:
        done: called in the backward pass when everything that depends on them has run.
    """
    anchor, own, *replicas = Replicate.apply(ranks, done, x, *(parameters or [torch.zeros((), requires_grad=True)]))
    return anchor, own if x.requires_grad else x, replicas if parameters else []


def total(ranks: Ranks, value: Tensor, what: str = "the others' part of the loss") -> Tensor:
    found: Tensor = Sum.apply(value, ranks, what, False)
    return found


def all_reduce(ranks: Ranks, value: Tensor, what: str) -> Tensor:
    found: Tensor = Sum.apply(value, ranks, what, True)
    return found


class Replicate(torch.autograd.Function):
    """One node for all parameters: its backward runs last, when all their gradients are there, and sums them at once."""

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
        ctx.done()  # all layers have run
        ranks.wait_sent()
        found: list[Tensor | None] = [None] * len(gradients)
        for dtype, device in dict.fromkeys((dtype, device) for _, dtype, device in ctx.kinds):
            mine = [k for k, kind in enumerate(ctx.kinds) if kind[1:] == (dtype, device)]
            # ahead of the values, how many ranks have a gradient: one that no rank has stays None, as without time splitting
            has = torch.tensor([gradients[k] is not None for k in mine], dtype=dtype, device=device)
            parts = [
                torch.zeros(ctx.kinds[k][0], dtype=dtype, device=device) if (g := gradients[k]) is None else g
                for k in mine
            ]
            summed = ranks.all_reduce(torch.cat([has, *(part.flatten() for part in parts)]), "the weights' gradients")
            counts, values = summed[: len(mine)].tolist(), summed[len(mine) :].split([part.numel() for part in parts])
            for k, count, value in zip(mine, counts, values, strict=True):
                found[k] = value.view(ctx.kinds[k][0]).clone() if count else None
        return (None, None, g_x, *found)


class Sum(torch.autograd.Function):
    """The sum over the ranks; with `reduce_gradient`, the gradient is summed over the ranks as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks, what: str, reduce_gradient: bool) -> Tensor:
        ctx.ranks, ctx.what, ctx.reduce_gradient = ranks, what, reduce_gradient
        return ranks.all_reduce(value, what)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.reduce_gradient:
            gradient = ctx.ranks.all_reduce(gradient, f"the gradient of {ctx.what}")
        return gradient, None, None, None
