"""The site, built without a network: `python tools/book.py [FOLDER]` (default: book/_build).

It gathers the stored notebooks, the start page and the reference (book/) and docs/ in FOLDER/source, and lets Sphinx write
FOLDER/html. The reference imports the package of this checkout; no notebook is run. Of every explorer's output it makes a
figure that is live without a kernel: the picture stays for readers without JavaScript, and the plotly figure, which the
output's metadata carries, is drawn over it (book/_static/figures.js).
"""

from __future__ import annotations

import argparse
import base64
import html
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
STATIC = "Static page: you can {play}hover and zoom here; to move all the sliders, open the notebook in JupyterLab."


def build(folder: Path, notebooks: Path = NOTEBOOKS) -> int:
    """Writes the site of the notebooks in `notebooks` to folder/html; 0 when Sphinx had nothing to complain about."""
    sys.path.insert(0, str(ROOT))  # the reference is that of this checkout, installed or not
    from sphinx.cmd.build import main as sphinx

    source, site = folder / "source", folder / "html"
    for old in (source, site):
        shutil.rmtree(old, ignore_errors=True)
    gather(source, notebooks)
    words = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "doctrees"), "-E", str(source), str(site)]
    status = sphinx(words)
    if status == 0:
        for path in sorted(notebooks.glob("*.ipynb")):  # what a reader downloads is the notebook as it is in the course
            shutil.copy(path, site / "_sources" / "notebooks")
    return status


def gather(source: Path, notebooks: Path) -> None:
    """Everything Sphinx reads, in one folder."""
    shutil.copytree(ROOT / "book", source, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    shutil.copytree(ROOT / "docs", source / "docs")
    for page in ("CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / page, source)
    static = source / "_static"
    shutil.copy(_inside("plotly", "package_data/plotly.min.js"), static)
    shutil.copy(ROOT / "tfexplore" / "explore" / "base" / "theme.css", static)  # figures on a dark page
    shutil.copy(_inside("sphinx-mathjax-offline", "static/mathjax/tex-svg-full.js"), static / "mathjax.js")
    (static / "pictures").mkdir()
    (source / "notebooks").mkdir()
    for picture in notebooks.glob("*.svg"):  # what stands in a notebook's text
        shutil.copy(picture, source / "notebooks")
    rows, playing = ["| notebook | takes about |", "|---|---|"], dict[str, str]()
    for path in sorted(notebooks.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        rows.append(f"| [{title(notebook)}](notebooks/{path.name}) | {duration(notebook)} |")
        figures = with_live_figures(notebook, path.stem, static / "pictures")
        playing[path.stem] = next((figure for figure in figures if '"frames":[{' in figure), "").replace("../", "")
        nbformat.write(notebook, source / "notebooks" / path.name)
    front = source / "index.md"
    text = front.read_text(encoding="utf-8").replace("<!-- notebooks -->", "\n".join(rows))
    text = re.sub(r"<!-- figure: (\w+) -->", lambda found: playing.get(found[1], ""), text)
    text = re.sub(r"!\[.*\]\((\S+)\).*\n", lambda found: found[0] if (source / found[1]).is_file() else "", text)
    front.write_text(text, encoding="utf-8")


def _inside(package: str, file: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"tools/book.py needs {package}: make setup, or pip install -c constraints.txt -e '.[book]'")
    return Path(found.origin).parent / file


def title(notebook: NotebookNode) -> str:
    """The notebook's first heading."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found[1] if found else "untitled"


def duration(notebook: NotebookNode) -> str:
    """What the notebook says of itself: "10 minutes", of "**About 10 minutes.**"."""
    text = "\n".join(cell.source for cell in notebook.cells[:2])
    found = re.search(r"\*\*About ([^.;*]+)", text)
    return found[1] if found else ""


def with_live_figures(notebook: NotebookNode, name: str, pictures: Path) -> list[str]:
    """Replaces every picture in the outputs by HTML: the picture with its words and, for an explorer, the live figure.

    Returns the HTML of each.
    """
    made: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            count = len(made) + 1
            picture = pictures / f"{name}-{count}.png"
            picture.write_bytes(base64.b64decode(output.data["image/png"]))
            # a picture that explains itself in no other way has at least its text
            words = output.metadata.get("image/png", {}).get("alt") or output.data.get("text/plain", "")
            figure = json.loads(output.metadata.get("tfexplore", {}).get("plotly", "null"))
            made.append(figure_html(f"figure-{count}", f"../_static/pictures/{picture.name}", words, figure))
            output.data = NotebookNode({"text/html": made[-1]})
            output.metadata = NotebookNode()
    return made


def figure_html(ident: str, picture: str, words: str, figure: dict[str, Any] | None) -> str:
    """One figure of a page. The data lie in the page itself: a page opened from a memory stick may fetch nothing."""
    words = html.escape(words, quote=True)
    still = f'<img class="still dark-light" src="{picture}" alt="{words}">'
    if figure is None:
        return f'<figure class="explorer">{still}</figure>'
    note = STATIC.format(play="play, " if figure.get("frames") else "")
    data = json.dumps(figure, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure class="explorer live" id="{ident}">{still}'
        f'<div class="plot" role="img" aria-labelledby="{ident}-words"></div>'
        f'<script type="application/json">{data}</script>'
        f'<figcaption><span id="{ident}-words">{words}</span> <small>{note}</small></figcaption></figure>'
    )


def main(argv: list[str] | None = None) -> int:
    """Build the site, and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "book" / "_build")
    folder = parser.parse_args(argv).folder.resolve()
    status = build(folder)
    print(f"the site is in {folder / 'html'}: open index.html" if status == 0 else "Sphinx complained; see above")
    return status


if __name__ == "__main__":
    sys.exit(main())
