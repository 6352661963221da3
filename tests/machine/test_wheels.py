"""Wheels for a classroom without a network: how pip is called, what its failures mean, and tfexplore's own wheel."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

from tfexplore.machine import paths, wheels

WHEEL = "tfexplore-0.1.0-py3-none-any.whl"
OFFLINE = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('[Errno -3] name resolution')'
ERROR: No matching distribution found for torch
"""


@pytest.fixture
def pip(monkeypatch):
    """The arguments of every call of pip, in whose place small files are written."""
    calls = []

    def run(words, target):
        words = list(words)
        calls.append(words)
        if words[0] == "wheel":
            (paths.Path(words[words.index("--wheel-dir") + 1]) / WHEEL).write_bytes(b"w" * 1000)
        elif words[0] == "download":
            (paths.Path(words[words.index("--dest") + 1]) / "numpy-2.0-any.whl").write_bytes(b"n" * 2_000_000)

    monkeypatch.setattr(wheels, "_pip", run)
    return calls


def test_the_machine_at_hand(pip, tmp_path):
    pins = tmp_path / "pins.txt"
    message = wheels.collect(tmp_path / "wheels", [wheels.Target()], pins, ["--extra-index-url", "x"])
    build, download, check = pip
    folder = tmp_path / "wheels"
    assert build[0] == "wheel"
    assert "--no-deps" in build
    assert download[:5] == ["download", "--dest", str(folder), "--find-links", str(folder)]
    assert download[-3:] == ["--extra-index-url", "x", f"{folder / WHEEL}[notebooks]"]
    assert download[download.index("--constraint") + 1] == str(pins)
    assert download[download.index("--only-binary") + 1] == ":all:"
    assert "--platform" not in download
    assert {"--dry-run", "--no-index", "--ignore-installed", wheels.EXTRA} <= set(check)
    assert "2 wheels (2 MB)" in message
    assert "pip install --no-index --find-links wheels 'tfexplore[notebooks]'" in message
    text = (folder / "README.txt").read_text(encoding="utf-8")
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in text
    assert "--no-index --find-links ." in text
    assert "{" not in text


def test_other_machines(pip, tmp_path):
    kinds = wheels.targets(["windows", "linux", "any_tag"], ["3.11", "3.13"])
    message = wheels.collect(tmp_path, kinds)
    downloads = [words for words in pip if words[0] == "download"]
    assert len(downloads) == 6
    assert [words[0] for words in pip].count("install") == 0, "only the machine at hand can try it"
    assert "was not tried" in message
    first = downloads[0]
    assert first[first.index("--platform") + 1] == "win_amd64"
    assert first[first.index("--python-version") + 1] == "3.11"
    assert first[-2:] == ["colorama", "pywinpty"]
    assert downloads[2].count("--platform") > 20, "every glibc up to 2.28"
    assert "manylinux2014_x86_64" in downloads[2]
    assert downloads[5][downloads[5].index("--platform") + 1] == "any_tag"
    assert "windows, Python 3.11; windows, Python 3.13; linux, Python 3.11" in message


@pytest.mark.parametrize("checkout", [True, False])
def test_versions_that_work_together(monkeypatch, tmp_path, checkout):
    monkeypatch.setattr(wheels, "_in_checkout", lambda: checkout)
    pins = wheels.default_constraints(tmp_path / "new")
    assert pins == tmp_path / "new" / "versions.txt"
    lines = pins.read_text(encoding="utf-8").splitlines()
    assert all("==" in line for line in lines)
    assert not [line for line in lines if line.startswith(("cuda", "nvidia", "cupy")) or "+" in line]
    if not checkout:
        assert f"numpy=={metadata.version('numpy')}" in lines


def test_a_broken_install_does_not_stop_it(monkeypatch, tmp_path):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(wheels, "_in_checkout", lambda: False)
    assert "numpy==" in wheels.default_constraints(tmp_path / "new").read_text(encoding="utf-8")


def test_pip_may_say_what_is_no_utf8(monkeypatch, tmp_path, capfd):
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    words = "import sys; sys.stdout.buffer.write(b'ERROR: caf\\xe9\\n'); sys.exit(1)"
    (tmp_path / "pip" / "__main__.py").write_text(words, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(wheels.WheelsError, match="pip failed: caf"):
        wheels._pip([], wheels.Target())


def test_an_old_wheel_of_tfexplore_does_not_stay(pip, tmp_path):
    (tmp_path / "tfexplore-0.0.9-py3-none-any.whl").write_bytes(b"old")
    wheels.collect(tmp_path, [wheels.Target()])
    assert [path.name for path in tmp_path.glob("tfexplore-*")] == [WHEEL]


@pytest.mark.parametrize("version", ["3", "3.12.1", "312", "2.7", "py3"])
def test_versions_that_are_none(version):
    with pytest.raises(wheels.WheelsError, match=r"must look like 3\.12, but got"):
        wheels.targets([], [version])


def test_a_file_in_the_way(pip, tmp_path):
    (tmp_path / "wheels").write_text("a file")
    with pytest.raises(wheels.WheelsError, match="is a file: name a folder"):
        wheels.collect(tmp_path / "wheels", [wheels.Target()])


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        (OFFLINE, "pip cannot reach the package index"),
        ("ERROR: No matching distribution found for torch==2.13.0", "there is no wheel of torch==2.13.0 for "),
        ("ERROR: ResolutionImpossible: for help visit", f"for {wheels.Target()}, the versions in the constraints and"),
        ("some\nERROR: something new\n", "pip failed: something new"),
        ("only this", "pip failed: only this"),
        ("", "pip failed: it printed nothing"),
    ],
)
def test_what_pip_means(output, meaning):
    assert wheels.explain(output, wheels.Target()).startswith(meaning)


@pytest.mark.parametrize(
    "output", ["ERROR: No matching distribution found for triton", "ERROR: ResolutionImpossible: x"]
)
def test_what_fails_elsewhere_names_pips_rule(output):
    message = wheels.explain(output, wheels.Target("windows", "3.12"))
    assert "for windows, Python 3.12" in message
    assert (
        f"pip evaluates 'only on {platform.system()}' for the machine it runs on, so run this on one of that kind"
        in message
    )
    assert "pip evaluates" not in wheels.explain(output, wheels.Target())


def test_pip_speaks_and_fails_in_one_sentence(capfd):
    with pytest.raises(wheels.WheelsError, match="pip failed: "):
        wheels._pip(["download", "--no-such-option"], wheels.Target())
    assert "no such option" in capfd.readouterr().out


@pytest.mark.slow
def test_the_installed_package_packed_again_is_a_wheel(python, tmp_path):
    """Installed from the packed wheel, tfexplore finds its notebooks, and can pack itself again."""
    for name in ("tfexplore", "kernels", "notebooks"):
        shutil.copytree(
            paths.PACKAGE.parent / name, tmp_path / "source" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.PACKAGE.parent / name, tmp_path / "source")
    pytest.importorskip("hatchling", reason="needs hatchling (pip install -e '.[test]' brings it)")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path, tmp_path / "source"],
        check=True,
    )
    (built,) = tmp_path.glob("*.whl")
    site, again = tmp_path / "site", tmp_path / "again"
    again.mkdir()
    install = ["install", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, *install, site, built], check=True)
    code = "import sys; from pathlib import Path; from tfexplore.machine import wheels; wheels.own_wheel(Path(sys.argv[1]))"
    env = os.environ | {"PYTHONPATH": str(site)}
    subprocess.run([python, "-c", code, again], check=True, env=env, cwd=tmp_path)
    (packed,) = again.glob("*.whl")
    first, second = (zipfile.ZipFile(path) for path in (built, packed))
    same = {name for name in first.namelist() if not name.endswith("RECORD")}
    assert same == {name for name in second.namelist() if not name.endswith("RECORD")}
    assert all(first.read(name) == second.read(name) for name in same)
    subprocess.run([*pip, *install, tmp_path / "packed again", packed], check=True)
    (made,) = metadata.distributions(name="tfexplore", path=[str(tmp_path / "packed again")])
    assert f"tfexplore-{made.version}-py3-none-any.whl" == packed.name == built.name
