"""The fused kernels as PyTorch citizens: two custom operators, forward and backward, with autograd between them.

Both work on x [T, ...] and flat states [STATES, N], and name their compiled variant by a content hash, so that
`torch.compile` sees one opaque operator with known shapes. The eager backend needs no operator: autograd sees through it.

An operator written in Python costs some 100 us, forward and backward, in PyTorch's own machinery, more than a small layer's
kernels. It serves what observes operators: compilers, exporters, transforms, modes, profilers. Where none does, `fused` calls
the same functions through a plain `autograd.Function`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.codegen.variant import Variant
from tfexplore.machine.files import fingerprint
from tfexplore.nn.torch_private import operators_are_observed

VARIANTS: dict[str, tuple[str, Variant]] = {}


def register(backend: str, variant: Variant) -> str:
    """The name by which the operators find this variant; the same in every process, since compiled graphs store it."""
    key = f"{backend}-{variant.step.name}-{fingerprint(backends.module(backend).source(variant), str(variant.config))}"
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
    x: Tensor, start: Tensor | None, per_neuron: Tensor | None, scalars: list[float], want_state: bool, key: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """out [T, ...], final states [STATES, N] (`want_state`), saved for backward, recorded [T, WATCHED, N]; empty where absent."""
    backend, variant = find(key)
    out, *others = backends.module(backend).forward(variant, x, start, per_neuron, scalars, want_state)
    return out, *(absent(x, variant) if tensor is None else tensor for tensor in others)


def absent(x: Tensor, variant: Variant) -> Tensor:
    """An operator returns tensors only: this one in place of None."""
    return x.new_empty(0, dtype=getattr(torch, variant.real))


@forward.register_fake
def _(
    x: Tensor, start: Tensor | None, per_neuron: Tensor | None, scalars: list[float], want_state: bool, key: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    variant = find(key)[1]
    steps, neurons = backends.sizes(x)
    real = getattr(torch, variant.real)
    kept = x.new_empty(variant.kept_shape(steps, neurons), dtype=getattr(torch, variant.kept_dtype))
    return (
        x.new_empty(x.shape),
        x.new_empty(len(variant.step.before), neurons, dtype=real) if want_state else absent(x, variant),
        absent(x, variant) if variant.keeps == "nothing" else kept,
        x.new_empty(steps, len(variant.record), neurons, dtype=real) if variant.record else absent(x, variant),
    )


@torch.library.custom_op("tfexplore::backward", mutates_args=())
def backward(
    x: Tensor | None, g_out: Tensor, g_state: Tensor | None, start: Tensor | None, per_neuron: Tensor | None,
    scalars: list[float], kept: Tensor | None, want_g_start: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x [T, ...], of the initial states [STATES, N] (`want_g_start`) and of per_neuron [PER_NEURON, N]."""
    backend, variant = find(key)
    g_x, *others = backends.module(backend).backward(
        variant, x, g_out, g_state, start, per_neuron, scalars, kept, want_g_start
    )
    return g_x, *(absent(g_out, variant) if tensor is None else tensor for tensor in others)


@backward.register_fake
def _(
    x: Tensor | None, g_out: Tensor, g_state: Tensor | None, start: Tensor | None, per_neuron: Tensor | None,
    scalars: list[float], kept: Tensor | None, want_g_start: bool, key: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    variant = find(key)[1]
    ends = (len(variant.step.before), backends.sizes(g_out)[1])
    g_start = g_out.new_empty(ends, dtype=getattr(torch, variant.real)) if want_g_start else absent(g_out, variant)
    g_per_neuron = absent(g_out, variant) if per_neuron is None else per_neuron.new_empty(per_neuron.shape)
    return g_out.new_empty(g_out.shape), g_start, g_per_neuron


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    x, start, per_neuron, ctx.scalars, _, ctx.key = inputs
    kept = output[2]
    variant = find(ctx.key)[1]
    recomputes = variant.keeps == "input"
    ctx.like = x.shape, x.dtype, x.device
    ctx.set_materialize_grads(False)  # zeros of the size of `kept` would be made for nothing
    # what the adjoint does not need is not kept alive; on a CPU `kept` has the initial states too
    ctx.save_for_backward(x if recomputes else None, start if recomputes and variant.on_gpu else None, per_neuron, kept)


def _setup_operator_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    _setup_context(ctx, inputs, output)
    ctx.mark_non_differentiable(*output[2 if inputs[4] else 1 :])  # an absent state has no gradient either


def _backward_arguments(ctx: Any, g_out: Tensor | None, g_state: Tensor | None) -> tuple[Any, ...]:
    x, start, per_neuron, kept = ctx.saved_tensors
    if g_out is None:
        shape, dtype, device = ctx.like
        g_out = torch.zeros(shape, dtype=dtype, device=device)
    return x, g_out, g_state, start, per_neuron, ctx.scalars, kept, ctx.needs_input_grad[1], ctx.key


def _operator_backward(ctx: Any, g_out: Tensor | None, g_state: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad
    found = backward(*_backward_arguments(ctx, g_out, g_state))
    return *(gradient if yes else None for gradient, yes in zip(found, wanted, strict=False)), None, None, None


def _no_double_backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
    raise RuntimeError(
        "The fused kernels have no second derivative (create_graph=True, or double backward); use backend='torch' for it."
    )


forward.register_autograd(_operator_backward, setup_context=_setup_operator_context)
backward.register_autograd(_no_double_backward, setup_context=lambda ctx, inputs, output: None)


class FusedFunction(torch.autograd.Function):
    """`forward` and its derivative without the operators around them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor | None, ...]:  # a setup_context of its own would cost 25 us
        x, start, per_neuron, scalars, want_state, key = inputs
        backend, variant = find(key)
        made = backends.module(backend).forward(variant, x, start, per_neuron, scalars, want_state)
        _setup_context(ctx, inputs, made)
        out, state, _, watched = made
        if watched is not None:
            ctx.mark_non_differentiable(watched)
        return out, state, watched

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the operator raises where a second derivative is taken
            return _operator_backward(ctx, *gradients)
        *arguments, key = _backward_arguments(ctx, *gradients[:2])
        backend, variant = find(key)
        return *backends.module(backend).backward(variant, *arguments), None, None, None


def fused(
    x: Tensor, start: Tensor | None, per_neuron: Tensor | None, scalars: list[float], want_state: bool, key: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The spikes, the final states [STATES, N] and what is recorded [T, WATCHED, N], by the shortest way; x [T, ...]."""
    if torch.compiler.is_compiling() or operators_are_observed(x, start, per_neuron):
        out, state, _, watched = forward(x, start, per_neuron, scalars, want_state, key)
        return out, state, watched
    made: tuple[Tensor, Tensor | None, Tensor | None] = FusedFunction.apply(
        x, start, per_neuron, scalars, want_state, key
    )
    return made
