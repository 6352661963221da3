"""Less usual ways to use a split network: none may differ silently from one process, and none may hang."""

from __future__ import annotations

import sys

import pytest

from tests import split_uses as uses
from tfexplore import timesplit

EXACT = 1e-12


@pytest.fixture
def three(crews):
    return crews(3, 20)


@pytest.mark.parametrize("alone", [False, True], ids=["backward", "autograd.grad"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_the_gradient_of_the_input(three, frozen, alone) -> None:
    assert max(three.run(uses.gradient_of_the_input, frozen, alone)) < EXACT


@pytest.mark.parametrize(
    "use",
    [
        uses.two_splits_and_an_unused_branch,
        uses.frozen_and_thawed,
        uses.a_state_without_effect,
        uses.stopped_inside,
        uses.grown,
    ],
    ids=lambda use: use.__name__,
)
def test_like_one_process(three, use) -> None:
    assert max(three.run(use)) < EXACT


def test_random_numbers_differ_by_rank_and_stay_in_step(three) -> None:
    masks, after = zip(*three.run(uses.dropped), strict=True)
    assert len({tuple(mask) for mask in masks}) == 3
    assert all(set(mask) == {0.0, 2.0} for mask in masks)
    assert len(set(after)) == 1, "data drawn from them would be the same on all ranks"


@pytest.mark.parametrize(("dtype", "close"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_batch_norm_in_half_precision(three, dtype, close) -> None:
    for out, mean, kept in three.run(uses.half_precision, dtype):
        assert out < close
        assert mean < 1e-4
        assert kept, "the output is of the input's dtype"


def test_batch_norm_of_one_value_per_channel() -> None:
    with timesplit.ranks() as alone:
        message = uses.one_value(alone)
    assert message == "'0.0' has one value per channel over all ranks, so no variance; give it more, or use net.eval()."


def test_a_rank_that_leaves_first_leaves_none_waiting(crews) -> None:
    assert all(total != 0 for total in crews(2, 20).run(uses.leaves_first))


def test_second_derivatives_are_refused(three) -> None:
    for message in three.run(uses.twice_derived):
        assert "once_differentiable" in message


def test_a_split_network_is_not_copied(three) -> None:
    for message, keys in three.run(uses.copied):
        assert message == "a TimeSplit belongs to its group of processes; copy or save its network instead: split.net."
        assert keys[0] == "0.weight"


def test_the_groups_of_a_mesh_keep_the_timeout(crews) -> None:
    with pytest.raises(timesplit.RankError, match=r"^rank 0 waited 4 s for the other ranks"):
        crews(4, 4).run(uses.on_a_mesh_one_hangs)


def test_errors_look_as_before_after_a_group() -> None:
    before = sys.excepthook
    with timesplit.ranks():
        pass
    assert sys.excepthook is before
