# mypy: allow-untyped-defs
"""Puzzles of notebook 09, exchange: a time constant in seconds, and what another library does differently.

What is expected comes from the division that forward Euler makes, and from a loop over the other library's rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfexplore.puzzles.puzzle import Array, Case, Function, Memory, Puzzle

NOTEBOOK = "09_exchange"
CURRENT = np.repeat([0.7, 0.0, 1.1, 0.3], 10)
"""40 time steps of a current that comes and goes."""


def steps_of(tau, dt):
    """The time constant in time steps, of tau in seconds where a step has dt seconds."""
    ### BEGIN SOLUTION
    return tau / dt
    ### END SOLUTION


def other_step(v, s, x, beta, v_threshold):
    """The other library's potential after one more step; v and s are its potential and its spike of the step before."""
    ### BEGIN SOLUTION
    return beta * v + x - s * v_threshold
    ### END SOLUTION


def decayed(function: Function, memory: Memory, tau: float, dt: float) -> Any:
    """A potential that starts at 1 and decays for 40 steps by forward Euler, with the learner's time constant."""
    found = function(tau=tau, dt=dt)
    return None if found is None else (1 - 1 / np.asarray(found, float)) ** np.arange(1, 41)


def steps_cases() -> list[Case]:
    taus = np.array([2e-3, 5e-3, 20e-3])
    euler = [1.0]  # v' = v + dt (0 - v) / tau, in seconds
    for _ in range(40):
        euler.append(euler[-1] + 1e-4 * (0 - euler[-1]) / 2.5e-3)
    return [
        Case("tau = 20 ms, dt = 1 ms", {"tau": 20e-3, "dt": 1e-3}, 20.0),
        Case("three neurons at once, dt = 0.5 ms", {"tau": taus, "dt": 5e-4}, np.array([4.0, 10.0, 40.0]), ("neuron i",)),
        Case("a potential that decays: tau = 2.5 ms, dt = 0.1 ms", {"tau": 2.5e-3, "dt": 1e-4}, np.array(euler[1:]), run=decayed),
    ]  # fmt: skip


def traced(function: Function, memory: Memory, beta: float, v_threshold: float, x: Array) -> Any:
    """The potential over time, by the learner's step; the case compares it with the threshold, as the library does."""
    v, s, seen = 0.0, 0.0, []
    for current in x:
        found = function(v=v, s=s, x=float(current), beta=beta, v_threshold=v_threshold)
        if found is None:
            return None
        v = float(found)
        s = float(v > v_threshold)
        seen.append(v)
    return np.array(seen)


def late(beta: float, v_threshold: float, x: Array) -> Array:
    """The other library's potential: what a spike takes off is missing one step later."""
    v, due, seen = 0.0, 0.0, []
    for current in x:
        v = v * beta + current
        v -= due
        due = v_threshold if v > v_threshold else 0.0
        seen.append(v)
    return np.array(seen)


def other_cases() -> list[Case]:
    shown = np.full(8, 0.7)
    return [
        Case("the trace above", {"beta": 0.5, "v_threshold": 1.0, "x": shown}, late(0.5, 1.0, shown), run=traced),
        Case("another current, beta = 0.9, threshold 0.75", {"beta": 0.9, "v_threshold": 0.75, "x": CURRENT},
             late(0.9, 0.75, CURRENT), run=traced),
    ]  # fmt: skip


def table() -> str:
    """The trace of the puzzle's text."""
    v = late(0.5, 1.0, np.full(8, 0.7))
    rows = (
        ["step", *map(str, range(1, 9))],
        ["potential", *(f"{each:.3f}" for each in v)],
        ["spike", *("1" if each > 1 else "0" for each in v)],
    )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * 9, *lines[1:]])


PUZZLES = (
    Puzzle(
        steps_of,
        NOTEBOOK,
        "seconds into steps",
        r"""
A file of another framework gives the time constant `tau` in seconds. Our layers count time steps, and a step takes `dt`
seconds. Forward Euler makes of $\tau \dot v = -v$ the step $v \leftarrow v - \frac{\Delta t}{\tau} v$. Ours is
$v \leftarrow v - v / \tau_\text{steps}$. Return the time constant in steps, for a number or an array.
""",
        (
            "Compare the two steps: what stands in place of 1 / tau_steps?",
            "How many steps of 1 ms are 20 ms?",
            "`dt / tau` is the part that leaks away in a step; its inverse is wanted.",
        ),
        steps_cases,
        "tau in steps",
        {
            "That is the part which leaks away in one step, and not how many steps the time constant has.": lambda tau, dt: (
                dt / tau
            ),
            "Seconds times seconds are no steps: divide.": lambda tau, dt: tau * dt,
            "That is the decay of one step, 1 - dt / tau. The time constant in steps is wanted.": lambda tau, dt: (
                1 - dt / tau
            ),
            "That is the exact decay of one step, exp(-dt / tau). The time constant in steps is wanted.": lambda tau, dt: (
                np.exp(-dt / tau)
            ),
            "Whole steps are not asked for: the time constant may be 2.5 steps.": lambda tau, dt: (
                np.floor(tau / dt + 1e-9) + 0.5
            ),
        },
    ),
    Puzzle(
        other_step,
        NOTEBOOK,
        "what does the other library do?",
        f"""
Another library says it has the LIF neuron that you know: $h = \\beta v + x$, a spike where the potential is above the threshold,
then a reset. With $\\beta$ = 0.5, threshold 1 and a current of 0.7 at every step it computes

{table()}

Find out what it does differently, and write its step: from its potential `v` and its spike `s` (0 or 1) of the step before, and
the current `x`, return the potential that it shows next. The check compares it with the threshold.
""",
        (
            "Up to step 2 there is nothing special: 0.5 x 0.7 + 0.7 = 1.05. Why does it still show 1.05 where it has fired?",
            "Compute step 3 without any reset: 0.5 x 1.05 + 0.7 = 1.225. It shows 0.225. What is missing, and when was it due?",
            "The threshold is taken off a step late, and after the leak: `beta * v + x - ...`, where the last step fired.",
        ),
        other_cases,
        "potential v",
        {
            "There is no reset at all here; its potential falls after a spike.": lambda v, s, x, beta, v_threshold: (
                beta * v + x
            ),
            "What a spike takes off does not leak: step 3 shows 0.225, and you would get 0.725.": (
                lambda v, s, x, beta, v_threshold: beta * (v - s * v_threshold) + x
            ),
            "That resets to zero. Some of the potential is left: 0.225 in step 3, where zero would give 0.7.": (
                lambda v, s, x, beta, v_threshold: beta * v * (1 - s) + x
            ),
            "The threshold is not always 1: take `v_threshold` off.": lambda v, s, x, beta, v_threshold: (
                beta * v + x - s
            ),
            "It does not reset in the same step: step 2 shows 1.05, above the threshold.": (
                lambda v, s, x, beta, v_threshold: beta * v + x - v_threshold * (beta * v + x > v_threshold)
            ),
        },
    ),
)
