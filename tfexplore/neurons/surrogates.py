r"""Surrogate derivatives: what stands in for the derivative of the spike, \(\Theta'(u)\), on the way back.

A spike is a step of u = h - threshold; its true derivative is 0 almost everywhere, so nothing would be learned. A
surrogate gives a bump around u = 0 (`derivative`) and the smooth step whose slope that bump is (`primitive`, used when
the spike is smooth, to test the kernels with `gradcheck`). The forward pass never changes: a spike stays 0 or 1.

Every scale is a run-time number of the kernels. A surrogate of your own is a class of three lines, or a SymPy
expression in `u` (see `custom`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, TypeAlias, dataclass_transform

import sympy
from sympy import Abs, Piecewise, exp, pi

Value: TypeAlias = Any
"""A number or a SymPy expression: the equations run on both."""


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class Surrogate:
    """Base of all surrogates: positive scales as annotated fields, and `derivative(u)`; `primitive(u)` if it is known.

    >>> class Box(Surrogate):
    ...     width: float = 1.0
    ...     def derivative(self, u):
    ...         return Piecewise((1 / self.width, Abs(u) < self.width / 2), (0, True))
    >>> Box(width=2.0).derivative(0.3)
    0.500000000000000
    """

    def derivative(self, u: Value) -> Value:
        raise NotImplementedError(f"{type(self).__name__} needs a method derivative(self, u).")

    def primitive(self, u: Value) -> Value:
        """The smooth step with slope `derivative`; integrated by SymPy where a surrogate does not give its own."""
        symbol = sympy.Symbol("u", real=True)
        scales = {f.name: sympy.Symbol(f.name, positive=True) for f in fields(self)}  # SymPy is at a loss with 0.5
        found = sympy.integrate(type(self)(**scales).derivative(symbol), symbol)
        if found.has(sympy.Integral):
            raise ValueError(f"SymPy finds no primitive of {type(self).__name__}; give it a method primitive(self, u).")
        return found.subs(
            {scale: getattr(self, name) for name, scale in scales.items()} | {symbol: u}, simultaneous=True
        )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True)(cls)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, sympy.Expr):
                continue
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < float("inf"):
                name = type(self).__name__
                raise ValueError(f"{name}: {field.name} must be a finite number above 0, but got {value!r}.")
            object.__setattr__(self, field.name, float(value))


class ATan(Surrogate):
    """The slope of an arctangent, alpha / (2 (1 + (pi alpha u / 2)^2)); wide tails (Fang et al., 2021)."""

    alpha: float = 2.0

    def derivative(self, u: Value) -> Value:
        return self.alpha / 2 / (1 + (pi / 2 * self.alpha * u) ** 2)

    def primitive(self, u: Value) -> Value:
        return sympy.atan(pi / 2 * self.alpha * u) / pi + sympy.Rational(1, 2)


class Sigmoid(Surrogate):
    """The slope of a logistic step, alpha p (1 - p) with p = 1 / (1 + exp(-alpha u))."""

    alpha: float = 4.0

    def derivative(self, u: Value) -> Value:
        # in exp(-|alpha u|), which cannot overflow; the bump is even in u
        e = exp(-self.alpha * Abs(u))
        return self.alpha * e / (1 + e) ** 2

    def primitive(self, u: Value) -> Value:
        return sympy.tanh(self.alpha * u / 2) / 2 + sympy.Rational(1, 2)


class Triangle(Surrogate):
    """A tent of half-width `width` and area 1: (1 - |u| / width) / width (Esser et al., 2016; Bellec et al., 2018)."""

    width: float = 1.0

    def derivative(self, u: Value) -> Value:
        return Piecewise(((1 - Abs(u) / self.width) / self.width, Abs(u) < self.width), (0, True))

    def primitive(self, u: Value) -> Value:
        a = u / self.width
        left, right = (1 + a) ** 2 / 2, 1 - (1 - a) ** 2 / 2
        return Piecewise((0, u <= -self.width), (left, u < 0), (right, u < self.width), (1, True))


class Rectangle(Surrogate):
    """1 / width where |u| < width / 2, else 0 (Wu et al., 2018; the temporal-fusion paper's, with width 1)."""

    width: float = 1.0

    def derivative(self, u: Value) -> Value:
        return Piecewise((1 / self.width, Abs(u) < self.width / 2), (0, True))

    def primitive(self, u: Value) -> Value:
        half = self.width / 2
        ramp = u / self.width + sympy.Rational(1, 2)
        return Piecewise((0, u <= -half), (ramp, u < half), (1, True))


class SuperSpike(Surrogate):
    """The slope of a fast sigmoid, 1 / (1 + alpha |u|)^2 (Zenke and Ganguli, 2018)."""

    alpha: float = 10.0

    def derivative(self, u: Value) -> Value:
        return 1 / (1 + self.alpha * Abs(u)) ** 2

    def primitive(self, u: Value) -> Value:
        return u / (1 + self.alpha * Abs(u)) + sympy.Rational(1, 2)


class Gaussian(Surrogate):
    """A normal density of standard deviation sigma (Yin et al., 2021, use sums of these)."""

    sigma: float = 0.4

    def derivative(self, u: Value) -> Value:
        return exp(-((u / self.sigma) ** 2) / 2) / (self.sigma * sympy.sqrt(2 * pi))

    def primitive(self, u: Value) -> Value:
        return sympy.erf(u / (self.sigma * sympy.sqrt(2))) / 2 + sympy.Rational(1, 2)


def custom(name: str, derivative: Value, primitive: Value = None, **scales: float) -> Surrogate:
    """A surrogate from a SymPy expression (or its text) in `u` and the scales named here.

    >>> custom("Cauchy", "1 / (pi * g * (1 + (u / g)**2))", g=0.5)
    Cauchy(g=0.5)
    """
    names: dict[str, Any] = {key: sympy.Symbol(key, real=True) for key in ("u", *scales)}
    given = {"derivative": derivative, "primitive": primitive}
    expressions = {key: sympy.sympify(value, locals=names) for key, value in given.items() if value is not None}
    for key, expression in expressions.items():
        # a symbol made by hand may lack real=True: the name is what counts
        expression = expression.subs({symbol: names.get(symbol.name, symbol) for symbol in expression.free_symbols})
        if unknown := {symbol.name for symbol in expression.free_symbols} - names.keys():
            raise ValueError(
                f"{name}: {key} uses {sorted(unknown)[0]!r}; it may use u and {', '.join(scales) or 'numbers'}."
            )
        expressions[key] = expression

    def method(expression: sympy.Expr) -> Any:
        def evaluate(self: Surrogate, u: Value) -> Value:
            values = {names[key]: getattr(self, key) for key in scales} | {names["u"]: u}
            return expression.subs(values, simultaneous=True)

        return evaluate

    def reduce(self: Surrogate) -> Any:  # pickle finds no such class: it makes the surrogate anew
        return functools.partial(custom, name, derivative, primitive, **{key: getattr(self, key) for key in scales}), ()

    body = {
        "__reduce__": reduce,
        "__annotations__": dict.fromkeys(scales, float),
        "__doc__": f"theta'(u) = {expressions['derivative']}",
        **scales,
    }
    made: type[Surrogate] = type(name, (Surrogate,), body | {key: method(e) for key, e in expressions.items()})
    return made()


ALL: tuple[type[Surrogate], ...] = (ATan, Sigmoid, Triangle, Rectangle, SuperSpike, Gaussian)
