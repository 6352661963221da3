# mypy: allow-untyped-defs
# mypy: disable-error-code="valid-type,misc"
"""Puzzles of notebook 10, time as a scan: two steps combined, the rounds of a fixed point, and a neuron that no scan can do.

What is expected comes from the steps taken one by one, and from the bound that each round settles one more time step at least;
a neuron is judged by its equation, and again by numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy

from tfexplore.neurons.affine import affine_of, why_not
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step, step_of
from tfexplore.puzzles.puzzle import Array, Case, Complaint, Function, Memory, Puzzle

NOTEBOOK = "10_parallel_in_time"
TESTS = ["its equation", "its numbers", "the reason"]


def combine(first, second):
    """The pair (a, b) of two steps v -> a v + b, one after the other; first and second are their pairs."""
    ### BEGIN SOLUTION
    (a1, b1), (a2, b2) = first, second
    return np.dot(a2, a1), np.dot(a2, b1) + b2
    ### END SOLUTION


def most_rounds(steps, tau):
    """A current, one number for each of the steps, for which the fixed point needs as many rounds as it can."""
    ### BEGIN SOLUTION
    keep = 1 - 1 / tau
    x, h, s = [], 0.0, 0.0
    for _ in range(steps):
        x.append(1 + keep / 2 - keep * h)  # without the spike before: half of what it takes off above the threshold
        h = 1 + keep / 2 - keep * s  # with it: as much below
        s = float(h >= 1)
    return np.array(x)
    ### END SOLUTION


def no_scan(Neuron):
    """A class on Neuron that no scan over time can do, even where its spikes are known, and the reason in a word."""

    ### BEGIN SOLUTION
    class Mine(Neuron):
        tau: float = 4.0
        v_threshold: float = 1.0

        def charge(self, v, x):
            return v - v / self.tau + v * v / 8 + x

    return Mine, "state"
    ### END SOLUTION


# -- two steps into one ------------------------------------------------------------------------------------------


def paired(function: Function, first: Any, second: Any) -> tuple[Any, Any]:
    """What the learner's function makes of two steps, if it is a step again."""
    found = function(first=first, second=second)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Complaint("return two values, a and b, separated by a comma.")
    for name, value, like in zip("ab", found, first, strict=True):
        if np.shape(value) != np.shape(like):
            star = " `*` multiplies place by place: `np.dot` multiplies matrices, too." if np.ndim(like) else ""
            raise Complaint(f"{name} has the shape {np.shape(value)}; that of a step has {np.shape(like)}.{star}")
    return tuple(found)


def tree(function: Function, steps: list[Any], draw: np.random.Generator) -> Any:
    """All steps as one, combined two by two: where they are split is drawn."""
    if len(steps) == 1:
        return steps[0]
    at = int(draw.integers(1, len(steps)))
    return paired(function, tree(function, steps[:at], draw), tree(function, steps[at:], draw))


def from_many(function: Function, memory: Memory, steps: list[Any], v: Array) -> Array:
    """The potential behind a few steps that are one, for several potentials before them; the last two are combined first."""
    whole = steps[-1]
    for step in steps[-2::-1]:
        whole = paired(function, step, whole)
    return np.asarray(whole[0] * v + whole[1])


def in_trees(function: Function, memory: Memory, steps: list[Any], v: Any) -> list[float]:
    """The potential behind every time step, from v at the beginning by one combined step; of several states, the last one."""
    draw, seen = np.random.default_rng(2), []
    for t in range(len(steps)):
        a, b = tree(function, steps[: t + 1], draw)
        seen.append(float(np.ravel(np.dot(a, v) + b)[-1]))
    return seen


def one_by_one(steps: list[Any], v: Any) -> Array:
    """The same by a loop."""
    seen = []
    for a, b in steps:
        v = np.dot(a, v) + b
        seen.append(np.ravel(v)[-1])
    return np.array(seen)


def combine_cases() -> list[Case]:
    rng, v = np.random.default_rng(10), np.array([-1.0, 0.0, 1.0, 2.0])
    few = [(0.5, 1.0), (0.25, 3.0), (-2.0, 0.5)]
    many = [(float(a), float(b)) for a, b in zip(rng.uniform(0.6, 0.95, 32), rng.normal(0.2, 0.3, 32), strict=True)]
    many[11] = (0.0, -0.25)  # a hard reset: whatever was before is forgotten
    leaks, current = rng.uniform(0.5, 0.95, (24, 2)), rng.normal(0.2, 0.4, 24)
    two = [  # a synaptic current with a leak, and the potential that it charges
        (np.array([[own, 0.0], [own, leak]]), np.array([x, x])) for (own, leak), x in zip(leaks, current, strict=True)
    ]
    return [
        Case(
            name, {"steps": few[:count], "v": v}, np.array([one_by_one(few[:count], each)[-1] for each in v]),
            ("v before",), v, run=from_many,
        )
        for name, count in (("the steps 0.5 v + 1 and 0.25 v + 3", 2), ("three steps, the last two combined first", 3))
    ] + [
        Case("32 steps, combined two by two, a hard reset among them", {"steps": many, "v": 1.0}, one_by_one(many, 1.0),
             run=in_trees),
        Case("24 steps of two states", {"steps": two, "v": np.array([0.5, 1.0])}, one_by_one(two, np.array([0.5, 1.0])),
             run=in_trees),
    ]  # fmt: skip


# -- the rounds of a fixed point ---------------------------------------------------------------------------------


def iterated(x: Array, tau: float) -> Array:
    """The last round that changes each time step, 0 where the first guess, no spike, was right."""
    guess, last, now = [False] * len(x), np.zeros(len(x)), 0
    while True:
        now, v, found = now + 1, 0.0, []
        for current, spike in zip(x.tolist(), guess, strict=True):
            h = v - v / tau + current
            found.append(h >= 1)
            v = h - spike
        changed = np.not_equal(found, guess)
        if not changed.any():
            return last
        last[changed] = now
        guess = found


def counted(function: Function, memory: Memory, steps: int, tau: float) -> Any:
    """When each time step of the learner's current is settled."""
    found = function(steps=steps, tau=tau)
    if found is None:
        return None
    x = np.asarray(found, float)
    if x.shape != (steps,) or not np.isfinite(x).all():
        raise Complaint(f"return a current of {steps} finite numbers, one for each time step.")
    last = iterated(x, tau)
    memory.said = f"Your current needs {int(last.max())} of {steps} rounds."
    return last


def rounds_cases() -> list[Case]:
    """The bound: step t needs the steps before it only, so it is settled in round t + 1 at the latest, counting t from 0."""
    return [
        Case(f"{steps} steps, tau = {tau:g}", {"steps": steps, "tau": tau}, np.arange(1.0, steps + 1), run=counted)
        for steps, tau in ((8, 2.0), (32, 4.0), (64, 8.0))
    ]


def constant(current: float) -> Function:
    return lambda steps, tau: np.full(steps, current)


def aimed(before: Function) -> Function:
    """`most_rounds` with a mistake: before(keep, s) is what it takes the potential for, the step before having the spike s."""

    def slip(steps, tau):
        keep, x, h, s = 1 - 1 / tau, [], 0.0, 0.0
        for _ in range(steps):
            x.append(1 + keep / 2 - keep * h)
            h = before(keep, s)
            s = float(h >= 1)
        return np.array(x)

    return slip


# -- a neuron that no scan can do --------------------------------------------------------------------------------


def stepped(neuron: Neuron, z: Array, x: float, s: float) -> Array:
    """The states after a step from z, whose spike is known, by the neuron's own methods on numbers."""
    charged = neuron.charge(*z.tolist(), x)
    charged = charged if isinstance(charged, tuple) else (charged,)
    v = getattr(neuron, neuron.reset)(s, *charged)
    return np.array([float(value) for value in (v, *neuron.after(s, *charged))])


def bent(neuron: Neuron) -> bool:
    """Whether superposition fails: f(z + a + b) - f(z + a) - f(z + b) + f(z) is 0 for every affine f."""
    rng, shape = np.random.default_rng(0), (3, len(neuron.states))
    for scale in np.repeat([0.3, 3.0, 30.0], 24):
        z, a, b = rng.normal(0, scale, shape)
        x, s = float(rng.normal()), float(rng.integers(2))
        try:
            values = np.array([stepped(neuron, at, x, s) for at in (z + a + b, z + a, z + b, z)])
        except (ArithmeticError, TypeError, ValueError):  # a root of a negative number: judge it where it has a value
            continue
        bend = np.abs(values[0] - values[1] - values[2] + values[3])
        if np.isfinite(values).all() and (bend > 1e-9 * np.abs(values).max()).any():
            return True
    return False


WRONG_REASONS = {
    "reset": "with the spikes known, it takes off a number or multiplies by one, and a scan can do both.",
    "threshold": "a threshold only decides about the spike, and here the spikes are known.",
    "input": "the current is known at every step, so a number that is made of it is known too.",
}


def tested(function: Function, memory: Memory) -> Array:
    """Whether the learner's neuron passes `TESTS`, 1 or 0."""
    found = function(Neuron=Neuron)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Complaint('return the class and the reason, separated by a comma, as in `return Mine, "reset"`.')
    kind, reason = found
    if not (isinstance(kind, type) and issubclass(kind, Neuron)) or kind.charge is Neuron.charge:
        raise Complaint("the first value must be a class, of `class Mine(Neuron):`, that has a method `charge`.")
    neuron = kind()
    try:
        step = step_of(neuron)
    except (TypeError, ValueError) as error:
        text = str(error).rstrip(".")
        raise Complaint(f"{text}. Plain arithmetic on `v` and `x` will do, and `abs`.") from error
    curved, by_numbers, why = why_not(step, given_spikes=True), bent(neuron), str(reason).strip().lower()
    memory.drawn = np.array([bool(curved), by_numbers, why == "state"], float)
    name = kind.__name__
    if not curved:
        raise Complaint(f"a scan can do {name} where its spikes are known{as_pair(step)}. {obstacle(step)}")
    if not by_numbers:
        raise Complaint(f"by numbers, the step of {name} is a straight line: only its equation looks bent.")
    if why in WRONG_REASONS:
        raise Complaint(f"`{why}` is not the reason: {WRONG_REASONS[why]}")
    if why != "state":
        raise Complaint(f"the reason must be reset, threshold, input or state, but is {reason!r}.")
    memory.said = f"{name}: {curved}."
    return np.ones(len(TESTS))


def as_pair(step: Step) -> str:
    """The pair of an affine step of one state, as a part of a sentence."""
    if len(step.before) > 1:
        return ""
    found = affine_of(step, given_spikes=True)
    return f", as a v + b with a = {found.matrix[0][0]} and b = {found.vector[0]}"


def obstacle(step: Step) -> str:
    """What may have been taken for an obstacle in a step that is affine where its spikes are known."""
    found = affine_of(step, given_spikes=True)
    if any(step.x in a.free_symbols for row in found.matrix for a in row):
        return "What is kept of v depends on the current, but that is known: `a` may differ from step to step."
    if any(sympy.diff(b, step.x, 2) != 0 for b in found.vector):
        return "The current may be bent as you like: it is known, and so is `b`."
    if step.fire is not None and step.fire.free_symbols & {*step.charged[1:]}:
        return "A threshold that adapts is one more state, and only decides about the spike: the step stays affine."
    if len(step.before) > 1:
        return "With more states, `a` is a matrix. What would keep it from being one of numbers?"
    if any(step.s in value.free_symbols for value in step.reset):
        return "The reset is no obstacle: with the spikes known, it only takes off a number, or multiplies by one."
    return "What is kept of v must depend on v itself."


PUZZLES = (
    Puzzle(
        combine,
        NOTEBOOK,
        "two steps into one",
        r"""
A step of a neuron without reset is $v \leftarrow a v + b$: the leak leaves the share $a$, and $b$ comes in. Two such steps, one
after the other, are again such a step! `first` and `second` are pairs `(a, b)`. Return the pair of both together, `first`
going first. Whoever can do that can combine any number of steps, two by two and in any grouping.

In the last case the neuron has two states: `a` is a 2 × 2 matrix, and `b` has two numbers.
""",
        (
            "After the first step there is `a1 * v + b1`. Put it into the second step, in the place of `v`.",
            "`a2 * (a1 * v + b1) + b2`: multiply it out. What multiplies `v`? And what is left over?",
            "Begin with `(a1, b1), (a2, b2) = first, second`. For numbers, return `a2 * a1` and `a2 * b1 + b2`.",
            "Matrices are multiplied by `np.dot(a2, a1)`, the second step on the left. It multiplies numbers, too.",
        ),
        combine_cases,
        "v after",
        {
            "That is the second step first, and then the first: the order matters.": lambda first, second: (
                np.dot(first[0], second[0]),
                np.dot(first[0], second[1]) + first[1],
            ),
            "What came in at the first step goes through the second as well, and is multiplied by its `a`.": (
                lambda first, second: (np.dot(second[0], first[0]), first[1] + second[1])
            ),
            "What comes in at the second step is missing.": lambda first, second: (
                np.dot(second[0], first[0]),
                np.dot(second[0], first[1]),
            ),
            "`v` is multiplied by the first `a`, then by the second: they multiply, and do not add up.": (
                lambda first, second: (first[0] + second[0], np.dot(second[0], first[1]) + second[1])
            ),
            "Numbers may be multiplied in any order, matrices may not: the second step's stands on the left.": (
                lambda first, second: (np.dot(first[0], second[0]), np.dot(second[0], first[1]) + second[1])
            ),
            "`*` multiplies matrices place by place: `np.dot` multiplies rows by columns.": lambda first, second: (
                first[0] * second[0],
                np.dot(second[0], first[1]) + second[1],
            ),
        },
    ),
    Puzzle(
        most_rounds,
        NOTEBOOK,
        "how many rounds can a fixed point need?",
        r"""
With a reset, a step needs the spike before it. A *fixed point* guesses all spikes: at first, none. A round computes every
potential from the guess, $h_t = v_{t-1} - v_{t-1} / \tau + x_t$ and $v_t = h_t - s_t$ with the guessed spikes $s$, beginning at
$v = 0$. Then the new guess is a spike wherever $h_t \ge 1$. This is repeated until nothing changes, and the guess is right.

How many rounds can it take? Return a current, an array of `steps` numbers, for which as many rounds as possible change a spike.
The time constant `tau` is above 1. The picture shows the last round that changes each time step.
""",
        (
            "Step 0 needs no guess: it is right after round 1; step 1 after round 2, and so on. So when must each step change?",
            "At its last chance, when the spike before it has just changed. With that spike it must be silent, and fire without.",
            "A spike takes 1 off, of which `keep = 1 - 1 / tau` is left a step later. Aim halfway: `1 + keep / 2` without it.",
            "Follow `h` and its spike `s`: append `1 + keep / 2 - keep * h`; then `h` becomes `1 + keep / 2 - keep * s`.",
        ),
        rounds_cases,
        "last round that changes it",
        {
            "It never fires, so the first guess was right. Let the first step fire, and then make the second depend on that.": (
                constant(0.0)
            ),
            "It fires at every step, reset or not: round 1 has them all. A spike must keep the next step from firing.": (
                constant(2.0)
            ),
            "One round is missing: step 0 must fire already. (With a constant current, every step would fire then.)": (
                constant(0.7)
            ),
            "One spike, and nobody asks about it: the next step must be so near the threshold that the spike decides.": (
                lambda steps, tau: np.array([1.0] + [0.0] * (steps - 1))
            ),
            "Every second step fires, whether or not the last one did. It must be the spike before that decides.": (
                lambda steps, tau: np.array(([3.0, -3.0] * steps)[:steps])
            ),
            "You lose track of the potential: after a spike it is lower by 1, of which `1 - 1 / tau` is left a step later.": (
                aimed(lambda keep, s: 1 + keep / 2)
            ),
            "What a spike takes off leaks too: a step later it is `1 - 1 / tau`, not 1.": aimed(
                lambda keep, s: 1 + keep / 2 - s
            ),
            "The leak is not always half: use `tau`.": lambda steps, tau: most_rounds(steps, 2.0),
        },
    ),
    Puzzle(
        no_scan,
        NOTEBOOK,
        "a neuron that no scan can do",
        r"""
Our scans need *affine* steps: $v_t = a_t v_{t-1} + b_t$, with $a_t$ and $b_t$ known beforehand. They may be made of the
current, and even of the spikes, where these are guessed: then a reset is no obstacle. Write a neuron that no scan can do even
so, and say why. `Neuron` is the library's base class. An answer looks like this one, which is LIF, and wrong:

```python
class Mine(Neuron):
    tau: float = 4.0
    v_threshold: float = 1.0

    def charge(self, v, x):
        return v - v / self.tau + x

return Mine, "reset"
```

The reason is one word: `"reset"` (a spike moves the potential), `"threshold"` (it is not always the same), `"input"` (what is
kept of v depends on the current) or `"state"` (what is kept of v depends on v).
""",
        (
            "A scan must know how much of `v` a step keeps, before it knows `v`. How could that be impossible?",
            "LIF keeps the share `1 - 1 / tau` of every `v`. Add something to `charge` whose slope is not the same everywhere.",
            "A square will do, as in a quadratic neuron: `v - v / self.tau + v * v / 8 + x`. So will `abs(v)`. And the reason?",
        ),
        lambda: [Case("your neuron", {}, np.ones(len(TESTS)), ("test",), TESTS, run=tested)],
        "passed",
    ),
)
