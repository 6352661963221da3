"""The numbers of a neuron: which values each may take, and how a learned one stays within them.

A parameter is an annotated field, `tau: TimeConstant = 2.0`; the annotation is its check. It is a number, or `Values`: one for
each channel or neuron. Counts, and numbers that are no neuron's, have a check of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import sympy


class Values:
    """Several values of one parameter: an array that never changes, so that neurons with such parameters are values too.

    >>> Values([2.0, 5.0, 20.0]), Values([2.0, 5.0]) == Values([2.0, 5.0])
    (<3 values, 2 to 20>, True)
    """

    def __init__(self, given: Any) -> None:
        # a tensor by torch's own way: numpy's asks it for a keyword that it does not take
        given = given.detach().cpu().double().numpy() if hasattr(given, "detach") else given
        self.array = np.array(given, dtype=np.float64)
        self.array.setflags(write=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def first(self) -> float:
        """Stands for all of them where one number is wanted."""
        return float(self.array.flat[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Values) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.shape, self.array.tobytes()))

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"<{size} values, {self.array.min():g} to {self.array.max():g}>"


STRAIGHT = 10.0
"""From this raw value on, a learned number above a bound grows along the tangent of exp, which would soon overflow."""


@dataclass(frozen=True)
class Bound:
    """The values a parameter may take: `low <= value` (or `low < value` when open) and `value < high`."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def admits(self, value: float) -> bool:
        """Whether the value is finite and within the bound."""
        return math.isfinite(value) and (self.low < value if self.open else self.low <= value) and value < self.high

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"{'above' if self.open else 'at least'} {self.low:g}"
        high = "" if self.high == math.inf else f"below {self.high:g}"
        return "a finite number" + (", " if low or high else "") + " and ".join(filter(None, (low, high)))

    def to_free(self, name: str, value: float) -> float:
        """The unconstrained number that a learned parameter is trained as; the inverse of `from_free`."""
        if self.low == -math.inf:
            if self.high != math.inf:
                raise ValueError(f"{name} cannot be learned: it has an upper bound but no lower one.")
            return value
        if value <= self.low:
            raise ValueError(f"a learned {name} must start above {self.low:g}, but got {value!r}.")
        if self.high == math.inf:
            above, knee = value - self.low, math.exp(STRAIGHT)
            return math.log(above) if above <= knee else STRAIGHT + above / knee - 1
        part = (value - self.low) / (self.high - self.low)
        return math.log(part / (1 - part))

    def from_free(self, raw: Any) -> Any:
        """Of a tensor: low + exp(raw) above a bound (tau = 1 + exp(w)), a logistic curve between two, raw without.

        Beyond raw = 10 (tau = 22,027) the exp goes on as its tangent, so that a step far too long gives a large number,
        not an infinite one and then NaN; value and slope have no jump.
        """
        if self.low == -math.inf:
            return raw
        if self.high == math.inf:
            return self.low + raw.clamp(max=STRAIGHT).exp() * (1 + (raw - STRAIGHT).relu())
        return self.low + (self.high - self.low) * raw.sigmoid()


TimeConstant = Annotated[float, Bound(low=1.0)]
"""In time steps, at least 1: below, the explicit Euler step of a leak would overshoot its rest."""
Positive = Annotated[float, Bound(low=0.0, open=True)]
"""Above 0."""
Decay = Annotated[float, Bound(low=0.0, high=1.0, open=True)]
"""A factor per time step: between 0 and 1, both excluded."""


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


def checked(owner: str, key: str, value: Any, bound: Bound) -> Any:
    """The value as a float, or as `Values`; raises TypeError or ValueError unless it is a number, or a tensor, within the bound.

    A distribution stays as it is: a layer draws from it.
    """
    if isinstance(value, sympy.Expr | Values) or is_distribution(value):
        return value  # an expression: step_of puts symbols in place of the numbers
    if getattr(value, "requires_grad", False):
        raise TypeError(f"{owner}: {key} must be fixed; to train it, name it: learn={key!r}.")
    if getattr(value, "ndim", 0):
        return checked_values(owner, key, value, bound)
    return checked_number(owner, key, value, bound)


def is_distribution(value: Any) -> bool:
    """Whether it is one to draw from, as those of `torch.distributions`."""
    return callable(getattr(value, "sample", None))


def checked_values(owner: str, key: str, value: Any, bound: Bound) -> Values:
    """A tensor or an array of numbers within the bound."""
    try:
        if any(kind in str(getattr(value, "dtype", "")) for kind in ("bool", "complex")):
            raise TypeError  # as for a single one: neither is a number here
        made = Values(value)
    except (TypeError, ValueError):
        raise TypeError(f"{owner}: {key} must be {bound}, or a tensor of such, but got {value!r}.") from None
    if not made.array.size:
        raise ValueError(f"{owner}: {key} must have at least one value, but got shape {made.shape}.")
    if wrong := [(place, number) for place, number in np.ndenumerate(made.array) if not bound.admits(number)]:
        place, number = wrong[0]
        raise ValueError(
            f"{owner}: every value of {key} must be {bound}, but {len(wrong)} of {made.array.size} are not; the first, at "
            f"{list(place)}, is {number:g}."
        )
    return made


def checked_number(owner: str, key: str, value: Any, bound: Bound) -> float:
    """The value as a float; raises ValueError unless it is a number within the bound."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not bound.admits(number):
        raise ValueError(f"{owner}: {key} must be {bound}, but got {value!r}.")
    return number


def checked_count(name: str, value: Any, most: int | None = None) -> None:
    """Raises ValueError unless the value is a whole number from 1 on (up to `most`); True and 2.0 are not."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= (most or value):
        raise ValueError(f"{name} must be a whole number from 1 {f'to {most}' if most else 'on'}, but got {value!r}.")


def check_between(name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Raises ValueError unless the value is a finite number from `low` (or `above` it) to `high`; True is not."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and (low < value if above else low <= value) and value <= high):
        ends = f" {'above' if above else 'from'} {low:g}" if low > -math.inf else ""
        ends += f"{', up' if above else ''} to {high:g}" if high < math.inf else " on" if ends and not above else ""
        raise ValueError(f"{name} must be a finite number{ends}, but got {value!r}.")
