"""The static site in a browser: every figure is drawn without a kernel, and no page asks the network for anything."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.book_site import built

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("myst_nb", reason="the site needs Sphinx: pip install 'tfexplore[book]'")
pytest.importorskip("sphinx_book_theme", reason="the site needs its theme: pip install 'tfexplore[book]'")

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
WRITTEN = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "book" / "reference").glob("*.rst")]
PAGES = [
    "index.html", "search.html", "CONTRIBUTING.html", "CHANGELOG.html", *(f"notebooks/{name}.html" for name in NAMES),
    *sorted(re.sub(r"^book/", "", path.relative_to(ROOT).with_suffix(".html").as_posix()) for path in WRITTEN),
]  # fmt: skip
# What is wider than the room it has: the page itself, code, outputs, figures.
OVERFLOW = """() => [document.scrollingElement, ...document.querySelectorAll("article :is(pre, .output, figure, table)")]
    .filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.outerHTML.slice(0, 200))"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture(scope="module")
def site(html: Path) -> Iterator[str]:
    """The address of the site, served from this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(html)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def alone(page: Any, site: str, html: Path) -> Iterator[Any]:
    """The page, cut off from everything but the site; a request to anywhere else, or for what is not there, fails."""
    strays: list[str] = []
    ours = (site, html.as_uri(), "data:", "blob:")

    def guard(route: Any) -> None:
        if route.request.url.startswith(ours):
            route.continue_()
        else:
            strays.append(route.request.url)
            route.abort()

    page.route("**/*", guard)
    page.on("pageerror", lambda error: strays.append(str(error)))
    page.on("console", lambda line: strays.append(line.text) if line.type == "error" else None)
    page.on("response", lambda answer: strays.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    yield page
    assert not strays


def drawn(page: Any) -> int:
    """Waits until every live figure is drawn, and gives their number."""
    page.wait_for_load_state("load")
    page.wait_for_function("() => document.querySelectorAll('figure.live:not(.drawn)').length === 0")
    return int(page.locator("figure.live").count())


@pytest.mark.parametrize("name", PAGES)
def test_page(alone: Any, site: str, pictures: Path, name: str) -> None:
    alone.goto(f"{site}/{name}")
    drawn(alone)
    for figure in alone.locator("figure.live").all():
        box = figure.locator(".main-svg").first.bounding_box()
        assert box is not None
        assert box["width"] > 500
        assert box["height"] > 100
        lengths = figure.locator(".plot").evaluate(
            "node => node._fullData.map(d => (d.y ?? d.z ?? d.x ?? d.values ?? []).length)"
        )
        assert lengths, "the figure has traces"
        assert max(lengths) > 0, "and they have data"
        assert figure.locator("figcaption").inner_text().strip()
    for image in alone.locator("img").all():
        assert image.evaluate("node => node.decode().then(() => node.naturalWidth)") > 0
        assert (image.get_attribute("alt") or "").strip()
    if alone.locator(".math").count():
        alone.wait_for_function(
            "() => [...document.querySelectorAll('.math')].every(node => node.querySelector('mjx-container svg'))"
        )
        assert alone.locator("mjx-container [data-mml-node=merror]").count() == 0
        assert alone.locator("mjx-assistive-mml").count() > 0, "mathematics is read out by screen readers too"
    alone.screenshot(path=pictures / f"book_{Path(name).stem}.png", full_page=True)
    assert alone.evaluate(OVERFLOW) == []
    alone.set_viewport_size({"width": 400, "height": 900})  # and on a phone
    if alone.locator("figure.live").count():
        alone.reload()
    assert alone.evaluate(OVERFLOW) == []
    for figure in alone.locator("figure.live").all():
        assert figure.locator(".still").is_visible()
        assert figure.locator(".plot").inner_text() == "", "the picture is the better figure here"


def test_figures_and_answers_react_to_the_mouse(alone: Any, site: str, pictures: Path) -> None:
    alone.goto(f"{site}/notebooks/00_start_here.html")
    assert drawn(alone) == 3
    bars = alone.locator("figure.live").first
    bars.scroll_into_view_if_needed()
    box = bars.locator(".bars .point").first.bounding_box()
    alone.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    bars.locator(".hoverlayer .hovertext").first.wait_for()
    assert "ms" in bars.locator(".hoverlayer .hovertext").first.text_content()
    bars.screenshot(path=pictures / "book_hover.png")
    before = bars.locator(".main-svg").first.bounding_box()["width"]
    alone.set_viewport_size({"width": 500, "height": 900})
    alone.wait_for_function(
        "([node, old]) => node.getBoundingClientRect().width < old - 50",
        arg=[bars.locator(".main-svg").first.element_handle(), before],
    )
    assert bars.locator("figcaption").is_visible()

    answer = alone.get_by_text("There are more of them.")
    assert not answer.is_visible()
    alone.get_by_text("An answer", exact=True).click()
    assert answer.is_visible()


def test_a_figure_with_frames_plays(alone: Any, site: str) -> None:
    alone.goto(f"{site}/notebooks/02_two_ways_to_walk.html")
    drawn(alone)
    walks = alone.locator("figure.live").first
    state = "node => JSON.stringify([node.layout.sliders[0].active, node.data])"
    before = walks.locator(".plot").evaluate(state)
    walks.locator(".updatemenu-button").first.click()
    alone.wait_for_function(f"([node, old]) => ({state})(node) !== old",
                            arg=[walks.locator(".plot").element_handle(), before])  # fmt: skip


def test_search_works_without_a_server(alone: Any, html: Path) -> None:
    """Opened from a folder, as from a memory stick."""
    alone.goto(f"{html.as_uri()}/search.html?q=optimiser")
    alone.locator("#search-results").get_by_text("Start here").first.wait_for()
    alone.locator("#search-results").get_by_text(re.compile("search finished|found", re.IGNORECASE)).first.wait_for()
    alone.goto(f"{html.as_uri()}/notebooks/00_start_here.html")
    assert drawn(alone) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_follow_the_readers_colour_scheme(alone: Any, site: str, pictures: Path, scheme: str) -> None:
    alone.emulate_media(color_scheme=scheme)
    alone.goto(f"{site}/docs/how_it_works.html")
    assert alone.locator("html").get_attribute("data-theme") == scheme
    picture = alone.locator("img.picture")
    assert picture.evaluate("node => getComputedStyle(node).filter") == "none", "it has dark colours of its own"
    paper = alone.evaluate("() => getComputedStyle(document.body).backgroundColor")
    red = int(re.search(r"\d+", paper)[0])  # type: ignore[index]
    assert (red > 200) == (scheme == "light")
    alone.screenshot(path=pictures / f"book_how_it_works_{scheme}.png")
    alone.goto(f"{site}/notebooks/puzzles.html")
    bare = "node => [node, node.closest('.text_html')].map(one => getComputedStyle(one).backgroundColor)"
    for verdict in alone.locator("[role=status]").all() + alone.locator("img.still").all():
        assert set(verdict.evaluate(bare)) == {"rgba(0, 0, 0, 0)"}, "a verdict and its picture stand on the page itself"


def test_without_javascript_the_pictures_stay(page: Any, site: str) -> None:
    context = page.context.browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"{site}/notebooks/00_start_here.html")
    assert plain.locator("figure.live .still").first.is_visible()
    context.close()
