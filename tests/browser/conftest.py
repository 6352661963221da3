"""JupyterLab on a free port, and a page in Debian's Chromium (or any Chrome) driven by Playwright."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

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

# What Notebook 7.6 logs by itself, with an empty notebook too: its settings, its file browser, its fonts (asked for without
# the cookie that the server wants).
NOT_OURS = re.compile(
    r"Cannot read properties of undefined \(reading 'schema'\)|Command 'filebrowser:open-path' not registered"
    r"|403 \(Forbidden\) .*/static/notebook/\w+\.woff"
)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab over a copy of the notebooks; `{path}` stands for the notebook.

    The same server has Notebook 7: `lab.replace("/lab/tree/", "/notebooks/")`.
    """
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install 'tfexplore[notebooks]'")
    import nbformat

    work = tmp_path_factory.mktemp("lab")
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, work)
    long_run = [
        "from tfexplore import explore",
        "training = explore.training(walk='step by step', steps=64, hidden=512, epochs=20)\ntraining.show()",
        "(await training.run()).sentence()",
        "'after the run'",
    ]
    cells, kernel = list(map(nbformat.v4.new_code_cell, long_run)), {"name": "python3", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), work / "long_run.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"JUPYTER_CONFIG_DIR": str(work / ".config"), "JUPYTER_DATA_DIR": str(work / ".data")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0"]
    command += ["--ip=127.0.0.1", "--IdentityProvider.token=test"]
    quiet = work / ".settings" / "@jupyterlab" / "apputils-extension"  # no question about news over the notebook
    quiet.mkdir(parents=True)
    (quiet / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    settings["JUPYTERLAB_SETTINGS_DIR"] = str(work / ".settings")
    # nbgrader is here for the puzzles' tests; a learner has no such menu, and it logs errors of its own in Notebook 7
    (work / ".config" / "labconfig").mkdir(parents=True)
    (work / ".config" / "labconfig" / "page_config.json").write_text(
        '{"disabledExtensions": {"@jupyter/nbgrader": true}}'
    )
    with (work / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=work, env=os.environ | settings, stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{base}/api?token=test", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (work / "lab.log").read_text()
                assert time.monotonic() < deadline, (work / "lab.log").read_text()
                time.sleep(0.3)
        yield base + "/lab/tree/{path}?token=test&reset"
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
def page(require: Callable[..., str]) -> Iterator[object]:
    """A page whose console errors fail the test."""
    chromium = require("chromium", "chromium-browser", "google-chrome", why="to drive JupyterLab")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    OUT.mkdir(exist_ok=True)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        errors: list[str] = []
        where = "{0.text} {0.location[url]}".format
        page.on("console", lambda message: errors.append(where(message)) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(60_000)
        yield page
        browser.close()
        errors = [error for error in errors if not NOT_OURS.search(error)]
        assert not errors, "errors in the browser console:\n" + "\n".join(errors)


@pytest.fixture
def pictures() -> Path:
    """Where screenshots go; those in docs/ were taken here."""
    OUT.mkdir(exist_ok=True)
    return OUT
