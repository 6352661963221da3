"""The breakdown of a training step: its parts, what limits the speedup, and the stacked bars that show them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.breakdown import figure
from tfexplore.explore.breakdown.parts import AFTER, BEFORE, timed
from tfexplore.explore.training.networks import subject
from tfexplore.measure import clock


class Breakdown(Explorer):
    """Milliseconds of one training step by part, for each walk: `parts[walk][part]`. A notebook shows it as stacked bars."""

    caption = (
        "Median time of one training step by part: before fusion (each time step a handful of operations) and after."
    )

    def __init__(self, parts: dict[str, dict[str, float]], network: str, steps: int, machine: str) -> None:
        self.parts, self.network, self.steps, self.machine = parts, network, steps, machine
        super().__init__()

    def total(self, walk: str) -> float:
        """Milliseconds of the whole step."""
        return sum(self.parts[walk].values())

    @property
    def limit(self) -> float:
        """The largest speedup of the whole step, if the neurons took no time at all (Amdahl's law)."""
        return self.total(BEFORE) / (self.total(BEFORE) - self.parts[BEFORE]["neurons"])

    def sentence(self) -> str:
        before, after = self.parts[BEFORE], self.parts[AFTER]
        share = before["neurons"] / self.total(BEFORE)
        return (
            f"{self.network}, T = {self.steps}: the neurons took {share:.0%} of a training step, so it can become at most "
            f"{self.limit:.1f} times as fast. Fused they are {before['neurons'] / after['neurons']:.1f} times as fast, the "
            f"whole step {self.total(BEFORE) / self.total(AFTER):.1f} times."
        )

    def __repr__(self) -> str:
        return f"Breakdown: {self.sentence()} ({self.machine})"

    def look(self) -> dict[str, dict[str, float]]:
        return self.parts

    def sheet(self) -> Sheet:
        return figure.sheet(self.parts)


def breakdown(
    network: str | nn.Module = "mlp", data: Sequence[object] | None = None, *, steps: int = 16, hidden: int = 128,
    rounds: int = 15,
) -> Breakdown:  # fmt: skip
    """Times the parts of a training step one by one, and the whole of it, layer by layer and fused.

    Neurons: every layer of them, forward and backward, on the inputs that it gets in the network. Linear and conv: the
    modules between them (pooling too), likewise. Optimiser: its step, and setting the gradients to zero. The rest is the
    difference to the whole step: loss, choosing the batch, autograd's and Python's work between the parts. A part alone
    finds its data in a cache more often than within the whole, so the rest is an estimate; noise can make it negative (then
    it is not drawn). Parts and wholes take turns.

    Args:
        network: "mlp", "conv", or an `nn.Sequential` of yours that maps currents `[T, B, *features]` to `[T, B, classes]`.
        data: for a network of yours, (x_train, y_train, x_test, y_test); by default the digits.
        steps: time steps `T`.
        hidden: neurons in each hidden layer of "mlp".
        rounds: of each part and whole, of which the median counts.

    Returns:
        A `Breakdown`, with `parts`, the `limit` of the speedup, `figure` and `picture()`.

    Raises:
        TypeError: if network is a module but no `nn.Sequential`, so that it cannot be taken apart.
        ValueError: if network is none of those allowed, or cannot be trained on the data.

    Example:
        >>> from tfexplore import explore
        >>> sorted(explore.breakdown(steps=2, hidden=16, rounds=1).parts)
        ['fused', 'layer by layer']
    """
    if isinstance(network, nn.Module) and not isinstance(network, nn.Sequential):
        raise TypeError(f"network must be an nn.Sequential, to be taken apart, but got {type(network).__name__}.")
    trained = subject(network, data, AFTER, steps, hidden=hidden)
    return Breakdown(timed(trained, steps, rounds), trained.name, steps, clock.machine())
