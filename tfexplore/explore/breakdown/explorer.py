"""The breakdown of a training step: its parts, what limits the speedup, and the stacked bars that show them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from tfexplore.explore.base.controls import Choice
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.breakdown import figure
from tfexplore.explore.breakdown.parts import (
    AFTER,
    APART,
    BATCH_NORM,
    BEFORE,
    CHOICES,
    INSIDE,
    NEURONS,
    NONE,
    Parts,
    timed,
    variants,
)  # fmt: skip
from tfexplore.explore.training.networks import Subject, subject
from tfexplore.measure import clock
from tfexplore.nn.networks import RATES, conv, images


class Breakdown(Explorer):
    """Milliseconds of one training step by part, for each walk: `parts[walk][part]`. A notebook shows it as stacked bars.

    measured: the parts by where the network has its BatchNorm; with several, the control `batch_norm` chooses.
    """

    caption = (
        "Median time of one training step by part: before fusion (each time step a handful of operations) and after."
    )
    batch_norm = Choice("BatchNorm", CHOICES, help="where BatchNorm is after fusion; all were measured in one run")

    def __init__(
        self, measured: dict[str, Parts], network: str, steps: int, machine: str, choice: str | None = None
    ) -> None:
        self.measured, self.network, self.steps, self.machine = measured, network, steps, machine
        several, kind = len(measured) > 1, type(self)
        shown = next(iter(measured)) if choice is None else choice
        super().__init__(batch_norm=kind.batch_norm.at(shown, options=list(measured)) if several else None)

    @property
    def choice(self) -> str:
        """Where the network that is shown has its BatchNorm."""
        shown: str = self.batch_norm if "batch_norm" in self.controls else next(iter(self.measured))
        return shown

    @property
    def parts(self) -> Parts:
        return self.measured[self.choice]

    def total(self, walk: str) -> float:
        """Milliseconds of the whole step."""
        return sum(self.parts[walk].values())

    @property
    def limit(self) -> float:
        """The largest speedup of the whole step, if the neurons, and what is fused with them, took no time (Amdahl's law)."""
        fused = self.parts[BEFORE][NEURONS] + self.parts[BEFORE][BATCH_NORM] * (self.choice == INSIDE)
        rest = self.total(BEFORE) - fused
        return self.total(BEFORE) / rest if rest > 0 else math.inf

    def sentence(self) -> str:
        return f"{self.name}, T = {self.steps}: {self.found()} ({self.machine})"

    @property
    def name(self) -> str:
        return self.network + " with BatchNorm" * (self.choice != NONE)

    def __repr__(self) -> str:
        chosen = f", batch_norm={self.choice!r}" if "batch_norm" in self.controls else ""
        return f"Breakdown(network={self.network!r}, steps={self.steps}{chosen})"

    def found(self) -> str:
        before, after = self.parts[BEFORE], self.parts[AFTER]
        faster = self.total(BEFORE) / self.total(AFTER)
        if math.isinf(self.limit):
            return "by itself, a part took longer than the whole step: this machine is too busy to measure. Run the cell again."
        if self.choice == INSIDE:
            apart = self.measured[APART][AFTER]
            two, one = apart[NEURONS] + apart[BATCH_NORM], after[NEURONS]
            return (
                f"fused into one kernel, BatchNorm and neurons take {one:.2f} ms, apart they take {two:.2f} ms. The whole step "
                f"is {sum(apart.values()) / self.total(AFTER):.2f} times as fast as with BatchNorm apart, and {faster:.1f} times "
                "as fast as before fusion."
            )
        share = before[NEURONS] / self.total(BEFORE)
        left = (
            f" Of what is left BatchNorm takes {after[BATCH_NORM] / self.total(AFTER):.0%}."
            if after[BATCH_NORM]
            else ""
        )
        return (
            f"the neurons took {share:.0%} of a training step, so it can become at most "
            f"{self.limit:.1f} times as fast. Fused they are {before[NEURONS] / after[NEURONS]:.1f} times as fast, the "
            f"whole step {faster:.1f} times.{left}"
        )

    def look(self) -> Parts:
        return self.parts

    def sheet(self) -> Sheet:
        return figure.sheet(self.measured, self.choice)


def breakdown(
    network: str | nn.Module = "mlp", data: Sequence[object] | None = None, *, steps: int = 16, hidden: int = 128,
    batch_norm: str | None = None, rounds: int = 15,
) -> Breakdown:  # fmt: skip
    """Times the parts of a training step one by one, and the whole of it, layer by layer and fused.

    Neurons: every layer of them, forward and backward, on the inputs that it gets in the network. Linear and conv: the
    modules between them (pooling too), likewise; BatchNorm by itself. Optimiser: its step, and setting the gradients to zero.
    The rest is the difference to the whole step: loss, choosing the batch, autograd's and Python's work between the parts. A part
    alone finds its data in a cache more often than within the whole, so the rest is an estimate; noise can make it negative (then
    it is not drawn). Parts and wholes take turns.

    Args:
        network: "mlp", "conv", or an `nn.Sequential` of yours that maps currents `[T, B, *features]` to `[T, B, classes]`.
        data: for a network of yours, (x_train, y_train, x_test, y_test); by default the digits.
        steps: time steps `T`.
        hidden: neurons in each hidden layer of "mlp".
        batch_norm: for "conv", what is shown first: "none", "apart" (a BatchNorm behind each convolution) or "in the kernel"
            (after `tfexplore.fuse`). All three are measured in one run. None measures the network without BatchNorm only. A
            network of yours with BatchNorm directly before a layer is measured apart and in the kernel.
        rounds: of each part and whole, of which the median counts; after 20 seconds none begins.

    Controls: batch_norm, where several places of BatchNorm were measured.

    Returns:
        A `Breakdown`, with `parts`, the `limit` of the speedup, `figure` and `picture()`.

    Raises:
        TypeError: if network is a module but no `nn.Sequential`, so that it cannot be taken apart.
        ValueError: if network or batch_norm is none of those allowed, or network cannot be trained on the data.

    Example:
        >>> from tfexplore import explore
        >>> sorted(explore.breakdown(steps=2, hidden=16, rounds=1).parts)
        ['fused', 'layer by layer']
    """
    if isinstance(network, nn.Module) and not isinstance(network, nn.Sequential):
        raise TypeError(f"network must be an nn.Sequential, to be taken apart, but got {type(network).__name__}.")
    if batch_norm not in (None, *CHOICES):
        raise ValueError(f"batch_norm must be one of {', '.join(map(repr, CHOICES))}, but got {batch_norm!r}.")
    if batch_norm is not None and network != "conv":
        raise ValueError(
            f"batch_norm={batch_norm!r} is for network='conv'; in a network of yours write BatchNorm where you want it."
        )
    trained = subject(network, data, AFTER, steps, hidden=hidden)
    networks = variants(trained)
    if batch_norm is not None:
        normalised = Subject(conv(batch_norm=True), images(), RATES["conv"], trained.name)
        networks = {NONE: trained, APART: normalised, INSIDE: normalised}
    return Breakdown(timed(networks, steps, rounds), trained.name, steps, clock.machine(), batch_norm)
