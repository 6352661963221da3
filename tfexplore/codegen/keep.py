"""What a layer's forward pass keeps for its backward pass: the choices, which are exact, and which is the fastest.

    potential   the values that the adjoint needs of every step       words: 2 + needs there, 2 + needs back
    input       x, and the states between chunks of time               2 there, 3 back, and the steps computed twice
    bits        the outcomes of comparisons, a bit or two each         2 there, 2 back; not exact for every neuron

"auto" takes "bits" where it is exact: it moves the fewest bytes and keeps the fewest. Else "input", except on the CPU for a
neuron whose step computes a function (EIF's exp): computing it twice costs more than a word. That is the order of
benchmarks/results (benchmark "keep") for every neuron of the library on a CPU, and for LIF on a GPU (benchmark "neuron", H200).
"""

from __future__ import annotations

import functools

from sympy import Function

from tfexplore.neurons.adjoint import why_not_bits
from tfexplore.neurons.step import Step

KEEP = ("potential", "input", "bits")


def check(keep: str, step: Step, smooth: bool = False) -> None:
    """Raises ValueError, with the reason, for an unknown choice or one that would not be exact for this neuron."""
    if keep not in (allowed := ("auto", *KEEP)):
        raise ValueError(f"keep must be one of {', '.join(map(repr, allowed))}, but got {keep!r}.")
    if keep == "bits" and (reason := why_not(step, smooth)):
        raise ValueError(f"keep='bits' is not exact for this {step.name}: {reason}. Use keep='input' or keep='auto'.")


@functools.lru_cache(maxsize=256)
def why_not(step: Step, smooth: bool = False) -> str:
    """Why keep="bits" would not be exact, or "".

    >>> from tfexplore import neurons
    >>> from tfexplore.neurons import surrogates
    >>> from tfexplore.neurons.step import step_of
    >>> why_not(step_of(neurons.LIF(surrogate=surrogates.Rectangle())))
    ''
    >>> print(why_not(step_of(neurons.LIF(surrogate=surrogates.Rectangle(), reset="hard", detach_reset=False))))
    its backward pass needs the value of v, not only the outcomes of comparisons
    """
    return "a smooth spike is a number, not a bit" if smooth else why_not_bits(step)


@functools.lru_cache(maxsize=256)
def fastest(step: Step, backend: str, smooth: bool = False) -> str:
    """What "auto" takes.

    >>> from tfexplore import neurons
    >>> from tfexplore.neurons.step import step_of
    >>> [fastest(step_of(neuron), "numba") for neuron in (neurons.LIF(), neurons.EIF(), neurons.LI())]
    ['input', 'potential', 'bits']
    """
    if not why_not(step, smooth):
        return "bits"
    computes = any(value.has(Function) for value in step.charge)
    return "potential" if backend == "numba" and computes else "input"
