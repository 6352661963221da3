"""The puzzles' cells in the notebooks, and the teacher's copy: placed by the tool, cleared by nbgrader itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat: pip install 'tfexplore[notebooks]'")
pytest.importorskip("jupytext", reason="the pairs need jupytext: pip install 'tfexplore[notebooks]'")
pytest.importorskip("nbgrader", reason="the stubs are made by nbgrader: pip install 'tfexplore[test]'")

from tfexplore import puzzles
from tfexplore.puzzles import ALL
from tools import notebooks
from tools import puzzles as tool

ROOT = Path(__file__).resolve().parents[2]


PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""As in an activated environment: nbgrader runs `alembic`, which is installed beside it."""

SCRIPT = """\
# %% [markdown]
# # A title

# %%
from tfexplore import explore

explore

# %% [markdown]
# PUZZLE: charge

# %% [markdown]
# Some text.

# %% [markdown]
# PUZZLE: fuse_the_loop
"""


def cells_of(notebook: Any) -> dict[str, Any]:
    """Puzzle cells by their grade_id."""
    found = ((cell.metadata.get("nbgrader", {}).get("grade_id"), cell) for cell in notebook.cells)
    return {grade_id: cell for grade_id, cell in found if grade_id}


# -- placing -----------------------------------------------------------------------------------------------------------


def test_a_placeholder_becomes_text_stub_and_check(tmp_path: Path) -> None:
    script = tmp_path / "01_the_neuron.py"
    script.write_text(SCRIPT, encoding="utf-8")
    assert tool.main(["place", "--notebooks", str(tmp_path)]) == 0
    text = script.read_text(encoding="utf-8")
    assert "PUZZLE" not in text
    assert "import numpy as np  # noqa: F401" in text
    assert "from tfexplore import explore, puzzles\n" in text
    notebook = notebooks.read_script(script)
    cells = cells_of(notebook)
    assert list(cells) == [f"{name}{part}" for name in ("charge", "fuse_the_loop") for part in ("-text", "", "-check")]
    assert cells["charge-text"].source == ALL["charge"].markdown()
    assert cells["charge"].source == (
        'def charge(v, x, tau):\n    """The potential h after the current x came in and the share 1/tau of v leaked away."""\n'
        "    raise NotImplementedError  # your turn"
    )
    assert cells["charge-check"].source == 'puzzles.check("charge", charge)'
    nbformat.validate(notebook)


def test_placing_again_changes_nothing_but_what_is_out_of_date(tmp_path: Path) -> None:
    once = tool.placed(SCRIPT)
    assert tool.placed(once) == once
    stale = once.replace("raise NotImplementedError", "return None").replace(
        "### Puzzle: the current", "### An old title"
    )
    assert stale != once
    assert tool.placed(stale) == once
    assert tool.placed("# %%\nx = 1\n") == "# %%\nx = 1\n"


def test_a_notebook_may_begin_with_a_puzzle() -> None:
    made = tool.placed("# %% [markdown]\n# PUZZLE: fire\n")
    assert "# %%\nimport numpy as np  # noqa: F401  (for your answers)\n\nfrom tfexplore import puzzles\n" in made
    assert tool.placed(made) == made


def test_numpy_is_imported_once() -> None:
    script = "# %%\nimport numpy as np\n\nnp.zeros(3)\n\n# %% [markdown]\n# PUZZLE: fire\n"
    assert tool.placed(script).count("import numpy") == 1
    script = "# %%\nx = 1\n\n# %%\nnp.zeros(3)\n\n# %% [markdown]\n# PUZZLE: fire\n"
    assert "noqa" not in tool.placed(script)


def test_an_unknown_puzzle_is_named() -> None:
    with pytest.raises(ValueError, match="there is no puzzle 'chrge'; there are charge"):
        tool.placed("# %%\nx = 1\n\n# %% [markdown]\n# PUZZLE: chrge\n")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "01_the_neuron.py").write_text(SCRIPT, encoding="utf-8")
    found = "\n".join(tool.faults(tmp_path))
    assert "01_the_neuron.py has puzzles that are not up to date: python tools/puzzles.py place 01_the_neuron" in found
    assert "01_the_neuron.py lacks the puzzle hard_reset: add a Markdown cell with PUZZLE: hard_reset" in found
    assert "lacks the puzzle charge" not in found
    assert tool.main(["check", "--notebooks", str(tmp_path)]) == 1


def test_every_puzzle_is_in_its_notebook_and_up_to_date() -> None:
    assert list(tool.faults(notebooks.FOLDER)) == []


def test_the_collection_has_all_puzzles_in_order() -> None:
    ids = tool.grade_ids((notebooks.FOLDER / "puzzles.py").read_text(encoding="utf-8"))
    assert [name for name in ids if "-" not in name] == list(ALL)


def test_a_pair_keeps_what_nbgrader_needs(tmp_path: Path) -> None:
    """The .py has the grade_id, the .ipynb all of its metadata; `pull` goes back without loss, and a lost grade_id is noticed."""
    script = tmp_path / "01_the_neuron.py"
    script.write_text(tool.placed(SCRIPT), encoding="utf-8")
    notebook = notebooks.read_script(script)
    assert cells_of(notebook)["charge-check"].metadata["nbgrader"] == {
        "schema_version": 3, "grade_id": "charge-check", "cell_type": "code", "grade": True, "solution": False,
        "locked": True, "task": False, "points": 1,
    }  # fmt: skip
    for count, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.execution_count = count + 1
    saved = script.with_suffix(".ipynb")
    saved.write_text(notebooks.dumps(notebook), encoding="utf-8")
    assert list(notebooks.faults(script)) == []
    notebooks.pull(script)
    assert list(notebooks.faults(script)) == []
    assert 'nbgrader={"grade_id": "charge-check"}\n' in script.read_text(encoding="utf-8")
    script.write_text(
        script.read_text(encoding="utf-8").replace(' nbgrader={"grade_id": "charge"}', ""), encoding="utf-8"
    )
    assert "out of step" in "\n".join(notebooks.faults(script))


# -- the teacher's copy, by nbgrader itself --------------------------------------------------------------------------------


def nbgrader(course: Path, *words: str) -> str:
    """Runs one command of nbgrader in the course's folder."""
    away = {
        "JUPYTER_CONFIG_DIR": str(course / ".config"),
        "JUPYTER_DATA_DIR": str(course / ".data"),
        "HOME": str(course),
    }
    settings = {**os.environ, **away, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "PATH": PATH}
    command = [sys.executable, "-m", "nbgrader", *words]
    done = subprocess.run(command, cwd=course, env=settings, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nbgrader course with the notebook of all puzzles, and the student's copy that nbgrader made of it."""
    folder = tmp_path_factory.mktemp("course")
    tool.teacher(folder, [notebooks.FOLDER / "puzzles.py"])
    nbgrader(folder, "generate_assignment", "puzzles")
    return folder


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def source(course: Path) -> dict[str, Any]:
    return cells_of(read(course / "source" / "puzzles" / "puzzles.ipynb"))


@pytest.fixture(scope="module")
def release(course: Path) -> dict[str, Any]:
    return cells_of(read(course / "release" / "puzzles" / "puzzles.ipynb"))


def test_the_students_copy_is_the_committed_notebook(course: Path, release: dict[str, Any]) -> None:
    committed = read(notebooks.FOLDER / "puzzles.ipynb")
    made = read(course / "release" / "puzzles" / "puzzles.ipynb")
    assert [(cell.cell_type, cell.source) for cell in made.cells] == [(c.cell_type, c.source) for c in committed.cells]
    assert list(release) == list(cells_of(committed))
    for grade_id, cell in cells_of(committed).items():
        theirs = dict(release[grade_id].metadata["nbgrader"])
        del theirs["checksum"]
        assert theirs == cell.metadata["nbgrader"]
    assert "SOLUTION" not in json.dumps(made)
    assert "HIDDEN" not in json.dumps(made)


def defined(cell: Any, name: str) -> Any:
    """The function that a cell defines, in a notebook that has imported NumPy."""
    names: dict[str, Any] = {"np": np, "puzzles": puzzles, "__name__": "__main__"}
    exec(cell.source, names)
    return names[name]


@pytest.mark.parametrize("name", ALL)
def test_every_stub_fails_and_every_solution_passes(name: str, source: dict[str, Any], release: dict[str, Any]) -> None:
    assert "### BEGIN SOLUTION" in source[name].source
    stub, solution = defined(release[name], name), defined(source[name], name)
    assert puzzles.check(name, stub).outcome == "not yet"
    assert puzzles.check(name, solution).outcome == "right"


@pytest.mark.parametrize("name", ["charge", "fuse_the_loop"])
def test_hidden_tests_tell_them_apart(name: str, source: dict[str, Any], release: dict[str, Any]) -> None:
    hidden = source[f"{name}-check"].source
    exec(hidden, {name: defined(source[name], name), "puzzles": puzzles})
    with pytest.raises(AssertionError, match="is not written yet"):
        exec(hidden, {name: defined(release[name], name), "puzzles": puzzles})


@pytest.mark.slow
def test_nbgrader_grades_a_students_work(course: Path, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two answers right, one right with too much traffic, one endless, the others not written: two points."""
    made = read(course / "release" / "puzzles" / "puzzles.ipynb")
    answers = {
        "charge": source["charge"].source,
        "keep_bits": source["keep_bits"].source,
        "fire": "def fire(h, v_threshold):\n    while True:\n        pass",
        "fuse_the_loop": made.cells[8].source.split("\n\n\n")[0],  # the notebook's own example of waste
    }
    assert answers["fuse_the_loop"].startswith("def fuse_the_loop")
    for grade_id, cell in cells_of(made).items():
        cell.source = answers.get(grade_id, cell.source)
    target = course / "submitted" / "ada" / "puzzles" / "puzzles.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(made, target)
    nbgrader(course, "autograde", "puzzles")
    from nbgrader.api import Gradebook

    monkeypatch.setenv("PATH", PATH)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        graded = book.find_submission_notebook("puzzles", "puzzles", "ada")
        points = {grade.name: grade.score for grade in graded.grades}
    assert {name for name, score in points.items() if score} == {"charge-check", "keep_bits-check"}
    assert len(points) == len(ALL)
