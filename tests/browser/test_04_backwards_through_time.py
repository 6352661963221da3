"""Notebook 04 in JupyterLab: the gradient's heat map follows its sliders and boxes, memory is predicted and counted."""

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
    run_to_the_end,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def heat(found: Any) -> list[list[float | None]]:
    """The colours of the heat map, as the browser holds them."""
    rows = found.locator(".js-plotly-plot").evaluate(
        f"node => Array.from({trace('gradient')}.z, row => Array.from(row))"
    )
    assert isinstance(rows, list)
    return rows


def test_backwards_through_time(page: Any, lab: Any, pictures: Any) -> None:
    explorers = (
        "slopes = explore.surrogate",
        "follow = explore.",
        "await follow",
        "memory = explore.memory",
        "await memory.run()",
    )
    open_notebook(page, lab.small("04_backwards_through_time", "import math", *explorers))
    run_to_the_end(page)

    surrogate = explorer(page, "detach reset")
    message(surrogate).get_by_text("reaches back 20 steps").wait_for()
    as_wide_as_the_page(page, surrogate)
    rows = heat(surrogate)
    assert (len(rows), len(rows[0])) == (24, 100)
    assert all(cell is not None for row in rows for cell in row)
    surrogate.screenshot(path=pictures / "surrogate.png")

    step(surrogate, "time constant τ", "ArrowRight", presses=6)
    message(surrogate).get_by_text("reaches back 34 steps").wait_for()
    assert heat(surrogate) != rows
    surrogate.get_by_label("surrogate", exact=True).select_option("Rectangle")
    message(surrogate).get_by_text(re.compile(r"[1-9]\d* of 24 neurons get none")).wait_for()
    step(surrogate, "width of the surrogate", "ArrowLeft", presses=10)
    message(surrogate).get_by_text("11 of 24 neurons get none").wait_for()
    rows = heat(surrogate)
    assert any(all(cell is None for cell in row) for row in rows), "a dead neuron's row is grey from end to end"
    slope = drawn(surrogate, "surrogate")
    assert max(slope) == pytest.approx(2)
    surrogate.screenshot(path=pictures / "surrogate_rectangle.png")
    surrogate.get_by_label("detach reset").uncheck()
    changed(surrogate, "gradient", rows, "z")
    step(surrogate, "time steps T", "End")
    wait_until(surrogate, f"{trace('gradient')}.x.length === 125 && node._fullLayout.xaxis2.range[1] === 500.5")
    surrogate.screenshot(path=pictures / "surrogate_long.png")

    follow = explorer(page, "curve to follow")
    message(follow).get_by_text(
        re.compile(r"After 300 rounds the potential is 0\.0\d+ away from the curve; 0 spikes")
    ).wait_for()
    as_wide_as_the_page(page, follow)
    potential = drawn(follow, "potential")
    assert max(abs(h - r) for h, r in zip(potential, drawn(follow, "target"), strict=True)) < 0.1
    follow.screenshot(path=pictures / "follow.png")
    follow.get_by_label("the loss looks at").select_option("the last step")
    message(follow).get_by_text("Press Start").wait_for()
    changed(follow, "potential", potential)
    follow.get_by_role("button", name="Start").click()
    message(follow).get_by_text(re.compile("After 300 rounds")).wait_for()
    follow.locator("button:has-text('Start'):not([disabled])").wait_for()
    assert len(drawn(follow, "loss looks")) == 1
    follow.screenshot(path=pictures / "follow_last_step.png")

    memory = explorer(page, "number format")
    memory.scroll_into_view_if_needed()
    message(memory).get_by_text("the neurons keep 4.062 and move 20.25 bytes").wait_for()
    as_wide_as_the_page(page, memory)
    assert drawn(memory, "counted kept")[2:] == [4, 4.0625, 0]
    assert drawn(memory, "predicted kept")[2:] == [4, 4.0625, 0]
    memory.screenshot(path=pictures / "memory.png")
    memory.get_by_label("number format").select_option("bfloat16")
    message(memory).get_by_text("predicted to keep 2.062 and move 10.25 bytes").wait_for()
    memory.get_by_role("button", name="Start").click()
    message(memory).get_by_text("the neurons keep 2.062 and move 10.25 bytes").wait_for()
    memory.locator("button:has-text('Start'):not([disabled])").wait_for()
    memory.get_by_label("way shown").select_option("fused, keep bits")
    message(memory).get_by_text(
        "not exact for the LIF of 'neurons1': its backward pass needs the value of u"
    ).wait_for()
    memory.get_by_label("surrogate").select_option("Rectangle")
    message(memory).get_by_text("predicted to keep 0.125 and move 8.25 bytes").wait_for()
    memory.get_by_role("button", name="Start").click()
    message(memory).get_by_text("the neurons keep 0.125 and move 8.25 bytes").wait_for()
    memory.locator("button:has-text('Start'):not([disabled])").wait_for()
    assert drawn(memory, "counted kept")[2:] == [4, 2.0625, 0.125, 0]
    memory.screenshot(path=pictures / "memory_bits.png")
    memory.get_by_label("way shown").select_option("fused, keep input")
    memory.get_by_label("neuron", exact=True).select_option("Izhikevich")
    step(memory, "neurons per layer", "End")
    step(memory, "time steps T", "End")
    message(memory).get_by_text("T = 512, 8,000 neurons: predicted").wait_for()
    memory.get_by_role("button", name="Start").click()
    memory.get_by_role("button", name="Stop").click()
    memory.locator("button:has-text('Start'):not([disabled])").wait_for()
    assert "predicted" in message(memory).inner_text() or "Counting" in message(memory).inner_text()
    page.screenshot(path=pictures / "memory_page.png")
