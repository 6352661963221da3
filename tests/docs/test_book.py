"""The static site: a page per notebook, one plotly.js, nothing from the network, every figure live, a whole reference."""

from __future__ import annotations

import html
import importlib
import importlib.util
import json
import re
import tomllib
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from tests.book_site import built

nbformat = pytest.importorskip("nbformat", reason="the site is made of notebooks: pip install 'tfexplore[notebooks]'")

from tools import book as tool

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOADS = {
    "img": "src",
    "script": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return built(tmp_path_factory)


class Loads(HTMLParser):
    """What a page loads by itself (not what it links to), and its live figures' data."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.figures: list[dict] = []
        self.words: list[str] = []
        self._in_data = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if LOADS.get(tag) in given and given.get("rel") not in ("next", "prev", "search", "index", "author"):
            self.urls.append(given[LOADS[tag]])
        if tag == "img":
            self.words.append(given.get("alt") or "")
        self._in_data = tag == "script" and given.get("type") == "application/json"

    def handle_data(self, data):
        if self._in_data:
            self.figures.append(json.loads(data))
            self._in_data = False


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_for_every_notebook_with_every_figure_live(site, path):
    page = site / "notebooks" / f"{path.stem}.html"
    outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
    stored = [json.loads(o.metadata["tfexplore"]["plotly"]) for o in outputs if "tfexplore" in o.get("metadata", {})]
    found = Loads(page)
    assert found.figures == stored
    assert all(figure["data"] for figure in found.figures)
    assert len(found.words) >= sum("image/png" in o.get("data", {}) for o in outputs)
    assert all(found.words), "every picture has words"
    scripts = [url for url in found.urls if "plotly" in url]
    assert len(scripts) == bool(stored), "plotly.js is loaded once, where it is needed"
    assert (site / "_sources" / "notebooks" / path.name).read_bytes() == path.read_bytes()
    assert f'href="notebooks/{path.stem}.html"' in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(site):
    assert [path.name for path in site.rglob("*plotly*.js")] == ["plotly.min.js"]
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(NOTEBOOKS) + 3
    for page in pages:
        for url in Loads(page).urls if "_static" not in page.parts else []:
            assert not re.match(r"(https?:)?//", url), f"{page.name} loads {url}"
            target = (page.parent / re.sub(r"[?#].*", "", url)).resolve()
            assert url.startswith("data:") or target.exists(), f"{page.name} loads {url}, which is not there"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", text), sheet.name


@pytest.mark.slow
def test_notebooks_stand_in_order_in_the_side_bar(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    bar = re.search(r'<nav class="bd-links.*?</nav>', text, re.DOTALL)[0]
    assert re.findall(r'href="notebooks/(\w+)\.html"', bar) == [path.stem for path in NOTEBOOKS]
    assert 'href="docs/teaching.html"' in bar


@pytest.mark.slow
def test_the_side_bar_has_four_parts(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    bar = re.search(r'<nav class="bd-links.*?</nav>', text, re.DOTALL)[0]
    captions = re.findall(r'<span class="caption-text">(.*?)</span>', bar)
    assert captions == ["Course", "How-to", "Reference", "How it works &amp; project"]


class Links(HTMLParser):
    """Where a page's links lead, and what can be linked to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.targets.append(given["href"])
        self.places |= {given[key] for key in ("id", "name") if given.get(key)}


@pytest.mark.slow
def test_every_link_within_the_site_leads_somewhere(site):
    pages = {page: Links(page) for page in site.rglob("*.html")}
    followed = 0
    for page, links in pages.items():
        for link in links.targets:
            if re.match(r"[a-z]+:|//", link):
                continue
            path, _, place = link.partition("#")
            target = (page.parent / unquote(path.partition("?")[0])).resolve() if path else page
            assert target.is_file(), f"{page.relative_to(site)} links to {link}"
            # viewcode knows one documented name for each module, and a source leads back to that page's top for others
            if place and target in pages and "_modules" not in page.parts:
                assert unquote(place) in pages[target].places, f"{page.relative_to(site)} links to {link}"
            followed += 1
    assert followed > 1000


def documented(site: Path) -> dict[str, str]:
    """What the reference describes: name -> kind, of Sphinx's own inventory."""
    lines = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    words = [line.split() for line in lines]
    return {name: kind for name, kind, *_ in words if kind.startswith("py:")}


@pytest.mark.slow
def test_everything_public_is_in_the_reference(site):
    import tfexplore

    found = documented(site)
    rooms = "neurons codegen data data.encoders nn nn.losses nn.penalties measure machine timesplit exchange scan explore puzzles"
    for room in ("tfexplore", *(f"tfexplore.{name}" for name in rooms.split())):
        public = importlib.import_module(room)
        for name in set(public.__all__) - {"ALL", "OUTCOMES", "State", "Value"}:
            value = getattr(public, name)
            home = f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else name
            names = {f"{room}.{name}", home, f"tfexplore.{name}" if getattr(tfexplore, name, None) is value else home}
            assert isinstance(value, ModuleType) or names & found.keys(), f"{room}.{name}"


@pytest.mark.slow
def test_equations_and_plots_come_from_the_definitions(site):
    from tfexplore import neurons, surrogates

    text = html.unescape((site / "reference" / "neurons.html").read_text(encoding="utf-8"))
    layers = html.unescape((site / "reference" / "layers.html").read_text(encoding="utf-8"))
    for kind in neurons.ALL:
        assert kind()._repr_latex_().strip("$") in text, kind
        assert kind()._repr_latex_().strip("$") in layers, kind
    plots = re.findall(
        r'aria-label="The surrogate (\w+)\(.*?at most ([\d.]+)', (site / "reference" / "surrogates.html").read_text()
    )
    steepest = {type(s).__name__: float(s.derivative(0.0)) for s in (kind() for kind in surrogates.ALL)}
    assert {name: float(height) for name, height in plots} == pytest.approx(steepest, rel=1e-2)


@pytest.mark.slow
def test_the_reference_lists_every_puzzle_and_command(site):
    from tfexplore import cli, puzzles

    page = (site / "reference" / "puzzles.html").read_text(encoding="utf-8")
    assert all(f">{name}</span>" in page for name in puzzles.ALL)
    shown = html.unescape((site / "reference" / "command_line.html").read_text(encoding="utf-8"))
    commands = cli.command_line()._subparsers._group_actions[0].choices  # argparse has no public way to them
    for command in commands.values():
        options = {option for action in command._actions for option in action.option_strings} - {"-h", "--help"}
        assert all(option in shown for option in options)
    assert all(f'id="{name}"' in shown for name in commands)


def test_the_rooms_of_the_design_page_are_those_of_the_contract():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]
    floors = [floor.split(" | ") for floor in reversed(contract["layers"]) if floor != "__main__"]
    rooms = [row[0].strip("`") for row in table((ROOT / "docs" / "design.md").read_text(encoding="utf-8"), "Rooms")]
    assert rooms == [room for floor in floors for room in floor]


def test_a_figure_carries_its_data_safely():
    figure = {"data": [{"y": [1], "name": "</script><b>"}], "layout": {}, "frames": [{"name": "1"}]}
    text = tool.figure_html("figure-1", "a.png", 'the "words" <here>', figure)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert json.loads(data) == figure
    assert f'alt="{html.escape("""the "words" <here>""")}"' in text
    assert "<script" not in tool.figure_html("figure-1", "a.png", "words", None)


def test_title_and_duration_are_read_from_the_notebook():
    cells = [nbformat.v4.new_markdown_cell(text) for text in ("# A name: `x`\n\n**About 12 minutes.** Then", "# No")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert (tool.title(notebook), tool.duration(notebook)) == ("A name: `x`", "12 minutes")
    assert (tool.title(nbformat.v4.new_notebook()), tool.duration(nbformat.v4.new_notebook())) == ("untitled", "")


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    lines = text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def test_the_teachers_page_agrees_with_the_notebooks():
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    rows = {row[0].strip("`"): row for row in table(text, "The course at a glance")}
    for path in NOTEBOOKS:
        if path.stem == "puzzles":
            continue
        notebook = nbformat.read(path, as_version=4)
        assert rows[path.stem][1] + " minutes" == tool.duration(notebook), f"docs/teaching.md, the row of {path.stem}"
        own = {cell.metadata.get("nbgrader", {}).get("grade_id", "").partition("-")[0] for cell in notebook.cells} - {
            ""
        }
        assert own <= set(re.findall(r"`(\w+)`", rows[path.stem][3])), f"docs/teaching.md, the puzzles of {path.stem}"


@pytest.mark.parametrize(("plan", "minutes"), [("Two hours", 120), ("Half a day", 240)])
def test_the_plans_add_up(plan, minutes):
    rows = table((ROOT / "docs" / "teaching.md").read_text(encoding="utf-8"), plan)
    now = 0
    for start, length, *_ in rows:
        hours, past = start.split(":")
        assert 60 * int(hours) + int(past) == now
        now += int(length)
    assert now == minutes


def test_what_sphinx_complains_of_is_not_hidden(tmp_path, monkeypatch):
    sphinx = pytest.importorskip("sphinx.cmd.build", reason="the site needs Sphinx: pip install 'tfexplore[book]'")
    monkeypatch.setattr(sphinx, "main", lambda words: 2)  # it fails before it writes anything
    monkeypatch.setattr(tool, "gather", lambda source, notebooks: None)
    assert tool.build(tmp_path) == 2
