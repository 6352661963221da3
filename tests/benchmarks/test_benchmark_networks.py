"""The training benchmark and the growth of costs: right results, whole tables. No time is asserted."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import growth, harness, networks, training, work
from benchmarks.contestants import ours
from benchmarks.networks import NETWORKS, NEURONS, NORM, OPTIMISER, PARTS, WEIGHTS, Training
from tfexplore.measure.contestants import FUSED, LAYERED, STEPPED
from tfexplore.measure.server_process import ServerProcess

WAYS = (STEPPED, LAYERED, FUSED)
EFFORT = harness.Effort(seconds=0.0, least=1, most=1)
STEPS = 2


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    work.forget()


def case(network: str) -> work.Case:
    about = {"network": network, "T": STEPS, "B": 2, "width": 4, "dtype": "float32", "surrogate": "ATan", "seed": 0}
    return about | {"device": "cpu"}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_way_trains_as_a_plain_loop(network: str) -> None:
    made, norm = case(network), NETWORKS[network].norm
    expected, modes = networks.expected(made), ours.training(made)
    works = {way: modes[way]() for way in WAYS}
    found = {way: made.result() for way, made in works.items()}
    for way, results in found.items():
        which = ", BatchNorm per step" * (norm and way == STEPPED)
        assert list(results) == [name + which + end for end in ("", networks.EXACT) for name in networks.RESULTS]
        for name, values in results.items():
            near = 1e-12 if name.endswith(networks.EXACT) else 1e-6
            assert np.allclose(values, expected[name], rtol=near, atol=near * np.abs(expected[name]).max())
        assert works[way].equation == (networks.PER_STEP if which else "")
        assert (works[way].kept() or 0) > 0
    if not norm:  # bit for bit; a BatchNorm in the kernel adds in another order
        assert np.array_equal(found[FUSED]["later losses"], found[LAYERED]["later losses"])
    # other equations give other losses, and the network learns
    assert expected.keys() <= training.ALLOWED.keys()
    firsts = {name: float(values) for name, values in expected.items() if name.startswith("first")}
    assert len(firsts) == 2 * (3 if norm else 2)
    assert len({round(first, 5) for first in firsts.values()}) == len(firsts) / 2  # in float32 as in float64
    assert expected["later losses"][-1] < expected["first loss"]


@pytest.mark.parametrize(
    ("network", "layers", "parameters"),
    # counted from the publications' tables: ResNet18 with a 3 x 3 stem, VGG-11 with BatchNorm, no bias and one linear layer
    [("mlp", 1, 19_210), ("conv", 2, 9_930), ("resnet18", 17, 11_173_962), ("vgg11", 8, 9_228_362)],
)
def test_the_networks_have_their_usual_size(network: str, layers: int, parameters: int) -> None:
    net = NETWORKS[network].make(networks.plain(stepped=False, delayed=False), NETWORKS[network].width)
    assert sum(isinstance(module, networks.Plain) for module in net.modules()) == layers
    assert sum(p.numel() for p in net.parameters()) == parameters
    largest = max(sizes(net, NETWORKS[network].shape).values())
    assert largest == NETWORKS[network].largest


def sizes(net: nn.Module, shape: tuple[int, ...]) -> dict[nn.Module, int]:
    """Neurons by layer."""
    seen: dict[nn.Module, int] = {}
    for module in net.modules():
        if isinstance(module, networks.Plain):
            module.register_forward_hook(lambda module, args, out: seen.update({module: out.numel()}))
    with torch.no_grad():
        assert net.eval()(torch.zeros(1, 1, *shape)).shape == (1, 1, networks.CLASSES)
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_the_parts_are_all_that_the_network_calls(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Training] = []

    class Watched(Training):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(networks, "Training", Watched)
    modes = ours.training(case("resnet18"))
    assert list(modes) == [name for mode in WAYS for name in (mode, *(f"{mode}: {part}" for part in PARTS))]
    parts = {part: modes[f"{way}: {part}"]() for part in PARTS}
    (only,) = made  # one network for all parts
    calls: Counter[nn.Module] = Counter()
    kinds: dict[str, Any] = {
        NEURONS: type(only.library.neuron()),
        WEIGHTS: networks.WEIGHTED,
        NORM: nn.BatchNorm2d,
        OPTIMISER: (),
    }
    # part of the kernels of the stem's and the eight blocks' first neurons
    norms = [m for m in only.net.modules() if isinstance(m, nn.BatchNorm2d)]
    within = {norms[0], *(block.main[0][1] for block in only.net if isinstance(block, networks.Residual))}
    within = within if way == FUSED else set()
    for module in set(only.net.modules()) - within:  # a BatchNorm that something wants to be called with runs by itself
        module.register_forward_hook(lambda module, *_: calls.update([module]))
    before = [p.clone() for p in only.net.parameters()]
    for part, kind in kinds.items():
        calls.clear()
        assert parts[part].result() == {}
        turns = STEPS if way == STEPPED else 1
        own = {m: n for m, n in calls.items() if isinstance(m, kind)}
        assert own == {m: turns for m in only.net.modules() if isinstance(m, kind) and m not in within}
        assert all(isinstance(m, kind) for m in calls)
    assert all(torch.equal(p, b) for p, b in zip(only.net.parameters(), before, strict=True))


def test_a_race_in_processes_of_their_own_and_its_table() -> None:
    with harness.Stage((harness.OURS, "no_such_library"), effort=EFFORT) as stage:
        row = training.race(stage, case("vgg11"))
    assert set(row["median_ms"]) == set(row["parts_ms"]) == set(row["kept_bytes"]) == set(WAYS)
    assert {way: set(parts) for way, parts in row["parts_ms"].items()} == {way: set(PARTS) for way in WAYS}
    assert row["equation"] == {STEPPED: networks.PER_STEP}
    for way in WAYS:
        assert sum(training.shares(row, way).values()) == pytest.approx(1)
    head, titles, *rest = training.lines(row)
    assert head.startswith(f"vgg11, T={STEPS}, B=2")
    assert all(part in titles for part in (*PARTS, training.REST))
    assert [line.split("  ")[1] for line in rest[:3]] == sorted(WAYS, key=row["median_ms"].__getitem__)
    assert any(line.startswith("  no_such_library: ModuleNotFoundError") for line in rest)


@pytest.mark.parametrize(("name", "network"), [("spikingjelly", "resnet18"), ("snntorch", "vgg11")])
def test_a_peer_trains_as_the_reference(name: str, network: str) -> None:
    if harness.python_of(name) == sys.executable and importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}, which `make peers` installs")
    with harness.Stage((name,), effort=EFFORT) as stage:
        row = training.race(stage, case(network))
    assert row["reasons"] == {}
    (label,) = row["median_ms"]
    norm, stepped = NETWORKS[network].norm, name == "snntorch"
    assert set(row["parts_ms"][label]) == set(networks.parts_of(network))
    differences = [networks.PER_STEP] * (norm and stepped) + [networks.DELAYED] * stepped
    assert row["equation"].get(label, "") == "; ".join(differences)


@pytest.mark.parametrize("size", harness.SIZES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_cases(size: str, device: str) -> None:
    cases = [(made["network"], made["T"]) for made in training.cases(size, device)]
    assert len(cases) == len(set(cases))
    if size != harness.QUICK:
        assert {network for network, _ in cases} == set(NETWORKS)
    if size == harness.FULL:
        assert len(cases) == len(NETWORKS) * len(training.STEPS)


# -- growth ------------------------------------------------------------------------------------------------------


def test_the_fit_finds_the_power() -> None:
    x = np.array([4, 8, 16, 32, 64, 128])
    slope, error = growth.power(list(x), list(3 * x**1.5))
    assert slope == pytest.approx(1.5)
    assert error == pytest.approx(0, abs=1e-6)
    noise = np.exp(0.1 * np.random.default_rng(0).standard_normal(len(x)))
    slope, error = growth.power(list(x), list(x * noise))
    # the textbook's standard error, written out
    u, v = np.log(x) - np.log(x).mean(), np.log(x * noise) - np.log(x * noise).mean()
    residual = v - u * (u @ v) / (u @ u)
    assert slope == pytest.approx((u @ v) / (u @ u))
    assert error == pytest.approx(np.sqrt(residual @ residual / (len(x) - 2) / (u @ u)))
    assert abs(slope - 1) < 3 * error


def made_up(axis: str, value: int) -> harness.Row:
    costs = {"median_ms": {"numba": 0.1 * value}, "kept_bytes": {"numba": 4 * value}, "peak_bytes": {}}
    return {axis: value, "quartiles_ms": {"numba": [1.0, 2.0]}, "rounds": {"numba": 3}, "least_bytes": {}} | costs


def test_a_fit_is_a_row_and_lines() -> None:
    rows = [made_up("T", value) for value in (4, 16, 64)]
    fit = growth.fitted("T", rows)
    assert (fit["from"], fit["to"], set(fit["slopes"])) == (4, 64, {"median_ms", "kept_bytes"})
    assert fit["slopes"]["kept_bytes"]["numba"][0] == pytest.approx(1)
    head, *rest = growth.lines(fit)
    assert "T = 4 … 64" in head
    assert [line.split("  ")[1] for line in rest] == ["time", "bytes kept"]
    assert all(line.rstrip().endswith("1.000 ± 0.000") for line in rest)
    assert growth.fitted("T", rows[:2])["slopes"] == {}  # two points have no spread


class Here:
    """A ServerProcess whose process is this one."""

    def __init__(self, module: str) -> None:
        assert module == growth.__name__

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def request(self, **request: Any) -> dict[str, int]:
        return growth.peak(**request)


def test_growth_is_measured_with_all_its_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "ServerProcess", Here)
    with harness.Stage((harness.OURS,), effort=EFFORT) as stage:
        row = growth.grown(stage, "N", 16_000)
    assert row["reasons"] == {}
    assert "eager torch" in row["median_ms"]
    assert len(row["median_ms"]) > 2  # each keep
    assert (row["N"], row["T"]) == (16_000, growth.USUAL["T"])
    if Path("/proc/self/clear_refs").exists():
        assert row["peak_bytes"].keys() == row["median_ms"].keys()
    assert "peak of memory" in list(growth.lines(row | {"kept_bytes": {}, "equation": {}}))[-1]


def test_the_peak_is_measured_in_a_fresh_process() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc/self/clear_refs for the peak of the resident memory")
    made = growth.neuron.case(8, 160_000, surrogate="Rectangle") | {"device": "cpu"}
    with ServerProcess(growth.__name__) as process:
        peak = process.request(case=made, mode="eager torch")["peak"]
    assert 4 * 8 * 160_000 < peak < 30 * 4 * 8 * 160_000  # at the least the spikes, at the most all that a step makes


def test_the_first_result_in_parts() -> None:
    times = growth.first_result("cpu", os.environ["TFEXPLORE_CACHE"])
    *parts, whole = times
    assert whole == "in all"
    assert times[whole] == pytest.approx(sum(times[part] for part in parts))
    row = {"cache": "filled", **growth.FIRST, "median_ms": times, "quartiles_ms": {part: [1.0, 2.0] for part in times}}
    text = "\n".join(growth.lines(row))
    assert all(part in text for part in times)
    assert "cache filled" in text
