"""One JupyterLab for all browser tests: whole notebooks, and small pages with only the cells that a test needs."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


class Lab:
    """A running JupyterLab (it has Notebook 7 too) over `folder`; a page is a file of its own, which no test has open."""

    def __init__(self, base: str, folder: Path) -> None:
        self.base, self.folder, self.pages = base, folder, itertools.count()

    def whole(self, name: str, front_end: str = "lab/tree") -> str:
        """The address of a copy of the committed notebook; front_end="notebooks" is Notebook 7."""
        return self.write(name, nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4), front_end)

    def small(self, name: str, *wanted: str) -> str:
        """The address of a small page: of the committed notebook, the code cells in which these words stand."""
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        notebook.cells = [the_cell(code, words, name) for words in wanted]
        return self.write(name, notebook)

    def made(self, name: str, *sources: str) -> str:
        """The address of a page with these cells."""
        cells, kernel = list(map(nbformat.v4.new_code_cell, sources)), {"name": "python3", "display_name": "Python 3"}
        return self.write(name, nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}))

    def write(self, name: str, notebook: Any, front_end: str = "lab/tree") -> str:
        path = f"{next(self.pages)}_{name}.ipynb"
        nbformat.write(notebook, self.folder / path)
        return f"{self.base}/{front_end}/{path}?token=test&reset"

    def ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.base}/api{path}?token=test", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def end_kernels(self) -> None:
        """Each holds some 300 MB, and may still be at work."""
        for session in self.ask("/sessions"):
            self.ask(f"/sessions/{session['id']}", "DELETE")


def the_cell(cells: list[Any], words: str, name: str) -> Any:
    """The one cell in which these words stand."""
    found = [cell for cell in cells if words in cell.source]
    assert len(found) == 1, (
        f"this test needs the one code cell of notebooks/{name}.ipynb in which {words!r} stands, but {len(found)} have it; "
        "name it by words that it alone has."
    )
    return found[0]


@contextmanager
def running(folder: Path) -> Iterator[Lab]:
    """Starts JupyterLab on a free port, and ends it with its kernels."""
    settings = {name: str(folder / f".{name.lower()}") for name in SETTINGS}
    quiet = Path(settings["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)  # no question about news over the notebook
    (quiet / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    # nbgrader is here for the puzzles' tests; a learner has no such menu, and it logs errors of its own in Notebook 7
    config = Path(settings["JUPYTER_CONFIG_DIR"]) / "labconfig"
    config.mkdir(parents=True)
    (config / "page_config.json").write_text('{"disabledExtensions": {"@jupyter/nbgrader": true}}')
    for picture in NOTEBOOKS.glob("*.svg"):  # notebooks show them
        shutil.copy(picture, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0"]
    command += ["--ip=127.0.0.1", "--IdentityProvider.token=test", "--expose-app-in-browser"]
    command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
    lab, said = Lab(f"http://127.0.0.1:{port}", folder), folder / "lab.log"
    with said.open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | settings, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                lab.ask("")
                break
            except OSError:
                assert server.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


SETTINGS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)
