"""Unrolled formulas: against plain loops in exact fractions, and operations counted by hand."""

from __future__ import annotations

import pytest
import sympy

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore, neurons
from tfexplore.explore.unrolling.unrolled import PAIRED, SUBSTITUTED, paired, substituted

TAU, THRESHOLD = sympy.Rational(5, 2), sympy.Rational(4, 5)
INPUTS = [sympy.Rational(k, 7) for k in (3, 8, -2, 5, 6, 1, 9)]


def lif(reset: str) -> sympy.Expr:
    """v of a LIF neuron after the inputs, by a plain loop, from 1/3."""
    v = sympy.Rational(1, 3)
    for x in INPUTS:
        h = v + x - v / TAU
        s = int(bool(h >= THRESHOLD))
        v = {"soft": h - s * THRESHOLD, "hard": h * (1 - s), "none": h}[reset]
    return v


def at(value: sympy.Expr) -> sympy.Expr:
    numbers = {"v": sympy.Rational(1, 3), "tau": TAU, "v_threshold": THRESHOLD, "v_reset": 0}
    numbers |= {f"x_{t}": x for t, x in enumerate(INPUTS, 1)}
    return value.subs({sympy.Symbol(name, real=True): number for name, number in numbers.items()})


def computed(formula: object) -> sympy.Expr:
    """The formula's value, name by name."""
    known: dict[sympy.Symbol, sympy.Expr] = {}
    for name, part in formula.named.items():  # type: ignore[attr-defined]
        known[name] = at(part.xreplace(known))
    return at(formula.value.xreplace(known))  # type: ignore[attr-defined]


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_substitution_computes_what_the_loop_computes(reset: str) -> None:
    step = neurons.step_of(neurons.LIF(reset=reset))
    assert computed(substituted(step, len(INPUTS))) == lif(reset)
    if reset == "none":
        assert computed(paired(step, len(INPUTS))) == lif(reset)


def test_the_formula_in_full_has_no_names_left() -> None:
    made = substituted(neurons.step_of(neurons.LIF()), 3)
    full = made.in_full()
    assert {symbol.name for symbol in full.free_symbols} == {"v", "x_1", "x_2", "x_3", "tau", "v_threshold", "v_reset"}
    assert made.written == 252


@pytest.mark.parametrize("steps", [1, 2, 5, 32])
def test_substitution_saves_nothing(steps: int) -> None:
    # h = v + x - (v - r)/tau: 4, in a chain of 3;  u, s, s * threshold, h - ...: 4, all of them in the chain
    made = substituted(neurons.step_of(neurons.LIF()), steps)
    assert (made.work, made.depth, made.nested) == (8 * steps, 7 * steps, steps)


@pytest.mark.parametrize("exponent", range(6))
def test_pairs_are_a_tree(exponent: int) -> None:
    made = paired(neurons.step_of(neurons.LIF(reset="none")), 2**exponent)
    # A = 1 - 1/tau: 2; each pair a product and a sum: 2; A v + b: 2
    assert made.depth == 2 + 2 * exponent + (1 if exponent else 2)
    assert made.nested == 0


def test_both_are_one_function_and_the_figure_has_them() -> None:
    made = explore.unrolling("LIF", reset="none", steps=8)
    assert made.result.same(4)
    lines = {way: list(made.trace(f"{way}, in a row").y) for way in (SUBSTITUTED, PAIRED)}
    assert lines == {SUBSTITUTED: [3, 6, 12, 24], PAIRED: [4, 5, 7, 9]}
    assert spread(made.picture()) > 0.03
    made.reset = "soft"
    assert len(made.trace(f"{PAIRED}, in a row").x) == 0
    assert "It does not combine in pairs: its v[t] depends on its own spike" in made.message.value


def test_what_it_refuses() -> None:
    for way in (substituted, paired):
        with pytest.raises(ValueError, match="steps must be a whole number from 1 on, but got 0"):
            way(neurons.step_of(neurons.LIF(reset="none")), 0)
    with pytest.raises(ValueError, match="The forward pass of LIF is no scan over time: its v"):
        paired(neurons.step_of(neurons.LIF()), 4)
    with pytest.raises(ValueError, match="Pairs are drawn for neurons with one state, but CubaLIF has 2"):
        paired(neurons.step_of(neurons.CubaLIF(reset="none")), 4)
    with pytest.raises(ValueError, match=r"neuron must be one of .* but got 'CubaLIF'"):
        explore.unrolling("CubaLIF")
