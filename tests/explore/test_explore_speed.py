"""The speed curves and the contestants in them, without a browser. No test looks at how long anything took."""

from __future__ import annotations

import asyncio
import json
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.speed import curves
from tfexplore.explore.speed import explorer as speed_explorer
from tfexplore.measure import clock, contestants, results
from tfexplore.measure.contestants import COMPILED, DTYPES, PASSES, TOLERANCE, WAYS, check, plain_loop, why_not_compiled
from tfexplore.measure.server_process import ServerProcess

ANSWER = {
    "first_call": 21.0,
    "rounds": 5,
    "seconds": {name: {"low": 1e-3, "median": 2e-3, "high": 3e-3} for name in (*WAYS, COMPILED)},
}


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
def test_a_contestant_that_computes_something_else_is_not_timed(place: int, what: str) -> None:
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
    with ServerProcess("tfexplore.measure.contestants") as process:
        answer = process.request(steps=2, neurons=64, rounds=2)
    assert set(answer["seconds"]) == {*WAYS, COMPILED}
    assert answer["first_call"] > 0
    assert all(0 < cut["low"] <= cut["median"] <= cut["high"] for cut in answer["seconds"].values())


def test_a_process_beside_answers_complains_and_ends() -> None:
    with ServerProcess("tfexplore.measure.first_calls") as process:
        assert process.request(neuron="LIF", case="nothing")["compiled"] == 0
        with pytest.raises(RuntimeError, match="no_such_dtype"):
            process.request(neuron="LIF", dtype="no_such_dtype")
        process.end()
        with pytest.raises(RuntimeError, match=r"tfexplore\.measure\.first_calls ended without an answer"):
            process.request(neuron="LIF")
    with ServerProcess("tfexplore.no_such_module") as process, pytest.raises(RuntimeError, match="No module named"):
        process.request()


def paths(folder: Path) -> str:
    """Where a process finds this package, and what a test has written."""
    return os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Windows has no process groups to end")
def test_the_end_ends_what_the_process_started(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "starts_another.py").write_text(
        "import subprocess\nfrom tfexplore.measure.server_process import serve\n"
        f"serve(lambda _: {{'pid': subprocess.Popen('exec sleep 60 > {fifo}', shell=True).pid}})\n"
    )
    with ServerProcess("starts_another", {"PYTHONPATH": paths(tmp_path)}) as process:
        process.request()
        alive = os.open(fifo, os.O_RDONLY)  # ends when nobody has it open for writing
    try:
        assert select.select([alive], [], [], 10)[0], "what it started goes on"
        assert os.read(alive, 1) == b""
    finally:
        os.close(alive)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Windows has no signal that only asks whether a process is there")
def test_a_process_that_may_finish_ends_those_it_started_in_groups_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import sys\nsys.stdin.read()\n")
    (tmp_path / "has_another.py").write_text(
        "import atexit\nfrom tfexplore.measure.server_process import ServerProcess, serve\n"
        "other = ServerProcess('waits')\natexit.register(other.end)\nserve(lambda _: {'pid': other.process.pid})\n"
    )
    with ServerProcess("has_another", {"PYTHONPATH": paths(tmp_path)}) as process:
        pid = process.request()["pid"]
        os.kill(pid, 0)  # it is there
        process.finish()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# -- speed -------------------------------------------------------------------------------------------------------


@pytest.fixture
def speed() -> Any:
    return explore.speed(steps=3, neurons=100, largest=4, device="cpu")


def test_speed_measures_every_point_of_every_way(speed: Any) -> None:
    result = asyncio.run(speed.run())
    assert result.values == (1, 2, 4)
    for name in WAYS:
        assert len(result.seconds[name]) == 3
        assert all(seconds > 0 for seconds in result.seconds[name])
        assert tuple(speed.trace(name).x) == (1, 2, 4)
        sizes = np.array([1, 2, 4]) * 100 * 2
        np.testing.assert_allclose(speed.trace(name).y, 1e9 * np.array(result.seconds[name]) / sizes)
    ratio = result.seconds["step by step"][-1] / result.seconds["fused"][-1]
    assert f"{max(ratio, 1 / ratio):.1f} times as {'fast' if ratio >= 1 else 'slow'} at T = 4" in speed.message.value
    assert clock.machine() in speed.message.value
    assert spread(speed.picture()) > 0.05


def test_another_unit_shows_the_same_measurement(speed: Any) -> None:
    result = asyncio.run(speed.run())
    speed.controls["unit"].value = "ms per pass"
    assert speed.result is result
    np.testing.assert_allclose(speed.trace("fused").y, 1e3 * np.array(result.seconds["fused"]))
    assert speed.figure.layout.yaxis.title.text == "ms per pass"


@pytest.mark.parametrize(("sweep", "values", "kind"), [("N", (100, 300), "log"), ("dtype", tuple(DTYPES), "category")])
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
    assert len(speed.trace("step by step").x) == 0
    assert "Press Start" in speed.message.value
    assert repr(speed) == (
        "Speed(sweep='T', steps=5, neurons=100, dtype='float32', passes='forward', unit='ns per element-step')"
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
    requests: list[dict[str, Any]]

    def __init__(self, module: str) -> None:
        assert module == "tfexplore.measure.contestants"
        self.ended = False
        Fake.requests = []

    def request(self, **request: Any) -> dict[str, Any]:
        Fake.requests.append(request)
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
    monkeypatch.setattr(speed_explorer, "ServerProcess", Fake)
    monkeypatch.setattr(speed_explorer, "why_not_compiled", lambda device: "")
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
    assert fake.requests == [{"steps": 3, "neurons": 100, "dtype": "float32", "passes": PASSES[0], "device": "cpu"}]
    assert list(speed.trace(COMPILED).x) == [3]
    np.testing.assert_allclose(speed.trace(COMPILED).y, [1e9 * 2e-3 / (3 * 100 * 2)])
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


def test_a_second_press_is_refused_in_words(speed: Any, fake: type[Fake]) -> None:
    async def press_twice() -> None:
        speed.start_compiling()
        first = speed.task
        with pytest.raises(RuntimeError, match="running already"):
            speed.guarded(speed.start_compiling)()
        assert "running already" in speed.message.value
        assert speed.task is first
        await first

    asyncio.run(press_twice())
    assert len(fake.requests) == 1


def test_recorded_files_are_read_once(speed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "records", lambda **_: pytest.fail("read again"))
    speed.draw()


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
    recorded = f"{COMPILED}, Imaginary CPU, 3 cores, torch 9.9, 2031-02-03"
    assert names == [*WAYS, COMPILED, f"{COMPILED}, recorded (Imaginary CPU)", *of_gpu]
    np.testing.assert_allclose(made.trace(recorded).y, 1e9 * 8e-3 / (np.array([4, 8]) * 10_000 * 2))
    assert made.trace(recorded).line.dash == "dash"
    assert "on Imaginary GPU, torch 9.9, 2031-02-03" in made.notes.value
    assert "at N = 10,000, float32, on Imaginary CPU, 3 cores, torch 9.9" in made.notes.value
    assert "compiled for 33 to 33 s" in made.notes.value
    made.controls["dtype"].value = "float64"
    assert len(made.trace(recorded).x) == 0
    assert "Nothing was recorded on Imaginary GPU" in made.notes.value
    assert spread(made.picture()) > 0.01


def test_without_records_it_draws_what_it_measures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "FOLDERS", (tmp_path,))
    assert curves.shown("cpu") == []
    assert spread(explore.speed(device="cpu").picture()) > 0


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
