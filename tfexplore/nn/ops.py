"""The fused kernels as PyTorch citizens: two custom operators, forward and backward, with autograd between them.

Both work on x [T, ...] and flat states [STATES, N], and name their compiled variant by a content hash, so that
`torch.compile` sees one opaque operator with known shapes. The eager backend needs no operator: autograd sees through it.

An operator written in Python costs some 100 us, forward and backward, in PyTorch's own machinery, more than a small layer's
kernels. It serves what observes operators: compilers, exporters, transforms, modes, profilers. Where none does, `fused` calls
the same functions through a plain `autograd.Function`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import Given
from tfexplore.backends.chunked import executor
from tfexplore.codegen.variant import Variant
from tfexplore.machine.files import fingerprint
from tfexplore.machine.torch_private import operators_are_observed

VARIANTS: dict[str, tuple[str, Variant]] = {}


def register(backend: str, variant: Variant) -> str:
    """The name by which the operators find this variant; the same in every process, since compiled graphs store it."""
    parts = backends.module(backend).source(variant), str(variant.config), variant.schedule
    key = f"{backend}-{variant.step.name}-{fingerprint(*parts)}"
    VARIANTS.setdefault(key, (backend, variant))
    return key


def find(key: str) -> tuple[str, Variant]:
    try:
        return VARIANTS[key]
    except KeyError:
        raise RuntimeError(
            f"The kernel {key!r} is not known in this process: run its layer once before the graph."
        ) from None


@torch.library.custom_op("tfexplore::forward", mutates_args=())
def forward(
    x: Tensor, start: Tensor | None, per_neuron: Tensor | None, lengths: Tensor | None, steps: int, inner: int,
    scalars: list[float], want_state: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """out [T, ...], recorded [T, WATCHED, N], final states [STATES, N] (`want_state`), saved for backward; empty where absent."""
    return run_forward(x, start, per_neuron, lengths, steps, inner, scalars, want_state, key)


def run_forward(
    x: Tensor, start: Tensor | None, per_neuron: Tensor | None, lengths: Tensor | None, steps: int, inner: int,
    scalars: list[float], want_state: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The backend's forward pass, as an operator returns it."""
    backend, variant = find(key)
    given = Given(steps, scalars, start, per_neuron, inner, lengths)
    out, state, kept, watched = executor(backend, variant.schedule).forward(variant, x, given, want_state)
    watched, state = (absent(x, variant) if tensor is None else tensor for tensor in (watched, state))
    return out, watched, state, nothing_kept(x, variant, steps) if kept is None else kept


def nothing_kept(x: Tensor, variant: Variant, steps: int) -> Tensor:
    """What is saved for backward, uninitialised."""
    if variant.keeps == "nothing":
        return absent(x, variant)
    return x.new_empty(variant.kept_shape(steps, backends.sizes(x)[1]), dtype=getattr(torch, variant.kept_dtype))


def absent(x: Tensor, variant: Variant) -> Tensor:
    """An operator returns tensors only: this one in place of None."""
    return x.new_empty(0, dtype=getattr(torch, variant.real))


@forward.register_fake
def _(
    x: Tensor, start: Tensor | None, per_neuron: Tensor | None, lengths: Tensor | None, steps: int, inner: int,
    scalars: list[float], want_state: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    variant, neurons = find(key)[1], backends.sizes(x)[1]
    real = getattr(torch, variant.real)
    return (
        x.new_empty((steps, *x.shape[1:])),
        x.new_empty(steps, len(variant.record), neurons, dtype=real) if variant.record else absent(x, variant),
        x.new_empty(len(variant.step.before), neurons, dtype=real) if want_state else absent(x, variant),
        nothing_kept(x, variant, steps),
    )


@torch.library.custom_op("tfexplore::backward", mutates_args=())
def backward(
    x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, start: Tensor | None,
    per_neuron: Tensor | None, lengths: Tensor | None, inner: int, scalars: list[float], kept: Tensor | None,
    want_g_start: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, of the initial states [STATES, N] (`want_g_start`) and of per_neuron [PER_NEURON, COUNT]."""
    rest = start, per_neuron, lengths, inner, scalars, kept, want_g_start, key
    return run_backward(x, g_out, g_state, g_watched, *rest)


def run_backward(
    x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, start: Tensor | None,
    per_neuron: Tensor | None, lengths: Tensor | None, inner: int, scalars: list[float], kept: Tensor | None,
    want_g_start: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The backend's backward pass, as an operator returns it."""
    given = Given(g_out.shape[0], scalars, start, per_neuron, inner, lengths)
    g_x, g_start, g_per_neuron = differentiated(key, x, g_out, g_state, g_watched, given, kept, want_g_start)
    g_start, g_per_neuron = (absent(g_out, find(key)[1]) if g is None else g for g in (g_start, g_per_neuron))
    return g_x, g_start, g_per_neuron


def differentiated(
    key: str, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The backend's backward pass; traces at which no gradient arrives cost nothing."""
    backend, variant = find(key)
    if g_watched is None and variant.traced:
        variant = untraced(variant)
    made: tuple[Tensor, Tensor | None, Tensor | None]
    made = executor(backend, variant.schedule).backward(variant, x, g_out, g_state, g_watched, *rest)
    return made


@functools.cache
def untraced(variant: Variant) -> Variant:
    return dataclasses.replace(variant, traced=False)


@backward.register_fake
def _(
    x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, start: Tensor | None,
    per_neuron: Tensor | None, lengths: Tensor | None, inner: int, scalars: list[float], kept: Tensor | None,
    want_g_start: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    variant = find(key)[1]
    ends = (len(variant.step.before), backends.sizes(g_out)[1])
    g_start = g_out.new_empty(ends, dtype=getattr(torch, variant.real)) if want_g_start else absent(g_out, variant)
    g_x = g_out.new_empty((1, *g_out.shape[1:]) if variant.constant else g_out.shape)
    if per_neuron is None or not variant.step.learned:
        return g_x, g_start, absent(g_out, variant)
    return g_x, g_start, per_neuron.new_empty(per_neuron.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], kept: Tensor | None) -> None:
    x, start, per_neuron, lengths, ctx.steps, ctx.inner, ctx.scalars, _, ctx.key = inputs
    ctx.like = x.shape[1:], x.dtype, x.device
    ctx.set_materialize_grads(False)  # zeros of the size of `kept` would be made for nothing
    ctx.save_for_backward(*saved(find(ctx.key)[1], x, start, per_neuron, lengths, kept))


def saved(
    variant: Variant,
    x: Tensor,
    start: Tensor | None,
    per_neuron: Tensor | None,
    lengths: Tensor | None,
    kept: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Of these, what the adjoint needs; the rest is not kept alive."""
    recomputes = variant.keeps == "input"
    return x if recomputes else None, start if recomputes else None, per_neuron, lengths, kept


def _setup_operator_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    _, watched, state, kept = output
    _setup_context(ctx, inputs, kept)
    variant = find(inputs[-1])[1]
    absent = [] if inputs[7] else [state]  # an absent state has no gradient
    ctx.mark_non_differentiable(*([] if variant.traced else [watched]), *absent, kept)


def _backward_arguments(
    ctx: Any, g_out: Tensor | None, g_watched: Tensor | None, g_state: Tensor | None
) -> tuple[Any, ...]:
    x, start, per_neuron, lengths, kept = ctx.saved_tensors
    if g_out is None:
        shape, dtype, device = ctx.like
        g_out = torch.zeros((ctx.steps, *shape), dtype=dtype, device=device)
    rest = (start, per_neuron, lengths, ctx.inner, ctx.scalars, kept, ctx.needs_input_grad[1])
    return x, g_out, g_state, g_watched, *rest


def _operator_backward(
    ctx: Any, g_out: Tensor | None, g_watched: Tensor | None, g_state: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad
    found = backward(*_backward_arguments(ctx, g_out, g_watched, g_state), ctx.key)
    return *(gradient if yes else None for gradient, yes in zip(found, wanted, strict=False)), *(None,) * 6


def no_double_backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
    raise RuntimeError(
        "The fused kernels have no second derivative (create_graph=True, or double backward); use backend='torch' for it."
    )


class Gradients(torch.autograd.Function):
    """The backward pass where it must be differentiable itself, which it is not."""

    @staticmethod
    def forward(
        ctx: Any, work: Callable[[], tuple[Tensor | None, ...]], *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        return work()

    backward = staticmethod(no_double_backward)


forward.register_autograd(_operator_backward, setup_context=_setup_operator_context)
backward.register_autograd(no_double_backward, setup_context=lambda ctx, inputs, output: None)


class FusedFunction(torch.autograd.Function):
    """`forward` and its derivative without the operators around them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor | None, ...]:  # a setup_context of its own would cost 25 us
        x, start, per_neuron, lengths, steps, inner, scalars, want_state, key = inputs
        backend, variant = find(key)
        given = Given(steps, scalars, start, per_neuron, inner, lengths)
        out, state, kept, watched = executor(backend, variant.schedule).forward(variant, x, given, want_state)
        _setup_context(ctx, inputs, kept)
        if watched is not None and not variant.traced:
            ctx.mark_non_differentiable(watched)
        return out, watched, state

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the operator raises where a second derivative is taken
            return _operator_backward(ctx, *gradients)
        x, g_out, g_state, g_watched, start, per_neuron, lengths, inner, scalars, *rest = _backward_arguments(
            ctx, *gradients
        )
        given = Given(g_out.shape[0], scalars, start, per_neuron, inner, lengths)
        return *differentiated(ctx.key, x, g_out, g_state, g_watched, given, *rest), *(None,) * 6


def fused(key: str, x: Tensor, given: Given, want_state: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The spikes, what is recorded [T, WATCHED, N] and the final states [STATES, N], by the shortest way; x [T, ...]."""
    steps, scalars, start, per_neuron, inner, lengths, _ = given
    inputs = (x, start, per_neuron, lengths, steps, inner, scalars, want_state, key)
    if torch.compiler.is_compiling() or operators_are_observed(x, start, per_neuron):
        out, watched, state, _ = forward(*inputs)
        return out, watched, state
    made: tuple[Tensor, Tensor | None, Tensor | None] = FusedFunction.apply(*inputs)
    return made
