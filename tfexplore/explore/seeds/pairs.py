"""The same training in two walks, from several seeds: the pairs of losses and accuracies, and how far apart they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

STEPPED, FUSED = PAIR = ("step by step", "fused")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def both() -> dict[str, list[float]]:
    return {walk: [] for walk in PAIR}


@dataclass(frozen=True)
class Pair:
    """One seed, by walk: the loss of every batch, and the test accuracy after every epoch.

    Both walks begin with the same weights and see the same batches in the same order.
    """

    losses: dict[str, list[float]] = field(default_factory=both)
    accuracies: dict[str, list[float]] = field(default_factory=both)

    def drift(self) -> np.ndarray:
        """How far apart the two losses of each batch are."""
        both = min(len(values) for values in self.losses.values())
        stepped, fused = (np.array(self.losses[walk][:both]) for walk in PAIR)
        return np.abs(stepped - fused)


@dataclass
class SeedPairs:
    """The pairs of trainings so far.

    Args:
        network: "mlp" or "conv".
        dtype: of weights, images and state.
        epochs: of each training.
        tests: how many test images there are.
        machine: where it ran.
        pairs: one per seed, each with `losses` and `accuracies` by walk.
        seconds: that training took, by walk, for all seeds together.
    """

    network: str
    dtype: str
    epochs: int
    tests: int
    machine: str
    pairs: list[Pair] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PAIR, 0.0))

    def finished(self) -> list[Pair]:
        return [pair for pair in self.pairs if len(pair.accuracies[FUSED]) == self.epochs]

    def final(self, walk: str) -> list[float]:
        """The test accuracy at the end, by seed."""
        return [pair.accuracies[walk][-1] for pair in self.finished()]

    def images_apart(self) -> list[int]:
        """How many more test images the fused network classifies correctly, by seed."""
        return [round((f - s) * self.tests) for s, f in zip(self.final(STEPPED), self.final(FUSED), strict=True)]

    def apart(self) -> str:
        """`images_apart` in words."""
        if not any(self.images_apart()):
            return f"from every seed, both classify equally many of the {self.tests} test images correctly"
        more = ", ".join(f"{k:+d}" if k else "0" for k in self.images_apart())
        return f"seed by seed, the fused network classifies {more} more of the {self.tests} test images correctly"

    def drift(self) -> np.ndarray:
        """How far apart the two losses of each batch are, over all seeds."""
        return np.concatenate([pair.drift() for pair in self.pairs] or [np.empty(0)])

    def sentence(self) -> str:
        drift = self.drift()
        if not len(drift):
            return "Press Start to train both ways from every seed."
        same = int((drift == 0).sum())
        bits = "all" if same == len(drift) else f"at most {drift.max():.1e} apart; {same}"
        parts = [f"{len(drift)} pairs of losses in {self.dtype}: {bits} have the same bits."]
        if finals := self.final(FUSED):
            parts.append(
                f"Test accuracy {np.mean(self.final(STEPPED)):.1%} step by step and {np.mean(finals):.1%} fused; {self.apart()}."
            )
        if len(finals) > 1:
            spread = round((max(finals) - min(finals)) * self.tests)
            parts.append(f"The best and the worst seed are {spread} images apart.")
        slow, fast = (self.seconds[walk] for walk in PAIR)
        parts.append(f"Training took {slow:.1f} s step by step and {fast:.1f} s fused ({self.machine}).")
        return " ".join(parts)
