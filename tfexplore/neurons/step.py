"""One time step of a neuron as SymPy expressions: its methods, called with symbols for the states and the numbers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import sympy

from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import parameters_of
from tfexplore.neurons.surrogates import Surrogate, Value


@dataclass(frozen=True)
class Step:
    """One time step as SymPy expressions; every tuple is in the order of the neuron's states.

    charge (of `before` and `x`), fire (u, of `charged`), reset (of `charged` and `s`); `slope` is the surrogate
    derivative and `smooth` its primitive, both of `u`. `scalars` and `per_neuron` are the parameters: numbers, and learned
    ones with a value per neuron. No expression holds a number that a slider could change.
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

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(vars(self).values()))

    def __hash__(self) -> int:  # of every call of a layer, which finds its kernel by its step
        return self._hash

    @property
    def slope(self) -> sympy.Expr:
        return choices(self.surrogate.derivative(self.u))

    @property
    def smooth(self) -> sympy.Expr:
        return choices(self.surrogate.primitive(self.u))


def real(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


def scalars_of(neuron: Neuron) -> dict[str, float]:
    """The run-time numbers of the kernels, in their order: the neuron's that are not learned, then the surrogate's."""
    own = {key: value for key, value in neuron.parameters.items() if key not in neuron.learn}
    return own | {f"surrogate_{key}": getattr(neuron.surrogate, key) for key in parameters_of(type(neuron.surrogate))}


def by_value(neuron: Neuron) -> list[float]:
    """What the kernels take by value: the scalars, then the states before the first step."""
    return [*scalars_of(neuron).values(), *map(float, neuron.initial())]


def step_of(neuron: Neuron) -> Step:
    """The neuron's equations: its methods, called with symbols for the states and the numbers."""
    scales = {key: real(f"surrogate_{key}") for key in parameters_of(type(neuron.surrogate))}
    surrogate = dataclasses.replace(neuron.surrogate, **scales)
    numbers = {key: real(key) for key in neuron.parameters}
    return _step_of(dataclasses.replace(neuron, surrogate=surrogate, **numbers))


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


@functools.lru_cache(maxsize=256)
def _step_of(symbolic: Neuron) -> Step:
    # neurons that differ in numbers only are the same here: a slider derives nothing anew
    cls = type(symbolic)
    x, u, s = real("x"), real("u"), real("s")
    before = tuple(real(name) for name in cls.states)
    charged = tuple(real(f"h_{name}") for name in cls.states)
    try:
        charge = symbolic.charge(*before, x)
        fire = charged[0] - sympy.sympify(symbolic.threshold(*charged)) if cls.spiking else None
        v = getattr(symbolic, symbolic.reset)(s, *charged)
        others, initial = symbolic.after(s, *charged), symbolic.initial()
    except TypeError as error:  # math.exp, an `if` on a state: SymPy names neither the neuron nor the way out
        raise TypeError(
            f"The equations of {cls.__name__} must run on SymPy symbols (sympy.exp rather than math.exp, sympy.Piecewise rather "
            f"than if): {error}"
        ) from error
    charge = charge if isinstance(charge, tuple) else (charge,)
    for what, values, names in (
        ("charge", charge, cls.states), ("after", others, cls.states[1:]), ("initial", initial, cls.states),
    ):  # fmt: skip
        if not isinstance(values, tuple) or len(values) != len(names):
            raise TypeError(
                f"{cls.__name__}.{what} must return a tuple of {len(names)} values, for {', '.join(names)}."
            )
    if not cls.spiking and any(s in sympy.sympify(value).free_symbols for value in (v, *others)):
        raise ValueError(f"{cls.__name__} does not fire, so its equations cannot mention s.")
    scales = tuple(value for value in vars(symbolic.surrogate).values() if isinstance(value, sympy.Symbol))
    known = {*before, *charged, x, s, *symbolic.parameters.values()}
    mentioned = set().union(
        *(sympy.sympify(value).free_symbols for value in (*charge, fire or 0, v, *others, *initial))
    )
    if unknown := sorted(symbol.name for symbol in mentioned - known):
        raise ValueError(
            f"The equations of {cls.__name__} mention {unknown[0]!r}, which is no state and no self.parameter."
        )
    return Step(
        name=cls.__name__,
        before=before,
        charged=charged,
        after=tuple(real(f"{name}_next") for name in cls.states),
        x=x,
        u=u,
        s=s,
        charge=tuple(map(choices, charge)),
        fire=None if fire is None else choices(fire),
        reset=tuple(map(choices, (v, *others))),
        initial=tuple(map(sympy.sympify, initial)),
        surrogate=symbolic.surrogate,
        detach_reset=symbolic.detach_reset,
        scalars=(*(real(key) for key in symbolic.parameters if key not in symbolic.learn), *scales),
        per_neuron=tuple(real(key) for key in symbolic.parameters if key in symbolic.learn),
    )
