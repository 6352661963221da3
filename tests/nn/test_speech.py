"""The network of the course's speech: its accuracy, that padding changes nothing, and one loss by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

from tfexplore.data import Sequences, japanese_vowels
from tfexplore.nn import speech


@pytest.fixture(scope="module")
def data() -> Sequences:
    pytest.importorskip("sktime", reason="brings the recordings")
    return japanese_vowels()


def test_it_tells_the_speakers_apart(data: Sequences) -> None:
    """98 % with each of five seeds; 95 % leaves other processors' rounding twelve utterances."""
    net = speech.network()
    losses = list(speech.fit(net, data))
    assert len(losses) == 60 * 9  # 270 utterances, 32 in a batch
    assert speech.accuracy(net, data) >= 0.95


def test_the_first_loss_is_that_of_each_utterance_alone(data: Sequences) -> None:
    first = next(speech.fit(speech.network(seed=3), data, seed=5))
    net = speech.network(seed=3)
    batch = torch.randperm(270, generator=torch.Generator().manual_seed(5))[: speech.BATCH].tolist()
    alone = [
        cross_entropy(net(data.train_x[: data.train_lengths[k], k : k + 1]).mean(0), data.train_labels[k : k + 1])
        for k in batch
    ]
    assert first == pytest.approx(torch.stack(alone).mean().item(), rel=1e-5)


def test_accuracy_is_that_of_each_utterance_alone(data: Sequences) -> None:
    net = speech.network()
    list(itertools.islice(speech.fit(net, data), 9))
    with torch.no_grad():
        right = [
            net(data.test_x[: data.test_lengths[k], k : k + 1]).mean(0).argmax().item() == data.test_labels[k].item()
            for k in range(370)
        ]
    assert speech.accuracy(net, data) == pytest.approx(sum(right) / 370)
    assert 0.3 < speech.accuracy(net, data) < 0.99  # neither chance, which is 1 in 9, nor trained to the end


def test_the_same_seed_the_same_training(data: Sequences) -> None:
    runs = [list(itertools.islice(speech.fit(speech.network(seed=1), data, seed=2), 3)) for _ in range(2)]
    assert runs[0] == runs[1]
