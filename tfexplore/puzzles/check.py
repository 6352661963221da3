"""The checker: runs an answer on a puzzle's cases, compares it with what is expected, and weighs its memory traffic."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from tfexplore.measure.counting import plain
from tfexplore.puzzles import sandbox
from tfexplore.puzzles.memory import Memory
from tfexplore.puzzles.puzzle import Array, Case, Complaint, Puzzle, digits, number
from tfexplore.puzzles.verdict import Verdict

RELATIVE, ABSOLUTE = 1e-4, 1e-5
ENOUGH = 300  # times the budget: no answer moves as much and ends


def judge(puzzle: Puzzle, function: Any, seconds: float = 5.0) -> Verdict:
    """Runs `function` on every case, at most `seconds` for each."""
    cases = puzzle.cases()
    if fault := not_callable_as(puzzle, function):
        return verdict(puzzle, "crashed", fault, cases[-1])
    weighed: list[tuple[Case, Array, dict[str, Fraction], str]] = []
    for case in cases:
        memory = Memory(limit=ENOUGH * float(case.budget or 10) * case.elements)
        given = {name: protected(value) for name, value in case.given.items()}
        ran = sandbox.run(
            lambda c=case, m=memory, g=given: read(c.run(function, m, **g)),  # type: ignore[misc]
            function,
            memory.given,
            seconds,
        )
        error = ran.error
        line = f", at the line `{ran.line}`" if ran.line else ""
        if isinstance(error, NotImplementedError):
            todo = f"`{puzzle.name}` is not written yet: put your own lines where `raise NotImplementedError` stands."
            return verdict(puzzle, "not yet", f"{todo} The picture shows what is expected.", cases[-1])
        if ran.endless:
            why = f"Not finished, with {case.name}: it was still running when time was up{line}."
            if isinstance(error, BaseException) and not isinstance(error, Exception):
                why = f"Not finished, with {case.name}: it reads and writes memory on and on{line}."
            return verdict(puzzle, "not finished", f"{why} Does every loop come to its end?", case, memory.drawn)
        if isinstance(error, Complaint):
            return verdict(puzzle, "wrong", f"Wrong, with {case.name}: {error}", case, memory.drawn)
        if error is not None:
            what = f"Crashed, with {case.name}: {type(error).__name__}{line}{said(error)}."
            return verdict(puzzle, "crashed", f"{what} {cause(error)}".strip(), case, memory.drawn)
        came, yours = ran.value
        if fault := not_an_answer(puzzle, came, yours, case):
            return verdict(puzzle, "wrong", f"Wrong, with {case.name}: {fault}", case, memory.drawn)
        if (differs := ~close(yours, case.expected)).any():
            sentence = f"Wrong, with {case.name}: {first_difference(puzzle, case, yours, differs)}"
            return verdict(puzzle, "wrong", f"{sentence} {slip(puzzle, case, yours)}".strip(), case, yours, differs)
        traffic = {what: Fraction(words, case.elements) for what, words in memory.traffic().items()}
        own = max(ran.held, key=lambda name: ran.held[name]) if ran.held else ""
        remark = ""
        if own and ran.held[own] > case.registers:
            words = Fraction(ran.held[own]) / case.elements
            traffic |= {f"your own {own} written": words, f"your own {own} read": words}
            remark = (
                f"Your own `{own}` holds {digits(ran.held[own])} words: more than registers hold, so it lives in memory, "
                "where each word is written and read again."
            )
        weighed.append((case, yours if memory.drawn is None else memory.drawn, traffic, remark))
    over = [found for found in weighed if found[0].budget is not None and sum(found[2].values()) > found[0].budget]
    case, shown, traffic, remark = (over or weighed)[-1]
    total, count = sum(traffic.values()), f"{len(cases)} cases agree" if len(cases) > 1 else "the case agrees"
    if over:
        sentence = (
            f"Right, but too much traffic, with {case.name}: {digits(total)} words per element-step where "
            f"{digits(case.budget)} are enough ({listed(traffic)}). {remark}"
        )
        return verdict(puzzle, "too much traffic", sentence.strip(), case, shown, None, traffic)
    sentence = f"Right: {count}."
    if case.budget is not None:
        sentence = f"Right: {count}, with {digits(total)} words per element-step; the budget is {digits(case.budget)}."
    return verdict(puzzle, "right", sentence, case, shown, None, traffic)


def verdict(
    puzzle: Puzzle,
    outcome: str,
    sentence: str,
    case: Case,
    yours: Any = None,
    differs: Array | None = None,
    traffic: Mapping[str, Fraction] | None = None,
) -> Verdict:
    expected = np.asarray(case.expected if case.drawn is None else case.drawn, float)
    return Verdict(puzzle, outcome, sentence, case, expected, yours, differs, traffic or {})


def protected(value: Any) -> Any:
    """A copy of an argument that cannot be written to, so that no answer changes what the next case starts from."""
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.flags.writeable = False
        return value
    if isinstance(value, list | tuple):
        return type(value)(protected(item) for item in value)
    return dict(value) if isinstance(value, dict) else value


def close(yours: Any, expected: Any) -> Array:
    """Where they agree to about four digits; a NaN agrees with nothing."""
    return np.isclose(np.asarray(yours, float), np.asarray(expected, float), RELATIVE, ABSOLUTE)


def not_callable_as(puzzle: Puzzle, function: Any) -> str:
    """What is wrong with how the function can be called; nothing is an empty text."""
    wanted = f'`puzzles.check` wants the function itself, as in `puzzles.check("{puzzle.name}", {puzzle.name})`'
    if not callable(function):
        return f"{wanted}, but got {type(function).__name__}."
    try:
        took = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C do not tell
        return ""
    names = list(inspect.signature(puzzle.solution).parameters)
    try:
        took.bind(**dict.fromkeys(names))
    except TypeError:
        return f"The function must take ({', '.join(names)}), as in the line it began with, but takes {took}."
    return ""


def read(value: Any) -> tuple[Any, Any]:
    """What came back, and its numbers; None where it has none. For the sandbox: reading may fail, count, or never end."""
    try:
        return value, np.asarray(plain(value), float)
    except Exception:  # noqa: BLE001  (a number too large for a float, a tensor that needs its gradient, ...)
        return value, None


def not_an_answer(puzzle: Puzzle, value: Any, yours: Any, case: Case) -> str:
    """What is wrong with the kind of value that came back."""
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
    """Which value is wrong first, in the order in which the function walks."""
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
    way = " on the way back" if puzzle.backwards else ""
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
    """What moved, most of it first: "h read 2, x read 1"."""
    order = sorted(traffic.items(), key=lambda item: -item[1])
    return ", ".join(f"{what} {digits(words)}" for what, words in order)


CAUSES = (
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


def said(error: BaseException) -> str:
    text = "" if isinstance(error, SystemExit) else str(error).strip().rstrip(".")
    return f": {text}" if text else ""


def cause(error: BaseException) -> str:
    """What is behind an error most of the time."""
    return next((remark for sign, remark in CAUSES if sign in str(error)), "")


def find(name: str, known: Mapping[str, Puzzle]) -> Puzzle:
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no puzzle {name!r}; there are {', '.join(known)}.{meant}")
    return known[name]
