"""How deep a kernel is: the longest chain of operations that wait for each other, counted by running the kernel's own text.

The text runs in plain Python on numbers that remember how many operations they waited for (`Deep`). So the depth is that of the
loop as it is written, whatever executes it: a kernel that runs all time steps in one launch is as deep as a loop of launches.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from tfexplore.codegen.variant import Variant
from tfexplore.explore.kernel.recording import ARGUMENTS, data, leading, python
from tfexplore.neurons.neuron import Neuron, check_neuron
from tfexplore.neurons.parameters import checked_count
from tfexplore.neurons.step import step_of


class Depth(NamedTuple):
    """Operations of a forward pass. A machine with endless lanes takes `depth` turns, one with a single lane `work`.

    depth: on the longest chain in which each operation waits for the one before.   work: all of them.
    """

    depth: int
    work: int


class Deep:
    """A number and the operations it waited for, one after the other. A comparison is an operation, a choice by it is none."""

    work = 0
    """Operations since `depth_of` began, of all numbers."""
    decided = 0
    """The depth of the last comparison, on which a constant that it chose depends."""

    def __init__(self, value: float, depth: int = 0) -> None:
        self.value, self.depth = value, depth

    def after(self, value: float, *operands: Any) -> Deep:
        """The result of one operation on these."""
        Deep.work += 1
        return Deep(value, 1 + max(getattr(each, "depth", 0) for each in (self, *operands)))

    def __add__(self, other: Any) -> Deep:
        return self.after(self.value + number(other), other)

    def __sub__(self, other: Any) -> Deep:
        return self.after(self.value - number(other), other)

    def __mul__(self, other: Any) -> Deep:
        return self.after(self.value * number(other), other)

    def __truediv__(self, other: Any) -> Deep:
        return self.after(self.value / number(other), other)

    def __ge__(self, other: Any) -> bool:
        return self.compared(self.value >= number(other), other)

    def __gt__(self, other: Any) -> bool:
        return self.compared(self.value > number(other), other)

    def compared(self, outcome: bool, other: Any) -> bool:
        Deep.decided = self.after(outcome, other).depth
        return outcome


def number(value: Any) -> float:
    return float(value.value if isinstance(value, Deep) else value)


def chosen(value: float) -> Deep:
    """A constant in the kernel's text: the zero before a comparison, or one of the two outcomes behind it."""
    return Deep(value, Deep.decided)


def depth_of(neuron: Neuron, steps: int) -> Depth:
    """Counts the operations of `kernels/forward.py` for one neuron over `steps` time steps.

    Args:
        neuron: whose charge, fire and reset consist of +, -, *, / and one comparison, such as `LIF`, `IF` or `QIF`.
        steps: time steps `T`.

    Raises:
        ValueError: for no time step.
        TypeError: for another thing than a neuron, or where a step has an operation that is not counted here.

    Example:
        In v + x - (v - v_reset) / tau, u, u >= 0 and h - s * v_threshold, seven of eight wait for each other.

        >>> from tfexplore.neurons.library import LIF
        >>> depth_of(LIF(), 100)
        Depth(depth=700, work=800)
    """
    checked_count("steps", steps)
    check_neuron(neuron)
    variant = Variant(step_of(neuron))
    arrays = {
        name: array if name == "inner" else deep(array) for name, array in data(variant, neuron, 1, steps).items()
    }
    loop = python("forward", variant)
    made = SimpleNamespace(uint64=np.uint64, uint8=np.uint8, empty=lambda shape, _: np.empty(shape, object))
    loop.names["np"] = made
    loop.names["spike"].__globals__["real"] = chosen
    Deep.work = Deep.decided = 0
    try:
        loop.run(*leading(0, 1, steps), *(arrays[name] for name in ARGUMENTS["forward"]))
    except TypeError as error:
        raise TypeError(
            f"neuron must step by +, -, *, / and one comparison alone, but {type(neuron).__name__} has another operation "
            f"({error}); take LIF, say."
        ) from error
    ends = [*arrays["out"].flat, *arrays["state"].flat]
    return Depth(max(end.depth for end in ends), Deep.work)


def deep(array: np.ndarray) -> np.ndarray:
    """The same numbers, none of which has waited."""
    found = np.empty(array.shape, object)
    for place, value in np.ndenumerate(array):
        found[place] = Deep(float(value))
    return found
