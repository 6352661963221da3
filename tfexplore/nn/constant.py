"""A current that is the same at every step: computed once by what has no state, and read once by the neurons.

Direct coding shows an image at every step: `x.expand(T, ...)`, whose stride in time is 0. autograd sums the gradient of such a
view over time, which would read as many words as were saved; so `repeated` leaves the single step on the view, and a layer
takes its input from there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def repeated(once: Tensor, steps: int) -> Tensor:
    """[1, ...] -> [T, ...] without a copy."""
    x = once.expand(steps, *once.shape[1:])
    if not torch.compiler.is_compiling():
        x.tfexplore_once = once  # type: ignore[attr-defined]
    return x


def current(x: Tensor) -> Tensor:
    """What a layer reads of x: the single step where there is one."""
    found = once(x)
    return x if found is None else found


def once(x: Tensor) -> Tensor | None:
    """The single step [1, ...] of x [T, ...], if it is the same tensor at every step.

    >>> x = torch.rand(1, 2, 3)
    >>> once(x.expand(5, 2, 3)).shape, once(torch.rand(5, 2, 3))
    (torch.Size([1, 2, 3]), None)
    """
    if x.shape[0] < 2 or x.stride(0) != 0:
        return None
    found: Tensor | None = getattr(x, "tfexplore_once", None)
    return found if found is not None or (x.requires_grad and torch.is_grad_enabled()) else x[:1]
