"""The benchmarks: contestants in processes of their own, right before they are timed, recorded, drawn. No time is asserted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench, draw, harness, linear_lif, neuron, play, record, recurrent, reference, work
from tfexplore import cli
from tfexplore.measure import results
from tfexplore.measure.server_process import ServerProcess

EFFORT = harness.Effort(seconds=0.0, least=2, most=2)
TINY = neuron.case(3, 32)
TWICE = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"twice": 2 * json.loads(line)["number"], "python": sys.executable}), flush=True)
"""


def race(stage: harness.Stage, case: work.Case = TINY) -> harness.Row:
    return stage.race("neuron", case, reference.neuron, neuron.allowed(case["dtype"]), 1000)


@pytest.fixture
def contestant(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A contestant in this process, whose module a test fills; it gets requests as the others do."""
    module = types.ModuleType("benchmarks.contestants.made_up")
    module.VERSIONS = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmarks.contestants.made_up", module)
    monkeypatch.setattr(harness, "ServerProcess", Here)
    yield module
    work.forget()


class Here:
    """A ServerProcess whose process is this one."""

    def __init__(self, *_: object) -> None:
        self.player = play.Player()
        self.process = types.SimpleNamespace(poll=lambda: None)

    def request(self, **request: Any) -> dict[str, Any]:
        if request["do"] == "open":
            request["memory"] = None  # this process goes on
        try:
            answer: dict[str, Any] = json.loads(json.dumps(self.player.answer(request)))
        except Exception as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        return answer

    def request_within(self, _: float, **request: Any) -> dict[str, Any]:
        return self.request(**request)

    def end(self) -> None: ...


def right(case: work.Case) -> work.Work:
    return work.neuron_work(lambda x: reference.plain_loop(x, case["surrogate"]), case)


def test_another_interpreter_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(TWICE)
    link = tmp_path / "another"
    link.symlink_to(sys.executable)
    with ServerProcess("twice", {"PYTHONPATH": str(tmp_path)}, python=str(link)) as process:
        assert process.request(number=4) == {"twice": 8, "python": str(link)}


def test_ours_and_a_missing_peer_in_processes_of_their_own() -> None:
    with harness.Stage((harness.OURS, "no_such_library"), effort=EFFORT) as stage:
        stage.request(harness.OURS, do="prepare", benchmark="neuron", case=TINY | {"device": "cpu"})
        row = stage.race("linear_lif", linear_lif.case(16) | {"T": 3}, reference.linear_lif, linear_lif.ALLOWED, 1000)
        assert not any(process.process.poll() is not None for process in stage.open.values())
        assert stage.versions[harness.OURS]["torch"] == torch.__version__
    assert stage.open == {}
    assert {"copy", "eager torch", "plain loop", "numba"} == set(row["median_ms"])
    assert set(row["rounds"].values()) == {2}
    assert row["apart"]["eager torch"].keys() == {"spikes", "weight.grad"}
    assert "No module named" in row["reasons"]["no_such_library"]
    assert "make peers" in row["reasons"]["no_such_library"]
    text = "\n".join(harness.lines(row))
    assert "no_such_library: ModuleNotFoundError" in text
    assert "plain loop" in text


def test_recurrence_as_one_operator_beside_the_loop() -> None:
    with harness.Stage((harness.OURS,), effort=EFFORT) as stage:
        case = recurrent.case(6, 4, 8)
        row = stage.race("recurrent", case, reference.recurrent, recurrent.ALLOWED, 1000)
    loop = "step by step, autograd per step"
    assert row["reasons"] == {}
    assert {"copy", "the products alone", "numba", loop, "eager torch", "plain loop"} == set(row["median_ms"])
    assert row["apart"]["numba"].keys() == {"spikes", "x.grad", "weight.grad"}
    own, nbytes = 4 * 8 * 8, 4 * case["T"] * case["N"]
    assert row["kept_bytes"]["numba"] == 2 * nbytes + own  # the spikes, what the adjoint needs, and the weight
    assert row["kept_bytes"][loop] > row["kept_bytes"]["numba"]


def test_a_wrong_result_is_reported_and_not_timed(contestant: types.ModuleType) -> None:
    runs: list[str] = []

    def made(case: work.Case, name: str, layer: Any) -> work.Work:
        made = work.neuron_work(layer, case)
        run = made.run
        made.run = lambda: (runs.append(name), run())
        return made

    contestant.neuron = (
        lambda case: {  # type: ignore[attr-defined]
            "right": lambda: made(case, "right", reference.plain_loop),
            "wrong spikes": lambda: made(case, "wrong spikes", lambda x: 1 - reference.plain_loop(x)),
            "wrong gradient": lambda: made(case, "wrong gradient", lambda x: reference.plain_loop(x, "Rectangle")),
            "not a number": lambda: made(case, "not a number", lambda x: reference.plain_loop(x) * float("nan")),
            "another shape": lambda: made(case, "another shape", lambda x: reference.plain_loop(x)[:, :1]),
        }
    )
    with harness.Stage(("made_up",), effort=EFFORT) as stage:
        row = race(stage)
    assert list(row["median_ms"]) == ["made_up: right"]
    assert set(runs) == {"right"}
    for name, differs in (("wrong spikes", "spikes"), ("wrong gradient", "x.grad"), ("not a number", "spikes")):
        reason = row["reasons"][f"made_up: {name}"]
        assert reason.startswith("wrong result: ")
        assert f"of {differs} differ" in reason
    assert "shape" in row["reasons"]["made_up: another shape"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("float32 only"), "ValueError: float32 only"),
        (RuntimeError("CUDA out of memory. Tried to allocate 3 GiB\nand more"), "out of memory"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_a_contestant_cannot_do_is_a_reason(contestant: types.ModuleType, error: Exception, reason: str) -> None:
    def broken() -> work.Work:
        raise error

    contestant.neuron = lambda case: {"broken": broken, "right": lambda: right(case)}  # type: ignore[attr-defined]
    with harness.Stage(("made_up",), effort=EFFORT) as stage:
        row = race(stage)
    assert row["reasons"] == {"made_up: broken": reason}
    assert list(row["median_ms"]) == ["made_up: right"]


def test_a_long_first_run_is_timed_once(contestant: types.ModuleType) -> None:
    contestant.neuron = lambda case: {"right": lambda: right(case)}  # type: ignore[attr-defined]
    with harness.Stage(("made_up",), effort=harness.Effort(least=4, long=0.0)) as stage:
        row = race(stage)
    assert row["rounds"] == {"made_up: right": 1}
    low, high = row["quartiles_ms"]["made_up: right"]
    assert low == high == row["median_ms"]["made_up: right"]


def test_who_does_not_answer_in_time_is_ended_and_comes_back() -> None:
    with harness.Stage((harness.OURS,), effort=harness.Effort(patience=0.01)) as stage:
        row = race(stage)
        assert row["median_ms"] == {}
        assert "no answer within 0.01 s" in row["reasons"][harness.OURS]
        assert stage.open == {}


@pytest.mark.parametrize("passes", work.PASSES)
def test_bytes_kept_are_measured_and_passes_run(passes: str) -> None:
    case = neuron.case(3, 32, passes) | {"device": "cpu"}
    made = work.neuron_work(lambda x: reference.ATan.apply(x - 1.0), case)  # keeps x - 1, once
    made.before()
    made.run()
    assert made.kept() == (0 if passes == work.INFERENCE else 4 * 3 * 32)
    work.forget()


def test_the_reference_is_the_equation() -> None:
    x = torch.tensor([[1.5], [0.0], [1.0], [2.5]], dtype=torch.float64)
    # h: 1.5, 0.25, 1.125, 2.5625; after the soft reset 0.5, 0.25, 0.125, 1.5625
    assert reference.plain_loop(x).flatten().tolist() == [1, 0, 1, 1]
    # delayed: h = 1.5; 0.75 - 1; 0.875; 2.9375;   hard: 1.5, 0, 1.0, 2.5
    assert reference.plain_loop(x, reset="delayed").flatten().tolist() == [1, 0, 0, 1]
    assert reference.plain_loop(x, reset="hard").flatten().tolist() == [1, 0, 1, 1]


def test_large_cases_compare_a_part_of_the_neurons() -> None:
    every = neuron.case(500, 10**6)["every"]
    assert 500 * 10**6 / every <= reference.COMPARED < 500 * 10**6
    case = neuron.case(3, 64) | {"device": "cpu", "every": 3}
    expected = reference.neuron(case)
    assert expected["spikes"].shape == (3, 16, 2)
    found = right(case).result()
    assert np.array_equal(found["spikes"], expected["spikes"])
    work.forget()


def test_contestants_come_in_groups_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(free: int | None) -> list[tuple[str, ...]]:
        monkeypatch.setattr(harness, "memory", lambda *_: free)
        with harness.Stage() as stage:
            return list(stage._groups(100))

    assert groups(24 * 100 + 4 * 301) == [(harness.OURS, *harness.SNN[k : k + 2]) for k in (0, 2, 4)]
    assert groups(0) == [(harness.OURS, name) for name in harness.SNN]
    assert groups(None) == [(harness.OURS, *harness.SNN)]


@pytest.mark.parametrize("size", harness.SIZES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_grids_hold_the_cases_that_are_judged(size: str, device: str) -> None:
    cases = list(neuron.cases(size, device))
    assert (32, 16 * 32768, work.BOTH) in [(case["T"], case["N"], case["passes"]) for case in cases]
    assert any(case["surrogate"] == "Rectangle" for case in cases)
    keys = [json.dumps(case, sort_keys=True) for case in cases]
    assert len(keys) == len(set(keys))
    assert all(case["N"] % case["B"] == 0 for case in cases)


@pytest.mark.parametrize("name", [*harness.SNN, "jax"])
def test_a_peer_gives_the_reference_results(name: str) -> None:
    python = harness.python_of(name)
    if python == sys.executable and importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}, which `make peers` installs")
    with harness.Stage((name,), effort=EFFORT) as stage:
        row = race(stage, neuron.case(5, 320, work.INFERENCE if name == "bindsnet" else work.BOTH))
    assert row["reasons"] == {}
    assert row["median_ms"]


@pytest.mark.parametrize("name", ["snntorch", "spikingjelly", "norse"])
def test_a_peers_recurrent_layer_gives_the_reference_results(name: str) -> None:
    python = harness.python_of(name)
    if python == sys.executable and importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}, which `make peers` installs")
    with harness.Stage((name,), effort=EFFORT) as stage:
        case = recurrent.case(12, 4, 16)
        row = stage.race("recurrent", case, reference.recurrent, recurrent.ALLOWED, 1000)
    assert row["reasons"] == {}
    assert row["median_ms"]


@pytest.mark.parametrize("surrogate", reference.SURROGATES)
@pytest.mark.parametrize("passes", [work.INFERENCE, work.BOTH])
def test_the_papers_design_on_a_cpu(surrogate: str, passes: str) -> None:
    from benchmarks.contestants import paper

    case = neuron.case(5, 64, passes, surrogate=surrogate) | {"device": "cpu"}
    found, expected = work.neuron_work(paper.layer(case), case).result(), reference.neuron(case)
    for name, values in found.items():
        assert np.allclose(values, expected[name], atol=1e-6)
    work.forget()
    with pytest.raises(ValueError, match="float32 only"):
        paper.layer(case | {"dtype": "float16"})


@pytest.mark.parametrize("surrogate", reference.SURROGATES)
def test_the_papers_kernels_run_as_cpp(surrogate: str, require: Callable[..., str], tmp_path: Path) -> None:
    from benchmarks.contestants import paper
    from tests.cuda_text import STREAM, FakeCupy

    (tmp_path / "neuron.cuh").write_text("")  # they need none
    fake = FakeCupy(require("g++", "clang++", why="to run the CUDA kernels as C++"))
    fake.devices.append(0)
    code, stream = paper.SOURCE.read_text(), types.SimpleNamespace(ptr=STREAM)
    forward, backward = (fake.kernel(code, name, (f"-I{tmp_path}",)) for name in ("forward", "backward"))
    case = neuron.case(5, 64, surrogate=surrogate) | {"device": "cpu"}
    x, g = (values.view(5, 64).numpy() for values in work.neuron_inputs(case))
    s, h, g_x = (np.full_like(x, np.nan) for _ in range(3))

    def addresses(*arrays: np.ndarray) -> list[np.int64]:
        return [np.int64(values.ctypes.data) for values in arrays]

    sizes = [np.int64(5), np.int64(64)]
    forward((1,), (paper.THREADS,), (*addresses(x, s, h), *sizes), stream=stream)
    backward((1,), (paper.THREADS,), (*addresses(g, h, g_x), np.int32(surrogate == "ATan"), *sizes), stream=stream)
    expected = reference.neuron(case)
    assert np.array_equal(s.reshape(5, 16, 4), expected["spikes"])
    assert np.allclose(g_x.reshape(5, 16, 4), expected["x.grad"], atol=1e-6)
    work.forget()


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_the_papers_kernels_compile_for_gpus(arch: str) -> None:
    core = pytest.importorskip(
        "cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux"
    )
    from benchmarks.contestants import paper

    options = core.ProgramOptions(arch=arch, std="c++17", fma=False)
    assert core.Program(paper.SOURCE.read_text(), "c++", options).compile("cubin").code


ROW = {
    "T": 32, "N": 1000, "dtype": "float32", "passes": work.BOTH, "surrogate": "ATan", "load": 0.0,
    "rounds": {"copy": 3, "numba, keep=input": 3}, "median_ms": {"copy": 1.0, "numba, keep=input": 3.0, "norse: loop": 90.0},
    "quartiles_ms": {}, "least_bytes": {"copy": 200, "numba, keep=input": 500}, "reasons": {},
}  # fmt: skip


def test_the_fraction_of_the_copys_bandwidth() -> None:
    assert harness.fraction(ROW, "copy") == 1.0
    assert harness.fraction(ROW, "numba, keep=input") == pytest.approx(500 / 200 / 3)
    assert harness.fraction(ROW, "norse: loop") is None


def test_a_part_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = record.path_of("cpu", tmp_path)
    assert path.stem.strip("-") == path.stem.lower()
    versions = {"ours": {"torch": "1.0"}}
    record.write(path, "neuron", "first", [ROW], versions)
    record.write(path, "training", "second", [ROW], versions)
    record.write(path, "neuron", "third", [ROW, ROW | {"T": 4}], versions)
    first, second = results.records(tmp_path)
    assert [(part.benchmark, part.what, len(part.rows)) for part in (first, second)] == [
        ("neuron", "third", 2),
        ("training", "second", 1),
    ]
    assert first.versions == versions
    found = results.curve(first, "copy", "T", work.BOTH, {"T": None, "N": 1000, "dtype": "float32"})
    assert found is not None
    assert found.values == (4, 32)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_pictures_are_drawn_from_the_records(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert draw.draw(tmp_path, tmp_path / "docs") == []
    record.write(record.path_of("cpu", tmp_path), "neuron", "a test", [ROW, ROW | {"T": 4}, ROW | {"N": 10}], {})
    (written,) = draw.draw(tmp_path, tmp_path / "docs")
    assert written == tmp_path / "docs" / "speed.png"
    assert written.read_bytes().startswith(b"\x89PNG")
    assert draw.families(ROW) == {"copy": 1.0, draw.OURS: 3.0, "norse": 90.0}
    assert len(draw.draw(None, tmp_path)) == len(draw.PICTURES), "those of this checkout, with all their contestants"


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Any] = []

    def run(stage: harness.Stage, size: str) -> Iterator[harness.Row]:
        asked.append((stage.device, size))
        labels = ROW["median_ms"]
        spread = {label: [0.5, 1.5] for label in labels}
        yield ROW | {"quartiles_ms": spread, "rounds": dict.fromkeys(labels, 3), "kept_bytes": {}, "equation": {}}

    monkeypatch.setattr(neuron, "run", run)
    words = ["bench", "neuron", "--quick", "--device", "cpu"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "not recorded" in out
    assert "norse: loop" in out
    assert cli.main([*words, "--results", str(tmp_path)]) == 0
    assert asked == [("cpu", "quick")] * 2
    assert [part.benchmark for part in results.records(tmp_path)] == ["neuron"]
    assert "recorded in" in capsys.readouterr().out

    monkeypatch.setattr(draw, "draw", lambda place: [Path("a.png")] if place is None else [])
    assert cli.main(["bench", "--draw"]) == 0
    assert capsys.readouterr().out == "drawn: a.png\n"
    assert cli.main(["bench", "--draw", "--results", str(tmp_path)]) == 1
    assert "no recorded measurement to draw" in capsys.readouterr().err
    assert cli.main(["bench", "neurons"]) == 1
    assert f"there is no benchmark 'neurons'; choose from {', '.join(bench.NAMES)}" in capsys.readouterr().err
    monkeypatch.setattr(cli.paths, "PACKAGE", tmp_path / "tfexplore")
    assert cli.main(["bench"]) == 1
    assert "in tfexplore's checkout, not in its package" in capsys.readouterr().err


def test_the_command_runs_from_a_plain_checkout(python: str) -> None:
    words = [python, "-m", "tfexplore", "bench", "--help"]
    done = subprocess.run(words, cwd=harness.ROOT, capture_output=True, text=True, check=True)
    assert "--draw" in done.stdout
