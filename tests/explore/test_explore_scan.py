"""The scan explorer, in Python: every way ends where a plain loop ends, and its work and depth are those of closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore, neurons
from tfexplore.explore.scan.ways import FINAL, LUCKY, SCANS, WAYS, current, play, without_reset


@pytest.fixture(scope="module")
def shown() -> Any:
    return explore.scan()


def by_hand(x: np.ndarray, tau: float, reset: str) -> tuple[np.ndarray, np.ndarray]:
    v, potentials, spikes = 0.0, [], []
    for x_t in x:
        h = v - v / tau + x_t
        s = h >= 1
        v = h if reset == "none" or not s else 0.0 if reset == "hard" else h - 1
        potentials.append(v)
        spikes.append(s)
    return np.array(potentials), np.array(spikes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize(("steps", "chunk"), [(4, 2), (33, 16), (64, 5), (5, 8)])
def test_every_way_ends_where_the_loop_does(way: str, reset: str, steps: int, chunk: int) -> None:
    neuron, x = without_reset(way, neurons.LIF(tau=4.0, reset=reset)), current(steps, 0.5, seed=steps)
    made = play(way, neuron, x, chunk)
    v, spikes = by_hand(x, 4.0, "none" if way in SCANS else reset)
    last = made.rounds[-1]
    np.testing.assert_allclose(last.v, v, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(made.spikes, spikes)
    assert (last.cells == FINAL).all()


@pytest.mark.parametrize("way", WAYS)
def test_final_cells_are_final(way: str) -> None:
    """What is called final never changes, and has the loop's potential; only guesses are right before that is known."""
    made = play(way, without_reset(way, neurons.LIF(tau=4.0)), current(48, 0.5), 6)
    known = np.zeros(48, bool)
    for each in made.rounds:
        final = each.cells == FINAL
        assert (final | ~known).all()
        np.testing.assert_allclose(each.v[final], made.v[final], rtol=1e-12, atol=1e-12)
        assert not (each.wasted & ~each.ran).any()
        if way in SCANS:
            assert not (each.cells == LUCKY).any()
        else:
            assert np.array_equal(final, np.arange(48) < final.sum()), "from the left"
        known = final


@pytest.mark.parametrize("steps", [4, 8, 16, 32, 64])
def test_work_and_depth_of_the_scans(steps: int) -> None:
    logs = round(math.log2(steps))
    made = {way: play(way, neurons.LIF(reset="none"), current(steps, 0.3), 4) for way in SCANS}
    cost = {way: (each.work(), each.depth()) for way, each in made.items()}
    assert cost["step by step"] == (steps - 1, steps - 1)
    assert cost["tree scan"] == (2 * steps - logs - 2, 2 * logs - 1)
    assert cost["doubling scan"] == (steps * logs - steps + 1, logs)
    chunks = steps // 4
    # 3 steps in each chunk, chunks - 2 across, and of all chunks but the first what is missing: 3, and the 4th of the last
    again = 0 if chunks < 2 else 3 * (chunks - 1) + 1
    assert cost["chunked scan"] == (
        3 * chunks + max(0, chunks - 2) + again,
        3 + max(0, chunks - 2) + (4 if chunks > 1 else 0),
    )


def test_a_round_needs_nothing_of_itself() -> None:
    for way in SCANS:
        made = play(way, neurons.LIF(reset="none"), current(32, 0.3), 8)
        for each in made.rounds:
            written = {right for _, right in each.needs}
            assert len(written) == len(each.needs), "no cell is written twice"
            if way in ("tree scan", "step by step", "chunked scan"):
                assert not written & {left for left, _ in each.needs}, "nor read where it is written"


def test_rounds_of_the_fixed_point_grow_with_the_spikes() -> None:
    rounds, spikes = [], []
    for strength in (0.1, 0.3, 0.6):
        made = play("fixed point", neurons.LIF(tau=4.0), current(64, strength))
        rounds.append(len(made.rounds))
        spikes.append(int(made.spikes.sum()))
        assert len(made.rounds) <= min(made.steps, 2 * int(made.spikes.sum()) + 1)
    assert spikes[0] == 0
    assert rounds[0] == 1, "nothing fires: the first guess is right"
    assert spikes == sorted(spikes)
    assert rounds[0] < rounds[1] < rounds[2]


def test_speculation_pays_where_a_neuron_forgets() -> None:
    x = current(64, 0.6)
    hard = play("speculative chunks", neurons.LIF(tau=2.0, reset="hard"), x, 16)
    slow = play("speculative chunks", neurons.LIF(tau=20.0), x, 16)
    assert len(hard.rounds) < len(slow.rounds) == 4, "one more chunk is right after each round, at the least"


def test_controls(shown: Any) -> None:
    assert shown.controls["chunk"].layout.display == "none"
    shown.way = "chunked scan"
    assert shown.controls["chunk"].layout.display == ""
    assert shown.controls["reset"].layout.display == "none"
    shown.chunk = 4
    assert "phase 3" in shown.result.rounds[-1].what
    shown.way = "fixed point"
    assert shown.controls["reset"].layout.display == ""
    shown.reset = "hard"
    assert shown.result.neuron.reset == "hard"
    shown.rounds = 0
    assert "nothing has run yet" in shown.message.value
    shown.rounds = 2
    assert shown.message.value.count("Round 2 of") == 1
    shown.steps, shown.strength = 16, 0.1
    assert shown.rounds == len(shown.result.rounds) == 1, "another neuron or current: all rounds are shown"
    with pytest.raises(ValueError, match="way must be one of 'step by step'"):
        shown.way = "magic"


@pytest.mark.parametrize("way", ["chunked scan", "speculative chunks"])
def test_pictures(way: str) -> None:
    made = explore.scan(way=way, steps=64)
    for rounds in (0, made.controls["rounds"].max):
        made.rounds = rounds
        assert spread(made.picture()) > 0.05
    assert way.split(maxsplit=1)[0] in made.describe().lower()
    assert len(made.page().frames) <= 42


def test_one_cell_in_vain_is_one_cell() -> None:
    made = explore.scan(way="speculative chunks", steps=64, chunk=16, tau=2.0, strength=1.0, reset="hard")
    assert made.result.wasted(2) == 1
    assert "1 cell computed in vain." in made.sentence()
