"""One time step of a neuron as SymPy expressions: its methods, called with symbols for the states and the numbers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import sympy

from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import parameters_of
from tfexplore.neurons.surrogates import Surrogate, Value


@dataclass(frozen=True)
class Step:
    """One time step as SymPy expressions; every tuple is in the order of the neuron's states.

    No expression holds a number that a slider could change: parameters are symbols.

    Args:
        name: the neuron's class.
        before, charged, after: the states before the step, after charge, and after reset, as symbols.
        x, u, s: the input current, the distance from the threshold, and the spike, as symbols.
        charge: the charged states, of `before` and `x`.
        fire: u, of `charged`; None for a neuron that does not spike.
        reset: the states after the step, of `charged` and `s`.
        initial: the states before the first step, of the parameters.
        surrogate: the surrogate, with symbols for its scales.
        detach_reset: whether no gradient flows through the spike in the reset of v.
        scalars: the parameters that all neurons share, the surrogate's scales among them.
        per_neuron: the parameters with values of their own for groups of neurons: the learned ones, then those with a shape.
        learned: those of them that have a gradient.
        temporal_gradient: whether a gradient flows to the states before the step.
        strict: whether a spike is u > 0 instead of u >= 0.
    """

    name: str
    before: tuple[sympy.Symbol, ...]
    charged: tuple[sympy.Symbol, ...]
    after: tuple[sympy.Symbol, ...]
    x: sympy.Symbol
    u: sympy.Symbol
    s: sympy.Symbol
    charge: tuple[sympy.Expr, ...]
    fire: sympy.Expr | None
    reset: tuple[sympy.Expr, ...]
    initial: tuple[sympy.Expr, ...]
    surrogate: Surrogate
    detach_reset: bool
    scalars: tuple[sympy.Symbol, ...]
    per_neuron: tuple[sympy.Symbol, ...]
    learned: tuple[sympy.Symbol, ...]
    temporal_gradient: bool = True
    strict: bool = False

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(vars(self).values()))

    def __hash__(self) -> int:  # needed at every call of a layer, which finds its kernel by its step
        return self._hash

    @property
    def slope(self) -> sympy.Expr:
        """The surrogate's derivative, of `u`."""
        return choices(self.surrogate.derivative(self.u))

    @property
    def spike(self) -> sympy.Expr:
        """The spike, of `u`: 1 where `fires` holds, else 0."""
        return sympy.Heaviside(self.u, 0 if self.strict else 1)

    @property
    def fires(self) -> sympy.core.relational.Relational:
        """The comparison that a spike is the outcome of."""
        return self.u > 0 if self.strict else self.u >= 0

    @property
    def smooth(self) -> sympy.Expr:
        """The smooth spike: the surrogate's primitive, of `u`."""
        return choices(self.surrogate.primitive(self.u))


def real(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


def scalars_of(neuron: Neuron) -> dict[str, float]:
    """The run-time numbers of the kernels, in their order: the neuron's that all neurons share, then the surrogate's."""
    own = {key: value for key, value in neuron.parameters.items() if key not in (*neuron.learn, *neuron.shaped)}
    return own | {f"surrogate_{key}": getattr(neuron.surrogate, key) for key in parameters_of(type(neuron.surrogate))}


def by_value(neuron: Neuron) -> list[float]:
    """What the kernels take by value: the scalars, then the states before the first step."""
    return [*scalars_of(neuron).values(), *initial_of(neuron)]


def initial_of(neuron: Neuron) -> list[float]:
    """The states before the first step as numbers; where they follow a parameter with a shape, those of the first neuron."""
    alike = dataclasses.replace(neuron, **{key: getattr(neuron, key).first for key in neuron.shaped})
    return [float(value) for value in alike.initial()]


def step_of(neuron: Neuron) -> Step:
    """The equations of one time step: the neuron's methods, called with symbols for the states and the numbers.

    Neurons that differ in numbers only have the same step, and share their kernels.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`, or of a class of your own.

    Returns:
        The step, cached by the equations.

    Raises:
        TypeError: where the methods do not run on SymPy symbols, or return another number of values than there are states.
        ValueError: where the equations mention a symbol that is no state and no parameter.

    Example:
        >>> from tfexplore import neurons
        >>> step = neurons.step_of(neurons.LIF(decay_input=True))
        >>> step.charge, step.fire
        ((v + (-v + v_reset + x)/tau,), h_v - v_threshold)
        >>> step == neurons.step_of(neurons.LIF(decay_input=True, tau=5.0))
        True
    """
    scales = {key: real(f"surrogate_{key}") for key in parameters_of(type(neuron.surrogate))}
    surrogate = dataclasses.replace(neuron.surrogate, **scales)
    numbers = {key: real(key) for key in neuron.parameters}
    return _step_of(dataclasses.replace(neuron, surrogate=surrogate, **numbers), neuron.shaped)


def normalised(step: Step) -> Step:
    """The step of the current scale (x - centre) + shift: a normalisation before the neuron, with these for each channel.

    Scale and shift are learned parameters like the others, so that the derived adjoint has their gradients: a BatchNorm's two
    sums. The centre, near the channel's mean, keeps a large mean from taking digits of what is summed.

    >>> from tfexplore import neurons
    >>> normalised(step_of(neurons.IF())).charge
    (v + x_scale*(x - x_centre) + x_shift,)
    """
    scale, shift, centre = real("x_scale"), real("x_shift"), real("x_centre")
    return dataclasses.replace(
        step,
        charge=tuple(value.xreplace({step.x: (step.x - centre) * scale + shift}) for value in step.charge),
        per_neuron=(scale, shift, *step.per_neuron, centre),
        learned=(scale, shift, *step.learned),
    )


@functools.lru_cache(maxsize=256)
def cut_in_time(step: Step) -> Step:
    """The same step, through which no gradient flows to the steps before: the states before it are numbers.

    >>> from tfexplore import neurons
    >>> cut_in_time(step_of(neurons.IF())).temporal_gradient
    False
    """
    return dataclasses.replace(step, temporal_gradient=False)


def choices(value: Value) -> sympy.Expr:
    """The expression with Max and Min as choices, whose derivative at a tie is that of one side, as in a comparison.

    SymPy's own derivative of Max(a, b) counts both sides where they are equal.
    """

    def first(compare: type[sympy.Rel]) -> Callable[..., sympy.Expr]:
        def chosen(*args: sympy.Expr) -> sympy.Expr:
            cases = [(a, sympy.And(*(compare(a, b) for b in args[k:]))) for k, a in enumerate(args[:-1], start=1)]
            return sympy.Piecewise(*cases, (args[-1], True))

        return chosen

    expression = sympy.sympify(value)
    return expression.replace(sympy.Max, first(sympy.Gt)).replace(sympy.Min, first(sympy.Lt))


X, U, S = real("x"), real("u"), real("s")


class Equations(NamedTuple):
    """What a neuron's methods return for symbols, in the order of its states."""

    charge: tuple[Value, ...]
    fire: Value | None
    reset: tuple[Value, ...]
    initial: tuple[Value, ...]


@functools.lru_cache(maxsize=256)
def _step_of(symbolic: Neuron, shaped: tuple[str, ...]) -> Step:
    """`symbolic` has symbols for its numbers, so that neurons that differ in numbers only are one entry of the cache."""
    learned = tuple(key for key in symbolic.parameters if key in symbolic.learn)
    own = (*learned, *(key for key in shaped if key not in learned))
    names = type(symbolic).states
    before, charged = tuple(map(real, names)), tuple(real(f"h_{name}") for name in names)
    equations = called(symbolic, before, charged)
    check_symbols(symbolic, equations, {*before, *charged})
    scales = tuple(value for value in vars(symbolic.surrogate).values() if isinstance(value, sympy.Symbol))
    return Step(
        name=type(symbolic).__name__,
        before=before,
        charged=charged,
        after=tuple(real(f"{name}_next") for name in names),
        x=X,
        u=U,
        s=S,
        charge=tuple(map(choices, equations.charge)),
        fire=None if equations.fire is None else choices(equations.fire),
        reset=tuple(map(choices, equations.reset)),
        initial=tuple(map(sympy.sympify, equations.initial)),
        surrogate=symbolic.surrogate,
        detach_reset=symbolic.detach_reset,
        scalars=(*(real(key) for key in symbolic.parameters if key not in own), *scales),
        per_neuron=tuple(map(real, own)),
        learned=tuple(map(real, learned)),
        strict=symbolic.strict,
    )


def called(neuron: Neuron, before: tuple[sympy.Symbol, ...], charged: tuple[sympy.Symbol, ...]) -> Equations:
    """The neuron's methods, called in the order of a step."""
    cls = type(neuron)
    try:
        charge = neuron.charge(*before, X)
        fire = charged[0] - sympy.sympify(neuron.threshold(*charged)) if cls.spiking else None
        v = getattr(neuron, neuron.reset)(S, *charged)
        others, initial = neuron.after(S, *charged), neuron.initial()
    except TypeError as error:  # math.exp, an `if` on a state: SymPy names neither the neuron nor what to do
        raise TypeError(
            f"The equations of {cls.__name__} must run on SymPy symbols (sympy.exp rather than math.exp, sympy.Piecewise rather "
            f"than if): {error}"
        ) from error
    charge = charge if isinstance(charge, tuple) else (charge,)
    for method, values, names in (
        ("charge", charge, cls.states), ("after", others, cls.states[1:]), ("initial", initial, cls.states),
    ):  # fmt: skip
        if not isinstance(values, tuple) or len(values) != len(names):
            raise TypeError(
                f"{cls.__name__}.{method} must return a tuple of {len(names)} values, for {', '.join(names)}."
            )
    return Equations(charge, fire, (v, *others), initial)


def check_symbols(neuron: Neuron, equations: Equations, states: set[sympy.Symbol]) -> None:
    """Equations may mention the states and the parameters, and the spike only where there is one."""
    charge, fire, reset, initial = equations
    if not neuron.spiking and any(S in sympy.sympify(value).free_symbols for value in reset):
        raise ValueError(f"{type(neuron).__name__} does not fire, so its equations cannot mention s.")
    mentioned = set().union(*(sympy.sympify(value).free_symbols for value in (*charge, fire or 0, *reset, *initial)))
    if unknown := sorted(symbol.name for symbol in mentioned - {*states, X, S, *neuron.parameters.values()}):
        raise ValueError(
            f"The equations of {type(neuron).__name__} mention {unknown[0]!r}, which is no state and no self.parameter."
        )
