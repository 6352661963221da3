"""The unrolling explorer: is an equation that was unrolled over time another equation?"""

from __future__ import annotations

import functools

from tfexplore.explore.base.controls import Choice, Scale
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.unrolling import figure
from tfexplore.explore.unrolling.unrolled import Unrolled, unrolled
from tfexplore.neurons.library import BY_NAME as NEURONS
from tfexplore.neurons.step import step_of

LENGTHS = (1, 2, 4, 8, 16, 32)
ONE_STATE = tuple(name for name, kind in NEURONS.items() if len(kind.states) == 1)
RESETS = ("soft", "hard", "none")


class Unrolling(Explorer):
    """T steps of a neuron as one formula, by substitution and by the product of pairs; its operations and their depth, counted.

    `tfexplore.explore.unrolling.unrolled` says what is counted.

    Args:
        neuron: one of the library's with one state, by name.
        reset: "soft", "hard" or "none"; LI has none.
        steps: the largest T: 2, 4, 8, 16 or 32.

    Controls: neuron, reset, steps.

    Result: `tfexplore.explore.unrolling.unrolled.Unrolled`, with the `formulas` by way and T.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> formulas = explore.unrolling("LIF", reset="none", steps=8).result.formulas
        >>> [formulas[way][8].depth for way in ("substituted", "in pairs")]
        [24, 9]
    """

    caption = (
        "Counted in the formula for v after T steps. Left: the longest chain of operations, each of which needs the one before. "
        "Right, on a logarithmic axis: all operations, equal parts once, and as the formula is written."
    )

    neuron = Choice("neuron", ONE_STATE, help="its equation is unrolled")
    reset = Choice("reset", RESETS, help="what a spike does to v")
    steps = Scale("time steps T", {steps: str(steps) for steps in LENGTHS[1:]}, help="the longest formula")

    def __init__(self, neuron: str = "LIF", reset: str = "soft", steps: int = 16) -> None:
        super().__init__(neuron=neuron, reset=reset, steps=steps)

    def look(self) -> Unrolled:
        return look(self.neuron, self.reset, self.steps)

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)


@functools.lru_cache(maxsize=32)
def look(neuron: str, reset: str, steps: int) -> Unrolled:
    kind = NEURONS[neuron]
    step = step_of(kind(reset=reset) if kind.spiking else kind())
    name = f"{neuron}, reset {reset}" if kind.spiking else neuron
    return unrolled(name, step, [each for each in LENGTHS if each <= steps])
