"""The kinds of nodes that NIR has: their parameters, what each may be, and which of them must fit together; one table.

Names and defaults are those of a NIR file (nir 1.0.8; Pedersen et al., Nature Communications 15, 8122, 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Value = np.ndarray | int | float | str | tuple[Any, ...]
MOST = 2**31 - 1  # of a size, stride or index; MOST_DIMENSIONS of them
MOST_DIMENSIONS = 32


@dataclass(frozen=True)
class Array:
    """Finite numbers of float or integer dtype, `dims` dimensions (None: any), above or from a bound on."""

    dims: int | None = None
    above: float | None = None
    least: float | None = None
    default: float | None = None  # where it may be missing: this number in the dtype of the parameter `like`
    like: str = ""

    @property
    def required(self) -> bool:
        return self.default is None

    def read(self, value: Any) -> np.ndarray:
        found = np.asarray(value)
        if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
            raise ValueError(f"must be numbers of up to 64 bits, but got dtype {found.dtype}")
        if self.dims is not None and found.ndim != self.dims:
            raise ValueError(f"must have {self.dims} dimensions, but got shape {found.shape}")
        if not found.size:
            raise ValueError(f"must have an element, but got shape {found.shape}")
        low, high = found.min(), found.max()  # NaN where there is one
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"must be finite, but got values from {low} to {high}")
        if self.above is not None and low <= self.above:
            raise ValueError(f"must be above {self.above:g}, but got {low}")
        if self.least is not None and low < self.least:
            raise ValueError(f"must be {self.least:g} or more, but got {low}")
        return np.asarray(found, dtype=found.dtype.newbyteorder("="), order="C")


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `least` on: one (an int), two (a pair; one number stands for both), or None, any (a tuple)."""

    count: int | None
    least: int = 1
    words: tuple[str, ...] = ()  # what may stand instead
    required: bool = True
    default: int | None = None

    def read(self, value: Any) -> int | str | tuple[int, ...]:
        if isinstance(value, str):
            if value not in self.words:
                raise ValueError(f"must be {' or '.join([*map(repr, self.words), 'whole numbers'])}, but got {value!r}")
            return value
        found = np.asarray(value)
        if (found.size and found.dtype.kind not in "iu") or found.ndim > 1 or found.size > MOST_DIMENSIONS:
            raise ValueError(f"must be whole numbers, but got dtype {found.dtype}, shape {found.shape}")
        numbers = tuple(int(number) for number in found.ravel())
        if self.count and len(numbers) == 1:
            numbers *= self.count
        if self.count and len(numbers) != self.count:
            raise ValueError(f"must be {self.count} whole numbers, but got {numbers}")
        if any(not self.least <= number <= MOST for number in numbers):
            raise ValueError(f"must be from {self.least} to {MOST}, but got {numbers}")
        return numbers[0] if self.count == 1 else numbers


TAU, ANY, WEIGHTS = Array(above=0), Array(), Array(dims=1)
V_RESET = Array(default=0.0, like="v_threshold")  # older files have none (NIR #155)
W_IN = Array(default=1.0, like="v_leak")
SHAPE = Whole(None)
CUBA = {"tau_syn": TAU, "tau_mem": TAU, "r": ANY, "v_leak": ANY}
POOL = {"kernel_size": Whole(2), "stride": Whole(2), "padding": Whole(2, least=0)}


def _convolution(dims: int) -> dict[str, Array | Whole]:
    return {
        "input_shape": Whole(dims, required=False),
        "weight": Array(dims=dims + 2),
        "stride": Whole(dims),
        "padding": Whole(dims, least=0, words=("same", "valid")),
        "dilation": Whole(dims),
        "groups": Whole(1),
        "bias": Array(dims=1),
    }


NEURONS: dict[str, dict[str, Array]] = {
    "I": {"r": ANY},
    "IF": {"r": ANY, "v_threshold": ANY, "v_reset": V_RESET},
    "LI": {"tau": TAU, "r": ANY, "v_leak": ANY},
    "LIF": {"tau": TAU, "r": ANY, "v_leak": ANY, "v_threshold": ANY, "v_reset": V_RESET},
    "CubaLI": {**CUBA, "w_in": W_IN},
    "CubaLIF": {**CUBA, "v_threshold": ANY, "v_reset": V_RESET, "w_in": W_IN},
}

KINDS: Mapping[str, Mapping[str, Array | Whole]] = {
    "Input": {"shape": SHAPE},
    "Output": {"shape": SHAPE},
    **NEURONS,
    "Affine": {"weight": Array(), "bias": Array()},
    "Linear": {"weight": Array()},
    "Conv1d": _convolution(1),
    "Conv2d": _convolution(2),
    "SumPool2d": POOL,
    "AvgPool2d": POOL,
    "Flatten": {
        "input_type": Whole(None, required=False),
        "start_dim": Whole(1, least=-MOST_DIMENSIONS, required=False, default=1),
        "end_dim": Whole(1, least=-MOST_DIMENSIONS, required=False, default=-1),
    },
    "Scale": {"scale": ANY},
    "Threshold": {"threshold": ANY},
    "Delay": {"delay": Array(least=0)},
}


def checked(kind: str, given: Mapping[str, Any]) -> dict[str, Value]:
    """The parameters of a node of this kind in their one form: arrays, whole numbers, tuples of them, words.

    A None is a parameter that is missing. A missing parameter with a default is filled in, and a single number among the
    arrays of a neuron stands for all neurons.

    Args:
        kind: NIR's name of the type, a key of KINDS.
        given: by name.

    Raises:
        ValueError: an unknown kind or parameter, one that is missing, a value that is not allowed, shapes that do not agree.

    Example:
        >>> checked("IF", {"r": np.ones(2), "v_threshold": 0.5})["v_threshold"].tolist()
        [0.5, 0.5]
    """
    if kind not in KINDS:
        raise ValueError(f"the kind {kind!r} is unknown; known are {', '.join(KINDS)}, NIRGraph")
    rules = KINDS[kind]
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in rules:
            raise ValueError(f"{kind} has no parameter {name!r}; it has {', '.join(rules)}")
    found: dict[str, Value] = {}
    for name, rule in rules.items():
        if name in given:
            try:
                found[name] = rule.read(given[name])
            except ValueError as error:
                raise ValueError(f"{name} of {kind} {error}") from None
        elif rule.required:
            raise ValueError(f"{kind} needs the parameter {name!r}, which is missing")
        elif isinstance(rule, Array):
            found[name] = np.asarray(rule.default, dtype=np.asarray(given[rule.like]).dtype)
        elif rule.default is not None:
            found[name] = rule.default
    return _fitting(kind, found)


def _fitting(kind: str, found: dict[str, Any]) -> dict[str, Value]:
    """Whether the shapes of a node's arrays agree; single numbers of a neuron spread over its shape."""
    if kind in NEURONS:
        shapes = {name: array.shape for name, array in found.items() if array.ndim}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"the parameters of {kind} must have one shape, but got {shapes}")
        for shape in set(shapes.values()):
            found = {name: np.array(np.broadcast_to(a, shape)) if a.shape != shape else a for name, a in found.items()}
    if "weight" not in found:
        return found
    weight, bias = found["weight"], found.get("bias")
    if weight.ndim < 2:
        raise ValueError(f"weight of {kind} must have 2 dimensions or more, but got shape {weight.shape}")
    if bias is not None:
        wanted = weight.shape[:1] if kind.startswith("Conv") else weight.shape[:-1]
        if bias.shape != wanted:
            raise ValueError(
                f"bias of {kind} must have shape {wanted}, as weight {weight.shape} asks for, but got {bias.shape}"
            )
    if "groups" in found and weight.shape[0] % found["groups"]:
        raise ValueError(
            f"groups of {kind} must divide the {weight.shape[0]} output channels, but got {found['groups']}"
        )
    return found
