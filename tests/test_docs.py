"""The examples in docstrings and in the README are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import tfexplore

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(tfexplore.__path__, "tfexplore.") if not m.name.endswith("__main__")
)
README = Path(__file__).resolve().parent.parent / "README.md"


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
