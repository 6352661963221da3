# mypy: allow-untyped-defs
"""Puzzles of notebook 05, training: reading the answer off the spikes, and what fusion can save at most."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfexplore.puzzles.puzzle import Array, Case, Function, Memory, Puzzle


def spike_count(s):
    """The class that each example is read as, from the spikes s [T, examples, classes]: an array of one number per example."""
    ### BEGIN SOLUTION
    return np.argmax(np.sum(s, axis=0), axis=1)
    ### END SOLUTION


def amdahl(parts, name, times):
    """How many times as fast the whole is when the part of this name runs `times` times as fast. parts: name -> milliseconds."""
    ### BEGIN SOLUTION
    before = sum(parts.values())
    after = before - parts[name] + parts[name] / times
    return before / after
    ### END SOLUTION


def counted(s: Array) -> Array:
    """The classes by a plain loop: the largest count; of equal ones the first."""
    guesses = []
    for example in range(s.shape[1]):
        counts = [int(s[:, example, k].sum()) for k in range(s.shape[2])]
        guesses.append(counts.index(max(counts)))
    return np.array(guesses, float)


def count_cases() -> list[Case]:
    rng = np.random.default_rng(7)
    rates = rng.uniform(0.1, 0.6, (12, 10))
    s = (rng.random((25, 12, 10)) < rates).astype(float)
    tie = np.zeros((4, 2, 3))
    tie[0, 0, 1] = tie[3, 0, 2] = tie[1, 1, 2] = 1  # classes 1 and 2 have one spike each in the first example
    return [
        Case("two examples, one with a tie", {"s": tie}, counted(tie), ("example k",)),
        Case("12 examples of 10 classes, 25 time steps", {"s": s}, counted(s), ("example k",)),
    ]


FACTORS = np.array([1, 2, 5, 10, 20, 50, np.inf])


def faster(function: Function, memory: Memory, parts: dict[str, float], name: str) -> list[Any]:
    return [function(parts=dict(parts), name=name, times=float(times)) for times in FACTORS]


def amdahl_cases() -> list[Case]:
    cases = []
    for name, parts in {
        "neurons that take 80 of 100 ms": {"neurons": 80.0, "linear": 12.0, "optimiser": 5.0, "Python": 3.0},
        "neurons that take 3 of 4 ms": {"neurons": 3.0, "linear": 0.5, "optimiser": 0.5},
    }.items():
        share = parts["neurons"] / sum(parts.values())
        expected = 1 / ((1 - share) + share / FACTORS)  # Amdahl's own formula, in shares
        given = {"parts": parts, "name": "neurons"}
        labels = [*map(str, FACTORS[:-1].astype(int)), "infinite"]
        cases.append(Case(name, given, expected, ("times",), labels, faster))
    return cases


PUZZLES = (
    Puzzle(
        spike_count,
        "05_train_a_network",
        "read the answer off the spikes",
        """
The last layer has one neuron per class. `s` holds its spikes, 0 or 1, of shape [T, examples, classes]. Each example is read as
the class whose neuron fired most often; of classes that fired equally often, take the first. Return one class number per
example.
""",
        (
            "First count the spikes: sum over time, which is the first axis (axis 0). What shape is left?",
            "[examples, classes] is left. `np.argmax(counts, axis=...)` gives the place of the largest, the first of equal ones.",
        ),
        count_cases,
        "class",
        {
            "These are the numbers of spikes. Which class had most?": lambda s: np.max(np.sum(s, axis=0), axis=1),
            "It looks at the last time step only: count the spikes of all.": lambda s: np.argmax(s[-1], axis=1),
            "It looks at the first time step only: count the spikes of all.": lambda s: np.argmax(s[0], axis=1),
            "These are the classes that fired least.": lambda s: np.argmin(np.sum(s, axis=0), axis=1),
        },
    ),
    Puzzle(
        amdahl,
        "05_train_a_network",
        "what fusion can save at most",
        """
A training step is made of parts: `parts` is a dictionary that says how many milliseconds each takes. Now the part called `name`
runs `times` times as fast, and the others as before. How many times as fast is the whole training step? (`times` may be
infinite: then the part takes no time at all.)
""",
        (
            "How long does the whole step take before? And after, when one part takes `parts[name] / times`?",
            "`before = sum(parts.values())`; afterwards the part's old time is gone and its new time is added.",
            "The answer is `before / after`. Dividing by infinity is fine in Python: it gives 0.",
        ),
        amdahl_cases,
        "times as fast",
        {
            "Only that part becomes so much faster. The others take as long as before.": lambda parts, name, times: (
                times
            ),
            "That is the new time as a share of the old one: turn it round.": (
                lambda parts, name, times: 1 - parts[name] / sum(parts.values()) * (1 - 1 / times)
            ),
            "That is the time after, in milliseconds. How many times as fast is it?": (
                lambda parts, name, times: sum(parts.values()) - parts[name] * (1 - 1 / times)
            ),
            "That is how much time is saved, in milliseconds.": (
                lambda parts, name, times: parts[name] * (1 - 1 / times)
            ),
        },
    ),
)
