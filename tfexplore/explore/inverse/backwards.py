"""The levels of a network walked forward, and found again backwards from the last step alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tfexplore.reversible import Exactness, Level, ReversibleTime, error, turned_off
from tfexplore.reversible.exactness import short, walks

SPIKES, NUMBERS = READS = ("as spikes", "as numbers")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
BATCH, INPUTS, CHANNELS = 16, 16, (48, 32, 24)


def example(alpha: float, read: str = SPIKES, dtype: str = "float32", seed: int = 0) -> ReversibleTime:
    """Three levels of 48, 32 and 24 neurons, densely connected, up and down."""
    sizes = (INPUTS, *CHANNELS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        levels = [
            Level(nn.Linear(sizes[k], n), nn.Linear(sizes[k + 2], n) if k + 2 < len(sizes) else None, nn.Tanh())
            for k, n in enumerate(CHANNELS)
        ]
    seen = turned_off() if read == SPIKES else nn.Identity()
    return ReversibleTime(levels, CHANNELS, alpha=alpha, learn_alpha=False, read=seen).to(DTYPES[dtype])


def example_input(steps: int, dtype: str = "float32", seed: int = 0) -> Tensor:
    """Noise that changes slowly, [T, 16, 16]."""
    noise = torch.randn(steps + 8, BATCH, INPUTS, generator=torch.Generator().manual_seed(seed))
    slow = noise.unfold(0, 8, 1).sum(-1)[:steps] / 8**0.5
    return slow.to(DTYPES[dtype])


@dataclass(frozen=True)
class Backwards:
    """What was there, and what the inverse finds.

    Args:
        there: of each level, the states of the neurons of the first sample behind each step, `[T, neurons]`.
        found: the same, as the inverse finds them from those of the last step.
        fired: whether the others see a spike of them, `[T, neurons]` each; empty where levels are read as numbers.
        refound: the same of those found.
        exactness: errors and flips over all neurons, and what they do to the gradient.
        alpha: the smallest magnitude.
        threshold: from where on a state is seen as a spike; nan where they are read as numbers.
    """

    there: list[np.ndarray]
    found: list[np.ndarray]
    fired: list[np.ndarray]
    refound: list[np.ndarray]
    exactness: Exactness
    alpha: float
    threshold: float

    @property
    def steps(self) -> int:
        return len(self.there[0])

    def sentence(self, back: int) -> str:
        """What is seen so many steps back."""
        if back == 0:
            return "At the last step nothing has been inverted yet. Press play, or move the slider with the arrow keys."
        made, at = self.exactness, self.steps - 1 - back
        flips = int(made.flips[:, at:].sum())
        parts = [
            f"{back} {'step' if back == 1 else 'steps'} back, the states are off by {short(made.states[:, at].max())} at most"
        ]
        if flips:
            parts.append(f"{flips:,} {'comparison has' if flips == 1 else 'comparisons have'} flipped on the way")
        elif np.isfinite(self.threshold):
            parts.append("and no comparison has flipped, so the weights' gradients are still exact")
        words = ", ".join(parts) + "."
        if back == self.steps - 1:
            words += f" Trained like this, the weights' gradient {made.verdict}."
        return words


def look(net: ReversibleTime, x: Tensor) -> Backwards:
    """The network's levels, forward and inverted; x `[T, B, *features]`."""
    there, found = walks(net, x)
    seen, refound = ([[net.read(c) for c in levels] for levels in walked] for walked in (there, found))
    numbers = isinstance(net.read, nn.Identity)
    threshold = float("nan") if numbers else getattr(getattr(net.read, "neuron", None), "v_threshold", float("nan"))
    alpha = min(alpha.detach().abs().min().item() for alpha in net.alphas)
    kept = (rows(there), rows(found), rows([] if numbers else seen), rows([] if numbers else refound))
    return Backwards(*kept, error(net, x), alpha, threshold)


def rows(walked: list[list[Tensor]]) -> list[np.ndarray]:
    """Of each level, the first sample's neurons at every step, [T, neurons]."""
    levels = zip(*walked, strict=True)
    return [torch.stack([c[0, 0].flatten() for c in level]).detach().double().numpy() for level in levels]
