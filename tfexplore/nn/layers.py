"""Neurons as `torch.nn` modules: a layer runs a neuron over time, x [T, B, *features] -> spikes of the same shape.

`Layer` takes any neuron value; `LIF(tau=2.0)` is short for `Layer(neurons.LIF(tau=2.0))`. This file checks what comes
in, picks the backend and unfolds shapes; the work is done in `ops` (fused) or `backends.torch_reference` (eager).
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from tfexplore import backends, neurons
from tfexplore.backends import torch_reference, tuned
from tfexplore.codegen import keep as keeping
from tfexplore.codegen.variant import Variant
from tfexplore.machine.files import fingerprint
from tfexplore.neurons.neuron import COMMON, Neuron
from tfexplore.neurons.parameters import Bound, checked_count, parameters_of
from tfexplore.neurons.step import Step, by_value, scalars_of, step_of
from tfexplore.nn import ops

State: TypeAlias = tuple[Tensor, ...]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Stateful(nn.Module):
    """A module with a state over time. `carry` puts a state provider in `provider`, `record` a sink in `sink`."""

    def __init__(self) -> None:
        super().__init__()
        self.provider: Any = None
        self.sink: Any = None

    @property
    def state_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        """The spikes, and the state after the last step; without `want_state` nobody looks at that, and it may be ()."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: Sequence[Tensor] | None = None, *, return_state: bool = False
    ) -> Tensor | tuple[Tensor, State]:
        check_input(x)
        provider = self.provider if state is None else None  # a state given by hand comes first
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
    """All time steps of a layer of neurons: charge, fire, reset (see `equations.Neuron`).

    neuron:   a value such as `neurons.LIF(tau=2.0)`, or of a class of your own.
    backend:  "torch" (eager), "numba" (fused, CPU), "cuda" (fused, GPU) or "auto"; `layer.choice(x)` says which and why.
    keep:     what the forward pass keeps for the backward pass: "potential" (what the adjoint needs of every step), "input"
              (the input alone; the rest is recomputed in chunks), "bits" (a bit or two of every step, for neurons where
              that is exact) or "auto" (the fastest that is exact; see `tfexplore.codegen.keep`). Same gradients, bit for bit.
    channels: learned parameters have one value per channel of x [T, B, channels, ...] instead of one in all.
    smooth:  fire returns the surrogate's primitive, so that `torch.autograd.gradcheck` can test the kernels.

    forward(x [T, B, *features], state=None, return_state=False) -> spikes, of x's shape and dtype; with return_state
    also the state: a tuple of [B, *features] in the order of `neuron.states`, in float32 (float64 for float64 input).

    >>> layer = Layer(neurons.LIF(tau=2.0), backend="torch")
    >>> spikes, (v,) = layer(torch.full((3, 1, 1), 0.8), return_state=True)
    >>> spikes.flatten().tolist(), round(v.item(), 4)
    ([0.0, 1.0, 0.0], 0.9)

    Raises TypeError or ValueError, naming the argument, for input of another dtype, shape or device than is allowed.
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
        """The learned parameters as they are now; training moves `raw`, which no bound constrains."""
        names = [symbol.name for symbol in self.step.per_neuron]  # in the kernels' order
        return {name: self.bounds[name].from_free(self.raw[name]) for name in names}

    def choice(self, x: Tensor) -> backends.Choice:
        """The backend that would run x, and why."""
        return backends.choose(self.backend, x.device)

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        dtype = state_dtype(x.dtype)
        shape, order = x.shape[1:], memory_order(x)
        per_neuron = self._per_neuron(x, dtype, order) if self.neuron.learn else None
        start = None
        if state is not None:
            check_state(state, self.neuron.states, x, dtype)
            start = flattened(torch.stack(state), order)
        elif self.learns_initial:
            assert per_neuron is not None
            start = self._initial(per_neuron)
        names = () if self.sink is None else self.sink.kernel_names(self)
        if x.numel() == 0:
            if self.sink is not None:
                self.sink.add(self, x, dict.fromkeys(names, x.to(dtype)))
            start, _ = self._written_out(x, start, per_neuron)
            return x.clone(), tuple(z.clone().view(shape) for z in start.unbind(0))

        needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, start, per_neuron))
        keep = self.keep if needs_grad else "nothing"
        key = key_of(
            self.step_name, self.backend, x.device.type, x.device.index or 0, x.dtype, keep, names, self.smooth
        )
        after: Tensor | None
        watched: Tensor | None
        if key == "torch":
            variant = Variant(self.step, record=names, smooth=self.smooth)
            given = self._written_out(x, start, per_neuron)
            found, after, watched = torch_reference.run(variant, flattened(x, order), *given, self.scalars)
            out = unflattened(found, shape, order)
        else:
            lying = x if order is None else x.permute(0, *order)
            if not lying.is_contiguous():
                # a piece of something larger: saved for backward, it would keep all of that alive
                lying = flattened(x, None).view(x.shape)
            out, after, watched = ops.fused(lying, start, per_neuron, self.by_value, want_state, key)
            out = out if order is None else named(out, order)
        if self.sink is not None:
            each = () if watched is None else watched.unbind(1)
            traces = {name: unflattened(trace, shape, order) for name, trace in zip(names, each, strict=True)}
            self.sink.add(self, out, traces)
        if not want_state:
            return out, ()
        assert after is not None
        after = unflattened(after, shape, order)
        return out, tuple(after[k] for k in range(len(after)))

    def _per_neuron(self, x: Tensor, dtype: torch.dtype, order: Order) -> Tensor:
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
        each = [v.to(dtype).view(spread).expand(x.shape[1:]) for v in learned.values()]
        return flattened(torch.stack(each), order)

    def _written_out(self, x: Tensor, start: Tensor | None, per_neuron: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both as tensors also where there is nothing to say: only fused kernels do with None."""
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


STEPS: dict[str, Step] = {}
"""By name. torch.compile can hold literals constant, but no object of ours: a step goes by its name where it looks on."""


@functools.cache
def name_of(step: Step) -> str:
    """The name of the step in `STEPS`."""
    name = f"{step.name}-{fingerprint(repr(step))}"
    while STEPS.setdefault(name, step) != step:  # other equations that print alike
        name += "'"
    return name


def key_of(*wanted: Any) -> str:
    """`fused_key`; torch.compile traces through a cache, but not through this."""
    if "torch._dynamo" in sys.modules:
        torch_reference.stay_eager()
    return fused_key(*wanted)


# torch.compiler.assume_constant_result, which loads all of Dynamo, does this alone
setattr(key_of, "_dynamo_marked_constant", True)  # noqa: B010  (mypy knows no such field)


@functools.cache
def fused_key(
    step_name: str,
    backend: str,
    device: str,
    index: int,
    dtype: torch.dtype,
    keep: str,
    names: tuple[str, ...],
    smooth: bool,
) -> str:
    """ "torch", or the name of the fused kernel: looked up once per kind of input."""
    name, step = backends.choose(backend, device).name, STEPS[step_name]
    if name == "torch":
        return name
    if keep == "auto":
        keep = keeping.fastest(step, name, smooth)
    data = str(dtype).removeprefix("torch.")
    real = str(state_dtype(dtype)).removeprefix("torch.")
    # half precision is unpacked before the CPU kernel, so that both share one variant
    variant = Variant(step, real, data if name == "cuda" else real, keep, names, smooth)
    if name == "cuda":
        variant = tuned.built(variant, index)
    return ops.register(name, variant)


Order: TypeAlias = tuple[int, ...] | None


def memory_order(x: Tensor) -> Order:
    """x's axes after time, outermost in memory first, if that is not as they are named but each step lies without gaps.

    The neurons of a layer are independent, so those of a channels-last x are walked as they lie, without a copy.

    >>> memory_order(torch.zeros(4, 2, 3, 5, 5)), memory_order(torch.zeros(4, 2, 5, 5, 3).movedim(-1, 2))
    (None, (1, 3, 4, 2))
    """
    if x.is_contiguous():
        return None
    order = tuple(sorted(range(1, x.ndim), key=x.stride, reverse=True))
    return order if x.permute(0, *order).is_contiguous() else None


def flattened(x: Tensor, order: Order) -> Tensor:
    """[K, *shape] -> [K, N], the neurons in this order of axes."""
    return (x if order is None else x.permute(0, *order)).reshape(len(x), math.prod(x.shape[1:]))


def unflattened(flat: Tensor, shape: torch.Size, order: Order) -> Tensor:
    """[K, N], the neurons in this order of axes -> [K, *shape]."""
    if order is None:
        return flat.view(len(flat), *shape)
    return named(flat.view(len(flat), *(shape[axis - 1] for axis in order)), order)


def named(lying: Tensor, order: tuple[int, ...]) -> Tensor:
    """[K, *shape as it lies in memory] -> [K, *shape]."""
    return lying.permute(0, *(1 + order.index(axis) for axis in range(1, lying.ndim)))


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The state of float64 input is float64, that of all other input float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_input(x: Any) -> None:
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
    for name, z in zip(names, state, strict=True):
        if z.shape != x.shape[1:]:
            raise ValueError(
                f"state {name!r} must have x's shape without time, {tuple(x.shape[1:])}, but got {tuple(z.shape)}; "
                "begin anew with state=None (or a new carry) when the batch changes."
            )
        if z.dtype != dtype or z.device != x.device:
            raise ValueError(f"state {name!r} must be {dtype} on {x.device}, but got {z.dtype} on {z.device}.")


class NeuronLayer(Layer):
    """A layer that makes its own neuron: takes the neuron's parameters and the options of `Layer` together."""

    kind: ClassVar[type[Neuron]]
    options: ClassVar[tuple[str, ...]] = ("backend", "keep", "channels", "smooth")

    def __init_subclass__(cls, kind: type[Neuron]) -> None:
        super().__init_subclass__()
        cls.kind = kind
        equations, _, _ = (inspect.getdoc(kind) or "").partition("\n\n>>>")
        cls.__doc__ = (
            f"{equations}\n\nA layer of `neurons.{kind.__name__}`; see `Layer` for backend, keep and channels."
        )
        own = sorted(inspect.signature(kind).parameters.values(), key=lambda p: p.name in COMMON)
        chosen = [p for name, p in inspect.signature(Layer).parameters.items() if name in cls.options]
        setattr(cls, "__signature__", inspect.Signature([*own, *chosen]))  # noqa: B010  (for help(); mypy knows no such field)

    def __init__(self, *unnamed: Any, **given: Any) -> None:
        if unnamed:
            first = next(iter(parameters_of(self.kind)))
            raise TypeError(
                f"{self.kind.__name__} takes its parameters by name: {self.kind.__name__}({first}={unnamed[0]!r})."
            )
        chosen = {name: given.pop(name) for name in self.options if name in given}
        known = inspect.signature(self.kind).parameters
        if unknown := [name for name in given if name not in known]:
            allowed = ", ".join((*known, *self.options))
            raise TypeError(f"{self.kind.__name__} has no parameter {unknown[0]!r}; it takes {allowed}.")
        super().__init__(self.kind(**given), **chosen)


class IF(NeuronLayer, kind=neurons.IF): ...


class LIF(NeuronLayer, kind=neurons.LIF): ...


class ParametricLIF(NeuronLayer, kind=neurons.ParametricLIF): ...


class ALIF(NeuronLayer, kind=neurons.ALIF): ...


class CubaLIF(NeuronLayer, kind=neurons.CubaLIF): ...


class LI(NeuronLayer, kind=neurons.LI): ...


class QIF(NeuronLayer, kind=neurons.QIF): ...


class EIF(NeuronLayer, kind=neurons.EIF): ...


class Izhikevich(NeuronLayer, kind=neurons.Izhikevich): ...


class PaperLIF(NeuronLayer, kind=neurons.PaperLIF): ...
