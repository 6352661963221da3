"""The examples in docstrings, in the README and on the pages of the site are true."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
import shlex
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest
import torch

import tfexplore
from tfexplore import cli

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(tfexplore.__path__, "tfexplore.") if not m.name.endswith("__main__")
)
ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [ROOT / "book" / "index.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    if ".explore" in name:
        pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
    torch.manual_seed(0)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed


def test_there_are_docstring_examples() -> None:
    finder = doctest.DocTestFinder()
    examples = [
        e
        for name in ("neurons.neuron", "nn.layers", "nn.states", "nn.wrappers", "nn.schedules")
        for e in finder.find(importlib.import_module(f"tfexplore.{name}"))
    ]
    assert sum(len(e.examples) for e in examples) > 15


def test_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block runs, one after the other, in one namespace."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 3
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)  # a class defined in the text belongs to a module
    space = module.__dict__
    space["layer"] = tfexplore.LIF()
    for block in blocks:
        exec(compile(block, str(README), "exec"), space)
    assert space["layer"](torch.full((3, 1, 1), 0.8)).flatten().tolist() == [0, 1, 1]


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """(language, text) of the page's blocks of code in these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [(language, text) for language, text in found if language in languages]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages(page: Path) -> None:
    """Python runs from the top, in one namespace; of a session with >>> the outputs are compared as well."""
    if "tfexplore.explore" in page.read_text(encoding="utf-8"):
        pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
    torch.manual_seed(0)
    space = ModuleType("page").__dict__
    for number, (language, text) in enumerate(blocks(page, "python", "pycon")):
        if language == "python":
            exec(compile(text, f"{page.name}, block {number}", "exec", dont_inherit=True), space)
            continue
        session = doctest.DocTestParser().get_doctest(text, space, page.name, str(page), 0)
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(session, clear_globs=False)
        assert result.attempted
        assert not result.failed
        space |= session.globs


def test_every_picture_is_shown_and_every_picture_shown_is_there() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in (README, *PAGES)
        for target in re.findall(r"!\[[^\]]*\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    there = {path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg")}
    assert {path for path in shown if path.is_relative_to(ROOT / "docs")} == there


def test_every_block_has_a_language_that_is_tested() -> None:
    """A block without a language, or in one that nothing here runs or checks, would be true only by luck."""
    for page in (README, *PAGES):
        fences = re.findall(r"^```(.*)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        opened = [fence for fence in fences[::2] if not fence.startswith("{")]
        assert set(opened) <= {"python", "pycon", "sh", "bat", "text"}, page.name


@pytest.mark.parametrize("page", [README, *PAGES], ids=["README.md", *NAMES])
def test_commands(page: Path) -> None:
    """Of the shell's lines: tfexplore takes the options, and what else is named is there."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for _, text in blocks(page, "sh", "bat"):
        for line in text.splitlines():
            words = shlex.split(line.replace("\\", "/"), comments=True)
            match [re.sub(r".*/", "", words[0]) if words else "", *words[1:]]:
                case ["tfexplore", *given] | ["python", "-m", "tfexplore", *given]:
                    cut = given.index("--") if "--" in given else len(given)
                    cli.command_line().parse_args(given[:cut])
                case ["make", target, *_]:
                    assert target in targets, line
                case ["python" | "python3" | "py", "-m", module, *_]:
                    # not by all finders: setuptools' own warns, when it is asked for pip after something imported distutils
                    find = importlib.util.find_spec if "." in module else PathFinder.find_spec
                    assert find(module) is not None, line
                case ["python", script, *_]:
                    assert (ROOT / script).is_file(), line
