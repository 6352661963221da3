"""A kernel of `kernels/`, executed as plain Python and recorded line by line.

The text of `kernels/forward.py` or `backward.py` (or of `moments.py` and `affine.py`, a BatchNorm's) is run with a decorator in
place of Numba's that does nothing, over arrays that count (`tfexplore/measure/counting.py`). A GPU's thread i does what this
loop does for its neuron i, so the loop is run for one neuron after the other.
"""

from __future__ import annotations

import builtins
import sys
from dataclasses import dataclass
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from tfexplore.codegen.numba_source import MODULE, numba_source
from tfexplore.codegen.variant import Variant
from tfexplore.machine.paths import kernels_dir
from tfexplore.measure.counting import Access, Counted, Log
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import scalars_of

Arrays = dict[str, np.ndarray]
Register = tuple[str, int]
"""A local variable of the loop, and which of its values."""

ARGUMENTS = {
    "forward": ("x", "start", "per_neuron", "inner", "scalars", "out", "state", "kept", "watched"),
    "backward": (
        "x", "g_out", "g_watched", "g_state", "start", "per_neuron", "inner", "scalars", "kept", "g_x", "g_start", "g_learned",
    ),
    "moments": ("x", "inner", "shift", "sums"),
    "affine": ("g", "x", "inner", "mean", "slope", "offset", "out"),
}  # fmt: skip
UNCOUNTED = ("scalars", "inner")
LOCALS = {"z": "{}", "h": "h_{}", "s": "s", "after": "{} after", "g": "g_{}"}
"""The loop's local variables that are shown, and what they are called for a state."""


class Moment(NamedTuple):
    """What one thread did in one line.

    line: of the source file, from 1.   t: the time step, -1 before the first.   accesses: words read and written, in order.
    registers: the local variables after the line.
    """

    line: int
    t: int
    accesses: tuple[Access, ...]
    registers: dict[Register, float]


@dataclass(frozen=True)
class Loop:
    """A kernel as a Python function. `names` are its globals, where the names that it imports are found."""

    source: str
    names: dict[str, Any]
    run: Any


def python(kernel: str, variant: Variant) -> Loop:
    """The kernel's text, executed; it imports the generated neuron, and a decorator that does nothing."""

    def run(source: str, file: str, modules: dict[str, Any]) -> dict[str, Any]:
        def find(name: str, *rest: Any) -> Any:
            return modules[name] if name in modules else builtins.__import__(name, *rest)

        names: dict[str, Any] = {"__builtins__": vars(builtins) | {"__import__": find}, "__name__": file}
        exec(compile(source, file, "exec"), names)
        return names

    def write(row: Any, target: Any, stream: bool) -> None:
        target[:] = row[: len(target)]

    def begin_with(given: Any, alike: Any, lo: int, hi: int, states: Any) -> None:
        for k in range(len(states)):
            states[k, : hi - lo] = given[k, lo:hi] if given.shape[1] else alike[k]

    def spread(values: Any, inner: int, lo: int, hi: int, rows: Any) -> None:
        for k in range(len(values)):
            rows[k, : hi - lo] = values[k, lo // inner % values.shape[1]]

    def collect(rows: Any, inner: int, lo: int, hi: int, sums: Any) -> None:
        for k in range(len(rows)):
            sums[k, lo // inner % sums.shape[1]] += rows[k, : hi - lo].sum()

    # how a CPU meets its memory changes no value, and a GPU does it by itself
    streaming = SimpleNamespace(
        cut=lambda array, row, begin, end: array[row, begin:end], write=write, prefetch=lambda piece, stream: None,
        fence=lambda: None, add=None,
    )  # fmt: skip
    groups = SimpleNamespace(begin_with=begin_with, spread=spread, collect=collect)  # for blocks of one neuron
    numba = SimpleNamespace(njit=lambda **_: lambda function: function)
    modules = {"numba": numba, "tfexplore.backends.streaming": streaming, "tfexplore.backends.groups": groups}
    modules[MODULE] = SimpleNamespace(**run(numba_source(variant), f"{MODULE}.py", modules))
    source = (kernels_dir() / f"{kernel}.py").read_text(encoding="utf-8")
    names = run(source, f"{kernel}.py", modules)
    names["BLOCK"] = np.uint64(1)  # a thread is a block of one neuron
    return Loop(source, names, names[kernel])


def data(variant: Variant, neuron: Neuron, threads: int, steps: int) -> Arrays:
    """Arrays for both kernels; currents (always the same) that make most neurons fire now and then.

    `scratch` is made by the kernel itself, thread by thread; its values are not known here.
    """
    made = np.random.default_rng(0)
    z = [float(value) for value in neuron.initial()]
    reach = abs(getattr(neuron, "v_threshold", 1.0) - z[0]) or 1.0
    # of a step behind a normalisation, and its own
    numbers = {"x_scale": 1.0, "x_shift": 0.0, "x_centre": 0.0} | neuron.parameters
    chunks, *kept = variant.kept_shape(steps, threads)
    states, per_neuron = len(z), [numbers[p.name] for p in variant.step.per_neuron]
    arrays = {
        "x": reach * made.uniform(0.2, 1.2, (steps, threads)),
        "g_out": made.normal(size=(steps, threads)),
        "start": np.tile(np.array(z)[:, None], threads),
        "per_neuron": np.array(per_neuron).reshape(-1, 1),
        "scalars": np.array(list(scalars_of(neuron).values())),
        "kept": np.zeros((max(1, chunks), *kept)),  # Python looks its first row up, where the compiled loop does not
        "watched": np.zeros((1, 0, threads)),
        "g_watched": np.zeros((1, 0, threads)),
        "g_learned": np.zeros((1, len(variant.step.learned), 1)),
        "scratch": np.full((min(steps, variant.chunk), len(variant.needs), threads), np.nan),
    }
    arrays |= {name: np.zeros((steps, threads)) for name in ("out", "g_x")}
    arrays |= {name: np.zeros((states, threads)) for name in ("state", "g_state", "g_start")}
    return {name: array.astype(variant.real) for name, array in arrays.items()} | {
        "inner": np.array(threads, np.uint64)
    }


def leading(first: int, last: int, steps: int) -> tuple[Any, ...]:
    """The kernel's arguments before its arrays: these neurons, in the cache, all in one part."""
    return np.uint64(first), np.uint64(last), steps, False, 0


def record(kernel: str, loop: Loop, thread: int, arrays: Arrays) -> list[Moment]:
    """Runs the loop for one thread, on its column of the arrays."""
    log, moments, line = Log(events=True), [], 0

    def empty(shape: Any, dtype: Any) -> Any:
        made = np.zeros(shape, dtype)
        return Counted("scratch", made, log) if made.ndim == 3 else made

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        """Called by Python before every line of the kernel, and at its end: the line before is done."""
        nonlocal line
        if event in ("line", "return"):
            if line:
                found = frame.f_locals
                moments.append(Moment(line, found.get("t", -1), tuple(log.events), registers(found)))
            log.clear()
            line = frame.f_lineno
        return trace

    loop.names["np"] = SimpleNamespace(uint64=np.uint64, uint8=np.uint8, zeros=np.zeros, empty=empty)
    given = [arrays[name] if name in UNCOUNTED else Counted(name, arrays[name], log) for name in ARGUMENTS[kernel]]
    before = sys.gettrace()
    sys.settrace(lambda frame, *_: trace if frame.f_code is loop.run.__code__ else None)
    try:
        with np.errstate(all="ignore"):
            loop.run(*leading(thread, thread + 1, len(arrays["x"])), *given)
    finally:
        sys.settrace(before)
    return moments


def registers(found: dict[str, Any]) -> dict[Register, float]:
    """The local variables that are shown, those that are set by now."""
    values = {name: found[name] for name in LOCALS if name in found}
    return {
        (name, k): float(each)
        for name, value in values.items()
        for k, each in enumerate(value if isinstance(value, tuple) else (value,))
    }
