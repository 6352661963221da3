"""Notebook 02 in JupyterLab: play a walk, move by keyboard, choose other walks and networks."""

from __future__ import annotations

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
    scroll_to,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


DONE = f"Array.from({trace('pieces')}.marker.color).filter(colour => colour !== '#eef2f6').length"


def done(found: Any) -> int:
    """How many pieces of work the browser shows as executed."""
    return int(found.locator(".js-plotly-plot").evaluate(f"node => {DONE}"))


def test_two_ways_to_walk(page: Any, lab: Any, pictures: Any) -> None:
    explorers = ("schedules = explore.", "recurrent = explore.", "feedback = explore.", "own = explore.")
    open_notebook(page, lab.small("02_two_ways_to_walk", "import numpy", *explorers))
    run_to_the_end(page)
    explorer(page, "Fused: nothing has run yet")
    scroll_to(page, 0)
    first = explorer(page, "network")
    message(first).get_by_text("nothing has run yet").wait_for()
    step(first, "pieces done", "End")
    message(first).get_by_text("Step by step: 40 pieces of work, 215 launches").wait_for()
    as_wide_as_the_page(page, first)
    assert len(drawn(first, "pieces")) == 40
    first.screenshot(path=pictures / "schedules.png")

    step(first, "pieces done", "Home")
    message(first).get_by_text("nothing has run yet").wait_for()
    wait_until(first, f"{DONE} === 0")
    step(first, "pieces done", "ArrowRight", presses=12)
    message(first).get_by_text("piece 12 of 40: 1 LIF, step 2").wait_for()
    wait_until(first, f"{DONE} === 12")
    arrow = first.locator(".js-plotly-plot").evaluate(f"node => Array.from({trace('needs')}.x).filter(x => x != null)")
    assert sorted(arrow) == pytest.approx([1.37, 1.63, 2, 2]), "from its own last step, and from the layer below"
    first.screenshot(path=pictures / "schedules_piece.png")

    play = first.locator(".widget-play button")
    listen(first)
    play.first.click()
    heard(first, "piece 1[5-9] of 40")
    play.first.click()  # pause
    stopped = int(readout(first, "pieces done"))  # the drawing follows
    wait_until(first, f"{DONE} === {stopped}")
    page.wait_for_timeout(1_000)
    assert 15 <= done(first) == stopped < 40, "paused"

    first.get_by_label("walk").select_option("fused")
    message(first).get_by_text("Fused: nothing has run yet").wait_for()
    wait_until(first, f"{trace('pieces')}.x.length === 5")
    first.screenshot(path=pictures / "schedules_fused.png")
    play.first.focus()
    play.first.press("Enter")
    heard(first, "piece [1-4] of 5")
    message(first).get_by_text("Fused: 5 pieces of work, 5 launches").wait_for()

    first.get_by_label("network").select_option("recurrent layer")
    first.locator("[role=alert]").get_by_text("The library refuses").wait_for()
    first.get_by_label("walk").select_option("step by step")
    wait_until(first, f"{trace('pieces')}.x.length === 48")
    step(first, "pieces done", "End")  # the browser's slider takes this for the end that it had when it was made
    step(first, "pieces done", "ArrowRight", presses=48 - 40)
    message(first).get_by_text("Step by step: 48 pieces").wait_for()
    step(first, "time steps T", "ArrowLeft", presses=3)
    wait_until(first, f"{trace('pieces')}.x.length === 30")
    message(first).get_by_text("nothing has run yet").wait_for()
    step(first, "pieces done", "End")
    message(first).get_by_text("Step by step: 30 pieces").wait_for()

    crosses = f"node => {trace('unmet')}.x.filter(t => t != null).length"
    for name, text, count in (
        ("recurrent", "piece 8 of 48", 0),
        ("feedback", "The library refuses", 7),
        ("own", "Fused: nothing has run yet", 0),
    ):
        for top in range(0, 12_000, 400):
            scroll_to(page, top)
            found = page.locator(".jp-OutputArea-output .widget-vbox").filter(has_text=text).last
            if found.count():
                break
        found.scroll_into_view_if_needed()
        if name == "feedback":
            step(found, "pieces done", "End")
            found.locator("[role=alert]").get_by_text("7 cells (×) needed").wait_for()
        as_wide_as_the_page(page, found)
        assert found.locator(".js-plotly-plot").evaluate(crosses) == count
        found.screenshot(path=pictures / f"schedules_{name}.png")
