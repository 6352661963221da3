"""A kernel's threads in lockstep: which thread reads and writes which word at which line, and what is in its registers.

The threads' records (`recording.py`) are laid side by side: the threads of a warp take each line together, and no line of
these loops is taken by some of them only.
"""

from __future__ import annotations

import ast
import functools
import textwrap
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.codegen.traffic import Access, traffic_of
from tfexplore.codegen.variant import Variant
from tfexplore.explore.kernel.recording import ARGUMENTS, LOCALS, Arrays, Moment, data, leading, python, record
from tfexplore.neurons.neuron import Neuron, check_neuron
from tfexplore.neurons.parameters import checked_count
from tfexplore.neurons.step import step_of

KERNELS = ("forward", "backward")
MEMORY = ("x", "g_out", "kept", "scratch", "out", "g_x")
"""The arrays with a row per time step, as they are shown; `scratch` is the one that a GPU thread holds in registers."""
REGISTERS = ("state", "scratch", "g_start", "g_learned", "per_neuron")
"""In the GPU's kernel these are local variables; in its CPU twin short arrays that stay in the cache."""
KEEPS = ("nothing", "potential", "input")
"""Without "bits": eight steps share a byte, so a word is no longer the unit in which a line reads and writes."""
ENDS = ("start", "g_state")
"""Read once per neuron, however many steps follow."""


@dataclass(frozen=True)
class Stepped:
    """What a kernel did, moment by moment (one line of its source, taken by all threads together).

    Args:
        kernel: "forward" or "backward".
        keep: what is saved for backward.
        neuron: whose equations it runs.
        source: of the kernel's file.
        chunk: time steps of a chunk.
        steps: time steps `T`.
        threads: one per neuron.
        lines: `[moments]`, the line of the file, from 1.
        ran: the lines that ran at all; the others are switched off in this variant.
        times: `[moments]`, the time step, or -1 outside the loop over time.
        touches: `[touches, 5]`: moment, thread, array (its place in `arrays`), row, 1 where written and 0 where read.
        arrays: the names of the arrays in memory.
        names: of the local variables.
        registers: `[moments, names, threads]`, the local variables after the moment; NaN before they are set.
        grids: `[rows, threads]` by array: those with a row per time step, as they are at the end.
        labels: of the rows, by array.
        titles: what stands above an array.
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
        """The same from the equations (`codegen.traffic`), but for the states of the first chunk, which are not kept."""
        chunks = Fraction((self.steps - 1) // self.chunk * self.chunk, self.steps)
        found = {
            (a.array, a.action.removesuffix("s")): a.words
            * (chunks if a.array == "kept" and self.keep == "input" else 1)
            for a in accesses(self.neuron, self.keep, self.kernel)
        }
        return {key: words for key, words in found.items() if words}

    def marks(self, moment: int) -> dict[str, np.ndarray]:
        """Per word of every grid: 0 not touched yet, 1 touched before, 2 read at this moment, 3 written at it."""
        shown = {name: np.zeros(grid.shape, int) for name, grid in self.grids.items()}
        for when, thread, array, row, written in self.touches[self.touches[:, 0] <= moment]:
            name = self.arrays[array]
            if name in shown:
                shown[name][row, thread] = max(2 + written if when == moment else 1, shown[name][row, thread])
        return shown

    def opening(self) -> int:
        """The third moment (the last, if fewer) at which the threads read what comes in from outside: some has happened."""
        outside = self.arrays.index("x" if self.kernel == "forward" else "g_out")
        return int(np.unique(self.touches[self.touches[:, 2] == outside, 0])[:3][-1])

    def code(self, moment: int) -> str:
        """The number of the line, and its text."""
        if moment < 0:
            return "0"
        line = int(self.lines[moment])
        return f"{line}: {self.source.splitlines()[line - 1].strip()}"

    def sentence(self, moment: int) -> str:
        """What happens at this moment, in words."""
        if moment < 0:
            return f"Nothing has run yet: {self.threads} threads stand before the first line."
        t = f", t = {self.times[moment]}" if self.times[moment] >= 0 else ""
        when = f"Micro-step {moment + 1} of {len(self.lines)}{t}"
        now = self.touches[self.touches[:, 0] == moment]
        did = []
        for written, verb in enumerate(("read", "write")):
            counts = [int(((now[:, 2] == k) & (now[:, 4] == written)).sum()) for k in range(len(self.arrays))]
            named = [self._words(name, count) for name, count in zip(self.arrays, counts, strict=True) if count]
            if any(named):
                did.append(f"{verb} {' and '.join(filter(None, named))}")
        if did:
            return f"{when}: the threads {', and '.join(did)}."
        if len(now):
            return f"{when}: no memory is touched; this moves values between a thread's registers."
        return f"{when}: no memory is touched; the threads compute in their registers."

    def _words(self, name: str, count: int) -> str:
        """This count of words of an array, and how they lie in memory; "" for registers that are not drawn."""
        if name in REGISTERS:
            return "q (in registers)" if name == "scratch" else ""
        rows, words = count // self.threads, f"{count} word{'s' * (count > 1)} of {name}"
        if self.threads == 1:
            return words
        lie = "neighbours: one sweep" if rows == 1 else f"{rows} rows: {rows} sweeps"
        return f"{words} ({lie} of {4 * self.threads} bytes)"


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
        before = leading(0, threads, steps)
        python("forward", variant).run(*before, *(arrays[name] for name in ARGUMENTS["forward"]))
    loop = python(kernel, variant)
    recorded = [record(kernel, loop, thread, arrays) for thread in range(threads)]
    moments = in_lockstep(recorded)
    touched = list(dict.fromkeys(access.array for moment in moments[0] for access in moment.accesses))
    grids = {name: arrays[name].reshape(-1, threads) for name in MEMORY if name in touched}
    names, registers = registers_of(moments, variant)
    over_time = lines_over_time(loop.source)
    return Stepped(
        kernel=kernel, keep=keep, neuron=neuron, source=loop.source, chunk=variant.chunk, steps=steps, threads=threads,
        lines=np.array([moment.line for moment in moments[0]]),
        ran=frozenset(moment.line for moment in recorded[0]),
        times=np.array([moment.t if moment.line in over_time else -1 for moment in moments[0]]),
        touches=touches_of(moments, touched, arrays), arrays=tuple(touched), names=names, registers=registers, grids=grids,
        labels={name: labels(name, len(grid), variant) for name, grid in grids.items()},
        titles={name: title(name, variant) for name in grids},
    )  # fmt: skip


def keeps(kernel: str) -> tuple[str, ...]:
    """The values of `keep` for this kernel: the backward pass needs something saved."""
    return KEEPS if kernel == "forward" else KEEPS[1:]


def check(neuron: Any, kernel: str, keep: str, threads: int, steps: int) -> None:
    check_neuron(neuron)
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be 'forward' or 'backward', but got {kernel!r}.")
    allowed = keeps(kernel)
    if keep not in allowed:
        raise ValueError(f"keep must be {', '.join(map(repr, allowed))} for the {kernel} kernel, but got {keep!r}.")
    checked_count("threads", threads, 64)
    checked_count("steps", steps, 64)


# -- the threads' records, side by side ------------------------------------------------------------------------------


def in_lockstep(threads: list[list[Moment]]) -> list[list[Moment]]:
    """Per thread, the moments whose line touches a word or sets a register in any thread: not those of `for` and `if`."""
    useful = {
        now.line
        for moments in threads
        for k, now in enumerate(moments)
        if now.accesses or now.registers != (moments[k - 1].registers if k else {})
    }
    return [[moment for moment in moments if moment.line in useful] for moments in threads]


def touches_of(threads: list[list[Moment]], names: list[str], arrays: Arrays) -> np.ndarray:
    """Every access as (moment, thread, array, row, written); an array's row counts its axes but the last, the threads."""
    found = [
        (m, thread, names.index(name), np.ravel_multi_index(place[:-1], arrays[name].shape[:-1]), action == "write")
        for thread, moments in enumerate(threads)
        for m, moment in enumerate(moments)
        for name, action, place in moment.accesses
    ]
    return np.array(found, int).reshape(-1, 5)


def registers_of(threads: list[list[Moment]], variant: Variant) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the registers, and their values [moments, names, threads]; NaN before they are set."""
    order, states = list(LOCALS), [z.name for z in variant.step.before]
    every = {key for moments in threads for moment in moments for key in moment.registers}
    keys = sorted(every, key=lambda key: (order.index(key[0]), key[1]))
    values = [
        [[moment.registers.get(key, np.nan) for moment in together] for key in keys]
        for together in zip(*threads, strict=True)
    ]
    return tuple(LOCALS[name].format(states[k]) for name, k in keys), np.array(values)


# -- names of rows and lines -----------------------------------------------------------------------------------------


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
    kept = f"kept ({', '.join(values_of(array, variant))})"
    return {"kept": kept, "scratch": "q, in registers"}.get(array, array)


def lines_over_time(source: str) -> set[int]:
    """The lines inside a loop over t."""
    loops = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For)]
    over_time = [loop for loop in loops if ast.unparse(loop.target) == "t"]
    return {line for loop in over_time for line in range(loop.body[0].lineno, (loop.end_lineno or 0) + 1)}


@functools.lru_cache(maxsize=16)
def body(source: str, kernel: str) -> tuple[int, list[str]]:
    """The kernel's loop: the number of its first line, and its lines, without the common indent."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    function = next(node for node in functions if node.name == kernel)
    first = function.body[1].lineno  # below the docstring
    return first, textwrap.dedent("\n".join(source.splitlines()[first - 1 : function.end_lineno])).splitlines()
