"""`python -m benchmarks.gpu` without a GPU: its plumbing, cut off and gone on with; its journal; its table of goals."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import networks, neuron, reference, work
from benchmarks.contestants import ours
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import goals, plan, tools
from benchmarks.gpu.journal import Journal, read
from benchmarks.gpu.plan import MACHINE, Point, points
from tfexplore.backends import tuned
from tfexplore.codegen.builds import Build, Config, Shape, default
from tfexplore.measure import clock, results

ROOT = Path(__file__).resolve().parents[2]
MARK = "TFEXPLORE_TEST_MARK"


def running(mark: str) -> dict[int, str]:
    """The processes whose environment has this mark, and their commands."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc, to see which processes are left")
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is not ours
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def left(mark: str, seconds: float = 10) -> dict[int, str]:
    """Those still there after a while."""
    until = time.monotonic() + seconds
    while running(mark) and time.monotonic() < until:
        time.sleep(0.1)
    return running(mark)


def started(out: Path, mark: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--out", str(out)]
    temporary = out / "temporary"
    temporary.mkdir(exist_ok=True)
    env = os.environ | {MARK: mark, "TMPDIR": str(temporary)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_dry_run_that_is_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    journal, mark = tmp_path / "dry" / gpu.JOURNAL, f"cut{os.getpid()}"
    first = started(tmp_path, mark)
    try:
        until = time.monotonic() + 120
        while len(read(journal)) < 8 and first.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        first.kill()  # in the middle, without a word
    finally:
        first.kill()
        first.communicate()
    known = [line["key"] for line in read(journal)]
    assert 8 <= len(known) < len(list(points(dry=True)))
    assert not left(mark), "a process of a run that was killed lives on"
    with journal.open("a") as file:
        file.write('{"key": "half a li')

    folders = set(os.listdir(tmp_path / "temporary"))  # left by the one that was killed
    second = started(tmp_path, mark)
    output, _ = second.communicate(timeout=600)
    assert second.returncode == 0, output
    assert set(os.listdir(tmp_path / "temporary")) == folders, "a run leaves folders behind"
    assert not running(mark), "a run ends before its processes"
    lines = read(journal)
    assert [line["key"] for line in lines[: len(known)]] == known
    again = [line["name"] for line in lines[len(known) :]]
    assert again[0] == MACHINE.name
    assert not set(again[1:]) & {line["name"] for line in lines[: len(known)]}
    assert {line["name"] for line in lines} == {MACHINE.name, *(point.name for point in points(dry=True))}
    assert all(line["dry"] for line in lines)
    tools_only = {"memcheck", "initcheck", "ncu"}
    failed = {line["name"]: line["failed"] for line in lines if "failed" in line}
    absent = {name for name, program in zip(sorted(tools_only), ("compute-sanitizer",) * 2 + ("ncu",), strict=True)
              if not shutil.which(program)}  # fmt: skip
    assert absent <= failed.keys() <= tools_only, failed
    assert all("is not on the PATH" in failed[name] for name in absent)

    rows = {line["name"]: line["row"] for line in lines if "row" in line}
    race = next(row for name, row in rows.items() if name.startswith("neuron: ") and "float32" in name)
    assert {"copy", "numba, keep=input", "plain loop", "paper's design"} <= race["median_ms"].keys()
    assert "torch.compile of the plain loop" not in race["median_ms"]
    assert {"spikingjelly", "jax"} <= {label.partition(":")[0] for label in {**race["reasons"], **race["median_ms"]}}
    autocast = rows["training: conv, bfloat16"]
    assert {"fused", "layer by layer"} <= autocast["median_ms"].keys()
    (build,) = (row for name, row in rows.items() if name.startswith("fastest build"))
    assert {(found["loop"], found["shared"]) for found in build["tried"]} >= {("backward", False), ("backward", True)}
    assert all(0 < found["share"] < 10 for found in build["tried"])  # none has failed
    assert rows["time split, 2 ranks"]["apart"].keys() == {"mlp", "conv", "normed"}
    files = [path.name for path in (tmp_path / "dry").iterdir()]
    assert len(files) <= 8
    assert not any(name.endswith(".json") for name in files), "a dry run's figures are no measurements"
    table = (tmp_path / "dry" / gpu.TABLE).read_text(encoding="utf-8")
    assert table.startswith("# a dry run")
    assert table.count(f"| {goals.NOT_MEASURED} |") == len(goals.GOALS)


# -- the journal and its keys ------------------------------------------------------------------------------------


def test_what_a_point_depends_on_makes_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kernels", "benchmarks", "tfexplore", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results", "tmp"))
    monkeypatch.setattr(plan, "ROOT", tmp_path)
    plan.text.cache_clear()
    machine = {"device": "cuda", "machine": "a GPU"}

    def keys(machine: dict[str, str] = machine) -> dict[str, str]:
        plan.text.cache_clear()
        return {point.name: point.key(machine) for point in points(dry=False)}

    try:
        before = keys()
        assert len(set(before.values())) == len(before) == len(list(points(dry=False)))
        assert keys() == before
        assert not set(keys({**machine, "machine": "another"}).values()) & set(before.values())
        others = keys({**machine, "peers": {"spikingjelly": "2.0.0"}})  # type: ignore[dict-item]
        assert {name.partition(": ")[0] for name in before if others[name] != before[name]} == {"neuron", "training"}
        kernel = tmp_path / "kernels" / "forward.cu"
        kernel.write_text(kernel.read_text(encoding="utf-8") + "// other\n", encoding="utf-8")
        changed = keys()
        assert all(changed[name] != before[name] for name in before)  # every point runs a kernel
        test = tmp_path / "tests" / "test_gpu.py"
        test.write_text(test.read_text(encoding="utf-8") + "# other\n", encoding="utf-8")
        assert {name for name, key in keys().items() if key != changed[name]} == {"pytest -m gpu"}
    finally:
        plan.text.cache_clear()


def test_every_file_that_a_point_names_is_there() -> None:
    for pattern in {pattern for dry in (True, False) for point in points(dry) for pattern in point.reads}:
        assert plan.text(pattern), pattern


def test_the_plan_fits_the_time_and_begins_with_what_is_worth_most() -> None:
    whole = [MACHINE, *points(dry=False)]
    # of the 15 minutes, starting a machine takes one or two; what is last (other neurons' builds) may be left out
    assert sum(point.seconds for point in whole if point.section <= 6) < 13 * 60
    assert [point.section for point in whole] == sorted(point.section for point in whole)
    assert all(point.seconds <= point.limit for point in whole)
    assert len({point.name for point in whole}) == len(whole)


def test_a_journal_is_whole_lines_in_all_its_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "j.jsonl", tmp_path / "two" / "j.jsonl"
    Journal(one).add({"key": "a", "row": {}})
    with one.open("a") as file:
        file.write('{"key": "b", "ro')
    both = Journal(one, two)
    both.add({"key": "a", "failed": "later"})
    assert read(one) == read(two) == both.lines == [{"key": "a", "row": {}}, {"key": "a", "failed": "later"}]
    assert both.newest("a") == {"key": "a", "failed": "later"}
    assert both.newest("b") is None
    assert Journal(one, two).lines == both.lines


# -- a run -------------------------------------------------------------------------------------------------------

POINTS = """
import os, subprocess, sys, time

def measure(device, out, what):
    if what == "endless":
        time.sleep(1000)
    if what == "hang":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
        time.sleep(100)
    if what == "crash":
        os.kill(os.getpid(), 11)
    if what == "error":
        raise ValueError("no such thing")
    return {"what": what, "pid": os.getpid(), "machine": "made up", "key": {}}
"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of points whose module is the test's own: points(*what) -> the journal's lines of that run."""
    (tmp_path / "made_up_points.py").write_text(POINTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gpu, "MACHINE", Point(1, MACHINE.name, "made_up_points", {"what": "machine"}, reads=()))

    def run(*what: str, seconds: float = 0.1, together: bool = False, retry: bool = False) -> list[dict[str, Any]]:
        plan = [
            Point(1, w, "made_up_points", {"what": w}, seconds, 3.0 if w == "hang" else 60.0, together, ())
            for w in what
        ]
        made = gpu.Run(tmp_path / "out", True, 1.0, retry)
        before = len(made.journal.lines)
        made.all(plan)
        return read(tmp_path / "out" / gpu.JOURNAL)[before:]

    return run


@pytest.mark.parametrize("together", [False, True], ids=["in turn", "side by side"])
def test_what_hangs_or_crashes_is_a_line_and_leaves_no_process(made_up: Any, together: bool, monkeypatch: Any) -> None:
    mark = f"hang{os.getpid()}"
    monkeypatch.setenv(MARK, mark)
    lines = made_up("hang", "fine", "crash", "error", "fine too", together=together)
    by_name = {line["name"]: line for line in lines}
    assert len(lines) == 6
    assert by_name["hang"]["failed"] == "no answer within 3 s"
    assert by_name["hang"]["seconds"] < 10
    assert "ended without an answer" in by_name["crash"]["failed"]
    assert by_name["error"]["failed"] == "ValueError: no such thing"
    assert (by_name["fine"]["row"]["what"], by_name["fine too"]["row"]["what"]) == ("fine", "fine too")
    assert not left(mark), "a process is left"


def test_what_is_known_is_not_found_out_again(made_up: Any) -> None:
    assert [line["name"] for line in made_up("error", "one")] == [MACHINE.name, "error", "one"]
    assert [line["name"] for line in made_up("error", "one", "two")] == [MACHINE.name, "two"]
    assert [line["name"] for line in made_up("error", "one", retry=True)] == [MACHINE.name, "error"]


def test_what_does_not_fit_in_the_time_is_left_out(made_up: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert [line["name"] for line in made_up("long", seconds=1000.0)] == [MACHINE.name]
    assert "1 long: left out" in capsys.readouterr().out


def test_what_the_end_of_the_time_cuts_off_is_not_known(made_up: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(gpu, "ENOUGH", 0.1)
    one = gpu.Run.one

    def one_at_the_end(run: gpu.Run, *given: Any) -> None:
        run.until = time.monotonic() + 2
        one(run, *given)

    monkeypatch.setattr(gpu.Run, "one", one_at_the_end)
    assert [line["name"] for line in made_up("endless")] == [MACHINE.name]
    assert "1 endless: cut off after" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(gpu, "HOME", tmp_path / "home")
    gpu.main(["--out", str(tmp_path / "out")])
    (line,) = read(tmp_path / "out" / gpu.JOURNAL)
    assert "torch finds no CUDA device" in line["failed"]
    assert read(tmp_path / "home" / gpu.JOURNAL) == [line]
    assert "no GPU was seen" in capsys.readouterr().out


def test_a_winner_is_taken_when_a_run_goes_on_on_a_fresh_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "HOME", tmp_path / "home")
    point = next(point for point in points(dry=False) if point.module == plan.TUNING)
    shape = Shape("float32", "float32", "input", states=1, needs=1, learned=False)
    winner = Config(32, Build(2, 4, streaming=True), Build(1, 8))
    machine = {"machine": "NVIDIA H300", "key": {"machine": "NVIDIA H300"}}
    row = {"shape": dataclasses.asdict(shape), "config": dataclasses.asdict(winner)}
    tuned.known.cache_clear()
    try:
        run = gpu.Run(tmp_path / "out", dry=False)
        run.machine = machine
        assert not run.known(point)
        assert tuned.choose(shape, "NVIDIA H300") == default(shape)
        run.journal.add({"key": point.key(machine["key"]), "section": 2, "name": point.name, "dry": False, "row": row})
        assert run.known(point)
        assert tuned.choose(shape, "NVIDIA H300") == winner
        run.write()
        monkeypatch.setattr(tuned, "SHIPPED", tmp_path / "out" / gpu.TUNED)  # what is written can be shipped
        monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path / "another"))
        tuned.known.cache_clear()
        assert tuned.choose(shape, "NVIDIA H300") == winner
    finally:
        tuned.known.cache_clear()


# -- the table ---------------------------------------------------------------------------------------------------


def swept(dtype: str, passes: str, keep: str, share: float) -> dict[str, Any]:
    about = {"dtype": dtype, "passes": passes, "keep": keep, "auto": "input", "kept_bytes_per_element_step": 0.03125}
    return about | {"surrogate": "Rectangle" if keep == "bits" else "ATan", "share": share}


def raced(benchmark: str, ms: dict[str, float], **case: Any) -> dict[str, Any]:
    about = {"dtype": "float32", "passes": work.BOTH, "surrogate": "ATan"}
    return {"about": {"benchmark": benchmark}, **about, **case, "median_ms": ms}


ROWS = [
    swept("float32", "forward", "potential", 0.1), swept("float32", "forward", "input", 0.95),
    swept("bfloat16", "backward", "input", 0.6), swept("float32", "forward", "bits", 0.2),
    raced("neuron", {"cuda, keep=input": 2.0, "cuda, keep=potential": 3.0, "spikingjelly: multi, triton": 2.5,
                     "CUDA graph of cuda, keep=input": 1.0, "jax: lax.scan in jit": 1.9}, T=32, N=10**7),
    raced("neuron", {"cuda, keep=input": 0.1, "plain loop": 4.1, "jax: lax.scan in jit": 0.3}, T=32, N=10**4),
    raced("neuron", {"cuda": 1.0, "spikingjelly: multi": 0.1, "jax: lax": 0.1}, T=32, N=10**7, passes=work.INFERENCE),
    raced("neuron", {"cuda, keep=bits": 1.0, "jax: lax": 0.1}, T=32, N=10**7, surrogate="Rectangle"),
    raced("training", {"fused": 9.0, "CUDA graph of fused": 5.0, "spikingjelly: multi": 8.0,
                       "spikingjelly: CUDA graph of multi": 7.0}, network="resnet18", autocast="bfloat16"),
    {"T": 65536, "N": 1, "fastest": {"forward, no reset": {"schedule": "chunked", "chunk": 256, "gain": 12.0}}},
    {"T": 4096, "N": 1, "fastest": {"backward": {"schedule": "serial", "chunk": 0, "gain": 1.0}}},
    {"errors": 0}, {"errors": 2}, {"counts": {"passed": 100, "failed": 1}, "failed": ["tests/test_gpu.py::test_x"]},
]  # fmt: skip


def test_each_goal_says_met_not_met_or_not_measured() -> None:
    lines = [{"name": str(k), "row": row, "dry": False} for k, row in enumerate(ROWS)]
    *head, separator = goals.table([], False, "a GPU")[:4]
    found = {
        row[0]: row[2:] for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in goals.table(
            [*lines, {"name": "ncu", "failed": "ncu is not on the PATH", "dry": False}], False, "a GPU"
        )[4 : 4 + len(goals.GOALS)])
    }  # fmt: skip
    assert (head[0], separator) == ("# a GPU", "|---|---|---|---|")
    assert found == {
        "forward, float32, of measured copy": ["95.0%", "met"],
        "backward, float32, of measured copy": ["", "not measured"],
        "forward, bfloat16, of measured copy": ["", "not measured"],
        "backward, bfloat16, of measured copy": ["60.0%", "not met"],
        "layer, float32, T=32, N=10⁷: times SpikingJelly": ["1.25", "met"],
        "layer, bfloat16, T=32, N=10⁷: times SpikingJelly": ["", "not measured"],
        "layer, T=32, N=10⁴ (launches bind): times the eager loop": ["41.0", "met"],
        "layer, T=32, N=10⁴, as a CUDA graph: times the eager loop": ["41", "met"],
        "layer, every T and N: times JAX, at worst": ["0.95", "not met"],
        "layer, every T and N, as a CUDA graph: times JAX, at worst": ["1.90", "met"],
        "training step, ResNet18, bf16: times SpikingJelly's": ["1.40", "met"],
        "forward, no reset, T=65536, N=1, in chunks: times the serial kernel": ["12", "met"],
        "backward, T=65536, N=1, in chunks: times the serial kernel": ["", "not measured"],
        "bits: bytes kept per element-step": ["0.0312", "met"],
        "compute-sanitizer: errors": ["2", "not met"],
        "pytest -m gpu: failures": ["1", "not met"],
    }
    dry = goals.table([line | {"dry": True} for line in lines], True, "a CPU")
    assert sum(goals.NOT_MEASURED in line for line in dry) == len(goals.GOALS)
    assert sum(
        goals.NOT_MEASURED in line for line in goals.table([line | {"dry": True} for line in lines], False, "")
    ) == len(goals.GOALS)


def test_the_results_file_is_one_that_the_library_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "HOME", tmp_path / "home")
    case = next(point for point in points(dry=False) if point.name == "neuron: T=32, N=10000000, float32")
    machine = {
        "machine": "NVIDIA H100 80GB HBM3", "device": "cuda", "cores": 16, "date": "2026-11-26", "torch": "2.11.0",
        "doctor": [], "key": {"device": "cuda"},
    }  # fmt: skip
    row = {"T": 32, "N": 10**7, "dtype": "float32", "passes": work.BOTH, "surrogate": "ATan"}
    row |= {"median_ms": {"cuda, keep=input": 2.0}}
    about = {"benchmark": "neuron", "what": "One layer.", "versions": {"ours": {"torch": "2.11.0"}}}
    journal = Journal(tmp_path / gpu.JOURNAL)
    journal.add({"key": "m", "section": 1, "name": MACHINE.name, "row": machine, "dry": False})
    old = {"key": "of other kernels", "section": 3, "name": case.name, "dry": False}
    journal.add(old | {"row": row | {"about": about, "median_ms": {"cuda, keep=input": 1.0}}})
    journal.add(old | {"key": case.key(machine["key"]), "row": row | {"about": about}})
    gpu.main(["--table", "--out", str(tmp_path)])
    (record,) = results.read(tmp_path / "nvidia-h100-80gb-hbm3.json")
    assert record.label == "NVIDIA H100 80GB HBM3, torch 2.11.0, 2026-11-26"
    assert (record.device, record.benchmark, record.cores) == ("cuda", "neuron", 16)
    assert record.rows == (row,)
    assert record.versions == about["versions"]
    assert (tmp_path / gpu.TABLE).read_text(encoding="utf-8").startswith("# NVIDIA H100 80GB HBM3\n")


def test_ncus_raw_page_is_read() -> None:
    text = '==PROF== Connected\n"ID","Kernel Name","dram__bytes.sum","launch__registers_per_thread","of no interest"\n'
    text += '"","","Gbyte","register/thread","%"\n"0","forward","1.07","40","7"\n"1","backward","1.61","151","7"\n'
    assert tools.counted(text) == [
        {"kernel": "forward", "dram__bytes.sum": "1.07 Gbyte", "launch__registers_per_thread": "40 register/thread"},
        {"kernel": "backward", "dram__bytes.sum": "1.61 Gbyte", "launch__registers_per_thread": "151 register/thread"},
    ]
    assert tools.counted("==ERROR== no permission\n") == []


# -- what only a GPU has, stood in for ---------------------------------------------------------------------------


class Clock:
    """In place of CUDA's events: time goes on when work is done."""

    now = 0.0

    def __init__(self, enable_timing: bool = True) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = Clock.now

    def elapsed_time(self, end: Clock) -> float:
        return 1e3 * (end.at - self.at)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake streams, and a graph whose replay does nothing."""
    Clock.now = 0.0
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, made in {
        "Event": Clock, "synchronize": lambda: None, "Stream": lambda: stream, "current_stream": lambda: stream,
        "stream": lambda s: nullcontext(), "graph": lambda g: nullcontext(),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, made)


@pytest.mark.parametrize(("once", "count"), [(0.0004, 25), (3.0, 1), (0.0, clock.MOST)])
def test_events_leave_out_what_comes_before(no_gpu: None, once: float, count: int) -> None:
    calls: list[str] = []

    def passing(name: str, seconds: float) -> None:
        calls.append(name)
        Clock.now += seconds

    taken = clock.event_seconds(lambda: passing("work", once), lambda: passing("before", 1.0))
    assert taken == pytest.approx(once)
    assert calls == ["before", "work"] * (1 + count)


def test_a_graphed_pass_is_checked_against_the_pass_itself(no_gpu: None) -> None:
    case = neuron.case(4, 32) | {"device": "cpu"}
    graphed = work.graphed(ours.neuron(case)["plain loop"])
    (g,) = graphed.run()  # type: ignore[misc]
    assert torch.equal(torch.from_numpy(graphed.result()["x.grad"]), g.view(4, 16, 2))
    turn = iter(range(10))
    with pytest.raises(RuntimeError, match="another result than the pass itself"):
        work.graphed(lambda: work.Work(run=lambda: torch.tensor(float(next(turn))), result=dict))
    work.forget()


def test_a_captured_training_step_begins_at_the_same_start(no_gpu: None) -> None:
    about = {"network": "vgg11", "T": 2, "B": 2, "width": 4, "dtype": "float32", "surrogate": "ATan", "seed": 0}
    case, library = about | {"device": "cpu"}, networks.plain(False, False)
    captured, fresh = networks.Captured(case, library), networks.Training(case, library)
    for name, values in captured.net.state_dict().items():
        assert torch.equal(values, fresh.net.state_dict()[name]), name
    found = [networks.Training.step(captured) for _ in range(3)]  # what the graph would replay
    assert torch.equal(torch.stack(found), torch.stack([fresh.step() for _ in range(3)]))
    assert len({float(loss) for loss in found}) == 3
    work.forget()


def test_the_explorers_data_needs_no_widgets() -> None:
    program = """
import importlib.util, sys
class No:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("plotly", "ipywidgets", "anywidget", "IPython", "matplotlib", "cloudpickle"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, No())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("plotly", "ipywidgets") else find(name, *rest)
from benchmarks.gpu import explorers
print(sorted(explorers.measure("cpu", "", 64)))
from tfexplore import explore
try:
    explore.race
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['points', 'unmet', 'ways']",
        "The explorer 'race' needs plotly and ipywidgets: pip install 'tfexplore[notebooks]'.",
    ]


def test_a_reference_under_autocast_is_that_of_float32() -> None:
    about = {
        "network": "mlp",
        "T": 2,
        "B": 2,
        "width": 4,
        "dtype": "float32",
        "surrogate": "ATan",
        "seed": 0,
        "device": "cpu",
    }
    lower, plain = (
        networks.Training(about | {"autocast": "bfloat16"}, networks.plain(False, False)),
        networks.expected(about),
    )
    with torch.no_grad():
        kinds: list[torch.dtype] = []
        lower.net[0].register_forward_hook(lambda module, args, out: kinds.append(out.dtype))
        lower.loss()
    assert kinds == [torch.bfloat16]
    expected = networks.expected(about | {"autocast": "bfloat16"})
    assert plain.keys() - expected.keys() == {name for name in plain if name.endswith(networks.EXACT)}
    assert all((values == plain[name]).all() for name, values in expected.items())
    assert reference.plain_loop(torch.ones(2, 3)).shape == (2, 3)
    work.forget()


def test_lists_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--list", "--only", "6"])
    output = capsys.readouterr().out.splitlines()
    assert [line.split("s  ")[-1].strip() for line in output[:-1]] == ["the machine", "memcheck", "initcheck", "ncu"]
    assert output[-1] == "total 59 s"
    gpu.main(["--list", "--match", "check$|explorers"])
    names = [line.split("s  ")[-1].strip() for line in capsys.readouterr().out.splitlines()[:-1]]
    assert names == ["the machine", "the explorers' data", "memcheck", "initcheck"]


def test_wheels_are_on_the_path_of_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="must be a folder with wheels"):
        gpu.unpacked(tmp_path, str(tmp_path / "site"))
