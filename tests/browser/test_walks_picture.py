"""The picture of the three walks in Chromium: it counts what was recorded, stands still for who prefers it, and is legible."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import QUIET
from tools import walks as tool

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PICTURE = (ROOT / "docs" / "walks.svg").as_uri()

# What each panel shows when `seconds` of the loop have passed; without them, as it is drawn. A line is `pitch` high.
SEEN = """([seconds, pitch]) => {
  if (seconds !== null) for (const motion of document.getAnimations()) { motion.pause(); motion.currentTime = 1000 * seconds }
  const placed = element => new DOMMatrix(getComputedStyle(element).transform)
  return [0, 1, 2].map(k => {
    const panel = document.querySelector('.w' + k)
    const numbers = [...panel.querySelectorAll('.strip')].map(strip => {
      const numbers = strip.querySelector('use') ? document.querySelector('#n') : strip
      return numbers.querySelectorAll('tspan')[Math.round(-placed(strip).f / pitch)].textContent
    })
    const grown = kind => [...panel.querySelectorAll(kind)].map(bar => placed(bar).a)
    return {numbers, bars: grown('.bar'), meters: grown('.meter'), check: getComputedStyle(panel.querySelector('.check')).opacity}
  })
}"""

# The boxes of all words that are shown; of a counter, of its last number.
WORDS = """() => [...document.querySelectorAll('text')].filter(text => !text.closest('defs') && text.getClientRects().length)
  .map(text => [...text.querySelectorAll('tspan')].at(-1) ?? text).map(text => {
    const {left, right, top, bottom} = text.getBoundingClientRect()
    return [text.textContent, left, right, top, bottom]
  })"""


@pytest.fixture(scope="module")
def walks() -> list[Any]:
    return tool.walks()


@contextmanager
def opened(browser: Any, address: str, width: int = 900, **reader: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": width, "height": 560}, **reader)
    page = context.new_page()
    try:
        page.goto(address)
        yield page
    finally:
        context.close()


def is_of(tick: int, panels: list[Any], walks: list[Any]) -> None:
    """What the panels show is what had run after so many launches: both counters, the whole bars, and the check mark."""
    for walk, panel in zip(walks, panels, strict=True):
        ended = sum(end <= tick for end in walk.ends)
        words = walk.words[ended - 1] if ended else 0
        assert panel["numbers"] == [f"{min(tick, walk.ends[-1]):,}", f"{words:,}"]
        assert sum(part == 1 for part in panel["bars"]) == min(ended, len(walk.pieces))
        assert panel["meters"] == pytest.approx([min(1, tick / walk.ends[-1]), words / walk.words[-1]], abs=0.05)
        assert (panel["check"] != "0") == (tick >= walk.ends[-1])


@pytest.mark.parametrize("tick", [0, 1, 3, 5, 27, 100, 153, 216, 217, 240])
def test_it_counts_what_was_recorded(chromium: Any, walks: list[Any], tick: int) -> None:
    with opened(chromium, PICTURE) as page:
        is_of(tick, page.evaluate(SEEN, [tool.TICK * (tool.LEAD + tick + 0.2), tool.LINE]), walks)


def test_the_still_is_a_moment_of_the_record(chromium: Any, walks: list[Any]) -> None:
    with opened(chromium, PICTURE, reduced_motion="reduce") as page:
        assert page.evaluate("document.getAnimations().length") == 0
        is_of(tool.STILL, page.evaluate(SEEN, [None, tool.LINE]), walks)


@pytest.mark.parametrize("moves", [True, False], ids=["moves", "stands still"])
def test_as_an_image_it_follows_the_readers_preference(
    chromium: Any, require: Callable[..., str], tmp_path: Path, moves: bool
) -> None:
    """The preference that Playwright emulates does not reach into an <img>; the system's does, and this option, which sets it."""
    readme = tmp_path / "readme.html"
    readme.write_text(f'<img src="{PICTURE}" style="max-width: 100%">', encoding="utf-8")
    program = require("chromium", "chromium-browser", "google-chrome", why="to show the picture")
    options = [] if moves else ["--force-prefers-reduced-motion"]
    browser = chromium.browser_type.launch(executable_path=program, args=[*QUIET, *options])
    try:
        with opened(browser, readme.as_uri()) as page:
            page.wait_for_function("document.images[0].naturalWidth > 0")
            shots = []
            for _ in range(2):
                page.wait_for_timeout(1_500)
                shots.append(page.screenshot())
    finally:
        browser.close()
    assert (shots[0] != shots[1]) == moves


def test_it_has_paper_and_ink_for_both_schemes(chromium: Any) -> None:
    def bright(page: Any, what: str) -> float:
        colour = page.evaluate("what => getComputedStyle(document.querySelector(what)).fill", what)
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")[:3])) / (3 * 255)

    for scheme, light_paper in (("light", True), ("dark", False)):
        with opened(chromium, PICTURE, color_scheme=scheme) as page:
            for words in (".title", ".sub", ".name", ".layer", ".unit"):
                paper, ink = bright(page, ".card"), bright(page, words)
                assert (paper > ink) == light_paper
                assert abs(paper - ink) > 0.45, f"{words} on {scheme} paper"


@pytest.mark.parametrize("width", [1440, 900, 400])
def test_no_words_overlap(chromium: Any, width: int) -> None:
    """At the end of the loop, when the numbers are longest; the narrow picture has larger and fewer words."""
    with opened(chromium, PICTURE, width) as page:
        page.evaluate(SEEN, [tool.TICK * (tool.LEAD + 230), tool.LINE])
        words = page.evaluate(WORDS)
        card = page.evaluate("(({left, right, top, bottom}) => [left, right, top, bottom])"
                             "(document.querySelector('.card').getBoundingClientRect())")  # fmt: skip
        height = page.evaluate("parseFloat(getComputedStyle(document.querySelector('.unit')).fontSize)")
    assert len(words) > 15
    for (one, *a), (other, *b) in itertools.combinations(words, 2):
        room = 4  # that a box has above its letters
        apart = a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] + room or b[3] <= a[2] + room
        assert apart, f"{one!r} and {other!r} overlap"
    for one, left, right, top, bottom in words:
        assert card[0] <= left < right <= card[1], one
        assert card[2] <= top < bottom <= card[3], one
    assert height * min(1, width / 1088) > 10, "pixels of a letter's height on the page"


@pytest.mark.slow
def test_a_notebook_shows_it(page: Any, lab: Any, pictures: Path) -> None:
    """In JupyterLab's Markdown, which passes only what it trusts."""
    page.goto(lab.whole("02_two_ways_to_walk"))
    image = page.locator(".jp-MarkdownOutput img[alt*='five launches']")
    image.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth === 1088", arg=image.element_handle())
    page.wait_for_timeout(500)
    before = image.screenshot()
    page.wait_for_timeout(1_500)
    assert image.screenshot(path=pictures / "walks.png") != before, "it moves"
