"""The notebooks' pairs: in step and canonical; the tool that keeps them so; nbval's comparison as we configure it."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat: pip install 'tfexplore[notebooks]'")
pytest.importorskip("jupytext", reason="the pairs need jupytext: pip install 'tfexplore[notebooks]'")

from tools import notebooks as tool

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """\
# %% [markdown]
# # A title
#
# Some text.

# %%
import sys

import ipywidgets

print("one")
print("oops", file=sys.stderr)
print("two")
ipywidgets.IntSlider(3)

# %% tags=["nbval-ignore-output"]
import time

time.time()

# %%
print("took 12.3 ms, 4.5x")
"""


@pytest.mark.parametrize("pair", tool.pairs(), ids=lambda path: path.stem)
def test_pairs_are_in_step_and_canonical(pair):
    assert list(tool.faults(pair)) == []


def test_there_is_a_first_notebook():
    assert "00_start_here" in [pair.stem for pair in tool.pairs()]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small notebook, run and written by the tool."""
    script = tmp_path_factory.mktemp("notebooks") / "small.py"
    script.write_text(SCRIPT, encoding="utf-8")
    tool.write(script)
    return script


@pytest.fixture
def pair(written, tmp_path):
    """A copy of it, to spoil."""
    for suffix in (".py", ".ipynb"):
        (tmp_path / f"small{suffix}").write_bytes(written.with_suffix(suffix).read_bytes())
    return tmp_path / "small.py"


def change(pair, do) -> str:
    """Change the .ipynb by `do` and return what the tool finds, as one text."""
    saved = pair.with_suffix(".ipynb")
    notebook = nbformat.read(saved, as_version=4)
    do(notebook)
    saved.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return "\n".join(tool.faults(pair))


def test_a_written_pair_is_whole_and_carries_no_noise(pair):
    assert list(tool.faults(pair)) == []
    text = pair.with_suffix(".ipynb").read_text(encoding="utf-8")
    for noise in ("widget-view", "model_id", "iopub", 'execution":', '"version"', "jupytext"):
        assert noise not in text
    outputs = nbformat.read(pair.with_suffix(".ipynb"), as_version=4).cells[1].outputs
    assert "".join(output.text for output in outputs if output.get("name") == "stdout") == "one\ntwo\n"
    for first, second in itertools.pairwise(outputs):
        assert first.get("name", "result") != second.get("name", "result")  # parts of one stream are joined
    assert "IntSlider" in outputs[-1].data["text/plain"]  # the text beside the widget is kept, and compared


def test_writing_again_changes_nothing_but_ignored_outputs(pair):
    def stable(path) -> list:
        cells = nbformat.read(path, as_version=4).cells
        return [cell for cell in cells if "nbval-ignore-output" not in cell.metadata.get("tags", [])]

    before = stable(pair.with_suffix(".ipynb"))
    tool.write(pair)
    assert [cell.id for cell in stable(pair.with_suffix(".ipynb"))] == [cell.id for cell in before]
    assert [cell.source for cell in stable(pair.with_suffix(".ipynb"))] == [cell.source for cell in before]


def test_ids_survive_an_inserted_cell(pair):
    ids = [cell.id for cell in tool.read_script(pair).cells]
    pair.write_text("# %%\n1 + 1\n\n" + SCRIPT, encoding="utf-8")
    assert [cell.id for cell in tool.read_script(pair).cells][1:] == ids


def test_what_spoils_a_pair_is_named(pair):
    pair.write_text(SCRIPT.replace('print("two")', 'print("three")'), encoding="utf-8")
    (fault,) = tool.faults(pair)
    assert "out of step with small.py from cell 2 on" in fault
    pair.write_text(SCRIPT + "\n# %%\n1\n", encoding="utf-8")
    (fault,) = tool.faults(pair)
    assert "from cell 5 on" in fault
    pair.write_text(SCRIPT, encoding="utf-8")

    assert "not in canonical form" in change(pair, lambda book: book.metadata.update(widgets={"state": {}}))
    assert "not in canonical form" in change(pair, lambda book: book.cells[0].update(id="random"))

    def unrun(book):
        book.cells[1].update(execution_count=None, outputs=[])

    assert "was not run from cell 2 on" in change(pair, unrun)

    error = nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[])
    assert "cell 4 ends in an error" in change(pair, lambda book: (unrun(book), book.cells[1].update(execution_count=1),
                                                                   book.cells[3].outputs.append(error)))  # fmt: skip
    pair.with_suffix(".ipynb").unlink()
    (fault,) = tool.faults(pair)
    assert "small.ipynb is missing" in fault


def test_pull_takes_an_edit_from_jupyterlab(pair):
    assert "out of step" in change(pair, lambda book: book.cells[2].update(source="time.monotonic()"))
    tool.pull(pair)
    assert "out of step" not in "\n".join(tool.faults(pair))
    assert 'tags=["nbval-ignore-output"]' in pair.read_text(encoding="utf-8")
    assert "jupytext" not in pair.read_text(encoding="utf-8")


def nbval(python, pair) -> subprocess.CompletedProcess:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = re.search(r"^NBVAL := (.*)$", makefile, re.MULTILINE)[1].split()  # as `make nbval` runs it
    words = [
        python,
        "-m",
        "pytest",
        "-q",
        "-c",
        str(ROOT / "pyproject.toml"),
        *options,
        str(pair.with_suffix(".ipynb")),
    ]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_nbval_compares_strictly_but_for_widget_views_and_times(pair, python):
    assert "3 passed" in nbval(python, pair).stdout  # a view in the fresh output only, another time: both are fine
    change(pair, lambda book: book.cells[3].outputs[0].update(text="took 9 s, 12×\n"))
    assert "3 passed" in nbval(python, pair).stdout
    change(pair, lambda book: book.cells[1].outputs[-1].data.update({"text/plain": "IntSlider(value=4)"}))
    spoilt = nbval(python, pair)
    assert "1 failed, 2 passed" in spoilt.stdout
    assert "IntSlider(value=4)" in spoilt.stdout


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("12.3 ms ± 4.5 µs", "TIME ± TIME"),
        ("1min 2s", "TIME"),
        ("fused: 3.4x faster", "fused: RATIO faster"),
        ("2.5 times faster", "RATIO faster"),
        ("T=32 steps, 28x28 pixels, 97.8 %, 5 words", "T=32 steps, 28x28 pixels, 97.8 %, 5 words"),
        ("v1.2s", "v1.2s"),
        ("loss 0.123456 after 3 steps", "loss 0.123456 after 3 steps"),
    ],
)
def test_sanitising_takes_times_and_ratios_only(text, left):
    from nbval.plugin import get_sanitize_patterns

    for pattern, replacement in get_sanitize_patterns((ROOT / "tests" / "nbval.cfg").read_text(encoding="utf-8")):
        text = re.sub(pattern, replacement, text)
    assert text == left
