r"""How far sums in another order may be from the serial kernel's, and which spikes that may flip.

A scan groups the same sums differently, so that the last digits of the states differ. A spike is the sign of u: it can flip only
where `|u|` is within that difference. The bound, with the unit roundoff e (2^-24 in float32)::

    G[t] = |A[t]| G[t-1] + |b[t]|            the terms of z[t], without cancelling: |z| <= G
    M[t] = what enters step t, likewise: every term of its equation by its absolute value, of G[t-1] and |x[t]|
    E[t] = |A[t]| E[t-1] + (2 c + S + 1) e M[t]       and 2 log2 T e G[t] on top of it

c operations of a step round, in the kernel and in A and b; each combine of S states rounds S products and sums more, and a term
goes through up to 2 log2 T additions of a tree (by the rules of Higham, Accuracy and Stability of Numerical Algorithms, 2002,
chapters 3 and 4). What a step rounds is forgotten as the state is, by `|A|`: E grows with T only without a leak. All of it is a
scan, of course.

The two runs have seen the same spikes only up to the first flip of a neuron. That one must be within the bound; what follows is
another trajectory, and its flips are consequences.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from sympy import Expr
from torch import Tensor

from tfexplore.backends import torch_reference
from tfexplore.codegen.functions import Function
from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step, real
from tfexplore.nn.routes import state_dtype
from tfexplore.scan.pairs import associative, combine
from tfexplore.scan.steps import Equations, States, check_spikes

SECOND_ORDER = 1.01
"""Products of roundoffs, left out above: n e / (1 - n e) instead of n e, for n e up to a hundredth."""


@dataclass(frozen=True)
class Flips:
    """Where two runs of the same neurons differ in their spikes.

    Args:
        total: element-steps that differ.
        neurons: neurons with at least one.
        explained: of those, the neurons whose first one has `|u|` within the bound.
        largest: the largest `|u| / bound` of a first one; 0 without any.
    """

    total: int
    neurons: int
    explained: int
    largest: float


def rounding_bound(neuron: Neuron, x: Tensor, spikes: Tensor, state: States | None = None) -> Tensor:
    """How far u of a scan, by any of the ways `HOW`, may be from u of the serial loop, where both have seen these spikes.

    Args:
        neuron: one that is affine given its spikes.
        x: the input current, `[T, B, *features]`, in the dtype that both ran in.
        spikes: of x's shape.
        state: the states before the first step.

    Returns:
        `[T, B, *features]` in float64.

    Example:
        Without a leak it grows with T, with one it does not:

        >>> from tfexplore import neurons
        >>> x = torch.ones(1000, 1, 1)
        >>> for kind in (neurons.IF(reset="none"), neurons.LIF(tau=2.0, reset="none")):
        ...     bound = rounding_bound(kind, x, 0 * x).flatten()
        ...     print(f"{bound[10]:.0e} {bound[100]:.0e} {bound[-1]:.0e}")
        4e-05 3e-03 2e-01
        9e-06 9e-06 9e-06
    """
    check_spikes(spikes, x)
    real_dtype = state_dtype(x.dtype)
    on = Equations(neuron, x.to(real_dtype).double())
    e = torch.finfo(real_dtype).eps / 2 * SECOND_ORDER
    with torch.no_grad():
        operations, absolute = _absolute(on.step)
        sizes = [
            torch.as_tensor(value, dtype=on.x.dtype).expand_as(on.x) for value in absolute(on.x, spikes.double(), on.p)
        ]
        states = len(on.step.before)
        square = states * states
        a, most_a = (
            torch.stack(sizes[k * square : (k + 1) * square], 1).unflatten(1, (states, states)) for k in (0, 1)
        )
        b, u, most_u = (
            torch.stack(sizes[2 * square + k * states : 2 * square + (k + 1) * states], 1) for k in range(3)
        )
        start = torch.stack(on.start(None if state is None else tuple(z.double() for z in state))).abs()
        terms = associative(a, b, start)
        terms_before = torch.cat([start[None], terms[:-1]]) if len(x) else terms
        enters = combine((None, terms_before), (most_a, b))[1]
        assert enters is not None
        error = associative(a, (2 * operations + states + 1) * e * enters)
        error = error + 2 * math.ceil(math.log2(max(len(x), 2))) * e * terms
        before = torch.cat([torch.zeros_like(error[:1]), error[:-1]]) if len(x) else error
        return (u * before).sum(1) + 2 * operations * e * ((most_u * terms_before).sum(1) + sizes[-1])


def flips(spikes: Tensor, reference: Tensor, u: Tensor, bound: Tensor) -> Flips:
    """Counts the spikes that differ, and asks of each neuron's first one whether rounding explains it.

    Args:
        spikes, reference: of the two runs, `[T, ...]`.
        u: the distance from the threshold in one of them.
        bound: of `rounding_bound`, for the spikes of that one.

    Example:
        >>> one, other = torch.tensor([[0.0, 1.0, 1.0]]).T, torch.tensor([[0.0, 0.0, 1.0]]).T
        >>> flips(one, other, u=torch.tensor([[-0.5, 1e-8, 0.2]]).T, bound=torch.full((3, 1), 1e-6))
        Flips(total=1, neurons=1, explained=1, largest=0.01)
    """
    differs = spikes != reference
    if not bool(differs.any()):
        return Flips(0, 0, 0, 0.0)
    differs = differs.reshape(len(spikes), -1)
    some = differs.any(0)
    first = differs.to(torch.uint8).argmax(0, keepdim=True)
    distance = (u.double().abs() / bound).reshape(len(spikes), -1).gather(0, first)[0][some]
    return Flips(int(differs.sum()), int(some.sum()), int((distance <= 1).sum()), round(float(distance.max()), 6))


def size_of(value: Expr) -> Expr:
    """Every term of a sum by its absolute value.

    >>> v, tau = real("v"), real("tau")
    >>> size_of(v - v / tau)
    Abs(v) + Abs(v/tau)
    """
    return sympy.Add(*(sympy.Abs(term) for term in sympy.Add.make_args(sympy.expand(value))))


@functools.cache
def _absolute(step: Step) -> tuple[int, Callable[..., tuple[Any, ...]]]:
    """The operations of a step, and on tensors |A|, A and b by terms, |du/dz|, du/dz and the rest of u by terms."""
    affine, nothing = affine_of(step, given_spikes=True), dict.fromkeys(step.before, sympy.S.Zero)
    u = (step.charged[0] if step.fire is None else step.fire).xreplace(
        dict(zip(step.charged, step.charge, strict=True))
    )
    slopes = [sympy.expand(sympy.diff(u, z)) for z in step.before]
    entries = [entry for row in affine.matrix for entry in row]
    values = [
        *map(sympy.Abs, entries),
        *map(size_of, entries),
        *map(size_of, affine.vector),
        *map(sympy.Abs, slopes),
        *map(size_of, slopes),
        size_of(u.xreplace(nothing)),
    ]
    names = tuple(real(f"size_{k}") for k in range(len(values)))
    function = Function(
        "sizes",
        (("x", step.x), ("s", step.s), ("p", (*step.scalars, *step.per_neuron))),
        tuple(zip(names, values, strict=True)),
        (("sizes", names),),
    )
    written = [*step.charge, *step.reset, *([] if step.fire is None else [step.fire])]
    operations = sum(int(sympy.count_ops(value)) + len(value.atoms(sympy.Number)) for value in written)
    return operations, torch_reference.on_tensors([function], step.name)["sizes"]
