"""When a kernel is compiled: the cases of a first call, their measured times, and what they show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

EVER, NEW_PROCESS, AGAIN, NUMBER, SIZE, DTYPE = CASES = (
    "first call ever", "first call in a new process", "the same call again", "another {number}", "another T and N",
    "another dtype (float64)",
)  # fmt: skip
REQUESTS: dict[str, dict[str, Any]] = {
    EVER: {},
    AGAIN: {"count": 9},
    NUMBER: {"case": "number"},
    SIZE: {"case": "size"},
    DTYPE: {"dtype": "float64"},
    NEW_PROCESS: {},
}
"""Of `measure.first_calls`, in the order in which they are measured; the last by a process that has done nothing before."""


@dataclass
class CompileCosts:
    """What a forward and backward pass costs in each case.

    Args:
        neuron: the name of its class.
        number: the parameter that one case changes.
        machine: where it was measured.
        backend: the one that ran.
        seconds: of the pass, by case.
        compiled: how many kernels were compiled for it, by case.
    """

    neuron: str
    number: str
    machine: str
    backend: str
    seconds: dict[str, float] = field(default_factory=dict)
    compiled: dict[str, int] = field(default_factory=dict)

    def name(self, case: str) -> str:
        return case.format(number={"tau": "τ"}.get(self.number, self.number))

    def words(self, case: str) -> str:
        """A measured case in words."""
        seconds, count = self.seconds[case], self.compiled[case]
        kernels = "nothing compiled" if count == 0 else f"{count} kernel{'s' * (count > 1)} compiled"
        return f"{1e3 * seconds:,.{0 if seconds > 0.1 else 1}f} ms, {kernels}"

    def sentence(self) -> str:
        if not self.seconds:
            return (
                f"What does it cost to use {self.neuron} for the first time? Press Start: its kernels are compiled into an "
                "empty cache, which takes some seconds."
            )
        if len(self.seconds) < len(CASES):
            return f"{len(self.seconds)} of {len(CASES)} cases measured."
        ever, process, again = (self.seconds[case] for case in (EVER, NEW_PROCESS, AGAIN))
        nothing = self.compiled[NUMBER] == self.compiled[SIZE] == 0
        return (
            f"The first call ever of {self.neuron} took {ever:.1f} s, the first in a new process {process:.2f} s, any other "
            f"{1e3 * again:.1f} ms. {self.name('Another {number}')}, T or N compiled "
            f"{'nothing' if nothing else 'something: please report it'} ({self.machine}; backend {self.backend})."
        )
