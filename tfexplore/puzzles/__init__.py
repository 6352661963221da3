"""Puzzles: write the pieces of a spiking network yourself, and have them checked, memory traffic included.

>>> from tfexplore import puzzles
>>> def charge(v, x, tau):
...     return v + x
>>> puzzles.check("charge", charge).outcome
'wrong'

`check` compares with the library, with torch's autograd or with a closed form; `hint` gives one hint more at each call;
`progress` keeps the score of this session.
"""

from __future__ import annotations

from typing import Any

from tfexplore.puzzles.backward import PUZZLES as BACKWARD
from tfexplore.puzzles.check import find, judge
from tfexplore.puzzles.kernel import PUZZLES as KERNEL
from tfexplore.puzzles.neuron import PUZZLES as NEURON
from tfexplore.puzzles.puzzle import Case, Complaint, Puzzle
from tfexplore.puzzles.split import PUZZLES as SPLIT
from tfexplore.puzzles.training import PUZZLES as TRAINING
from tfexplore.puzzles.verdict import OUTCOMES, Verdict, framed, show, tiles
from tfexplore.puzzles.walk import PUZZLES as WALK

__all__ = [
    "ALL", "OUTCOMES", "Case", "Complaint", "Hint", "Progress", "Puzzle", "Verdict", "check", "hint", "passed", "progress",
    "solution",
]  # fmt: skip

ALL: dict[str, Puzzle] = {puzzle.name: puzzle for puzzle in (*NEURON, *WALK, *KERNEL, *BACKWARD, *TRAINING, *SPLIT)}
"""Every puzzle by name, in the order of the notebooks."""

_verdicts: dict[str, Verdict] = {}
_hints: dict[str, int] = {}


def check(name: str, function: Any, *, seconds: float = 5.0) -> Verdict:
    """Runs `function` on the cases of the puzzle, each for at most `seconds`, and says what came of it.

    The outcome is one of `OUTCOMES`. Whatever the function does, no error of its own gets out.
    """
    verdict = judge(find(name, ALL), function, seconds)
    _verdicts[name] = verdict
    return verdict


def passed(name: str) -> bool:
    """Whether the last check of this puzzle, in this session, found it right and within its budget."""
    find(name, ALL)
    return name in _verdicts and _verdicts[name].right


class Hint(str):
    """A hint that a notebook shows as Markdown."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


def hint(name: str) -> Hint:
    """The next hint; after the last one, the last one again."""
    hints = find(name, ALL).hints
    given = _hints[name] = min(_hints.get(name, 0) + 1, len(hints))
    more = "" if given < len(hints) else f' A solution: `print(puzzles.solution("{name}"))`'
    return Hint(f"Hint {given} of {len(hints)}: {hints[given - 1]}{more}")


def solution(name: str) -> str:
    """One way to solve it, as source."""
    lines = find(name, ALL).source.splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("###"))


class Progress:
    """How many puzzles of this session are solved, by notebook."""

    def __init__(self, verdicts: dict[str, Verdict]) -> None:
        self.score: dict[str, list[tuple[str, str]]] = {}
        for puzzle in ALL.values():
            outcome = verdicts[puzzle.name].outcome if puzzle.name in verdicts else "not yet"
            self.score.setdefault(puzzle.notebook, []).append((puzzle.name, outcome))
        self.solved = sum(outcome == "right" for row in self.score.values() for _, outcome in row)

    def sentence(self) -> str:
        costly = [name for row in self.score.values() for name, outcome in row if outcome == "too much traffic"]
        more = f" Right, but with too much traffic: {', '.join(costly)}." if costly else ""
        return f"{self.solved} of {len(ALL)} puzzles solved.{more}"

    def __repr__(self) -> str:
        rows = (
            f"{notebook}: {', '.join(f'{name} ({outcome})' for name, outcome in row)}"
            for notebook, row in self.score.items()
        )
        return "\n".join([self.sentence(), *rows])

    def picture(self) -> bytes:
        return tiles(self.score)

    def _ipython_display_(self) -> None:
        outcome = "right" if self.solved == len(ALL) else "not yet"
        show(repr(self), framed(self.sentence(), outcome), self.picture(), repr(self))


def progress() -> Progress:
    """The score of this session: what `check` found last for every puzzle."""
    return Progress(_verdicts)
