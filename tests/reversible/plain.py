"""The recurrence as a plain loop in torch, differentiated by autograd: nothing of tfexplore is imported here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class ClampAndRound(torch.autograd.Function):
    """1 where c >= 0.5; backward: the gradient of clamping to [0, 1]."""

    @staticmethod
    def forward(ctx: Any, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return (c >= 0.5).to(c.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors
        return gradients[0] * ((c >= 0) & (c <= 1)).to(c.dtype)


def spikes(c: Tensor) -> Tensor:
    made: Tensor = ClampAndRound.apply(c)
    return made


def recurrence(
    levels: Sequence[Sequence[nn.Module]],
    alphas: Sequence[Tensor],
    x: Tensor,
    read: Callable[[Tensor], Tensor] = spikes,
    state: Sequence[Tensor] | None = None,
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The levels behind each step, [1, B, C, ...] each, and the last; levels [T][L] or [1][L], alphas [C] or [T, C]."""
    count = len(alphas)
    c: list[Any] = [None] * count if state is None else [z[None] for z in state]
    seen: list[Any] = [None if z is None or k == 0 else read(z) for k, z in enumerate(c)]
    walked = []
    for t in range(len(x)):
        for k, module in enumerate(levels[t % len(levels)]):
            made = module(x[t : t + 1] if k == 0 else seen[k - 1], seen[k + 1] if k + 1 < count else None)
            alpha = alphas[k] if alphas[k].ndim == 1 else alphas[k][t]
            made = made.to(alpha.dtype) if made.dtype != x.dtype and made.dtype == torch.bfloat16 else made
            c[k] = made if c[k] is None else made + alpha.reshape(-1, *[1] * (made.ndim - 3)) * c[k]
            if count > 1:
                seen[k] = read(c[k])
        walked.append(list(c))
    return walked, [z[0] for z in c]
