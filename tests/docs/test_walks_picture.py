"""The picture of the three walks: it is what runs today, its counts are those of another counter, and it travels well."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tfexplore
from tfexplore import cli
from tfexplore.explore.schedules.walks import example, example_input
from tfexplore.machine import paths
from tools import walks as tool

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "docs" / "walks.svg", ROOT / "notebooks" / "walks.svg"]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def walks() -> list[Any]:
    return tool.walks()


def pinned(package: str) -> str:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{package}==([\d.]+)", text, re.MULTILINE)[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_picture_is_of_what_runs_today(walks: list[Any], path: Path) -> None:
    if torch.__version__.partition("+")[0] != pinned("torch"):
        pytest.skip(f"an eager step of torch {torch.__version__} may be made of other operations than the picture's")
    assert path.read_text(encoding="utf-8") == tool.Picture(walks).svg(), "draw it anew: python tools/walks.py"


class Tally(TorchDispatchMode):
    """Counts for itself: operations that write memory of their own or change their argument, and the words of each."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.words = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        name = func._schema.name
        if func.is_view or "empty" in name:
            return out
        self.launches += 1
        if name in ("aten::copy_", "aten::fill_", "aten::zero_"):  # the old values are not read
            given = given[1:]
        sizes = {(t.data_ptr(), t.shape, t.stride()): self.size(t) for t in given}
        self.words += sum(sizes.values()) + sum(map(self.size, made))
        return out

    @staticmethod
    def size(t: torch.Tensor) -> int:
        """Without the axes along which it is only repeated."""
        return t[tuple(0 if step == 0 else slice(None) for step in t.stride())].numel()


@pytest.mark.parametrize("number", range(3))
def test_launches_and_words_are_those_of_another_counter(walks: list[Any], number: int) -> None:
    walk, net, x = walks[number], example("feed-forward"), example_input(tool.STEPS)
    for layer in net:
        if isinstance(layer, tfexplore.Layer):
            layer.backend = "auto" if walk.name == "fused" else "torch"
    run = tfexplore.step_by_step if walk.name == "step by step" else tfexplore.layer_by_layer
    with torch.no_grad(), Tally() as tally:
        run(net, x)
    shown = [int(text.replace(",", "")) for text in re.findall(r"of ([\d,]+)<", FILES[0].read_text(encoding="utf-8"))]
    assert (tally.launches, tally.words) == (walk.ends[-1], walk.words[-1])
    if torch.__version__.partition("+")[0] == pinned("torch"):
        assert [tally.launches, tally.words] == shown[2 * number : 2 * number + 2]


def test_words_are_those_of_the_formulas(walks: list[Any]) -> None:
    """A linear layer reads its input and its weights and writes its output; a fused one reads currents and writes spikes."""
    samples = tool.STEPS * tool.BATCH
    linear = {row: samples * (i + o) + i * o + o for row, i, o in ((0, 16, 32), (2, 32, 32), (4, 32, 10))}
    expected = linear | dict.fromkeys((1, 3), 2 * samples * 32)
    _, layered, fused = walks
    assert {piece.row: piece.words for piece in fused.pieces} == expected
    assert {piece.row: piece.words for piece in layered.pieces if piece.row in linear} == linear


def test_every_walk_does_every_cell_once_and_only_after_what_it_needs(walks: list[Any]) -> None:
    for walk in walks:
        done = set()
        for piece in walk.pieces:
            for t in range(piece.first, piece.last):
                assert (piece.row, t) not in done
                assert piece.row == 0 or (piece.row - 1, t) in done
                assert t == 0 or walk.layers[piece.row] == "Linear" or (piece.row, t - 1) in done
                done.add((piece.row, t))
        assert len(done) == len(walk.layers) * tool.STEPS
    assert [len(walk.pieces) for walk in walks] == [5 * 8, 3 + 2 * 8, 5]


def test_it_is_small_whole_and_described() -> None:
    text = FILES[0].read_text(encoding="utf-8")
    assert len(text.encode()) < 60_000
    root = ET.fromstring(text)
    assert root.get("role") == "img"
    described = [root.find(f"{SVG}{name}[@id='{ident}']").text for name, ident in (("title", "t"), ("desc", "d"))]
    assert root.get("aria-labelledby") == "t d"
    assert all(len(words) > 40 for words in described)
    for total in re.findall(r"of ([\d,]+)<", text):
        assert total in described[1]


def test_it_loads_nothing_and_runs_nothing() -> None:
    """An <img> may not, and GitHub would not let it."""
    root = ET.parse(FILES[0]).getroot()
    for element in root.iter():
        assert element.tag.removeprefix(SVG) not in ("script", "image", "foreignObject", "a")
        assert element.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|@font-face", FILES[0].read_text(encoding="utf-8"))


def test_every_motion_is_named_once_and_used_once() -> None:
    text = FILES[0].read_text(encoding="utf-8")
    named = re.findall(r"@keyframes ([\w-]+)", text)
    assert len(named) == len(set(named))
    assert sorted(named) == sorted(re.findall(r"animation-name:([\w-]+)", text))
    before, _, inside = text.partition("@media (prefers-reduced-motion:no-preference){")
    assert "animation:" not in before, "without the reader's consent nothing moves"
    assert "animation:" in inside


@pytest.mark.parametrize("notebook", ["00_start_here", "02_two_ways_to_walk"])
def test_the_notebook_begins_with_it(notebook: str) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat: pip install 'tfexplore[notebooks]'")
    first = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells[0]
    (words, target) = re.search(r"\A# .+\n\n!\[(.+)\]\((.+)\)", first.source).groups()
    assert (ROOT / "notebooks" / target).samefile(FILES[1])
    assert len(words) > 40


@pytest.mark.parametrize("folder", ["the checkout's", "a copy"])
def test_a_learner_sees_notebooks_only(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What JupyterLab's file browser lists, with the options that `tfexplore lab` gives it."""
    serverapp = pytest.importorskip("jupyter_server.serverapp", reason="needs JupyterLab: pip install jupyterlab")
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

    shown = paths.notebooks_dir() if folder == "the checkout's" else tmp_path / "mine"
    calls: list[list[str]] = []
    monkeypatch.setattr(cli, "subprocess", SimpleNamespace(call=lambda words, cwd: calls.append(words) or 0))
    assert cli.main(["lab", str(shown)]) == 0
    if folder == "a copy":
        (shown / "puzzles.py").write_text("mine = True\n")  # the learner's own
    app = serverapp.ServerApp()
    app.parse_command_line(calls[0][4:])
    manager = AsyncLargeFileManager(config=app.config, root_dir=str(shown))
    listed = {entry["name"] for entry in asyncio.run(manager.get(""))["content"]} - {
        "__pycache__",
        ".ipynb_checkpoints",
    }
    own = {"puzzles.py"} if folder == "a copy" else set()
    assert listed == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} | own
    assert asyncio.run(manager.get("walks.svg"))["name"] == "walks.svg", "not listed, but there"
