"""A BatchNorm and the layer behind it as one node of autograd's graph, where nothing else is asked of them.

`normalised` makes a dozen small operators of a BatchNorm, forward and backward, and up to a million elements those take longer
than the kernels. Here is the same in one node, with the gradients written out; `s` is the standard deviation, n the number of
elements of a channel::

    scale = weight / s     shift = bias
    g_weight = g_scale / s     g_bias = g_shift     g_x = g - (g_scale (x - mean) / s^2 + g_shift) scale / n

where g, g_scale and g_shift come from the neuron's backward kernel. What has a state, a trace, lengths, parameters of its own or
statistics over several processes takes the general way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore.backends import Given
from tfexplore.backends.chunked import executor
from tfexplore.nn import constant, ops
from tfexplore.nn.layout import Order, as_in_memory, as_named, memory_order
from tfexplore.nn.normalise import active, added, in_channels, moments, reduced, remember

CHANNELS = 2
"""Their axis of x [T, B, C, ...]."""


@dataclass(frozen=True)
class About:
    """What the node needs besides tensors. key: of the kernel. order: of x's axes in memory."""

    key: str
    order: Order
    scalars: tuple[float, ...]
    epsilon: float


def run(norm: _BatchNorm, x: Tensor, key: str, scalars: Sequence[float]) -> Tensor | None:
    """The output behind the BatchNorm in training mode of a layer with this kernel; None where it takes the general way."""
    count = x.numel() // norm.num_features
    here = active(norm) and reduced(norm) is None and constant.once(x) is None
    if not here or x.ndim <= CHANNELS or x.shape[CHANNELS] != norm.num_features or count == 1:
        return None
    weight, bias = (norm.weight, norm.bias) if norm.affine else (None, None)
    about = About(key, memory_order(x), tuple(scalars), norm.eps)
    out, mean, variance = Together.apply(x, weight, bias, about)
    remember(norm, mean, variance, count)
    return as_named(out, about.order)


class Together(torch.autograd.Function):
    """x, weight, bias -> the output as it lies in memory, and x's mean and variance, which have no gradient here."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, about: About
    ) -> tuple[Tensor, Tensor, Tensor]:
        backend, variant = ops.find(about.key)
        lying = as_in_memory(x, about.order)
        x = as_named(lying, about.order)
        mean, variance = moments(x, CHANNELS)
        inverse = torch.rsqrt(variance + about.epsilon)
        scale = inverse if weight is None else inverse * weight
        shift = torch.zeros_like(mean) if bias is None else bias.to(mean.dtype)
        given = Given(len(x), about.scalars, None, torch.stack([scale, shift, mean]), in_channels(x, CHANNELS)[1])
        out, _, kept, _ = executor(backend, variant.schedule).forward(variant, lying, given, False)
        ctx.about, ctx.inner = about, given.inner
        ctx.mark_non_differentiable(mean, variance)
        ctx.save_for_backward(x, inverse, given.per_neuron, kept)
        return out, mean, variance

    @staticmethod
    def backward(ctx: Any, g_out: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: raises where a second derivative is taken
            return *ops.Gradients.apply(lambda: backward(ctx, g_out), g_out, *ctx.saved_tensors), None
        return *backward(ctx, g_out), None


def backward(ctx: Any, g_out: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight and bias; None where they are not wanted."""
    x, inverse, columns, kept = ctx.saved_tensors
    about, (x_wants, weight_wants, bias_wants, _) = ctx.about, ctx.needs_input_grad
    given = Given(len(x), about.scalars, None, columns, ctx.inner)
    lying = as_in_memory(x, about.order)
    g, _, g_columns = ops.differentiated(about.key, lying, g_out, None, None, given, kept, False)
    assert g_columns is not None
    (g_scale, g_shift, _), (scale, _, mean) = g_columns, columns
    g_x = None
    if x_wants:
        over = scale * (-x.shape[CHANNELS] / x.numel())
        g_x = added(as_named(g, about.order), x, mean, g_scale * inverse.square() * over, g_shift * over, CHANNELS)
    return g_x, g_scale * inverse if weight_wants else None, g_shift if bias_wants else None
