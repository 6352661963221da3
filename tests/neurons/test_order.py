"""`first` keeps an order of operations in every language, `detached` cuts a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sympy import Symbol, diff

from tests.cases import noise
from tfexplore import Layer
from tfexplore.codegen.latex import latex_of
from tfexplore.codegen.printing import CUDA, NUMBA, TORCH, code
from tfexplore.neurons import Neuron, detached, first
from tfexplore.neurons.surrogates import Surrogate

v, x, r = (Symbol(name, real=True) for name in "vxr")


class Grouped(Neuron):
    """Whose charge rounds otherwise without `first`."""

    rate: float = 0.3
    v_threshold: float = 1.0
    v_reset: float = 0.1

    def charge(self, v, x):  # type: ignore[no-untyped-def]
        return v + self.rate * (x - first(v - self.v_reset))


class Held(Neuron):
    """A threshold that follows v, without a gradient for that."""

    reset: str = "none"
    v_threshold: float = 0.5

    def charge(self, v, x):  # type: ignore[no-untyped-def]
        return 0.5 * v + x

    def threshold(self, v):  # type: ignore[no-untyped-def]
        return self.v_threshold + detached(0.25 * v)


@pytest.mark.parametrize("dialect", [TORCH, NUMBA, CUDA], ids=lambda dialect: dialect.name)
def test_it_is_printed_as_written(dialect: object) -> None:
    assert code(x - first(v - r), dialect) == "x - (v - r)"  # type: ignore[arg-type]
    assert code(x - (v - r), dialect) != "x - (v - r)"  # type: ignore[arg-type]


def test_its_derivative_is_that_of_what_is_in_it() -> None:
    assert diff(first(v * r), v) == r
    assert diff(x * detached(v * r), v) == 0
    assert (first(0.25), detached(0.25)) == (0.25, 0.25)
    assert r"\left(" in latex_of(Grouped())


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_float32_rounds_in_this_order(backend: str) -> None:
    given = noise(64, 4, 25, seed=0) + 0.5
    found = Layer(Grouped(reset="none"), backend=backend)(given, trace="v")[1].numpy()
    z, (rate, rest) = np.full((4, 25), 0.1, np.float32), np.float32([0.3, 0.1])
    for x_t, v_t in zip(given.numpy(), found, strict=True):
        z = z + rate * (x_t - (z - rest))
        assert np.array_equal(z, v_t)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_the_gradient_ends_there(backend: str) -> None:
    """A plain loop with torch's own detach."""

    class Flat(Surrogate):
        def derivative(self, u):  # type: ignore[no-untyped-def]
            return 0 * u + 1

    given = noise(16, 2, 5, seed=1).requires_grad_()
    Layer(Held(surrogate=Flat()), backend=backend)(given).sum().backward()
    twin = given.detach().requires_grad_()
    z, total = torch.zeros(2, 5), torch.zeros(())
    for x_t in twin:
        z = 0.5 * z + x_t
        total = total + (z - (0.5 + 0.25 * z.detach())).sum()  # the slope of a spike is 1
    total.backward()
    assert torch.allclose(given.grad, twin.grad)  # type: ignore[arg-type]
