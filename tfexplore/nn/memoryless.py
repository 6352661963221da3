"""A layer without memory, `temporal="off"`: every time step is a sample of its own, so T steps are one step of T B samples.

The kernels are those of other layers, with T = 1, and neither read nor write a state. Of a current that is the same at every
step, the first step stands for all. Source: the turn-off of T-RevSNN, Hu et al., ICML 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tfexplore.nn import constant
from tfexplore.nn.normalise import Normalised


def valid(lengths: Tensor, x: Tensor) -> Tensor:
    """The steps that each sample has, [T, B, 1, ...]: as lengths of 0 and 1, each run of them would be a call of a CPU's kernel.

    >>> valid(torch.tensor([2, 1]), torch.zeros(2, 2)).tolist()
    [[True, True], [True, False]]
    """
    steps = torch.arange(x.shape[0], device=x.device).view(-1, *(1,) * (x.ndim - 1))
    return steps < lengths.view(-1, *(1,) * (x.ndim - 2))


def folded(x: Tensor, norm: Normalised | None, own: Tensor | None) -> tuple[Tensor, Normalised | None]:
    """x [T, B, ...], of which the `own` steps count, and how it is normalised -> [1, T*B, ...], or once where it is constant."""
    current = constant.current(x) if norm is None else norm.x
    if own is not None:  # what is behind the end may be anything
        current = torch.where(own, current, 0)
    if current.shape[0] == x.shape[0]:
        current = current.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:])
    return current, None if norm is None else norm._replace(x=current)


def unfolded(z: Tensor, x: Tensor, own: Tensor | None) -> Tensor:
    """What was computed for x folded -> [T, B, ...], 0 at the other steps.

    >>> x = torch.rand(3, 2, 1)
    >>> torch.equal(unfolded(folded(x, None, None)[0], x, None), x)
    True
    """
    z = constant.repeated(z, x.shape[0]) if z.shape[1] == x.shape[1] else z.reshape(x.shape)
    return z if own is None else torch.where(own, z, 0)
