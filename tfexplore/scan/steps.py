r"""From a neuron and its input to pairs: the forward pass as a scan over time, where the step is affine in the states.

Everything follows from the neuron's equations, as `affine_of` takes them apart. The states before every step are found by the
scan; the rest of the step (charge, fire, the spike) waits for nothing, since it is a map over all steps at once::

    z[t] = A[t] z[t-1] + b[t]        a scan
    h[t] = charge(z[t-1], x[t])      a map
    s[t] = fire(h[t]) >= 0           a map

Where spikes come back by the reset, they can be *given* (`spikes=`): then most neurons are affine again, and `out` is what the
neuron would fire after those. The fixed point of that is the neuron itself (`fixed_point.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tfexplore.backends import torch_reference
from tfexplore.codegen.functions import Function
from tfexplore.codegen.variant import Variant
from tfexplore.neurons import affine
from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.neuron import Neuron, check_neuron
from tfexplore.neurons.parameters import Values
from tfexplore.neurons.step import Step, initial_of, real, scalars_of, step_of
from tfexplore.nn.checks import check_input
from tfexplore.nn.own import check_shapes
from tfexplore.nn.routes import state_dtype
from tfexplore.scan.pairs import Count, Pairs, associative, chunked, doubling, sequential

HOW = ("sequential", "chunked", "associative", "doubling")
States = tuple[Tensor, ...]


class Forward(NamedTuple):
    """Every value of the forward pass, `[T, B, *features]` each; of several states a tuple in the order of `neuron.states`.

    Args:
        out: what a layer returns: the spikes, or LI's potential.
        states: the states after each step.
        before: those before it.
        charged: those between charge and reset.
        u: the distance from the threshold; 0 for a neuron that does not spike.
        spikes: those that the reset took: the neuron's own, or the given ones.
    """

    out: Tensor
    states: States
    before: States
    charged: States
    u: Tensor
    spikes: Tensor


class Equations:
    """A neuron's equations on tensors like x, from the same expressions as every kernel, and in the same order of operations.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`.
        x: `[T, B, *features]`.
        parameters: tensors by name that stand in for the neuron's own numbers: their gradients flow.
    """

    def __init__(self, neuron: Neuron, x: Tensor, parameters: Mapping[str, Tensor] | None = None) -> None:
        check_neuron(neuron)
        check_input(x)
        self.given = given = dict(parameters or {})
        if unknown := sorted(given.keys() - neuron.parameters.keys()):
            raise ValueError(
                f"{type(neuron).__name__} has no parameter {unknown[0]!r}; it has {', '.join(neuron.parameters)}."
            )
        self.neuron, self.step = neuron, step_of(neuron)
        self.x = x.to(state_dtype(x.dtype))
        self.do = torch_reference.compiled(Variant(self.step))
        scalars = scalars_of(neuron)
        numbers = dict(zip(scalars, torch_reference.numbers(tuple(scalars.values()), self.x), strict=True))
        own = {p.name: _tensor(getattr(neuron, p.name), self.x) for p in self.step.per_neuron}
        given = {key: torch.as_tensor(value).to(self.x) for key, value in given.items()}
        values = {key: self._by_feature(key, value) for key, value in (numbers | own | given).items()}
        self.p = tuple(values[symbol.name] for symbol in (*self.step.scalars, *self.step.per_neuron))

    def _by_feature(self, key: str, value: Tensor) -> Tensor:
        """[C, ...] so that it meets the features of [T, B, C, ...]; one number as it is."""
        if not value.ndim:
            return value
        check_shapes({key: value}, self.x)
        return value.view(*value.shape, *(1,) * (self.x.ndim - 2 - value.ndim))

    def start(self, state: States | None) -> States:
        """The states before the first step."""
        if state is not None:
            return self.checked("state", state)
        like = self.x.new_zeros(self.x.shape[1:])
        follow = {symbol.name for value in self.step.initial for symbol in value.free_symbols}
        alike = not follow & {*self.given, *(symbol.name for symbol in self.step.per_neuron)}
        return tuple(like + value for value in (initial_of(self.neuron) if alike else self.do["initial"](self.p)))

    def checked(self, name: str, given: States) -> States:
        """A tensor for each state of the neuron, like x without time; else raises TypeError or ValueError."""
        names, like = type(self.neuron).states, self.x
        if (
            not isinstance(given, tuple | list)
            or len(given) != len(names)
            or not all(isinstance(z, Tensor) for z in given)
        ):
            came = f"{len(given)} values" if isinstance(given, tuple | list) else type(given).__name__
            raise TypeError(f"{name} must be a tuple of tensors, one for each of {', '.join(names)}, but got {came}.")
        for z in given:
            if z.shape != like.shape[1:] or z.dtype != like.dtype or z.device != like.device:
                raise ValueError(
                    f"{name} must have x's shape without time, {tuple(like.shape[1:])}, in {like.dtype} on {like.device}, but "
                    f"got {tuple(z.shape)} in {z.dtype} on {z.device}."
                )
        return tuple(given)

    def charge(self, before: States, x: Tensor) -> States:
        return tuple(self.do["charge"](before, x, self.p))

    def fire(self, charged: States) -> Tensor:
        """u, the distance from the threshold."""
        return torch.zeros_like(charged[0]) if self.step.fire is None else self.do["fire"](charged, self.p)

    def spike(self, u: Tensor) -> Tensor:
        """1 where u >= 0; backward the surrogate's slope."""
        if self.step.fire is None:
            return torch.zeros_like(u)
        return torch_reference.Fire.apply(u, self.step.strict, self.do["slope"], self.p)

    def reset(self, charged: States, s: Tensor) -> States:
        cut = s.detach() if self.step.detach_reset else s
        return tuple(self.do[f"reset_{k}"](charged, s if k else cut, self.p) for k in range(len(charged)))

    def output(self, states: States, s: Tensor) -> Tensor:
        return states[0] if self.step.fire is None else s

    def pairs(self, spikes: Tensor | None = None) -> Pairs:
        """A and b of every step; see `pairs_of`."""
        s = torch.zeros_like(self.x) if spikes is None else spikes.to(self.x.dtype)
        matrix, vector = _pairs(self.step, spikes is not None)(self.x, s, self.p)
        entries = [torch_reference.number(e, self.x) if not isinstance(e, Tensor) else e for e in matrix]
        count, ones = len(self.step.before), (1,) * (self.x.ndim - 1)
        shape = torch.broadcast_shapes((len(self.x), *ones), *(entry.shape for entry in entries))
        a = torch.stack([entry.expand(shape) for entry in entries], 1)
        a = a.unflatten(1, (count, count)) if len(entries) > count else a
        return Pairs(a, torch.stack([torch.zeros_like(self.x) + value for value in vector], 1))


def _tensor(value: Any, like: Tensor) -> Tensor:
    return torch.tensor(value.array if isinstance(value, Values) else value, dtype=like.dtype, device=like.device)


@functools.cache
def _pairs(step: Step, given_spikes: bool) -> Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """A and b as a function of x, s and the parameters; of a diagonal A only the diagonal."""
    affine, states = affine_of(step, given_spikes), range(len(step.before))
    diagonal = all(affine.matrix[i][j] == 0 for i in states for j in states if i != j)
    entries = [affine.matrix[i][i] for i in states] if diagonal else [entry for row in affine.matrix for entry in row]
    a = tuple(real(f"pair_a_{k}") for k in range(len(entries)))
    b = tuple(real(f"pair_b_{k}") for k in states)
    function = Function(
        "pairs",
        (("x", step.x), ("s", step.s), ("p", (*step.scalars, *step.per_neuron))),
        (*zip(a, entries, strict=True), *zip(b, affine.vector, strict=True)),
        (("a", a), ("b", b)),
    )
    return torch_reference.on_tensors([function], step.name)["pairs"]


def why_not(neuron: Neuron, given_spikes: bool = False) -> str:
    """Why a neuron's forward pass is no scan over time, or "" where it is one; from its equations (`neurons.affine_of`).

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`, or of a class of your own.
        given_spikes: take the spikes as numbers that are known already.

    Example:
        >>> from tfexplore import neurons
        >>> why_not(neurons.LI())
        ''
        >>> why_not(neurons.LIF())
        "its v[t] depends on its own spike, which is a comparison of the state (reset='soft')"
    """
    check_neuron(neuron)
    return affine.why_not(step_of(neuron), given_spikes)


def pairs_of(
    neuron: Neuron, x: Tensor, spikes: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None
) -> Pairs:
    """A neuron's steps as affine pairs.

    Args:
        neuron: a value such as `neurons.LIF(reset="none")`.
        x: the input current, `[T, B, *features]`.
        spikes: those that the reset takes, as known numbers, of x's shape; a neuron that resets is affine only so.
        parameters: tensors by name that stand in for the neuron's own numbers: their gradients flow.

    Returns:
        `Pairs` in the state's dtype: A, `[T, S, S, ...]`, or `[T, S, ...]` where it is diagonal, with 1 behind S where it is the
        same for all neurons; b, `[T, S, B, *features]`.

    Raises:
        ValueError: with the reason, where the step is not affine.

    Example:
        >>> from tfexplore import neurons
        >>> a, b = pairs_of(neurons.CubaLIF(tau=2.0, tau_syn=4.0, reset="none"), torch.ones(1, 1, 1))
        >>> a[0, :, :, 0, 0], b[0, :, 0, 0]
        (tensor([[0.5000, 0.7500],
                [0.0000, 0.7500]]), tensor([1., 1.]))
    """
    check_spikes(spikes, x)
    return Equations(neuron, x, parameters).pairs(spikes)


def walk(
    neuron: Neuron,
    x: Tensor,
    state: States | None = None,
    *,
    spikes: Tensor | None = None,
    parameters: Mapping[str, Tensor] | None = None,
) -> Forward:
    """The serial loop of any neuron, in the order of operations of every kernel: its spikes are the layer's, bit for bit.

    Args:
        neuron, x, spikes, parameters: as for `pairs_of`.
        state: the states before the first step, each `[B, *features]`; None for the neuron's own.

    Returns:
        Every value of the forward pass; differentiable, with the surrogate's slope.

    Example:
        >>> from tfexplore import neurons
        >>> walk(neurons.LIF(tau=2.0), torch.full((3, 1, 1), 0.8)).out.flatten().tolist()
        [0.0, 1.0, 0.0]
    """
    check_spikes(spikes, x)
    on = Equations(neuron, x, parameters)
    z, states, steps = on.start(state), len(on.step.before), []
    for t, x_t in enumerate(on.x):
        charged = on.charge(z, x_t)
        u = on.fire(charged)
        s = on.spike(u)
        taken = s if spikes is None else spikes[t].to(s.dtype)
        after = on.reset(charged, taken)
        steps.append((on.output(after, s), *after, *z, *charged, u, taken))
        z = after
    made = [torch.stack(values) for values in zip(*steps, strict=True)] or [torch.zeros_like(on.x)] * (3 + 3 * states)
    after, before, charged = (tuple(made[1 + k * states : 1 + (k + 1) * states]) for k in range(3))
    return Forward(made[0], after, before, charged, made[-2], made[-1])


def run(
    neuron: Neuron,
    x: Tensor,
    state: States | None = None,
    how: str = "sequential",
    chunk: int = 32,
    *,
    spikes: Tensor | None = None,
    parameters: Mapping[str, Tensor] | None = None,
    count: Count | None = None,
) -> Forward:
    """The forward pass of an affine neuron as a scan over time; differentiable, so that the backward pass is one too.

    Args:
        neuron, x, state, spikes, parameters: as for `walk`.
        how: `"sequential"` (the neuron's own operations, one step after the other: the kernels' bits), `"chunked"`,
            `"associative"` or `"doubling"` (of `pairs_of`: sums in another order).
        chunk: time steps of a chunk, for `"chunked"`.
        count: counts the combines of a scan; of `"sequential"`, those of its pairs.

    Returns:
        Every value of the forward pass. With `spikes` given, `out` is what the neuron fires after those, `spikes` what was given.

    Raises:
        ValueError: with the reason, where the step is not affine.

    Example:
        >>> from tfexplore import neurons
        >>> x = torch.full((3, 1, 1), 0.8)
        >>> run(neurons.LIF(tau=2.0, reset="none"), x, how="associative").states[0].flatten()
        tensor([0.8000, 1.2000, 1.4000])
        >>> run(neurons.LIF(tau=2.0), x)
        Traceback (most recent call last):
        ...
        ValueError: The forward pass of LIF is no scan over time: its v[t] depends on its own spike, which is a comparison of the
        state (reset='soft').
    """
    check_how(how)
    check_spikes(spikes, x)
    on = Equations(neuron, x, parameters)
    affine_of(on.step, spikes is not None)  # raises where it is not
    if how == "sequential":
        if count is not None:
            count_of(on, spikes, count)
        return walk(neuron, x, state, spikes=spikes, parameters=parameters)
    start = on.start(state)
    z = scanned(how, on.pairs(spikes), torch.stack(start), chunk, count)
    before = torch.cat([torch.stack(start)[None], z[:-1]]) if len(x) else z
    return rest_of(on, before.unbind(1), z.unbind(1), spikes)


def scanned(how: str, pairs: Pairs, start: Tensor | None, chunk: int, count: Count | None = None) -> Tensor:
    """The states after every step by one of the ways `HOW`."""
    if how == "chunked":
        return chunked(*pairs, start, chunk, count=count)
    return {"sequential": sequential, "associative": associative, "doubling": doubling}[how](*pairs, start, count=count)


def count_of(on: Equations, spikes: Tensor | None, count: Count) -> None:
    """What the loop does, counted on its pairs."""
    with torch.no_grad():
        pairs = on.pairs(spikes)
        sequential(*pairs, torch.stack(on.start(None)), count=count)


def rest_of(on: Equations, before: States, after: States, spikes: Tensor | None = None) -> Forward:
    """All steps at once, of the states before and after each: a map over time, not a recurrence."""
    charged = on.charge(before, on.x)
    u = on.fire(charged)
    made = on.spike(u)
    taken = made if spikes is None else spikes.to(made.dtype)
    return Forward(on.output(after, made), after, before, charged, u, taken)


def check_how(how: str) -> None:
    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(map(repr, HOW))}, but got {how!r}.")


def check_spikes(spikes: Tensor | None, x: Tensor) -> None:
    """Raises TypeError or ValueError unless the given spikes are a tensor of x's shape."""
    if spikes is not None and not isinstance(spikes, Tensor):
        raise TypeError(f"spikes must be a tensor of x's shape, but got {type(spikes).__name__}.")
    if spikes is not None and spikes.shape != x.shape:
        raise ValueError(f"spikes must have x's shape, {tuple(x.shape)}, but got {tuple(spikes.shape)}.")
