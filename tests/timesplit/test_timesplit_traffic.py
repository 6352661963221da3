"""What crosses between processes in a training step: counted in real ones, against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tfexplore import LIF, CubaLIF, timesplit
from tfexplore.timesplit.traffic import Traffic

WORD, BATCH, INPUTS, HIDDEN = 4, 6, 5, 7


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, HIDDEN), LIF(), nn.Linear(HIDDEN, HIDDEN), CubaLIF(), nn.Linear(HIDDEN, 2))


WEIGHTS = WORD * (INPUTS * HIDDEN + HIDDEN + HIDDEN * HIDDEN + HIDDEN + 2 * HIDDEN + 2)
STATES = WORD * BATCH * HIDDEN * (1 + 2)
"""At one cut, one way: a LIF neuron has one state, a CubaLIF neuron two."""


@pytest.fixture
def three(crews) -> timesplit.Crew:
    return crews(3, 30)


@pytest.mark.parametrize("steps", [7, 60])
def test_states_cross_each_cut_once_each_way_however_many_steps_there_are(three, steps: int) -> None:
    first, middle, last = three.run(timesplit.traffic, net(), torch.rand(steps, BATCH, INPUTS))
    assert (first.messages, first.states) == (last.messages, last.states) == (2, STATES)
    assert (middle.messages, middle.states) == (4, 2 * STATES)
    flags = WORD * len(list(net().parameters()))  # whether a rank has each gradient
    mean = WORD * BATCH * 2  # of the outputs over time, for the loss
    assert {(rank.sums, rank.summed) for rank in (first, middle, last)} == {(2, mean + WEIGHTS + flags)}


def test_with_the_batch_cut_only_the_gradients_are_summed(three) -> None:
    for found in three.run(timesplit.traffic, net(), torch.rand(9, BATCH, INPUTS), cut="batch"):
        assert found == Traffic(messages=0, states=0, sums=1, summed=WEIGHTS)


def test_what_cannot_be_cut_is_refused() -> None:
    with (
        timesplit.ranks() as group,
        pytest.raises(ValueError, match="cut must be one of 'time', 'batch', but got 'layers'"),
    ):
        timesplit.traffic(group, net(), torch.rand(9, BATCH, INPUTS), "layers")


def test_fewer_samples_than_ranks_are_refused(three) -> None:
    with pytest.raises(timesplit.RankError, match="x must have at least one sample for each of the 3 ranks, but has 2"):
        three.run(timesplit.traffic, net(), torch.rand(9, 2, INPUTS), cut="batch")
