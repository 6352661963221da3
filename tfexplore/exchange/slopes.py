"""Surrogate derivatives of other libraries that `neurons.surrogates` does not have, and the check that one is theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from sympy import Abs, Piecewise, exp, pi, sqrt, tanh
from torch import Tensor

from tfexplore.neurons.surrogates import Surrogate, Value


class FastSigmoid(Surrogate):
    """scale / (1 + alpha |u|)^2: SpikingJelly's SuperSpike and SoftSign."""

    alpha: float = 1.0
    scale: float = 1.0

    def derivative(self, u: Value) -> Value:
        return self.scale / (1 + self.alpha * Abs(u)) ** 2


class Exponential(Surrogate):
    """scale exp(-|u| / width): SpikingJelly's PiecewiseExp, sinabs' SingleExponential."""

    width: float = 1.0
    scale: float = 1.0

    def derivative(self, u: Value) -> Value:
        return self.scale * exp(-Abs(u) / self.width)


class ScaledGaussian(Surrogate):
    """scale exp(-u^2 / 2 sigma^2) / (sigma sqrt(2 pi)): Norse's heavi_erfc, sinabs' Gaussian."""

    sigma: float = 0.4
    scale: float = 1.0

    def derivative(self, u: Value) -> Value:
        return self.scale * exp(-((u / self.sigma) ** 2) / 2) / (self.sigma * sqrt(2 * pi))


class MultiGaussian(Surrogate):
    """A normal density with negative lobes (Yin et al., 2021): sinabs' MultiGaussian."""

    sigma: float = 0.5
    h: float = 0.15
    s: float = 6.0
    scale: float = 1.0

    def derivative(self, u: Value) -> Value:
        def normal(mean: Value, sigma: Value) -> Value:
            return exp(-(((u - mean) / sigma) ** 2) / 2) / (sigma * sqrt(2 * pi))

        wide = self.s * self.sigma
        lobes = normal(self.sigma, wide) + normal(-self.sigma, wide)
        return self.scale * ((1 + self.h) * normal(0, self.sigma) - self.h * lobes)


class Tent(Surrogate):
    """scale max(0, 1 - |u|): Norse's triangle."""

    scale: float = 0.3

    def derivative(self, u: Value) -> Value:
        return Piecewise((self.scale * (1 - Abs(u)), Abs(u) < 1), (0, True))


class Tanh(Surrogate):
    """1 - tanh(alpha u)^2: Norse's tanh."""

    alpha: float = 1.0

    def derivative(self, u: Value) -> Value:
        return 1 - tanh(self.alpha * u) ** 2


class Circle(Surrogate):
    """(alpha / sqrt(alpha^2 + u^2))^3: Norse's circ."""

    alpha: float = 1.0

    def derivative(self, u: Value) -> Value:
        root = sqrt(self.alpha**2 + u**2)
        return (self.alpha / root) ** 3


class Constant(Surrogate):
    """1 everywhere: snnTorch's straight_through_estimator."""

    def derivative(self, u: Value) -> Value:
        return 0 * u + 1


class Flip(Surrogate):
    """size below the threshold, -size from it on: snnTorch's triangular, which is no tent."""

    size: float = 1.0

    def derivative(self, u: Value) -> Value:
        return Piecewise((-self.size, u >= 0), (self.size, True))


class Spike(Surrogate):
    """1 where there is a spike, u > 0: snnTorch's heaviside."""

    def derivative(self, u: Value) -> Value:
        return Piecewise((1, u > 0), (0, True))


class Above(Surrogate):
    """height from u = -window on, 0 below: sinabs' Heaviside."""

    window: float = 1.0
    height: float = 1.0

    def derivative(self, u: Value) -> Value:
        return Piecewise((self.height, u >= -self.window), (0, True))


class Escape(Surrogate):
    """slope exp(-beta |u - 1|): snnTorch's spike_rate_escape."""

    beta: float = 1.0
    slope: float = 25.0

    def derivative(self, u: Value) -> Value:
        return self.slope * exp(-self.beta * Abs(u - 1))


class Power(Surrogate):
    """(1 + 2 |u| / (alpha - 1))^-alpha: SpikingJelly's QPseudoSpike."""

    alpha: float = 2.0

    def derivative(self, u: Value) -> Value:
        return (1 + 2 * Abs(u) / (self.alpha - 1)) ** -self.alpha


class LogSlope(Surrogate):
    """1 / (1 / alpha + |u|): SpikingJelly's NonzeroSignLogAbs."""

    alpha: float = 1.0

    def derivative(self, u: Value) -> Value:
        return 1 / (1 / self.alpha + Abs(u))


PROBES = (-1.7, -0.45, -0.03, 0.02, 0.31, 1.6)


def by_autograd(spike: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The slope of a spike function, as its backward pass gives it."""

    def slope(u: Tensor) -> Tensor:
        u = u.clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(spike(u).sum(), u)[0]

    return slope


def matching(candidates: Sequence[Surrogate], slope: Callable[[Tensor], Tensor], name: str) -> Surrogate:
    """The first of the candidates with this slope, evaluated at a few points.

    A surrogate's scale means something else in each library, and in some from version to version; so none is believed unseen.

    Raises:
        ValueError: if none has it.
    """
    theirs = slope(torch.tensor(PROBES)).tolist()
    for candidate in candidates:
        ours = [float(candidate.derivative(u)) for u in PROBES]
        if all(abs(a - b) <= 1e-4 * abs(b) + 1e-6 for a, b in zip(ours, theirs, strict=True)):
            return candidate
    raise ValueError(
        f"the slope of its surrogate {name} is none that tfexplore knows; give the module another surrogate."
    )
