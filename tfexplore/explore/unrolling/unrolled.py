r"""T steps of a neuron as one formula for v[T]: by substitution, or by the product of pairs.

Substitution puts the formula of v[t-1] into that of v[t]. It moves no bracket: what was computed first still is. The product of
pairs writes an affine step z[t] = A z[t-1] + b as (A, b), and uses that two steps are one, (A2, b2) after (A1, b1) =
(A2 A1, A2 b1 + b2), in any grouping: here as a balanced tree. That is a transformation, by the laws of distribution and
association, and it needs a step that is affine in its states (`tfexplore.neurons.affine`).

Counted in a formula: operations, equal parts once (`work`) or as often as they are written (`written`); the longest chain of
operations that wait for each other (`depth`); and the most comparisons within a comparison (`nested`), which no law of arithmetic
takes apart. Terms of one sum may be added in any grouping: SymPy keeps no order among them.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol

from tfexplore.neurons.affine import affine_of, why_not
from tfexplore.neurons.parameters import checked_count
from tfexplore.neurons.step import Step, real

SUBSTITUTED, PAIRED = "substituted", "in pairs"


@dataclass(frozen=True)
class Formula:
    """v after some steps, as a formula of v before and of the inputs x_1, x_2, ...

    Args:
        value: it, of these and of what is `named`.
        named: parts of it, by the name that they have in what comes later; equal parts have one name.
    """

    value: Expr
    named: Mapping[Symbol, Expr]

    def in_full(self) -> Expr:
        """The formula with every name replaced by what it stands for. Keep T small: it grows by a factor with each step."""
        value = self.value
        for name in reversed(self.named):
            value = value.xreplace({name: self.named[name]})
        return value

    def latex(self) -> dict[str, str]:
        """What each name stands for, and at last v, as LaTeX."""
        return {
            sympy.latex(name): sympy.latex(part) for name, part in (*self.named.items(), (real("v_next"), self.value))
        }

    @functools.cached_property
    def parts(self) -> dict[Expr, tuple[Expr, ...]]:
        """Every different part, behind the parts that it is made of; and these."""
        found: dict[Expr, tuple[Expr, ...]] = {}

        def visit(part: Expr) -> None:
            if part not in found:
                inner = (self.named[part],) if part in self.named else part.args
                for each in inner:
                    visit(each)
                found[part] = inner

        visit(self.value)
        return found

    @property
    def work(self) -> int:
        """Operations, equal parts once."""
        return sum(map(operations, self.parts))

    @functools.cached_property
    def written(self) -> int:
        """Operations as the formula is written in full, equal parts every time."""
        count: dict[Expr, int] = {}
        for part, inner in self.parts.items():
            count[part] = operations(part) + sum(count[each] for each in inner)
        return count[self.value]

    @functools.cached_property
    def depth(self) -> int:
        """The longest chain of operations."""
        found: dict[Expr, int] = {}
        for part, inner in self.parts.items():
            found[part] = found[inner[0]] if part in self.named else depth(part, found)
        return found[self.value]

    @functools.cached_property
    def nested(self) -> int:
        """The most comparisons within each other."""
        found: dict[Expr, int] = {}
        for part, inner in self.parts.items():
            found[part] = max((found[each] for each in inner), default=0) + isinstance(part, sympy.Heaviside)
        return found[self.value]


def operations(part: Expr) -> int:
    """Operations at the top of a part: a sum of n terms n - 1, a product likewise, a sign none, a division one.

    >>> from sympy.abc import x, y
    >>> operations(x - y), operations(x / y), operations(-x), operations(-1 / x), operations(1 + 1 / x)
    (1, 1, 0, 1, 2)
    """
    if part.is_Atom or inverse(part):
        return 0
    if isinstance(part, sympy.Mul):
        factors = unsigned(part)
        return len(factors) - 1 + all(map(inverse, factors))
    return (len(part.args) - 1 if isinstance(part, sympy.Add) else 1) + sum(map(inverse, part.args))


def depth(part: Expr, found: Mapping[Expr, int]) -> int:
    """The longest chain of operations in a part, `found` having those of the parts that it is made of."""
    if part.is_Atom or inverse(part):
        return max((found[inner] for inner in part.args), default=0)
    if isinstance(part, sympy.Mul):
        factors = unsigned(part)
        return joined(found[each] for each in factors) + all(map(inverse, factors))
    inner = [found[each] + inverse(each) for each in part.args]
    return joined(inner) if isinstance(part, sympy.Add) else max(inner) + 1


def inverse(part: Expr) -> bool:
    """Whether a part is 1 / something: one operation with the product that it divides."""
    return isinstance(part, sympy.Pow) and part.exp is sympy.S.NegativeOne


def unsigned(product: Expr) -> list[Expr]:
    """The factors of a product without its sign."""
    return [each for each in product.args if each is not sympy.S.NegativeOne]


def joined(depths: Iterable[int]) -> int:
    """The depth of a sum or product of parts of these depths, two at a time, those that are ready first.

    >>> joined([0, 0, 0, 0]), joined([0, 0, 2])
    (2, 3)
    """
    heap = list(depths)
    heapq.heapify(heap)
    while len(heap) > 1:
        heapq.heapreplace(heap, max(heapq.heappop(heap), heap[0]) + 1)
    return heap[0]


class Names(dict[Symbol, Expr]):
    """Parts by name. An equal part gets the name that it has; a part without operations needs none."""

    def of(self, value: Expr, name: str) -> Expr:
        if value.is_Atom:
            return value
        known = next((symbol for symbol, each in self.items() if each == value), None)
        if known is None:
            self[known := real(name)] = value
        return known


def substituted(step: Step, steps: int) -> Formula:
    """v[T] with v[T-1] put into its formula, and so on.

    Args:
        step: a neuron's equations, from `tfexplore.neurons.step_of`.
        steps: T, from 1.

    Example:
        >>> from tfexplore import neurons
        >>> step = neurons.step_of(neurons.IF(v_threshold=1.0))
        >>> made = substituted(step, 2)
        >>> made.value, made.in_full().count(sympy.Heaviside), made.work, made.depth
        (h_v_2 - s_2*v_threshold, 3, 10, 10)
    """
    checked_count("steps", steps)
    names, z = Names(), list[Expr](step.before)
    for t in range(1, steps + 1):
        known = {**dict(zip(step.before, z, strict=True)), step.x: real(f"x_{t}")}
        charged = {
            symbol: names.of(value.xreplace(known), f"{symbol.name}_{t}")
            for symbol, value in zip(step.charged, step.charge, strict=True)
        }
        if step.fire is not None:
            spike = step.spike.xreplace({step.u: names.of(step.fire.xreplace(charged), f"u_{t}")})
            charged[step.s] = names.of(spike, f"s_{t}")
        after = [value.xreplace(charged) for value in step.reset]
        z = [names.of(value, f"{symbol.name}_{t}") for symbol, value in zip(step.before, after, strict=True)]
    return Formula(after[0], names)


def paired(step: Step, steps: int) -> Formula:
    """v[T] by the product of pairs, for an affine step with one state.

    Args:
        step: a neuron's equations, from `tfexplore.neurons.step_of`.
        steps: T, from 1.

    Raises:
        ValueError: with the reason, where the step is not affine in its states; or for more than one state.

    Example:
        >>> from tfexplore import neurons
        >>> step = neurons.step_of(neurons.LIF(reset="none"))
        >>> made = paired(step, 4)
        >>> made.value, made.work, made.depth
        (A_1to4*v + b_1to4, 17, 7)
    """
    checked_count("steps", steps)
    affine = affine_of(step)
    if len(step.before) > 1:
        raise ValueError(f"Pairs are drawn for neurons with one state, but {step.name} has {len(step.before)}.")
    names, (((a,),), (b,)) = Names(), (affine.matrix, affine.vector)
    # each with the first and the last of its steps
    pairs = [
        (names.of(a, f"A_{t}"), names.of(b.xreplace({step.x: real(f"x_{t}")}), f"b_{t}"), t, t)
        for t in range(1, steps + 1)
    ]
    while len(pairs) > 1:
        joint = []
        for (a1, b1, begin, _), (a2, b2, _, end) in zip(pairs[::2], pairs[1::2], strict=False):
            where = f"{begin}to{end}"
            joint.append((names.of(a2 * a1, f"A_{where}"), names.of(a2 * b1 + b2, f"b_{where}"), begin, end))
        pairs = joint + pairs[2 * len(joint) :]
    ((a, b, *_),) = pairs
    return Formula(a * step.before[0] + b, names)


@dataclass(frozen=True)
class Unrolled:
    """A neuron's formulas over T.

    Args:
        name: the neuron, as it was given.
        reason: why its steps do not combine in pairs, or "".
        formulas: by way ("substituted", and where there is no reason against it "in pairs") and T.
    """

    name: str
    reason: str
    formulas: dict[str, dict[int, Formula]]

    def same(self, steps: int) -> bool:
        """Whether both formulas are one function, by algebra."""
        plain = [sympy.expand(self.formulas[way][steps].in_full()) for way in self.formulas]
        return all(sympy.expand(each - plain[0]) == 0 for each in plain)

    def sentence(self) -> str:
        steps, one = max(self.formulas[SUBSTITUTED]), self.formulas[SUBSTITUTED][1]
        by = self.formulas[SUBSTITUTED][steps]
        chain = f"{one.depth} for a single step" if steps > 1 else "of a single step"
        text = (
            f"{self.name}, {steps} steps: substituted, {by.work} operations, {by.depth} of them in a row ({chain}), "
            f"{by.nested} comparison{'s' * (by.nested != 1)} within each other; written out, {shown(by.written)} operations."
        )
        if self.reason:
            return f"{text} It does not combine in pairs: {self.reason}."
        pairs = self.formulas[PAIRED][steps]
        return f"{text} In pairs, {pairs.work} operations, {pairs.depth} in a row."


def shown(count: int) -> str:
    """
    >>> shown(1020), shown(17179869180)
    ('1,020', '1.72e+10')
    """
    return f"{count:,}" if count < 10**7 else f"{count:.3g}"


def unrolled(name: str, step: Step, lengths: Iterable[int]) -> Unrolled:
    """The formulas of a step for these T."""
    reason, lengths = why_not(step), list(lengths)
    formulas = {SUBSTITUTED: {steps: substituted(step, steps) for steps in lengths}}
    if not reason:
        formulas[PAIRED] = {steps: paired(step, steps) for steps in lengths}
    return Unrolled(name, reason, formulas)
