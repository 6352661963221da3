"""Notebook 11 in JupyterLab: predictions made and checked, two explorers moved by keyboard, the page to hand in."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.driving import (
    as_wide_as_the_page,
    changed,
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


def test_questions(page: Any, lab: Any, pictures: Any) -> None:
    wanted = (
        "import itertools", "guess_10 = ", "events = ", "guess_10.check(", "unrolled = explore.", "guess_12 = ",
        "guess_12.check(", "regrouped = ", "def my_network", "page = explore.hand_in",
    )  # fmt: skip
    open_notebook(page, lab.small("11_questions", *wanted))
    run_to_the_end(page)
    fewer_rows(page, pictures)
    no_reset(page, pictures)
    hand_in(page, pictures)


def check(page: Any, question: str, options: tuple[str, str], guess: str) -> None:
    """Nothing chosen, then the wrong and the right option: `options`."""
    wrong, right = options
    page.get_by_text(f"You made no prediction. Measured: {right}.").wait_for()
    predict(page, question, wrong)
    checked = run_cell(page, f"{guess}.check(")
    checked.get_by_text(f"You predicted: {wrong}. Measured: {right}.").wait_for()
    predict(page, question, right)
    run_cell(page, f"{guess}.check(")
    checked.get_by_text(f"As you predicted: {right}.").wait_for()


def fewer_rows(page: Any, pictures: Any) -> None:
    found = explorer(page, "T times batch")
    as_wide_as_the_page(page, found)
    message(found).get_by_text("events need so many times the dense words from far: 25 with weights far").wait_for()
    assert len(drawn(found, "event-driven, weights far: trained")) == 2
    assert not drawn(found, "event-driven, weights near"), "a logarithmic axis has no nothing"
    found.screenshot(path=pictures / "event_driven.png")
    check(page, "64 images, 8 steps", ("fewer than", "more than five times"), "guess_10")

    dense = drawn(found, "dense")
    found.get_by_label("compared").select_option("energy, 45 nm")
    changed(found, "dense", dense)
    wait_until(found, f"{trace('event-driven, weights near')}.x.length > 0")
    step(found, "T times batch", "Home")
    assert readout(found, "T times batch") == "1"
    message(found).get_by_text(re.compile(r"0\.011 with weights near \(less at any rate\)")).wait_for()
    step(found, "T times batch", "ArrowRight", presses=3)
    step(found, "neurons per layer", "End")
    message(found).get_by_text(
        re.compile(r"\(less below a rate of 1\.0%\).*\(less below a rate of 39\.9%\)")
    ).wait_for()
    assert (readout(found, "T times batch"), readout(found, "neurons per layer")) == ("512", "8,192")


def no_reset(page: Any, pictures: Any) -> None:
    check(page, "the longest chain of operations is", ("half as long", "as long as in the loop"), "guess_12")
    found = explorer(page, "comparisons within each other")
    as_wide_as_the_page(page, found)
    message(found).get_by_text(re.compile("reset none, 16 steps: .* In pairs, 55 operations, 11 in a row")).wait_for()
    assert drawn(found, "substituted, in a row") == [3, 6, 12, 24, 48]
    assert drawn(found, "in pairs, in a row")[1:] == [5, 7, 9, 11]
    step(found, "time steps T", "ArrowRight")
    message(found).get_by_text(re.compile("32 steps: .*, 13 in a row")).wait_for()
    found.screenshot(path=pictures / "unrolling.png")
    found.get_by_label("reset", exact=True).focus()
    page.keyboard.press("Home")  # soft
    message(found).get_by_text(
        re.compile("reset soft, 32 steps: .* 224 of them in a row .* does not combine")
    ).wait_for()
    wait_until(found, f"{trace('in pairs, in a row')}.x.length === 0")
    assert drawn(found, "substituted, in a row") == [7, 14, 28, 56, 112, 224]


def hand_in(page: Any, pictures: Any) -> None:
    """Nothing predicted; then the names and numbers of a learner."""
    table = page.locator(".jp-OutputArea-output table").last
    table.scroll_into_view_if_needed()
    table.get_by_text("no prediction").first.wait_for()
    assert table.get_by_text("no prediction").count() == 3
    cell = page.locator(".jp-CodeCell").filter(has_text="def my_network")
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text('\npredictions, name = {"saved": 204_800, "moved": 9, "additions": 0.5}, "Ada"')
    page.keyboard.press("Control+Enter")
    handed = run_cell(page, "page = explore.hand_in")
    handed.get_by_text("Ada").wait_for()
    for row, verdict in (("bytes saved", "right"), ("words moved", "close"), ("additions", "times too much")):
        handed.get_by_role("row").filter(has_text=row).filter(has_text=verdict).wait_for()
    handed.screenshot(path=pictures / "hand_in.png")
