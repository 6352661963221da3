"""One neuron, three hundred inputs, and a curve that its potential must follow: the loss is on the potential, not on the spikes.

Pure functions, parameters in and arrays out; `figure.py` describes how they are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from tfexplore.neurons.library import LIF
from tfexplore.nn.layers import Layer

STEPS, INPUTS, RATE = 100, 300, 0.05
"""Time steps, inputs, and spikes of each per step."""
CURVES = ("sine", "two bumps", "steps")
EVERY, LAST = WHERE = ("every step", "the last step")
ROUNDS, LEARNING_RATE = 300, 0.003


@dataclass
class Fit:
    """How far the training is; the arrays are [T].

    Args:
        neuron: its parameters.
        target: the curve.
        where: the steps at which the loss compares, `EVERY` or `LAST`.
        potential: h at each step, what is compared with the threshold.
        spikes: 0 or 1.
        gradient: of the loss with respect to the neuron's current.
        losses: of each round of training, the mean squared distance.
    """

    neuron: LIF
    target: np.ndarray
    where: str
    potential: np.ndarray = field(default_factory=lambda: np.zeros(STEPS))
    spikes: np.ndarray = field(default_factory=lambda: np.zeros(STEPS))
    gradient: np.ndarray = field(default_factory=lambda: np.zeros(STEPS))
    losses: list[float] = field(default_factory=list)

    @property
    def distance(self) -> float:
        """From the curve, over all steps: the root of the mean square."""
        return float(np.sqrt(np.mean((self.potential - self.target) ** 2)))

    def sentence(self) -> str:
        fired, reached = int(self.spikes.sum()), np.abs(self.gradient)
        far = int((reached >= 0.01 * reached.max()).sum()) if reached.any() else 0
        what = f"the potential is {self.distance:.3f} away from the curve; {fired} spike{'s' * (fired != 1)}"
        how = f"Gradients above 1 % of the largest arrive at {far} of {STEPS} steps"
        rounds = len(self.losses) - 1
        return f"After {rounds} rounds {what}. {how}." if rounds > 0 else f"Untrained: {what}. {how}. Press Start."


def curve(name: str) -> np.ndarray:
    """[T], between 0.1 and 0.6: below the usual threshold of 1.

    >>> [bool(0.09 < curve(name).min() < curve(name).max() < 0.61) for name in CURVES]
    [True, True, True]
    """
    t = np.linspace(0, 1, STEPS)
    if name == "sine":
        return 0.35 + 0.25 * np.sin(4 * np.pi * t)
    if name == "two bumps":
        return 0.1 + 0.5 * np.maximum(np.exp(-(((t - 0.3) / 0.08) ** 2)), 0.7 * np.exp(-(((t - 0.75) / 0.12) ** 2)))
    return np.select([t < 0.25, t < 0.5, t < 0.75], [0.2, 0.6, 0.1], 0.4)


def inputs(seed: int = 0) -> torch.Tensor:
    """Random spikes [T, inputs], the same at every round."""
    drawn = np.random.default_rng(seed).random((STEPS, INPUTS)) < RATE
    return torch.from_numpy(drawn.astype(np.float32))


def training(made: Fit, seed: int = 0) -> Iterator[None]:
    """Brings `made` up to the untrained neuron, then through one round of training after the other (Adam on the weights).

    >>> made = Fit(LIF(tau=5.0), curve("sine"), EVERY)
    >>> rounds = training(made)
    >>> for _ in range(21):
    ...     next(rounds)
    >>> made.losses[-1] < made.losses[0]
    True
    """
    spikes_in, target = inputs(seed), torch.from_numpy(made.target).float()
    layer, weights = Layer(made.neuron), torch.zeros(INPUTS, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=LEARNING_RATE)
    first = STEPS - 1 if made.where == LAST else 0
    while True:
        x = spikes_in @ weights
        spikes, h = layer(x.view(STEPS, 1, 1), trace="h")
        loss = (h.flatten() - target)[first:].square().mean()
        g_x, weights.grad = torch.autograd.grad(loss, [x, weights])
        made.losses.append(loss.item())
        made.potential, made.spikes, made.gradient = (z.detach().flatten().numpy() for z in (h, spikes, g_x))
        yield
        optimiser.step()
