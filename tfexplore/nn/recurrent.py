"""Feedback from step to step: `Recurrent`, one operator where the feedback is a matrix product or a convolution.

The loop over time then runs inside one `autograd.Function`: each step is a product and the fused kernel with T = 1, on memory
prepared once. Autograd sees one node instead of a graph per step, the weight's gradient is one product over all steps, and
what is saved for backward are the spikes and what the adjoint needs. It stays serial in time: s[t-1] comes before step t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tfexplore import backends
from tfexplore.backends import Given, buffers, torch_reference
from tfexplore.codegen.schedule import refuse
from tfexplore.machine.torch_private import has_hooks, operators_are_observed
from tfexplore.nn import ops
from tfexplore.nn.checks import State, check_state, checked_lengths
from tfexplore.nn.layers import Layer
from tfexplore.nn.layout import Order, as_in_memory, as_named, memory_order, unflattened
from tfexplore.nn.routes import state_dtype
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.wrappers import FoldTime, refuse_state


class Recurrent(Stateful):
    r"""A layer whose spikes return as input one step later: its current is x[t] + feedback(s[t-1]).

    .. math:: s_t, z_t = \mathrm{layer}(x_t + \mathrm{feedback}(s_{t-1}), z_{t-1})

    It can only be walked step by step, whatever the schedule: s[t-1] must be known before step t begins. Its hidden state is
    the layer's, then the last spikes; of a layer with `temporal="off"`, the last spikes alone. Of one with
    `temporal_gradient=False`, the feedback takes them as numbers too.

    On a fused backend, `nn.Linear(n, n)` and a convolution that keeps the shape (stride 1, zero padding), as
    `FoldTime(nn.Conv2d(...))`, 1-D or 3-D alike, are one operator over all steps; any other feedback, a layer without memory,
    autocast, `trace`, `record`, `torch.compile` and what else observes operators take a loop of modules, with the same spikes,
    bit for bit.

    Args:
        layer: a layer of neurons.
        feedback: a stateless module from the spikes to a current of the same shape, such as `nn.Linear(n, n)`.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]`, in the order of `layer.state_names`, then the last spikes
        - output: that of x; the backward pass needs it, so no in-place module may follow

    Raises:
        TypeError: if `layer` is no layer of neurons.
        ValueError: if `feedback` has a hidden state.

    Example:
        >>> import torch
        >>> from tfexplore import LIF, Recurrent
        >>> net = Recurrent(LIF(), torch.nn.Linear(4, 4))
        >>> net(torch.zeros(3, 2, 4)).shape
        torch.Size([3, 2, 4])
    """

    feeds_back = True
    """No schedule may walk it layer by layer."""

    def __init__(self, layer: Layer, feedback: nn.Module) -> None:
        super().__init__()
        if not isinstance(layer, Layer):
            raise TypeError(f"Recurrent takes a spiking layer first, but got {type(layer).__name__}.")
        refuse_state(feedback, "Recurrent's feedback")
        self.layer, self.feedback = layer, feedback

    @property
    def state_names(self) -> tuple[str, ...]:
        return (*self.layer.state_names, "last spikes")

    @property
    def trace_names(self) -> tuple[str, ...]:
        return self.layer.trace_names

    def run(
        self,
        x: Tensor,
        state: State | None,
        want_state: bool = True,
        *,
        trace: tuple[str, ...] = (),
        traces: dict[str, Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        lengths = checked_lengths(lengths, x)
        refuse(self.layer.schedule, "Recurrent walks step by step, since s[t-1] comes before step t")
        if state is not None:
            check_state(state[-1:], ("last spikes",), x, state_dtype(x.dtype))
        product, key = product_of(self.feedback, x), None
        if product is not None and x.numel() > 0 and lengths is None and not trace and not self._is_watched(x, state):
            key = self._kernel(x, state)
        if product is None or key is None:
            return self._loop(x, state, lengths, trace, traces)
        layer, order = self.layer, memory_order(x)
        module = self.feedback[0] if isinstance(self.feedback, FoldTime) else self.feedback
        inner, last = (None, None) if state is None else (state[:-1], state[-1])
        if last is not None and not layer.temporal_gradient:
            last = last.detach()
        given = layer.given(x, inner, order)
        about = About(key, given._replace(start=None, per_neuron=None), product, order, want_state)
        tensors = as_in_memory(x, order), given.start, last, given.per_neuron, module.weight, module.bias
        out, after, last = RecurrentFunction.apply(*tensors, about)
        out = as_named(out, order)
        return out, (*unflattened(after, x.shape[1:], order).unbind(0), last) if want_state else ()

    def _is_watched(self, x: Tensor, state: State | None) -> bool:
        """Whether something must see the steps, or the operators in them, or there is no state to walk with."""
        return (
            torch.compiler.is_compiling()
            or torch.is_autocast_enabled(x.device.type)
            or self.layer.temporal == "off"
            or self.layer.sink is not None
            or bool(torch_reference.LISTENERS)
            or type(self.layer).run is not Layer.run
            or any("forward" in vars(module) or has_hooks(module) for module in self.feedback.modules())
            or operators_are_observed(x, *(state or ()), *self.parameters())
        )

    def _kernel(self, x: Tensor, state: State | None) -> str | None:
        """The name of the layer's kernel, None on the eager backend."""
        with_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *(state or ()), *self.parameters()))
        return self.layer.kernel(x, "potential" if with_grad else "nothing")

    def _loop(
        self,
        x: Tensor,
        state: State | None,
        lengths: Tensor | None,
        trace: tuple[str, ...],
        traces: dict[str, Tensor] | None,
    ) -> tuple[Tensor, State]:
        """The same step by step, through modules; what a sink records of the layer is one trace, and not one of each step."""
        sink, seen = self.layer.sink, {} if traces is None else traces
        if sink is None:
            return self._steps(x, state, lengths, trace, seen)
        recorded = sink.kernel_names(self.layer)
        self.layer.sink = None
        try:
            out, after = self._steps(x, state, lengths, tuple({*trace, *recorded}), seen)
        finally:
            self.layer.sink = sink
        sink.add(self.layer, out, {name: seen[name] for name in recorded})
        return out, after

    def _steps(
        self, x: Tensor, state: State | None, lengths: Tensor | None, trace: tuple[str, ...], traces: dict[str, Tensor]
    ) -> tuple[Tensor, State]:
        inner, s = (None, x.new_zeros(x.shape[1:])) if state is None else (state[:-1], state[-1])
        if len(x) == 0:
            out, inner = self.layer.run(x, inner, trace=trace, traces=traces)
            return out, (*inner, s)
        outs: list[Tensor] = []
        seen: dict[str, list[Tensor]] = {name: [] for name in trace}
        for t, x_t in enumerate(torch_reference.one_by_one(x.split(1))):
            left = None if lengths is None else (lengths - t).clamp(0, 1)
            # `run` and not a call: this module keeps the layer's state, not the provider
            fed = s if self.layer.temporal_gradient else s.detach()
            current = x_t + self.feedback(fed.to(x.dtype).unsqueeze(0))
            now: dict[str, Tensor] = {}
            out, inner = self.layer.run(current, inner, trace=trace, traces=now, lengths=left)
            for name, value in now.items():
                seen[name].append(value)
            fired = out[0].to(state_dtype(x.dtype))
            if left is None:
                s = fired
            else:  # the last spikes of a sample that has ended stay, as its state does
                s = torch.where(left.view(-1, *(1,) * (fired.ndim - 1)) > 0, fired, s)
            outs.append(out)
        assert inner is not None
        traces |= {name: torch.cat(values) for name, values in seen.items()}
        return torch.cat(outs), (*inner, s)


@dataclass(frozen=True)
class Matrix:
    """`nn.Linear`: one step's current, which is x and the feedback of the spikes s, [1, B, ..., n].

    And the gradients, from g, that of the current: of one step's spikes, g [B, ..., n], alone or added to others; of the weight
    over all steps at once, g and s [T, B, ..., n].
    """

    channels: int = -1
    """The axis of [T, B, *features] that the bias belongs to."""

    def current(self, x: Tensor, s: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
        if s.ndim == 3 and out.dtype == s.dtype:  # what `linear` does, without a tensor for each step
            if bias is None:
                torch.mm(s[0], weight.t(), out=out[0])
            else:
                torch.addmm(bias, s[0], weight.t(), out=out[0])
            out += x
        else:
            torch.add(x, linear(s, weight, bias), out=out)

    def g_spikes(self, g: Tensor, weight: Tensor) -> Tensor:
        return torch.matmul(g, weight)

    def add_g_spikes(self, others: Tensor, g: Tensor, weight: Tensor, out: Tensor) -> None:
        if g.ndim == 2 and out.dtype == g.dtype:
            torch.addmm(others, g, weight, out=out)
        else:
            torch.add(others, self.g_spikes(g, weight), out=out)

    def g_weight(self, g: Tensor, s: Tensor, weight: Tensor) -> Tensor:
        return g.flatten(0, -2).t() @ s.flatten(0, -2)


@dataclass(frozen=True)
class Convolution:
    """`nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d` that keeps the shape, as `Matrix`, with [B, C, ...]."""

    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    channels: int = 2

    def current(self, x: Tensor, s: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
        torch.add(x, torch.convolution(s.squeeze(0), weight, bias, *self._how()), out=out)

    def g_spikes(self, g: Tensor, weight: Tensor) -> Tensor:
        # g stands in for the spikes: only their shape matters
        return self._backward(g, g, weight, (True, False, False))[0]

    def add_g_spikes(self, others: Tensor, g: Tensor, weight: Tensor, out: Tensor) -> None:
        torch.add(others, self.g_spikes(g, weight), out=out)

    def g_weight(self, g: Tensor, s: Tensor, weight: Tensor) -> Tensor:
        return self._backward(g.flatten(0, 1), s.flatten(0, 1), weight, (False, True, False))[1]

    def _backward(self, g: Tensor, s: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> tuple[Tensor, ...]:
        made: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(g, s, weight, None, *self._how(), wanted)
        return made

    def _how(self) -> tuple[Any, ...]:
        none, ones = (0,) * len(self.padding), (1,) * len(self.padding)
        return ones, self.padding, self.dilation, False, none, self.groups


Product: TypeAlias = Matrix | Convolution


def product_of(feedback: nn.Module, x: Tensor) -> Product | None:
    """What a feedback computes for x [T, B, *features]; None where it is no product that keeps the shape."""
    module: Any = feedback[0] if type(feedback) is FoldTime and len(feedback) == 1 else feedback
    if type(module) is nn.Linear:
        square = module.in_features == module.out_features == x.shape[-1]
        return Matrix() if square and x.ndim > 2 else None
    if module is feedback or type(module) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return None
    wide = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    known = {"same": tuple(w // 2 for w in wide), "valid": (0,) * len(wide)}
    padding = known[module.padding] if isinstance(module.padding, str) else module.padding
    keeps_shape = (
        module.in_channels == module.out_channels
        and set(module.stride) == {1}
        and module.padding_mode == "zeros"
        and all(2 * p == w for p, w in zip(padding, wide, strict=True))
    )
    fits = x.ndim == 3 + len(wide) and x.shape[2] == module.in_channels
    return Convolution(padding, module.dilation, module.groups) if keeps_shape and fits else None


@dataclass(frozen=True)
class About:
    """What `RecurrentFunction` needs besides tensors. key: of the kernel. given: without its tensors. order: of x's axes."""

    key: str
    given: Given
    product: Product
    order: Order
    want_state: bool


class RecurrentFunction(torch.autograd.Function):
    """The loop over time, forward and backward.

    x and the spikes, [T, ...], lie in the order of axes in which the kernels walk them; the feedback gets them as named. For half
    precision the CPU's kernels compute in float32: each step is then converted, in buffers of one step.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, start: Tensor | None, last: Tensor | None, per_neuron: Tensor | None, weight: Tensor,
        bias: Tensor | None, about: About,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        backend, variant = ops.find(about.key)
        steps, neurons = backends.sizes(x)
        out = empty(x, x.shape, x.dtype)
        current, made = in_kernel(out, getattr(torch, variant.data))
        kept = empty(x, variant.kept_shape(steps, neurons), getattr(torch, variant.kept_dtype))
        state = empty(x, (2, len(variant.step.before), neurons), getattr(torch, variant.real))
        given = about.given._replace(start=start, per_neuron=per_neuron)
        state[0] = torch_reference.begin(variant.step, given, x)
        run = backends.module(backend).forward_steps(variant, current, state, given, made, kept)

        # [1, B, *features], as in the loop of modules: a product may add in another order for another shape
        xs, spikes, (charge, *_), (fired, *_) = (as_named(z, about.order).split(1) for z in (x, out, current, made))
        s = x.new_zeros(spikes[0].shape) if last is None else last.to(x.dtype).unsqueeze(0)
        for t in range(steps):
            about.product.current(xs[t], s, weight, bias, charge)
            run(t)
            s = spikes[t] if made is out else spikes[t].copy_(fired)

        ctx.about, ctx.like = about, (x.shape, x.dtype)
        ctx.set_materialize_grads(False)
        before = (out, last) if ctx.needs_input_grad[4] else (None, None)  # only the weight's gradient needs the spikes
        ctx.save_for_backward(*before, per_neuron, weight, kept)
        return (
            (out, state[steps % 2].clone(), s[0].to(state.dtype, copy=True)) if about.want_state else (out, None, None)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: raises where a second derivative is taken
            return *ops.Gradients.apply(lambda: backward(ctx, *gradients), *gradients, *ctx.saved_tensors), None
        return *backward(ctx, *gradients), None


def backward(
    ctx: Any, g_out: Tensor | None, g_after: Tensor | None, g_last: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The gradients of x, start, last, per_neuron, weight and bias; None where they are not wanted."""
    out, last, per_neuron, weight, kept = ctx.saved_tensors
    about, (shape, dtype), wanted = ctx.about, ctx.like, ctx.needs_input_grad
    backend, variant = ops.find(about.key)
    steps, neurons, product = shape[0], math.prod(shape[1:]), about.product
    g_current = empty(weight, shape, dtype)  # x's gradient too
    g_fired, g_charge = in_kernel(g_current, getattr(torch, variant.data))
    g_state = empty(weight, (2, len(variant.step.before), neurons), getattr(torch, variant.real))
    g_state[steps % 2] = 0.0 if g_after is None else g_after
    given = about.given._replace(per_neuron=per_neuron)
    run, g_per_neuron = backends.module(backend).backward_steps(variant, g_fired, g_state, given, kept, g_charge)

    g_out = weight.new_zeros((), dtype=dtype).expand(shape) if g_out is None else g_out
    named = [as_named(z, about.order) for z in (g_out, g_current, g_fired, g_charge)]
    g_outs, g_currents, (g_spikes, *_), (g_x, *_) = (z.unbind(0) for z in named)
    if g_last is None:
        g_spikes.copy_(g_outs[-1])
    else:
        torch.add(g_outs[-1], g_last.to(dtype), out=g_spikes)
    for t in reversed(range(steps)):
        run(t)
        g = g_currents[t] if g_charge is g_current else g_currents[t].copy_(g_x)
        if t and variant.step.temporal_gradient:
            product.add_g_spikes(g_outs[t - 1], g, weight, g_spikes)
        elif t:
            g_spikes.copy_(g_outs[t - 1])

    g_start = g_state[0] if wanted[1] else None
    g_before = product.g_spikes(g, weight).to(g_state.dtype) if wanted[2] else None
    g_weight = g_bias = None
    if wanted[4]:
        gs, s = named[1], as_named(out, about.order)
        g_weight = product.g_weight(gs[1:], s[:-1], weight) if steps > 1 else torch.zeros_like(weight)
        if last is not None:
            g_weight += product.g_weight(gs[:1], last.to(dtype).unsqueeze(0), weight)
    if wanted[5]:
        axes = range(len(shape))
        g_bias = named[1].sum([axis for axis in axes if axis != axes[product.channels]])
    return g_current if wanted[0] else None, g_start, g_before, g_per_neuron(), g_weight, g_bias


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return buffers.empty(tuple(shape), dtype) if like.device.type == "cpu" else like.new_empty(shape, dtype=dtype)


def in_kernel(whole: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two buffers in a kernel's dtype: one step that it reads; and what it writes, all of `whole` or one step to be converted."""
    one = (1, *whole.shape[1:])
    return empty(whole, one, dtype), whole if whole.dtype == dtype else empty(whole, one, dtype)
