"""Neurons as `torch.nn` modules: a layer runs a neuron over time, x `[T, B, *features]` -> spikes of the same shape.

`Layer` takes any neuron value; those of the library have layers of their own (`library.py`). This file checks the input,
holds the learned parameters and unfolds shapes; the work is done in `ops` (fused) or `backends.torch_reference` (eager).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tfexplore import backends
from tfexplore.backends import torch_reference
from tfexplore.codegen import keep as keeping
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import Bound, checked_count, parameters_of
from tfexplore.neurons.step import by_value, scalars_of, step_of
from tfexplore.nn import ops
from tfexplore.nn.layout import Order, as_in_memory, as_named, flattened, memory_order, unflattened
from tfexplore.nn.routes import kernel_for, name_of, state_dtype

State: TypeAlias = tuple[Tensor, ...]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Stateful(nn.Module):
    """Base of modules with a hidden state over time: `Layer` and `Recurrent`.

    `carry` sets a state provider in `provider`, `record` a sink for traces in `sink`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.provider: Any = None
        self.sink: Any = None

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the hidden states, in the order of the state tuple."""
        raise NotImplementedError

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        """The spikes, and the state after the last step, which may be () without `want_state`."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: Sequence[Tensor] | None = None, *, return_state: bool = False
    ) -> Tensor | tuple[Tensor, State]:
        """Runs all time steps.

        Args:
            x: the input current, `[T, B, *features]`, in float32, float64, float16 or bfloat16; any strides.
            state: the hidden state to start from, a tuple of `[B, *features]` in the order of `state_names`; None for the initial
                state, or within `carry` for the state of the last call.
            return_state: return the hidden state after the last step too.

        Shape:
            - x: `[T, B, *features]`
            - each state: `[B, *features]`, in float32 (float64 for float64 input)
            - output: that of x, in x's dtype

        Returns:
            The spikes (of a neuron that does not spike, its potential), or with `return_state` the pair (spikes, state).

        Raises:
            TypeError: for an input that is no dense tensor of an allowed dtype, or a state of another length.
            ValueError: for another shape, dtype or device than is allowed; the message names the argument.
        """
        check_input(x)
        provider = self.provider if state is None else None  # an explicit state takes precedence
        given = provider.take(self) if provider is not None else state
        names = self.state_names
        if given is not None and not (
            isinstance(given, tuple | list) and len(given) == len(names) and all(isinstance(z, Tensor) for z in given)
        ):
            came = f"{len(given)} values" if isinstance(given, tuple | list) else type(given).__name__
            raise TypeError(f"state must be a tuple of {len(names)} tensors ({', '.join(names)}), but got {came}.")
        out, after = self.run(x, None if given is None else tuple(given), return_state or provider is not None)
        if provider is not None:
            out = provider.leave(self, after, out)
        return (out, after) if return_state else out

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"provider": None, "sink": None}  # neither belongs to a copy or a saved module


class Layer(Stateful):
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
        channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of a single one.
        smooth: the spike is replaced by its smooth primitive (`Surrogate.primitive`), so that `torch.autograd.gradcheck` can
            test the kernels.

    Shape:
        - x: `[T, B, *features]`
        - state: a tuple of `[B, *features]` in the order of `neuron.states`, in float32 (float64 for float64 input)
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

    _neuron: Neuron
    bounds: dict[str, Bound]

    def __init__(
        self,
        neuron: Neuron,
        *,
        backend: str = "auto",
        keep: str = "auto",
        channels: int | None = None,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        self.neuron = neuron
        if backend not in backends.NAMES:
            raise ValueError(f"backend must be one of {', '.join(map(repr, backends.NAMES))}, but got {backend!r}.")
        if channels is not None:
            checked_count("channels", channels)
        if channels is not None and not neuron.learn:
            raise ValueError(
                f"channels={channels} has no effect: {type(neuron).__name__} learns no parameter (see learn=)."
            )
        keeping.check(keep, self.step, smooth)
        self.backend, self.keep, self.channels, self.smooth = backend, keep, channels, smooth
        shape = () if channels is None else (channels,)
        self.raw = nn.ParameterDict(
            {
                key: nn.Parameter(torch.full(shape, self.bounds[key].to_free(key, getattr(neuron, key))))
                for key in neuron.learn
            }
        )

    @property
    def neuron(self) -> Neuron:
        """The neuron as a value; another one may be set at any time (a slider does), if it learns the same parameters."""
        return self._neuron

    @neuron.setter
    def neuron(self, neuron: Neuron) -> None:
        if not isinstance(neuron, Neuron):
            raise TypeError(f"neuron must be like neurons.LIF(tau=2.0), but got {neuron!r}.")
        if neuron.learn != getattr(self, "_neuron", neuron).learn:
            raise ValueError(
                f"this layer learns {self._neuron.learn}, but the new neuron {neuron.learn}; make a new layer."
            )
        step = step_of(neuron)
        keeping.check(getattr(self, "keep", "auto"), step)
        self._neuron, self.step, self.step_name = neuron, step, name_of(step)
        self.scalars, self.by_value = list(scalars_of(neuron).values()), by_value(neuron)
        self.bounds = dict(parameters_of(type(neuron)))
        self.initial = [float(value) for value in neuron.initial()]
        self.learns_initial = any(value.free_symbols & set(self.step.per_neuron) for value in self.step.initial)

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.neuron.states

    @property
    def learned(self) -> dict[str, Tensor]:
        """The learned parameters by name, as they are now; training moves `raw`, which no bound constrains."""
        names = [symbol.name for symbol in self.step.per_neuron]  # in the kernels' order
        return {name: self.bounds[name].from_free(self.raw[name]) for name in names}

    def choice(self, x: Tensor) -> backends.Choice:
        """The backend that would run x, and why.

        >>> import torch, tfexplore
        >>> tfexplore.LIF(backend="torch").choice(torch.zeros(4, 1))
        Choice(name='torch', reason='requested')
        """
        return backends.choose(self.backend, x.device)

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        order = memory_order(x)
        per_neuron = self._per_neuron(x, order) if self.neuron.learn else None
        start = self._start(x, state, per_neuron, order)
        record = () if self.sink is None else self.sink.kernel_names(self)
        if x.numel() == 0:
            if self.sink is not None:
                self.sink.add(self, x, dict.fromkeys(record, x.to(state_dtype(x.dtype))))
            start, _ = self._as_tensors(x, start, per_neuron)
            return x.clone(), tuple(z.clone().view(x.shape[1:]) for z in start.unbind(0))

        with_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, start, per_neuron))
        keep, device = self.keep if with_grad else "nothing", x.device
        kernel = kernel_for(
            self.step_name, self.backend, device.type, device.index or 0, x.dtype, keep, record, self.smooth
        )
        after: Tensor | None
        recorded: Tensor | None
        if kernel is None:
            variant = Variant(self.step, record=record, smooth=self.smooth)
            tensors = self._as_tensors(x, start, per_neuron)
            out, after, recorded = torch_reference.run(variant, flattened(x, order), *tensors, self.scalars)
            out = unflattened(out, x.shape[1:], order)
        else:
            given = (start, per_neuron, self.by_value, want_state, kernel)
            out, after, recorded = ops.fused(as_in_memory(x, order), *given)
            out = as_named(out, order)
        if self.sink is not None:
            each = () if recorded is None else recorded.unbind(1)
            traces = {name: unflattened(trace, x.shape[1:], order) for name, trace in zip(record, each, strict=True)}
            self.sink.add(self, out, traces)
        if not want_state:
            return out, ()
        assert after is not None
        after = unflattened(after, x.shape[1:], order)
        return out, tuple(after[k] for k in range(len(after)))

    def _per_neuron(self, x: Tensor, order: Order) -> Tensor:
        """The learned parameters, one value per neuron: [PER_NEURON, N]. Autograd sums their gradients back."""
        learned = self.learned
        if elsewhere := {key: v.device for key, v in learned.items() if v.device != x.device}:
            key, device = elsewhere.popitem()
            raise ValueError(
                f"x is on {x.device}, but the learned {key} is on {device}; move the layer: layer.to({str(x.device)!r})."
            )
        if self.channels is not None and (x.ndim < 3 or x.shape[2] != self.channels):
            raise ValueError(
                f"x must be [T, B, {self.channels}, ...] for channels={self.channels}, but got shape {tuple(x.shape)}."
            )
        spread = (1, -1) + (1,) * (x.ndim - 3) if self.channels is not None else (1,) * (x.ndim - 1)
        each = [v.to(state_dtype(x.dtype)).view(spread).expand(x.shape[1:]) for v in learned.values()]
        return flattened(torch.stack(each), order)

    def _start(self, x: Tensor, state: State | None, per_neuron: Tensor | None, order: Order) -> Tensor | None:
        """The states before the first step, [STATES, N]; None where all neurons begin alike, with `self.initial`."""
        if state is not None:
            check_state(state, self.neuron.states, x, state_dtype(x.dtype))
            return flattened(torch.stack(state), order)
        if self.learns_initial:
            assert per_neuron is not None
            return self._initial(per_neuron)
        return None

    def _as_tensors(self, x: Tensor, start: Tensor | None, per_neuron: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both as tensors, for the eager backend: only fused kernels take None."""
        if per_neuron is None:
            per_neuron = x.new_empty((0, math.prod(x.shape[1:])), dtype=state_dtype(x.dtype))
        return self._initial(per_neuron) if start is None else start, per_neuron

    def _initial(self, per_neuron: Tensor) -> Tensor:
        """The states before the first step, [STATES, N]."""
        if self.learns_initial:
            values = torch_reference.initial(self.step, per_neuron, self.scalars)
        elif len(set(self.initial)) == 1:
            return per_neuron.new_full((len(self.initial), per_neuron.shape[1]), self.initial[0])
        else:
            values = tuple(per_neuron.new_full((), value) for value in self.initial)
        return torch.stack([value.expand(per_neuron.shape[1:]) for value in values])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.step_name = name_of(self.step)  # in another process it may be new
        self.by_value = by_value(self.neuron)

    def __repr__(self) -> str:
        return f"{type(self.neuron).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        shown = {"backend": "auto", "keep": "auto", "channels": None, "smooth": False}
        changed = [f"{key}={getattr(self, key)!r}" for key, usual in shown.items() if getattr(self, key) != usual]
        return ", ".join([repr(self.neuron)[len(type(self.neuron).__name__) + 1 : -1], *changed])


def check_input(x: Any) -> None:
    """Raises TypeError or ValueError unless x is a dense tensor `[T, B, *features]` of an allowed dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor [T, B, *features], but got {type(x).__name__}.")
    if x.dtype not in DTYPES:
        allowed = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise TypeError(
            f"x must be one of {allowed}, but got {str(x.dtype).removeprefix('torch.')}; convert it with x.float()."
        )
    if x.layout != torch.strided:
        raise TypeError(f"x must be a dense tensor, but got layout {x.layout}; convert it with x.to_dense().")
    if x.ndim < 2:
        raise ValueError(f"x must be [T, B, *features], with time first, but got shape {tuple(x.shape)}.")


def check_state(state: State, names: tuple[str, ...], x: Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError unless each state has x's shape without time, x's device, and this dtype."""
    for name, z in zip(names, state, strict=True):
        if z.shape != x.shape[1:]:
            raise ValueError(
                f"state {name!r} must have x's shape without time, {tuple(x.shape[1:])}, but got {tuple(z.shape)}; "
                "begin anew with state=None (or a new carry) when the batch changes."
            )
        if z.dtype != dtype or z.device != x.device:
            raise ValueError(f"state {name!r} must be {dtype} on {x.device}, but got {z.dtype} on {z.device}.")
