"""What `import tfexplore` loads, and which room imports from which."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LATER = (
    "torch._dynamo", "sympy.codegen", "numba", "cupy", "ipywidgets", "plotly", "matplotlib", "jax", "sklearn", "h5py", "nir",
    "tonic", "sktime", "mlxtend",
)  # fmt: skip


@pytest.mark.parametrize(
    ("module", "later"),
    [("tfexplore", LATER), ("tfexplore.explore", ("rfc3987_syntax", "lark", "numba", "cupy", "matplotlib", "sklearn"))],
)
def test_importing_loads_nothing_that_is_used_later(python: str, module: str, later: tuple[str, ...]) -> None:
    text = f"import json, sys, {module}; print(json.dumps([name for name in {later} if name in sys.modules]))"
    done = subprocess.run([python, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_python_without_docstrings_imports_it(python: str) -> None:
    text = "import tfexplore; print(tfexplore.LIF())"
    done = subprocess.run([python, "-OO", "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("LIF("), done.stderr


PLANTED = {
    "a room that imports from one above it": ("neurons/step.py", "from tfexplore.codegen import latex"),
    "the same, hidden in a function": ("backends/buffers.py", "def late():\n    from tfexplore.nn import LIF\n"),
    "a circle inside a room": ("neurons/neuron.py", "from tfexplore.neurons.step import step_of"),
    "a room that the list does not know": ("attic/__init__.py", ""),
}


@pytest.mark.parametrize("fault", [None, *PLANTED])
def test_imports_run_one_way_and_never_in_a_circle(tmp_path: Path, fault: str | None) -> None:
    """`make lint` runs the same linter on the package as it is; here it must find what is planted in a copy."""
    pytest.importorskip("importlinter", reason="the order of imports is checked by import-linter")
    copy = shutil.copytree(ROOT / "tfexplore", tmp_path / "tfexplore", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if fault:
        name, text = PLANTED[fault]
        file = copy / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{file.read_text() if file.exists() else ''}\n{text}\n")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is (fault is None), done.stdout + done.stderr
    if fault:
        assert "BROKEN" in done.stdout or "attic" in done.stdout
