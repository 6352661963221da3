"""The inverse explorer, in Python: what it shows is what a plain inverse finds, and its words say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.inverse.backwards import CHANNELS, NUMBERS, SPIKES, example, example_input
from tfexplore.reversible import Level, ReversibleTime


@pytest.fixture(scope="module")
def shown() -> Any:
    return explore.inverse()


def by_hand(alpha: float, steps: int, read: str) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    """The levels of the first sample forward and backward in time, [T][L], by loops over torch's modules."""
    net, x = example(alpha, read), example_input(steps)
    levels: Any = net.steps[0]

    def see(c: torch.Tensor) -> torch.Tensor:
        return (c >= 0.5).float() if read == SPIKES else c

    with torch.no_grad():
        there: list[list[torch.Tensor]] = []
        for t in range(steps):
            now: list[torch.Tensor] = []
            for k, module in enumerate(levels):
                above = see(there[-1][k + 1]) if there and k < 2 else None
                made = module(x[t] if k == 0 else see(now[k - 1]), above)
                now.append(made + alpha * there[-1][k] if there else made)
            there.append(now)
        found = [there[-1]]
        for t in range(steps - 1, 0, -1):
            before: dict[int, torch.Tensor] = {}
            for k in (2, 1, 0):
                below = x[t] if k == 0 else see(found[0][k - 1])
                before[k] = (found[0][k] - levels[k](below, see(before[k + 1]) if k < 2 else None)) / alpha
            found.insert(0, [before[k] for k in range(3)])
    return [[c[0].numpy() for c in levels] for levels in there], [[c[0].numpy() for c in levels] for levels in found]


@pytest.mark.parametrize("read", [SPIKES, NUMBERS])
def test_the_walks_against_plain_loops(read: str) -> None:
    made = explore.inverse(alpha=0.5, steps=8, read=read).result
    there, found = by_hand(0.5, 8, read)
    for level in range(3):
        np.testing.assert_allclose(made.there[level], [step[level] for step in there], atol=1e-5)
        np.testing.assert_allclose(made.found[level], [step[level] for step in found], atol=2e-2)
        assert made.there[level].shape == (8, CHANNELS[level])
    if read == SPIKES:
        assert all((made.fired[k] == (made.there[k] >= 0.5)).all() for k in range(3))
    else:
        assert not made.fired


def test_the_error_grows_until_spikes_flip(shown: Any) -> None:
    shown.alpha, shown.steps = 0.5, 24
    exactness = shown.result.exactness
    first = np.flatnonzero(exactness.flips.sum(0))[-1]
    assert 0 < first < 20
    assert (exactness.states[:, first + 1 :].max(0) <= 4 * exactness.bound[first + 1 :] + 1e-12).all()
    assert "comparisons have flipped on the way" in shown.message.value
    assert "cosine" in shown.message.value
    assert 'role="alert"' in shown.message.value
    shown.back = 5
    assert "no comparison has flipped" in shown.message.value
    assert 'role="status"' in shown.message.value
    shown.back = 0
    assert "nothing has been inverted yet" in shown.message.value


def test_a_larger_alpha_and_more_bits_hold_longer(shown: Any) -> None:
    flips = {}
    for alpha, precision in ((0.3, "float32"), (0.9, "float32"), (0.3, "float64")):
        shown.alpha, shown.precision = alpha, precision
        flips[alpha, precision] = shown.result.exactness.flips.sum()
    shown.precision = "float32"
    assert flips[0.3, "float32"] > 100
    assert not flips[0.9, "float32"]
    assert not flips[0.3, "float64"]


def test_levels_that_are_seen_as_numbers_never_flip(shown: Any) -> None:
    shown.alpha, shown.read = 0.5, NUMBERS
    assert not shown.result.exactness.flips.any()
    assert "flipped" not in shown.message.value
    shown.read = SPIKES


def test_the_figure_goes_back_as_far_as_the_slider(shown: Any) -> None:
    shown.alpha, shown.steps, shown.level, shown.neuron, shown.back = 0.5, 24, 1, 3, 7
    found = shown.trace("found")
    assert list(found.x) == list(range(17, 25))
    np.testing.assert_allclose(np.array(found.y, float), shown.result.found[1][16:, 3])
    assert len(shown.trace("there").y) == 24
    assert len(shown.trace("flips").y) == 8
    shown.level = 2
    assert shown.controls["neuron"].max == CHANNELS[2] - 1
    assert "neuron 3 of level 2" in shown.sheet().panels["state"].title


def test_a_network_of_ones_own() -> None:
    torch.manual_seed(0)
    net = ReversibleTime([Level(nn.Linear(4, 6), nn.Linear(5, 6)), Level(nn.Linear(6, 5))], (6, 5))
    made = explore.inverse(net, torch.randn(10, 3, 4))
    assert "alpha" not in made.controls
    assert made.controls["steps"].max == 10
    assert made.result.there[1].shape == (10, 5)
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(TypeError, match="x is missing"):
        explore.inverse(net)
    with pytest.raises(TypeError, match="net must be a ReversibleTime, but got Linear"):
        explore.inverse(nn.Linear(4, 4), torch.randn(10, 3, 4))
    with pytest.raises(ValueError, match="read must be one of"):
        explore.inverse(read="as sounds")


def test_the_picture_shows_it(shown: Any) -> None:
    shown.alpha, shown.steps = 0.5, 24
    assert spread(shown.picture()) > 0.05
    assert len(shown.page().frames) > 10
