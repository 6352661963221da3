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
    x: Tensor, start: Tensor, rows: Tensor, scalars: list[float], last: bool, key: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """out [T, N], state [STATES, N] (where `last` asks for it), kept for the way back, watched [T, WATCHED, N]."""
    backend, variant = find(key)
    out, state, kept, watched = backends.module(backend).forward(variant, x, start, rows, scalars, last)
    return out, state if last else state.new_empty(len(state), 0), kept, watched


@forward.register_fake
def _(
    x: Tensor, start: Tensor, rows: Tensor, scalars: list[float], last: bool, key: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    variant = find(key)[1]
    steps, neurons = x.shape
    watched = (steps if variant.record else 1, len(variant.record), neurons)
    return (
        x.new_empty(steps, neurons),
        start.new_empty(len(start), neurons if last else 0),
        start.new_empty(variant.kept_shape(steps, neurons), dtype=getattr(torch, variant.kept_dtype)),
        start.new_empty(watched),
    )


@torch.library.custom_op("tfexplore::backward", mutates_args=())
def backward(
    x: Tensor, g_out: Tensor, g_state: Tensor, start: Tensor, rows: Tensor, scalars: list[float], kept: Tensor, first: bool,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x [T, N], of the initial states [STATES, N] (where `first` asks for it) and of the rows [ROWS, N]."""
    backend, variant = find(key)
    g_x, g_start, g_rows = backends.module(backend).backward(
        variant, x, g_out, g_state, start, rows, scalars, kept, first
    )
    return g_x, g_start if first else g_start.new_empty(len(g_start), 0), g_rows


@backward.register_fake
def _(
    x: Tensor, g_out: Tensor, g_state: Tensor, start: Tensor, rows: Tensor, scalars: list[float], kept: Tensor, first: bool,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    g_start = g_state.new_empty(len(g_state), g_out.shape[1] if first else 0)
    return g_out.new_empty(g_out.shape), g_start, rows.new_empty(rows.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, start, rows, ctx.scalars, _, ctx.key = inputs
    out, _, kept, watched = output
    variant = find(ctx.key)[1]
    again = variant.keeps == "input"
    ctx.shape = out.shape
    ctx.mark_non_differentiable(kept, watched)
    ctx.set_materialize_grads(False)  # zeros as large as `kept` would be made for nothing
    # empty tensors, not views: an input is not kept alive where the adjoint does without it
    x = x if again else x.new_empty(0, out.shape[1])
    start = start if again and variant.config else start.new_empty(len(start), 0)  # on a CPU `kept` has it
    ctx.save_for_backward(x, start, rows, kept)


def _gradients(ctx: Any, g_out: Tensor | None, g_state: Tensor | None) -> tuple[Any, ...]:
    """The arguments of `backward`."""
    x, start, rows, kept = ctx.saved_tensors
    g_out = x.new_zeros(ctx.shape) if g_out is None else g_out
    g_state = start.new_empty(len(start), 0) if g_state is None else g_state
    x = x.view(x.shape[0], ctx.shape[1])  # of a traced x, len would fix the number of steps
    return x, g_out, g_state, start, rows, ctx.scalars, kept, ctx.needs_input_grad[1], ctx.key


def _way_back(ctx: Any, g_out: Tensor | None, g_state: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    g_x, g_start, g_rows = backward(*_gradients(ctx, g_out, g_state))
    return g_x, g_start if ctx.needs_input_grad[1] else None, g_rows, None, None, None


def _no_second_way_back(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
    raise RuntimeError(
        "The fused kernels have no second derivative (create_graph=True, or double backward); use backend='torch' for it."
    )


forward.register_autograd(_way_back, setup_context=_remember)
backward.register_autograd(_no_second_way_back, setup_context=lambda ctx, inputs, output: None)


class Direct(torch.autograd.Function):
    """`forward` and its derivative without the operators around them; x [T, ...] comes and goes in its own shape."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:  # a setup_context of its own would cost 25 us
        x, start, rows, scalars, last, key = inputs
        backend, variant = find(key)
        flat = x.reshape(len(x), -1)  # here and not outside, where autograd would note it
        made: tuple[Tensor, ...] = backends.module(backend).forward(variant, flat, start, rows, scalars, last)
        # no view made here is saved: of one, autograd tells another story when x is changed in place
        _remember(ctx, inputs if x.is_contiguous() else (flat, *inputs[1:]), made)
        ctx.whole = x.shape
        return made[0].view(x.shape), *made[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        g_out, g_state, *_ = gradients
        given = _gradients(ctx, None if g_out is None else g_out.reshape(ctx.shape), g_state)
        if torch.is_grad_enabled():  # create_graph=True: the operator tells that there is no second derivative
            g_x, g_start, g_rows = backward(*given)
        else:
            backend, variant = find(ctx.key)
            g_x, g_start, g_rows = backends.module(backend).backward(variant, *given[:-1])
        return g_x.view(ctx.whole), g_start if ctx.needs_input_grad[1] else None, g_rows, None, None, None


def fused(
    x: Tensor, start: Tensor, rows: Tensor, scalars: list[float], last: bool, key: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`forward` for x [T, ...], whose shape the spikes have too, by the shortest way."""
    if torch.compiler.is_compiling() or looked_at(x, start, rows):
        out, *others = forward(x.reshape(x.shape[0], -1), start, rows, scalars, last, key)
        return out.view(x.shape), *others
    made: tuple[Tensor, Tensor, Tensor, Tensor] = Direct.apply(x, start, rows, scalars, last, key)
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
