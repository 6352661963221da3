"""Notebook 00 in JupyterLab, as a learner meets it: run all, move a slider, start, stop."""

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
    readout,
    run_all,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_start_here(page: Any, lab: Any, pictures: Any) -> None:
    open_notebook(page, lab.whole("00_start_here"))
    run_all(page)
    race = explorer(page, "neurons per layer")
    message(race).get_by_text(re.compile(r"times as (fast|slow)")).wait_for()
    page.get_by_text("torch.Size([16, 8, 10])").wait_for()  # the last cell has run

    race.scroll_into_view_if_needed()
    bars = drawn(race, "times")
    assert len(bars) == 3
    assert all(bar > 0 for bar in bars)
    as_wide_as_the_page(page, race)
    race.screenshot(path=pictures / "race.png")

    step(race, "time steps T", "ArrowLeft", presses=5)
    message(race).get_by_text("Three ways through 27 time steps").wait_for()
    assert drawn(race, "times") == [0, 0, 0], "a moved slider sends the bars back to the start"
    race.get_by_role("button", name="Start").click()
    message(race).get_by_text(re.compile(r"Fused runs 27 time steps.*times as")).wait_for()
    assert all(bar > 0 for bar in drawn(race, "times"))

    training = explorer(page, "hidden neuron shown")
    assert message(training).inner_text().startswith("fused: 138 batches")
    as_wide_as_the_page(page, training)
    page.mouse.move(0, 0)  # no bar of buttons over the figure
    training.screenshot(path=pictures / "training.png")
    before = drawn(training, "potential")
    assert len(before) == 32, "16 steps, each with a potential before and after the reset"
    x = training.locator(".js-plotly-plot").evaluate(f"node => Array.from({trace('potential')}.x)")
    assert x == [t for t in range(1, 17) for _ in range(2)], "the browser holds the time axis of the trace"
    step(training, "hidden neuron shown", "ArrowRight")
    changed(training, "potential", before)
    assert drawn(training, "potential") != before, "the slider shows another neuron"

    training.get_by_label("walk").select_option("step by step")
    for slider in ("epochs", "time steps T", "hidden neurons"):  # long enough to be stopped
        step(training, slider, "End")
    training.get_by_role("button", name="Start").click()
    message(training).get_by_text(re.compile(r"step by step: \d+ batches")).wait_for()
    stop(page, training)


def stop(page: Any, training: Any) -> None:
    """Presses Stop, and sees the training end early and stay there."""
    training.get_by_role("button", name="Stop").click()
    training.locator("button:has-text('Start'):not([disabled])").wait_for()
    batches = [int(re.findall(r"(\d+) batches", message(training).inner_text())[0])]
    page.wait_for_timeout(1_000)
    batches.append(int(re.findall(r"(\d+) batches", message(training).inner_text())[0]))
    assert batches[0] == batches[1] < 20 * 23


def test_stop_under_run_all(page: Any, lab: Any) -> None:
    """The cell is still running: the Stop button must be heard anyway, and the cells behind it must run."""
    training = "training = explore.training(walk='step by step', steps=64, hidden=512, epochs=20)\ntraining.show()"
    run = "(await training.run()).sentence()"
    open_notebook(page, lab.made("long_run", "from tfexplore import explore", training, run, "'after the run'"))
    run_all(page)
    training = explorer(page, "hidden neuron shown")
    message(training).get_by_text(re.compile(r"step by step: \d+ batches")).wait_for()
    step(training, "hidden neuron shown", "ArrowRight", presses=3)  # a slider is heard too, and not only once
    neuron = readout(training, "hidden neuron shown")
    wait_until(training, f"node._fullLayout.annotations[1].text.startsWith('<b>potential of neuron {neuron}<')")
    stop(page, training)
    page.locator(".jp-OutputArea-output").get_by_text("'after the run'").wait_for()
