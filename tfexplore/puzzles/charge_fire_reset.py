# mypy: allow-untyped-defs
"""Puzzles of notebook 01, one neuron: charge, fire, and two resets. Solutions are untyped, as a learner writes them.

What is expected comes from the equations of the library (`neurons.LIF`), which run on numbers as well as on symbols.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfexplore.neurons.library import LIF
from tfexplore.puzzles.puzzle import Array, Case, Function, Memory, Puzzle

CURRENT = np.repeat([0.0, 0.4, 0.2, 0.0, 0.6], 8)
"""40 time steps of a current that comes and goes."""


def charge(v, x, tau):
    """The potential h after the current x came in and the share 1/tau of v leaked away."""
    ### BEGIN SOLUTION
    return v - v / tau + x
    ### END SOLUTION


def fire(h, v_threshold):
    """1 where the potential h has reached the threshold, 0 elsewhere."""
    ### BEGIN SOLUTION
    return np.where(h >= v_threshold, 1.0, 0.0)
    ### END SOLUTION


def soft_reset(h, s, v_threshold):
    """The potential after the reset: lower by the threshold where the neuron fired (s = 1)."""
    ### BEGIN SOLUTION
    return h - s * v_threshold
    ### END SOLUTION


def hard_reset(h, s, v_reset):
    """The potential after the reset: v_reset where the neuron fired (s = 1), as it was elsewhere."""
    ### BEGIN SOLUTION
    return h * (1 - s) + v_reset * s
    ### END SOLUTION


def walk(neuron: LIF, part: str, function: Function) -> list[Any]:
    """The result of one part of the neuron at each time step, with `function` in its place; the rest is the library's."""
    v: Any = neuron.v_reset
    seen = []
    for x in CURRENT:
        h = function(v, x, neuron.tau) if part == "charge" else neuron.charge(v, x)
        s = function(h, neuron.v_threshold) if part == "fire" else float(h >= neuron.v_threshold)
        if part == "soft_reset":
            v = function(h, s, neuron.v_threshold)
        elif part == "hard_reset":
            v = function(h, s, neuron.v_reset)
        else:
            v = neuron.hard(s, h) if neuron.reset == "hard" else neuron.soft(s, h)
        seen.append({"charge": h, "fire": s}.get(part, v))
    return seen


def driven(part: str, neuron: LIF) -> Case:
    """The learner's part inside a neuron, for 40 time steps."""

    def run(function: Function, memory: Memory) -> list[Any]:
        return walk(neuron, part, function)

    own: dict[str, Function] = {
        "charge": lambda v, x, tau: neuron.charge(v, x),
        "fire": lambda h, v_threshold: float(h >= v_threshold),
        "soft_reset": lambda h, s, v_threshold: neuron.soft(s, h),
        "hard_reset": lambda h, s, v_reset: neuron.hard(s, h),
    }
    expected = np.array(walk(neuron, part, own[part]))
    return Case("a neuron that is driven for 40 time steps", {}, expected, run=run)


def charge_cases() -> list[Case]:
    v = np.linspace(-1, 1, 9)
    return [
        Case("one neuron, v = 0.5, x = 0.25, tau = 2", {"v": 0.5, "x": 0.25, "tau": 2.0}, LIF(tau=2.0).charge(0.5, 0.25)),
        Case("nine neurons at once", {"v": v, "x": 0.3, "tau": 4.0}, LIF(tau=4.0).charge(v, 0.3), ("potential v before",), v),
        driven("charge", LIF(tau=4.0)),
    ]  # fmt: skip


def fire_cases() -> list[Case]:
    h = np.array([-0.5, 0.0, 0.9, 0.999, 1.0, 1.001, 1.5, 3.0])
    given = {"h": h, "v_threshold": 1.0}
    expected = np.heaviside(h - 1.0, 1.0)  # 1 at the threshold itself
    return [
        Case("one neuron, h = 1.5, threshold 1", {"h": 1.5, "v_threshold": 1.0}, 1.0),
        Case("eight neurons at once, one exactly at the threshold", given, expected, ("neuron i",)),
        driven("fire", LIF(tau=4.0)),
    ]


def reset_cases(part: str) -> list[Case]:
    h, s = np.array([0.4, 1.0, 1.7, 0.8, 2.5, 0.0]), np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    if part == "soft_reset":
        neuron = LIF(tau=4.0, v_threshold=0.75)
        given, expected = {"h": h, "s": s, "v_threshold": 0.75}, neuron.soft(s, h)
    else:
        neuron = LIF(tau=4.0, v_reset=-0.25, reset="hard")
        given, expected = {"h": h, "s": s, "v_reset": -0.25}, neuron.hard(s, h)
    return [Case("six neurons at once", given, expected, ("neuron i",)), driven(part, neuron)]


def steps(array: Array) -> Array:
    return np.where(array, 1.0, 0.0)


PUZZLES = (
    Puzzle(
        charge,
        "01_the_neuron",
        "the current comes in",
        """
Write the first third of a time step. The neuron has the potential `v`. In one step, the share 1/`tau` of it leaks away, and
the current `x` comes in. Return the potential after that, which we call $h$. It must work for one neuron and for an array of
neurons.
""",
        (
            "What is left of `v` when the share 1/`tau` of it is gone? Try it on paper: v = 1 and tau = 4.",
            "With tau = 4, three quarters are left: `v - v / tau`. The current has not come in yet.",
            "The potential that is left, plus `x`. And it has to be returned: `return v - v / tau + ...`",
        ),
        charge_cases,
        "potential h",
        {
            "That is what comes of a current that leaks as well. Here only `v` leaks: `x` comes in undivided.": (
                lambda v, x, tau: v + (x - v) / tau
            ),
            "The leak is missing: the potential must lose `v / tau`.": lambda v, x, tau: v + x,
            "What is left over is not `v / tau` but `v - v / tau`.": lambda v, x, tau: v / tau + x,
            "The current is missing: `x` must be added.": lambda v, x, tau: v - v / tau,
            "`tau` multiplies here what it should divide.": lambda v, x, tau: v - v * tau + x,
        },
    ),
    Puzzle(
        fire,
        "01_the_neuron",
        "a spike, or none",
        """
Return 1 where the potential `h` has reached the threshold `v_threshold`, and 0 where it has not. A neuron that stands exactly
at the threshold fires. It must work for one neuron and for an array of neurons.
""",
        (
            "`h >= v_threshold` compares every neuron of an array at once; the result is an array of True and False.",
            "An `if` can decide for one neuron only. `np.where(condition, a, b)` takes a or b for each.",
            "`np.where(h >= v_threshold, ..., ...)`, with a 1 and a 0 in the right places.",
        ),
        fire_cases,
        "spike s",
        {
            "At the threshold itself the neuron fires too: `>=`, not `>`.": lambda h, v_threshold: steps(
                h > v_threshold
            ),
            "It fires where it should be silent, and the other way round.": lambda h, v_threshold: steps(
                h < v_threshold
            ),
            "That is the distance from the threshold. A spike is 0 or 1.": lambda h, v_threshold: h - v_threshold,
            "The threshold is `v_threshold`, which is not always 0.": lambda h, v_threshold: steps(h >= 0),
        },
    ),
    Puzzle(
        soft_reset,
        "01_the_neuron",
        "the soft reset",
        """
After a spike, the soft reset takes the threshold off the potential; what was above it stays. Return the potential after the
reset, given the potential `h`, the spike `s` (0 or 1) and the threshold, for one neuron or for an array. You can do it
without an `if`.
""",
        (
            "Where `s` is 1, take `v_threshold` off. Where it is 0, take nothing off.",
            "`s * v_threshold` is the threshold where `s` is 1, and 0 where `s` is 0.",
        ),
        lambda: reset_cases("soft_reset"),
        "potential v after",
        {
            "That is a hard reset to 0. The soft one keeps what was above the threshold.": lambda h, s, v_threshold: (
                h * (1 - s)
            ),
            "Only a neuron that fired is reset: where `s` is 0, `h` must stay.": lambda h, s, v_threshold: (
                h - v_threshold
            ),
            "The threshold is not always 1: take `v_threshold` off.": lambda h, s, v_threshold: h - s,
        },
    ),
    Puzzle(
        hard_reset,
        "01_the_neuron",
        "the hard reset",
        """
After a spike, the hard reset sets the potential to `v_reset`, whatever it was. Return the potential after the reset, given
the potential `h` and the spike `s` (0 or 1), for one neuron or for an array.
""",
        (
            "Two cases again: `v_reset` where `s` is 1, and `h` where `s` is 0.",
            "`h * (1 - s)` is `h` where the neuron did not fire, and 0 where it did. What is missing there?",
        ),
        lambda: reset_cases("hard_reset"),
        "potential v after",
        {
            "That resets to 0. Add `v_reset` where the neuron fired: it is not always 0.": lambda h, s, v_reset: (
                h * (1 - s)
            ),
            "That is a reset by subtraction. The hard one forgets `h` where the neuron fired.": (
                lambda h, s, v_reset: h - s * v_reset
            ),
            "Here `v_reset` is added where `h` should be replaced by it.": lambda h, s, v_reset: h + s * v_reset,
            "It resets the neurons that did not fire.": lambda h, s, v_reset: h * s + v_reset * (1 - s),
        },
    ),
)
