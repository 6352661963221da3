"""The site, built once for all tests that look at it, in whichever worker they run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock  # torch brings it

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "sphinx",
    "myst_nb",
    "sphinx_book_theme",
    "sphinx-mathjax-offline",
    "sphinxarg",
    "sphinx_copybutton",
    "sphinx_design",
)


def built(temporary: pytest.TempPathFactory) -> Path:
    """The folder of the built site's pages. A warning of Sphinx fails the test."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'tfexplore[book]'")
    shared = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "book"
    with FileLock(shared / "book.lock"):
        if not (folder / "done").exists():
            words = [sys.executable, str(ROOT / "tools" / "book.py"), str(folder)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "the site is in" in done.stdout
            (folder / "done").touch()
    return folder / "html"
