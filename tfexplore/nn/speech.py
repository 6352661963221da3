"""A small spiking network for speech, utterances of different length in a batch, and its training.

>>> from tfexplore import data
>>> from tfexplore.nn import speech
>>> recordings, net = data.japanese_vowels(), speech.network()
>>> losses = list(speech.fit(net, recordings, epochs=1))         # one for each batch
>>> accuracy = speech.accuracy(net, recordings)                  # on the test utterances
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn

from tfexplore.data import Sequences
from tfexplore.nn.library import LIF
from tfexplore.nn.losses import potential_cross_entropy
from tfexplore.nn.networks import strong
from tfexplore.nn.readouts import readout
from tfexplore.nn.states import padded

BATCH = 32
"""Utterances in a training step."""


def network(hidden: int = 512, tau: float = 2.0, seed: int = 0) -> nn.Sequential:
    """12 channels -> hidden spiking neurons -> 9 speakers, whose currents are averaged over an utterance's steps.

    The same weights for the same seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear1 = nn.Linear(12, hidden)
        strong(linear1, 2)
        linear2 = nn.Linear(hidden, 9)
    return nn.Sequential(OrderedDict[str, nn.Module](linear1=linear1, lif=LIF(tau=tau), linear2=linear2))


def fit(net: nn.Module, data: Sequences, epochs: int = 60, rate: float = 3e-3, seed: int = 0) -> Iterator[float]:
    """Trains, a batch at a time; yields the losses. Adam, its rate falling to 0 along a cosine; cross-entropy of the mean output.

    What hidden, epochs and rate should be was chosen by cross-validation within the training utterances.
    """
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train_labels), generator=order).split(BATCH):
            optimiser.zero_grad()
            lengths = data.train_lengths[batch]
            with padded(net, lengths):
                out = net(data.train_x[:, batch])
            loss = potential_cross_entropy(out, data.train_labels[batch], lengths=lengths)
            loss.backward()
            optimiser.step()
            yield loss.item()
        falling.step()


def accuracy(net: nn.Module, data: Sequences) -> float:
    """The share of the test utterances that the network gives to the right speaker."""
    with torch.no_grad(), padded(net, data.test_lengths):
        out = net(data.test_x)
    return (readout(out, lengths=data.test_lengths).argmax(1) == data.test_labels).float().mean().item()
