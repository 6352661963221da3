"""Fused layers under `torch.func`: grad, vmap, functional_call and what is made of them.

The operators' own autograd knows no transforms; here the same two functions of a backend are an `autograd.Function` each, with
a batching rule. What `vmap` adds is simply more neurons: an axis outside of the others, V times N in total.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import Given
from tfexplore.backends.torch_reference import spread
from tfexplore.machine.torch_private import is_transformed
from tfexplore.nn import ops

Dims = tuple[int | None, ...]


def outside(tensor: Tensor | None, dim: int | None, size: int, to: int) -> Tensor | None:
    """The tensor with its batched axis at place `to`; repeated there where it has none."""
    if tensor is None or not tensor.numel():
        return tensor
    if dim is None:
        return tensor.unsqueeze(to).expand(*tensor.shape[:to], size, *tensor.shape[to:])
    return tensor.movedim(dim, to)


def joined(tensor: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """[..., N] -> [..., V N]"""
    if tensor is None or not tensor.numel():
        return tensor
    made = outside(tensor, dim, size, tensor.ndim - 1 - (dim is not None))
    return None if made is None else made.flatten(-2)


def apart(tensor: Tensor, size: int) -> tuple[Tensor, int | None]:
    """[..., V N] -> [..., V, N], and the place of V; an absent tensor stays."""
    if not tensor.numel():
        return tensor, None
    return tensor.unflatten(-1, (size, -1)), tensor.ndim - 1


def own_columns(per_neuron: Tensor | None, dim: int | None, size: int, inner: int, neurons: int) -> Tensor | None:
    """[PER_NEURON, COUNT] -> [PER_NEURON, V N]: every neuron has a column of its own."""
    if per_neuron is None:
        return None
    each = outside(per_neuron, dim, size, 0)
    assert each is not None
    return spread(each.flatten(0, 1), inner, neurons).view(size, -1, neurons).movedim(0, 1).flatten(1)


def samples(lengths: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """[B] -> [V B]"""
    each = outside(lengths, dim, size, 0)
    return None if each is None else each.reshape(-1)


class Forward(torch.autograd.Function):
    """x, start, per_neuron, lengths, steps, inner, scalars, key -> out, watched, state, kept; what is absent is empty."""

    @staticmethod
    def forward(
        x: Tensor, start: Tensor | None, per_neuron: Tensor | None, lengths: Tensor | None, steps: int, inner: int,
        scalars: list[float], key: str,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        return ops.run_forward(x, start, per_neuron, lengths, steps, inner, scalars, True, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, start, per_neuron, lengths, _, ctx.inner, ctx.scalars, ctx.key = inputs
        variant = ops.find(ctx.key)[1]
        ctx.mark_non_differentiable(*([] if variant.traced else output[1:2]), output[3])
        ctx.save_for_backward(*ops.saved(variant, x, start, per_neuron, lengths, output[3]))
        ctx.traced, ctx.started = variant.traced, start is not None

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        g_out, g_watched, g_state, _ = gradients
        x, start, per_neuron, lengths, kept = ctx.saved_tensors
        given = x, g_out, g_state, g_watched if ctx.traced else None, start, per_neuron, lengths, kept
        g_x, g_start, g_per_neuron = Backward.apply(*given, ctx.inner, ctx.scalars, ctx.key)
        learned = per_neuron is not None and g_per_neuron.numel()
        return g_x, g_start if ctx.started else None, g_per_neuron if learned else None, *(None,) * 5

    @staticmethod
    def vmap(
        info: Any, in_dims: Dims, x: Tensor, start: Tensor | None, per_neuron: Tensor | None, lengths: Tensor | None,
        steps: int, inner: int, scalars: list[float], key: str,
    ) -> tuple[tuple[Tensor, ...], Dims]:  # fmt: skip
        size, neurons = info.batch_size, backends.sizes(x if in_dims[0] is None else x.select(in_dims[0], 0))[1]
        whole = outside(x, in_dims[0], size, 1)
        if in_dims[2] is not None:
            per_neuron, inner = own_columns(per_neuron, in_dims[2], size, inner, neurons), 1
        begin, valid = joined(start, in_dims[1], size), samples(lengths, in_dims[3], size)
        out, *others = Forward.apply(whole, begin, per_neuron, valid, steps, inner, scalars, key)
        found = [apart(tensor, size) for tensor in others]
        return (out, *(tensor for tensor, _ in found)), (1, *(dim for _, dim in found))


class Backward(torch.autograd.Function):
    """x, g_out, g_state, g_watched, start, per_neuron, lengths, kept, ... -> the gradients of x, start and per_neuron."""

    @staticmethod
    def forward(
        x: Tensor | None, g_out: Tensor, g_state: Tensor, g_watched: Tensor | None, start: Tensor | None,
        per_neuron: Tensor | None, lengths: Tensor | None, kept: Tensor, inner: int, scalars: list[float], key: str,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        given = start, per_neuron, lengths, inner, scalars, kept, True, key
        return ops.run_backward(x, g_out, g_state, g_watched, *given)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    backward = staticmethod(ops.no_double_backward)

    @staticmethod
    def vmap(
        info: Any, in_dims: Dims, x: Tensor | None, g_out: Tensor, g_state: Tensor, g_watched: Tensor | None,
        start: Tensor | None, per_neuron: Tensor | None, lengths: Tensor | None, kept: Tensor, inner: int, scalars: list[float],
        key: str,
    ) -> tuple[tuple[Tensor, ...], Dims]:  # fmt: skip
        size, dims = info.batch_size, in_dims
        neurons = backends.sizes(g_out if dims[1] is None else g_out.select(dims[1], 0))[1]
        whole = [outside(tensor, dim, size, 1) for tensor, dim in ((x, dims[0]), (g_out, dims[1]))]
        ends = [joined(tensor, dim, size) for tensor, dim in zip((g_state, g_watched, start), dims[2:5], strict=True)]
        # each of the batch has a gradient of its own, also of a parameter that all share
        columns = own_columns(per_neuron, dims[5], size, inner, neurons)
        rest = columns, samples(lengths, dims[6], size), joined(kept, dims[7], size), 1, scalars, key
        g_x, g_start, g_columns = Backward.apply(*whole, *ends, *rest)
        g_start, g_start_dim = apart(g_start, size)
        if not g_columns.numel() or per_neuron is None:
            return (g_x, g_start, g_columns), (1, g_start_dim, None)
        count = per_neuron.shape[-1 if dims[5] != per_neuron.ndim - 1 else -2]
        g_own = g_columns.view(len(g_columns), size, -1, count, inner).sum((2, 4))
        return (g_x, g_start, g_own), (1, g_start_dim, 1)


def fused(key: str, x: Tensor, given: Given, want_state: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """`ops.fused`, or the same for a transform to see."""
    if torch.compiler.is_compiling() or not is_transformed():
        return ops.fused(key, x, given, want_state)
    steps, scalars, start, per_neuron, inner, lengths, _ = given
    out, watched, state, _ = Forward.apply(x, start, per_neuron, lengths, steps, inner, list(scalars), key)
    return out, watched, state
