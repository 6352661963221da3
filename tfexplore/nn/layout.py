"""How the neurons of a tensor lie in memory: kernels see [T, N], with the neurons in the order in which they lie."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

Order: TypeAlias = tuple[int, ...] | None
"""The axes after time, outermost in memory first; None where that is the order in which they are named."""


def memory_order(x: Tensor) -> Order:
    """x's axes after time, outermost in memory first, if that is not as they are named but each step lies without gaps.

    The neurons of a layer are independent, so those of a channels-last x are walked as they lie, without a copy.

    >>> memory_order(torch.zeros(4, 2, 3, 5, 5)), memory_order(torch.zeros(4, 2, 5, 5, 3).movedim(-1, 2))
    (None, (1, 3, 4, 2))
    """
    if x.is_contiguous():
        return None
    order = tuple(sorted(range(1, x.ndim), key=x.stride, reverse=True))
    return order if x.permute(0, *order).is_contiguous() else None


def flattened(x: Tensor, order: Order) -> Tensor:
    """`[K, *shape]` -> [K, N], the neurons in this order of axes."""
    return (x if order is None else x.permute(0, *order)).reshape(len(x), math.prod(x.shape[1:]))


def unflattened(flat: Tensor, shape: torch.Size, order: Order) -> Tensor:
    """[K, N], the neurons in this order of axes -> `[K, *shape]`."""
    if order is None:
        return flat.view(len(flat), *shape)
    return as_named(flat.view(len(flat), *(shape[axis - 1] for axis in order)), order)


def as_in_memory(x: Tensor, order: Order) -> Tensor:
    """`[K, *shape]` -> contiguous, the axes in this order; a part of a larger tensor is copied.

    Saved for backward, the part would keep all of the larger one alive.
    """
    lying = x if order is None else x.permute(0, *order)
    return lying if lying.is_contiguous() else flattened(lying, None).view(lying.shape)


def as_named(lying: Tensor, order: Order) -> Tensor:
    """`[K, *shape in this order of axes]` -> `[K, *shape]`."""
    if order is None:
        return lying
    return lying.permute(0, *(1 + order.index(axis) for axis in range(1, lying.ndim)))
