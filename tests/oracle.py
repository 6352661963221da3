"""Expected values by another road: LIF and the paper's LIF as plain loops over time, differentiated by torch's autograd.

Hand-written from the papers' equations. Nothing of tfexplore is imported here, and nothing is fused or generated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Pull = Callable[[Tensor, Tensor], Tensor]


class Spike(torch.autograd.Function):
    """1 where u >= 0; backward: what `pull` makes of the gradient that arrives and u."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, pull: Pull) -> Tensor:
        ctx.save_for_backward(u)
        ctx.pull = pull
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.pull(g, *ctx.saved_tensors), None


def atan(alpha: float) -> Pull:
    """alpha / 2 / (1 + (pi alpha u / 2)^2)"""
    return lambda g, u: g * alpha / 2 / (1 + (math.pi / 2 * alpha * u).square())


def box(width: float) -> Pull:
    """1 / width within width / 2 of the threshold"""
    return lambda g, u: torch.where(u.abs() < width / 2, g / width, torch.zeros_like(g))


def lif(
    x: Tensor,
    v: Tensor,
    tau: Tensor | float,
    *,
    v_threshold: Tensor | float = 1.0,
    v_reset: Tensor | float = 0.0,
    reset: str = "soft",
    decay_input: bool = False,
    detach_reset: bool = True,
    alpha: float = 2.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spikes, last potential, potentials before the reset, potentials after it; x [T, ...], v [...]."""
    spikes, before, after = [], [], []
    for x_t in x:
        if decay_input:
            h = v + (x_t - (v - v_reset)) / tau
        else:
            h = v - (v - v_reset) / tau + x_t
        s = Spike.apply(h - v_threshold, atan(alpha))
        spikes.append(s)
        if detach_reset:
            s = s.detach()
        if reset == "soft":
            v = h - s * v_threshold
        elif reset == "hard":
            v = h * (1 - s) + v_reset * s
        else:
            v = h
        before.append(h)
        after.append(v)
    return torch.stack(spikes), v, torch.stack(before), torch.stack(after)


def paper_lif(
    x: Tensor, v: Tensor, decay: Tensor | float, v_threshold: float, v_reset: float, width: float
) -> tuple[Tensor, Tensor]:
    """Spikes and the state that leaves the last step: the potential decays, or is reset where it fired."""
    spikes = []
    for x_t in x:
        u = v + x_t
        s = Spike.apply(u - v_threshold, box(width))
        v = decay * u * (1 - s) + v_reset * s
        spikes.append(s)
    return torch.stack(spikes), v


def alif(
    x: Tensor, v: Tensor, b: Tensor, *, tau: Tensor, tau_b: Tensor, beta: Tensor, v_threshold: Tensor, v_reset: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """ALIF with hard reset, attached: spikes, potential, adaptation."""
    spikes = []
    for x_t in x:
        h = v - (v - v_reset) / tau + x_t
        s = Spike.apply(h - (v_threshold + beta * b), atan(2.0))
        v = h * (1 - s) + v_reset * s
        b = b + (s - b) / tau_b
        spikes.append(s)
    return torch.stack(spikes), v, b
