"""The eager backend: the time loop as one would write it in torch, one small operation after the other.

It runs on every device, saves whatever autograd wants, and differentiates through autograd, not through our adjoint:
it is the reference that the fused backends are tested against, and the baseline of every race.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor

from tfexplore.backends import Given, sizes
from tfexplore.codegen.functions import Function, functions_of, python_function
from tfexplore.codegen.printing import TORCH
from tfexplore.codegen.variant import Variant
from tfexplore.machine.torch_private import is_transformed
from tfexplore.neurons.step import Step


def where(condition: Tensor, a: Tensor | float, b: Tensor | float, like: Tensor) -> Tensor:
    """`torch.where` whose constants take the dtype of `like`: torch's own would make them float32."""
    a, b = (v if isinstance(v, Tensor) else number(v, like) for v in (a, b))
    return torch.where(condition, a, b)


def number(value: float, like: Tensor) -> Tensor:
    return numbers((value,), like)[0]


def fired(u: Tensor, strict: bool) -> Tensor:
    """1 where u >= 0 (strict: where u > 0), else 0."""
    return (u > 0 if strict else u >= 0).to(u.dtype)


class Fire(torch.autograd.Function):
    """The step function in the forward pass, the surrogate's slope in the backward pass."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, strict: bool, slope: Callable[..., Tensor], p: tuple[Tensor, ...]) -> Tensor:
        ctx.save_for_backward(u)
        ctx.slope, ctx.p = slope, p
        return fired(u, strict)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (u,) = ctx.saved_tensors
        return grad_outputs[0] * ctx.slope(u, ctx.p), None, None, None


class Sloped(torch.autograd.Function):
    """The same for transforms of `torch.func`, which see tensors only: the slope is given."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, slope: Tensor, strict: bool) -> Tensor:
        return fired(u, strict)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        return grad_outputs[0] * ctx.saved_tensors[0], None, None


@functools.cache
def compiled(variant: Variant) -> dict[str, Callable[..., Any]]:
    """The neuron's functions on tensors, from the same expressions as every kernel."""
    step = variant.step
    p = (*step.scalars, *step.per_neuron)
    h, s, u = step.charged, step.s, step.u
    result = sympy.Symbol("slope", real=True)
    members = [
        *(function for function in functions_of(variant) if function.name in ("charge", "fire", "spike")),
        Function("slope", (("u", u), ("p", p)), ((result, step.slope),), (("slope", result),)),
        Function("initial", (("p", p),), tuple(zip(step.before, step.initial, strict=True)), (("z", step.before),)),
        *(
            Function(f"reset_{k}", (("h", h), ("s", s), ("p", p)), ((z, value),), (("z", z),))
            for k, (z, value) in enumerate(zip(step.after, step.reset, strict=True))
        ),
    ]
    return on_tensors(members, step.name)


def on_tensors(functions: Iterable[Function], name: str) -> dict[str, Callable[..., Any]]:
    """Generated functions as Python's, by their names; name: of the neuron, for tracebacks."""
    text = "\n".join(python_function(function, TORCH) for function in functions)
    space: dict[str, Any] = {"torch": torch, "where": where, "number": number}
    exec(compile(text, f"<tfexplore {name}>", "exec"), space)
    return space


def numbers(scalars: tuple[float, ...], like: Tensor) -> tuple[Tensor, ...]:
    """The parameters as 0-dim tensors of the state's dtype; on CUDA, dividing by a Python number would use 1/number."""
    make = _numbers if type(like) is Tensor else _numbers.__wrapped__  # a fake tensor is for one trace only
    return make(scalars, like.dtype, like.device)


@functools.cache  # without limit: a CUDA graph may hold them
def _numbers(scalars: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    with torch.inference_mode(False):  # for later calls, which may want gradients
        return tuple(torch.tensor(value, dtype=dtype, device=device) for value in scalars)


def initial(step: Step, per_neuron: Tensor, scalars: list[float]) -> tuple[Tensor, ...]:
    """The states before the first step, where they depend on parameters of groups of neurons [PER_NEURON, COUNT]."""
    values = compiled(Variant(step))["initial"]((*numbers(tuple(scalars), per_neuron), *per_neuron.unbind(0)))
    return tuple(value if isinstance(value, Tensor) else number(value, per_neuron) for value in values)


LISTENERS: list[Callable[[Iterable[Tensor], int], Iterable[Tensor]]] = []
"""Functions that follow the time loops step by step (see `measure.timeline`)."""


def one_by_one(steps: Sequence[Tensor]) -> Iterable[Tensor]:
    """The steps of a time loop; a listener may yield them one by one, and so knows when each begins."""
    walked: Iterable[Tensor] = steps
    for listener in LISTENERS:
        walked = listener(walked, len(steps))
    return walked


def spread(values: Tensor, inner: int, neurons: int) -> Tensor:
    """[K, COUNT] -> [K, N]: neuron i has column (i // inner) % COUNT.

    >>> spread(torch.tensor([[1.0, 2.0]]), 2, 8).tolist()
    [[1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]]
    """
    groups, count = values.shape
    outer = neurons // (count * inner)
    return values.view(groups, 1, count, 1).expand(groups, outer, count, inner).reshape(groups, neurons)


def begin(step: Step, given: Given, x: Tensor) -> Tensor:
    """The states before the first step [STATES, N] of x [T, ...], also where all neurons begin alike."""
    if given.start is not None:
        return given.start
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    values = torch.tensor(given.scalars[len(step.scalars) :], dtype=dtype, device=x.device)
    return values.unsqueeze(1).expand(-1, sizes(x)[1])


def run(variant: Variant, x: Tensor, given: Given) -> tuple[Tensor, Tensor, Tensor]:
    """x [T, N] -> out [T, N], state [STATES, N], watched [T, WATCHED, N]."""
    fire = (lambda u, strict, slope, p: Sloped.apply(u, slope(u, p), strict)) if is_transformed() else Fire.apply
    step, do, start = variant.step, compiled(variant), begin(variant.step, given, x)
    own = () if given.per_neuron is None else spread(given.per_neuron, given.inner, x.shape[1]).unbind(0)
    p = (*numbers(tuple(given.scalars[: len(step.scalars)]), start), *own)
    z = start.unbind(0)
    names = [symbol.name for symbol in step.before]
    outs, watched = [], []
    goes_on = None if given.lengths is None else given.lengths.repeat_interleave(x.shape[1] // len(given.lengths))
    for t, x_t in enumerate(one_by_one(x.to(start.dtype).unbind(0))):
        if goes_on is not None:  # what is behind the end may be anything: 0 times it would be NaN in the gradients
            x_t = torch.where(t < goes_on, x_t, 0)
        h = do["charge"](z if step.temporal_gradient else tuple(each.detach() for each in z), x_t, p)
        if step.fire is None:
            s = torch.zeros_like(h[0])
        else:
            u = do["fire"](h, p)
            s = do["spike"](u, p) if variant.smooth else fire(u, step.strict, do["slope"], p)
        after = tuple(
            do[f"reset_{k}"](h, s.detach() if k == 0 and step.detach_reset else s, p) for k in range(len(step.before))
        )
        seen = {"h": h[0], **dict(zip(names, after, strict=True))}
        made = [s if step.fire is not None else after[0], *(seen[name] for name in variant.record)]
        if goes_on is not None:  # after its last step a sample's state stays, and the rest is 0
            after = tuple(torch.where(t < goes_on, new, old) for new, old in zip(after, z, strict=True))
            made = [torch.where(t < goes_on, value, 0) for value in made]
        z = after
        outs.append(made[0])
        watched += made[1:]
    out = torch.stack(outs).to(x.dtype)
    traces = torch.stack(watched).view(len(outs), len(variant.record), -1) if watched else x.new_empty(0, 0, x.shape[1])
    return out, torch.stack(z), traces


plain = run


def stay_eager() -> None:
    """torch.compile leaves `run` the plain loop from now on; the fused backends need no graph break.

    Called once Dynamo is loaded: as a decorator, `torch.compiler.disable` would load all of it, half a second, at import.
    """
    global run  # noqa: PLW0603  (callers must get the other one)
    if run is plain:
        run = torch.compiler.disable(plain)
