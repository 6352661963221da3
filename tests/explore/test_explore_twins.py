"""The twins explorer, in Python: both trainings are the same but for what is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy, interpolate

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.twins import trainings
from tfexplore.explore.twins.trainings import BPTT
from tfexplore.nn.networks import BATCH, images


@pytest.fixture(scope="module")
def trained() -> Any:
    made = explore.twins("levels", steps=4, epochs=1)
    asyncio.run(made.run())
    return made


def by_hand(net: Any, x: torch.Tensor, labels: torch.Tensor, steps: int) -> torch.Tensor:
    """The loss of a batch by a plain loop over the weights."""
    levels = net[0].steps[0]
    weights = [(level.down[0], level.up[0] if level.up is not None else None) for level in levels]
    alphas = [decay().view(-1, 1, 1) for decay in net[0].decays]

    def see(c: torch.Tensor) -> torch.Tensor:
        inside = ((c >= 0) & (c <= 1)).to(c)
        return (c >= 0.5).to(c) + inside * (c - c.detach())

    c: list[Any] = [None] * 3
    total: Any = 0.0
    for _ in range(steps):
        for k, (down, up) in enumerate(weights):
            made = conv2d(x if k == 0 else see(c[k - 1]), down.weight, down.bias, down.stride, 1)
            if up is not None and c[k + 1] is not None:
                made = made + interpolate(conv2d(see(c[k + 1]), up.weight, up.bias), scale_factor=2)
            c[k] = made if c[k] is None else made + alphas[k] * c[k]
        total = total + c[-1]
    return cross_entropy(net[2]((total / steps).flatten(1)), labels)


@pytest.mark.parametrize("keep", [BPTT, *trainings.KEEPS])
def test_the_first_losses_against_a_plain_loop(keep: str) -> None:
    data = images()
    net, other = trainings.network(keep, 3), trainings.network(BPTT, 3)
    optimiser = torch.optim.Adam(other.parameters(), lr=5e-3)
    order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(0)).split(BATCH)
    made = trainings.fit(net, data, 3)
    for batch in order[:3]:
        optimiser.zero_grad()
        loss = by_hand(other, data.train_images[batch], data.train_labels[batch], 3)
        loss.backward()
        optimiser.step()
        assert next(made) == pytest.approx(loss.item(), rel=1e-4)


def test_states_that_are_kept_give_the_same_bits(trained: Any) -> None:
    result = trained.result
    assert len(result.losses[BPTT]) == len(result.losses["levels"]) == 23
    assert not result.apart().any()
    assert result.accuracies[BPTT] == result.accuracies["levels"]
    assert result.accuracies[BPTT][0] > 0.7
    assert "23 pairs of losses have the same bits" in trained.message.value


def test_memory_is_what_the_step_holds(trained: Any) -> None:
    """BPTT's grows with every step, the other's hardly."""
    data = images()
    held = {
        (keep, steps): trainings.memory(trainings.network(keep, steps), data, steps).held
        for keep in (BPTT, "bits")
        for steps in (4, 16)
    }
    grown = {keep: held[keep, 16] - held[keep, 4] for keep in (BPTT, "bits")}
    assert grown[BPTT] > 20 * grown["bits"] > 0
    assert trained.result.memory[BPTT].held == pytest.approx(held[BPTT, 4], rel=0.02)
    np.testing.assert_allclose(trained.trace("memory").y, [m.held / 2**20 for m in trained.result.memory.values()])


def test_what_is_not_safe_is_refused_in_words() -> None:
    made = explore.twins("last", steps=64)
    with pytest.raises(ValueError, match="keep='last' would give wrong gradients"):
        asyncio.run(made.run())
    assert "use keep='bits', which is exact" in made.message.value.replace("&#x27;", "'")


def test_the_figure_and_the_words(trained: Any) -> None:
    assert len(trained.trace("losses, BPTT").y) == len(trained.trace("losses, other").y) == 23
    assert "A training step of T = 4 holds" in trained.message.value
    assert "Test accuracy" in trained.message.value
    assert spread(trained.picture()) > 0.05
    assert isinstance(trainings.network("bits", 4), nn.Sequential)
