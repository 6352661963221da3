"""How the neurons of a tensor lie in memory: kernels see [T, N], with the neurons in the order in which they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    return x.contiguous() if order is None else x.permute(0, *order)


def grouped(values: Sequence[Tensor], shape: torch.Size, order: Order) -> tuple[Tensor, int]:
    """Values `[channels, ...]`, which neurons of `[B, *features]` share, as columns: neuron i has (i // inner) % COUNT.

    values: each of a shape that the features begin with, where a 1 stands for any size: () for one number.
    shape: `[B, *features]`.
    order: that in which the neurons lie.

    Returns:
        [len(values), COUNT] and inner.

    >>> grouped([torch.tensor([1.0, 2.0]), torch.tensor(5.0)], torch.Size([8, 2, 4, 4]), None)
    (tensor([[1., 2.],
            [5., 5.]]), 16)
    """
    axes = order or tuple(range(1, len(shape) + 1))
    full = [value.view(1, *value.shape, *(1,) * (len(shape) - 1 - value.ndim)) for value in values]
    lying = [value.permute(*(axis - 1 for axis in axes)) for value in full]
    sizes = [shape[axis - 1] for axis in axes]
    varies = [place for place in range(len(axes)) if any(value.shape[place] > 1 for value in lying)]
    first, last = (varies[0], varies[-1] + 1) if varies else (0, 0)
    own = [1] * first + sizes[first:last] + [1] * (len(axes) - last)
    inner = math.prod(sizes[last:])
    return torch.stack([value.expand(own).reshape(-1) for value in lying]), max(inner, 1)


def as_named(lying: Tensor, order: Order) -> Tensor:
    """`[K, *shape in this order of axes]` -> `[K, *shape]`."""
    if order is None:
        return lying
    return lying.permute(0, *(1 + order.index(axis) for axis in range(1, lying.ndim)))
