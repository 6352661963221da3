"""Arrays that count: they behave like NumPy arrays, and log every word that is read from them and written to them.

With these in place of its arguments, any loop over `x[t, i]` or over rows `x[t]` measures its own memory traffic. They need
NumPy only, and know neither kernels nor budgets.

What counts:

    x[t, i]                       1 word read, every time it is written down
    row = x[t]                    nothing yet; its words count once, when they are first used: `row` is a local variable,
                                  like a value that was loaded into a register
    row + 1, np.where(x > 0, ..)  every word of what is used
    x[t, i] = 1.0, x[t] = row     1 word, or a row's words, written (and what stands on the right is read)
    x[t] += 1                     a row read and a row written
    len(x), x.shape, np.zeros_like(x)   nothing: no word of x is read
    x.reshape(-1), x.T            nothing yet: the same memory, like a row
    x.fill(1), np.put(x, ..), np.add.at(x, ..)   an error: which words these write cannot be seen

Results of arithmetic are plain NumPy arrays and numbers: they belong to no counted memory, and are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Access(NamedTuple):
    """One access to a word of memory.

    Attributes:
        array: the name of the array.
        action: "read" or "write".
        place: the index of the word in the whole array.
    """

    array: str
    action: str
    place: tuple[int, ...]


class Log:
    """What was read and written so far, in words, by array.

    Args:
        events: whether to log every `Access`, in order, in `log.events`.

    Attributes:
        reads: words read, by the array's name.
        writes: words written, by the array's name.
        events: the accesses in order, with `events=True`.

    Example:
        >>> log = Log(events=True)
        >>> x = Counted("x", np.ones((3, 4)), log)
        >>> out = Counted("out", np.zeros((3, 4)), log)
        >>> for t in range(3):
        ...     out[t] = 2 * x[t]
        >>> log.reads["x"], log.writes["out"], log.reads["out"], log.words(), log.words("out")
        (12, 12, 0, 24, 12)
        >>> log.events[0]
        Access(array='x', action='read', place=(0, 0))
    """

    def __init__(self, events: bool = False) -> None:
        self.reads: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.events: list[Access] = []
        self.keep_events = events

    def words(self, *arrays: str) -> int:
        """Words read and written, of the arrays with these names or of all."""
        counts = self.reads + self.writes
        return sum(counts[name] for name in arrays or counts)

    def note(self, array: str, action: str, places: list[tuple[int, ...]]) -> None:
        """Called for every access, with the words it touches; a subclass may do more here."""
        (self.reads if action == "read" else self.writes)[array] += len(places)
        if self.keep_events:
            self.events += [Access(array, action, place) for place in places]

    def clear(self) -> None:
        self.reads.clear()
        self.writes.clear()
        self.events.clear()


class Counted(NDArrayOperatorsMixin):
    """A NumPy array whose words are counted when they are read and written.

    Args:
        name: its name in the log.
        array: the memory, which is not copied; as an attribute, it is read and written without counting.
        log: where the accesses are counted.

    Raises:
        AttributeError: a method that writes uncounted, such as `fill`, was called.
        TypeError: a function of NumPy's that writes uncounted was called with it.

    Example:
        >>> log = Log()
        >>> x = Counted("x", np.arange(6.0).reshape(2, 3), log)
        >>> x[1, 2], log.reads["x"]
        (np.float64(5.0), 1)
        >>> row = x[0]
        >>> np.where(row > 0, row, -1.0), log.reads["x"]  # the row is loaded once, and used twice
        (array([-1.,  1.,  2.]), 4)
    """

    __slots__ = ("_loaded", "_where", "_whole", "array", "log", "name")  # so that `x.flat = 1` is an error
    __hash__ = None  # type: ignore[assignment]  # == compares word by word, as NumPy's does

    def __init__(self, name: str, array: Any, log: Log) -> None:
        self.name, self.array, self.log = name, np.asarray(array), log
        self._where = np.arange(self.array.size).reshape(self.array.shape)  # place in the whole array, for the log
        self._whole: tuple[int, ...] = self.array.shape
        self._loaded: Any = None  # of a part taken out by slicing: which of its words are in registers

    # -- not counted ---------------------------------------------------------------------------------------------

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

    def _view(self, take: Any) -> Any:
        """The result of `take`, if it is the same memory; where NumPy copies, the words are read."""
        same = np.may_share_memory(take(self.array), self.array)
        return self._part(take) if same else take(self._read())

    def _refused(self, what: str) -> str:
        return f"{what} writes into {self.name} uncounted; write with {self.name}[...] = ... instead."

    # -- counted -------------------------------------------------------------------------------------------------

    def _note(self, action: str, where: Any) -> None:
        """`where`: one flat index into the whole array, or many."""
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
            self._loaded[key] = True  # what was just stored is still in registers

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
        if name in WRITERS:
            raise AttributeError(self._refused(f"{self.name}.{name}"))
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"Counted has no attribute {name!r}.")
        if any(name == function.__name__ for function in VIEWS):
            return lambda *given, **options: self._view(lambda array: getattr(array, name)(*given, **options))
        return getattr(plain(self, locked=True), name)

    # -- NumPy's own functions -----------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._read(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if method == "at":
            if isinstance(inputs[0], Counted):
                raise TypeError(inputs[0]._refused(f"np.{ufunc.__name__}.at"))
            return ufunc.at(inputs[0], *map(plain, inputs[1:]))
        options = plain(options)
        if out is None:
            return getattr(ufunc, method)(*map(plain, inputs), **options)
        made = tuple(map(twin, out))
        getattr(ufunc, method)(*map(plain, inputs), out=made, **options)
        for place, result in zip(out, made, strict=True):
            store(place, result, options.get("where", True) if method == "__call__" else True)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        target = inputs[0] if inputs else None
        if function in FREE:
            inputs = tuple(k.array if isinstance(k, Counted) else k for k in inputs)
        if function in VIEWS and isinstance(target, Counted):
            return target._view(lambda array: function(array, *plain(inputs[1:]), **plain(options)))
        if function is np.copyto and isinstance(target, Counted):
            made, inputs, options = twin(target), plain(inputs[1:]), plain(options)
            np.copyto(made, *inputs, **options)
            return store(target, made, inputs[2] if len(inputs) > 2 else options.get("where", True))
        out = options.get("out")
        options = plain({**options, "out": twin(out)} if isinstance(out, Counted) else options, locked=True)
        try:
            result = function(*plain(inputs, locked=True), **options)
        except ValueError as error:
            if "read-only" not in str(error) or not isinstance(target, Counted):
                raise
            raise TypeError(target._refused(f"np.{function.__name__}")) from None
        if not isinstance(out, Counted):
            return result
        out[...] = options["out"]
        return out


FREE = {np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.shape, np.size, np.ndim}
"""NumPy's functions that use an array's shape only."""

VIEWS = {np.reshape, np.ravel, np.transpose, np.swapaxes, np.squeeze, np.moveaxis, np.expand_dims, np.flip}
"""NumPy's functions that return the same memory in another shape; some are methods too."""

WRITERS = {"fill", "put", "sort", "partition", "itemset", "setfield", "resize", "byteswap"}
"""An array's methods that write into it."""


def plain(value: Any, locked: bool = False) -> Any:
    """The value with every counted array in it read. locked: the result is read-only, so that writing into it is an error."""
    if isinstance(value, Counted):
        found = value._read()
        if locked and isinstance(found, np.ndarray):
            found.flags.writeable = False
        return found
    if isinstance(value, tuple | list):
        return type(value)(plain(v, locked) for v in value)
    return {key: plain(v, locked) for key, v in value.items()} if isinstance(value, dict) else value


def twin(place: Any) -> Any:
    """A copy of a counted array, uncounted, for NumPy to write into instead of it."""
    return place.array.copy() if isinstance(place, Counted) else place


def store(place: Any, made: Any, where: Any) -> None:
    """Writes what NumPy wrote into the twin of a counted array, and counts the words that `where` selects."""
    if not isinstance(place, Counted):
        return
    if where is True:
        place[...] = made
    else:
        selected = np.broadcast_to(where, place.shape)
        place[selected] = made[selected]


def same_memory(one: Any, other: Any) -> bool:
    return isinstance(other, np.ndarray) and (
        (one.__array_interface__["data"], one.shape, one.strides)
        == (other.__array_interface__["data"], other.shape, other.strides)
    )
