"""Two trainings from the same weights on the same batches: one keeps everything of every step, the other almost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfexplore.data import Split, currents
from tfexplore.explore.policies import tasks
from tfexplore.explore.policies.policies import reversible
from tfexplore.measure.peaks import Peak, peak
from tfexplore.nn import networks
from tfexplore.nn.networks import BATCH

BPTT = "graph"
KEEPS = {"bits": "two bits of a state", "levels": "the levels' states", "last": "the last states only"}
WORDS = {BPTT: "BPTT", **KEEPS}


def network(keep: str, steps: int, seed: int = 0) -> nn.Module:
    """Three reversible levels for the digits, whose mean over time is read; the same weights for the same seed."""
    net = tasks.levels(seed)
    for part in reversible(net):
        part.keep = keep
    return net


def step(net: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Forward and backward pass of a batch, shown at every time step; the loss."""
    loss = cross_entropy(net(currents(images, steps)), labels)
    loss.backward()
    return loss


def fit(net: nn.Module, data: Split, steps: int, seed: int = 0) -> Iterator[float]:
    """Trains until the caller stops, a batch at a time; yields the losses."""
    return networks.fit(
        net, data, lambda net, x: net(x).unsqueeze(0), steps, tasks.RATE, seed
    )  # its mean over time is one


def memory(net: nn.Module, data: Split, steps: int) -> Peak:
    """Of a training step of one batch; gradients are among what is held, weights are not."""
    images, labels = data.train_images[:BATCH], data.train_labels[:BATCH]
    found = peak(partial(step, net, images, labels, steps), [*net.parameters(), *net.buffers(), images, labels])
    net.zero_grad()
    return found


@dataclass
class Twins:
    """The two trainings so far.

    Args:
        keep: what the second one keeps.
        steps: time steps `T`.
        machine: where it ran.
        losses: of every batch, by what is kept.
        accuracies: on the test images after every epoch, by what is kept.
        memory: of a training step, by what is kept.
        seconds: in which the trainings took their batches, by what is kept.
    """

    keep: str
    steps: int
    machine: str
    losses: dict[str, list[float]] = field(default_factory=dict)
    accuracies: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, Peak] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for keep in (BPTT, self.keep):
            self.losses[keep], self.accuracies[keep], self.seconds[keep] = [], [], 0.0

    def apart(self) -> np.ndarray:
        """How far apart the two losses of each batch are."""
        both = min(map(len, self.losses.values()))
        one, other = (np.array(values[:both]) for values in self.losses.values())
        return np.abs(one - other)

    def sentence(self) -> str:
        if not self.memory:
            return "Press Start to train the same network twice, batch by batch in turn."
        mib = {keep: found.held / 2**20 for keep, found in self.memory.items()}
        both = f"{mib[BPTT]:.1f} MiB by BPTT and {mib[self.keep]:.1f} MiB keeping {KEEPS[self.keep]}"
        less = f", {mib[BPTT] / mib[self.keep]:.1f} times less" if mib[self.keep] < mib[BPTT] else ""
        parts = [f"A training step of T = {self.steps} holds {both}{less}."]
        if len(apart := self.apart()):
            same = "have the same bits" if not apart.any() else f"are at most {apart.max():.1g} apart"
            parts.append(f"{len(apart)} pairs of losses {same}.")
            parts.append(f"It takes {self.seconds[self.keep] / self.seconds[BPTT]:.2f} times as long ({self.machine}).")
        if all(self.accuracies.values()):
            one, other = (f"{values[-1]:.1%}" for values in self.accuracies.values())
            parts.append(f"Test accuracy {one} by BPTT, {other} walked back.")
        return " ".join(parts)
