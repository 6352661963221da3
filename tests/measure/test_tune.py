"""Builds of GPU kernels: which fit, which is taken, what is kept of a measurement, and the search for the fastest."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cases import NEURONS
from tests.cuda_text import on_cpu
from tfexplore import LIF, neurons
from tfexplore.backends import cuda, tuned
from tfexplore.codegen.builds import BYTES, CHUNK_BYTES, Build, Config, Shape, default, fits
from tfexplore.codegen.keep import KEEP, why_not
from tfexplore.codegen.variant import Variant
from tfexplore.measure import tune
from tfexplore.neurons import Neuron
from tfexplore.neurons.step import step_of
from tfexplore.nn import ops, routes

SHAPE = Shape("float32", "float32", "input", states=1, needs=1, learned=False)
FASTEST = Config(8, Build(2, 4), Build(2, 4, shared=False, streaming=True))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path))
    monkeypatch.setattr(tuned, "SHIPPED", tmp_path / "nothing is shipped")
    tuned.known.cache_clear()
    yield tmp_path
    tuned.known.cache_clear()


def test_every_neurons_default_fits() -> None:
    seen = set()
    for kind, keep, data in itertools.product(NEURONS, ("nothing", *KEEP), BYTES):
        step = step_of(kind())
        if keep == "bits" and why_not(step):
            continue
        shape = Variant(step, "float64" if data == "float64" else "float32", data, keep).shape
        config = default(shape)
        assert fits(config, shape), shape
        assert config.forward.vector * BYTES[data] <= 16
        if shape.keep == "input":
            held = config.chunk * shape.needs * config.backward.vector * BYTES[shape.real]
            assert held <= CHUNK_BYTES, shape
        seen.add(shape)
    assert len(seen) > 20


@pytest.mark.parametrize(
    "changed", [("chunk", 64), ("backward.vector", 8), ("forward.vector", 8), ("backward.ahead", 32)], ids=str
)  # fmt: skip
def test_what_does_not_fit(changed: tuple[str, int]) -> None:
    assert fits(default(SHAPE), SHAPE)
    assert not fits(tune.changed(default(SHAPE), *changed), SHAPE)


def cost(loop: str, build: Build, chunk: int) -> float:
    """Seconds in a world where every option counts by itself, and `FASTEST` is the fastest."""
    wanted = getattr(FASTEST, loop)
    apart = sum(getattr(build, f.name) != getattr(wanted, f.name) for f in dataclasses.fields(Build))
    return 1 + apart + 0.5 * abs(math.log2(chunk / FASTEST.chunk))


def test_the_search_finds_the_fastest_and_asks_once() -> None:
    requested = []

    def seconds(loop: str, build: Build, chunk: int) -> float:
        requested.append((loop, build, chunk))
        return cost(loop, build, chunk)

    assert tune.search(SHAPE, seconds) == FASTEST
    assert len(requested) == len(set(requested)) <= 40


def test_a_build_that_cannot_run_is_not_taken() -> None:
    def seconds(loop: str, build: Build, chunk: int) -> float:
        return math.inf if build.vector == 2 else cost(loop, build, chunk)

    assert tune.search(SHAPE, seconds).forward.vector != 2


@pytest.mark.parametrize(("neuron", "keep"), tune.COMMON, ids=lambda given: str(given).partition("(")[0])
def test_a_trial_runs_every_build_it_is_requested_for(neuron: Neuron, keep: str, require: Callable[..., str]) -> None:
    """The kernels run as C++; only their time is none of a GPU's. A build that gives other results is not timed."""
    with on_cpu(require("g++", "clang++", why="to run the CUDA kernels as C++")) as fake:
        trial = tune.Trial(neuron, keep, "float32", "cpu", steps=6, neurons=8)
        tried = default(trial.shape), tune.changed(default(trial.shape), "backward.ahead", 2)
        for config in tried:
            assert 0 < tune.total(config, trial.shape, trial.seconds) < math.inf
        assert {name for name, _ in fake.launches} == {"forward", *(["backward"] if keep != "nothing" else [])}
        trial.first["forward"] = tuple(torch.full_like(made, 9) for made in trial.first["forward"])
        assert trial.seconds("forward", tried[0].forward, tried[0].chunk) == math.inf
    assert trial.why == {("forward", tried[0].forward, tried[0].chunk): "it gives other results than the first build"}


def test_a_trial_takes_fewer_neurons_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "free_bytes", lambda device: 32 * (8 * 4 + 2 * 4) * 1000)
    assert tune.Trial(LIF().neuron, "input", "float32", "cpu", neurons=1 << 12).neurons == 1 << 9


def test_a_config_in_words() -> None:
    assert str(FASTEST) == "chunks of 8; forward: 2 wide, 4 ahead; backward: 2 wide, 4 ahead, streaming"
    assert str(default(SHAPE).backward) == "4 wide, 8 ahead, in shared memory"


def test_without_a_backward_pass_it_measures_none() -> None:
    loops = set()
    tune.search(dataclasses.replace(SHAPE, keep="nothing"), lambda loop, *_: loops.add(loop) or 1.0)
    assert loops == {"forward"}


def test_what_was_measured_is_kept_and_taken(cache: Path) -> None:
    assert tuned.choose(SHAPE, "NVIDIA H200") == default(SHAPE)
    tuned.remember(SHAPE, "NVIDIA H200", FASTEST)
    other = dataclasses.replace(SHAPE, data="bfloat16")
    tuned.remember(other, "NVIDIA H200", default(other))
    tuned.known.cache_clear()  # as another process
    assert tuned.choose(SHAPE, "NVIDIA H200") == FASTEST
    assert tuned.choose(SHAPE, "NVIDIA H100 80GB HBM3") == default(SHAPE)
    assert set(json.loads((cache / "tuned.json").read_text())["NVIDIA H200"]) == {str(SHAPE), str(other)}
    assert [path.name for path in cache.iterdir()] == ["tuned.json"]


def test_what_is_measured_here_comes_before_what_is_shipped(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = cache / "shipped.json"
    monkeypatch.setattr(tuned, "SHIPPED", shipped)
    shipped.write_text(json.dumps({"GPU": {str(SHAPE): dataclasses.asdict(FASTEST)}}))
    assert tuned.choose(SHAPE, "GPU") == FASTEST
    tuned.remember(SHAPE, "GPU", default(SHAPE))
    assert tuned.choose(SHAPE, "GPU") == default(SHAPE)


def test_what_is_shipped_can_be_built(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry for each shape that was measured; a shape that no neuron has any more would never be found."""
    monkeypatch.setattr(tuned, "SHIPPED", Path(tuned.__file__).with_name("tuned.json"))
    assert "NVIDIA H200" in tuned.read(tuned.SHIPPED)
    for device, builds in tuned.read(tuned.SHIPPED).items():
        shapes = {
            str(shape): shape
            for (neuron, keep), dtype in itertools.product(tune.COMMON, tune.DTYPES)
            if (shape := Variant(step_of(neuron), "float32", dtype, keep).shape)
        }
        assert builds
        for name, values in builds.items():
            assert fits(tuned.config_of(values), shapes[name]), (device, name)
            assert tuned.choose(shapes[name], device) == tuned.config_of(values)


def test_a_layer_is_built_as_it_was_measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the layer's device to the variant that the operators find, without a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_name", {0: "GPU"}.get)
    monkeypatch.setattr(routes.backends, "choose", lambda backend, device: routes.backends.Choice("cuda", ""))
    routes.cached_kernel.cache_clear()
    layer = LIF()
    shape = Variant(layer.step, keep="input").shape

    def config() -> Config:
        routes.cached_kernel.cache_clear()
        wanted = (layer.step_name, "auto", "cuda", 0, torch.float32, "input", (), False, False, False, "serial")
        return ops.find(routes.cached_kernel(*wanted))[1].config

    try:
        assert config() == default(shape)
        tuned.remember(shape, "GPU", FASTEST)
        assert config() == FASTEST
    finally:
        routes.cached_kernel.cache_clear()


def test_rows_of_odd_sizes_and_few_neurons_take_a_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: type("H200", (), {"multi_processor_count": 132})
    )
    variant, x = Variant(step_of(neurons.LIF()), keep="input").for_gpu(), torch.zeros(4, 4)
    cuda.processors.cache_clear()
    narrow, place = variant.config.forward.narrow(variant.chunk), x.data_ptr()
    enough = 4 * 128 * 132
    try:
        assert cuda.wide(variant, "forward", [place, 0], enough, enough, 0)
        assert not cuda.wide(variant, "forward", [place, 0], enough + 1, enough + 1, 0)
        assert not cuda.wide(variant, "forward", [place, 0], enough - 4, enough - 4, 0)
        assert not cuda.wide(variant, "forward", [place + 4, 0], enough, enough, 0)
    finally:
        cuda.processors.cache_clear()
    assert (narrow.vector, narrow.ahead) == (1, 16)


def test_few_neurons_look_sixteen_steps_ahead_but_no_further_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: dict[tuple[str, str], list[str]] = {}
    for keep, loop in itertools.product(("input", "potential"), ("forward", "backward")):
        monkeypatch.setattr(cuda, "load", lambda *given: requested.setdefault((keep, loop), [*given[2]]))  # noqa: B023
        variant = Variant(step_of(neurons.LIF()), "float32", "bfloat16", keep).for_gpu()
        assert variant.chunk == 8
        cuda.prepared.__wrapped__(variant, loop, False, False, 0)
    ahead = {key: next(option for option in options if "AHEAD" in option) for key, options in requested.items()}
    assert ahead.pop(("input", "backward")) == "-DAHEAD=8"
    assert set(ahead.values()) == {"-DAHEAD=16"}
    assert len(ahead) == 3
