"""A layer without memory, `temporal="off"`: every time step is a sample of its own, so T steps are one step of T B samples.

The kernels are those of other layers, with T = 1, and neither read nor write a state. Of a current that is the same at every
step, the first step stands for all. Source: the turn-off of T-RevSNN, Hu et al., ICML 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tfexplore.nn import constant
from tfexplore.nn.normalise import Normalised


def folded(
    x: Tensor, lengths: Tensor | None = None, norm: Normalised | None = None
) -> tuple[Tensor, Tensor | None, Normalised | None]:
    """x [T, B, ...], its lengths [B] and how it is normalised, for the kernels: x [1, T*B, ...], where a length is 0 or 1."""
    single = constant.once(x) is not None and lengths is None
    current = constant.current(x) if norm is None else norm.x
    current = current if single else current.expand(x.shape).flatten(0, 1).unsqueeze(0)
    if lengths is not None:
        lengths = (torch.arange(len(x), device=x.device).unsqueeze(1) < lengths).flatten().long()
    return current, lengths, None if norm is None else norm._replace(x=current)


def unfolded(z: Tensor, x: Tensor) -> Tensor:
    """What was computed for x folded, [1, T*B, ...], or once for all of its steps, [1, B, ...] -> [T, B, ...].

    >>> x = torch.rand(3, 2, 1)
    >>> torch.equal(unfolded(folded(x)[0], x), x)
    True
    """
    return constant.repeated(z, len(x)) if z.shape[1] == x.shape[1] else z.squeeze(0).unflatten(0, x.shape[:2])
