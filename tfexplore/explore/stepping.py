"""A kernel of `kernels/`, run one line at a time: which thread reads and writes which word, and what is in its registers.

The text of `kernels/forward.py` or `backward.py` is executed as plain Python, with Numba's decorator doing nothing, over
arrays that count (`tfexplore/measure/counting.py`). A GPU's thread i does what this loop does for its neuron i, so the loop is
run for one neuron after the other, and the records are laid beside each other: the threads of a warp take each line
together, and no line of these loops is taken by some of them only.
"""

from __future__ import annotations

import builtins
import functools
import sys
import textwrap
from dataclasses import dataclass
from fractions import Fraction
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np

from tfexplore.codegen.numba_source import MODULE, numba_source
from tfexplore.codegen.traffic import Access, traffic_of
from tfexplore.codegen.variant import Variant
from tfexplore.machine.paths import kernels_dir
from tfexplore.measure.counting import Counted, Log
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import checked_count
from tfexplore.neurons.step import scalars_of, step_of

KERNELS = ("forward", "backward")
MEMORY = ("x", "g_out", "kept", "scratch", "out", "g_x")
"""The arrays with a row per time step, as they are shown; `scratch` is the one that a GPU thread holds in registers."""
REGISTERS = ("state", "scratch", "g_start", "g_per_neuron", "per_neuron")
"""In the GPU's kernel these are local variables; in its CPU twin short arrays that stay in the cache."""
KEEPS = ("nothing", "potential", "input")
"""Without "bits": eight steps share a byte, so a word is no longer the unit in which a line reads and writes."""
ENDS = ("start", "g_state")
"""Read once per neuron, however many steps follow."""


@dataclass(frozen=True)
class Stepped:
    """What a kernel did, moment by moment (one line of its source, taken by all threads together).

    lines      [moments]               the line of the source file, from 1
    ran        the lines that ran at all; the others are switched off in this variant
    times      [moments]               the time step t, or -1 outside the loop over time
    touches    [touches, 5]            moment, thread, array (a number into `arrays`), row, 1 where written and 0 where read
    registers  [moments, names, threads]   the local variables `names` after the moment; NaN before they are set
    grids      name -> [rows, threads] the arrays with a row per time step, as they are at the end
    labels     name -> a label per row
    titles     name -> what stands above it
    """

    kernel: str
    keep: str
    neuron: Neuron
    source: str
    chunk: int
    steps: int
    threads: int
    lines: np.ndarray
    ran: frozenset[int]
    times: np.ndarray
    touches: np.ndarray
    arrays: tuple[str, ...]
    names: tuple[str, ...]
    registers: np.ndarray
    grids: dict[str, np.ndarray]
    labels: dict[str, tuple[str, ...]]
    titles: dict[str, str]

    def words(self, array: str, action: str, moment: int | None = None) -> int:
        """Words of an array that were read or written, up to and with this moment (all of them without one)."""
        if array not in self.arrays:
            return 0
        of = (self.touches[:, 2] == self.arrays.index(array)) & (self.touches[:, 4] == (action == "write"))
        return int((of & (self.touches[:, 0] <= (len(self.lines) if moment is None else moment))).sum())

    def counted(self) -> dict[tuple[str, str], Fraction]:
        """Words per element-step, by array and action, as counted; without registers and the ends of time."""
        found = {(a, act): self.words(a, act) for a in MEMORY if a not in REGISTERS for act in ("read", "write")}
        return {key: Fraction(words, self.steps * self.threads) for key, words in found.items() if words}

    def derived(self) -> dict[tuple[str, str], Fraction]:
        """The same from the equations (`tfexplore.codegen.traffic`), where a chunk that T does not fill counts as a whole one."""
        chunks = Fraction(-(-self.steps // self.chunk) * self.chunk, self.steps)
        return {
            (a.array, a.action.removesuffix("s")): a.words
            * (chunks if a.array == "kept" and self.keep == "input" else 1)
            for a in accesses(self.neuron, self.keep, self.kernel)
        }

    def marks(self, moment: int) -> dict[str, np.ndarray]:
        """Per word of every grid: 0 not touched yet, 1 touched before, 2 read at this moment, 3 written at it."""
        shown = {name: np.zeros(grid.shape, int) for name, grid in self.grids.items()}
        for when, thread, array, row, written in self.touches[self.touches[:, 0] <= moment]:
            name = self.arrays[array]
            if name in shown:
                shown[name][row, thread] = max(2 + written if when == moment else 1, shown[name][row, thread])
        return shown


def accesses(neuron: Neuron, keep: str, kernel: str) -> list[Access]:
    every = traffic_of(neuron, keep) if keep != "nothing" else traffic_of(neuron, gradient=False)
    return [access for access in every if access.kernel == kernel]


def stepped(neuron: Neuron, kernel: str = "forward", keep: str = "input", threads: int = 8, steps: int = 6) -> Stepped:
    """Runs the kernel for a few threads (neurons) and time steps, and records every moment.

    >>> from tfexplore.neurons.library import LIF
    >>> run = stepped(LIF(), "forward", "potential", threads=4, steps=10)
    >>> run.words("x", "read"), run.words("out", "write"), run.words("kept", "write")
    (40, 40, 40)
    >>> run.counted() == run.derived()
    True
    """
    check(neuron, kernel, keep, threads, steps)
    variant = Variant(step_of(neuron), keep=keep)
    arrays = data(variant, neuron, threads, steps)
    if kernel == "backward":
        python("forward", variant).run(0, threads, False, *(arrays[name] for name in ARGUMENTS["forward"]))
        loop = python("backward", variant)
    else:
        loop = python("forward", variant)
    recorders = [record(loop, kernel, i, arrays) for i in range(threads)]
    return together(recorders, neuron, variant, kernel, loop.source, arrays)


def check(neuron: Any, kernel: str, keep: str, threads: int, steps: int) -> None:
    if not isinstance(neuron, Neuron):
        raise TypeError(f"neuron must be like neurons.LIF(tau=2.0), but got {neuron!r}.")
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be 'forward' or 'backward', but got {kernel!r}.")
    allowed = KEEPS if kernel == "forward" else KEEPS[1:]
    if keep not in allowed:
        raise ValueError(f"keep must be {', '.join(map(repr, allowed))} for the {kernel} kernel, but got {keep!r}.")
    checked_count("threads", threads, 64)
    checked_count("steps", steps, 64)


# -- running a kernel's text as Python -----------------------------------------------------------------------------

ARGUMENTS = {
    "forward": ("x", "start", "per_neuron", "scalars", "out", "state", "kept", "watched"),
    "backward": ("x", "g_out", "g_state", "per_neuron", "scalars", "kept", "g_x", "g_start", "g_per_neuron"),
}


@dataclass(frozen=True)
class Loop:
    """A kernel as a Python function. `names` are its globals: what it imports stands there."""

    source: str
    names: dict[str, Any]
    run: Any


def python(kernel: str, variant: Variant) -> Loop:
    """The kernel's text, executed; what it imports is the generated neuron, and a decorator that does nothing."""

    def njit(**_: Any) -> Any:
        return lambda function: function

    def run(source: str, file: str, modules: dict[str, Any]) -> dict[str, Any]:
        def find(name: str, *rest: Any) -> Any:
            return modules[name] if name in modules else builtins.__import__(name, *rest)

        names: dict[str, Any] = {"__builtins__": vars(builtins) | {"__import__": find}, "__name__": file}
        exec(compile(source, file, "exec"), names)
        return names

    def write(row: Any, target: Any, stream: bool) -> None:
        target[:] = row[: len(target)]

    # how a CPU meets its memory changes no value, and a GPU does it by itself
    streaming = SimpleNamespace(
        cut=lambda array, row, begin, end: array[row, begin:end], write=write, prefetch=lambda piece, stream: None,
        fence=lambda: None,
    )  # fmt: skip
    modules = {"numba": SimpleNamespace(njit=njit), "tfexplore.backends.streaming": streaming}
    modules[MODULE] = SimpleNamespace(**run(numba_source(variant), f"{MODULE}.py", modules))
    source = (kernels_dir() / f"{kernel}.py").read_text(encoding="utf-8")
    names = run(source, f"{kernel}.py", modules)
    names["BLOCK"] = np.uint64(1)  # a thread is a block of one neuron
    return Loop(source, names, names[kernel])


def data(variant: Variant, neuron: Neuron, threads: int, steps: int) -> dict[str, np.ndarray]:
    """Arrays for both kernels; currents (always the same) that make most neurons fire now and then."""
    made = np.random.default_rng(0)
    z = [float(value) for value in neuron.initial()]
    reach = abs(getattr(neuron, "v_threshold", 1.0) - z[0]) or 1.0
    states, per_neuron, real = len(z), variant.step.per_neuron, np.dtype(variant.real)
    arrays = {
        "x": reach * made.uniform(0.2, 1.2, (steps, threads)),
        "g_out": made.normal(size=(steps, threads)),
        "start": np.repeat(np.array(z)[:, None], threads, 1),
        "per_neuron": np.array([[neuron.parameters[p.name]] * threads for p in per_neuron]).reshape(
            len(per_neuron), threads
        ),
        "scalars": np.array(list(scalars_of(neuron).values())),
        "kept": np.zeros(variant.kept_shape(steps, threads)),
        "watched": np.zeros((1, 0, threads)),
    }
    arrays |= {name: np.zeros((steps, threads)) for name in ("out", "g_x")}
    arrays |= {name: np.zeros((states, threads)) for name in ("state", "g_state", "g_start")}
    arrays["g_per_neuron"] = np.zeros((len(per_neuron), threads))
    return {name: array.astype(real) for name, array in arrays.items()}


# -- recording ---------------------------------------------------------------------------------------------------


class Recorder(Log):
    """One thread's record: line by line, the words that were touched and the local variables afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.now: list[tuple[str, str, tuple[int, ...]]] = []
        self.lines: list[tuple[int, int, list[tuple[str, str, tuple[int, ...]]], dict[str, float]]] = []
        self.line: int | None = None

    def note(self, array: str, action: str, places: list[tuple[int, ...]]) -> None:
        super().note(array, action, places)
        self.now += [(array, action, place) for place in places]

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        """Called by Python before every line of the kernel, and at its end: the line before is done."""
        if event in ("line", "return"):
            if self.line is not None:
                self.lines.append((self.line, frame.f_locals.get("t", -1), self.now, variables(frame.f_locals)))
            self.line, self.now = frame.f_lineno, []
        return self.trace


LOCALS = ("z", "h", "s", "after", "g")


def variables(found: dict[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name in LOCALS:
        value = found.get(name, ())
        each = value if isinstance(value, tuple) else (value,)
        values |= {f"{name} {k}": float(v) for k, v in enumerate(each)}
    return values


def record(loop: Loop, kernel: str, thread: int, arrays: dict[str, np.ndarray]) -> Recorder:
    log = Recorder()

    def empty(shape: Any, dtype: Any) -> Any:
        made = np.zeros(shape, dtype)
        return Counted("scratch", made, log) if made.ndim == 3 else made

    loop.names["np"] = SimpleNamespace(uint64=np.uint64, uint8=np.uint8, empty=empty)
    given = [arrays[name] if name == "scalars" else Counted(name, arrays[name], log) for name in ARGUMENTS[kernel]]
    before = sys.gettrace()
    sys.settrace(lambda frame, *_: log.trace if frame.f_code is loop.run.__code__ else None)
    try:
        with np.errstate(all="ignore"):
            loop.run(np.uint64(thread), np.uint64(thread + 1), False, *given)
    finally:
        sys.settrace(before)
    return log


def together(
    recorders: list[Recorder], neuron: Neuron, variant: Variant, kernel: str, source: str, arrays: dict[str, np.ndarray]
) -> Stepped:
    """The threads' records side by side, without the lines that touch nothing and set no register (`for`, `if`)."""
    keys = list(dict.fromkeys(key for r in recorders for *_, seen in r.lines for key in seen))
    keys.sort(key=lambda key: LOCALS.index(key.split()[0]))
    useful, last = set(), [dict.fromkeys(keys, np.nan) for _ in recorders]
    for r, old in zip(recorders, last, strict=True):
        for line, _, touched, seen in r.lines:
            if touched or any(old[key] != value for key, value in seen.items()):
                useful.add(line)
            old |= seen
    chosen = [[moment for moment in r.lines if moment[0] in useful] for r in recorders]
    names = tuple(dict.fromkeys(name for r in recorders for name in (*r.reads, *r.writes)))
    touches, registers = [], np.full((len(chosen[0]), len(keys), len(recorders)), np.nan)
    shapes = {name: arrays[name].shape for name in arrays} | {
        "scratch": (variant.chunk, len(variant.needs), len(recorders))
    }
    for thread, moments in enumerate(chosen):
        for m, (_, _, touched, seen) in enumerate(moments):
            for array, action, place in touched:
                row = int(np.ravel_multi_index(place[:-1], shapes[array][:-1]))
                touches.append((m, thread, names.index(array), row, action == "write"))
            registers[m, :, thread] = [seen.get(key, np.nan) for key in keys]
    steps, threads = arrays["x"].shape
    filled = {"scratch": np.full((min(steps, variant.chunk), len(variant.needs), threads), np.nan)}
    grids = {k: v.reshape(-1, threads) for k, v in (arrays | filled).items() if k in MEMORY and k in names}
    return Stepped(
        kernel=kernel,
        keep=variant.keep,
        neuron=neuron,
        source=source,
        chunk=variant.chunk,
        steps=steps,
        threads=threads,
        lines=np.array([line for line, *_ in chosen[0]]),
        ran=frozenset(line for line, *_ in recorders[0].lines),
        times=np.array([t if in_time_loop(source, line) else -1 for line, t, *_ in chosen[0]]),
        touches=np.array(touches, int).reshape(-1, 5),
        arrays=names,
        names=tuple(register_name(key, variant) for key in keys),
        registers=registers,
        grids={name: grids[name] for name in MEMORY if name in grids},
        labels={name: labels(name, grids[name].shape[0], variant) for name in grids},
        titles={name: title(name, variant) for name in grids},
    )


def register_name(key: str, variant: Variant) -> str:
    name, k = key.split()
    state = variant.step.before[int(k)].name
    words = {"z": state, "h": f"h_{state}", "s": "s", "after": f"{state} after", "g": f"g_{state}"}
    return words[name]


def values_of(array: str, variant: Variant) -> tuple[str, ...]:
    """Which values an array holds for every row of time."""
    by_chunk = array == "kept" and variant.keep == "input"
    return tuple(z.name for z in (variant.step.before if by_chunk else variant.needs))


def labels(array: str, rows: int, variant: Variant) -> tuple[str, ...]:
    """What the rows of a grid are called: the time step or the chunk, and which value where there are several."""
    if array not in ("kept", "scratch"):
        return tuple(map(str, range(rows)))
    names, chunk = values_of(array, variant), "chunk " if array == "kept" and variant.keep == "input" else ""
    return tuple(
        f"{chunk}{k}" + (f" {name}" if len(names) > 1 else "") for k in range(rows // len(names)) for name in names
    )


def title(array: str, variant: Variant) -> str:
    names = ", ".join(values_of(array, variant))
    return {"kept": f"kept ({names})", "scratch": f"q ({names}), in registers"}.get(array, array)


def in_time_loop(source: str, line: int) -> bool:
    """Whether this line of the kernel is inside a loop over t."""
    lines = source.splitlines()
    depth = len(lines[line - 1]) - len(lines[line - 1].lstrip())
    for above in reversed(lines[: line - 1]):
        indent = len(above) - len(above.lstrip())
        if above.strip() and indent < depth:
            depth = indent
            if above.strip().startswith("for t in "):
                return True
    return False


@functools.lru_cache(maxsize=16)
def body(source: str, kernel: str) -> tuple[int, list[str]]:
    """The kernel's loop: the number of its first line, and its lines, without the common indent."""
    lines = source.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith(f"def {kernel}("))
    while not lines[first].startswith("    for ") and not lines[first].strip().startswith("steps"):
        first += 1
    return first + 1, textwrap.dedent("\n".join(lines[first:])).splitlines()
