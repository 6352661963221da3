"""The benchmark of the relaxations: whole rows, the same data for all, and a text that says what the row has."""

from __future__ import annotations

import json
import statistics

import pytest
import torch
from torch import nn

from benchmarks import harness, relaxations
from tfexplore.data import digits
from tfexplore.nn import LIF, networks
from tfexplore.scan import FPT, Relaxation

NAMES = [
    "LIF, serial", "PSN", "MaskedPSN, k=8", "SlidingPSN, k=8", "FPT", "delayed reset, D=2", "delayed reset, D=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[harness.Row]:
    pytest.importorskip("sktime", reason="brings the utterances")
    small = {"vowels": relaxations.Effort(2, 2, 16), "digits": relaxations.Effort(2, 1, 16)}
    with pytest.MonkeyPatch.context() as patch, harness.Stage(()) as stage:
        patch.setattr(relaxations, "EFFORTS", {harness.QUICK: small})
        return list(relaxations.run(stage, harness.QUICK))


def test_every_row_is_whole(rows: list[harness.Row]) -> None:
    assert [(row["network"], row["T"], row["B"]) for row in rows] == [("vowels", 29, 32), ("digits", 8, 64)]
    for row in rows:
        assert list(row["accuracy"]) == list(row["median_ms"]) == list(row["ratio"]) == NAMES
        for mean, spread, low, high in (*row["accuracy"].values(), *row["as_lif"].values()):
            assert 0 <= low <= mean <= high <= 1
            assert spread >= 0
        assert list(row["as_lif"]) == NAMES[4:]  # those without weights of their own
        assert row["ratio"]["LIF, serial"] == 1
        assert row["work"]["PSN"] == [row["T"] ** 2 * row["B"] * 16, 1 + (row["T"] - 1).bit_length()]
        assert set(row["work"]) == set(NAMES[1:])
        error = row["fpt_error"]
        assert 0 < error["rounded"] < error["drawn"] < 1
        assert 0 < error["lif_rate"] < 1
    assert json.loads(json.dumps(rows)) == rows


def test_the_same_seed_the_same_accuracy() -> None:
    task = relaxations.Digits(digits(), 4)
    effort = relaxations.Effort(1, 1, 8)
    first, second = (relaxations.measured(task, effort, "cpu") for _ in range(2))
    for key in ("accuracy", "as_lif", "fpt_error"):
        assert first[key] == second[key]


def test_all_start_from_the_same_weights() -> None:
    plain = networks.mlp(8, seed=2)
    for name, make in relaxations.contestants(8, 0, "cpu").items():
        net = relaxations.with_layers(plain, make)
        layers = [module for module in net if isinstance(module, LIF | Relaxation)]
        assert len(layers) == 2, name
        for key, weight in plain.state_dict().items():
            assert torch.equal(net.state_dict()[key], weight)
    assert isinstance(plain[1], LIF)  # a copy: the network itself is as it was


def test_steps_are_taken_in_turn() -> None:
    order: list[str] = []

    def losses(name: str, count: int) -> object:
        for _ in range(count):
            order.append(name)
            yield 0.0

    found = [name for name, ms in relaxations.in_turn({"a": losses("a", 3), "b": losses("b", 3)}) if ms >= 0]  # type: ignore[dict-item]
    assert order == ["a", "b"] * 3
    assert found == ["a", "b"] * 2  # the first step of each is not counted


def test_the_approximation_is_that_of_the_first_layer() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 5), FPT(), nn.Linear(5, 5), FPT())
    task = relaxations.Digits(digits(), 6)
    found = relaxations.approximation(net, task)
    x, _ = task.test()
    assert found["lif_rate"] == pytest.approx(LIF(backend="torch")(net[0](x)).mean().item())


def test_a_summary_is_over_the_seeds() -> None:
    assert relaxations.summary([0.5, 0.7]) == pytest.approx([0.6, statistics.stdev([0.5, 0.7]), 0.5, 0.7], abs=1e-5)
    assert relaxations.summary([0.5]) == [0.5, 0, 0.5, 0.5]


def test_the_lines_of_a_row(rows: list[harness.Row]) -> None:
    for row in rows:
        text = list(relaxations.lines(row))
        assert text[0].startswith(f"{row['network']}, T={row['T']}, B={row['B']}, 16 hidden neurons")
        assert len(text) == 2 + len(NAMES) + 1
        for name, line in zip(NAMES, text[2:], strict=False):
            assert line.startswith(f"  {name} ")
            assert f"{row['accuracy'][name][0]:.1%}" in line
            assert f"{row['ratio'][name]:.2f}" in line
            assert ("±" in line[45:]) == (name in row["as_lif"])
        assert f"{row['fpt_error']['drawn']:.1%} of all element-steps as drawn" in text[-1]
