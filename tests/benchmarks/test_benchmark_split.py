"""The benchmark of time splitting: whole rows, and ways that compute the same. No time is asserted."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest

from benchmarks import harness, split
from tests import split_programs as programs
from tfexplore.timesplit import Crew


@pytest.fixture(scope="module")
def crew():
    with Crew(2, threads=1, timeout=60) as crew:
        yield crew


@pytest.fixture(scope="module")
def rows(crew) -> list[harness.Row]:
    """What the benchmark gives for small cases, from these two processes."""

    def given(ranks: int, threads: int) -> Any:
        assert (ranks, threads) == (crew.size, 1)
        return nullcontext(crew)

    with pytest.MonkeyPatch.context() as patch, harness.Stage(()) as stage:
        patch.setattr(split, "Crew", given)
        patch.setattr(split, "CASES", [("devices", 4, 4), ("mlp", 4, 3), ("mlp", 8, 1), ("conv", 4, 4)])
        patch.setattr(split, "RUNS", {harness.QUICK: 2})
        return list(split.run(stage, harness.QUICK))


def test_every_row_is_whole(rows) -> None:
    assert [(row["network"], row["T"], row["B"], row["ranks"]) for row in rows] == [
        ("devices", 4, 4, 2), ("mlp", 4, 3, 2), ("mlp", 8, 1, 2), ("conv", 4, 4, 2),
    ]  # fmt: skip
    for row in rows:
        one, four = (split.label(m) for m in (1, 4))
        ways = ["one rank", one, *[four] * (row["B"] >= 4), *["data parallel"] * (row["B"] > 1)]
        assert list(row["median_ms"]) == list(row["quartiles_ms"]) == list(row["predicted_ms"]) == ways
        assert row["rounds"] == dict.fromkeys(ways, 2)
        for way in ways:
            low, high = row["quartiles_ms"][way]
            assert 0 < low <= row["median_ms"][way] <= high < float("inf")
            assert 0 < row["predicted_ms"][way] < float("inf")
        assert all(0 < value < float("inf") for value in row["link"].values())
        assert len(row["costs"]) == {"devices": 6, "mlp": 12, "conv": 5}[row["network"]]
    assert json.loads(json.dumps(rows)) == rows


def test_the_lines_of_a_row(rows) -> None:
    for row in rows:
        head, titles, *rest = split.lines(row)
        assert head.startswith(f"{row['network']}, T={row['T']}, B={row['B']}, 2 ranks on {row['cores']} cores; link ")
        assert [line[2:30].rstrip() for line in rest] == list(row["median_ms"])
        columns = titles.split("median ms")[1].split()
        assert columns == ["low", "high", "speed-up", "predicted", "of", "measured"]
        for line, (way, ms) in zip(rest, row["median_ms"].items(), strict=True):
            median, _, _, speed_up, predicted, ratio = map(float, line[30:].split())
            assert median == pytest.approx(ms, abs=0.051)
            assert speed_up == pytest.approx(row["median_ms"]["one rank"] / ms, abs=0.0051)
            assert predicted == pytest.approx(row["predicted_ms"][way], abs=0.051)
            assert ratio == pytest.approx(row["predicted_ms"][way] / ms, abs=0.0051)


def test_a_gpu_is_left_out(capsys) -> None:
    with harness.Stage((), device="cuda") as stage:
        assert list(split.run(stage, harness.QUICK)) == []
    assert "time splitting is measured on CPU processes only" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "batch"), [("devices", 4), ("mlp", 4), ("mlp", 3), ("mlp", 1), ("conv", 5)])
def test_all_ways_compute_the_same(crew, kind, batch) -> None:
    """Parts of the batch of different sizes, too: 3 = 2 + 1."""
    first, second = crew.run(programs.apart_from_a_plain_loop, kind, 5, batch)
    assert second.pop("one rank") is None, "the other rank waits meanwhile"
    assert first.pop("one rank") < 1e-12
    for found in (first, second):
        assert ("data parallel" in found) == (batch > 1)
        assert all(worst < 1e-12 for worst in found.values()), found
