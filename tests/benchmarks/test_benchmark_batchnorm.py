"""The pair BatchNorm + LIF and the small layers: right results, whole tables. No time is asserted."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks import batchnorm, harness, networks, play, reference, small, work
from benchmarks.contestants import ours
from tfexplore import neurons
from tfexplore.codegen.traffic import traffic_of, words

EFFORT = harness.Effort(seconds=0.0, least=1, most=1)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    work.forget()


def tiny(layout: str = work.LAST) -> work.Case:
    return batchnorm.case(3, layout, batch=2, channels=4, size=4) | {"device": "cpu"}


@pytest.mark.parametrize("layout", work.LAYOUTS)
def test_every_way_gives_the_reference_results(layout: str) -> None:
    made = tiny(layout)
    expected, modes = reference.batchnorm(made), ours.batchnorm(made)
    for mode in modes.keys() - {"copy"}:
        one = modes[mode]()
        for name, values in one.result().items():
            assert np.allclose(values, expected[name], rtol=1e-4, atol=1e-5 * np.abs(expected[name]).max()), (
                mode,
                name,
            )
        assert (one.kept() or 0) > 0
        one.run()
    assert 0 < expected["spikes"].mean() < 1
    others = {float(np.abs(expected["x.grad" + which]).sum()) for which in reference.NORMALISED}
    assert len(others) == 3, "other equations give other gradients"


def test_the_reference_is_torchs_batch_norm() -> None:
    made = tiny()
    x, gradient, weight, bias = work.norm_inputs(made)
    norm = torch.nn.BatchNorm2d(4).double()
    norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    x = x.double().requires_grad_()
    for which, run in (
        (reference.DELAYED, lambda: norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])),
        (reference.STEPPED, lambda: torch.stack([norm(x_t) for x_t in x])),
    ):
        out = reference.plain_loop(run(), reset="delayed")
        (g_x,) = torch.autograd.grad(out, x, gradient.double())
        assert np.allclose(work.array(g_x), reference.batchnorm(made)["x.grad" + which], atol=1e-6)


@pytest.mark.parametrize("layout", work.LAYOUTS)
def test_images_lie_as_the_case_says(layout: str) -> None:
    x, gradient, *_ = work.norm_inputs(tiny(layout))
    form = torch.channels_last if layout == work.LAST else torch.contiguous_format
    assert all(values.flatten(0, 1).is_contiguous(memory_format=form) for values in (x, gradient))


def test_a_part_of_the_channels_is_compared() -> None:
    made = tiny() | {"every": 3}
    assert reference.batchnorm(made)["spikes"].shape == (3, 2, 2, 4, 4)
    found = ours.batchnorm(made)["numba, keep=input"]().result()
    assert {name: values.shape for name, values in found.items()} == {
        name: reference.batchnorm(made)[name].shape for name in ("spikes", "x.grad", "weight.grad", "bias.grad")
    }
    assert [case["every"] for case in map(batchnorm.case, batchnorm.STEPS)] == [1, 8]


def test_a_race_has_the_words_of_both_ways() -> None:
    with harness.Stage((harness.OURS,), effort=EFFORT) as stage:
        row = batchnorm.race(stage, batchnorm.case(3, batch=2, channels=4, size=4))
    assert row["reasons"] == {}
    for label, how in (("numba, keep=input", "fused"), (f"{ours.APART}numba, keep=input", "apart")):
        moved = words(traffic_of(neurons.LIF(), "input", batch_norm=how))
        assert row["least_bytes"][label] == round(4 * moved * row["T"] * row["N"])
    assert row["kept_bytes"]["numba, keep=input"] < row["kept_bytes"][f"{ours.APART}numba, keep=input"]


@pytest.mark.parametrize("name", ["spikingjelly", "snntorch"])
def test_a_peer_gives_the_reference_results(name: str) -> None:
    if harness.python_of(name) == sys.executable and importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}, which `make peers` installs")
    with harness.Stage((name,), effort=EFFORT) as stage:
        row = batchnorm.race(stage, batchnorm.case(3, batch=2, channels=4, size=4))
    assert row["reasons"] == {}
    assert len(row["median_ms"]) == (2 if name == "snntorch" else 1)
    if name == "snntorch":
        assert sorted(row["equation"].values()) == [
            f"{networks.PER_STEP}; {networks.DELAYED}", networks.DELAYED,
        ]  # fmt: skip


@pytest.mark.parametrize("size", harness.SIZES)
def test_the_cases(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchnorm, "race", lambda _, made: made)
    with harness.Stage(()) as stage:
        cases = [(made["T"], made["layout"]) for made in batchnorm.run(stage, size)]
    assert cases == [(T, layout) for T in batchnorm.STEPS for layout in work.LAYOUTS][: 2 if size == "quick" else 4]


# -- small layers --------------------------------------------------------------------------------------------------


def test_small_layers_stand_beside_one_operation() -> None:
    with harness.Stage((harness.OURS, "no_such_library"), effort=EFFORT) as stage:
        (row,) = small.run(stage, harness.QUICK)
    assert (row["T"], row["N"], row["passes"]) == (32, 2000, work.BOTH)
    assert {"one operation", "an empty function", "numba, keep=input", "eager torch"} <= row["median_ms"].keys()
    assert row["kept_bytes"]["one operation"] == 4 * 32 * 2000  # x
    assert row["kept_bytes"]["an empty function"] == 0
    head, titles, *rest = small.lines(row)
    assert head.startswith("T=32, N=2000")
    assert "median us" in titles
    kept = next(line for line in rest if line.startswith("  one operation"))
    assert kept.endswith("250.0")  # KiB
    assert any(line.startswith("  no_such_library: ModuleNotFoundError") for line in rest)


def test_the_small_sizes_divide_into_the_batch() -> None:
    assert all(case["N"] % case["B"] == 0 and case["operations"] for case in map(small.case, small.NEURONS))


def test_short_work_is_repeated_in_one_measurement() -> None:
    runs: list[int] = []
    player = play.Player()
    player.device, player.passes = "cpu", work.BOTH
    player.works["short"] = work.Work(run=lambda: runs.append(1), result=dict)
    player.time("short", warm=True)
    assert 3 < len(runs) <= 2 + play.MOST
    runs.clear()
    player.passes = work.BACKWARD  # each needs a forward pass before it
    player.time("short", warm=False)
    assert len(runs) == 1
