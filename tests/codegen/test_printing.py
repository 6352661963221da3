"""Printed code computes what SymPy means, in the same order in every language; the equations as LaTeX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sympy import Abs, And, Heaviside, Max, Min, Or, Piecewise, Symbol, exp

from tests.cases import CASES, Case, same_bits
from tfexplore.backends.torch_reference import number, where
from tfexplore.codegen.latex import latex_of
from tfexplore.codegen.printing import CUDA, FUNCTIONS, NUMBA, TORCH, code
from tfexplore.neurons.step import step_of

A, B, C = (Symbol(name, real=True) for name in "abc")
LEAVES = st.one_of(
    st.sampled_from([A, B, C]), st.integers(-3, 3), st.sampled_from([0.1, 0.75, -1.3, sympy.Rational(1, 3)])
)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pair = st.tuples(inner, inner).map(lambda two: tuple(map(sympy.sympify, two)))
    return st.one_of(
        pair.map(lambda two: two[0] + two[1]),
        pair.map(lambda two: two[0] - two[1]),
        pair.map(lambda two: two[0] * two[1]),
        pair.map(lambda two: two[0] / (1 + two[1] ** 2)),
        pair.map(lambda two: two[0] ** 3 - (1 + Abs(two[1])) ** -2),
        pair.map(lambda two: Max(two[0], two[1]) + Min(two[1], A)),
        # conditions on symbols only: SymPy rewrites a choice within a condition, and may lose its last case
        pair.map(lambda two: Piecewise((two[0], And(B > A, B < 2)), (two[1], Or(A < 0, B < C)), (C, True))),
        pair.map(lambda two: Abs(two[0]) * sympy.sign(two[1]) + Heaviside(two[1], 1)),
        inner.map(lambda one: -sympy.sympify(one)),
    )


INFINITE = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo)
EXPRESSIONS = st.recursive(LEAVES, larger, max_leaves=8).map(sympy.sympify).filter(lambda e: not e.has(*INFINITE))
POINTS = [(0.3, -1.2, 2.1), (-0.7, 0.45, -0.2), (1.5, 1.25, 0.6)]


def as_python(expression: sympy.Expr, point: tuple[float, ...], kind: Any = float) -> Any:
    names = dict(zip("abc", map(kind, point), strict=True))
    return eval(code(expression, NUMBA), {"real": kind, "math": math, "abs": abs} | names)


def as_torch(expression: sympy.Expr, point: tuple[float, ...], dtype: torch.dtype) -> torch.Tensor:
    names = {name: torch.tensor([value], dtype=dtype) for name, value in zip("abc", point, strict=True)}
    found = eval(
        code(expression, TORCH), {"torch": torch, "where": where, "number": number, "LIKE": names["a"]} | names
    )
    return torch.as_tensor(found, dtype=dtype).reshape(1)  # a bare constant stays a number


@settings(max_examples=150)
@given(EXPRESSIONS)
def test_every_language_computes_what_sympy_means(expression: sympy.Expr):
    for point in POINTS:
        meant = expression.subs(dict(zip((A, B, C), point, strict=True))).evalf()
        if not meant.is_finite:  # of a number: of an expression it may take half a minute
            continue
        expected = pytest.approx(float(meant), rel=1e-9, abs=1e-9)
        assert as_python(expression, point) == expected
        assert as_torch(expression, point, torch.float64).item() == expected
        c = code(expression, CUDA)
        assert c.count("(") == c.count(")")


@settings(max_examples=150)
@given(EXPRESSIONS)
@example(sympy.Float(0.1) / (A**2 + 1))  # torch would take 1 / (...) first
@example(sympy.Float(-1.3) / (3 * B * C))
@pytest.mark.filterwarnings(
    "ignore:.*encountered in scalar:RuntimeWarning"
)  # NumPy warns at 1/0 and overflow; kernels do not
def test_numba_and_torch_compute_in_the_same_order(expression: sympy.Expr):
    for point in POINTS:
        found = torch.tensor([as_python(expression, point, np.float32)], dtype=torch.float32)
        assert same_bits(found, as_torch(expression, point, torch.float32))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_known_function(name):
    expression = A ** sympy.Float(1.7) if name == "pow" else getattr(sympy, name)(A)
    for value in (0.4, 1.3):
        expected = pytest.approx(float(expression.subs(A, value)), rel=1e-12)
        assert as_python(expression, (value, 0, 0)) == expected
        assert as_torch(expression, (value, 0, 0), torch.float64).item() == expected


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (A - A / B, "a - a/b"),
        (A**2, "(a*a)"),
        (A**3 / B**2, "(a*a*a)/(b*b)"),
        (1 / A, "(real(1.0)/a)"),
        (sympy.Float(0.1) * A / 3, "real(0.03333333333333333)*a"),
        (A - (B - C), "a + c - b"),
        (A / (B * C), "a/(b*c)"),
        (sympy.sqrt(A), "math.sqrt(a)"),
        (2 * sympy.pi * A, "real(6.283185307179586)*a"),
        (Piecewise((A, A > 0), (0, True)), "(a if a > real(0.0) else real(0.0))"),
    ],
)
def test_powers_are_products_divisions_stay_and_constants_are_typed(expression, text):
    assert code(expression, NUMBA) == text


def test_no_bare_literal_reaches_a_kernel():
    """A bare 2 or 0.5 would promote float32 to float64, in Numba and in C++."""
    for case in CASES:
        step = step_of(case())
        for value in (*step.charge, *step.reset, step.slope, step.smooth):
            for dialect in (NUMBA, CUDA):
                rest = code(value, dialect)
                for name in sorted({s.name for s in value.free_symbols}, key=len, reverse=True):
                    rest = rest.replace(name, "")
                typed = [part.split(")")[0] for part in rest.split("real(")[1:]]
                for written in typed:
                    rest = rest.replace(f"real({written})", "")
                assert not any(character.isdigit() for character in rest), rest


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        (sympy.besselj(0, A), "besselj"),
        (A * sympy.zoo, "ComplexInfinity"),
        (sympy.I * A, "ImaginaryUnit"),
        (sympy.gamma(A), "gamma"),
        (sympy.Derivative(sympy.Function("f")(A), A), "Derivative"),
    ],
)
@pytest.mark.parametrize("dialect", [TORCH, NUMBA, CUDA], ids=lambda d: d.name)
def test_what_a_kernel_cannot_compute_is_named_with_what_it_can(expression, what, dialect):
    with pytest.raises(
        ValueError, match=rf"^{dialect.name} kernels cannot compute {what} in .*; they know .* exp, log, sin"
    ):
        code(expression, dialect)


def test_a_piecewise_needs_a_last_case():
    with pytest.raises(ValueError, match=r"must hold otherwise: end it with \(value, True\)\.$"):
        code(Piecewise((A, A > 0)), NUMBA)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_latex_of_every_neuron(case: Case):
    text = case()._repr_latex_()
    step = step_of(case())
    assert text == latex_of(case())
    assert text.startswith(r"$\displaystyle \begin{aligned}")
    assert text.endswith(r"\end{aligned}$")
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")
    lines = text.split(r" \\ ")
    assert len(lines) == 2 * len(step.before) + case.cls.spiking
    assert all("&=" in line for line in lines)
    assert (r"\Theta" in text) == case.cls.spiking
    assert "h_v_next" not in text


def test_latex_of_a_lif_reads_as_in_a_book():
    assert latex_of(CASES[3]()) == (
        r"$\displaystyle \begin{aligned} "
        r"\text{charge} && h[t] &= v[t-1] + x[t] - \frac{v[t-1] - v_{\mathrm{reset}}}{\tau} \\ "
        r"\text{fire} && s[t] &= \Theta(h[t] - v_{\mathrm{threshold}}) \\ "
        r"\text{reset} && v[t] &= h[t] - s[t] v_{\mathrm{threshold}} \end{aligned}$"
    )


def test_exp_of_a_constant_is_folded_once():
    assert code(exp(sympy.Integer(-1)) * A, NUMBA) == "real(0.36787944117144233)*a"
