r"""The backward pass of one time step, derived from its equations with `sympy.diff`: none is hand-written.

With the gradients that arrive at a step, g_out of its output and g_z of every state it left behind, the chain rule
through charge -> fire -> reset reads::

    g_s   = g_out + sum_z g_z dz/ds             (the sum leaves out v where the reset is detached)
    g_u   = g_s * surrogate'(u)
    g_h   = g_u du/dh + sum_z g_z dz/dh         one for each charged state
    g_x   = sum_h g_h dh/dx                     what the layer below receives
    g_z'  = sum_h g_h dh/dz'                    what the step before receives
    g_p   = sum over all of them, d/dp          for each learned parameter p, to be summed over time

Without a temporal gradient every g_z' is 0 (Meng et al., ICCV 2023): each step has the gradients of its own output and traces,
the last step also those of the states that it left.

`adjoint_of` fills in the partial derivatives, drops what is zero, and lists what it needs of the forward pass. Where that is
the outcome of comparisons only (did it fire? was u within the surrogate's window?), `in_bits` makes each a bit.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol
from sympy.core.relational import Relational

from tfexplore.neurons.step import Step, real

Assignments = list[tuple[Symbol, Expr]]


@dataclass(frozen=True)
class Adjoint:
    """Straight-line code for the backward pass of one step, in the order of evaluation.

    Args:
        g_out: the gradient that arrives at the output.
        g_traced: those that arrive at the traces of the step, where they are handed out.
        g_after: those that arrive at the states that the step left.
        body: the assignments.
        g_x: the gradient of the input current.
        g_before: the gradients of the states before the step.
        g_learned: the gradients of the learned parameters, to be summed over time.
        needs: the values of the forward step that the code mentions (of x, the states before and the charged states): what
            keep="potential" saves for backward at every step.
        recomputed: which of u and s it computes anew from those.
        bits: after `in_bits`, the comparisons whose outcomes the code mentions instead, each under the name of its bit.
    """

    g_out: Symbol
    g_traced: tuple[Symbol, ...]
    g_after: tuple[Symbol, ...]
    body: tuple[tuple[Symbol, Expr], ...]
    g_x: Symbol
    g_before: tuple[Symbol, ...]
    g_learned: tuple[Symbol, ...]
    needs: tuple[Symbol, ...]
    recomputed: frozenset[Symbol]
    bits: tuple[tuple[Symbol, Relational], ...] = ()


def diff(value: Expr, symbol: Symbol) -> Expr:
    """`sympy.diff`, with slope 0 where a Heaviside or a sign of the equations jumps, as torch has it."""
    return sympy.diff(value, symbol).replace(sympy.DiracDelta, lambda *_: sympy.S.Zero)


def adjoint_of(step: Step, traced: tuple[str, ...] = ()) -> Adjoint:
    """The backward pass of a step, by the chain rule.

    Args:
        step: a neuron's equations, from `step_of`.
        traced: the variables at which a gradient of their own arrives too, as a layer hands them out: "h", or a state.

    Returns:
        The assignments, and what they need of the forward pass.

    Example:
        >>> from tfexplore import neurons
        >>> adjoint = neurons.adjoint_of(neurons.step_of(neurons.IF()))
        >>> [f"{symbol} = {value}" for symbol, value in adjoint.body][2:]
        ['g_u = g_s*slope', 'g_h_v = g_u + g_v_next', 'g_x = g_h_v', 'g_v = g_h_v']
        >>> adjoint.needs
        (h_v,)
    """
    g_out = real("g_out")
    g_after = tuple(real(f"g_{z.name}_next") for z in step.before)
    g_charged = tuple(real(f"g_{h.name}") for h in step.charged)
    g_before = tuple(real(f"g_{z.name}") for z in step.before)
    g_s, slope, g_u, g_x = map(real, ("g_s", "slope", "g_u", "g_x"))
    g_learned = tuple(real(f"g_{p.name}") for p in step.learned)
    g_traced = {name: real(f"g_traced_{name}") for name in traced}
    spiking = step.fire is not None
    body: Assignments = []

    # what arrives at each state the step left; LI's output is its potential itself
    arrived = list(g_after) if spiking else [g_after[0] + g_out, *g_after[1:]]
    arrived = [g + g_traced.get(z.name, 0) for g, z in zip(arrived, step.before, strict=True)]

    if step.fire is not None:
        through_reset = [
            g * diff(z, step.s)
            for k, (g, z) in enumerate(zip(arrived, step.reset, strict=True))
            if not (k == 0 and step.detach_reset)
        ]
        body.append((g_s, g_out + sum(through_reset)))
        body += [(slope, step.slope), (g_u, g_s * slope)]

    def behind_charge(to: Symbol) -> Expr:
        """The gradient of `to` through the reset's own mention of it, and through fire."""
        total = sum((g * diff(z, to) for g, z in zip(arrived, step.reset, strict=True)), sympy.S.Zero)
        return total if step.fire is None else total + g_u * diff(step.fire, to)

    def through_charge(to: Symbol) -> Expr:
        return sum((g * diff(h, to) for g, h in zip(g_charged, step.charge, strict=True)), sympy.S.Zero)

    body += [(g, behind_charge(h)) for g, h in zip(g_charged, step.charged, strict=True)]
    if "h" in g_traced:
        body[-len(g_charged)] = (g_charged[0], body[-len(g_charged)][1] + g_traced["h"])
    body.append((g_x, through_charge(step.x)))
    through_time = through_charge if step.temporal_gradient else lambda _: sympy.S.Zero
    body += [(g, through_time(z)) for g, z in zip(g_before, step.before, strict=True)]
    body += [(g, behind_charge(p) + through_charge(p)) for g, p in zip(g_learned, step.learned, strict=True)]
    body = leading_to({g_x, *g_before, *g_learned}, body)

    mentioned = set().union(*(value.free_symbols for _, value in body))
    # s is a function of u, and u of the charged states
    recomputed = {step.u, step.s} if step.s in mentioned else {step.u} & mentioned
    if recomputed and step.fire is not None:
        mentioned |= step.fire.free_symbols
    needs = tuple(symbol for symbol in (*step.charged, *step.before, step.x) if symbol in mentioned)
    arrives = tuple(g_traced.values())
    return Adjoint(g_out, arrives, g_after, tuple(body), g_x, g_before, g_learned, needs, frozenset(recomputed))


def leading_to(results: set[Symbol], body: Assignments) -> Assignments:
    """The assignments that the results follow from: without a temporal gradient, some lead nowhere."""
    wanted, kept = set(results), []
    for symbol, value in reversed(body):
        if symbol in wanted:
            wanted |= value.free_symbols
            kept.append((symbol, value))
    return kept[::-1]


BYTE = 8
"""Bits of one time step: they share a byte."""


def in_bits(adjoint: Adjoint, step: Step) -> Adjoint:
    """The same code with a bit for every comparison of the forward step's values, and for the spike; `needs` is what remains.

    Nothing remains where, given the bits, every coefficient takes one of finitely many values: then keep="bits" is exact,
    and to the last digit, since the code computes what it computed before.

    >>> from tfexplore import neurons
    >>> from tfexplore.neurons import surrogates
    >>> from tfexplore.neurons.step import step_of
    >>> step = step_of(neurons.LIF(surrogate=surrogates.Rectangle(), reset="hard"))
    >>> bits = in_bits(adjoint_of(step), step)
    >>> [str(comparison) for _, comparison in bits.bits], bits.needs
    (['Abs(u) < surrogate_width/2', 'u >= 0'], ())
    """
    seen = {step.u, step.s, step.x, *step.before, *step.charged}
    found: dict[Relational, Symbol] = {}

    def bit(comparison: Relational) -> Symbol:
        return found.setdefault(comparison, real(f"bit_{len(found)}"))

    def with_bits(value: Expr) -> Expr:
        value = value.replace(
            sympy.Heaviside, lambda u, at_0: sympy.Piecewise((1, u >= 0 if at_0 else u > 0), (0, True))
        )
        value = value.replace(sympy.sign, lambda u: sympy.Piecewise((1, u > 0), (-1, u < 0), (0, True)))
        comparisons = [c for c in value.atoms(Relational) if c.free_symbols & seen]
        return value.xreplace({c: bit(c) for c in sorted(comparisons, key=sympy.default_sort_key)})

    body = [(symbol, with_bits(value)) for symbol, value in adjoint.body]
    if any(step.s in value.free_symbols for _, value in body):
        body.insert(0, (step.s, sympy.Piecewise((1, bit(step.fires)), (0, True))))
    written = {symbol for symbol, _ in body}
    left = set().union(*(value.free_symbols for _, value in body)) & seen - written
    needs = tuple(sorted(left, key=lambda symbol: symbol.name))
    bits = tuple((symbol, comparison) for comparison, symbol in found.items())
    return dataclasses.replace(adjoint, body=tuple(body), needs=needs, recomputed=frozenset(), bits=bits)


@functools.lru_cache(maxsize=256)
def transition(adjoint: Adjoint) -> tuple[tuple[Expr, ...], ...]:
    """What one unit of each g_after adds to each g_before: the matrix of the step backwards, row by row.

    Of parameters only, it is the same at every step. (The transpose of the step's own matrix, where no spike comes back.)

    >>> from tfexplore import neurons
    >>> transition(adjoint_of(neurons.step_of(neurons.LIF())))
    ((1 - 1/tau,),)
    """
    found: dict[Symbol, Expr] = {}
    for symbol, value in adjoint.body:
        found[symbol] = value.xreplace(found)
    return tuple(tuple(sympy.diff(found.get(g, sympy.S.Zero), z) for z in adjoint.g_after) for g in adjoint.g_before)


def with_matrix(adjoint: Adjoint) -> Adjoint:
    """The same code, which also carries along what a unit of each g_after becomes; without the gradients of parameters.

    With STATES gradients arriving, STATES (1 + STATES) leave: those, then for each of them the STATES that a unit of it would
    make, all by the same coefficients.

    >>> from tfexplore import neurons
    >>> carried = with_matrix(adjoint_of(neurons.step_of(neurons.LI())))
    >>> carried.g_before, carried.body[-1]
    ((g_v, g_v_of_g_v_next), (g_v_of_g_v_next, g_v_next_of_g_v_next*(1 - 1/tau)))
    """
    arriving = {adjoint.g_out, *adjoint.g_traced, *adjoint.g_after}
    absent = dict.fromkeys({adjoint.g_out, *adjoint.g_traced}, sympy.S.Zero)
    body, after, before = list(adjoint.body), [*adjoint.g_after], [*adjoint.g_before]
    for unit in adjoint.g_after:
        renamed: dict[Symbol, Expr] = {g: real(f"{g.name}_of_{unit.name}") for g in adjoint.g_after}
        after += [renamed[g] for g in adjoint.g_after]
        for symbol, value in adjoint.body:
            if value.free_symbols & (arriving | renamed.keys()):
                moved, renamed[symbol] = value.xreplace(absent | renamed), real(f"{symbol.name}_of_{unit.name}")
                if moved.is_zero:
                    renamed[symbol] = sympy.S.Zero
                else:
                    body.append((renamed[symbol], moved))
        for g in adjoint.g_before:
            before.append(real(f"{g.name}_of_{unit.name}"))
            if renamed.get(g, sympy.S.Zero).is_zero:
                body.append((before[-1], sympy.S.Zero))
    body = leading_to({adjoint.g_x, *before}, body)
    return dataclasses.replace(adjoint, g_after=tuple(after), body=tuple(body), g_before=tuple(before), g_learned=())
