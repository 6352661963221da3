"""The checker: runs an answer on a puzzle's cases, and compares it with what is expected, its traffic with the budget."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.measure.counting import plain
from tfexplore.puzzles import sandbox
from tfexplore.puzzles.counted_memory import Memory, TooManyAccesses
from tfexplore.puzzles.puzzle import Array, Case, Complaint, Puzzle, digits, number
from tfexplore.puzzles.verdict import Verdict

RELATIVE, ABSOLUTE = 1e-4, 1e-5
ENOUGH = 300  # times the budget: an answer that moves more does not end


@dataclass(frozen=True)
class Attempt:
    """One run of an answer on one case: how it ended, and the memory that it used."""

    puzzle: Puzzle
    case: Case
    memory: Memory = field(default_factory=Memory)
    run: sandbox.Run = field(default_factory=sandbox.Run)

    @property
    def value(self) -> Any:
        """What the answer returned."""
        return self.run.value[0]

    @property
    def numbers(self) -> Any:
        """The same as an array of floats; None where it has none."""
        return self.run.value[1]

    @property
    def at_the_line(self) -> str:
        return f", at the line `{self.run.line}`" if self.run.line else ""

    def verdict(
        self,
        outcome: str,
        sentence: str,
        yours: Any = None,
        differs: Array | None = None,
        traffic: Mapping[str, Fraction] | None = None,
    ) -> Verdict:
        expected = np.asarray(self.case.expected if self.case.drawn is None else self.case.drawn, float)
        shown = self.memory.drawn if yours is None else yours
        return Verdict(self.puzzle, outcome, sentence.strip(), self.case, expected, shown, differs, traffic or {})


def judge(puzzle: Puzzle, function: Any, seconds: float = 5.0) -> Verdict:
    """Runs `function` on every case, at most `seconds` for each; the first failure decides, else the memory traffic."""
    cases = puzzle.cases()
    if fault := not_callable_as(puzzle, function):
        return Attempt(puzzle, cases[-1]).verdict("crashed", fault)
    attempts = []
    for case in cases:
        attempt = attempted(puzzle, case, function, seconds)
        if isinstance(attempt.run.error, NotImplementedError):
            return not_written(puzzle, cases[-1])
        for failure in (not_finished, refused, crashed, of_the_wrong_kind, different):
            if verdict := failure(attempt):
                return verdict
        attempts.append(attempt)
    return weighed(attempts)


def attempted(puzzle: Puzzle, case: Case, function: Any, seconds: float) -> Attempt:
    """Runs the answer on one case, with arguments of its own."""
    memory = Memory(limit=ENOUGH * float(case.budget or 10) * case.elements)
    given = {name: protected(value) for name, value in case.given.items()}
    run = sandbox.run(lambda: read(case.run(function, memory, **given)), function, memory.given, seconds)
    return Attempt(puzzle, case, memory, run)


# -- the ways to fail: a verdict, or None where it is another ------------------------------------------------------------


def not_written(puzzle: Puzzle, case: Case) -> Verdict:
    todo = f"`{puzzle.name}` is not written yet: put your own lines where `raise NotImplementedError` stands."
    return Attempt(puzzle, case).verdict("not yet", f"{todo} The picture shows what is expected.")


def not_finished(attempt: Attempt) -> Verdict | None:
    if not attempt.run.endless:
        return None
    name, line = attempt.case.name, attempt.at_the_line
    why = f"Not finished, with {name}: it was still running when time was up{line}."
    if isinstance(attempt.run.error, TooManyAccesses):
        why = f"Not finished, with {name}: it reads and writes memory on and on{line}."
    return attempt.verdict("not finished", f"{why} Does every loop come to its end?")


def refused(attempt: Attempt) -> Verdict | None:
    """The case itself has found something wrong, and explains it."""
    error = attempt.run.error
    if not isinstance(error, Complaint):
        return None
    return attempt.verdict("wrong", f"Wrong, with {attempt.case.name}: {error}")


def crashed(attempt: Attempt) -> Verdict | None:
    error = attempt.run.error
    if error is None:
        return None
    what = f"Crashed, with {attempt.case.name}: {type(error).__name__}{attempt.at_the_line}{text_of(error)}."
    return attempt.verdict("crashed", f"{what} {cause(error)}")


def of_the_wrong_kind(attempt: Attempt) -> Verdict | None:
    fault = not_an_answer(attempt.puzzle, attempt.value, attempt.numbers, attempt.case)
    return attempt.verdict("wrong", f"Wrong, with {attempt.case.name}: {fault}") if fault else None


def different(attempt: Attempt) -> Verdict | None:
    puzzle, case, yours = attempt.puzzle, attempt.case, attempt.numbers
    differs = ~close(yours, case.expected)
    if not differs.any():
        return None
    found = (first_difference(puzzle, case, yours, differs), attempt.memory.said, slip(puzzle, case, yours))
    return attempt.verdict("wrong", f"Wrong, with {case.name}: {' '.join(filter(None, found))}", yours, differs)


# -- right: how much it moved -------------------------------------------------------------------------------------------


def weighed(attempts: list[Attempt]) -> Verdict:
    """The verdict on an answer that is right in every case: by the last case over its budget, else by the last case."""
    moved = [(attempt, *traffic_of(attempt)) for attempt in attempts]
    over = [each for each in moved if each[0].case.budget is not None and sum(each[1].values()) > each[0].case.budget]
    attempt, traffic, remark = (over or moved)[-1]
    case, total = attempt.case, digits(sum(traffic.values()))
    shown = attempt.numbers if attempt.memory.drawn is None else attempt.memory.drawn
    if over:
        sentence = (
            f"Right, but too much traffic, with {case.name}: {total} words per element-step where "
            f"{digits(case.budget)} are enough ({listed(traffic)}). {remark}"
        )
        return attempt.verdict("too much traffic", sentence, shown, None, traffic)
    sentence = f"Right: {f'{len(attempts)} cases agree' if len(attempts) > 1 else 'the case agrees'}"
    if case.budget is not None:
        sentence += f", with {total} words per element-step; the budget is {digits(case.budget)}"
    return attempt.verdict("right", f"{sentence}. {attempt.memory.said}", shown, None, traffic)


def traffic_of(attempt: Attempt) -> tuple[dict[str, Fraction], str]:
    """Words per element-step by array and direction, and a remark on a variable that is too large for registers."""
    case, held = attempt.case, attempt.run.held
    traffic = {what: Fraction(words, case.elements) for what, words in attempt.memory.traffic().items()}
    own = max(held, key=lambda name: held[name]) if held else ""
    if not own or held[own] <= case.registers:
        return traffic, ""
    words = Fraction(held[own]) / case.elements
    traffic |= {f"your own {own} written": words, f"your own {own} read": words}
    return traffic, (
        f"Your own `{own}` holds {digits(held[own])} words: more than registers hold, so it lives in memory, "
        "where each word is written and read again."
    )


# -- the parts of a sentence --------------------------------------------------------------------------------------------


def protected(value: Any) -> Any:
    """A read-only copy of an argument, so that no answer changes the arguments of the next case."""
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.flags.writeable = False
        return value
    if isinstance(value, list | tuple):
        return type(value)(protected(item) for item in value)
    return dict(value) if isinstance(value, dict) else value


def close(yours: Any, expected: Any) -> Array:
    """Where both agree to about four digits; a NaN agrees with nothing."""
    return np.isclose(np.asarray(yours, float), np.asarray(expected, float), RELATIVE, ABSOLUTE)


def not_callable_as(puzzle: Puzzle, function: Any) -> str:
    """What is wrong with the function's signature; an empty text if nothing is."""
    wanted = f'`puzzles.check` wants the function itself, as in `puzzles.check("{puzzle.name}", {puzzle.name})`'
    if not callable(function):
        return f"{wanted}, but got {type(function).__name__}."
    try:
        took = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return ""
    names = list(inspect.signature(puzzle.solution).parameters)
    try:
        took.bind(**dict.fromkeys(names))
    except TypeError:
        return f"The function must take ({', '.join(names)}), as in the line it began with, but takes {took}."
    return ""


def read(value: Any) -> tuple[Any, Any]:
    """The value and its numbers, None where it has none. Called in the sandbox: reading may fail, count, or never end."""
    try:
        return value, np.asarray(plain(value), float)
    except Exception:  # noqa: BLE001  (a number too large for a float, a tensor that needs its gradient, ...)
        return value, None


def not_an_answer(puzzle: Puzzle, value: Any, yours: Any, case: Case) -> str:
    """What is wrong with the kind of value that was returned; an empty text if nothing is."""
    if value is None:
        return f"`{puzzle.name}` returned None. Did you forget `return`?"
    wanted = np.shape(case.expected)
    shape_of = f"an array of shape {wanted}" if wanted else "one number"
    if yours is None:
        kind = type(value).__name__
        a = "an" if kind[0] in "aeiouAEIOU" else "a"
        return f"`{puzzle.name}` returned {a} {kind} that cannot be read as {shape_of}."
    if yours.shape == wanted:
        return ""
    came = f"an array of shape {yours.shape}" if yours.shape else "one number"
    if isinstance(value, tuple):
        came = f"a tuple of {len(value)} values; is there a comma too many?"
        return f"`{puzzle.name}` should return {shape_of}, but returned {came}"
    return f"`{puzzle.name}` should return {shape_of}, but returned {came}."


def first_difference(puzzle: Puzzle, case: Case, yours: Array, differs: Array) -> str:
    """The first wrong value, in the order in which the function computes them."""
    places = np.argwhere(differs)
    if puzzle.backwards:
        place = tuple(places[places[:, 0] == places[:, 0].max()][0])
    else:
        place = tuple(places[0])
    expected, got = np.asarray(case.expected, float)[place], yours[place]
    came = "it was never written" if np.isnan(got) else f"got {number(got)}"
    what = f"{puzzle.value} should be {number(expected)}, but {came}."
    if not place:
        return what
    where = ", ".join(at(case, axis, int(index)) for axis, index in zip(case.axes, place, strict=True))
    if len(places) == 1:
        return f"1 of {differs.size} values differs, at {where}: {what}"
    way = " in the backward pass" if puzzle.backwards else ""
    return f"{len(places)} of {differs.size} values differ, the first{way} at {where}: {what}"


def at(case: Case, axis: str, index: int) -> str:
    """Index 3 of the axis "time step t" is "t = 3"; along values of x it is the value, "operations per byte 0.5"."""
    if case.x is None:
        return f"{axis.rsplit(maxsplit=1)[-1]} = {index}"
    value = case.x[index]
    return f"{axis} {value if isinstance(value, str) else number(value)}"


def slip(puzzle: Puzzle, case: Case, yours: Array) -> str:
    """The remark on a common mistake, if it gives this very result."""
    for remark, mistake in puzzle.slips.items():
        try:
            theirs = np.asarray(case.run(mistake, Memory(), **case.given), float)
        except Exception:  # noqa: BLE001  (a mistake may crash on this case: then it is not the one)
            continue
        if theirs.shape == yours.shape and (close(yours, theirs) | np.isnan(yours) & np.isnan(theirs)).all():
            return remark
    return ""


def listed(traffic: Mapping[str, Fraction]) -> str:
    """What was read and written, the most first: "h read 2, x read 1"."""
    order = sorted(traffic.items(), key=lambda item: -item[1])
    return ", ".join(f"{what} {digits(words)}" for what, words in order)


CAUSES = (
    ("for @", "`@` multiplies arrays only; `np.dot` multiplies numbers, too."),
    ("truth value", "`if`, `and` and `max()` decide for one number; `np.where` and arithmetic do for arrays."),
    ("read-only", "What is given must stay as it is: make a new value, as in `v = v - ...`, instead of `v -= ...`."),
    ("is an input", ""),
    ("out of bounds", "Indices run from 0 to the length minus 1."),
    ("index out of range", "Indices run from 0 to the length minus 1."),
    ("broadcast", "Two arrays of different shapes met: print their `.shape`."),
    ("is not defined", "Is the name spelt as in the first line of the function?"),
    ("local variable", "It needs a value before the first use, above the loop."),
    ("NoneType", "A name holds None: perhaps a function that forgot its `return`, or a state that is not there yet."),
    ("division by zero", ""),
    ("recursion", "The function calls itself without an end."),
)  # fmt: skip


def text_of(error: BaseException) -> str:
    text = "" if isinstance(error, SystemExit) else str(error).strip().rstrip(".")
    return f": {text}" if text else ""


def cause(error: BaseException) -> str:
    """The usual cause of an error."""
    return next((remark for sign, remark in CAUSES if sign in str(error)), "")


def find(name: str, known: Mapping[str, Puzzle]) -> Puzzle:
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no puzzle {name!r}; there are {', '.join(known)}.{meant}")
    return known[name]
