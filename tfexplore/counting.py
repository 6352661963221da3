"""Arrays that count: they behave like NumPy arrays, and log every word that is read from them and written to them.

With these in place of its arguments, any loop over `x[t, i]` or over rows `x[t]` tells its own memory traffic. It stands
on NumPy alone, and neither knows what a kernel is nor what a budget is.

What counts:

    x[t, i]                       1 word read, every time it is written down
    row = x[t]                    nothing yet; its words count when they are first used, and once: `row` is a local name,
                                  as a value that was loaded into a register is
    row + 1, np.where(x > 0, ..)  every word of what is used
    x[t, i] = 1.0, x[t] = row     1 word, or a row's words, written (and what stands on the right is read)
    x[t] += 1                     a row read and a row written
    len(x), x.shape, np.zeros_like(x)   nothing: no word of x is looked at

Results of arithmetic are plain NumPy arrays and numbers: they are nobody's memory, and are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Event(NamedTuple):
    """One word of memory touched: which array, "read" or "write", and where in the array."""

    array: str
    action: str
    place: tuple[int, ...]


class Log:
    """What was read and written so far, in words, by array; with `events=True` also every word in order.

    >>> log = Log(events=True)
    >>> x = Counted("x", np.ones((3, 4)), log)
    >>> out = Counted("out", np.zeros((3, 4)), log)
    >>> for t in range(3):
    ...     out[t] = 2 * x[t]
    >>> log.reads["x"], log.writes["out"], log.reads["out"], log.words(), log.words("out")
    (12, 12, 0, 24, 12)
    >>> log.events[0]
    Event(array='x', action='read', place=(0, 0))
    """

    def __init__(self, events: bool = False) -> None:
        self.reads: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.events: list[Event] = []
        self.keep_events = events

    def words(self, *arrays: str) -> int:
        """Words read and written, of these arrays or of all."""
        counts = self.reads + self.writes
        return sum(counts[name] for name in arrays or counts)

    def note(self, array: str, action: str, places: list[tuple[int, ...]]) -> None:
        """Called for every access, with the words it touches; a subclass may learn more here."""
        (self.reads if action == "read" else self.writes)[array] += len(places)
        if self.keep_events:
            self.events += [Event(array, action, place) for place in places]

    def clear(self) -> None:
        self.reads.clear()
        self.writes.clear()
        self.events.clear()


class Counted(NDArrayOperatorsMixin):
    """A NumPy array whose words are counted when they are read and written: `Counted(name, array, log)`.

    The array is not copied: writing here writes there. `array` is the one without counting, to look at afterwards.

    >>> log = Log()
    >>> x = Counted("x", np.arange(6.0).reshape(2, 3), log)
    >>> x[1, 2], log.reads["x"]
    (np.float64(5.0), 1)
    >>> row = x[0]
    >>> np.where(row > 0, row, -1.0), log.reads["x"]  # the row is loaded once, and used twice
    (array([-1.,  1.,  2.]), 4)
    """

    __hash__ = None  # type: ignore[assignment]  # == compares word by word, as NumPy's does

    def __init__(self, name: str, array: Any, log: Log) -> None:
        self.name, self.array, self.log = name, np.asarray(array), log
        self._where = np.arange(self.array.size).reshape(self.array.shape)  # place in the whole array, for the log
        self._whole: tuple[int, ...] = self.array.shape
        self._loaded: Any = None  # of a part taken out by slicing: which of its words are in registers

    # -- what costs nothing --------------------------------------------------------------------------------------

    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    dtype = property(lambda self: self.array.dtype)

    @property
    def T(self) -> Counted:
        return self._part(np.transpose)

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"Counted({self.name!r}, {self.array!r})"

    def _part(self, take: Any) -> Counted:
        part = object.__new__(Counted)
        part.name, part.log, part._whole = self.name, self.log, self._whole
        part.array, part._where = take(self.array), take(self._where)
        part._loaded = np.zeros(part.array.shape, bool) if self._loaded is None else take(self._loaded)
        return part

    # -- what is counted -----------------------------------------------------------------------------------------

    def _note(self, action: str, where: Any) -> None:
        """`where`: one number or many, each a place in the whole array read as one long row."""
        if not self._whole:  # an array without axes is one word
            self.log.note(self.name, action, [()])
        elif np.size(where):
            axes = (axis.tolist() for axis in np.unravel_index(np.ravel(where), self._whole))
            self.log.note(self.name, action, list(zip(*axes, strict=True)))

    def _read(self, key: Any = ...) -> Any:
        """The words at `key`, copied; those of a part that are loaded already are not counted again."""
        where = self._where[key]
        if self._loaded is not None:
            where = where[~self._loaded[key]] if np.ndim(where) else where if not self._loaded[key] else ()
            self._loaded[key] = True
        self._note("read", where)
        found = self.array[key]
        return found.copy() if isinstance(found, np.ndarray) else found

    def __getitem__(self, key: Any) -> Any:
        key = plain(key)
        parts = key if isinstance(key, tuple) else (key,)
        sliced = all(k is None or k is ... or isinstance(k, int | np.integer | slice) for k in parts)
        if sliced and isinstance(self.array[key], np.ndarray):
            return self._part(lambda array: array[key])
        return self._read(key)  # one word, or words picked by a list or a mask

    def __setitem__(self, key: Any, value: Any) -> None:
        key = plain(key)
        target = self.array[key]
        if isinstance(value, Counted) and same_memory(value.array, target):
            return  # the end of `x[t] += 1`: written already
        self.array[key] = plain(value)
        self._note("write", self._where[key])
        if self._loaded is not None:
            self._loaded[key] = True  # what was just stored is still at hand

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._read())

    def __float__(self) -> float:
        return float(self._read())

    def __int__(self) -> int:
        return int(self._read())

    def __getattr__(self, name: str) -> Any:
        """Methods such as `sum`, `copy`, `max`, `astype`: they read all words."""
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"Counted has no attribute {name!r}.")
        return getattr(self._read(), name)

    # -- NumPy's own functions -----------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._read(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        result = getattr(ufunc, method)(*map(plain, inputs), **plain(options))
        if out is None:
            return result
        results = result if isinstance(result, tuple) else (result,)
        for place, made in zip(out, results, strict=True):
            if place is not None:
                place[...] = made
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        if function in FREE:
            inputs = tuple(k.array if isinstance(k, Counted) else k for k in inputs)
        if function is np.copyto:
            inputs[0][...] = inputs[1]
            return None
        out = options.pop("out", None)
        result = function(*plain(inputs), **plain(options))
        if out is None:
            return result
        out[...] = result
        return out


FREE = {np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.shape, np.size, np.ndim}
"""NumPy's functions that look at an array's shape only."""


def plain(value: Any) -> Any:
    """The value with every counted array in it read."""
    if isinstance(value, Counted):
        return value._read()
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    return {key: plain(v) for key, v in value.items()} if isinstance(value, dict) else value


def same_memory(one: Any, other: Any) -> bool:
    return isinstance(other, np.ndarray) and (
        (one.__array_interface__["data"], one.shape, one.strides)
        == (other.__array_interface__["data"], other.shape, other.strides)
    )
