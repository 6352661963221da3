"""The benchmark of the memory policies, in small: its rows, and the table that it prints. No time is asserted."""

from __future__ import annotations

import pytest

from benchmarks import memory
from benchmarks.harness import QUICK, Stage
from tfexplore.explore.policies.policies import POLICIES


def test_rows_and_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TS", {QUICK: (4, 16)})
    monkeypatch.setattr(memory, "NETWORKS", {QUICK: ("levels",)})
    monkeypatch.setattr(memory, "UPDATES", {QUICK: 1})
    monkeypatch.setattr(memory, "TRAINED", 4)
    with Stage(()) as stage:
        short, long, trained = memory.run(stage, QUICK)
    names = [policy.name for policy in POLICIES if policy.own is not False]
    assert [*long["peak_bytes"], *long["reasons"]] == [
        *(n for n in names if n != "reversible: last"),
        "reversible: last",
    ]
    assert list(trained["accuracy"]) == [n for n in names if n != "reversible: last"], "of 64 images"
    assert long["peak_bytes"]["BPTT"] > 3 * short["peak_bytes"]["BPTT"]
    assert long["peak_bytes"]["SLTT"] == short["peak_bytes"]["SLTT"]
    assert long["cosine"]["BPTT"] == pytest.approx(1)
    assert "checkpointing" not in long["kept_bytes"]
    for name, size in long["predicted_bytes"].items():
        assert size < long["kept_bytes"].get(name, long["peak_bytes"][name]), name
    table = [*memory.lines(long), *memory.lines(trained)]
    assert table[0].startswith("levels, T=16, B=16, load=")
    assert "  reversible: last           keep='last' would give wrong gradients" in table
    assert any(line.startswith("  SLTT") and "%" in line for line in table)
