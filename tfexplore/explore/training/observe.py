"""What can be observed of a network while it trains: test accuracy, firing rates, and one test image's traces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tfexplore.data import Split, currents
from tfexplore.explore.neuron.membrane import threshold_of
from tfexplore.neurons.step import scalars_of
from tfexplore.nn import layers
from tfexplore.nn.networks import BATCH, Walk
from tfexplore.nn.states import record

TESTED = 256
"""Test images in one forward pass."""
SHOWN = 64
"""Neurons of a layer in the raster."""


@dataclass
class TrainingRun:
    """What a training has shown so far.

    Args:
        walk: "fused", "layer by layer" or "step by step".
        net: the network in training.
        losses: of each batch.
        accuracies: pairs of batches seen by then, and the share of the test images classified correctly.
        rates: pairs of batches seen by then, and spikes per neuron and time step, by layer.
        seconds: spent on training.
    """

    walk: str
    net: nn.Module
    losses: list[float] = field(default_factory=list)
    accuracies: list[tuple[int, float]] = field(default_factory=list)
    rates: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    seconds: float = 0.0

    def sentence(self) -> str:
        if not self.losses:
            return "Press Start to train."
        right = "first epoch under way"
        if self.accuracies:
            right = f"{self.accuracies[-1][1]:.1%} of the test set classified correctly"
        return f"{self.walk}: {len(self.losses)} batches in {self.seconds:.1f} s, {right}."


def spiking(net: nn.Module) -> dict[str, layers.Layer]:
    """The layers that fire, by module name."""
    return {n: m for n, m in net.named_modules() if isinstance(m, layers.Layer) and m.neuron.spiking}


@contextmanager
def as_tested(net: nn.Module) -> Iterator[None]:
    """Without gradients, and in eval mode: observing a network must not change how it trains."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def accuracy(net: nn.Module, data: Split, walk: Walk, steps: int) -> float:
    """The share of the test images that the network classifies correctly; some at a time, as memory may not hold all."""
    right = 0
    with as_tested(net):
        for images, labels in zip(data.test_images.split(TESTED), data.test_labels.split(TESTED), strict=True):
            out = walk(net, currents(images, steps)).mean(0)
            right += int((out.argmax(1) == labels).sum())
    return right / len(data.test_labels)


def firing_rates(net: nn.Module, data: Split, steps: int) -> dict[str, float]:
    """Spikes per neuron and time step, by layer, over the first 64 test images."""
    with as_tested(net), record(net, "s") as traces:
        net(currents(data.test_images[:BATCH], steps))
    return {name: traces[name]["s"].mean().item() for name in spiking(net)}


@dataclass(frozen=True)
class Traces:
    """One test image through one layer: h, v and s are `[T, neurons]`; shape is that of the layer's features.

    threshold: the layer's, if it is a number that does not change.
    """

    layer: str
    label: int
    guess: int
    image: np.ndarray
    shape: tuple[int, ...]
    threshold: float | None
    h: np.ndarray
    v: np.ndarray
    s: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """The neurons in the raster: the first of a vector of neurons; of maps, some that were picked at random once."""
        count = math.prod(self.shape)
        if len(self.shape) == 1 or count <= SHOWN:
            return np.arange(min(SHOWN, count))
        return np.sort(np.random.default_rng(0).choice(count, SHOWN, replace=False))

    def liveliest(self) -> int:
        """The row of the raster whose neuron is nearest to firing in every third step."""
        return int(np.abs(self.s[:, self.cells].mean(0) - 1 / 3).argmin())

    def address(self, neuron: int) -> str:
        """Where a neuron is in its layer."""
        place = np.unravel_index(neuron, self.shape)
        names = ("channel", "row", "column") if len(place) == 3 else ()
        return ", ".join(f"{name} {k}" for name, k in zip(names, place, strict=False))


def examine(net: nn.Module, data: Split, digit: int, steps: int, layer: str = "lif2") -> Traces:
    """Runs one test image through the network, and records one of its layers."""
    with as_tested(net), record(net, "h", "v", "s") as traces:
        out = net(currents(data.test_images[digit : digit + 1], steps)).mean(0)
    seen = {name: trace[:, 0].cpu() for name, trace in traces[layer].items()}
    flat = {name: trace.flatten(1).numpy() for name, trace in seen.items()}
    label, image, shape = int(data.test_labels[digit]), as_picture(data.test_images[digit]), tuple(seen["s"].shape[1:])
    return Traces(layer, label, int(out.argmax()), image, shape, threshold(spiking(net)[layer]), **flat)


def threshold(layer: layers.Layer) -> float | None:
    """The threshold of a layer, if it is a number that does not change."""
    level, numbers = threshold_of(layer.step), scalars_of(layer.neuron).values()
    if level is None:
        return None
    try:  # what depends on a state or on x is no number when these are none
        found = float(level(*(math.nan for _ in layer.step.before), math.nan, *numbers))
    except TypeError:  # still a symbol: it is learned
        return None
    return found if math.isfinite(found) else None


def as_picture(x: Tensor) -> np.ndarray:
    """One example as a matrix to look at: its first channel; a vector as a square where it fills one, else as one row."""
    while x.ndim > 2:
        x = x[0]
    if x.ndim < 2:
        side = math.isqrt(x.numel())
        x = x.reshape((side, side) if side**2 == x.numel() else (1, -1))
    return x.cpu().numpy()
