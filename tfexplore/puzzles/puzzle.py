"""What a puzzle is: a text, a solution between nbgrader's markers, hints, cases with what is expected, and a traffic budget.

Nothing here runs a learner's code (`sandbox.py`) or judges it (`check.py`). What a case expects comes from the library,
from torch's autograd or from a closed form, never from the solution: so a solution is checked like any other answer.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from tfexplore.puzzles.counted_memory import Memory

Array: TypeAlias = np.ndarray
Function: TypeAlias = Callable[..., Any]
Run: TypeAlias = Callable[..., Any]
"""run(function, memory, **given) -> an array to compare: how a case calls a learner's function."""


class Complaint(Exception):
    """Raised by a case: the answer is wrong in a way that a sentence explains better than numbers."""


def plainly(function: Function, memory: Memory, **given: Any) -> Any:
    """The usual `Run`: calls the function, and compares what it returns."""
    return function(**given)


@dataclass(frozen=True)
class Case:
    """Arguments of the function, and what it should return.

    Args:
        name: in words, after "with".
        given: the arguments, by name.
        expected: the result.
        axes: of the result (one or two), in words.
        x: numbers or names along a single axis that does not just count.
        run: how to call the function; by default with the arguments alone.
        drawn: what the picture shows as expected, where that is not the result itself.
        budget: words per element-step.
        elements: the element-steps of the case.
        registers: words that a variable of the learner's own may hold before it counts as memory.
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
    """One exercise; its name and its signature are those of its solution.

    Args:
        solution: a function, with nbgrader's markers around what a learner has to write.
        notebook: the notebook that it belongs to.
        title: of its cell.
        text: the task, as Markdown.
        hints: from the vaguest to the most exact.
        cases: makes the cases, on demand, since they import torch.
        value: the name of what the function computes, in words.
        slips: common mistakes: a remark, and a function that makes the mistake. An answer with the same result gets the remark.
        backwards: the function goes backwards in time, so that the last wrong time step is its first.
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
        """The solution as if it had been typed into a notebook's cell: by itself, with NumPy as `np` and nothing else."""
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
        return "\n".join(
            [*lines, f'Stuck? There are {len(self.hints)} hints, one per call: `puzzles.hint("{self.name}")`']
        )


def written(source: str, name: str) -> Function:
    """The function that a cell with this source defines; its lines can be quoted, like those of a notebook's cell."""
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
