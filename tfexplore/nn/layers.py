"""Neurons as `torch.nn` modules: a layer runs a neuron over time, x `[T, B, *features]` -> spikes of the same shape.

`Layer` takes any neuron value; those of the library have layers of their own (`library.py`). This file unfolds shapes and holds
the layer's parameters; what may be set at any time is in `settings`, the work is done in `ops` (fused) or
`backends.torch_reference` (eager).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore import backends
from tfexplore.backends import Given, torch_reference
from tfexplore.codegen import keep as keeping
from tfexplore.codegen import schedule as scheduling
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron, check_neuron
from tfexplore.neurons.parameters import checked_count
from tfexplore.nn import constant, memoryless, own, together, transforms
from tfexplore.nn.checks import State, check_input, check_state, checked_lengths
from tfexplore.nn.layout import Order, as_in_memory, as_named, flattened, grouped, memory_order, unflattened
from tfexplore.nn.normalise import Normalised, normalised, normalises_apart
from tfexplore.nn.routes import kernel_for, name_of, normalised_step, state_dtype, walks_of
from tfexplore.nn.settings import Known, Settings

MOST_CALLS = 256


class Layer(Settings):
    r"""All time steps of a layer of neurons: for t = 1 ... T charge, fire, reset (see `neurons.Neuron`).

    A layer is a neuron on a backend. A fused backend runs all T steps in one kernel, forward and backward, compiled from the
    neuron's equations the first time and cached on disk; "torch" runs the same equations eagerly. All backends give the same
    spikes, bit for bit in float32.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`, or of a class of your own.
        backend: `"torch"` (eager, any device), `"numba"` (fused, CPU), `"cuda"` (fused, GPU), or `"auto"` for the fused one where
            it can run; `layer.choice(x)` reports which, and why.
        keep: what the forward pass saves for backward: `"potential"` (the values that the adjoint needs, at every step),
            `"input"` (chunked checkpointing: x and the state every K steps; the rest is recomputed chunk by chunk), `"bits"` (a
            bit or two of every step, for neurons where that is exact) or `"auto"` (the fastest that is exact; see
            `tfexplore.codegen.keep`). The gradients are the same, bit for bit.
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one, and so have
            those that are drawn from a distribution.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.
        temporal: `"on"`, or `"off"` for a layer without memory: each time step starts from the neuron's initial state and leaves
            none (Hu et al., ICML 2024). May be set at any time.
        temporal_gradient: False cuts the gradient through time, and changes no spike: each step takes the states before it as
            numbers (SLTT, Meng et al., ICCV 2023), so that a given or initial state has no gradient. May be set at any time.
        schedule: how a fused backend walks time: `"serial"`; `"chunked"` (chunks of time side by side, as a scan: the backward
            pass of every neuron, and the forward pass where the step is affine in the states, which no neuron with a reset is);
            `"speculative"` (the forward pass of any neuron by chunks from guessed states, until nothing changes; the same bits as
            "serial"); or `"auto"` (the faster of the first two by a predicted cost, where that changes no spike). A scan adds in
            another order, so last digits differ; see `tfexplore.codegen.schedule`. May be set at any time.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` in the order of `neuron.states`, in float32 (float64 for float64 input); `()` with
          `temporal="off"`
        - output: that of x, in x's dtype

    Raises:
        TypeError, ValueError: naming the argument, what came and what is allowed; at the call for input of another dtype, shape
            or device.

    Example:
        >>> import torch
        >>> from tfexplore import Layer, neurons
        >>> layer = Layer(neurons.LIF(tau=2.0), backend="torch")
        >>> spikes, (v,) = layer(torch.full((3, 1, 1), 0.8), return_state=True)
        >>> spikes.flatten().tolist(), round(v.item(), 4)
        ([0.0, 1.0, 0.0], 0.9)
    """

    fixed: own.Fixed

    def __init__(
        self,
        neuron: Neuron,
        *,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
        temporal: str = "on",
        temporal_gradient: bool = True,
        schedule: str = "auto",
    ) -> None:
        super().__init__()
        check_neuron(neuron)
        if backend not in backends.NAMES:
            raise ValueError(f"backend must be one of {', '.join(map(repr, backends.NAMES))}, but got {backend!r}.")
        if channels is not None:
            checked_count("channels", channels)
            if not neuron.learn and not own.distributions(neuron):
                raise ValueError(
                    f"channels={channels} has no effect: {type(neuron).__name__} learns no parameter (see learn=) and draws none."
                )
        self.neuron = neuron = own.drawn(neuron, channels)
        self.temporal, self.temporal_gradient = temporal, temporal_gradient
        keeping.check(keep, self.step, smooth)
        self.backend, self.keep, self.channels, self.smooth = backend, keep, channels, smooth
        self.schedule = schedule
        self.raw = nn.ParameterDict(own.learned_from(neuron, self.bounds, channels))
        self.fixed = own.Fixed({key: getattr(neuron, key) for key in neuron.shaped if key not in neuron.learn})

    @property
    def learned(self) -> dict[str, Tensor]:
        """The learned parameters by name, as they are now; training moves `raw`, which no bound constrains."""
        names = [symbol.name for symbol in self.step.learned]  # in the kernels' order
        return {name: self.bounds[name].from_free(self.raw[name]) for name in names}

    def choice(self, x: Tensor) -> backends.Choice:
        """The backend that would run x, and why.

        >>> import torch, tfexplore
        >>> tfexplore.LIF(backend="torch").choice(torch.zeros(4, 1))
        Choice(name='torch', reason='requested')
        """
        return backends.choose(self.backend, x.device)

    def schedule_for(self, x: Tensor) -> scheduling.Walks:
        """How time would be walked for x [T, B, *features], forward and backward, and why.

        >>> import torch, tfexplore
        >>> tfexplore.LI(schedule="chunked").schedule_for(torch.zeros(1000, 2, 3))
        Walks(forward='chunked', backward='chunked', reason='requested')
        >>> tfexplore.LIF(schedule="chunked").schedule_for(torch.zeros(1000, 2, 3)).forward
        'serial'
        """
        key = None if self._temporal == "off" else self.kernel(x, self.keep, once=self._once(x) is not None)
        return walks_of(key, x, "temporal='off'" if self._temporal == "off" else "the eager loop over time")

    def forward(
        self,
        x: Tensor,
        state: Sequence[Tensor] | None = None,
        *,
        return_state: bool = False,
        trace: str | Sequence[str] = (),
        lengths: Tensor | None = None,
        batch_norm: _BatchNorm | None = None,
    ) -> Any:
        """Runs all time steps.

        Args:
            x: the input current, `[T, B, *features]`, in float32, float64, float16 or bfloat16; any strides.
            state: the hidden state to start from, a tuple of `[B, *features]` in the order of `state_names`; None for the initial
                state, or within `carry` for the state of the last call.
            return_state: return the hidden state after the last step too.
            trace: variables to return at every step as well, with their gradients: a state as it is after the step (`"v"`), or
                `"h"`, the charged potential before the reset; one name, or several.
            lengths: the number of steps of each sample, `[B]`, for sequences of different length that are padded to T. After its
                last step a sample's state stays as it was, its spikes and traces are 0, and no gradient comes from there.
            batch_norm: a BatchNorm over the channels of x, which is normalised as the kernel reads it: the result of the two
                modules one after the other, to rounding, with 9 words per element-step instead of 13 (see `fuse`).

        Shape:
            - x: `[T, B, *features]`
            - each state: `[B, *features]`, in float32 (float64 for float64 input)
            - output: that of x, in x's dtype
            - each trace: that of x, in the state's dtype

        Returns:
            The spikes (of a neuron that does not spike, its potential); with `return_state` or `trace` a tuple: the spikes, the
            state, then each trace.

        Raises:
            TypeError: for an input that is no dense tensor of an allowed dtype, or a state of another length.
            ValueError: for another shape, dtype or device than is allowed, or an unknown trace; the message names the argument.

        Example:
            >>> import torch, tfexplore
            >>> x = torch.full((3, 1, 1), 0.8, requires_grad=True)
            >>> spikes, v = tfexplore.LIF(tau=2.0)(x, trace="v")
            >>> v.sum().backward()                                   # a loss on the potential
            >>> [round(g, 2) for g in x.grad.flatten().tolist()]
            [1.75, 1.5, 1.0]
        """
        traced = self.traced(trace)
        run: Callable[..., tuple[Tensor, State]] = self.run
        if batch_norm is not None:
            check_input(x)
            if not isinstance(batch_norm, _BatchNorm):
                raise TypeError(f"batch_norm must be a BatchNorm of torch.nn, but got {type(batch_norm).__name__}.")
            more = (state, self.provider, self.padding, self.sink, lengths, traced or None, return_state or None)
            if normalises_apart(batch_norm, x):
                x = batch_norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            elif all(each is None for each in more) and (out := self._together(batch_norm, x)) is not None:
                return out
            else:
                # before the state is taken: over several ranks, all must come here before one goes on
                current = constant.current(x)
                repeats = x.shape[0] // current.shape[0]
                run = functools.partial(run, norm=normalised(batch_norm, current, axis=2, repeats=repeats))
        return self.called(run, x, state, return_state, traced, lengths)

    def run(
        self,
        x: Tensor,
        state: State | None,
        want_state: bool = True,
        *,
        trace: tuple[str, ...] = (),
        traces: dict[str, Tensor] | None = None,
        lengths: Tensor | None = None,
        norm: Normalised | None = None,
    ) -> tuple[Tensor, State]:
        """As in `Stateful`. norm: how x is normalised."""
        lengths, sink = checked_lengths(lengths, x), self.sink
        watched = trace if sink is None else (*trace, *sink.kernel_names(self))
        # in one order: each would be a kernel of its own
        named = tuple(name for name in self.trace_names if name in watched) if watched else ()
        differentiable = bool(trace or (sink is not None and sink.differentiable))
        if self._temporal == "off":
            if self.step.per_neuron:  # as x is named, not folded
                own.check_shapes({**self.raw, **dict(self.fixed.named_buffers())}, x)
            steps = None if lengths is None else memoryless.valid(lengths, x)
            current, norm = memoryless.folded(x, norm, steps)
            out, after, found = self._walked(current, None, False, named, differentiable, None, norm)
            out = memoryless.unfolded(out, x, steps)
            found = {name: memoryless.unfolded(z, x, steps) for name, z in found.items()}
        else:
            out, after, found = self._walked(x, state, want_state, named, differentiable, lengths, norm)
        if traces is not None:
            traces |= {name: found[name] for name in trace}
        if sink is not None:
            sink.add(self, out, {name: found[name] for name in sink.kernel_names(self)})
        return out, after

    def _walked(
        self, x: Tensor, state: State | None, want_state: bool, named: tuple[str, ...], differentiable: bool,
        lengths: Tensor | None, norm: Normalised | None,
    ) -> tuple[Tensor, State, dict[str, Tensor]]:  # fmt: skip
        """The spikes, the state after the last step, and the traces that are named."""
        plain = state is None and not (named or want_state) and lengths is None and norm is None
        if plain and not torch.compiler.is_compiling() and (known := self.known(x)):
            kernel, given, order = known
            return as_named(transforms.fused(kernel, as_in_memory(x, order), given, False)[0], order), (), {}
        if lengths is not None:
            scheduling.refuse(self._schedule, "samples of different lengths have not all of them")
        once = self._once(x)
        current = norm.x if norm is not None else x if once is None else once
        if once is None and norm is not None:
            current = current.expand(x.shape)  # the single step of a constant current, to chunks
        order = memory_order(current)
        if lengths is not None and order is not None and order[0] != 1:
            order = None  # the neurons of a sample must be neighbours
        step, step_name = (self.step, self.step_name) if norm is None else normalised_step(self.step)
        given = self.given(x, state, order, norm, lengths)
        if x.numel() == 0:
            after: Tensor | None
            recorded: Tensor | None
            out, after = x.clone(), torch_reference.begin(step, given, flattened(x, order)).clone()
            recorded = x.to(state_dtype(x.dtype)).reshape(len(x), 1, math.prod(x.shape[1:])).expand(-1, len(named), -1)
        else:
            tensors = (current, given.start, given.per_neuron)
            with_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
            traced = with_grad and differentiable
            keep = self.keep if with_grad else "nothing"
            # `once` itself, and not the shapes, which a compiler may take for symbols
            kernel_name = self.kernel(x, keep, step_name, named, traced, once is not None)
            if kernel_name is None:
                variant = Variant(step, record=named, smooth=self.smooth)
                out, after, recorded = torch_reference.run(variant, flattened(current.expand(x.shape), order), given)
                out = unflattened(out, x.shape[1:], order)
            else:
                out, recorded, after = transforms.fused(kernel_name, as_in_memory(current, order), given, want_state)
                out = as_named(out, order)
        rows = () if recorded is None or not named else recorded.unbind(1)
        found = {name: unflattened(row, x.shape[1:], order) for name, row in zip(named, rows, strict=True)}
        if not want_state:
            return out, (), found
        assert after is not None
        after = unflattened(after, x.shape[1:], order)
        return out, tuple(after[k] for k in range(len(after))), found

    def known(self, x: Tensor) -> Known | None:
        """What a plain call needs, found once for each kind of x: a small layer takes no longer than finding it would.

        None for what has no such thing: parameters of groups of neurons, which training moves, and a constant current.
        """
        with_grad = x.requires_grad and torch.is_grad_enabled()
        kind = (
            x.shape, x.stride(), x.dtype, x.device, with_grad, self.backend, self.keep, self.smooth,
            self._schedule,
        )  # fmt: skip
        found = self.calls.get(kind)
        if found is None and not (self.step.per_neuron or x.numel() == 0 or self._once(x) is not None):
            order, kernel = memory_order(x), self.kernel(x, self.keep if with_grad else "nothing")
            if kernel is not None:
                if len(self.calls) >= MOST_CALLS:  # a T that is always another
                    self.calls.clear()
                found = self.calls[kind] = kernel, self.given(x, None, order), order
        return found

    def _once(self, x: Tensor) -> Tensor | None:
        """The single step of a constant current, which one loop over time reads; chunks read what each of them has."""
        return None if scheduling.in_chunks(self._schedule) else constant.once(x)

    def _together(self, norm: _BatchNorm, x: Tensor) -> Tensor | None:
        """The output behind the BatchNorm, as one node of autograd's graph where that is possible."""
        if self.step.per_neuron or self._once(x) is not None:
            return None
        whole, x = x, x if self._temporal == "on" else memoryless.folded(x, None, None)[0]
        with_grad = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in norm.parameters()))
        _, step_name = normalised_step(self.step)
        key = self.kernel(x, self.keep if with_grad else "nothing", step_name)
        out = None if key is None else together.run(norm, x, key, self.by_value)
        return out if out is None or self._temporal == "on" else memoryless.unfolded(out, whole, None)

    def kernel(
        self,
        x: Tensor,
        keep: str,
        step_name: str = "",
        record: tuple[str, ...] = (),
        traced: bool = False,
        once: bool = False,
    ) -> str | None:
        """The name of the kernel for x, None on the eager backend; step_name: where it is another step than the neuron's own."""
        place = (self.backend, x.device.type, x.device.index or 0, x.dtype)
        return kernel_for(step_name or self.step_name, *place, keep, record, self.smooth, traced, once, self._schedule)

    def given(
        self, x: Tensor, state: State | None, order: Order, norm: Normalised | None = None, lengths: Tensor | None = None
    ) -> Given:  # fmt: skip
        """What the kernels take besides x, whose neurons lie in this order; norm: of x before the neuron."""
        values = own_values = self.learned | dict(self.fixed.named_buffers()) if self.step.per_neuron else {}
        if norm is not None:  # in the order of the step
            values = {"x_scale": norm.scale, "x_shift": norm.shift, **own_values, "x_centre": norm.centre}
        per_neuron, inner = grouped(own.checked(values, x), x.shape[1:], order) if values else (None, 1)
        start = None
        if state is not None:
            check_state(state, self.neuron.states, x, state_dtype(x.dtype))
            start = flattened(torch.stack(state), order)
        elif self.own_initial:
            assert per_neuron is not None
            rows = per_neuron if norm is None else per_neuron[2:-1]
            begin = torch_reference.initial(self.step, rows, self.by_value[: len(self.step.scalars)])
            count, neurons = rows.shape[1], math.prod(x.shape[1:])
            start = torch_reference.spread(torch.stack([value.expand(count) for value in begin]), inner, neurons)
        # with lengths, the kernels cut: a sample without a step here keeps its state as it is
        if start is not None and not self._temporal_gradient and lengths is None and x.shape[0]:
            start = start.detach()
        return Given(x.shape[0], self.by_value, start, per_neuron, inner, lengths)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.step_name, self.calls = name_of(self.step), {}  # in another process they may be others

    def __repr__(self) -> str:
        return f"{type(self.neuron).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        shown = {
            "backend": "auto", "keep": "auto", "channels": None, "smooth": False, "temporal": "on", "temporal_gradient": True,
            "schedule": "auto",
        }  # fmt: skip
        changed = [f"{key}={getattr(self, key)!r}" for key, usual in shown.items() if getattr(self, key) != usual]
        return ", ".join([repr(self.neuron)[len(type(self.neuron).__name__) + 1 : -1], *changed])
