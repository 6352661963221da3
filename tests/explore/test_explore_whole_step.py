"""The whole-step explorer, in Python: the same losses every way, and the arithmetic of when it pays."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.whole_step.times import CAPTURED, COMPILED, EAGER, StepTimes, made, training


@pytest.fixture(scope="module")
def timed() -> Any:
    found = explore.whole_step(steps=4, hidden=32)
    asyncio.run(found.run())
    return found


def test_captured_has_the_losses_of_the_step_as_it_stands(timed: Any) -> None:
    assert set(timed.result.seconds) == {EAGER, CAPTURED}
    assert timed.result.apart == {EAGER: 0.0, CAPTURED: 0.0}
    assert timed.result.before[EAGER] == 0
    assert min(timed.result.seconds.values()) > 0
    assert "ms a step as it stands; " in timed.message.value
    assert "ms captured, which takes" in timed.message.value


def test_the_step_trains() -> None:
    step, batches = training(4, 64)
    first = [step(*batch).item() for batch in batches[:5]]
    for _ in range(3):
        last = [step(*batch).item() for batch in batches]
    assert np.mean(last) < 0.7 * np.mean(first)
    again, _ = training(4, 64)
    assert [again(*batch).item() for batch in batches[:5]] == first


def test_the_optimiser_is_adam() -> None:
    """The second loss, by Adam's own formula, on the first layer's gradient of the first batch."""
    step, batches = training(4, 32)
    (net,) = [cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, torch.nn.Module)]  # type: ignore[union-attr]
    before = net[2].weight.detach().clone()
    step(*batches[0])
    gradient = net[2].weight.grad
    expected = before - 1e-3 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(net[2].weight.detach(), expected, rtol=1e-4, atol=1e-7)


def test_when_it_pays() -> None:
    times = StepTimes(
        4, 32, "here", {EAGER: 0.0, CAPTURED: 0.05, COMPILED: 20.0}, {EAGER: 2e-3, CAPTURED: 1e-3, COMPILED: 3e-3}
    )
    assert times.pays_after(CAPTURED) == 50
    assert times.pays_after(COMPILED) == math.inf
    assert "1.00 ms captured, which takes 0.05 s before and pays after 50 steps" in times.sentence()
    assert "3.00 ms by torch.compile, which takes 20 s before and never pays" in times.sentence()


def test_the_figure_adds_what_comes_before(timed: Any) -> None:
    line = timed.trace(CAPTURED)
    expected = timed.result.before[CAPTURED] + np.array(line.x) * timed.result.seconds[CAPTURED]
    np.testing.assert_allclose(line.y, expected)
    assert len(timed.trace(COMPILED).x) == 0
    assert spread(timed.picture()) > 0.03
    assert callable(made(EAGER, lambda x, y: x))
    with pytest.raises(ValueError, match="steps must be one of 4, 8, 16, 32, 64, but got 5"):
        explore.whole_step(steps=5)
