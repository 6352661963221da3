"""What a layer's forward pass saves for backward: the choices, which are exact, and which is the fastest::

    potential   the values that the adjoint needs of every step       words: 2 + needs forward, 2 + needs backward
    input       x, and the states every K steps; the rest is           2 forward, 3 backward, and the steps computed twice
                recomputed chunk by chunk (chunked checkpointing)
    bits        the outcomes of comparisons, a bit or two each         2 forward, 2 backward; not exact for every neuron

"auto" takes "bits" where it is exact: it moves the fewest bytes and saves the fewest. Else "input", except on the CPU for a
neuron whose step computes a function (EIF's exp): computing it twice costs more than a word. That is the order of
benchmarks/results (benchmark "keep") for every neuron of the library on a CPU, and for LIF on a GPU (benchmark "neuron", H200).
"""

from __future__ import annotations

import functools

from sympy import Function

from tfexplore.neurons.adjoint import BYTE, adjoint_of, in_bits
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
    if smooth:
        return "a smooth spike is a number, not a bit"
    adjoint = in_bits(adjoint_of(step), step)
    if adjoint.needs:
        names = sorted({symbol.name.removeprefix("h_") for symbol in adjoint.needs})
        by_surrogate = step.u in step.slope.free_symbols and step.u in adjoint.needs
        hint = " (a Rectangle surrogate only compares u with its edges)" if by_surrogate else ""
        return f"its backward pass needs the value of {' and '.join(names)}, not only the outcomes of comparisons{hint}"
    if len(adjoint.bits) > BYTE:
        return f"its backward pass needs {len(adjoint.bits)} comparisons of a step, and a byte holds the outcomes of {BYTE}"
    return ""


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
