"""T-RevSNN as a plain loop of torch's functions, from its paper and code alone: it takes the weights by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LEAST = torch.tensor(1e-3).item()  # alpha's bound below, a float32
SPAN = (1 - torch.tensor(1e-3)).item()


class Quantised(torch.autograd.Function):
    """Clamped and rounded, 0.5 up; the gradient passes within [0, 1]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.floor(x.clamp(0, 1) + 0.5)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * ((x >= 0) & (x <= 1))


fire: Callable[[Tensor], Tensor] = Quantised.apply


def standardised(p: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = p[f"{name}.weight"]
    flat = weight.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    unit = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    made = (unit * p[f"{name}.gain"].flatten(1) / math.sqrt(flat.shape[1])).view_as(weight)
    return functional.conv2d(x, made, p[f"{name}.bias"], stride, weight.shape[-1] // 2)


def depthwise(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = p[f"{name}.weight"]
    return functional.conv2d(x, weight, p[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=len(weight))


def normed(p: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = p[f"{name}.0.weight"]
    x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    return functional.batch_norm(x, None, None, p[f"{name}.1.weight"], p[f"{name}.1.bias"], training=True)


def block(p: dict[str, Tensor], name: str, second: str, x: Tensor) -> Tensor:
    made = standardised(p, f"{name}.first.1", depthwise(p, f"{name}.first.0", fire(x)))
    made = depthwise(p, f"{second}.1", standardised(p, f"{second}.0", fire(made)))
    return x + made * p.get(f"{name}.gamma", 1.0)


def plain(
    p: dict[str, Tensor], x: Tensor, levels: int = 4, own: bool = True, steps: int = 4, split: bool = False
) -> list[Tensor]:
    """The logits behind every quarter, images `[B, C, h, w]` or time-first."""
    frames = list(x) if x.ndim == 5 else [x]
    features = []
    for frame in frames:
        if "stem.1.weight" in p:
            features.append(standardised(p, "stem.1", standardised(p, "stem.0", frame, 2), 2))
        else:
            features.append(standardised(p, "stem.0", frame))
    if split:
        features = list(features[0].tensor_split(steps, dim=1))
    elif x.ndim == 4:
        features = features * steps
    states: list[Any] = [None] * levels
    logits = []
    for t, below in enumerate(features):
        was, row = list(states), f"time.steps.{t if own else 0}"
        for k in range(levels):
            at = f"{row}.{k}"
            if k == 0:
                c = below
            elif k == levels - 1:
                c = normed(p, f"{at}.down", fire(states[k - 1]))
            else:
                c = normed(p, f"{at}.down", fire(states[k - 1]), stride=2)
            if t > 0 and k < levels - 1:
                up = normed(p, f"{at}.up", fire(was[k + 1]))
                c = c + (up.repeat_interleave(2, -1).repeat_interleave(2, -2) if k < levels - 2 else up)
            c = block(p, f"{at}.then.0", f"{at}.then.0.second", c)
            c = block(p, f"{at}.then.1", f"time.steps.0.{k}.then.1.second", c)
            raw = p[f"time.decays.{k}.raw"]
            alpha = LEAST + SPAN * (raw[t] if own else raw).sigmoid()
            states[k] = c if t == 0 else c + alpha[:, None, None] * was[k]
        if (t + 1) % (len(features) // 4) == 0:
            head = f"heads.{len(logits)}.classify"
            top = states[-1] if len(logits) < 3 else fire(states[-1])
            z = standardised(p, f"{head}.0", top.mean((2, 3), keepdim=True))
            logits.append((z if len(logits) < 3 else standardised(p, f"{head}.1", z)).flatten(1))
    return logits
