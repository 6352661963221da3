"""Expected values by another road: neurons as plain loops over time, differentiated by torch's autograd.

Hand-written from the papers' equations. Nothing of tfexplore is imported here, and nothing is fused or generated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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


Numbers = Mapping[str, Tensor | float]


def leaky(v: Tensor, x: Tensor, p: Numbers) -> Tensor:
    return v - (v - p["v_reset"]) / p["tau"] + x


def synaptic(v: Tensor, i: Tensor, x: Tensor, p: Numbers) -> tuple[Tensor, ...]:
    i = i - i / p["tau_syn"] + x
    return leaky(v, i, p), i


def izhikevich(v: Tensor, w: Tensor, x: Tensor, p: Numbers) -> tuple[Tensor, ...]:
    dt = p["dt"]
    return v + dt * (0.04 * v * v + 5 * v + 140 - w + x), w + dt * p["a"] * (p["b"] * v - w)


CHARGE: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "IF": lambda v, x, p: (v + x,),
    "LIF": lambda v, x, p: (leaky(v, x, p),),
    "ParametricLIF": lambda v, x, p: (leaky(v, x, p),),
    "ALIF": lambda v, b, x, p: (leaky(v, x, p), b),
    "CubaLIF": synaptic,
    "LI": lambda v, x, p: (v + (x - (v - p["v_reset"])) / p["tau"],),
    "QIF": lambda v, x, p: (v + (x + p["a"] * (v - p["v_rest"]) * (v - p["v_c"])) / p["tau"],),
    "EIF": lambda v, x, p: (v + (x - (v - p["v_rest"]) + p["d"] * ((v - p["v_t"]) / p["d"]).exp()) / p["tau"],),
    "Izhikevich": izhikevich,
    "PaperLIF": lambda v, x, p: (v + x,),
}
"""The charge of every neuron of the library, by its name: of the states, the current and the numbers."""

AFTER: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "ALIF": lambda s, b, p: (b - (b - s) / p["tau_b"],),
    "CubaLIF": lambda s, i, p: (i,),
    "Izhikevich": lambda s, w, p: (w + p["d"] * s,),
}
"""The second state after the spike, where there is one."""


def begin(name: str, p: Numbers, like: Tensor) -> tuple[Tensor, ...]:
    """The states before the first step, of the shape of `like`."""
    v = torch.zeros_like(like) + p.get("v_reset", 0.0)
    return {"Izhikevich": (v, v * p.get("b", 0.0))}.get(name, (v, torch.zeros_like(v))[: 1 + (name in AFTER)])


def step(
    name: str, p: Numbers, z: tuple[Tensor, ...], x: Tensor, reset: str, detach_reset: bool
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """One time step of a neuron, with an ATan surrogate: its output, the states it leaves, and the potential before the reset."""
    h, *others = CHARGE[name](*z, x, p)
    if name == "LI":
        return h, (h,), h
    threshold = p["v_threshold"] + p["beta"] * others[0] if name == "ALIF" else p["v_threshold"]
    s = Spike.apply(h - threshold, atan(2.0))
    cut = s.detach() if detach_reset else s
    left = h * p["decay"] if name == "PaperLIF" else h
    v = {"soft": h - cut * threshold, "hard": left * (1 - cut) + p.get("v_reset", 0.0) * cut, "none": h}[reset]
    return s, (v, *(AFTER[name](s, *others, p) if others else ())), h


def walked(
    name: str, p: Numbers, x: Tensor, z: tuple[Tensor, ...] | None = None, *, reset: str = "soft", detach_reset: bool = True,
    temporal: str = "on", temporal_gradient: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]:  # fmt: skip
    """All time steps: outputs, last states, and by name (h, the states in their order) all of each variable."""
    z = begin(name, p, x[0]) if z is None else z
    outs, seen = [], []
    for x_t in x:
        z = begin(name, p, x_t) if temporal == "off" else z
        z = z if temporal_gradient else tuple(each.detach() for each in z)
        out, z, h = step(name, p, z, x_t, reset, detach_reset)
        outs.append(out)
        seen.append((h, *z))
    names = ("h", *{"ALIF": "vb", "CubaLIF": "vi", "Izhikevich": "vw"}.get(name, "v"))
    return torch.stack(outs), z, dict(zip(names, map(torch.stack, zip(*seen, strict=True)), strict=True))
