"""Notebook 07 in JupyterLab: the inverse played back by keyboard, and memory and twins stopped from the page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.driving import (
    as_wide_as_the_page,
    drawn,
    explorer,
    heard,
    listen,
    message,
    open_notebook,
    readout,
    run_to_the_end,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_reversible_time(page: Any, lab: Any, pictures: Any) -> None:
    inverse, memory, twins = "inverse = explore.", "memory = explore.", "twins = explore."
    open_notebook(page, lab.small("07_reversible_time", "import numpy", inverse, "exactness = ", memory, twins))
    run_to_the_end(page)
    walk_back(page, pictures)
    stop_memory(page, pictures)
    stop_twins(page, pictures)


def alarm(found: Any) -> Any:
    """What it says in red, where a comparison has flipped or a run is refused."""
    return found.locator("[role=alert]")


def walk_back(page: Any, pictures: Any) -> None:
    found = explorer(page, "steps back")
    as_wide_as_the_page(page, found)
    alarm(found).get_by_text(re.compile(r"23 steps back, .* [\d,]+ comparisons have flipped .* is off by")).wait_for()
    assert len(drawn(found, "found")) == len(drawn(found, "flips")) == 24
    found.screenshot(path=pictures / "inverse.png")

    step(found, "steps back", "Home")
    message(found).get_by_text("nothing has been inverted yet").wait_for()
    wait_until(found, f"{trace('found')}.x.length === 1")
    step(found, "steps back", "ArrowRight", presses=3)
    message(found).get_by_text("3 steps back, the states are off by").wait_for()
    message(found).get_by_text("no comparison has flipped, so the weights' gradients are still exact").wait_for()
    wait_until(found, f"{trace('level 1')}.x.length === 4")
    found.locator(".widget-play button").first.click()
    alarm(found).get_by_text("23 steps back").wait_for()
    wait_until(found, f"{trace('found')}.x.length === 24")

    step(found, "level shown", "ArrowRight")
    wait_until(found, "JSON.stringify(node.layout).includes('of level 1')")
    step(found, "α", "ArrowRight", presses=8)
    message(found).get_by_text("that of BPTT, bit for bit").wait_for()
    assert readout(found, "α") == "0.90"
    assert not any(drawn(found, "flips"))
    found.get_by_label("levels are seen").select_option("as numbers")
    message(found).get_by_text("is off by").wait_for()
    wait_until(found, f"{trace('fired')}.x.length === 0")
    wait_until(found, "node._fullLayout.shapes.find(one => one.name === 'threshold').visible === false")
    found.screenshot(path=pictures / "inverse_numbers.png")


def stop_memory(page: Any, pictures: Any) -> None:
    found = explorer(page, "memory shown")
    as_wide_as_the_page(page, found)
    message(found).get_by_text("Press Start to measure").wait_for()
    assert len(drawn(found, "BPTT: predicted")) == 4
    step(found, "largest T", "End")
    wait_until(found, f"{trace('BPTT: predicted')}.x.length === 7")
    listen(found)
    found.get_by_role("button", name="Start").click()
    heard(found, r"at T = 10 BPTT holds")
    found.get_by_role("button", name="Stop").click()
    found.locator("button:not([disabled])", has_text="Start").wait_for()
    points = drawn(found, "BPTT")
    assert 2 <= len(points) < 7, "what was measured before stays"
    found.get_by_label("memory shown").select_option("saved for backward")
    message(found).get_by_text("of what cuts it, SLTT holds the least").wait_for()
    wait_until(found, f"{trace('BPTT')}.y[0] < {points[0]}")
    wait_until(found, f"{trace('SLTT')}.hovertext[0].includes('cosine')")
    found.screenshot(path=pictures / "memory_over_time.png")


def stop_twins(page: Any, pictures: Any) -> None:
    found = explorer(page, "second one keeps")
    as_wide_as_the_page(page, found)
    message(found).get_by_text("Press Start to train").wait_for()
    step(found, "time steps T", "Home")
    step(found, "epochs", "End")
    listen(found)
    found.get_by_role("button", name="Start").click()
    heard(found, r"A training step of T = 4 holds .* pairs? of losses")
    found.get_by_role("button", name="Stop").click()
    found.locator("button:not([disabled])", has_text="Resume").wait_for()
    bptt, other = drawn(found, "losses, BPTT"), drawn(found, "losses, other")
    assert len(bptt) == len(other) > 0
    assert other[:2] == pytest.approx(bptt[:2], abs=1e-4)
    found.get_by_role("button", name="Resume").click()
    wait_until(found, f"{trace('losses, BPTT')}.x.length > {len(bptt)}")
    found.get_by_role("button", name="Stop").click()
    found.locator("button:not([disabled])", has_text="Start").wait_for()
    found.screenshot(path=pictures / "twins.png")

    found.get_by_label("second one keeps").select_option("the last states only")
    message(found).get_by_text("Press Start to train").wait_for()
    step(found, "time steps T", "End")
    found.get_by_role("button", name="Start").click()
    alarm(found).get_by_text(re.compile("keep='last' would give wrong gradients: .* loses 13 of 24 bits")).wait_for()
    found.locator("button:not([disabled])", has_text="Start").wait_for()
