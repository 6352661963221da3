"""Notebook 09 in JupyterLab: a graph in longer steps until it is refused, and two libraries told apart by keyboard."""

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
    run_to_the_end,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_exchange(page: Any, lab: Any, pictures: Any) -> None:
    open_notebook(page, lab.small("09_exchange", "import tempfile", "network = explore.", "conventions = explore."))
    run_to_the_end(page)
    lengthen_the_step(page, pictures)
    compare_libraries(page, pictures)


def lengthen_the_step(page: Any, pictures: Any) -> None:
    found = explorer(page, "a step takes")
    as_wide_as_the_page(page, found)
    message(found).get_by_text(
        "Node 'hidden', neuron 0, in steps of 1 ms: 16 spikes; nearly continuous time has 17"
    ).wait_for()
    assert [len(drawn(found, mark)) for mark in ("steps", "fired", "fired, fine")] == [160, 16, 17]
    step(found, "neuron shown", "ArrowRight")
    message(found).get_by_text("neuron 1, in steps of 1 ms: 3 spikes; nearly continuous time has 1").wait_for()
    found.screenshot(path=pictures / "nir.png")

    step(found, "a step takes", "End")
    alarm = found.locator("[role=alert]")
    alarm.get_by_text("an Euler step would overshoot; take a shorter dt, or leak='exact'").wait_for()
    assert readout(found, "a step takes") == "8 ms"
    wait_until(found, f"{trace('steps')}.x.length === 0")
    found.get_by_label("leak").select_option(label="exact: 1 − exp(−dt / τ)")
    message(found).get_by_text("neuron 1, in steps of 8 ms").wait_for()
    wait_until(found, f"{trace('steps')}.x.length === 20")
    step(found, "neuron shown", "Home")
    message(found).get_by_text("neuron 0, in steps of 8 ms: 8 spikes; nearly continuous time has 21").wait_for()

    hidden = drawn(found, "spikes")
    found.get_by_label("neurons").select_option("classes")
    changed(found, "spikes", hidden)
    wait_until(found, f"{trace('nodes')}.text.includes('classes<br>LIF, 4')")
    assert max(drawn(found, "spikes")) == 3


def compare_libraries(page: Any, pictures: Any) -> None:
    found = explorer(page, "compared with")
    as_wide_as_the_page(page, found)
    message(found).get_by_text("44 spikes; exact has 6: other spikes from step 1 on.").wait_for()
    assert len(drawn(found, "snntorch")) == 44
    found.get_by_role("checkbox").check()
    message(found).get_by_text("6 spikes; exact has 6: other spikes from step 4 on.").wait_for()
    found.get_by_label("library").select_option("Spyx")
    found.get_by_label("compared with").select_option("snnTorch")
    message(found).get_by_text(
        "Spyx: adds the whole input, not dt/τ of it; fires on the potential before the input"
    ).wait_for()
    late, early = (
        found.locator(".js-plotly-plot").evaluate(f"node => Array.from({trace(name)}.x)")
        for name in ("spyx", "snntorch")
    )
    assert late == [fired + 1 for fired in early]
    found.screenshot(path=pictures / "conventions.png")

    found.get_by_label("library").select_option("Norse")
    found.get_by_label("compared with").select_option("SpikingJelly")
    found.get_by_label("current", exact=True).select_option("constant")
    step(found, "time step", "End")
    step(found, "strength of the current", "ArrowRight", presses=10)
    message(found).get_by_text(re.compile("10 spikes; SpikingJelly has 20: other spikes from step 1 on")).wait_for()
    assert readout(found, "strength of the current") == "4.00"
