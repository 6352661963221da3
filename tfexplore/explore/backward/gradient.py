"""The gradient's backward pass through time: one layer of LIF neurons, one backward pass of the fused kernel.

Pure functions, parameters in and arrays out; `figure.py` describes how they are shown.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from tfexplore.backends.torch_reference import compiled
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.library import LIF
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import scalars_of, step_of
from tfexplore.neurons.surrogates import Surrogate
from tfexplore.nn.layers import Layer
from tfexplore.nn.states import record

U = np.linspace(-2, 2, 401)
"""Where the surrogate is drawn."""
WINDOW = 5
"""The loss counts the spikes of this many time steps."""
WEAKEST, STRONGEST, NOISE = 0.3, 1.8, 0.5  # mean drive of the first and last neuron (the threshold is 1), and its noise
FAINT = 0.01
"""The gradient reaches back to where its mean magnitude was still this share of its largest."""


@dataclass(frozen=True)
class Flow:
    """What one backward pass did; the arrays are [T, neurons].

    gradient: dL/dx, where the loss L is the number of spikes in the `window` time steps up to `loss_at` (counted from 1).
    u: how far the charged potential was above the threshold;   spikes: 0 or 1.
    """

    gradient: np.ndarray
    u: np.ndarray
    spikes: np.ndarray
    loss_at: int
    window: int

    @property
    def magnitude(self) -> np.ndarray:
        """[T], the mean magnitude of the gradient over the neurons."""
        mean: np.ndarray = np.abs(self.gradient).mean(1)
        return mean

    @property
    def first(self) -> int:
        """The first time step (from 1) that the loss counts."""
        return self.loss_at - self.window + 1

    @property
    def reach(self) -> int:
        """Time steps before `first` that still get 1 % of the largest mean gradient."""
        strong = np.flatnonzero(self.magnitude >= FAINT * self.magnitude.max())
        return max(0, self.first - 1 - int(strong[0])) if self.magnitude.max() > 0 else 0

    @property
    def zeros(self) -> float:
        """The share of the gradients, up to the loss, that are exactly zero."""
        return float((self.gradient[: self.loss_at] == 0).mean())

    @property
    def dead(self) -> int:
        """Neurons that get no gradient at any time step: nothing would ever be learned through them."""
        return int((self.gradient == 0).all(0).sum())


@functools.lru_cache(maxsize=8)
def drive(steps: int, neurons: int, seed: int = 0) -> np.ndarray:
    """Noisy currents [T, neurons], the first neuron's too weak to make it fire, the last one's strong."""
    noise = np.random.default_rng(seed).standard_normal(
        (steps, neurons)
    )  # a longer T goes on where a shorter one ended
    drawn: np.ndarray = np.linspace(WEAKEST, STRONGEST, neurons) + NOISE * noise
    return drawn


def flow(
    neuron: LIF, steps: int = 100, neurons: int = 24, loss_at: int | None = None, window: int = WINDOW, seed: int = 0
) -> Flow:
    """Runs the layer forward and backward, in float64: an exploding gradient would overflow float32.

    The currents are divided by tau, so that the neurons fire about as much whatever tau is.

    >>> flow(LIF(tau=2.0), steps=40).gradient.shape
    (40, 24)
    """
    loss_at = steps if loss_at is None else loss_at
    if not 1 <= loss_at <= steps:
        raise ValueError(f"loss_at must be a time step from 1 to {steps}, but got {loss_at!r}.")
    window = min(window, loss_at)
    layer = Layer(neuron)
    x = torch.from_numpy(drive(steps, neurons, seed) / neuron.tau).unsqueeze(1).requires_grad_()
    with record(layer, "h") as traces:
        spikes = layer(x)
    (gradient,) = torch.autograd.grad(spikes[loss_at - window : loss_at].sum(), x)
    u = traces[""]["h"][:, 0].numpy() - neuron.v_threshold
    return Flow(gradient[:, 0].numpy(), u, spikes.detach()[:, 0].numpy(), loss_at, window)


def curves(surrogate: Surrogate, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The surrogate derivative at u, and the smooth step whose slope it is, as the kernels compute them.

    Where a surrogate gives no primitive of its own, its derivative is summed up from the left instead: that cannot fail.

    >>> from tfexplore.neurons.surrogates import Rectangle
    >>> [values.tolist() for values in curves(Rectangle(1.0), np.array([-1.0, 0.0, 1.0]))]
    [[0.0, 1.0, 0.0], [0.0, 0.5, 1.0]]
    """
    neuron: Neuron = LIF(surrogate=surrogate)
    p = tuple(torch.tensor(value, dtype=torch.float64) for value in scalars_of(neuron).values())
    at, step = torch.from_numpy(u), step_of(neuron)
    slope = spread(compiled(Variant(step))["slope"](at, p), u)
    if type(surrogate).primitive is not Surrogate.primitive:
        return slope, spread(compiled(Variant(step, smooth=True))["spike"](at, p), u)
    rise = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(u))])
    return slope, rise + 0.5 - np.interp(0.0, u, rise)


def spread(value: torch.Tensor | float, u: np.ndarray) -> np.ndarray:
    """A surrogate may be a constant."""
    return np.broadcast_to(np.asarray(value, float), u.shape)


def pooled(gradient: np.ndarray, most: int = 125) -> tuple[np.ndarray, int]:
    """At most `most` rows of time: of every group of steps the largest gradient in magnitude; and the steps per group."""
    group = -(-len(gradient) // most)
    padded = np.pad(gradient, ((0, -len(gradient) % group), (0, 0)))
    parts = padded.reshape(-1, group, gradient.shape[1])
    chosen = np.abs(parts).argmax(1)[:, None]
    return np.take_along_axis(parts, chosen, 1)[:, 0], group


DECADES = 6
SCALES = ("logarithmic", "linear")


def shade(gradient: np.ndarray, scale: str = "logarithmic") -> np.ndarray:
    """-1 ... 1 for a diverging colour scale with its middle at zero; not-a-number where the gradient is exactly zero.

    logarithmic: the sign is kept, and the largest magnitude is 1, a millionth of it (and less) 0.

    >>> shade(np.array([1.0, -1e-3, 1e-9, 0.0])).round(3).tolist()
    [1.0, -0.5, 0.0, nan]
    """
    size = np.abs(gradient)
    largest = size.max(initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = size / largest if scale == "linear" else np.clip(1 + np.log10(size / largest) / DECADES, 0, 1)
    return np.where(size > 0, np.sign(gradient) * part, np.nan)


@dataclass(frozen=True)
class BackwardPass:
    """A surrogate, and the backward pass through time that it gives.

    Args:
        neuron: with its surrogate.
        slope: the surrogate derivative at the potentials `U`.
        smooth: the smooth step whose slope it is, there.
        flow: the gradient over time, from one layer's backward pass.
    """

    neuron: LIF
    slope: np.ndarray
    smooth: np.ndarray
    flow: Flow

    def sentence(self) -> str:
        back, neurons = self.flow, self.flow.gradient.shape[1]
        if not back.gradient.any():
            return "No gradient at all: no potential came near enough to the threshold while the loss counted spikes."
        whole = "all " if back.reach == back.first - 1 > 0 else ""
        peak = 1 + int(back.magnitude.argmax())
        grown = f" It grew on the way: its mean is largest at step {peak}." if peak < back.first else ""
        return (
            f"The gradient reaches back {whole}{back.reach} steps before the loss (to {FAINT:.0%} of its largest mean); "
            f"{back.zeros:.0%} of the gradients up to the loss are exactly zero, and {back.dead} of {neurons} neurons get "
            f"none.{grown}"
        )

    @property
    def decay(self) -> tuple[np.ndarray, np.ndarray]:
        """(1 - 1/tau) per step, back from the first step that the loss counts, beside the mean gradient there."""
        back = np.arange(self.flow.first, 0, -1)
        here = self.flow.magnitude[self.flow.first - 1]
        return back, here * (1 - 1 / self.neuron.tau) ** (self.flow.first - back)


def look(neuron: LIF, steps: int, neurons: int, loss_at: int, seed: int) -> BackwardPass:
    """One layer's backward pass, and the surrogate it used."""
    return BackwardPass(neuron, *curves(neuron.surrogate, U), flow(neuron, steps, neurons, loss_at, seed=seed))
