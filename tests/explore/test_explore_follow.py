"""The explorer of a loss on the potential, in Python: the gradient arrives where the loss looks, and the potential follows."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.follow import fitting
from tfexplore.explore.follow.fitting import EVERY, LAST, Fit, training
from tfexplore.neurons import LIF


@pytest.fixture(scope="module")
def followed() -> Any:
    made = explore.follow()
    asyncio.run(made.run())
    return made


@pytest.mark.parametrize("where", [EVERY, LAST])
def test_the_first_round_against_a_plain_loop(where: str) -> None:
    """Potential, gradient and the step of Adam, of a loop that autograd differentiates."""
    made = Fit(LIF(tau=5.0), fitting.curve("steps"), where)
    rounds = training(made)
    next(rounds)
    assert not made.potential.any(), "all weights begin at 0"
    next(rounds)
    weights = torch.zeros(fitting.INPUTS, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=fitting.LEARNING_RATE)
    target = torch.from_numpy(made.target).float()
    for _ in range(2):
        x = fitting.inputs() @ weights
        v, hs = torch.zeros(()), []
        for t in range(fitting.STEPS):
            hs.append(v - v / 5.0 + x[t])
            v = hs[-1] - (hs[-1] >= 1).float()
        h = torch.stack(hs)
        loss = ((h - target) ** 2).mean() if where == EVERY else (h[-1] - target[-1]) ** 2
        g_x, weights.grad = torch.autograd.grad(loss, [x, weights])
        optimiser.step()
    np.testing.assert_allclose(made.potential, h.detach(), atol=1e-6)
    np.testing.assert_allclose(made.gradient, g_x, atol=1e-6)
    assert made.losses[-1] == pytest.approx(loss.item(), rel=1e-5)


def test_the_potential_follows_the_curve(followed: Any) -> None:
    result = followed.result
    assert len(result.losses) == fitting.ROUNDS + 1
    assert result.losses[-1] < 1e-3 * result.losses[0]
    assert result.distance < 0.03
    assert "After 300 rounds the potential is 0.0" in followed.message.value
    assert list(followed.trace("potential").y) == pytest.approx(list(result.potential))
    assert list(followed.trace("loss").x)[-1] == fitting.ROUNDS
    assert spread(followed.picture()) > 0.05
    assert repr(followed) == "Follow(curve='sine', where='every step', tau=5.0, threshold=1.0)"


def test_it_fires_where_the_curve_is_above_the_threshold() -> None:
    made = explore.follow("two bumps", threshold=0.4)
    result = asyncio.run(made.run())
    above = result.target >= 0.4
    assert result.spikes[above].mean() > 0.8
    assert result.spikes[~above].mean() < 0.1
    assert list(made.trace("spikes").x) == list(1 + np.flatnonzero(result.spikes))


def test_a_control_begins_anew(followed: Any) -> None:
    made = explore.follow()
    asyncio.run(made.run())
    assert list(made.trace("loss looks").x) == []
    made.controls["where"].value = "the last step"
    assert len(made.result.losses) == 1
    assert "Press Start" in made.message.value
    assert list(made.trace("loss looks").x) == [fitting.STEPS]
    reached = np.flatnonzero(np.abs(made.result.gradient) >= 0.01 * np.abs(made.result.gradient).max())
    assert list(reached) == list(range(79, 100)), "the last 21: 0.8 ** 20 is above 1 %, 0.8 ** 21 is not"
    assert "at 21 of 100 steps" in made.message.value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"curve": "circle"}, "curve must be one of 'sine', 'two bumps', 'steps', but got 'circle'"),
        ({"where": "now"}, "where must be one of 'every step', 'the last step', but got 'now'"),
        ({"tau": 0.5}, "tau must be a finite number, at least 1, but got 0.5"),
    ],
)
def test_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        explore.follow(**given)
