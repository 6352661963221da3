"""The step as one program: every way trains the same network. No time is asserted."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks import harness, networks, step, work
from benchmarks.contestants import ours
from tfexplore.nn.capturing import LOOKED_THROUGH

EFFORT = harness.Effort(seconds=0.0, least=1, most=1)
TINY = {
    "network": "mlp",
    "T": 3,
    "B": 4,
    "width": 8,
    "dtype": "float32",
    "surrogate": "ATan",
    "seed": 0,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    work.forget()


def test_the_losses_go_beyond_the_calls_that_warm_up() -> None:
    assert LOOKED_THROUGH[-1] + 5 < step.COMPARED


@pytest.mark.parametrize("network", step.BATCHES)
def test_eager_and_captured_train_as_a_plain_loop(network: str) -> None:
    case = TINY | {"network": network}
    expected, modes = step.expected(case)[step.LOSSES], ours.step(case)
    found = {name: modes[name]().result()[step.LOSSES] for name in (step.EAGER, step.CAPTURED)}
    assert np.array_equal(found[step.CAPTURED], found[step.EAGER])
    assert np.allclose(found[step.EAGER], expected, rtol=1e-4)
    assert expected[-1] < expected[0]
    assert list(modes) == [step.EAGER, step.CAPTURED, step.COMPILED]


def test_spyx_trains_the_same_network() -> None:
    """In its own environment, as `make peers` makes it."""
    with harness.Stage(("spyx",), effort=EFFORT) as stage:
        row = stage.race("step", {key: v for key, v in TINY.items() if key != "device"}, step.expected, step.ALLOWED, 1)
    if (
        "spyx" in row["reasons"]
        and "No module named" in row["reasons"]["spyx"]
        and not os.environ.get("TFEXPLORE_PEERS")
    ):
        pytest.skip(row["reasons"]["spyx"])
    assert row["reasons"] == {}
    assert list(row["median_ms"]) == ["spyx: the equation as a module, step in jit"]


def row() -> harness.Row:
    base = {"network": "mlp", "T": 4, "B": 64, "load": 0.5, "reasons": {"spyx": "not here"}}
    ways = {step.EAGER: (4.0, 0.5), step.CAPTURED: (3.0, 0.6), step.COMPILED: (5.0, 30.0)}
    return base | {
        "median_ms": {name: ms for name, (ms, _) in ways.items()},
        "first_s": {name: first for name, (_, first) in ways.items()},
        "quartiles_ms": {name: [ms, ms] for name, (ms, _) in ways.items()},
        "rounds": dict.fromkeys(ways, 9),
    }  # fmt: skip


def test_a_way_pays_after_what_it_took_longer_at_first() -> None:
    made = row()
    assert step.pays_after(made, step.CAPTURED) == 100  # 0.1 s, at 1 ms a step
    assert step.pays_after(made, step.COMPILED) is None
    made["first_s"][step.CAPTURED] = 0.4
    assert step.pays_after(made, step.CAPTURED) == 0
    text = "\n".join(step.lines(row()))
    assert "100 steps" in text
    assert "never" in text
    assert "spyx: not here" in text


def test_sizes() -> None:
    quick, usual, full = (list(step.cases(size)) for size in harness.SIZES)
    assert len(quick) < len(usual) < len(full)
    assert {case["network"] for case in usual} == set(step.BATCHES) <= set(networks.NETWORKS)
