"""What a puzzle is: a text, a solution between nbgrader's markers, hints, cases with what is expected, and a traffic budget.

Nothing here runs a learner's code (`sandbox.py`) or judges it (`check.py`). What a case expects comes from the library,
from torch's autograd or from a closed form, never from the solution: so the solutions are checked like anybody's answer.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from tfexplore.puzzles.memory import Memory

Array: TypeAlias = np.ndarray
Function: TypeAlias = Callable[..., Any]
Run: TypeAlias = Callable[..., Any]
"""run(function, memory, **given) -> an array to compare: how a case puts a learner's function to work."""


class Complaint(Exception):
    """An answer is wrong in a way that a sentence tells better than numbers do."""


def plainly(function: Function, memory: Memory, **given: Any) -> Any:
    """The usual case: call it, and look at what it returns."""
    return function(**given)


@dataclass(frozen=True)
class Case:
    """One question to the function, and its answer.

    axes: those of the answer (one or two), in words; x: numbers or names along a single one, where it does not just count;
    drawn: what the picture shows as expected, where that is not the answer itself; budget: words per element-step;
    elements: how many element-steps the case has; registers: how many words a variable of the learner's own may hold
    before it counts as memory too.
    """

    name: str
    given: Mapping[str, Any]
    expected: Any
    axes: tuple[str, ...] = ("time step t",)
    x: Any = None
    run: Run = plainly
    drawn: Any = None
    budget: Fraction | None = None
    elements: int = 1
    registers: float = float("inf")


@dataclass(frozen=True)
class Puzzle:
    """One exercise; its name and its signature are those of `solution`, its text is Markdown.

    cases: made when asked for; they import torch. slips: common mistakes, each as the function that makes it: an answer with the
    same result is told so. backwards: the function walks back in time, so that the last wrong time step is its first.
    """

    solution: Function
    notebook: str
    title: str
    text: str
    hints: tuple[str, ...]
    cases: Callable[[], list[Case]]
    value: str
    slips: Mapping[str, Function] = field(default_factory=dict)
    backwards: bool = False

    @property
    def name(self) -> str:
        return self.solution.__name__

    @property
    def signature(self) -> str:
        return f"{self.name}{inspect.signature(self.solution)}"

    @property
    def source(self) -> str:
        """The solution as Python source, with nbgrader's markers around what a learner has to write."""
        return inspect.getsource(self.solution).rstrip()

    def answer(self) -> Function:
        """The solution as if it had been typed into a notebook's cell: on its own, with NumPy as `np` and nothing else."""
        return written(self.source, self.name)

    def markdown(self) -> str:
        """The text of the puzzle's first cell."""
        budgets = [case.budget for case in self.cases() if case.budget is not None]
        lines = [f"### Puzzle: {self.title}", "", self.text.strip(), ""]
        if budgets:
            lines += [
                f"**Traffic budget:** {digits(budgets[-1])} words per element-step (one neuron at one time step).",
                "",
            ]
        many = "is one hint" if len(self.hints) == 1 else f"are {len(self.hints)} hints"
        return "\n".join([*lines, f'Stuck? There {many}, one per call: `puzzles.hint("{self.name}")`'])


def written(source: str, name: str) -> Function:
    """The function that a cell with this source defines; its lines can be quoted, as those of a notebook's cell."""
    filename = f"<answer to {name}, {hash(source):x}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names: dict[str, Any] = {"np": np, "__name__": "__main__"}
    exec(compile(source, filename, "exec"), names)
    made: Function = names[name]
    return made


def number(value: Any) -> str:
    """At most four digits: 2, 3.031, 0.5."""
    return f"{float(value):.4g}"


def digits(words: Any) -> str:
    """Words per element-step: 2, 3.03125."""
    return f"{float(words):.5f}".rstrip("0").rstrip(".")
