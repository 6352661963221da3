"""Notebook 06 in JupyterLab: real processes from the page, Stop, Start again, and the plan by keyboard."""

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
    run_to_the_end,
    scroll_to,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def found(page: Any, title: str, nth: int = 0) -> Any:
    for top in range(0, 14_000, 400):
        scroll_to(page, top)
        seen = page.locator(".jp-OutputArea-output .widget-vbox").filter(has_text=title)
        if seen.count() > nth:
            seen.nth(nth).scroll_into_view_if_needed()
            seen.nth(nth).locator(".js-plotly-plot").wait_for()
            return seen.nth(nth)
    raise AssertionError(f"no explorer with {title!r}")


def test_split_time(page: Any, lab: Any, pictures: Any) -> None:
    open_notebook(
        page, lab.small("06_split_time", "import numpy", "run = explore.", "await run.run()", "plan = explore.")
    )
    run_to_the_end(page)
    scroll_to(page, 0)
    run = explorer(page, "processes P")
    message(run).get_by_text(re.compile(r"3 processes: .* Planned: .* of what was measured")).wait_for()
    as_wide_as_the_page(page, run)
    assert len(drawn(run, "forward")) >= 12, "3 processes, 4 layers"
    assert len(drawn(run, "planned forward")) == 12, "and the plan below"
    run.screenshot(path=pictures / "split_run.png")

    step(run, "processes P", "ArrowLeft")
    message(run).get_by_text("Press Start").wait_for()
    wait_until(run, f"{trace('forward')}.x.length === 0")
    step(run, "micro-batches", "ArrowRight", presses=3)
    step(run, "time steps T", "End")  # a browser that stands still for a moment would miss shorter ones
    listen(run)
    run.get_by_role("button", name="Start").click()
    heard(run, r"2 processes: .* \(median of [1-4]\)")  # five are quick; to look for it now and then would miss it
    run.get_by_role("button", name="Stop").click(force=True)  # forced: it may be done, and Stop grey
    run.locator("button:not([disabled])", has_text="Start").wait_for()
    assert len(drawn(run, "planned forward")) == 2 * 4 * 4
    run.screenshot(path=pictures / "split_run_micro_batches.png")

    plan = found(page, "devices P")
    as_wide_as_the_page(page, plan)
    message(plan).get_by_text("4 devices: ").wait_for()
    assert len(drawn(plan, "forward")) == 4 * 8
    plan.screenshot(path=pictures / "split_plan.png")
    step(plan, "devices P", "ArrowRight", presses=4)
    message(plan).get_by_text("8 devices: ").wait_for()
    wait_until(plan, f"{trace('forward')}.x.length === 8 * 8")
    step(plan, "batch", "Home")
    message(plan).get_by_text("a batch of 1 for 8 devices").wait_for()
    step(plan, "time steps T", "End")
    plan.get_by_label("normalisation").select_option("BatchNorm, a barrier")
    message(plan).get_by_text("8 devices: ").wait_for()
    page.wait_for_timeout(500)
    plan.screenshot(path=pictures / "split_plan_barrier.png")
