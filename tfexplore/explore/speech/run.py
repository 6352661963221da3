"""A training on speech so far, and what the network does with one test utterance."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from tfexplore.data import Sequences
from tfexplore.nn import padded, readout, record

SHOWN = 48
"""Hidden neurons in the raster."""


def whole(data: Sequences) -> Sequences:
    """The same utterances as if their padding belonged to them."""
    every = {name: getattr(data, f"{name}_lengths") for name in ("train", "test")}
    longest = {name: len(getattr(data, f"{name}_x")) for name in every}
    return data._replace(
        **{f"{name}_lengths": torch.full_like(lengths, longest[name]) for name, lengths in every.items()}
    )


@dataclass
class SpeechRun:
    """What happened so far.

    Args:
        net: the network that learns.
        lengths: whether each utterance ends at its own length.
        losses: of every batch.
        accuracies: (epoch, share of the test utterances that are right).
        seconds: spent on the batches.
    """

    net: nn.Module
    lengths: bool
    losses: list[float] = field(default_factory=list)
    accuracies: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0

    def sentence(self) -> str:
        ends = "each utterance ends at its own length" if self.lengths else "the padding counts as speech"
        if not self.losses:
            return f"Press Start to train; {ends}."
        right = f" {self.accuracies[-1][1]:.1%} of the test utterances are right." if self.accuracies else ""
        return f"{len(self.losses)} batches in {self.seconds:.1f} s; {ends}.{right}"


@dataclass(frozen=True)
class Heard:
    """One test utterance, and what the network does with it.

    Args:
        x: [T, channels].
        length: its steps; the rest is padding.
        spikes: of the first hidden neurons, [T, SHOWN].
        scores: the mean output over its steps, by speaker.
        speaker: who it is.
    """

    x: np.ndarray
    length: int
    spikes: np.ndarray
    scores: np.ndarray
    speaker: int

    @property
    def chosen(self) -> int:
        return int(self.scores.argmax())

    def sentence(self) -> str:
        verdict = "right" if self.chosen == self.speaker else f"it takes them for speaker {self.chosen + 1}"
        return f"{self.length} of {len(self.x)} steps are speech, by speaker {self.speaker + 1}: {verdict}."


def listen(net: nn.Module, data: Sequences, ends: Sequences, utterance: int) -> Heard:
    """Runs one test utterance; `ends` has the lengths that the network is given."""
    x, told = data.test_x[:, utterance : utterance + 1], ends.test_lengths[utterance : utterance + 1]
    with torch.no_grad(), padded(net, told), record(net, "s") as traces:
        out = net(x)
    spikes = traces[next(iter(traces))]["s"][:, 0, :SHOWN]
    scores = readout(out, lengths=told)[0]
    length, speaker = int(data.test_lengths[utterance]), int(data.test_labels[utterance])
    return Heard(x[:, 0].numpy(), length, spikes.numpy(), scores.numpy(), speaker)
