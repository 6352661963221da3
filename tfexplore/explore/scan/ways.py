"""The ways over time that the scan explorer plays, each really executed on one neuron, round after round.

A round is what could run at once: its cells need nothing of each other. Two families:

    scans       a cell t holds an affine pair (a, b) of the steps from `begins` to t: v[t] = a v[begins - 1] + b. Combining it
                with the cell of the steps before makes its interval longer; it is final once it begins at step 0. Without a
                reset only.
    guesses     a round computes the potentials anew from what is guessed (the spikes, or the states between chunks), and
                compares. A cell is final once nothing left of it was guessed wrong; it may be right before, which nobody knows.

Everything is computed in float64 from the neuron's own methods, one number at a time: slow, and nothing to look for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import sympy
from numpy.typing import ArrayLike

from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.library import LIF
from tfexplore.neurons.step import step_of

SCANS = ("step by step", "chunked scan", "tree scan", "doubling scan")
GUESSES = ("fixed point", "speculative chunks")
WAYS = (*SCANS, *GUESSES)
WAITING, PARTIAL, LUCKY, FINAL = range(4)
"""What a cell is: not begun, on its way (a part of the past, or a wrong guess), right but not proven so, final."""

Need = tuple[int, int]
"""(the time step that is needed, the one that needs it)."""


@dataclass(frozen=True, eq=False)
class Round:
    """One round, and how all cells stand after it.

    Args:
        what: the round in words.
        cells: [T], one of `WAITING` ... `FINAL` for each time step.
        ran: [T], the cells that were computed in this round.
        wasted: [T], those of them in vain: final before, or wrong, or only needed for what ends a chunk.
        v: [T], the potential as each cell has it; not-a-number where it has none.
        needs: which cell needed which, of another cell's last round.
        work, depth: operations in total, and on the longest chain; an operation is a step, or a combination of two pairs.
    """

    what: str
    cells: np.ndarray
    ran: np.ndarray
    wasted: np.ndarray
    v: np.ndarray
    needs: tuple[Need, ...]
    work: int
    depth: int


@dataclass(frozen=True, eq=False)
class Played:
    """A way over time: its rounds, and what the loop step by step gives.

    Args:
        way: one of `WAYS`.
        neuron: whose step it is.
        x: [T], the input current.
        chunk: steps of a chunk, where there are chunks.
        v, spikes: [T], the potential after each step, and where the neuron fired, by the serial loop.
        rounds: one after the other.
    """

    way: str
    neuron: LIF
    x: np.ndarray
    chunk: int
    v: np.ndarray
    spikes: np.ndarray
    rounds: tuple[Round, ...] = field(default=())

    @property
    def steps(self) -> int:
        return len(self.x)

    def work(self, rounds: int | None = None) -> int:
        """Operations in the first rounds, by default of all."""
        return sum(each.work for each in self.rounds[:rounds])

    def depth(self, rounds: int | None = None) -> int:
        """Operations on the longest chain of the first rounds, by default of all."""
        return sum(each.depth for each in self.rounds[:rounds])

    def wasted(self, rounds: int | None = None) -> int:
        """Cells that were computed for nothing."""
        return sum(int(each.wasted.sum()) for each in self.rounds[:rounds])

    def sentence(self, done: int | None = None) -> str:
        """What the first `done` rounds have come to."""
        done = len(self.rounds) if done is None else done
        if done == 0:
            return f"{self.way.capitalize()}: nothing has run yet. Press play, or move the slider with the arrow keys."
        last = self.rounds[done - 1]
        final = int((last.cells == FINAL).sum())
        cost = f"{self.work(done):,} operations, {self.depth(done):,} of them on the longest chain"
        count = self.wasted(done)
        waste = f", {count:,} cell{'s' * (count > 1)} computed in vain" if count else ""
        if done < len(self.rounds):
            return f"Round {done} of {len(self.rounds)}, {last.what}: {final} of {self.steps} steps are final; {cost}{waste}."
        rounds = f"{done} round{'s' * (done > 1)}"
        if self.way == SCANS[0]:
            return f"Step by step, done after {rounds}: every operation waits for the one before."
        serial = self.steps - (self.way in SCANS)  # a scan is given the first step's pair
        return f"{self.way.capitalize()}, done after {rounds}: {cost}{waste}. Step by step: {serial} and {serial}."


def play(way: str, neuron: LIF, x: ArrayLike, chunk: int = 8) -> Played:
    """Runs one way over time.

    Args:
        way: one of `WAYS`.
        neuron: a LIF; a scan takes it without its reset.
        x: the input current, a number for each time step.
        chunk: steps of a chunk, where there are chunks.

    Example:
        >>> from tfexplore import neurons
        >>> made = play("tree scan", neurons.LIF(reset="none"), [0.5] * 32)
        >>> len(made.rounds), made.work(), made.depth()         # 2 log2 T - 1 rounds, fewer than 2 T combinations
        (9, 57, 9)
    """
    current = np.asarray(x, float)
    v, s = serial(neuron, current)
    made = Played(way, neuron, current, min(chunk, len(current)), v, s)
    return dataclasses.replace(made, rounds=tuple(RUNS[way](made)))


def without_reset(way: str, neuron: LIF) -> LIF:
    """The neuron as the way can take it."""
    if way in SCANS:
        return LIF(tau=neuron.tau, reset="none")
    return neuron if neuron.reset != "none" else LIF(tau=neuron.tau)


def serial(neuron: LIF, x: np.ndarray, start: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The potential after each step, and the spikes, by a plain loop."""
    v = neuron.initial()[0] if start is None else start
    potentials, spikes = [], []
    for x_t in x:
        h = neuron.charge(v, x_t)
        s = float(h - neuron.v_threshold >= 0)
        v = getattr(neuron, neuron.reset)(s, h)
        potentials.append(v)
        spikes.append(s)
    return np.array(potentials), np.array(spikes)


# -- scans: intervals that grow ------------------------------------------------------------------------------------


class Pairs:
    """The cells of a scan: for each time step an affine pair over an interval that ends there."""

    def __init__(self, made: Played) -> None:
        step = step_of(made.neuron)
        parts = affine_of(step)
        numbers = {
            symbol: getattr(made.neuron, symbol.name) for symbol in step.scalars if hasattr(made.neuron, symbol.name)
        }
        a, b = (sympy.lambdify(step.x, value.subs(numbers)) for value in (parts.matrix[0][0], parts.vector[0]))
        self.single = [(float(a(x)), float(b(x))) for x in made.x]
        self.start = float(made.neuron.initial()[0])
        self.pairs, self.begins = list(self.single), list(range(made.steps))
        self.begun = np.zeros(made.steps, bool)

    def combine(self, needs: Sequence[Need], what: str, thrown: Sequence[int] = ()) -> Round:
        """Each cell takes the interval before its own to itself; both sides as they were before the round."""
        before, begins = list(self.pairs), list(self.begins)
        for left, right in needs:
            (a1, b1), (a2, b2) = before[left], before[right]
            assert begins[right] == left + 1, "the two intervals meet"
            self.pairs[right], self.begins[right] = (a2 * a1, a2 * b1 + b2), begins[left]
        return self.round(needs, what, [right for _, right in needs], thrown)

    def round(self, needs: Sequence[Need], what: str, ran: Sequence[int], thrown: Sequence[int] = ()) -> Round:
        steps = len(self.pairs)
        self.begun[list(ran)] = True
        first = np.array(self.begins)
        cells = np.where(first == 0, FINAL, np.where(self.begun, PARTIAL, WAITING))
        cells[0] = FINAL  # nothing is missing from the first step
        v = np.array(
            [a * (self.start if begin == 0 else 0.0) + b for (a, b), begin in zip(self.pairs, first, strict=True)]
        )
        v[cells == WAITING] = np.nan
        return Round(what, cells, marks(ran, steps), marks(thrown, steps), v, tuple(needs), len(ran), 1)


def marks(where: Sequence[int], steps: int) -> np.ndarray:
    found = np.zeros(steps, bool)
    found[list(where)] = True
    return found


def step_by_step(made: Played) -> Iterator[Round]:
    """The fused kernel's: cell t takes what cell t - 1 is."""
    cells = Pairs(made)
    for t in range(1, made.steps):
        yield cells.combine([(t - 1, t)], f"step {t}")


def tree(made: Played) -> Iterator[Round]:
    """Up: intervals of 2, 4, 8 ... steps; down: the cells between take the interval that ends left of theirs (Blelloch, 1990)."""
    cells, steps, distance = Pairs(made), made.steps, 1
    while distance < steps:
        yield cells.combine(
            [(t - distance, t) for t in range(2 * distance - 1, steps, 2 * distance)], f"up, over {distance}"
        )
        distance *= 2
    while distance > 1:
        distance //= 2
        if needs := [(t - distance, t) for t in range(3 * distance - 1, steps, 2 * distance)]:
            yield cells.combine(needs, f"down, over {distance}")


def doubling(made: Played) -> Iterator[Round]:
    """Every cell takes the one at a distance that doubles: half a tree's depth, log2 T times the work (Hillis, Steele, 1986)."""
    cells, steps, distance = Pairs(made), made.steps, 1
    while distance < steps:
        yield cells.combine(
            [(t - distance, t) for t in range(distance, steps) if cells.begins[t] > 0], f"over {distance}"
        )
        distance *= 2


def chunked(made: Played) -> Iterator[Round]:
    """All chunks at once from a state of 0, for their ends; from chunk to chunk; all again, from their true starts."""
    cells, steps, chunk = Pairs(made), made.steps, made.chunk
    starts = range(0, steps, chunk)
    for k in range(1, chunk):
        needs = [(first + k - 1, first + k) for first in starts if first + k < steps]
        # only the last cell of a chunk is wanted here; those of the first chunk are final
        thrown = [t for _, t in needs if t >= chunk and t % chunk != chunk - 1]
        yield cells.combine(needs, f"phase 1, step {k} of every chunk", thrown)
    for first in starts[2:]:
        yield cells.combine([(first - chunk - 1, first - 1)], "phase 2, from chunk to chunk")
    for first in starts[1:]:  # the steps again: all but the ends, which are known
        last = min(first + chunk, steps)
        for t in range(first, last - (last < steps)):
            cells.pairs[t], cells.begins[t] = cells.single[t], t
    for k in range(chunk):
        needs = [
            (first + k - 1, first + k) for first in starts[1:] if first + k < steps and cells.begins[first + k] > 0
        ]
        if needs:
            yield cells.combine(needs, f"phase 3, step {k} of every chunk")


# -- guesses: repeated until nothing changes -----------------------------------------------------------------------


def fixed_point(made: Played) -> Iterator[Round]:
    """All potentials from the guessed spikes (given these, a scan), new spikes from the potentials, until none changes."""
    steps, neuron = made.steps, made.neuron
    guess, proven, count = np.zeros(steps), 0, 0
    scan = play("tree scan", LIF(tau=neuron.tau, reset="none"), made.x)
    while proven < steps:
        v, after, spikes = neuron.initial()[0], np.empty(steps), np.empty(steps)
        for t, x_t in enumerate(made.x):
            h = neuron.charge(v, x_t)
            spikes[t] = float(h - neuron.v_threshold >= 0)
            after[t] = getattr(neuron, neuron.reset)(spikes[t], h)
            v = getattr(neuron, neuron.reset)(guess[t], h)  # what comes after sees the guess, not what it came to
        changed = np.flatnonzero(spikes != guess)
        before, proven = proven, int(changed[0]) + 1 if len(changed) else steps
        count += 1
        yield guessed(made, f"guess {count}", after, spikes, before, proven, scan.work(), scan.depth())
        guess = spikes


def guessed(
    made: Played, what: str, v: np.ndarray, spikes: np.ndarray, before: int, proven: int, work: int, depth: int
) -> Round:  # fmt: skip
    """A round over all steps, of which the first `before` were final already, and `proven` are now."""
    at = np.arange(made.steps)
    right = spikes == made.spikes
    cells = np.where(at < proven, FINAL, np.where(right, LUCKY, PARTIAL))
    return Round(what, cells, at >= 0, (at < before) | (cells == PARTIAL), v, (), work, depth)


def speculative(made: Played) -> Iterator[Round]:
    """All chunks at once, with their resets, from a guessed state; again from the neighbour's end, where that is another."""
    steps, chunk = made.steps, made.chunk
    firsts = range(0, steps, chunk)
    begin = float(made.neuron.initial()[0])
    guess: list[float | None] = [begin] * len(firsts)
    v, spikes, ends = np.full(steps, np.nan), np.zeros(steps), [begin] * len(firsts)
    todo, proven, count = list(range(len(firsts))), 0, 0
    while todo:
        count += 1
        ran = np.zeros(steps, bool)
        for c in todo:
            part = slice(firsts[c], firsts[c] + chunk)
            v[part], spikes[part] = serial(made.neuron, made.x[part], guess[c])
            ends[c], ran[part] = v[part][-1], True
        todo = [c for c in range(1, len(firsts)) if guess[c] != ends[c - 1]]
        for c in todo:
            guess[c] = ends[c - 1]
        before, proven = proven, firsts[todo[0]] if todo else steps
        at = np.arange(steps)
        right = (spikes == made.spikes) & (v == made.v)
        cells = np.where(at < proven, FINAL, np.where(right, LUCKY, PARTIAL))
        needs = tuple((firsts[c] - 1, firsts[c]) for c in range(1, len(firsts)) if ran[firsts[c]] and count > 1)
        wasted = ran & ((at < before) | (cells == PARTIAL))
        yield Round(f"guess {count}", cells, ran, wasted, v.copy(), needs, int(ran.sum()), chunk)


RUNS: dict[str, Callable[[Played], Iterator[Round]]] = dict(
    zip(WAYS, (step_by_step, chunked, tree, doubling, fixed_point, speculative), strict=True)
)


def current(steps: int, strength: float, seed: int = 0) -> np.ndarray:
    """An input current that changes from step to step: its mean is `strength`."""
    return strength * (0.5 + np.random.default_rng(seed).random(steps))
