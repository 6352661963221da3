"""The map of what is parallel in time, in Python: what it shows is what was recorded or measured. No time is asserted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.backends import numba_cpu
from tfexplore.codegen import keep
from tfexplore.explore.scan_map import cells, figure, measured, ways
from tfexplore.explore.scan_map.explorer import LARGEST, PREDICTED
from tfexplore.measure import results
from tfexplore.neurons.affine import why_not as not_affine
from tfexplore.neurons.step import step_of

STEPS, COUNTS = (16, 64, 256), (1, 10)
CHUNKED, SERIAL, SPECULATIVE = ways.CHUNKED, ways.SERIAL, ways.SPECULATIVE


def row(t: int, n: int, neuron: str = "LIF, no reset", **times: float) -> dict[str, Any]:
    """A cell in which the serial kernel takes 2 ms, and the other ways so many times as long."""
    medians = {SERIAL: 2.0} | {way.replace("_", " "): 2.0 * ratio for way, ratio in times.items()}
    count = {way: t * n * (1 if way == SERIAL else 2) for way in medians}
    return {
        "neuron": neuron, "passes": "forward", "T": t, "N": n, "median_ms": medians, "work": count, "words": count,
        "depth": dict.fromkeys(medians, 4) | {SERIAL: t}, "rounds": {}, "predicted": {}, "reasons": {},
    }  # fmt: skip


RECORDED = [
    row(16, 1, chunked=3.0), row(64, 1, chunked=0.97), row(256, 1, chunked=0.25, PSN=0.01),
    row(16, 10, chunked=4.0), row(64, 10, chunked=2.0) | {"predicted": {CHUNKED: 0.5}},
]  # fmt: skip
RECORDED[2] |= {"predicted": {CHUNKED: 0.3}, "rounds": {CHUNKED: 7}}
SOFT = [row(t, n, "LIF, soft reset", speculative=1.0 + t) for t in STEPS for n in COUNTS]
LAST = {"neuron": "LIF, no reset", "passes": "forward", "crossover": {}, "won": {}, "reasons": {}, "median_ms": {}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the record of a machine that does not exist."""
    about = {"machine": "Imaginary CPU", "torch": "9.9", "date": "2031-02-03", "what": "a test", "benchmark": "scan"}
    (tmp_path / "imaginary.json").write_text(json.dumps(about | {"results": [*RECORDED, *SOFT, LAST]}))
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def shown(place: Path) -> Any:
    return explore.scan_map(steps=256, neurons=1)


# -- the cells -----------------------------------------------------------------------------------------------------


def test_who_wins_a_cell() -> None:
    assert [cells.winner(each) for each in RECORDED] == [SERIAL, SERIAL, CHUNKED, SERIAL, SERIAL]
    assert cells.winner(row(16, 1)) == SERIAL
    assert cells.rival(row(16, 1, PSN=0.1)) is None, "another equation wins nothing"
    assert cells.rival(row(16, 1, chunked=3.0, speculative=2.0)) == (SPECULATIVE, 2.0)


def test_the_crossover_is_where_chunked_begins_to_win_for_good() -> None:
    table = {(each["T"], each["N"]): each for each in RECORDED}
    assert cells.crossover(table) == {1: 256, 10: None}
    assert cells.crossover(table, predicted=True) == {1: 256, 10: 64}


def test_the_border_is_that_of_the_predicted_cells() -> None:
    table = {(each["T"], each["N"]): each for each in RECORDED}
    edges = list(cells.border(table, list(STEPS), list(COUNTS)))
    assert len(edges) == 8  # two cells that meet in a corner
    assert ((1.5, -0.5), (1.5, 0.5)) in edges
    assert ((0.5, 0.5), (0.5, 1.5)) in edges


# -- one cell, measured --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", list(ways.NEURONS))
@pytest.mark.parametrize("passes", ways.PASSES)
def test_every_exact_way_gives_the_serial_result(neuron: str, passes: str) -> None:
    case = measured.Case(neuron, passes, 300, 7)
    expected = case.ways[SERIAL].run()
    for name, way in case.ways.items():
        found = way.run()
        assert len(found) == len(expected) == 1 + (passes == ways.BOTH)
        if name in ways.EXACT:
            for mine, first in zip(found, expected, strict=True):
                torch.testing.assert_close(mine, first, rtol=1e-5, atol=1e-5)
    case.check()
    assert not set(case.apart) - set(ways.EXACT)
    if ways.NEURONS[neuron].spiking:
        assert 0.05 < case.rate < 0.15


def test_the_serial_baseline_is_the_plain_equation() -> None:
    case = measured.Case("LIF, soft reset", "forward", 50, 3)
    v, spikes = torch.zeros(1, 3), []
    for x in case.x:
        h = v + x - v / 2.0
        spikes.append((h >= 1.0).float())
        v = h - spikes[-1]
    assert torch.equal(case.ways[SERIAL].run()[0], torch.stack(spikes))


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = measured.Case("LIF, soft reset", "forward", 64, 3)
    honest = case.ways[SPECULATIVE]
    case.ways[SPECULATIVE] = ways.Way(lambda: (1 - honest.run()[0],), honest.counts)
    case.check()
    assert SPECULATIVE not in case.work
    assert "wrong result" in case.reasons[SPECULATIVE]
    assert SERIAL in case.work


# -- the explorer --------------------------------------------------------------------------------------------------


def test_the_cells_are_those_recorded(shown: Any) -> None:
    assert shown.result.steps == list(STEPS)
    z = np.array(shown.trace("cells").z, float)
    assert z.shape == (2, 3)
    assert np.isnan(z[1, 2]), "not recorded"
    shades = len(figure.TINTS)
    assert z[0, 2] // shades == 1
    assert (z[0, :2] // shades == 0).all()
    assert "chunked 0.25" in str(shown.trace("cells").text)
    assert len(shown.trace("predicted").x) == 3 * 8


def test_the_sentence_says_what_is_there(shown: Any) -> None:
    said = shown.describe()
    assert "At N = 1 and T = 256 the chunked scan takes 0.25 of the serial kernel's time with 2 times its work" in said
    assert "predicted 0.3" in said
    assert "recorded on Imaginary CPU, torch 9.9, 2031-02-03" in said
    assert "Of 5 cells the chunked scan wins 1, all with N = 1 and T ≥ 256" in said
    shown.neurons = 20
    assert "nothing has been measured yet: press Start" in shown.describe()
    shown.neuron = "LIF, soft reset"
    assert "the map is empty" in shown.describe()
    shown.passes = "forward + backward"
    assert "No cell of LIF, soft reset, forward + backward, is recorded on Imaginary CPU" in shown.describe()
    assert spread(shown.picture()) > 0.01


def test_a_cost_of_one_way(shown: Any) -> None:
    shown.shown = "depth"
    assert shown.controls["way"].layout.display == ""
    z = np.array(shown.trace("cells").z, float)
    np.testing.assert_allclose(z[0], np.log2([4 / 16, 4 / 64, 4 / 256]))
    shown.way = "PSN"
    assert np.isnan(np.array(shown.trace("cells").z, float)[0, 0])
    shown.shown = "fastest"
    assert shown.controls["way"].layout.display == "none"


def test_start_measures_the_chosen_point(shown: Any) -> None:
    shown.steps, shown.neurons = 64, 5
    result = asyncio.run(shown.run())
    found = result.own[64, 5]
    assert found["work"][SERIAL] == 64 * 5
    assert found["depth"][SERIAL] == 64
    assert "measured here now" in shown.describe()
    assert sum(len(shown.trace(f"own: {way}").x) for way in figure.COLOURS) == 1
    shown.neuron = "LIF, hard reset"
    assert not shown.result.own
    shown.neuron = "LIF, no reset"
    assert (64, 5) in shown.result.own
    assert "image/png" in shown._repr_mimebundle_()[0]


def test_what_is_too_large_is_refused(shown: Any) -> None:
    shown.steps, shown.neurons = 65_536, 1_000_000
    with pytest.raises(ValueError, match=f"T times N must be at most {LARGEST:,} here, but got 65,536 times 1,000,000"):
        asyncio.run(shown.run())
    with pytest.raises(ValueError, match="T times N must be at most"):
        shown.winner(65_536, 1_000_000)


def test_the_winner_is_measured(shown: Any) -> None:
    assert shown.winner(256, 1) == CHUNKED, "recorded"
    assert shown.winner(16, 10) == SERIAL
    assert shown.winner(32, 3) in ways.EXACT, "measured here"
    assert (32, 3) in shown.result.own


def test_without_a_record_the_prediction_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "folder", lambda: None)
    shown = explore.scan_map()
    assert shown.machine == PREDICTED
    assert "Predicted, not measured" in shown.describe()
    assert len(shown.result.cells) > 30
    assert all(cells.foreseen(each) in (SERIAL, CHUNKED) for each in shown.result.cells.values())
    shown.shown = "depth"
    assert np.isnan(np.array(shown.trace("cells").z, float)).all(), "not counted"
    shown.shown = "time"
    at = shown.result.steps.index(65_536)
    predicted = shown.result.cells[65_536, 1]["predicted"][CHUNKED]
    np.testing.assert_allclose(np.array(shown.trace("cells").z, float)[0, at], np.log2(predicted))
    shown.neuron = "LIF, soft reset"
    assert "No cell of LIF, soft reset, forward, is predicted" in shown.describe()
    assert spread(shown.picture()) > 0.01


def test_menus_refuse_what_they_do_not_have(place: Path) -> None:
    with pytest.raises(ValueError, match="neuron must be one of 'LI', 'LIF, no reset'"):
        explore.scan_map("LIF")
    with pytest.raises(ValueError, match="shown must be one of 'fastest', 'time', 'work'"):
        explore.scan_map(shown="speed")


# -- what is counted -----------------------------------------------------------------------------------------------


POSSIBLE = [
    (way, neuron, passes)
    for way in (SERIAL, CHUNKED, SPECULATIVE)
    for neuron in ways.NEURONS
    for passes in ways.PASSES
    if not ways.why_not(way, neuron, passes, 1024, 3, 2**25)
]


@pytest.mark.parametrize(("way", "neuron", "passes"), POSSIBLE)
def test_work_is_that_of_the_loops_that_ran(
    way: str, neuron: str, passes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the calls of the loops themselves: the columns and steps of each, and one more at a border of two chunks."""
    steps, count = 1024, 3
    case, seen = measured.Case(neuron, passes, steps, count), []
    again = 1 + (keep.fastest(step_of(ways.NEURONS[neuron]), "numba") == "input")
    forward, backward = numba_cpu.forward, numba_cpu.backward

    def forward_counted(variant: Any, x: torch.Tensor, *rest: Any, **wants: Any) -> Any:
        seen.append(x.numel())
        return forward(variant, x, *rest, **wants)

    def backward_counted(variant: Any, x: Any, g_out: torch.Tensor, *rest: Any, **wants: Any) -> Any:
        seen.append(again * g_out.numel())
        return backward(variant, x, g_out, *rest, **wants)

    monkeypatch.setattr(numba_cpu, "forward", forward_counted)
    monkeypatch.setattr(numba_cpu, "backward", backward_counted)
    case.ways[way].run()
    ran = sum(seen)
    found = case.ways[way].counts()
    borders = found.work - ran
    if way == SERIAL:
        assert found.chunk == borders == 0
        assert found.depth == steps * len(seen) + (again - 1) * 32 * (len(seen) - 1)
    else:
        in_chunks = sum([way == CHUNKED and not not_affine(step_of(ways.NEURONS[neuron])), passes == ways.BOTH])
        assert borders == in_chunks * (steps // found.chunk - 1) * count
        assert (
            found.depth <= case.ways[SERIAL].counts().depth
        )  # τ = 20 forgets nothing: every chunk waits for the one before


@pytest.mark.parametrize(("way", "rounds"), [(ways.FIXED, 47), (ways.CUT, 24)])
def test_rounds_and_work_of_a_spike_train_that_is_known(way: str, rounds: int) -> None:
    """A constant current of 0.8 fires at every second of 48 steps: each is proved by one round more, or is one cut."""
    run = ways.made(way, "LIF, hard reset", torch.full((48, 1, 2), 0.8), None, 2**25)
    assert run.run()[0].sum() == 48
    found = run.counts()
    assert found.rounds == rounds
    if way == ways.CUT:
        assert (found.work, found.depth) == (rounds * ways.STRETCH * 2, rounds * ways.STRETCH)
    else:  # chunks of 6: phases 1 and 3, and 7 borders (closed form of `scan.pairs`: T + C L - L - 1, and 2 L + C - 2)
        assert found.work == rounds * 2 * (48 + 48 - 6 - 1)
        assert found.depth == rounds * (2 * 6 + 8 - 2)
