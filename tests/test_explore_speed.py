"""The speed curves, the roofline and the cost of compiling, without a browser. No test looks at how long anything took."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tfexplore import contestants, explore, first_calls, measure, neurons, results
from tfexplore.beside import Beside
from tfexplore.contestants import COMPILED, DTYPES, PASSES, TOLERANCE, WAYS, check, plain_loop, why_not_compiled
from tfexplore.equations import Neuron
from tfexplore.explore import curves, points
from tfexplore.explore.alone import alone
from tfexplore.explore.compile_cost import CASES
from tfexplore.explore.roofline import LARGEST
from tfexplore.layers import LIF, Layer
from tfexplore.traffic import traffic, words

SPEED = sys.modules["tfexplore.explore.speed"]  # the file; `explore.speed` is its class
ANSWER = {
    "first_call": 21.0,
    "rounds": 5,
    "seconds": {name: {"low": 1e-3, "median": 2e-3, "high": 3e-3} for name in (*WAYS, COMPILED)},
}


def spread(png: bytes) -> float:
    """0 for an empty picture."""
    return float(matplotlib.image.imread(io.BytesIO(png))[..., :3].std())


# -- the contestants ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("passes", PASSES)
def test_all_ways_and_the_plain_loop_give_the_same(dtype: str, passes: str) -> None:
    work = contestants.contestants(9, 200, dtype=dtype, passes=passes)
    check(work, dtype)
    out, *gradient = work["fused"]()
    assert out.sum() > 0
    assert out.dtype == DTYPES[dtype]
    assert len(gradient) == (passes == PASSES[0])
    # the loop that torch.compile gets, uncompiled, on the same input
    make = torch.Generator().manual_seed(0)
    x, g = (torch.randn(9, 1, 200, generator=make) for _ in range(2))
    x = (0.8 * x).to(DTYPES[dtype]).requires_grad_()
    expected = plain_loop(x)
    assert torch.equal(expected, out)
    for mine in gradient:
        theirs = torch.autograd.grad(expected, x, (0.8 * g).to(DTYPES[dtype]))[0]
        assert (mine - theirs).abs().max() <= TOLERANCE[dtype] * theirs.abs().max()


@pytest.mark.parametrize(("place", "what"), [(0, "spikes"), (1, "gradient")])
def test_who_computes_something_else_is_not_timed(place: int, what: str) -> None:
    work = contestants.contestants(3, 50)
    honest = work["fused"]

    def cheat() -> tuple[torch.Tensor, ...]:
        results = list(honest())
        results[place] = results[place] + 1
        return tuple(results)

    with pytest.raises(RuntimeError, match=f"'fused' gives (other|another) {what} than 'step by step'"):
        check(work | {"fused": cheat})


@pytest.mark.slow
def test_torch_compile_really_runs_beside() -> None:
    if reason := why_not_compiled():
        pytest.skip(reason)
    with Beside("tfexplore.contestants") as process:
        answer = process.ask(steps=2, neurons=64, rounds=2)
    assert set(answer["seconds"]) == {*WAYS, COMPILED}
    assert answer["first_call"] > 0
    assert all(0 < cut["low"] <= cut["median"] <= cut["high"] for cut in answer["seconds"].values())


def test_a_process_beside_answers_complains_and_ends() -> None:
    with Beside("tfexplore.first_calls") as process:
        assert process.ask(neuron="LIF", case="nothing")["compiled"] == 0
        with pytest.raises(RuntimeError, match="no_such_dtype"):
            process.ask(neuron="LIF", dtype="no_such_dtype")
        process.end()
        with pytest.raises(RuntimeError, match=r"tfexplore\.first_calls ended without an answer"):
            process.ask(neuron="LIF")
    with Beside("tfexplore.no_such_module") as process, pytest.raises(RuntimeError, match="No module named"):
        process.ask()


# -- speed -------------------------------------------------------------------------------------------------------


@pytest.fixture
def speed() -> Any:
    return explore.speed(steps=3, neurons=100, largest=4, device="cpu")


def test_speed_measures_every_point_of_every_way(speed: Any) -> None:
    result = asyncio.run(speed.run())
    assert result.values == (1, 2, 4)
    for k, name in enumerate(WAYS):
        assert len(result.seconds[name]) == 3
        assert all(seconds > 0 for seconds in result.seconds[name])
        assert tuple(speed.figure.data[k].x) == (1, 2, 4)
        sizes = np.array([1, 2, 4]) * 100 * 2
        np.testing.assert_allclose(speed.figure.data[k].y, 1e9 * np.array(result.seconds[name]) / sizes)
    ratio = result.seconds["step by step"][-1] / result.seconds["fused"][-1]
    assert f"{max(ratio, 1 / ratio):.1f} times as {'fast' if ratio >= 1 else 'slow'} at T = 4" in speed.message.value
    assert measure.machine() in speed.message.value
    assert spread(speed.picture()) > 0.05


def test_another_unit_shows_the_same_measurement(speed: Any) -> None:
    result = asyncio.run(speed.run())
    speed.controls["unit"].value = "milliseconds per pass"
    assert speed.result is result
    np.testing.assert_allclose(speed.figure.data[2].y, 1e3 * np.array(result.seconds["fused"]))
    assert speed.figure.layout.yaxis.title.text == "milliseconds per pass"


@pytest.mark.parametrize(
    ("sweep", "values", "kind"), [("neurons N", (100, 300), "log"), ("dtype", tuple(DTYPES), "category")]
)
def test_other_sweeps(speed: Any, sweep: str, values: tuple[Any, ...], kind: str) -> None:
    speed.largest = 300
    speed.controls["sweep"].value = sweep
    result = asyncio.run(speed.run())
    assert result.values == values
    assert all(len(result.seconds[name]) == len(values) for name in WAYS)
    assert speed.figure.layout.xaxis.type == kind
    assert "T = 3" in speed.figure.layout.xaxis.title.text
    assert ("half precision is unpacked" in speed.notes.value) == (sweep == "dtype")
    assert spread(speed.picture()) > 0.05


def test_a_moved_control_sends_the_curves_back_unless_it_is_swept(speed: Any) -> None:
    result = asyncio.run(speed.run())
    speed.controls["steps"].value = 5
    assert speed.result is result, "T grows to the right anyway"
    speed.controls["passes"].value = "forward"
    assert speed.result.passes == "forward"
    assert not speed.result.seconds["fused"]
    assert len(speed.figure.data[0].x) == 0
    assert "Press Start" in speed.message.value
    assert repr(speed) == (
        "Speed(sweep='time steps T', steps=5, neurons=100, dtype='float32', passes='forward', "
        "unit='nanoseconds per element-step')"
    )


def test_speed_stops_between_two_runs(speed: Any) -> None:
    async def run_and_stop() -> None:
        run = asyncio.create_task(speed.run())
        while not speed.result.seconds["fused"]:
            await asyncio.sleep(0)
        assert speed.controls["compile"].disabled
        speed.controls["stop"].click()
        await run

    asyncio.run(run_and_stop())
    assert 1 <= len(speed.result.seconds["fused"]) < 3
    assert "of 3 points measured" in speed.message.value
    assert not speed.controls["compile"].disabled


class Fake:
    """Stands for the process that compiles: answers when `answer` allows it, or until it is ended."""

    answer: Callable[[], bool] = staticmethod(lambda: True)
    asked: list[dict[str, Any]]

    def __init__(self, module: str) -> None:
        assert module == "tfexplore.contestants"
        self.ended = False
        Fake.asked = []

    def ask(self, **question: Any) -> dict[str, Any]:
        Fake.asked.append(question)
        while not self.ended and not Fake.answer():
            pass
        if self.ended:
            raise RuntimeError("ended")
        return ANSWER

    def end(self) -> None:
        self.ended = True

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Fake]]:
    monkeypatch.setattr(SPEED, "Beside", Fake)
    monkeypatch.setattr(SPEED, "why_not_compiled", lambda device: "")
    yield Fake
    Fake.answer = staticmethod(lambda: True)


def test_the_button_adds_one_point_of_torch_compile(speed: Any, fake: type[Fake]) -> None:
    result = asyncio.run(speed.run())

    async def press() -> None:
        speed.controls["compile"].click()
        await speed.task

    asyncio.run(press())
    assert speed.result is result
    assert len(result.seconds["fused"]) == 3, "the curves stay"
    assert fake.asked == [{"steps": 3, "neurons": 100, "dtype": "float32", "passes": PASSES[0], "device": "cpu"}]
    assert list(speed.figure.data[3].x) == [3]
    np.testing.assert_allclose(speed.figure.data[3].y, [1e9 * 2e-3 / (3 * 100 * 2)])
    assert "after 21 s of compiling, takes 1.0 times as long as fused" in speed.message.value
    assert asyncio.run(speed.run()) is not result, "Start begins anew"


def test_stop_ends_the_compiler(speed: Any, fake: type[Fake]) -> None:
    fake.answer = staticmethod(lambda: False)

    async def press_and_stop() -> None:
        speed.controls["compile"].click()
        while "so far" not in speed.message.value:
            await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="press Stop, or wait"):
            await speed.compile()
        speed.controls["stop"].click()
        await asyncio.wait_for(speed.task, 5)

    asyncio.run(press_and_stop())
    assert not speed.result.compiled
    assert "torch.compile was stopped" in speed.message.value
    assert not speed.running


def test_without_a_compiler_a_sentence_says_so(speed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestants.shutil, "which", lambda name: None)
    asyncio.run(speed.compile())
    assert "torch.compile needs a C++ compiler, and there is none here" in speed.message.value
    assert 'role="alert"' in speed.message.value
    monkeypatch.setattr(contestants.importlib.util, "find_spec", lambda name: None)
    assert why_not_compiled("cuda") == "torch.compile needs Triton for a GPU: pip install triton."


def test_a_long_loop_is_not_compiled(speed: Any) -> None:
    speed.controls["steps"].value = 100
    asyncio.run(speed.compile())
    assert "choose T up to 64" in speed.message.value


def test_recorded_curves_are_labelled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def rows(ms: float) -> list[dict[str, Any]]:
        medians = dict.fromkeys((*WAYS, COMPILED), ms)
        common = {"N": 10_000, "dtype": "float32", "passes": PASSES[0], "median_ms": medians, "first_call_s": 33.0}
        return [common | {"T": steps} for steps in (4, 8)]

    for name, device in (("Imaginary CPU, 3 cores", "cpu"), ("Imaginary GPU", "cuda")):
        about = {"benchmark": "torch_compile", "machine": name, "device": device, "torch": "9.9", "date": "2031-02-03"}
        (tmp_path / f"{device}.json").write_text(json.dumps(about | {"what": "a test", "results": rows(8.0)}))
    monkeypatch.setattr(results, "FOLDERS", (tmp_path,))
    made = explore.speed(steps=3, neurons=100, largest=4, device="cpu")
    names = [trace.name for trace in made.figure.data]
    of_gpu = [f"{name}, recorded (Imaginary GPU)" for name in (*WAYS, COMPILED)]
    assert names == [*WAYS, COMPILED, f"{COMPILED}, recorded (Imaginary CPU)", *of_gpu]
    np.testing.assert_allclose(made.figure.data[4].y, 1e9 * 8e-3 / (np.array([4, 8]) * 10_000 * 2))
    assert made.figure.data[4].line.dash == "dash"
    assert "on Imaginary GPU, torch 9.9, 2031-02-03" in made.notes.value
    assert "at N = 10,000, float32, on Imaginary CPU, 3 cores, torch 9.9" in made.notes.value
    assert "compiled for 33 to 33 s" in made.notes.value
    assert "No GPU has been measured" not in made.notes.value
    made.controls["dtype"].value = "float64"
    assert len(made.figure.data[4].x) == 0
    assert "Nothing was recorded on Imaginary GPU" in made.notes.value
    assert spread(made.picture()) > 0.01


def test_without_a_recorded_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "FOLDERS", (tmp_path,))
    assert "No GPU has been measured yet." in explore.speed(device="cpu").notes.value
    assert curves.shown("cpu") == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sweep": "B"}, "sweep must be one of 'T', 'N', 'dtype', but got 'B'"),
        ({"dtype": "int8"}, "dtype must be one of 'float32'"),
        ({"passes": "backward"}, "passes must be one of 'forward \\+ backward', 'forward', but got 'backward'"),
        ({"sweep": "N", "largest": 10}, "largest must be at least 100, the first N of the curve, but got 10"),
    ],
)
def test_errors_of_speed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explore.speed(**given)


# -- the roofline ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def roofline() -> Any:
    made = explore.roofline(["LIF", "Izhikevich"], steps=4, neurons=1000, device="cpu", mebibytes=1)
    asyncio.run(made.run())
    return made


# by hand, from the equations, as SymPy writes them
@pytest.mark.parametrize(
    ("neuron", "keep", "count"),
    [
        (neurons.IF(), "nothing", 5),  # v + x; h - th; step; h - s th
        (neurons.LIF(), "nothing", 8),  # v + x - (v - v_reset)/tau: 4
        (neurons.LI(), "nothing", 4),  # v + (x - v + v_reset)/tau; nothing fires
        (neurons.LI(), "potential", 9),  # and back: g + g_next; /tau; g (1 - 1/tau)
    ],
    ids=str,
)
def test_operations_are_those_of_the_equations(neuron: neurons.LIF, keep: str, count: int) -> None:
    assert points.operations(neuron, keep) == count


def test_recomputing_goes_forward_once_more() -> None:
    lif = neurons.LIF()
    assert points.operations(lif, "input") == points.operations(lif, "potential") + points.operations(lif)


@pytest.mark.parametrize(
    ("neuron", "dtype"),
    [*((kind(), torch.float32) for kind in neurons.ALL), (neurons.LIF(), torch.float64)],
    ids=lambda value: type(value).__name__ if isinstance(value, Neuron) else str(value),
)
def test_a_kernel_alone_gives_what_the_eager_layer_gives(neuron: Neuron, dtype: torch.dtype) -> None:
    x, g = torch.randn(40, 30, dtype=dtype), torch.randn(40, 30, dtype=dtype)
    given = x.clone().requires_grad_()
    expected = Layer(neuron, backend="torch")(given)
    (slope,) = torch.autograd.grad(expected, given, g)
    for keep in ("potential", "input"):
        work = alone(neuron, keep, "numba", x, g)
        for _ in range(2):  # the second run must not see the first one's remains
            out, g_x = work()
        torch.testing.assert_close(out, expected.detach())
        torch.testing.assert_close(g_x, slope, rtol=1e-4, atol=1e-5)


def test_a_kernel_alone_takes_no_half_precision() -> None:
    x = torch.zeros(2, 3, dtype=torch.float16)
    with pytest.raises(TypeError, match="x must be float32 or float64, but got float16"):
        alone(neurons.LIF(), "nothing", "numba", x, x)


def test_the_roofline_has_two_roofs_and_all_kernels(roofline: Any) -> None:
    result = roofline.result
    assert [kernel.label for kernel in result.kernels] == [
        "LIF forward",
        "LIF forward + backward, keep=input",
        "LIF forward + backward, keep=potential",
        "Izhikevich forward",
        "Izhikevich forward + backward, keep=input",
        "LIF forward, the whole layer",
        "LIF forward, eager",
    ]
    assert result.bandwidth > 0
    assert result.peak > 0
    lif = result.kernels[2]
    assert lif.bytes == 4 * words(traffic(neurons.LIF(), "potential")) == 24
    assert lif.bytes_per_second == pytest.approx(24 * 4 * 1000 / lif.seconds)
    assert lif.flops_per_second == pytest.approx(lif.bytes_per_second * lif.intensity)
    assert result.kernels[-1].bytes > result.kernels[0].bytes, "the eager loop moves more words"
    x, y = roofline.figure.data[0].x, np.array(roofline.figure.data[0].y)
    np.testing.assert_allclose(y, 1e-9 * result.bandwidth * np.array(x), rtol=1e-6)
    assert roofline.figure.data[0].y[-1] == pytest.approx(1e-9 * result.peak)
    assert list(roofline.figure.data[3].x) == [result.kernels[0].intensity]
    share = result.kernels[0].bytes_per_second / result.bandwidth
    assert f"The fused forward pass of LIF reaches {share:.0%} of this machine" in roofline.message.value
    assert roofline.notes.value.count("<tr>") == 1 + len(result.kernels)
    assert spread(roofline.picture()) > 0.05


def test_a_moved_control_takes_the_points_away() -> None:
    made = explore.roofline(["IF"], steps=4, neurons=1000, device="cpu", mebibytes=1)
    asyncio.run(made.run())
    made.controls["steps"].value = 128
    assert made.controls["neurons"].max * 128 <= LARGEST
    assert not made.result.kernels
    assert len(made.figure.data[0].x) == len(made.figure.data[3].x) == 0
    assert "Press Start: this machine's memory, and 128 time steps" in made.message.value
    assert made.notes.value == ""
    assert repr(made) == "Roofline(steps=128, neurons=1000, dtype='float32')"


def test_eager_words_are_counted_not_guessed() -> None:
    class Operations(torch.utils._python_dispatch.TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            given = [a for a in args if isinstance(a, torch.Tensor)] + list(
                args[0] if isinstance(args[0], list) else []
            )
            if func.__name__.split(".")[0] in ("add", "sub", "div", "mul", "ge", "_to_copy", "stack"):
                Operations.count += sum(t.numel() for t in (*given, out) if t.numel() > 1)
            return out

    x = torch.zeros(8, 1, 4096)
    with torch.no_grad(), Operations():
        LIF(backend="torch")(x)
    assert points.eager_words(neurons.LIF()) == pytest.approx(Operations.count / x.numel(), rel=0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"which": ["LIFE"]}, "which must name neurons of IF, LIF, .* but got 'LIFE'"),
        ({"which": []}, "which must name at least one neuron"),
        ({"dtype": "float16"}, "dtype must be one of 'float32', 'float64', but got 'float16'"),
        ({"steps": 100, "neurons": 1_000_000}, "their product at most 20,000,000, but got 100 and 1,000,000"),
    ],
)
def test_errors_of_the_roofline(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explore.roofline(**given)


def test_a_kernel_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "alone", lambda neuron, keep, backend, x, g: lambda: (torch.ones_like(x), g))
    made = explore.roofline(["IF"], steps=4, neurons=1000, device="cpu", mebibytes=1)
    with pytest.raises(
        RuntimeError, match=r"IF forward: .* of its result are not the eager loop's, so it is not timed"
    ):
        asyncio.run(made.run())
    assert 'role="alert"' in made.message.value


# -- what compiling costs ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compiling_is_paid_once_for_each_neuron_and_dtype() -> None:
    cache = os.environ["TFEXPLORE_CACHE"]
    before = set(Path(cache).rglob("*.nbc"))
    made = explore.compile_cost("IF", device="cpu")
    result = asyncio.run(made.run())
    assert result.compiled == {
        "first call ever": 2,  # forward and backward
        "first call in a new process": 0,
        "the same call again": 0,
        "another {number}": 0,
        "another T and N": 0,
        "another dtype (float64)": 2,
    }
    assert result.seconds["first call ever"] > result.seconds["the same call again"]
    assert set(Path(cache).rglob("*.nbc")) == before, "the user's cache stays as it is"
    assert "another v_threshold" in made.figure.data[0].y
    assert "Another v_threshold, T or N compiled nothing" in made.message.value
    assert made.figure.data[0].text[0].endswith("2 kernels compiled")
    assert all(process.process.poll() is not None for process in made._processes)
    assert spread(made.picture()) > 0.05


def test_stop_ends_both_processes_at_once() -> None:
    made = explore.compile_cost("LIF", device="cpu")

    async def run_and_stop() -> None:
        made.controls["start"].click()
        while not made._processes:
            await asyncio.sleep(0.01)
        made.controls["stop"].click()
        assert made.task is not None
        await asyncio.wait_for(made.task, 10)

    asyncio.run(run_and_stop())
    assert all(process.process.poll() is not None for process in made._processes)
    assert made.message.value.count("Stopped.") == 1
    assert len(made.result.seconds) < len(CASES)


def test_another_neuron_begins_anew() -> None:
    made = explore.compile_cost("LIF", device="cpu")
    made.controls["neuron"].value = "QIF"
    assert made.result.neuron == "QIF"
    assert "What does it cost to use QIF for the first time?" in made.message.value
    assert repr(made) == "CompileCost(neuron='QIF')"
    with pytest.raises(ValueError, match=r"neuron must be one of IF, LIF, .*, but got 'LIFE'"):
        explore.compile_cost("LIFE")


@pytest.mark.parametrize("kind", neurons.ALL, ids=lambda kind: kind.__name__)
def test_every_neuron_has_a_number_to_change(kind: type[neurons.LIF]) -> None:
    name, other = first_calls.changed(kind())
    assert getattr(other, name) != getattr(kind(), name)


# -- all three ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [explore.speed, explore.roofline, explore.compile_cost], ids=lambda make: make.__name__
)
def test_every_control_is_labelled(make: Callable[..., Any]) -> None:
    made = make(device="cpu")
    for name, control in made.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert made.caption.endswith(".")
    assert made.caption in made.describe()
    assert spread(made.picture()) > 0
