"""The same training in two walks, from several seeds: the pairs of losses and accuracies, and how far apart they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

STEPPED, LAYERED, FUSED = "step by step", "layer by layer", "fused"
REFERENCES = (STEPPED, LAYERED)
"""What fused may be compared with: both run in eager torch."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Pair:
    """One seed, by walk: the loss of every batch, and the test accuracy after every epoch.

    Both walks begin with the same weights and see the same batches in the same order.
    """

    losses: dict[str, list[float]]
    accuracies: dict[str, list[float]]

    def drift(self) -> np.ndarray:
        """How far apart the two losses of each batch are."""
        both = min(len(values) for values in self.losses.values())
        reference, fused = (np.array(values[:both]) for values in self.losses.values())
        return np.abs(reference - fused)


@dataclass
class SeedPairs:
    """The pairs of trainings so far.

    Args:
        network: "mlp", "conv" or "your network".
        reference: the walk beside the fused one.
        dtype: of weights, images and state.
        epochs: of each training.
        tests: how many test images there are.
        machine: where it ran.
        pairs: one per seed, each with `losses` and `accuracies` by walk.
        seconds: that training took, by walk, for all seeds together.
    """

    network: str
    reference: str
    dtype: str
    epochs: int
    tests: int
    machine: str
    pairs: list[Pair] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seconds |= dict.fromkeys(self.walks, 0.0)

    @property
    def walks(self) -> tuple[str, str]:
        """The two of each pair."""
        return self.reference, FUSED

    def begin(self) -> Pair:
        """A pair of trainings that have not begun, now the last of `pairs`."""
        self.pairs.append(Pair({walk: [] for walk in self.walks}, {walk: [] for walk in self.walks}))
        return self.pairs[-1]

    def finished(self) -> list[Pair]:
        return [pair for pair in self.pairs if len(pair.accuracies[FUSED]) == self.epochs]

    def final(self, walk: str) -> list[float]:
        """The test accuracy at the end, by seed."""
        return [pair.accuracies[walk][-1] for pair in self.finished()]

    def images_apart(self) -> list[int]:
        """How many more test images the fused network classifies correctly, by seed."""
        return [round((f - s) * self.tests) for s, f in zip(self.final(self.reference), self.final(FUSED), strict=True)]

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
                f"Test accuracy {np.mean(self.final(self.reference)):.1%} {self.reference} and {np.mean(finals):.1%} fused; "
                f"{self.apart()}."
            )
        if len(finals) > 1:
            spread = round((max(finals) - min(finals)) * self.tests)
            parts.append(f"The best and the worst seed are {spread} images apart.")
        slow, fast = (self.seconds[walk] for walk in self.walks)
        parts.append(f"Training took {slow:.1f} s {self.reference} and {fast:.1f} s fused ({self.machine}).")
        return " ".join(parts)
