r"""The way back through one time step, derived from its equations with `sympy.diff`: nobody writes a backward by hand.

With the gradients that arrive at a step, g_out of its output and g_z of every state it left behind, the chain rule
through charge -> fire -> reset reads

    g_s   = g_out + sum_z g_z dz/ds             (the sum leaves out v where the reset is detached)
    g_u   = g_s * surrogate'(u)
    g_h   = g_u du/dh + sum_z g_z dz/dh         one for each charged state
    g_x   = sum_h g_h dh/dx                     what the layer below receives
    g_z'  = sum_h g_h dh/dz'                    what the step before receives
    g_p   = sum over all of them, d/dp          for each learned parameter p, to be summed over time

`adjoint_of` fills in the partial derivatives, drops what is zero, and lists what must be known of the way there.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol

from tfexplore.step import Step, real

Assignments = list[tuple[Symbol, Expr]]


@dataclass(frozen=True)
class Adjoint:
    """Straight-line code for one step backwards, in the order of evaluation.

    `needs`: the values of the forward step that the code mentions (of x, the states before and the charged states):
    what keep="potential" must store for every step. `recomputed`: which of u and s it computes anew from those.
    """

    g_out: Symbol
    g_after: tuple[Symbol, ...]
    body: tuple[tuple[Symbol, Expr], ...]
    g_x: Symbol
    g_before: tuple[Symbol, ...]
    g_rows: tuple[Symbol, ...]
    needs: tuple[Symbol, ...]
    recomputed: frozenset[Symbol]


def diff(value: Expr, symbol: Symbol) -> Expr:
    """`sympy.diff`, with slope 0 where a Heaviside or a sign of the equations jumps, as torch has it."""
    return sympy.diff(value, symbol).replace(sympy.DiracDelta, lambda *_: sympy.S.Zero)


def adjoint_of(step: Step) -> Adjoint:
    g_out = real("g_out")
    g_after = tuple(real(f"g_{z.name}_next") for z in step.before)
    g_charged = tuple(real(f"g_{h.name}") for h in step.charged)
    g_before = tuple(real(f"g_{z.name}") for z in step.before)
    g_s, slope, g_u, g_x = map(real, ("g_s", "slope", "g_u", "g_x"))
    g_rows = tuple(real(f"g_{p.name}") for p in step.rows)
    spiking = step.fire is not None
    body: Assignments = []

    # what arrives at each state the step left; LI's output is its potential itself
    arrived = list(g_after) if spiking else [g_after[0] + g_out, *g_after[1:]]

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
    body.append((g_x, through_charge(step.x)))
    body += [(g, through_charge(z)) for g, z in zip(g_before, step.before, strict=True)]
    body += [(g, behind_charge(p) + through_charge(p)) for g, p in zip(g_rows, step.rows, strict=True)]

    mentioned = set().union(*(value.free_symbols for _, value in body))
    # s is a function of u, and u of the charged states
    recomputed = {step.u, step.s} if step.s in mentioned else {step.u} & mentioned
    if recomputed and step.fire is not None:
        mentioned |= step.fire.free_symbols
    needs = tuple(symbol for symbol in (*step.charged, *step.before, step.x) if symbol in mentioned)
    return Adjoint(g_out, g_after, tuple(body), g_x, g_before, g_rows, needs, frozenset(recomputed))
