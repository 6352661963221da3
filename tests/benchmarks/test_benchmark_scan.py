"""The benchmark of the map: whole rows, honest counts, and a text that says what the row has. No time is asserted."""

from __future__ import annotations

import json

import pytest

from benchmarks import harness, scan
from tfexplore.explore.scan_map import ways


@pytest.fixture(scope="module")
def rows() -> list[harness.Row]:
    with pytest.MonkeyPatch.context() as patch, harness.Stage(()) as stage:
        patch.setattr(scan, "STEPS", {harness.QUICK: (16, 64)})
        patch.setattr(scan, "COUNTS", {harness.QUICK: (1, 10)})
        patch.setattr(scan, "ROOM", {harness.QUICK: 160})
        patch.setattr(scan, "SECONDS", {harness.QUICK: 0.0})
        return list(scan.run(stage, harness.QUICK))


def test_every_row_is_whole(rows: list[harness.Row]) -> None:
    cells = [row for row in rows if "T" in row]
    assert len(cells) == len(scan.KINDS[harness.QUICK]) * 3
    assert {(row["T"], row["N"]) for row in cells} == {(16, 1), (64, 1), (16, 10)}
    assert json.loads(json.dumps(rows, allow_nan=False)) == json.loads(json.dumps(rows))
    for row in cells:
        never = {way for way in ways.WAYS if ways.never(way, row["neuron"], row["passes"])}
        assert set(row["median_ms"]) | set(row["reasons"]) | never == set(ways.WAYS)
        assert not set(row["median_ms"]) & set(row["reasons"])
        assert ways.SERIAL in row["median_ms"]
        for what in ("work", "depth", "words", "quartiles_ms"):
            assert set(row[what]) == set(row["median_ms"]), what
        assert all(low <= row["median_ms"][way] <= high for way, (low, high) in row["quartiles_ms"].items())
        assert set(row["equation"]) == set(row["median_ms"]) & {ways.PSN, ways.SLIDING}


def test_what_cannot_be_run_says_why(rows: list[harness.Row]) -> None:
    found = {(row["neuron"], row["passes"]): row["reasons"] for row in rows if "crossover" in row}
    assert "nothing to guess" in found["LIF, no reset", "forward"][ways.FIXED]
    assert "depends on its own spike" in found["LIF, soft reset", "forward"][ways.CHUNKED]
    assert ways.CHUNKED not in found["LIF, soft reset", "forward + backward"]
    assert "does not cut the past off" in found["LIF, soft reset", "forward"][ways.CUT]
    assert ways.CUT not in found["LIF, hard reset", "forward"]
    assert "matrix" in ways.why_not(ways.PSN, "LIF, no reset", "forward", 65_536, 1, 2**28)
    assert "multiplications" in ways.why_not(ways.PSN, "LIF, no reset", "forward", 4096, 10_000, 2**24)


def test_the_last_row_has_the_crossover(rows: list[harness.Row]) -> None:
    last = [row for row in rows if "crossover" in row]
    assert len(last) == len(scan.KINDS[harness.QUICK])
    for row in last:
        assert set(row["crossover"]) == {"measured", "predicted"}
        assert all(t in (None, 16, 64) for found in row["crossover"].values() for t in found.values())
        assert sum(row["won"].values()) == 3
        assert row["reasons"]["left out"] == "1 cells in which T times N is more than 160"
    assert "never" in "\n".join(scan.lines(last[0] | {"crossover": {"measured": {1: None, 10: 64}}}))


def test_the_lines_of_a_row(rows: list[harness.Row]) -> None:
    for row in rows:
        if "T" in row:
            (text,) = scan.lines(row)
            assert text.startswith(row["neuron"])
            assert all(way in text for way in row["median_ms"])


def test_sizes() -> None:
    for size in harness.SIZES:
        plane = scan.plane(size)
        assert max(t * n for t, n in plane) <= scan.ROOM[size]
        assert len(plane) == len(set(plane))
    usual = scan.plane(harness.DEFAULT)
    assert {t for t, _ in usual} == {16, 64, 256, 1024, 4096, 16_384, 65_536}
    assert {n for _, n in usual} == {1, 10, 100, 1_000, 10_000, 100_000, 1_000_000}
    assert len(scan.plane(harness.QUICK)) < len(usual) < len(scan.plane(harness.FULL))
