"""No picture in a stored notebook is empty: nbval compares no pictures, so this test watches them.

A picture must be readable, show more than paper, and say in words what it shows; behind an explorer's picture must lie
its plotly figure, with data. (An empty one of each kind is caught.)
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat: pip install 'tfexplore[notebooks]'")
np = pytest.importorskip("numpy")
image = pytest.importorskip("matplotlib.image", reason="pictures need matplotlib: pip install 'tfexplore[notebooks]'")

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
DATA = ("x", "y", "z", "values", "text")


def pictures(path: Path) -> Iterator[tuple[str, Any, bool]]:
    """Every output with a picture: where it is, the output, and whether it is an explorer's."""
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                yield f"{path.name}, cell {number}", output, shows_explorer(cell)


def shows_explorer(cell: Any) -> bool:
    return cell.cell_type == "code" and ".show()" in cell.source


def faults(output: Any, explorer: bool = False) -> Iterator[str]:
    """What is wrong with the picture of an output."""
    pixels = image.imread(io.BytesIO(base64.b64decode(output.data["image/png"])), format="png")[..., :3]
    height, width = pixels.shape[:2]
    if min(height, width) < 80:
        yield f"the picture is tiny ({width} × {height})"
    inked = float(np.mean(np.abs(pixels - pixels[0, 0]).max(axis=-1) > 0.1))
    if inked < 0.005 or pixels.std() < 0.01:
        yield f"the picture is all but empty ({inked:.2%} of its pixels differ from the paper)"
    if len(output.metadata.get("image/png", {}).get("alt", "").split()) < 5:
        yield "the picture has no words (metadata['image/png']['alt']) for those that cannot see it"
    figure = json.loads(output.metadata.get("tfexplore", {}).get("plotly", "null"))
    if explorer and figure is None:
        yield "an explorer's picture carries no plotly figure (metadata['tfexplore']['plotly'])"
    if figure is not None and not any(length(trace) for trace in figure["data"]):
        yield "the plotly figure has no data"


def length(trace: dict[str, Any]) -> int:
    """The number of values of a trace; plotly writes arrays as lists, or as base64 with a type."""
    values = [trace[name] for name in DATA if name in trace]
    return max((len(value["bdata"] if isinstance(value, dict) else value) for value in values), default=0)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_shows_something(path):
    wrong = [f"{where}: {fault}" for where, *shown in pictures(path) for fault in faults(*shown)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_explorer_left_a_picture(path):
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
        if shows_explorer(cell):
            assert any("image/png" in output.get("data", {}) for output in cell.outputs), f"{path.name}, cell {number}"


def test_the_first_notebook_has_pictures():
    assert len(list(pictures(NOTEBOOKS[0]))) >= 3


def drawing(lines: int, size: float = 3.0) -> str:
    """A matplotlib picture with this many lines, in base64."""
    from matplotlib.figure import Figure

    figure, out = Figure(figsize=(size, size)), io.BytesIO()
    for k in range(lines):
        figure.subplots().plot([k, k + 1])
    figure.savefig(out, format="png")
    return base64.b64encode(out.getvalue()).decode()


def output(png: str, alt: str = "A line that rises to the right.", traces: list[Any] | None = None) -> Any:
    traces = [{"y": [1, 2]}] if traces is None else traces
    metadata = {"image/png": {"alt": alt}, "tfexplore": {"plotly": json.dumps({"data": traces})}}
    return nbformat.v4.new_output("display_data", {"image/png": png, "text/plain": "Explorer()"}, metadata=metadata)


def test_an_empty_picture_is_caught():
    assert list(faults(output(drawing(1)), True)) == []
    assert "all but empty" in next(faults(output(drawing(0))))
    assert "tiny" in next(faults(output(drawing(1, size=0.5))))
    assert "no words" in next(faults(output(drawing(1), alt="plot")))
    for empty in ([], [{}], [{"x": [], "y": []}], [{"y": {"dtype": "f8", "bdata": ""}}]):
        assert list(faults(output(drawing(1), traces=empty))) == ["the plotly figure has no data"]
    bare = output(drawing(1))
    del bare.metadata["tfexplore"]
    assert "carries no plotly figure" in next(faults(bare, True))
    assert list(faults(bare)) == []
