"""The benchmark of spikes as bits, in small: what it counts is right, whole tables, and nothing is timed that differs."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from benchmarks import bench, bits


def test_a_batch_is_the_same_and_the_data_a_thirty_second() -> None:
    row = bits.batch(24, 64, (30,), 8, "cpu", 2)
    assert row["data_bytes"][bits.FLOATS] == 24 * 64 * 30 * 4 + 24 * 8
    assert row["data_bytes"][bits.BITS] == 24 * 64 * 30 // 8 + 24 * 8
    assert row["median_ms"].keys() == {bits.FLOATS, bits.BITS, bits.STAYS}
    text = [*bits.lines(json.loads(json.dumps(row, allow_nan=False)))]
    assert len(text) == 5
    assert text[2].split()[-1] == f"{row['data_bytes'][bits.FLOATS] / 2**20:.2f}"


@pytest.mark.parametrize(("kind", "width"), [("linear", 16), ("conv", 2)])
def test_a_step_holds_less(kind: str, width: int) -> None:
    row = bits.step(kind, 8, 64, width, 6, "cpu", 2)
    floats, in_bits = row["peak_bytes"][bits.FLOATS], row["peak_bytes"][bits.BITS]
    assert floats - in_bits > row["spikes_bytes"] / 3  # of six layers' inputs, one is x, and a few are in use anyway
    assert [*bits.lines(row)][1].endswith("peak MiB")


def test_what_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "BitSaving", lambda module: nn.Sequential(module, nn.Threshold(0.0, 0.5)))
    with pytest.raises(RuntimeError, match="the gradients depend on what is saved; nothing was timed"):
        bits.step("linear", 4, 2, 8, 2, "cpu", 1)
    monkeypatch.setattr(bits, "unpack", lambda packed: torch.zeros(1))
    with pytest.raises(RuntimeError, match="the batches differ; nothing was timed"):
        bits.batch(6, 8, (3,), 2, "cpu", 1)


def test_it_is_run_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(["bits"], "quick", folder=None)
    assert "what=batch, samples=64" in (said := capsys.readouterr().out)
    assert "what=step, kind=linear" in said
    assert "not recorded" in said
