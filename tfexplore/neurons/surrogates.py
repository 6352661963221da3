r"""Surrogate derivatives: what stands in for the derivative of the spike, :math:`\Theta'(u)`, in the backward pass.

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
    r"""Base of all surrogates: a frozen value with positive scales.

    A subclass annotates its scales and defines `derivative(u)`, for numbers and for SymPy expressions; `primitive(u)`, whose
    slope that is, may be left to SymPy. The forward pass does not change: a spike is 1 where u >= 0, else 0.

    Raises:
        ValueError: for a scale that is not a finite number above 0.

    Example:
        >>> from tfexplore.neurons import Surrogate
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
        """The smooth step with slope `derivative`; integrated by SymPy where a surrogate does not define its own."""
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
    r"""The slope of an arctangent, with wide tails (Fang et al., ICCV 2021).

    .. math:: \Theta'(u) = \frac{\alpha}{2\,(1 + (\frac{\pi}{2} \alpha u)^2)}

    Args:
        alpha: twice the slope at u = 0; larger is narrower and higher.

    Example:
        >>> from tfexplore import surrogates
        >>> float(surrogates.ATan(alpha=2.0).derivative(0.0))
        1.0
    """

    alpha: float = 2.0

    def derivative(self, u: Value) -> Value:
        return self.alpha / 2 / (1 + (pi / 2 * self.alpha * u) ** 2)

    def primitive(self, u: Value) -> Value:
        return sympy.atan(pi / 2 * self.alpha * u) / pi + sympy.Rational(1, 2)


class Sigmoid(Surrogate):
    r"""The slope of a logistic step.

    .. math:: \Theta'(u) = \alpha\, p\, (1 - p), \quad p = \frac{1}{1 + e^{-\alpha u}}

    Args:
        alpha: four times the slope at u = 0.

    Example:
        >>> from tfexplore import surrogates
        >>> float(surrogates.Sigmoid(alpha=4.0).derivative(0.0))
        1.0
    """

    alpha: float = 4.0

    def derivative(self, u: Value) -> Value:
        # in exp(-|alpha u|), which cannot overflow; the bump is even in u
        e = exp(-self.alpha * Abs(u))
        return self.alpha * e / (1 + e) ** 2

    def primitive(self, u: Value) -> Value:
        return sympy.tanh(self.alpha * u / 2) / 2 + sympy.Rational(1, 2)


class Triangle(Surrogate):
    r"""A tent of area 1 (Esser et al., 2016; Bellec et al., 2018).

    .. math:: \Theta'(u) = \frac{1}{w} \max(0, 1 - |u| / w)

    Args:
        width: w, half of its base.

    Example:
        >>> from tfexplore import surrogates
        >>> float(surrogates.Triangle(width=2.0).derivative(1.0))
        0.25
    """

    width: float = 1.0

    def derivative(self, u: Value) -> Value:
        return Piecewise(((1 - Abs(u) / self.width) / self.width, Abs(u) < self.width), (0, True))

    def primitive(self, u: Value) -> Value:
        a = u / self.width
        left, right = (1 + a) ** 2 / 2, 1 - (1 - a) ** 2 / 2
        return Piecewise((0, u <= -self.width), (left, u < 0), (right, u < self.width), (1, True))


class Rectangle(Surrogate):
    r"""A box of area 1 (Wu et al., 2018; the temporal-fusion paper's, with width 1).

    .. math:: \Theta'(u) = \begin{cases} 1 / w & |u| < w / 2 \\ 0 & \text{else} \end{cases}

    With it, most neurons need only the outcomes of comparisons in the backward pass: `keep="bits"` is exact.

    Args:
        width: w.

    Example:
        >>> from tfexplore import surrogates
        >>> [float(surrogates.Rectangle(width=2.0).derivative(u)) for u in (0.5, 1.5)]
        [0.5, 0.0]
    """

    width: float = 1.0

    def derivative(self, u: Value) -> Value:
        return Piecewise((1 / self.width, Abs(u) < self.width / 2), (0, True))

    def primitive(self, u: Value) -> Value:
        half = self.width / 2
        ramp = u / self.width + sympy.Rational(1, 2)
        return Piecewise((0, u <= -half), (ramp, u < half), (1, True))


class SuperSpike(Surrogate):
    r"""The slope of a fast sigmoid (Zenke and Ganguli, 2018).

    .. math:: \Theta'(u) = \frac{1}{(1 + \alpha |u|)^2}

    Args:
        alpha: larger is narrower; the slope at u = 0 is 1.

    Example:
        >>> from tfexplore import surrogates
        >>> float(surrogates.SuperSpike(alpha=1.0).derivative(1.0))
        0.25
    """

    alpha: float = 10.0

    def derivative(self, u: Value) -> Value:
        return 1 / (1 + self.alpha * Abs(u)) ** 2

    def primitive(self, u: Value) -> Value:
        return u / (1 + self.alpha * Abs(u)) + sympy.Rational(1, 2)


class Gaussian(Surrogate):
    r"""A normal density (Yin et al., 2021, use sums of these).

    .. math:: \Theta'(u) = \frac{1}{\sigma \sqrt{2 \pi}}\, e^{-u^2 / 2 \sigma^2}

    Args:
        sigma: the standard deviation.

    Example:
        >>> from tfexplore import surrogates
        >>> round(float(surrogates.Gaussian(sigma=0.4).derivative(0.0)), 4)
        0.9974
    """

    sigma: float = 0.4

    def derivative(self, u: Value) -> Value:
        return exp(-((u / self.sigma) ** 2) / 2) / (self.sigma * sympy.sqrt(2 * pi))

    def primitive(self, u: Value) -> Value:
        return sympy.erf(u / (self.sigma * sympy.sqrt(2))) / 2 + sympy.Rational(1, 2)


def custom(name: str, derivative: Value, primitive: Value = None, **scales: float) -> Surrogate:
    """A surrogate from a SymPy expression, or its text, in `u` and the scales named here.

    Args:
        name: the name under which it is shown.
        derivative: the slope that stands in for the spike's.
        primitive: the smooth step with that slope; left to SymPy by default.
        scales: the numbers of the expressions, each above 0, by name.

    Returns:
        A surrogate that prints, pickles and compiles like those of the library.

    Raises:
        ValueError: for an expression with other symbols, or a scale that is not a finite number above 0.

    Example:
        >>> from tfexplore import surrogates
        >>> surrogates.custom("Cauchy", "1 / (pi * g * (1 + (u / g)**2))", g=0.5)
        Cauchy(g=0.5)
    """
    names: dict[str, Any] = {key: sympy.Symbol(key, real=True) for key in ("u", *scales)}
    given = {"derivative": derivative, "primitive": primitive}
    expressions = {key: sympy.sympify(value, locals=names) for key, value in given.items() if value is not None}
    for key, expression in expressions.items():
        # the user's own symbol may lack real=True: the name is what counts
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
