"""The public face of codegen: what a reader asks of a neuron's value, held against what really runs and against plain text."""

from __future__ import annotations

import ast
import math
from fractions import Fraction

import pytest

from tests.cases import NEURONS
from tfexplore import codegen, neurons, surrogates
from tfexplore.codegen import builds, traffic
from tfexplore.codegen.variant import Variant
from tfexplore.neurons import step_of

FUNCTIONS = ("charge", "fire", "spike", "reset", "output", "remember", "watch", "adjoint")


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_the_functions_that_are_shown_compute_one_step(cls) -> None:
    """Executed as plain Python, against the neuron's own methods on numbers."""
    neuron = cls()
    space = {"math": math, "real": float}
    for name in ("charge", "fire", "reset"):
        exec(codegen.source_of(neuron, name), space)
    z, x = tuple(0.1 * (k + 1) for k in range(len(neuron.states))), 0.7
    step = step_of(neuron)
    p = tuple(neuron.parameters.get(symbol.name, 1.0) for symbol in (*step.scalars, *step.per_neuron))
    h = neuron.charge(*z, x)
    h = tuple(float(value) for value in (h if isinstance(h, tuple) else (h,)))
    assert space["charge"](z, x, p) == pytest.approx(h)
    if neuron.spiking:
        assert space["fire"](h, p) == pytest.approx(h[0] - float(neuron.threshold(*h)))
    after = (getattr(neuron, neuron.reset)(1.0, *h), *neuron.after(1.0, *h)) if neuron.spiking else h
    assert space["reset"](h, 1.0, p) == pytest.approx(tuple(map(float, after)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_part_of_the_whole(function: str) -> None:
    neuron = neurons.ALIF(reset="hard")
    shown, whole = codegen.source_of(neuron, function), codegen.source_of(neuron)
    parts = {node.name: ast.unparse(node.body) for node in ast.parse(whole).body if isinstance(node, ast.FunctionDef)}
    assert ast.unparse(ast.parse(shown).body[0].body) == parts[function]
    assert codegen.source_of(neuron, function, language="cuda") in codegen.source_of(neuron, language="cuda")


def test_keep_decides_what_is_saved_and_auto_is_the_fastest_of_the_language() -> None:
    box = neurons.LIF(surrogate=surrogates.Rectangle(), reset="hard")
    assert "bit_0" in codegen.source_of(box, "remember", keep="bits")
    assert codegen.source_of(box, "adjoint", keep="auto") == codegen.source_of(box, "adjoint", keep="bits")
    eif = neurons.EIF()
    assert "KEEP_POTENTIAL = True" in codegen.source_of(eif, keep="auto")
    assert "#define KEEP_INPUT 1" in codegen.source_of(eif, keep="auto", language="cuda")


def test_errors_name_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"^language must be 'numba' or 'cuda', but got 'wgsl'\.$"):
        codegen.source_of(neurons.LIF(), "charge", language="wgsl")
    with pytest.raises(ValueError, match=r"^function must be one of 'charge', .*'adjoint', but got 'leak'\.$"):
        codegen.source_of(neurons.LIF(), "leak")
    with pytest.raises(
        ValueError, match="keep='bits' is not exact for this LIF: its backward pass needs the value of u"
    ):
        codegen.source_of(neurons.LIF(), "adjoint", keep="bits")


def test_a_gpu_variant_saves_the_states_of_its_own_chunks() -> None:
    """By hand: 2 words forward and 3 backward, and a state every 16 steps in each."""
    variant = Variant(step_of(neurons.CubaLIF()), keep="input").for_gpu(
        builds.Config(16, builds.Build(4, 8), builds.Build(4, 8))
    )
    accesses = traffic.accesses_of(variant)
    assert codegen.words(accesses, "forward") == 2 + Fraction(2, 16)
    assert codegen.words(accesses, "backward") == 3 + Fraction(2, 16)


def test_names_that_are_public_are_no_modules() -> None:
    assert {type(getattr(codegen, name)).__name__ for name in codegen.__all__} == {"function", "type"}


def test_the_latex_of_a_neuron_is_what_a_notebook_shows() -> None:
    neuron = neurons.LIF()
    assert neuron._repr_latex_() == codegen.latex_of(neuron)
    assert neuron.surrogate._repr_latex_() == codegen.latex_of_surrogate(neuron.surrogate)
    attached = codegen.latex_of_adjoint(neurons.LIF(detach_reset=False))
    assert r"v_{\mathrm{threshold}}" in attached
    assert (
        r"v_{\mathrm{threshold}}"
        not in codegen.latex_of_adjoint(neuron).partition("surrogate")[0].partition("spike")[2]
    )
