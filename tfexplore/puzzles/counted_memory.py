"""The memory of a puzzle: counted arrays, in words of 4 bytes; the inputs among them are read-only."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.measure.counting import Counted, Log

WORD = 4  # bytes: one float32


class TooManyAccesses(BaseException):
    """More accesses than any answer needs: the code does not end. No Exception, so that `except Exception` lets it pass."""


class Memory(Log):
    """The log of the arrays that a learner's code works on: inputs, which are read-only, and outputs.

    Args:
        limit: accesses after which `TooManyAccesses` is raised.

    Attributes:
        drawn: what the picture of the answer shows, where that is not its result.
        said: a sentence of the case's own on the answer, such as how many rounds a current needs.

    Example:
        >>> memory = Memory()
        >>> x, out = memory.input("x", np.ones(6, "float32")), memory.output("out", (6,))
        >>> for i in range(6):
        ...     out[i] = 2 * x[i]
        >>> memory.traffic()
        {'x read': Fraction(6, 1), 'out written': Fraction(6, 1)}
        >>> x[0] = 1
        Traceback (most recent call last):
        ValueError: x is an input and must stay as it is; write into out, or into a variable of your own.
    """

    def __init__(self, limit: float = float("inf")) -> None:
        super().__init__()
        self.limit, self.count = limit, 0
        self.given: list[Counted] = []
        self.inputs: set[str] = set()
        self.bytes: dict[str, int] = {}
        self.drawn: Any = None
        self.said = ""

    def input(self, name: str, array: Any) -> Counted:
        """A counted copy of an array, which may only be read."""
        self.inputs.add(name)
        return self._hand_out(name, np.array(array))

    def output(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Counted:
        """A counted array to write to, filled with NaN (0 for whole numbers)."""
        empty = np.nan if np.issubdtype(dtype, np.floating) else 0
        return self._hand_out(name, np.full(shape, empty, dtype))

    def _hand_out(self, name: str, array: np.ndarray) -> Counted:
        self.bytes[name] = array.itemsize
        self.given.append(Counted(name, array, self))
        return self.given[-1]

    def note(self, array: str, action: str, places: list[tuple[int, ...]]) -> None:
        if action == "write" and array in self.inputs:
            other = next((name for name in self.bytes if name not in self.inputs), "")
            where = f"write into {other}, or into" if other else "use"
            raise ValueError(f"{array} is an input and must stay as it is; {where} a variable of your own.")
        super().note(array, action, places)
        self.count += len(places)
        if self.count > self.limit:
            raise TooManyAccesses

    def moved(self, array: str, action: str, words: int) -> None:
        """Adds words that were moved for the learner's code, not by it: in a layer that was called, a state that was stored."""
        (self.reads if action == "read" else self.writes)[array] += words

    def traffic(self) -> dict[str, Fraction]:
        """Words read and written, by array and direction."""
        counts = [(f"{name} read", name, n) for name, n in self.reads.items()]
        counts += [(f"{name} written", name, n) for name, n in self.writes.items()]
        return {what: Fraction(n * self.bytes.get(name, WORD), WORD) for what, name, n in counts if n}
