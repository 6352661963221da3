"""The speech explorer, in Python: it trains, with lengths and without, and shows one utterance."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")
pytest.importorskip("sktime", reason="the utterances come with sktime: pip install sktime")

from tests.pictures import spread
from tfexplore import data, explore
from tfexplore.explore.speech.run import SHOWN, whole


@pytest.fixture(scope="module")
def trained() -> Any:
    made = explore.speech(hidden=96, epochs=4)
    asyncio.run(made.run())
    return made


def test_it_learns(trained: Any) -> None:
    assert len(trained.result.losses) == 4 * 9
    assert [epoch for epoch, _ in trained.result.accuracies] == [1, 2, 3, 4]
    assert trained.result.accuracies[-1][1] > 0.75
    assert "36 batches in" in trained.message.value
    assert "each utterance ends at its own length" in trained.message.value


def by_hand(net: Any, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and mean output of one utterance [T, channels] without its padding, by a plain loop."""
    v = torch.zeros(net.linear1.out_features)
    spikes, outs = [], []
    for row in x:
        v = v - v / 2 + net.linear1(row)
        s = (v >= 1).float()
        v = v - s
        spikes.append(s)
        outs.append(net.linear2(s))
    return torch.stack(spikes).numpy(), torch.stack(outs).mean(0).numpy()


def test_the_utterance_is_what_a_loop_over_its_own_steps_has(trained: Any) -> None:
    trained.utterance = 37
    heard, recordings = trained.heard, data.japanese_vowels()
    length = int(recordings.test_lengths[37])
    with torch.no_grad():
        spikes, scores = by_hand(trained.result.net, recordings.test_x[:length, 37])
    assert heard.length == length < len(heard.x)
    np.testing.assert_array_equal(heard.spikes[:length], spikes[:, :SHOWN])
    assert not heard.spikes[length:].any()
    np.testing.assert_allclose(heard.scores, scores, rtol=1e-4, atol=1e-4)
    assert f"{length} of 29 steps are speech, by speaker {int(recordings.test_labels[37]) + 1}" in trained.message.value


def test_without_lengths_the_padding_counts() -> None:
    made = explore.speech(hidden=32, epochs=1)
    made.lengths = False
    assert "the padding counts as speech" in made.message.value
    recordings = data.japanese_vowels()
    shorter = int(recordings.test_lengths.argmin())
    made.utterance = shorter
    with torch.no_grad():
        _, scores = by_hand(made.result.net, recordings.test_x[:, shorter])
    np.testing.assert_allclose(made.heard.scores, scores, rtol=1e-4, atol=1e-4)
    ends = whole(recordings)
    assert set(ends.train_lengths.tolist()) == {len(ends.train_x)}


def test_stopped_and_resumed(trained: Any) -> None:
    made = explore.speech(hidden=32, epochs=3)

    async def stopped() -> None:
        task = asyncio.ensure_future(made.run())
        while not made.result.accuracies:
            await asyncio.sleep(0.01)
        made.stop()
        await task
        assert 0 < len(made.result.accuracies) < 3
        await made.run(resume=True)

    asyncio.run(stopped())
    assert len(made.result.accuracies) == 3
    assert len(made.trace("loss").y) == 27
    assert spread(made.picture()) > 0.05


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden must be a whole number from 1 to 512, but got 0"):
        explore.speech(hidden=0)
