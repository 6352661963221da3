"""The fused kernels as PyTorch citizens: two custom operators, forward and backward, with autograd between them.

Both work on flat tensors, x [T, N] and states [STATES, N], and name their compiled variant by a content hash, so that
`torch.compile` sees one opaque operator with known shapes. The eager backend needs no operator: autograd sees through it.

An operator written in Python costs some 100 us there and back in PyTorch's own machinery, more than a small layer's kernels.
It is there for who looks at operators: compilers, exporters, transforms, modes, profilers. Where none does, `fused` calls
the same functions through a plain `autograd.Function`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.codegen import Variant, fingerprint

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
    x: Tensor, start: Tensor, rows: Tensor, scalars: list[float], key: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """out [T, N], state [STATES, N], kept for the way back, watched [T, WATCHED, N]."""
    backend, variant = find(key)
    return backends.module(backend).forward(variant, x, start, rows, scalars)


@forward.register_fake
def _(x: Tensor, start: Tensor, rows: Tensor, scalars: list[float], key: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    variant = find(key)[1]
    steps, neurons = x.shape
    watched = (steps if variant.record else 1, len(variant.record), neurons)
    return (
        x.new_empty(steps, neurons),
        start.new_empty(start.shape),
        start.new_empty(variant.kept_shape(steps, neurons), dtype=getattr(torch, variant.kept_dtype)),
        start.new_empty(watched),
    )


@torch.library.custom_op("tfexplore::backward", mutates_args=())
def backward(
    x: Tensor, g_out: Tensor, g_state: Tensor, rows: Tensor, scalars: list[float], kept: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x [T, N], of the initial states [STATES, N] and of the learned parameters [ROWS, N]."""
    backend, variant = find(key)
    return backends.module(backend).backward(variant, x, g_out, g_state, rows, scalars, kept)


@backward.register_fake
def _(
    x: Tensor, g_out: Tensor, g_state: Tensor, rows: Tensor, scalars: list[float], kept: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    return g_out.new_empty(g_out.shape), g_state.new_empty(g_state.shape), rows.new_empty(rows.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, rows, ctx.scalars, ctx.key = inputs
    out, state, kept, watched = output
    variant = find(ctx.key)[1]
    ctx.shape = out.shape
    ctx.like_state, ctx.like_out = state.new_empty(0), out.new_empty(0)
    ctx.states = state.shape
    ctx.mark_non_differentiable(kept, watched)
    ctx.set_materialize_grads(False)  # zeros as large as `kept` would be made for nothing
    # an empty tensor, not a view: the input is not kept alive where the adjoint does without it
    ctx.save_for_backward(x if variant.keeps == "input" else x.new_empty(0, x.shape[1]), rows, kept)


def _gradients(ctx: Any, g_out: Tensor | None, g_state: Tensor | None) -> tuple[Any, ...]:
    """The arguments of `backward`."""
    x, rows, kept = ctx.saved_tensors
    g_out = ctx.like_out.new_zeros(ctx.shape) if g_out is None else g_out
    g_state = ctx.like_state.new_zeros(ctx.states) if g_state is None else g_state
    return x, g_out, g_state, rows, ctx.scalars, kept, ctx.key


def _way_back(ctx: Any, g_out: Tensor | None, g_state: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    return *backward(*_gradients(ctx, g_out, g_state)), None, None


def _no_second_way_back(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
    raise RuntimeError(
        "The fused kernels have no second derivative (create_graph=True, or double backward); use backend='torch' for it."
    )


forward.register_autograd(_way_back, setup_context=_remember)
backward.register_autograd(_no_second_way_back, setup_context=lambda ctx, inputs, output: None)


class Direct(torch.autograd.Function):
    """`forward` and its derivative without the operators around them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:  # a setup_context of its own would cost 25 us
        x, start, rows, scalars, key = inputs
        backend, variant = find(key)
        made: tuple[Tensor, ...] = backends.module(backend).forward(variant, x, start, rows, scalars)
        _remember(ctx, inputs, made)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the operator tells that there is no second derivative
            return _way_back(ctx, *gradients)
        x, g_out, g_state, rows, scalars, kept, key = _gradients(ctx, *gradients[:2])
        backend, variant = find(key)
        return *backends.module(backend).backward(variant, x, g_out, g_state, rows, scalars, kept), None, None


def fused(x: Tensor, start: Tensor, rows: Tensor, scalars: list[float], key: str) -> tuple[Tensor, ...]:
    """`forward` by the shortest way."""
    way = forward if torch.compiler.is_compiling() or looked_at(x, start, rows) else Direct.apply
    made: tuple[Tensor, ...] = way(x, start, rows, scalars, key)
    return made


def looked_at(*tensors: Tensor) -> bool:
    """Whether anybody follows the operators of these tensors: a mode, a transform, a tensor of its own kind, a profiler."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.jit.is_tracing()
        or torch.autograd._profiler_enabled()
        or any(type(tensor) not in (Tensor, torch.nn.Parameter) for tensor in tensors)
    )
