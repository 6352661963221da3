"""The neurons that many tests walk over, inputs that make them fire, and how results are compared."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tfexplore import neurons, surrogates
from tfexplore.neurons import Neuron
from tfexplore.neurons.parameters import parameters_of
from tfexplore.neurons.surrogates import Surrogate

NEURONS: tuple[type[Neuron], ...] = (
    neurons.IF, neurons.LIF, neurons.ParametricLIF, neurons.ALIF, neurons.CubaLIF, neurons.LI, neurons.QIF, neurons.EIF,
    neurons.Izhikevich, neurons.PaperLIF,
)  # fmt: skip
SURROGATES: tuple[type[Surrogate], ...] = (
    surrogates.ATan, surrogates.Sigmoid, surrogates.Triangle, surrogates.Rectangle, surrogates.SuperSpike, surrogates.Gaussian,
)  # fmt: skip
EDGES = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
"""Numbers of time steps around the chunks of 32, 16 and 8 steps that keep="input" recomputes."""


@dataclass(frozen=True)
class Case:
    """One neuron in one of the resets it admits, each with another surrogate; attached or not, and what is kept, in turn."""

    cls: type[Neuron]
    reset: str
    surrogate: Surrogate
    detach_reset: bool
    keep: str

    def __str__(self) -> str:
        return f"{self.cls.__name__}-{self.reset}"

    def __call__(self, **numbers: Any) -> Neuron:
        common = {"reset": self.reset, "surrogate": self.surrogate, "detach_reset": self.detach_reset}
        return self.cls(**(common | numbers))

    def learning(self, **numbers: Any) -> Neuron:
        """With every number learned: tests over all neurons that take this, in float64, share their kernels."""
        return self(**({"learn": tuple(parameters_of(self.cls)), "surrogate": surrogates.ATan()} | numbers))

    @property
    def runaway(self) -> bool:
        """Without a hard reset these grow faster than exponentially once they have passed their threshold."""
        return self.cls in (neurons.QIF, neurons.EIF) and self.reset != "hard"

    def input(self, steps: int, shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Currents that make this neuron fire now and then; small ones for a runaway neuron, which has to stay finite."""
        made = noise(steps, *shape, seed=seed, dtype=torch.float64)
        if self.runaway:
            return (0.3 * made).clamp(-0.6, 0.2).sub(0.3).to(dtype)
        return (20 * made + 10 if self.cls is neurons.Izhikevich else made + 0.3).to(dtype)


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same numbers in every dtype, but for rounding: what torch.randn draws differs from dtype to dtype in torch 2.11."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


PAIRS = [(cls, reset) for cls in NEURONS for reset in cls.resets]
CASES = [
    Case(cls, reset, SURROGATES[k % 6](), k % 2 == 0, ("input", "potential")[k % 2])
    for k, (cls, reset) in enumerate(PAIRS)
]
SINGLE = [case for k, case in enumerate(CASES) if case.cls not in {earlier.cls for earlier in CASES[:k]}]
"""Each neuron in one of its resets."""


def numbers_within_bounds(cls: type[Neuron], seed: int) -> dict[str, float]:
    """A random value for every parameter, anywhere in what it may be (up to 20 time steps, or 2 units of potential)."""
    rng = random.Random(seed)
    found = {}
    for key, bound in parameters_of(cls).items():
        low = -2.0 if bound.low == -math.inf else bound.low
        high = low + (20.0 if key.startswith("tau") else 4.0) if bound.high == math.inf else bound.high
        found[key] = rng.uniform(low + 1e-3, high - 1e-3)
    return found


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit (-0.0 is not 0.0); a NaN equals any NaN."""
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(
        ((a.detach().contiguous().view(kind) == b.detach().contiguous().view(kind)) | (a.isnan() & b.isnan())).all()
    )


def distance(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|, the contract's measure of a gradient's error."""
    assert a.shape == b.shape
    assert a.isfinite().all()
    assert b.isfinite().all()
    scale = b.abs().max().item() if b.numel() else 0.0
    difference = (a - b).abs().max().item() if b.numel() else 0.0
    return difference / scale if scale else difference
