"""Notebook 10 in JupyterLab: a tree played round by round, spikes guessed, and a prediction made before its answer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.driving import (
    as_wide_as_the_page,
    drawn,
    explorer,
    message,
    open_notebook,
    predict,
    readout,
    run_cell,
    run_to_the_end,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_parallel_in_time(page: Any, lab: Any, pictures: Any) -> None:
    wanted = (
        "import numpy",
        "tree = explore.",
        "guess = explore.",
        "fixed = explore.",
        "guess.check(",
        "scan_map = explore.",
    )
    open_notebook(page, lab.small("10_parallel_in_time", *wanted))
    run_to_the_end(page)
    play_the_tree(page, pictures)
    guess_the_rounds(page, pictures)
    other_ways(page, pictures)
    measure_a_point(page, pictures)


def play_the_tree(page: Any, pictures: Any) -> None:
    found = explorer(page, "rounds done")
    as_wide_as_the_page(page, found)
    message(found).get_by_text(
        "Tree scan, done after 9 rounds: 57 operations, 9 of them on the longest chain."
    ).wait_for()
    assert not found.locator(".widget-hslider").filter(has_text="steps of a chunk").is_visible()
    assert len(drawn(found, "ran")) == 57

    step(found, "rounds done", "Home")
    message(found).get_by_text(re.compile("^Tree scan: nothing has run yet")).wait_for()
    wait_until(found, f"{trace('ran')}.x.length === 0")
    step(found, "rounds done", "ArrowRight", presses=3)
    message(found).get_by_text("Round 3 of 9, up, over 4: 4 of 32 steps are final; 28 operations").wait_for()
    wait_until(found, f"{trace('ran')}.x.length === 16 + 8 + 4")
    assert sum(drawn(found, "ran")[:16]) == 0, "the first round"
    found.screenshot(path=pictures / "scan_tree.png")
    found.locator(".widget-play button").first.click()
    wait_until(found, f"{trace('ran')}.x.length === 57")
    assert readout(found, "rounds done") == "9"


def guess_the_rounds(page: Any, pictures: Any) -> None:
    """The check says "no prediction" after Run All, and what was chosen after a click and Ctrl+Enter."""
    page.get_by_text("You made no prediction. Measured: about twice the spikes.").wait_for()
    predict(page, "How many rounds of guessing", "about log2(32) = 5")
    checked = run_cell(page, "guess.check(")
    checked.get_by_text("You predicted: about log2(32) = 5. Measured: about twice the spikes.").wait_for()
    checked.get_by_text("7 spikes, 14 rounds").wait_for()
    checked.screenshot(path=pictures / "prediction.png")
    predict(page, "How many rounds of guessing", "about twice the spikes")
    run_cell(page, "guess.check(").get_by_text("As you predicted: about twice the spikes.").wait_for()


def other_ways(page: Any, pictures: Any) -> None:
    """On the tree's explorer: guesses with a reset, and chunks with a slider of their own."""
    found = explorer(page, "rounds done")
    chunk = found.locator(".widget-hslider").filter(has_text="steps of a chunk")
    found.get_by_label("way over time").select_option("fixed point")
    message(found).get_by_text("Fixed point, done after 14 rounds: 798 operations, 126 of them").wait_for()
    found.get_by_label("reset", exact=True).wait_for()
    assert not chunk.is_visible()
    wait_until(found, f"{trace('spikes')}.x.length === 7")
    assert len(drawn(found, "ran")) + len(drawn(found, "in vain")) == 14 * 32
    found.screenshot(path=pictures / "fixed_point.png")
    step(found, "rounds done", "ArrowLeft")
    message(found).get_by_text("Round 13 of 14, guess 13: 31 of 32 steps are final").wait_for()
    step(found, "input current", "Home")
    message(found).get_by_text("Fixed point, done after 1 round:").wait_for()
    wait_until(found, f"{trace('spikes')}.x.length === 0")

    found.get_by_label("way over time").select_option("chunked scan")
    chunk.wait_for()
    found.get_by_label("reset", exact=True).wait_for(state="hidden")
    message(found).get_by_text("Chunked scan, done after 17 rounds: 52 operations").wait_for()
    step(found, "steps of a chunk", "ArrowLeft", presses=4)
    message(found).get_by_text("Chunked scan, done after 13 rounds: 52 operations").wait_for()
    assert readout(found, "steps of a chunk") == "4"
    found.screenshot(path=pictures / "chunked_scan.png")


def measure_a_point(page: Any, pictures: Any) -> None:
    """A star of this machine's own, where T and N were chosen by keyboard."""
    found = explorer(page, "neurons N")
    as_wide_as_the_page(page, found)
    own = "node._fullData.filter(one => one.meta.startsWith('own: ') && one.x?.length)"
    wait_until(found, f"{own}.length === 0")
    step(found, "time steps T", "Home")
    step(found, "neurons N", "ArrowRight")
    message(found).get_by_text(re.compile("N = 2 and T = 16")).wait_for()
    found.get_by_role("button", name="Start").click()
    wait_until(found, f"{own}.length === 1")
    message(found).get_by_text("measured here now").wait_for()
    found.locator("button:not([disabled])", has_text="Start").wait_for()
    found.screenshot(path=pictures / "scan_map.png")
