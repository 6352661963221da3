r"""What a neuron *is*: a small frozen value whose methods are the equations of one time step.

One step of every neuron here is the same four lines, with the membrane potential as the first state:

    charge     h = charge(z, x)             z: the states before the step, x: the input current
    fire       u = h_v - threshold(h)       s = 1 where u >= 0, else 0
    reset      v = soft | hard | none       one of the rules the neuron admits
    after      the other states             ALIF's adaptation, Izhikevich's recovery, ...

The methods are plain Python, so they run on numbers; run on SymPy symbols (`step_of`) they *are* the equations from
which the LaTeX, the torch reference, the Numba and CUDA kernels and the derivative of the step are made.
This file holds the base class and its checks; the neurons themselves are in `neurons.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import keyword
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, dataclass_transform, get_args, get_origin, get_type_hints

import sympy
from sympy.printing import cxx

from tfexplore.surrogates import ATan, Surrogate, Value

OURS = frozenset({"STATES", "SCALARS", "ROWS", "NEEDS", "WATCHED", "CHUNK", "KEEP_INPUT", "KEEP_POTENTIAL", "LIKE"})
WORDS = OURS | frozenset(keyword.kwlist) | {word for words in cxx.reserved.values() for word in words}
RESERVED = frozenset(
    {"x", "s", "u", "h", "out", "slope", "g_s", "g_u", "g_x", "g_out", "real", "math", "torch", "where", "number"}
)


@dataclass(frozen=True)
class Bound:
    """The values a parameter may take: `low <= value` (or `low < value` when open) and `value < high`."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def admits(self, value: float) -> bool:
        return math.isfinite(value) and (self.low < value if self.open else self.low <= value) and value < self.high

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"{'above' if self.open else 'at least'} {self.low:g}"
        high = "" if self.high == math.inf else f"below {self.high:g}"
        return "a finite number" + (", " if low or high else "") + " and ".join(filter(None, (low, high)))


TimeConstant = Annotated[float, Bound(low=1.0)]
"""In time steps. Below one step, the explicit Euler step of a leak would overshoot its rest."""
Positive = Annotated[float, Bound(low=0.0, open=True)]
Decay = Annotated[float, Bound(low=0.0, high=1.0, open=True)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Neuron:
    """Base of all neurons. A subclass is a definition: annotated parameters, `charge`, and what differs from here.

    A complete neuron, with fused kernels on every backend (this also works in a notebook cell):

    >>> from tfexplore.equations import Neuron, TimeConstant
    >>> class Leaky(Neuron):
    ...     tau: TimeConstant = 2.0
    ...     v_threshold: float = 1.0
    ...     v_reset: float = 0.0
    ...     def charge(self, v, x):
    ...         return v - v / self.tau + x
    >>> Leaky(tau=4.0).charge(1.0, 0.5)
    1.25

    Fields annotated `float` (or `TimeConstant`, `Positive`, `Decay`) are numbers that every kernel takes at run time; any
    other field (`decay_input: bool`) selects between equations. Common to all neurons:

    reset:         "soft" (v - threshold), "hard" (v_reset) or "none"; a neuron lists what it admits in `resets`.
    detach_reset:  no gradient flows through the spike in the reset of v.
    surrogate:     the derivative that stands in for that of the step function.
    learn:         names of parameters that the layer trains.

    Raises ValueError or TypeError, naming the parameter, what came and what is allowed.
    """

    states: ClassVar[tuple[str, ...]] = ("v",)
    resets: ClassVar[tuple[str, ...]] = ("soft", "hard", "none")
    spiking: ClassVar[bool] = True

    reset: str = "soft"
    detach_reset: bool = True
    surrogate: Surrogate = ATan()  # noqa: RUF009  (a frozen value)
    learn: tuple[str, ...] = ()

    # -- the equations, to be overridden -------------------------------------------------------------------------

    def charge(self, *states_and_x: Value) -> Value | tuple[Value, ...]:
        """The states after the input came in, before firing: one value, or a tuple in the order of `states`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method charge(self, {', '.join(self.states)}, x).")

    def threshold(self, *charged: Value) -> Value:
        return self.v_threshold  # type: ignore[attr-defined]  # a parameter of every spiking neuron

    def soft(self, s: Value, v: Value, *others: Value) -> Value:
        return v - s * self.threshold(v, *others)

    def hard(self, s: Value, v: Value, *others: Value) -> Value:
        return v * (1 - s) + self.v_reset * s  # type: ignore[attr-defined]  # checked where "hard" is asked for

    def none(self, s: Value, v: Value, *others: Value) -> Value:
        return v

    def after(self, s: Value, *charged: Value) -> tuple[Value, ...]:
        """The states behind v after firing; by default they stay as charged."""
        return charged[1:]

    def initial(self) -> tuple[Value, ...]:
        """The states before the first step: v at v_reset, the others at 0."""
        return (getattr(self, "v_reset", 0.0), *(0.0 for _ in self.states[1:]))

    # -- the machinery -------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Neuron.__repr__  # type: ignore[method-assign]  # dataclass would put the common fields first
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        name = type(self).__name__
        bounds = parameters_of(type(self))
        derived = {
            f"{before}{z}{after}" for z in self.states for before in ("", "h_", "g_", "g_h_") for after in ("", "_next")
        }
        if bad := (RESERVED & {*bounds, *self.states}) | (derived & set(bounds)):
            raise ValueError(
                f"{name} cannot name a parameter or state {sorted(bad)[0]!r}: the states, what is made of their names, and "
                f"{', '.join(sorted(RESERVED))} are taken."
            )
        if bad := WORDS & {*bounds, *self.states}:
            raise ValueError(
                f"{name} cannot name a parameter {sorted(bad)[0]!r}: words of Python, of C++ and of the kernels are taken."
            )
        for key, bound in bounds.items():
            object.__setattr__(self, key, checked_number(name, key, getattr(self, key), bound))
        if self.reset not in self.resets:
            allowed = ", ".join(map(repr, self.resets))
            raise ValueError(f"{name} does not admit reset={self.reset!r}; it admits {allowed}.")
        if not self.spiking and self.reset != "none":
            raise ValueError(
                f"{name} does not fire, so it has nothing to reset: give it resets = ('none',) and reset = 'none'."
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (bool, "bool") and not isinstance(value, bool):
                raise TypeError(f"{name}: {field.name} must be True or False, but got {value!r}.")
        if not isinstance(self.surrogate, Surrogate):
            raise TypeError(f"{name}: surrogate must be like surrogates.ATan(alpha=2.0), but got {self.surrogate!r}.")
        learn: Any = self.learn
        learn = (learn,) if isinstance(learn, str) else learn
        if not isinstance(learn, tuple | list):
            raise TypeError(f"{name}: learn must be names of parameters, but got {learn!r}.")
        object.__setattr__(self, "learn", tuple(learn))
        if unknown := [key for key in self.learn if key not in bounds]:
            raise ValueError(f"{name} cannot learn {unknown[0]!r}; its parameters are {', '.join(bounds)}.")
        if self.spiking and "v_threshold" not in bounds and type(self).threshold is Neuron.threshold:
            raise TypeError(f"{name} fires, so it needs a parameter v_threshold or a method threshold(self, v, ...).")
        if self.reset == "hard" and "v_reset" not in bounds and type(self).hard is Neuron.hard:
            raise TypeError(f"{name} needs a parameter v_reset for its hard reset.")

    @property
    def parameters(self) -> dict[str, float]:
        """The numbers of this neuron, by name."""
        return {key: getattr(self, key) for key in parameters_of(type(self))}

    def __repr__(self) -> str:
        own = [f.name for f in dataclasses.fields(self) if f.name not in COMMON]
        fields = [*own, *(f.name for f in dataclasses.fields(Neuron) if getattr(self, f.name) != f.default)]
        return f"{type(self).__name__}({', '.join(f'{key}={getattr(self, key)!r}' for key in fields)})"

    def _repr_latex_(self) -> str:
        from tfexplore.printing import latex_of_step  # the printer stands above this file; only the notebook calls this

        return latex_of_step(step_of(self))


COMMON = frozenset(f.name for f in dataclasses.fields(Neuron))


def parameters_of(cls: type[Any]) -> Mapping[str, Bound]:
    """The numeric fields of a neuron or surrogate class, with the values each may take."""
    return _parameters_of(cls)  # type: ignore[arg-type]  # mypy takes a class's own __hash__ for its instances'


@functools.cache
def _parameters_of(cls: Any) -> Mapping[str, Bound]:
    found = {}
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if hint is float:
            found[field.name] = Bound()
        elif get_origin(hint) is Annotated and get_args(hint)[0] is float:
            found[field.name] = next((a for a in get_args(hint)[1:] if isinstance(a, Bound)), Bound())
    return MappingProxyType(found)


def checked_number(owner: str, key: str, value: Any, bound: Bound) -> float:
    if isinstance(value, sympy.Expr):  # step_of puts symbols in place of the numbers
        return value
    if getattr(value, "requires_grad", False):
        raise TypeError(f"{owner}: {key} must be a number; to train it, name it: learn={key!r}.")
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not bound.admits(number):
        raise ValueError(f"{owner}: {key} must be {bound}, but got {value!r}.")
    return number


@dataclass(frozen=True)
class Step:
    """One time step as SymPy expressions; every tuple is in the order of the neuron's states.

    charge (of `before` and `x`), fire (u, of `charged`), reset (of `charged` and `s`); `slope` is the surrogate
    derivative and `smooth` its primitive, both of `u`. `scalars` and `rows` are the parameters: numbers, and learned
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
    rows: tuple[sympy.Symbol, ...]

    @property
    def slope(self) -> sympy.Expr:
        return sympy.sympify(self.surrogate.derivative(self.u))

    @property
    def smooth(self) -> sympy.Expr:
        return sympy.sympify(self.surrogate.primitive(self.u))


def real(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


def scalars_of(neuron: Neuron) -> dict[str, float]:
    """The run-time numbers of the kernels, in their order: the neuron's that are not learned, then the surrogate's."""
    own = {key: value for key, value in neuron.parameters.items() if key not in neuron.learn}
    return own | {f"surrogate_{key}": getattr(neuron.surrogate, key) for key in parameters_of(type(neuron.surrogate))}


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
        return lambda *args: functools.reduce(lambda a, b: sympy.Piecewise((a, compare(a, b)), (b, True)), args)

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
        rows=tuple(real(key) for key in symbolic.parameters if key in symbolic.learn),
    )
