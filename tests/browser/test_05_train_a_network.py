"""Notebook 05 in JupyterLab: a training is stopped, looked into and resumed; the seeds of both ways are compared."""

from __future__ import annotations

import math
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
    run_to_the_end,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOSS, POTENTIAL, RATE, RATE_BEFORE = "loss", "potential", "rate", "rate before"


def test_train_a_network(page: Any, lab: Any, pictures: Any) -> None:
    needed = (
        "import numpy",
        "data = (x_train",
        "x = currents(",
        "def my_network",
        "training = explore.",
        "await training.run()",
    )
    needed += ("seeds = explore.", "await seeds.run()", "norms = explore.breakdown(")
    open_notebook(page, lab.small("05_train_a_network", *needed))
    run_to_the_end(page)
    training = in_view(page, "hidden neuron shown")
    message(training).get_by_text(re.compile(r"fused: 92 batches in .* classified correctly")).wait_for()
    look_at_the_training(page, training, pictures)
    stop_and_resume(page, training)
    seeds = in_view(page, "precision")
    message(seeds).get_by_text(re.compile("207 pairs of losses")).wait_for()
    compare_seeds(page, seeds, pictures)
    batch_norm_disappears(page, in_view(page, "BatchNorm"), pictures)


def in_view(page: Any, title: str) -> Any:
    """The explorer, scrolled to: JupyterLab draws only the cells in view."""
    found = page.locator(".jp-OutputArea-output .widget-vbox").filter(has_text=title).first
    found.evaluate("node => node.scrollIntoView()")
    return explorer(page, title)


def look_at_the_training(page: Any, training: Any, pictures: Any) -> None:
    training.scroll_into_view_if_needed()
    as_wide_as_the_page(page, training)
    assert len(drawn(training, LOSS)) == 92
    rates, before = (
        training.locator(".js-plotly-plot").evaluate(f"node => Array.from({trace(mark)}.x)")
        for mark in (RATE, RATE_BEFORE)
    )
    assert len(rates) == len(before) == 2
    assert all(0 < old < new < 1 for old, new in zip(before, rates, strict=True))
    potential = drawn(training, POTENTIAL)
    assert len(potential) == 16, "8 steps, each with a potential before and after the reset"
    training.screenshot(path=pictures / "train_a_network.png")
    step(training, "hidden neuron shown", "ArrowRight", presses=2)
    step(training, "example shown", "ArrowRight", presses=3)
    changed(training, POTENTIAL, potential)
    potential = drawn(training, POTENTIAL)
    training.get_by_label("hidden layer shown").select_option("1")
    changed(training, POTENTIAL, potential)
    training.screenshot(path=pictures / "train_a_network_layer1.png")


def stop_and_resume(page: Any, training: Any) -> None:
    """Step by step, which is slow: a quick training might be over before Stop is pressed, and Stop grey."""
    training.get_by_label("walk").select_option("step by step")
    message(training).get_by_text("Press Start to train").wait_for()
    step(training, "epochs", "End")
    training.get_by_role("button", name="Start").click()
    message(training).get_by_text(re.compile(r"\d+ batches")).wait_for()  # a busy machine may not have done one yet
    training.get_by_role("button", name="Stop").click()
    training.locator("button:has-text('Resume'):not([disabled])").wait_for()
    seen = batches(training)
    page.wait_for_timeout(700)
    assert batches(training) == seen < 20 * 23
    training.get_by_role("button", name="Resume").click()
    wait_until(training, f"{trace(LOSS)}.y.length > {seen} + 5")
    training.get_by_role("button", name="Stop").click()
    training.locator("button:has-text('Start'):not([disabled])").wait_for()
    step(training, "threshold", "ArrowRight")  # another network: nothing is left to resume
    message(training).get_by_text("Press Start to train").wait_for()
    assert training.get_by_role("button", name="Resume").is_disabled()
    assert drawn(training, LOSS) == []


def compare_seeds(page: Any, seeds: Any, pictures: Any) -> None:
    seeds.scroll_into_view_if_needed()
    as_wide_as_the_page(page, seeds)
    means = [drawn(seeds, f"{walk}: mean losses") for walk in ("step by step", "fused")]
    assert len(means[0]) == len(means[1]) == 69, "the means of both walks"
    seeds.screenshot(path=pictures / "seeds.png")
    step(seeds, "seeds", "Home")
    step(seeds, "epochs", "Home")
    seeds.get_by_label("precision").select_option("float64")
    message(seeds).get_by_text("Press Start to train both ways").wait_for()
    assert [y for y in drawn(seeds, "step by step: losses") if y is not None] == []
    seeds.get_by_role("button", name="Start").click()
    message(seeds).get_by_text(re.compile("23 pairs of losses in float64")).wait_for()
    assert len(drawn(seeds, "step by step: mean losses")) == 23
    assert all(y < 1e-10 for y in drawn(seeds, "difference") if not math.isnan(y))
    seeds.screenshot(path=pictures / "seeds_float64.png")


def batch_norm_disappears(page: Any, breakdown: Any, pictures: Any) -> None:
    """Into the neurons' part, on an axis that stays."""
    as_wide_as_the_page(page, breakdown)
    message(breakdown).get_by_text("Of what is left BatchNorm takes").wait_for()
    before, longest = drawn(breakdown, "BatchNorm"), axis(breakdown)
    assert before[0] == before[1] > 0
    breakdown.screenshot(path=pictures / "breakdown.png")
    breakdown.get_by_label("BatchNorm").select_option("in the kernel")
    message(breakdown).get_by_text("fused into one kernel, BatchNorm and neurons take").wait_for()
    wait_until(breakdown, f"{trace('BatchNorm')}.x[1] === 0")
    assert drawn(breakdown, "BatchNorm") == [before[0], 0]
    assert axis(breakdown) == longest
    breakdown.screenshot(path=pictures / "breakdown_in_the_kernel.png")
    breakdown.get_by_label("BatchNorm").select_option("none")
    wait_until(breakdown, f"{trace('BatchNorm')}.x[0] === 0")


def axis(found: Any) -> Any:
    return found.locator(".js-plotly-plot").evaluate("node => node._fullLayout.xaxis.range")


def batches(training: Any) -> int:
    return int(re.findall(r"(\d+) batches", message(training).inner_text())[0])
