"""One JupyterLab and one Chromium (Debian's, or any Chrome) for all browser tests; a new page for each, by Playwright."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "browser" / "out"  # screenshots, to look at
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]

# What Notebook 7.6 logs by itself, with an empty notebook too: its settings, its file browser.
NOT_OURS = re.compile(
    r"Cannot read properties of undefined \(reading 'schema'\)|Command 'filebrowser:open-path' not registered"
)


PATIENCE = 180_000
"""Milliseconds for anything that is waited for: on a busy machine a kernel compiles for a minute. It comes, or the test fails."""


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install 'tfexplore[notebooks]'")
    from tests.browser.lab import running

    with running(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="package")
def chromium(require: Callable[..., str]) -> Iterator[Any]:
    program = require("chromium", "chromium-browser", "google-chrome", why="to drive JupyterLab")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A new page, with nothing kept of those before it; its console errors fail the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    errors: list[str] = []
    where = "{0.text} {0.location[url]}".format
    page.on("console", lambda message: errors.append(where(message)) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(PATIENCE)
    try:
        yield page
    finally:
        context.close()
    errors = [error for error in errors if not NOT_OURS.search(error)]
    assert not errors, "errors in the browser console:\n" + "\n".join(errors)


@pytest.fixture
def lab(server: Any, page: Any) -> Iterator[Any]:
    """JupyterLab; the kernels end with the test, and before them the page, which would log that they are gone."""
    try:
        yield server
    finally:
        page.close()
        server.end_kernels()


@pytest.fixture
def pictures() -> Path:
    """Where screenshots go; those in docs/ were taken here."""
    OUT.mkdir(exist_ok=True)
    return OUT
