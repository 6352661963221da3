"""Each surrogate is a bump whose primitive is the smooth step that stands in for the spike in gradcheck."""

from __future__ import annotations

import pickle

import pytest
import sympy
import torch
from sympy import Abs, Piecewise, Symbol, exp, pi

import tfexplore
from tests.cases import SURROGATES, same_bits
from tfexplore import surrogates
from tfexplore.neurons.surrogates import Surrogate, custom

U = Symbol("u", real=True)
POINTS = [-3.0, -1.1, -0.62, -0.3, -0.04, 0.0, 0.03, 0.21, 0.55, 0.9, 2.5]  # away from the corners of box and tent


class Quartic(Surrogate):
    """Without a primitive of its own: SymPy integrates it."""

    width: float = 2.0

    def derivative(self, u):
        return Piecewise((15 / (16 * self.width) * (1 - (u / self.width) ** 2) ** 2, Abs(u) < self.width), (0, True))


CAUCHY = custom("Cauchy", "1 / (pi * g * (1 + (u / g)**2))", g=0.5)
EVERY = [
    *(cls(scale) for cls in SURROGATES for scale in (0.7, 3.0)),
    Quartic(1.3),
    CAUCHY,
    custom("Bump", 1 / (1 + exp(-Symbol("k") * Symbol("u"))) / 3, k=2.0),
]


def number(expression: sympy.Expr, u: float) -> float:
    return float(sympy.sympify(expression).subs(U, u))


@pytest.mark.parametrize("surrogate", EVERY, ids=repr)
def test_the_derivative_is_the_slope_of_the_primitive(surrogate: Surrogate):
    derivative, primitive = surrogate.derivative(U), surrogate.primitive(U)
    step = 1e-5
    for u in POINTS:
        slope = (number(primitive, u + step) - number(primitive, u - step)) / (2 * step)
        assert number(derivative, u) == pytest.approx(slope, abs=1e-4)  # a corner of the bump costs step x its jump


@pytest.mark.parametrize("cls", SURROGATES, ids=lambda cls: cls.__name__)
def test_a_bump_is_even_highest_at_the_threshold_and_of_one_area(cls):
    surrogate = cls()
    derivative = surrogate.derivative(U)
    values = [number(derivative, u) for u in (0.0, 0.1, 0.3, 1.0, 4.0)]
    assert values == sorted(values, reverse=True)
    assert all(number(derivative, -u) == pytest.approx(number(derivative, u)) for u in POINTS)
    area = number(surrogate.primitive(U), 1e6) - number(surrogate.primitive(U), -1e6)
    assert area == pytest.approx(2 / surrogate.alpha if cls is surrogates.SuperSpike else 1.0, abs=1e-5)


def test_well_known_values():
    assert surrogates.ATan(2.0).derivative(0.0) == 1.0
    assert surrogates.Sigmoid(4.0).derivative(0.0) == 1.0
    assert float(surrogates.Gaussian(0.4).derivative(0.4)) == pytest.approx(0.6049268112978584)
    assert surrogates.SuperSpike(10.0).derivative(-0.1) == 0.25
    assert surrogates.Triangle(0.5).derivative(0.25) == 1.0
    assert [surrogates.Rectangle(1.0).derivative(u) for u in (-0.5, -0.49, 0.5)] == [0, 1.0, 0]
    far = [surrogates.Sigmoid(4.0).derivative(u) for u in (-1e4, 1e4)]
    assert 0 <= far[0] == far[1] < 1e-300  # and no overflow


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("surrogate", [Quartic(1.3), CAUCHY], ids=repr)
def test_a_surrogate_of_ones_own_reaches_both_backends(surrogate, dtype):
    x = torch.linspace(-2, 4, 31, dtype=dtype).view(1, 1, 31)
    gradients = []
    for backend in ("torch", "numba"):
        given = x.clone().requires_grad_()
        tfexplore.IF(surrogate=surrogate, v_threshold=1.0, backend=backend)(given).sum().backward()
        gradients.append(given.grad)
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-6 * gradients[0].max()
    expected = [number(surrogate.derivative(U), u) for u in (x - 1).flatten().tolist()]
    assert gradients[1].flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_a_scale_is_a_run_time_number_of_a_custom_surrogate_too(kernels_used):
    x = torch.linspace(0, 2, 9).view(1, 1, 9)
    for g in (0.5, 2.0):
        layer = tfexplore.IF(surrogate=type(CAUCHY)(g=g), backend="numba")
        given = x.clone().requires_grad_()
        layer(given).sum().backward()
        assert given.grad[0, 0, 4].item() == pytest.approx(1 / (torch.pi * g))
    assert len(set(kernels_used)) == 1


@pytest.mark.parametrize("surrogate", EVERY, ids=repr)
def test_surrogates_are_values_that_pickle(surrogate: Surrogate):
    back = pickle.loads(pickle.dumps(surrogate))
    assert repr(back) == repr(surrogate)
    assert back.derivative(U) == surrogate.derivative(U)
    assert hash(surrogate) == hash(type(surrogate)(**vars(surrogate)))


def test_a_layer_with_a_custom_surrogate_pickles_and_computes_the_same():
    layer = tfexplore.LIF(surrogate=CAUCHY, backend="numba")
    x = torch.rand(4, 2, 3)
    assert same_bits(pickle.loads(pickle.dumps(layer))(x), layer(x))


@pytest.mark.parametrize("surrogate", EVERY, ids=repr)
def test_latex_is_shown_with_the_scales_by_name(surrogate: Surrogate):
    text = surrogate._repr_latex_()
    assert text.startswith(r"$\displaystyle \Theta'(u) \approx ")
    assert text.count("{") == text.count("}")
    for name in vars(surrogate):
        assert (f"\\{name}" if name in ("alpha", "sigma") else name) in text


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), True, "2", None], ids=repr)
@pytest.mark.parametrize("cls", [*SURROGATES, Quartic, type(CAUCHY)], ids=lambda cls: cls.__name__)
def test_a_scale_is_a_finite_number_above_zero(cls, scale):
    with pytest.raises(
        ValueError, match=rf"^{cls.__name__}: \w+ must be a finite number above 0, but got {scale!r}\.$"
    ):
        cls(scale)


def test_a_custom_surrogate_names_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"^Odd: derivative uses 'w'; it may use u and g\.$"):
        custom("Odd", "w * u / g", g=1.0)
    assert custom("Plain", "exp(-u**2)").derivative(0.0) == 1
    assert custom("Given", 2 * U, primitive=U**2).primitive(3.0) == 9.0
    assert pi in custom("Pi", "pi * u").derivative(U).atoms(sympy.NumberSymbol)


def test_a_surrogate_without_primitive_says_so():
    class Odd(Surrogate):
        def derivative(self, u):
            return exp(-(u**4)) / (1 + sympy.sin(u) ** 2)

    with pytest.raises(ValueError, match=r"^SymPy finds no primitive of Odd; give it a method primitive\(self, u\)\.$"):
        Odd().primitive(U)
