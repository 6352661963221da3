"""Notebook 03 in JupyterLab: step through the kernel by keyboard, play it, choose another one."""

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


def marks(found: Any, array: str) -> list[list[int]]:
    """The cells of one array as the browser holds them: 0 untouched, 1 touched before, 2 read, 3 written."""
    values = found.locator(".js-plotly-plot").evaluate(f"node => {trace(array)}.z.map(row => Array.from(row))")
    assert isinstance(values, list)
    return values


def test_inside_the_kernel(page: Any, lab: Any, pictures: Any) -> None:
    shown = ("explore.sources(neurons.LIF", "stepper = explore.kernel", "back = explore.kernel")
    measured = (line for name in ("roof", "speed", "cost") for line in (f"{name} = explore.", f"await {name}.run()"))
    open_notebook(page, lab.small("03_inside_the_kernel", "import numpy as np\n\nfrom tfexplore", *shown, *measured))
    run_to_the_end(page)
    stepper = explorer(page, "micro-step")
    stepper.scroll_into_view_if_needed()
    as_wide_as_the_page(page, stepper)
    message(stepper).get_by_text("t = 2: the threads read 8 words of x").wait_for()
    assert [row[0] for row in marks(stepper, "x")] == [1, 1, 2, 0, 0, 0]
    stepper.screenshot(path=pictures / "kernel_forward.png")

    step(stepper, "micro-step", "ArrowRight", presses=3)  # fire, reset, write the spikes
    message(stepper).get_by_text("t = 2: the threads write 8 words of out").wait_for()
    wait_until(stepper, f"{trace('out')}.z[2][0] === 3")
    assert [row[7] for row in marks(stepper, "out")] == [1, 1, 3, 0, 0, 0]
    assert "▶" in stepper.locator("pre").inner_text()

    stepper.locator(".widget-play button").first.click()
    wait_until(stepper, f"{trace('out')}.z[3][0] >= 1")  # the next spike was written
    stepper.locator(".widget-play button").first.click()  # pause
    message(stepper).get_by_text(f"Micro-step {readout(stepper, 'micro-step')} of").wait_for()  # the last one arrives
    said = message(stepper).inner_text()
    page.wait_for_timeout(1_500)
    assert message(stepper).inner_text() == said, "it stands still"

    stepper.get_by_label("kernel", exact=True).select_option("backward")
    message(stepper).get_by_text("words of g_out").wait_for()
    wait_until(stepper, f"{trace('g_out')}?.visible")
    assert len(marks(stepper, "g_out")) == 6
    stepper.get_by_label("neuron", exact=True).select_option("ALIF")
    step(stepper, "time steps T", "ArrowRight", presses=6)
    wait_until(stepper, f"{trace('kept')}.z.length === 24")  # two values kept per step
    stepper.scroll_into_view_if_needed()
    stepper.screenshot(path=pictures / "kernel_backward_alif.png")

    back = page.locator(".jp-OutputArea-output .widget-vbox").filter(has_text="micro-step").filter(
        has_text="kernels/backward.py, run as plain Python").last  # fmt: skip
    back.scroll_into_view_if_needed()
    back.screenshot(path=pictures / "kernel_backward.png")
    code = page.locator(".jp-RenderedHTMLCommon").filter(has_text="generated from the equations").first
    code.scroll_into_view_if_needed()
    assert code.locator("mjx-container").count() == 1, "the equations are typeset"
    code.screenshot(path=pictures / "kernel_sources.png")
    measured_parts(page, pictures)


def measured_parts(page: Any, pictures: Any) -> None:
    """Roofline, speed curves, compile cost: they ran under Run All, and start again by hand."""
    roofline = explorer(page, "dtype")
    message(roofline).get_by_text(re.compile("reaches .* of this machine's copy bandwidth")).wait_for()
    as_wide_as_the_page(page, roofline)
    assert len(drawn(roofline, "memory roof (copy)")) == 2, "the memory's roof"
    roofline.screenshot(path=pictures / "kernel_roofline.png")

    speed = explorer(page, "grows to the right")
    message(speed).get_by_text(re.compile("Fused is .* at T = 1, and .* at T = 64")).wait_for()
    as_wide_as_the_page(page, speed)
    assert [len(drawn(speed, way)) for way in ("step by step", "layer by layer", "fused")] == [7, 7, 7]
    speed.screenshot(path=pictures / "kernel_speed.png")
    speed.get_by_label("passes").select_option("forward")
    message(speed).get_by_text("Press Start").wait_for()
    wait_until(speed, f"{trace('fused')}.y.length === 0")
    speed.get_by_role("button", name="Start").click()
    # a browser that has no time of its own may come to see the end alone
    message(speed).get_by_text(re.compile("[1-7] of 7 points measured|Fused is .* at T = 1")).wait_for()
    speed.get_by_role("button", name="Stop").click(
        force=True
    )  # forced: a fast machine is done before, and Stop is grey
    speed.locator("button:has-text('Start'):not([disabled])").wait_for()

    cost = explorer(page, "Compiling is paid once")
    message(cost).get_by_text("The first call ever of LIF").wait_for()
    as_wide_as_the_page(page, cost)
    assert len(drawn(cost, "times")) == 6
    cost.screenshot(path=pictures / "kernel_compile_cost.png")
