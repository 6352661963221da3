r"""Is a step affine in the states? Then time is a scan.

A step is affine where the states after it are a matrix times the states before it, plus a vector::

    z[t] = A[t] z[t-1] + b[t]           A, b of x[t] and the parameters

Two such steps are one such step, (A2, b2) after (A1, b1) = (A2 A1, A2 b1 + b2), and that product is associative: T steps may be
combined in any grouping, in log2 T rounds (Blelloch, 1990). Two claims are kept apart:

    forward     affine only where no spike comes back: `why_not`. With a reset, s[t] is a comparison of the state. *Given* the
                spikes, as numbers, most neurons are affine again: `why_not(step, given_spikes=True)`.
    backward    always: once the forward values are known, the chain rule is linear in the gradient, for every neuron.

Whether it is so follows from the equations, by `sympy.diff`: no list of neurons.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol
from sympy.core.relational import Relational

from tfexplore.neurons.order import detached, first
from tfexplore.neurons.step import Step


@dataclass(frozen=True)
class Affine:
    """The states after a step as `matrix` times the states before it, plus `vector`.

    Args:
        matrix: A, STATES x STATES, row by row: of the parameters; of x only where the step multiplies x with a state, of s
            where the spikes are given.
        vector: b, STATES: of x and the parameters, and of s where the spikes are given.
    """

    matrix: tuple[tuple[Expr, ...], ...]
    vector: tuple[Expr, ...]

    def constant(self, step: Step) -> bool:
        """Whether A is the same at every step: then A over K steps is its K-th power."""
        return not any(a.free_symbols & {step.x, step.s} for row in self.matrix for a in row)


def affine_of(step: Step, given_spikes: bool = False) -> Affine:
    """A step as A z + b.

    Args:
        step: a neuron's equations, from `step_of`.
        given_spikes: take the spikes as numbers that are known already.

    Raises:
        ValueError: with the reason, where the step is not affine in its states.

    Example:
        >>> from tfexplore import neurons
        >>> affine_of(neurons.step_of(neurons.LIF(reset="none")))
        Affine(matrix=((1 - 1/tau,),), vector=(x + v_reset/tau,))
    """
    if reason := why_not(step, given_spikes):
        raise ValueError(f"The forward pass of {step.name} is no scan over time: {reason}.")
    return _taken_apart(step)


@functools.lru_cache(maxsize=256)
def _taken_apart(step: Step) -> Affine:
    after, nothing = _after(step), dict.fromkeys(step.before, sympy.S.Zero)
    matrix = tuple(tuple(sympy.expand(sympy.diff(value, z)) for z in step.before) for value in after)
    return Affine(matrix, tuple(sympy.expand(value.xreplace(nothing)) for value in after))


def _after(step: Step) -> tuple[Expr, ...]:
    """The states after a step, of those before it, x and s; the marks of order.py change no value."""
    charged = dict(zip(step.charged, step.charge, strict=True))
    return tuple(
        value.xreplace(charged).replace(first, lambda a: a).replace(detached, lambda a: a) for value in step.reset
    )


@functools.lru_cache(maxsize=256)
def why_not(step: Step, given_spikes: bool = False) -> str:
    """Why the forward pass is no scan over time, or "".

    >>> from tfexplore import neurons
    >>> step = neurons.step_of(neurons.CubaLIF())
    >>> print(why_not(step))
    its v[t] depends on its own spike, which is a comparison of the state (reset='soft')
    >>> why_not(step, given_spikes=True), why_not(neurons.step_of(neurons.CubaLIF(reset="none")))
    ('', '')
    >>> print(why_not(neurons.step_of(neurons.QIF()), given_spikes=True))
    its step is not affine in v: dv[t]/dv[t-1] = 2*a*v/tau - a*v_c/tau - a*v_rest/tau + 1, not a number
    """
    after = _after(step)
    for z, value in zip(step.before, after, strict=True):  # the equation first: with it, nothing helps
        for before in step.before:
            slope = sympy.expand(sympy.diff(value, before))
            if slope.free_symbols & {*step.before}:
                calm = slope.subs(step.s, 0)  # shorter, and as telling, unless the spike alone bends it
                known = calm if calm.free_symbols & {*step.before} else slope
                return (
                    f"its step is not affine in {before.name}: d{z.name}[t]/d{before.name}[t-1] = {known}, not a number"
                )
        # between the jumps of a Piecewise of numbers all slopes are 0
        if compared := {a for c in value.atoms(Relational) for a in c.free_symbols} & {*step.before}:
            return f"its {z.name}[t] depends on a comparison of {', '.join(sorted(map(str, compared)))}"
    if given_spikes:
        return ""
    names = [z.name for z, value in zip(step.before, after, strict=True) if step.s in value.free_symbols]
    if not names:
        return ""
    how = f" (reset={_reset_of(step)!r})" if names == [step.before[0].name] else ""
    what = " and ".join(f"{name}[t]" for name in names)
    return f"its {what} depend{'s' * (len(names) == 1)} on its own spike, which is a comparison of the state{how}"


def _reset_of(step: Step) -> str:
    """The reset by its effect: "hard" where a spike cuts v off from its past."""
    v = step.reset[0].subs(step.s, 1)
    return "hard" if not v.free_symbols & {*step.charged} else "soft"


def cuts(step: Step) -> bool:
    """Whether a spike cuts the past: the states after it are numbers, whatever they were before (a hard reset of the only state).

    >>> from tfexplore import neurons
    >>> cuts(neurons.step_of(neurons.LIF(reset="hard"))), cuts(neurons.step_of(neurons.LIF()))
    (True, False)
    """
    known: set[Symbol] = {step.x, *step.before, *step.charged}
    return step.fire is not None and not any(value.subs(step.s, 1).free_symbols & known for value in step.reset)
