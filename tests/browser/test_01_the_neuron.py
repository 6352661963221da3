"""Notebook 01 in JupyterLab: run all, change the current, the neuron and its reset, draw a current by keyboard."""

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
    readout,
    run_to_the_end,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CURRENT, POTENTIAL, TIMES, EXACT = "input current", "potential", "spike time", "exact"


def down_to(page: Any, said: str) -> Any:
    """Scrolls down until an explorer that says this is in view (JupyterLab draws what is), and gives it for good."""
    panel = page.locator(".jp-WindowedPanel-outer")
    every = page.locator(".jp-OutputArea-output .widget-vbox")
    for _ in range(100):
        for k, text in enumerate(every.all_inner_texts()):
            if said in text:
                every.nth(k).locator(".js-plotly-plot").wait_for()
                every.nth(k).scroll_into_view_if_needed()
                return every.nth(k)
        panel.evaluate("node => node.scrollBy(0, 400)")
        page.wait_for_timeout(100)
    raise AssertionError(f"no explorer says {said!r}")


def test_the_neuron(page: Any, lab: Any, pictures: Any) -> None:
    constant, own = "explore.neuron(neurons.LIF(tau=10.0), strength=0.15", "explore.neuron(Drip())"
    open_notebook(page, lab.small("01_the_neuron", "import numpy", constant, "class Drip", own))
    run_to_the_end(page)
    explorer(page, "parameter leak")  # that of the last cell
    page.locator(".jp-WindowedPanel-outer").evaluate("node => node.scrollTo(0, 0)")
    neuron = down_to(page, "18 spikes in 200 steps")
    as_wide_as_the_page(page, neuron)
    assert len(drawn(neuron, POTENTIAL)) == 400, "200 steps, each with a potential before and after the reset"
    neuron.screenshot(path=pictures / "neuron.png")

    step(neuron, "constant current x", "ArrowRight", presses=10)
    current = float(readout(neuron, "constant current x"))
    assert current > 0.2
    wait_until(neuron, f"Math.abs({trace(CURRENT)}.y[0] - {current}) < 1e-6")  # the last of the ten has come
    page.wait_for_function(
        "([box, k]) => box.querySelector('[role=status]')?.innerText.includes("
        "`${box.querySelector('.js-plotly-plot')._fullData.find(one => one.meta === k).y.length} spikes in 200 steps`)",
        arg=[neuron.element_handle(), TIMES],
    )
    spikes = len(drawn(neuron, TIMES))
    assert spikes > 18

    step(neuron, "time steps T", "ArrowRight", presses=30)
    message(neuron).get_by_text(re.compile("in 500 steps")).wait_for()
    wait_until(neuron, f"{trace(POTENTIAL)}.y.length === 1000")

    neuron.get_by_label("input current").select_option("drawn by hand")
    wait_until(neuron, f"{trace(CURRENT)}.y[0] == 0")  # the first part of the drawing
    knob = neuron.locator(".widget-vslider [role=slider], .widget-vslider .noUi-handle").first
    knob.focus()
    for _ in range(5):
        knob.press("ArrowUp")
    wait_until(neuron, f"{trace(CURRENT)}.y[0] > 0")
    neuron.screenshot(path=pictures / "neuron_by_hand.png")

    neuron.get_by_label("input current").select_option("noise")
    neuron.get_by_label("neuron", exact=True).select_option("Izhikevich")
    message(neuron).get_by_text("no exact rate").wait_for()
    wait_until(neuron, f"{trace(EXACT)}.y.length === 0")
    wanted = {"mean current": "10.0", "noise σ": "10.0", "reset potential": "−65", "parameter dt": "0.50"}
    for _ in range(20):  # every control hears of it by a message of its own
        shown = {label: readout(neuron, label) for label in wanted}
        if shown == wanted:
            break
        page.wait_for_timeout(250)
    assert shown == wanted
    neuron.screenshot(path=pictures / "neuron_izhikevich.png")
