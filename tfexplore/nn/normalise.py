"""BatchNorm as numbers per channel, which the neuron's kernel applies as it reads x: y = scale (x - centre) + shift.

In training mode x is read once for its mean and variance. In the backward pass the kernel adds up the gradients of scale and
shift on its way (they are learned parameters like any other); autograd takes them through a handful of small tensors to mean and
variance, and one more pass adds to the gradient of x what comes through those::

    g_x + slope (x - mean) + offset,     slope = 2 g_variance / n,     offset = g_mean / n

The centre is the mean as a number: then a large mean takes no digits from small differences, in the sums neither.

So the pair BatchNorm and neuron moves 9 words per element-step with keep="input", where the two apart move 13.
Source: Ioffe and Szegedy, ICML 2015. Across processes, see `reduced`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore import backends
from tfexplore.machine.torch_private import has_hooks, operators_are_observed
from tfexplore.nn.layout import Order, as_in_memory, as_named, memory_order
from tfexplore.nn.routes import state_dtype

OWN = (_BatchNorm.forward, nn.SyncBatchNorm.forward)
"""The forward methods whose meaning is known; a subclass (tdBN, say) may do more."""

AllReduce: TypeAlias = Callable[[Tensor], Tensor]
"""The sum of a small tensor over all processes, with a gradient."""


class Normalised(NamedTuple):
    """x, and the numbers [channels] of its normalisation; gradients go through scale and shift."""

    x: Tensor
    centre: Tensor
    scale: Tensor
    shift: Tensor


def normalised(norm: _BatchNorm, x: Tensor, axis: int, repeats: int = 1) -> Normalised:
    """What the BatchNorm does to x, channels along `axis`; it counts every element `repeats` times.

    Running statistics move as in torch. x comes back as a tensor that the gradients of mean and variance go through as well.

    >>> norm, x = nn.BatchNorm1d(3), torch.rand(10, 4, 3)
    >>> made = normalised(norm, x, axis=2)
    >>> torch.allclose((made.x - made.centre) * made.scale + made.shift, nn.BatchNorm1d(3)(x.flatten(0, 1)).view_as(x), atol=1e-5)
    True
    """
    if x.ndim <= axis or x.shape[axis] != norm.num_features:
        raise ValueError(
            f"{type(norm).__name__} normalises {norm.num_features} channels, but axis {axis} of x has another size: x is "
            f"{tuple(x.shape)}."
        )
    real = state_dtype(x.dtype)
    if active(norm):
        x, mean, variance = Moments.apply(x, axis)
        mean, variance, count = over_processes(norm, mean, variance, repeats * x.numel() // x.shape[axis])
        remember(norm, mean, variance, count)
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean.to(real), norm.running_var.to(real)
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    centre = mean.detach()
    shift = (centre - mean) * scale  # 0, with the mean's gradient
    return Normalised(x, centre, scale, shift + norm.bias if norm.affine else shift)


def active(norm: _BatchNorm) -> bool:
    """Whether it normalises by the statistics of its input: in training mode, or without running statistics."""
    return norm.training or norm.running_mean is None


def is_torchs_own(norm: _BatchNorm) -> bool:
    """Whether its forward method is torch's; time splitting, which sets `all_reduce`, puts its own there meanwhile."""
    return type(norm).forward in OWN and ("forward" not in vars(norm) or "all_reduce" in vars(norm))


def normalises_apart(norm: _BatchNorm, x: Tensor) -> bool:
    """Whether the BatchNorm runs by itself: where it does more than torch's, for a compiler or a transform, which must see its
    operators, and for an empty x."""
    more = not is_torchs_own(norm) or has_hooks(norm)
    return more or torch.compiler.is_compiling() or operators_are_observed(x) or x.numel() == 0


def over_processes(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, float]:
    """Mean, biased variance and count over all processes that share the statistics."""
    all_reduce = reduced(norm)
    if all_reduce is None:
        if count == 1:
            raise ValueError(
                f"{type(norm).__name__} has one value per channel in training mode, so no variance; use net.eval()."
            )
        return mean, variance, count
    here = mean.new_full((1,), count)
    summed = all_reduce(torch.cat([mean * here, here]))
    total = summed[-1].detach()
    if total == 1:
        who = getattr(all_reduce, "owner", type(norm).__name__)
        raise ValueError(
            f"{who} has one value per channel over all ranks, so no variance; give it more, or use net.eval()."
        )
    whole = summed[:-1] / total
    away = (mean - whole).square()
    return whole, all_reduce((variance + away) * here) / total, float(total)


def reduced(norm: _BatchNorm) -> AllReduce | None:
    """How this BatchNorm sums over processes: time splitting sets `all_reduce`, and SyncBatchNorm has its process group."""
    own: AllReduce | None = getattr(norm, "all_reduce", None)
    if own is None and isinstance(norm, nn.SyncBatchNorm) and torch.distributed.is_initialized():
        group = norm.process_group or torch.distributed.group.WORLD
        if torch.distributed.get_world_size(group) > 1:
            from torch.distributed.nn import functional

            return lambda small: functional.all_reduce(small.contiguous(), group=group)
    return own


@torch.no_grad()
def remember(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: float) -> None:
    """Moves the running statistics, as torch does: towards the mean and the unbiased variance."""
    tracks = norm.training and norm.track_running_stats
    if not tracks or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), rate)


class Moments(torch.autograd.Function):
    """x -> x, its mean and its biased variance along one axis, so that all gradients of x meet in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = moments(x, axis)
        ctx.axis = axis
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mean)
        return x.view_as(x), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        g_x, g_mean, g_variance = gradients
        if g_mean is None and g_variance is None:
            return g_x, None
        x, mean = ctx.saved_tensors
        count = x.numel() // x.shape[ctx.axis]
        slope = torch.zeros_like(mean) if g_variance is None else g_variance * (2 / count)
        offset = torch.zeros_like(mean) if g_mean is None else g_mean / count
        return added(g_x, x, mean, slope, offset, ctx.axis), None


def moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance of x along one axis, in float32 (float64 for float64), in one read."""
    if x.is_cuda:
        mean, inverse = torch.batch_norm_stats(x.flatten(0, axis - 1), 0.0)
        return mean, torch.where(inverse == 0, 0, inverse.square().reciprocal())  # 0 stands for no variance
    numba = fused(x)
    if numba is None:
        variance, mean = torch.var_mean(
            x.to(state_dtype(x.dtype)), [k for k in range(x.ndim) if k != axis], correction=0
        )
        return mean, variance
    lying, inner, _ = in_channels(x, axis)
    shift = numba.array(x[(0,) * axis].reshape(x.shape[axis], -1)[:, 0], "float64")  # an element of each channel
    rows = numba.rows(lying, name_of_state(x))
    parts = numba.parts_of(*rows.shape)
    sums = np.zeros((len(parts), 2, x.shape[axis]))
    numba.caller(numba.load("", "moments"), 0, parts)(rows, np.uint64(inner), shift, sums)
    total, square = sums.sum(0) / (x.numel() // x.shape[axis])
    return tuple(torch.from_numpy(z).to(state_dtype(x.dtype)) for z in (shift + total, square - total * total))  # type: ignore[return-value]


def added(g: Tensor | None, x: Tensor, mean: Tensor, slope: Tensor, offset: Tensor, axis: int) -> Tensor:
    """g + slope (x - mean) + offset, of x's dtype; g may be absent."""
    numba = fused(x)
    if g is None or torch.is_grad_enabled() or not (x.is_cuda or numba):  # a gradient of the gradient goes through this
        near, along, least = (each.view(-1, *(1,) * (x.ndim - axis - 1)) for each in (mean, slope, offset))
        made = (x - near) * along + least
        return (made if g is None else g + made).to(x.dtype)
    if x.is_cuda:  # made for SyncBatchNorm: g - offset' / n - (x - mean) slope' / n
        one, folded = torch.ones_like(slope), [t.flatten(0, axis - 1) for t in (g.contiguous(), x)]
        count = torch.ones(1, dtype=torch.int32, device=x.device)
        add: Any = torch.batch_norm_backward_elemt  # torch's stubs lack its last argument
        summed: Tensor = add(*folded, mean, one, one, -offset, -slope, count)
        return summed.view(g.shape)
    real, (lying, inner, order) = name_of_state(x), in_channels(x, axis)
    out, out_array = numba.made(tuple(lying.shape), real)
    g_rows, x_rows = (numba.rows(tensor, real) for tensor in (as_in_memory(g, order), lying))
    numbers = (numba.array(tensor, real) for tensor in (mean, slope, offset))
    call = numba.caller(numba.load("", "affine"), out_array.nbytes, numba.parts_of(*g_rows.shape))
    call(g_rows, x_rows, np.uint64(inner), *numbers, out_array.reshape(g_rows.shape))
    return as_named(numba.converted(out, x.dtype), order)


def name_of_state(x: Tensor) -> str:
    return str(state_dtype(x.dtype)).removeprefix("torch.")


def in_channels(x: Tensor, axis: int) -> tuple[Tensor, int, Order]:
    """x as it lies in memory, how many neighbours have the same channel, and the order of its axes."""
    order = memory_order(x)
    axes = order or tuple(range(1, x.ndim))
    return as_in_memory(x, order), math.prod(x.shape[k] for k in axes[axes.index(axis) + 1 :]), order


def fused(x: Tensor) -> Any:
    """The fused CPU backend, where it can run x."""
    return backends.module("numba") if backends.choose("auto", x.device).name == "numba" and x.numel() else None
