"""The results that every contestant is compared with: a plain loop over time in float64, by PyTorch's autograd.

It shares nothing with tfexplore. Where a case is large, only every k-th neuron (k = `every`) is computed and compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.work import Arrays, Case, array, linear_inputs, neuron_inputs, norm_inputs

TAU, THRESHOLD, EPSILON = 2.0, 1.0, 1e-5
COMPARED = 2**25
"""About the number of element-steps of a case that are compared."""


class ATan(torch.autograd.Function):
    """1 where u >= 0; in the backward pass 1 / (1 + (pi u)^2)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad_outputs[0] / (1 + (math.pi * u).square())


class Rectangle(ATan):
    """1 where u >= 0; in the backward pass 1 where |u| <= 1/2."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad_outputs[0] * (u.abs() <= 0.5)


SURROGATES: dict[str, Callable[[Tensor], Tensor]] = {"ATan": ATan.apply, "Rectangle": Rectangle.apply}


def plain_loop(
    x: Tensor,
    surrogate: str = "ATan",
    reset: str = "soft",
    state: torch.dtype | None = None,
    feedback: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A hand-written LIF: x [T, ...] -> spikes. state: the dtype of the potential. feedback: what the last spikes add to x[t].

    reset, always detached: "soft" subtracts the threshold, "hard" sets zero, "delayed" subtracts the threshold one step later.
    """
    fire, dtype = SURROGATES[surrogate], state or x.dtype
    v, s, spikes = torch.zeros_like(x[0], dtype=dtype), torch.zeros_like(x[0], dtype=dtype), []
    for x_t in x:
        x_t = x_t if feedback is None else x_t + feedback(s)
        h = v + x_t.to(dtype) - v / TAU
        v = h = h - s.detach() * THRESHOLD if reset == "delayed" else h
        s = fire(h - THRESHOLD)
        if reset != "delayed":
            v = h - s.detach() * (THRESHOLD if reset == "soft" else h)
        spikes.append(s.to(x.dtype))
    return torch.stack(spikes)


def every(element_steps: int) -> int:
    """Every k-th neuron is compared; this is k."""
    return math.ceil(element_steps / COMPARED)


def neuron(case: Case) -> Arrays:
    """Spikes and x's gradient of every `case["every"]`-th neuron; with other resets too, for libraries that have no soft one."""
    x, g = (values[..., :: case["every"]].double() for values in neuron_inputs(case))
    found = {}
    for reset, about in (("soft", ""), ("delayed", " (delayed reset)"), ("hard", " (hard reset)")):
        out = plain_loop(x.requires_grad_(), case["surrogate"], reset)
        found["spikes" + about] = array(out)
        found["x.grad" + about] = array(torch.autograd.grad(out, x, g)[0])
    found["spikes (rough state)"] = found["spikes"]
    return found


def linear_lif(case: Case) -> Arrays:
    """Spikes and the gradient of the weight's rows, of every `case["every"]`-th neuron."""
    x, weight, g = (values.double() for values in linear_inputs(case))
    weight = weight[:: case["every"]].requires_grad_()
    found = {}
    for reset, about in (("soft", ""), ("delayed", " (delayed reset)")):
        out = plain_loop(x @ weight.T, case["surrogate"], reset)
        found["spikes" + about] = array(out)
        found["weight.grad" + about] = array(torch.autograd.grad(out, weight, g[..., :: case["every"]])[0])
    return found


def recurrent(case: Case) -> Arrays:
    """Spikes and both gradients of all neurons, for each is connected with each."""
    x, weight, g = (values.double() for values in linear_inputs(case))
    found = {}
    for reset, about in (("soft", ""), ("delayed", " (delayed reset)"), ("hard", " (hard reset)")):
        given = x.requires_grad_(), weight.requires_grad_()
        out = plain_loop(x, case["surrogate"], reset, feedback=lambda s: s @ weight.T)
        g_x, g_weight = torch.autograd.grad(out, given, g)
        for name, values in (("spikes", out), ("x.grad", g_x), ("weight.grad", g_weight)):
            found[name + about] = array(values)
    return found


NORMALISED = PLAIN, DELAYED, STEPPED = ("", " (delayed reset)", ", BatchNorm per step (delayed reset)")


def batchnorm(case: Case) -> Arrays:
    """Spikes and gradients behind a BatchNorm of all steps, or of each step, of every `case["every"]`-th channel."""
    k = case["every"]
    x, g, weight, bias = (v.double() for v in norm_inputs(case))
    x, g, weight, bias = x[:, :, ::k], g[:, :, ::k], weight[::k], bias[::k]
    inputs = [values.requires_grad_() for values in (x, weight, bias)]
    found = {}
    for which, axes in ((PLAIN, (0, 1, 3, 4)), (DELAYED, (0, 1, 3, 4)), (STEPPED, (1, 3, 4))):
        away = x - x.mean(axes, keepdim=True)
        y = away / (away.square().mean(axes, keepdim=True) + EPSILON).sqrt() * each(weight) + each(bias)
        out = plain_loop(y, case["surrogate"], "soft" if which == PLAIN else "delayed")
        gradients = torch.autograd.grad(out, inputs, g)
        for name, values in zip(("spikes", "x.grad", "weight.grad", "bias.grad"), (out, *gradients), strict=True):
            found[name + which] = array(values)
    return found


def each(values: Tensor) -> Tensor:
    """One value for each channel of images."""
    return values.view(-1, 1, 1)
