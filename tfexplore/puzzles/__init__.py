"""Puzzles: write the parts of a spiking network yourself, and have them checked, memory traffic included.

`check` compares an answer with the library, with torch's autograd or with a closed form; `hint` gives one more hint at each call;
`solution` shows one way to solve it; `passed` and `progress` keep the score of this session. `ALL` has every puzzle by name.

Example:
    >>> from tfexplore import puzzles
    >>> def charge(v, x, tau):
    ...     return v + x
    >>> puzzles.check("charge", charge).outcome
    'wrong'
"""

from __future__ import annotations

from typing import Any

from tfexplore.puzzles.backward import PUZZLES as BACKWARD
from tfexplore.puzzles.bits import PUZZLES as BITS
from tfexplore.puzzles.charge_fire_reset import PUZZLES as NEURON
from tfexplore.puzzles.check import find, judge
from tfexplore.puzzles.exchange import PUZZLES as EXCHANGE
from tfexplore.puzzles.kernel import PUZZLES as KERNEL
from tfexplore.puzzles.puzzle import Case, Complaint, Puzzle
from tfexplore.puzzles.reversible import PUZZLES as REVERSIBLE
from tfexplore.puzzles.scan import PUZZLES as SCAN
from tfexplore.puzzles.split import PUZZLES as SPLIT
from tfexplore.puzzles.training import PUZZLES as TRAINING
from tfexplore.puzzles.verdict import OUTCOMES, Verdict, framed, show, tiles
from tfexplore.puzzles.walk import PUZZLES as WALK

__all__ = [
    "ALL", "OUTCOMES", "Case", "Complaint", "Hint", "Progress", "Puzzle", "Verdict", "check", "hint", "passed", "progress",
    "solution",
]  # fmt: skip

ALL: dict[str, Puzzle] = {puzzle.name: puzzle for puzzle in (
    *NEURON, *WALK, *KERNEL, *BACKWARD, *TRAINING, *SPLIT, *REVERSIBLE, *BITS, *EXCHANGE, *SCAN
)}  # fmt: skip
"""Every puzzle by name, in the order of the notebooks."""

_verdicts: dict[str, Verdict] = {}
_hints: dict[str, int] = {}


def check(name: str, function: Any, *, seconds: float = 5.0) -> Verdict:
    """Runs an answer on the cases of a puzzle, compares it with what is expected, and its memory traffic with the budget.

    No error of the function itself is raised: it becomes part of the verdict.

    Args:
        name: of the puzzle, one of `ALL`.
        function: the answer, with the signature of the puzzle's stub.
        seconds: after which a case counts as not finished.

    Returns:
        A `Verdict`, whose `outcome` is one of `OUTCOMES`. A notebook shows it as a sentence and a picture.

    Raises:
        ValueError: there is no such puzzle.

    Example:
        >>> check("charge", lambda v, x, tau: v - v / tau + x)
        Right: 3 cases agree.
    """
    verdict = judge(find(name, ALL), function, seconds)
    _verdicts[name] = verdict
    return verdict


def passed(name: str) -> bool:
    """Whether the last check of this puzzle in this session found it right and within its budget.

    Raises:
        ValueError: there is no such puzzle.
    """
    find(name, ALL)
    return name in _verdicts and _verdicts[name].right


class Hint(str):
    """A hint that a notebook shows as Markdown."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


def hint(name: str) -> Hint:
    """The next hint of a puzzle, which a notebook shows as Markdown; after the last one, the last one again.

    Raises:
        ValueError: there is no such puzzle.

    Example:
        >>> hint("hard_reset")
        Hint 1 of 2: Two cases again: `v_reset` where `s` is 1, and `h` where `s` is 0.
    """
    hints = find(name, ALL).hints
    given = _hints[name] = min(_hints.get(name, 0) + 1, len(hints))
    more = "" if given < len(hints) else f' A solution: `print(puzzles.solution("{name}"))`'
    return Hint(f"Hint {given} of {len(hints)}: {hints[given - 1]}{more}")


def solution(name: str) -> str:
    """One way to solve a puzzle, as Python source.

    Raises:
        ValueError: there is no such puzzle.

    Example:
        >>> print(solution("hard_reset"))
        def hard_reset(h, s, v_reset):
            \"\"\"The potential after the reset: v_reset where the neuron fired (s = 1), as it was elsewhere.\"\"\"
            return h * (1 - s) + v_reset * s
    """
    lines = find(name, ALL).source.splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("###"))


class Progress:
    """The score of a session: a sentence, and a picture with one tile per puzzle.

    Attributes:
        score: by notebook, the name of each puzzle and its outcome.
        solved: how many are right and within their budget.
    """

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
    """The score of this session: what `check` found last for every puzzle. A notebook shows a picture of it."""
    return Progress(_verdicts)
