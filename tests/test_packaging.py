"""What reaches a user: the wheel's contents, what an installed wheel finds, what `import tfexplore` pulls in."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIGHT = """
import json, sys
import tfexplore
heavy = ["cupy", "numba", "ipywidgets", "plotly", "matplotlib", "sklearn", "anywidget", "jupytext", "pandas"]
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
WHERE = """
import json
from tfexplore.machine import paths
from tfexplore.measure import results
import tfexplore
print(json.dumps([tfexplore.__file__, str(paths.kernels_dir()), str(paths.notebooks_dir()), str(results.folder())]))
"""


def run(python: str, code: str, *path: Path, cwd: Path) -> list[str]:
    """What `code` prints as JSON, with `path` as the PYTHONPATH of a fresh Python."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    words = [python, "-W", "error", "-c", code]
    done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout by the installed hatchling, without a network."""
    pytest.importorskip("hatchling", reason="needs hatchling (pip install -e '.[test]' brings it)")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("tfexplore", "kernels", "notebooks", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    words = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(out), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("tfexplore-*.whl")
    return found


def test_the_wheel_carries_kernels_notebooks_and_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = [path for folder in ("kernels", "notebooks") for path in (ROOT / folder).glob("*.*") if path.is_file()]
    assert {".cu", ".ipynb"} <= {path.suffix for path in shipped}
    for path in shipped:
        assert f"tfexplore/{path.parent.name}/{path.name}" in names
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"tfexplore/results/{path.name}" in names
    assert {"tfexplore/py.typed", "tfexplore/cli.py"} <= names
    assert not [name for name in names if name.startswith(("tests", "tools", "kernels", "notebooks", "benchmarks"))]
    assert not [name for name in names if "__pycache__" in name]


def test_an_installed_wheel_finds_its_own_files(wheel, python, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    for place in run(python, WHERE, tmp_path / "site", cwd=tmp_path):
        assert Path(place).is_relative_to(tmp_path / "site" / "tfexplore")


def test_a_plain_checkout_on_pythonpath_finds_the_folders_beside_it(python, tmp_path):
    package, *folders = map(Path, run(python, WHERE, ROOT, cwd=tmp_path))
    assert package.parent == ROOT / "tfexplore"
    assert folders == [ROOT / "kernels", ROOT / "notebooks", ROOT / "benchmarks" / "results"]


def test_import_is_light(python, tmp_path):
    assert run(python, LIGHT, ROOT, cwd=tmp_path) == []
