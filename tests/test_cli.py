"""The command line: notebooks are copied and never overwritten, errors are one sentence."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import bench
from tfexplore import cli
from tfexplore.backends import cuda
from tfexplore.machine import doctor, paths, wheels
from tfexplore.measure import tune

FIRST = cli.FIRST


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A small set of shipped notebooks, as a pair and an asset."""
    folder = tmp_path / "shipped"
    (folder / "images").mkdir(parents=True)
    for name in (FIRST, "01_next.ipynb", "01_next.py", "_helper.py", "images/a.svg", ".hidden"):
        (folder / name).write_text(f"{name}, version 1")
    monkeypatch.setattr(paths, "notebooks_dir", lambda: folder)
    return folder


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "mine"


def copy(folder) -> int:
    return cli.main(["lab", str(folder), "--copy-only"])


def names(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_lab_copies_what_a_learner_needs(shipped, mine, capsys):
    assert copy(mine) == 0
    assert names(mine) == {FIRST, "01_next.ipynb", "_helper.py", "images/a.svg", cli.MANIFEST}
    assert "4 copied" in capsys.readouterr().out
    assert copy(mine) == 0
    assert "nothing new" in capsys.readouterr().out


def test_an_untouched_copy_follows_an_upgrade(shipped, mine, capsys):
    copy(mine)
    (shipped / FIRST).write_text("version 2")
    assert copy(mine) == 0
    assert (mine / FIRST).read_text() == "version 2"
    assert "1 updated" in capsys.readouterr().out


def test_an_edited_copy_stays_through_upgrades(shipped, mine, capsys):
    copy(mine)
    (mine / FIRST).write_text("my own notes")
    copy(mine)
    out = capsys.readouterr().out
    assert f"kept your {FIRST}" in out
    assert "another version" not in out  # nothing new to have

    (shipped / FIRST).write_text("version 2")
    for _ in range(2):  # and the hint stays until the user acts
        copy(mine)
        assert (mine / FIRST).read_text() == "my own notes"
        assert "tfexplore now ships another version: rename yours" in capsys.readouterr().out

    (mine / FIRST).rename(mine / "notes.ipynb")
    copy(mine)
    assert (mine / FIRST).read_text() == "version 2"
    assert (mine / "notes.ipynb").read_text() == "my own notes"


@pytest.mark.parametrize("manifest", [None, "not json", "[]"])
def test_without_a_readable_manifest_every_difference_is_the_users(shipped, mine, manifest):
    mine.mkdir()
    (mine / FIRST).write_text("mine, from before")
    if manifest is not None:
        (mine / cli.MANIFEST).write_text(manifest)
    assert copy(mine) == 0
    assert (mine / FIRST).read_text() == "mine, from before"
    assert FIRST not in json.loads((mine / cli.MANIFEST).read_text())


def test_an_edit_undone_counts_as_untouched_again(shipped, mine):
    copy(mine)
    (mine / FIRST).write_text("edited")
    copy(mine)
    (mine / FIRST).write_text(f"{FIRST}, version 1")
    (shipped / FIRST).write_text("version 2")
    copy(mine)
    assert (mine / FIRST).read_text() == "version 2"


def test_lab_in_the_shipped_folder_itself_copies_nothing(shipped):
    before = names(shipped)
    assert copy(shipped) == 0
    assert names(shipped) == before


def test_lab_opens_jupyterlab_on_the_first_notebook(shipped, mine, monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "subprocess", SimpleNamespace(call=lambda words, cwd: calls.append((words, cwd)) or 0))
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: name)
    assert cli.main(["lab", str(mine), "--", "--no-browser"]) == 0
    assert calls == [([sys.executable, "-m", "jupyterlab", str(mine / FIRST), "--no-browser"], mine)]


def test_errors_are_one_sentence(shipped, mine, monkeypatch, capsys):
    def printed() -> str:
        out, err = capsys.readouterr()
        assert err.count("\n") == 1, err
        assert "Traceback" not in out + err
        return err

    mine.write_text("a file")
    assert copy(mine) == 1
    assert "is a file: name a folder" in printed()
    mine.unlink()
    (mine / FIRST).mkdir(parents=True)
    assert copy(mine) == 1
    assert "is a folder where the notebook" in printed()
    (mine / FIRST).rmdir()

    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["lab", str(mine)]) == 1
    assert "JupyterLab is not installed: " in printed()

    def missing():
        raise paths.MissingFiles("tfexplore's notebooks are nowhere: reinstall tfexplore")

    monkeypatch.setattr(paths, "notebooks_dir", missing)
    assert copy(mine) == 1
    assert printed().startswith("tfexplore lab: tfexplore's notebooks are nowhere")


def test_only_lab_passes_options_on(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["doctor", "--", "x"])
    assert "only `tfexplore lab` and `tfexplore wheels` pass" in capsys.readouterr().err


def test_tuning_comes_before_compiling_ahead(monkeypatch, capsys):
    done = [
        tune.Progress(1, 2, "float32, keep=input", "A", 1.0),
        tune.Progress(2, 2, "bfloat16, keep=input", "B", 1.25),
    ]
    monkeypatch.setattr(cuda, "why_not", lambda: "")
    monkeypatch.setattr(tune, "tune", lambda: iter(done))
    monkeypatch.setitem(sys.modules, "tfexplore.backends.warm", SimpleNamespace(warm=lambda: iter(())))
    assert cli.main(["warm", "--tune"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[:2] == [
        "[1/2] float32, keep=input: as predicted, A",
        "[2/2] bfloat16, keep=input: 1.25 times as fast as predicted, B",
    ]
    assert "tuned.json" in output[2]
    assert output[3].startswith("0 kernels are ready")


def test_tuning_without_a_gpu_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cuda, "why_not", lambda: "torch finds no CUDA device (tfexplore doctor says more).")
    assert cli.main(["warm", "--tune"]) == 1
    assert capsys.readouterr().err == (
        "tfexplore warm: --tune measures on a GPU: torch finds no CUDA device (tfexplore doctor says more).\n"
    )


def test_warm_prints_its_progress(monkeypatch, capsys):
    steps = [(1, 2, "LIF soft float32 forward", 0.5), (2, 2, "LIF soft float32 backward", 1.5)]
    monkeypatch.setitem(sys.modules, "tfexplore.backends.warm", SimpleNamespace(warm=lambda: iter(steps)))
    assert cli.main(["warm"]) == 0
    out = capsys.readouterr().out
    assert "[1/2] LIF soft float32 forward: 0.5 s" in out
    assert "2 kernels are ready (2 s)" in out


def test_the_module_is_the_command(python):
    out = subprocess.run([python, "-m", "tfexplore", "--help"], capture_output=True, text=True, check=True).stdout
    assert "lab" in out
    assert "doctor" in out


def test_doctor_exits_by_the_cpu_path(monkeypatch, capsys):
    fine = [doctor.Check("torch", "ok", "2.0", needed=True), doctor.Check("CuPy", "missing", "not installed", "pip x")]
    monkeypatch.setattr(doctor, "checks", lambda: fine)
    assert cli.main(["doctor"]) == 0
    assert "missing CuPy" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "checks", lambda: [*fine, doctor.Check("Numba", "missing", "gone", needed=True)])
    assert cli.main(["doctor"]) == 1
    assert "put right: Numba" in capsys.readouterr().out


def test_doctor_short_is_one_line_and_needs_what_the_notebooks_need(monkeypatch, capsys):
    fine = [doctor.Check("torch", "ok", "2.0", needed=True), doctor.Check("CuPy", "missing", "not installed", "pip x")]
    monkeypatch.setattr(doctor, "checks", lambda: fine)
    assert cli.main(["doctor", "--short"]) == 0
    assert capsys.readouterr().out.startswith("ready      ")
    for name, needed in (("plotly", False), ("scikit-learn", False), ("notebooks", False), ("Numba", True)):
        broken = doctor.Check(name, "missing", "not installed", "pip install it", needed)
        monkeypatch.setattr(doctor, "checks", lambda broken=broken: [*fine, broken])
        assert cli.main(["doctor", "--short"]) == 1
        line = capsys.readouterr().out
        assert line.startswith("NOT READY  ")
        assert line.endswith(f": {name} not installed → pip install it\n")
        assert "CuPy" not in line


def test_wheels_passes_its_arguments_on(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(wheels, "collect", lambda *words: calls.append(words) or "done")
    words = ["wheels", str(tmp_path), "--platform", "windows", "--platform", "macos", "--python-version", "3.12"]
    assert cli.main([*words, "--no-constraints", "--", "--index-url", "x"]) == 0
    kinds = [wheels.Target("windows", "3.12"), wheels.Target("macos", "3.12")]
    assert calls.pop() == (tmp_path, kinds, None, ["--index-url", "x"])
    assert capsys.readouterr().out == "done\n"
    assert cli.main(["wheels", str(tmp_path)]) == 0
    assert calls.pop() == (tmp_path, [wheels.Target()], wheels.default_constraints(tmp_path), [])
    assert cli.main(["wheels", str(tmp_path), "--constraints", str(tmp_path / "none.txt")]) == 1
    assert "none.txt, which does not exist" in capsys.readouterr().err
    assert cli.main(["wheels", str(tmp_path), "--python-version", "3.9"]) == 1
    assert "needs Python 3.11 or newer, but got --python-version 3.9" in capsys.readouterr().err


def test_the_help_names_every_benchmark(capsys):
    """In words of its own, for an installed package has no benchmarks to ask."""
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"benchmarks to run: {', '.join(bench.NAMES)}; default: all" in said
