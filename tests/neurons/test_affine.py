"""Is a step affine in its states? What SymPy says, against superposition on random numbers.

The oracle: the neuron's own equations, called with plain floats; a map f is affine where f(a z + (1 - a) z') is
a f(z) + (1 - a) f(z') for all a.
"""

from __future__ import annotations

import functools
import random
from typing import Any, ClassVar

import pytest
import sympy
from sympy import Expr, Symbol

from tests.cases import CASES, Case
from tfexplore import neurons
from tfexplore.neurons import Neuron, affine_of, detached, first
from tfexplore.neurons.affine import cuts, why_not
from tfexplore.neurons.step import Step, step_of


class Own(Neuron):
    """A neuron of two states; those below say how they move."""

    states: ClassVar[tuple[str, ...]] = ("v", "w")
    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"

    def after(self, s: Any, v: Any, w: Any) -> Any:
        return (w,)


class GatedByPiecewise(Own):
    """How much it forgets depends on the sign of x."""

    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return v * sympy.Piecewise((sympy.Rational(1, 2), x > 0), (1, True)) + x, w + v


class Rectified(Own):
    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return sympy.Max(v, 0) + x, w


class BentInPieces(Own):
    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return sympy.Piecewise((v / 2, v > 0), (v, True)) + x, w


class Jumping(Own):
    """Its slope is 0 wherever it has one."""

    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return v / 2 + x, w / 2 + sympy.Piecewise((1, v > 0), (0, True))


class RectifiedInput(Own):
    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return v / 2 + sympy.Max(x, 0) + w, w / 4


class Product(Own):
    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return v * w + x, w


class Ordered(Own):
    """Marks of order and of the gradient, which change no value."""

    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return first(v / 2 + x) + detached(w), w * x


class Absolute(Own):
    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return v + x, w + sympy.Abs(v)


class Cancelling(Own):
    """Written as if it were bent, and it is not."""

    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return (v + x) ** 2 - v**2 - 2 * v * x + v, w


class Counted(Neuron):
    """A spike comes back by another state than v."""

    states: ClassVar[tuple[str, ...]] = ("v", "w")
    v_threshold: float = 1.0
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"

    def charge(self, v: Any, w: Any, x: Any) -> Any:
        return v / 2 + x - w, w / 2

    def after(self, s: Any, v: Any, w: Any) -> Any:
        return (w + s,)


USERS = {
    GatedByPiecewise: True, Rectified: False, BentInPieces: False, Jumping: False, RectifiedInput: True, Product: False,
    Ordered: True, Absolute: False, Cancelling: True,
}  # fmt: skip


@functools.cache
def function_of(step: Step, value: Expr) -> Any:
    """An expression as Python's own arithmetic, on the dictionary of all symbols by name."""
    plain = value.replace(first, lambda a: a).replace(detached, lambda a: a)
    symbols = sorted(plain.free_symbols, key=str)
    made = sympy.lambdify(symbols, plain, "math")
    return lambda known: float(made(*(known[symbol] for symbol in symbols)))


def moved(
    step: Step, states: list[float], x: float, values: dict[Symbol, float], s: float | None = None
) -> list[float]:
    """The states after one step, by numbers; s: given, or the neuron's own."""
    known = values | dict(zip(step.before, states, strict=True)) | {step.x: x}
    known |= {symbol: function_of(step, value)(known) for symbol, value in zip(step.charged, step.charge, strict=True)}
    if step.fire is not None:
        known[step.s] = float(function_of(step, step.fire)(known) >= 0) if s is None else s
    return [function_of(step, value)(known) for value in step.reset]


def superposes(step: Step, s: float | None = None) -> bool:
    """Whether the step is affine in its states, for all of some random numbers."""
    rng = random.Random(1)
    for _ in range(25):
        values = {p: rng.uniform(1.5, 4) for p in (*step.scalars, *step.per_neuron)}
        size = rng.choice([6, 90])  # Izhikevich's v is some -65
        one, other = ([rng.uniform(-size, size) for _ in step.before] for _ in range(2))
        x, part = rng.uniform(-3, 3), rng.uniform(-2, 2)
        between = [part * a + (1 - part) * b for a, b in zip(one, other, strict=True)]
        wanted = [
            part * a + (1 - part) * b
            for a, b in zip(moved(step, one, x, values, s), moved(step, other, x, values, s), strict=True)
        ]
        if any(
            abs(a - b) > 1e-8 * (1 + abs(b)) for a, b in zip(moved(step, between, x, values, s), wanted, strict=True)
        ):
            return False
    return True


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_library_is_affine_where_numbers_superpose(case: Case) -> None:
    step = step_of(case(learn=()))
    assert (why_not(step) == "") is superposes(step)
    assert (why_not(step, given_spikes=True) == "") is all(superposes(step, s) for s in (0.0, 1.0))
    if why_not(step):
        with pytest.raises(ValueError, match=r"The forward pass of .* is no scan over time"):
            affine_of(step)


@pytest.mark.parametrize(("cls", "affine"), USERS.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_neurons_of_the_users(cls: type[Neuron], affine: bool) -> None:
    step = step_of(cls())
    assert superposes(step) is affine
    assert (why_not(step) == "") is affine


@pytest.mark.parametrize("given_spikes", [False, True])
def test_matrix_and_vector_make_the_same_states(given_spikes: bool) -> None:
    rng = random.Random(2)
    steps = [step_of(case()) for case in CASES] + [step_of(cls()) for cls in USERS]
    steps = [step for step in steps if not why_not(step, given_spikes)]
    assert len(steps) > 8
    for step in steps:
        affine = affine_of(step, given_spikes)
        values = {p: rng.uniform(1.5, 4) for p in (*step.scalars, *step.per_neuron)}
        states, x, s = [rng.uniform(-2, 2) for _ in step.before], rng.uniform(-2, 2), float(rng.random() < 0.5)
        known = values | {step.x: x, step.s: s}
        found = [
            sum(float(a.subs(known)) * z for a, z in zip(row, states, strict=True)) + float(b.subs(known))
            for row, b in zip(affine.matrix, affine.vector, strict=True)
        ]
        assert found == pytest.approx(moved(step, states, x, values, s if given_spikes else None))


def test_a_matrix_of_parameters_only_is_constant() -> None:
    for neuron, constant in (
        (neurons.LI(), True), (neurons.CubaLIF(reset="none"), True), (GatedByPiecewise(), False), (Ordered(), False),
        (RectifiedInput(), True),
    ):  # fmt: skip
        step = step_of(neuron)
        assert affine_of(step).constant(step) is constant
    hard = step_of(neurons.LIF(reset="hard"))
    assert not affine_of(hard, given_spikes=True).constant(hard)


def test_the_reason_names_the_state() -> None:
    assert why_not(step_of(Product())) == "its step is not affine in v: dv[t]/dv[t-1] = w, not a number"
    assert why_not(step_of(Jumping())) == "its w[t] depends on a comparison of v"
    assert why_not(step_of(Counted())) == "its w[t] depends on its own spike, which is a comparison of the state"
    assert why_not(step_of(Counted()), given_spikes=True) == ""
    assert "(reset='hard')" in why_not(step_of(neurons.LIF(reset="hard")))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_spike_cuts_the_past_where_the_states_after_it_are_always_the_same(case: Case) -> None:
    step, rng = step_of(case()), random.Random(3)
    values = {p: rng.uniform(1.5, 4) for p in (*step.scalars, *step.per_neuron)}
    if step.fire is None:
        assert not cuts(step)
        return
    seen = {
        tuple(moved(step, [rng.uniform(-2, 2) for _ in step.before], rng.uniform(-2, 2), values, 1.0)) for _ in range(9)
    }
    assert cuts(step) is (len(seen) == 1)
