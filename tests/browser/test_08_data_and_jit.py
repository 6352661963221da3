"""Notebook 08 in JupyterLab: bytes chosen by keyboard, the data path at another length, speech stopped and listened to."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.driving import (
    as_wide_as_the_page,
    changed,
    drawn,
    explorer,
    heard,
    listen,
    message,
    open_notebook,
    run_to_the_end,
    step,
    trace,
    wait_until,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_data_and_jit(page: Any, lab: Any, pictures: Any) -> None:
    bits, path, speech, whole = "bits = explore.", "path = explore.", "speech = explore.", "step = explore."
    open_notebook(page, lab.small("08_data_and_jit", "import numpy", bits, path, speech, whole))
    run_to_the_end(page)
    look_at_bytes(page, pictures)
    follow_the_bytes(page, pictures)
    stop_speech(page, pictures)
    time_the_step(page, pictures)


def look_at_bytes(page: Any, pictures: Any) -> None:
    found = explorer(page, "packed along")
    as_wide_as_the_page(page, found)
    message(found).get_by_text("Neuron 0, steps 0 to 7: 64 + 16 + 8 + 4 = 92.").wait_for()
    assert drawn(found, "kept") == [960, 240, 36]
    step(found, "row", "ArrowRight", presses=3)
    step(found, "byte", "End")
    message(found).get_by_text("Neuron 3, steps 16 to 19: 64.").wait_for()
    wait_until(found, f"{trace('this byte')}.base[0] === 15.5 && {trace('this byte')}.y[0] === 3")
    found.get_by_label("first value is").select_option("the lowest bit")
    message(found).get_by_text("Neuron 3, steps 16 to 19: 2.").wait_for()

    found.get_by_label("packed along").select_option("neurons")
    message(found).get_by_text(
        "960 bytes as float32 are 40 packed: 1/24 of them. Each row has 4 unused bits."
    ).wait_for()
    found.get_by_label("values").select_option("up to 3: 2 bits")
    wait_until(found, f"{trace('kept')}.y[2] === 60")
    found.screenshot(path=pictures / "bits.png")


def follow_the_bytes(page: Any, pictures: Any) -> None:
    found = explorer(page, "batch")
    as_wide_as_the_page(page, found)
    floats, bits = drawn(found, "float32"), drawn(found, "bits")
    assert floats[2:] == [32 * few for few in bits[2:]]
    step(found, "batch", "End")
    changed(found, "bits", bits, "x")
    assert drawn(found, "bits")[:2] == bits[:2]
    assert drawn(found, "bits")[2:] == [4 * few for few in bits[2:]]
    step(found, "time steps T", "ArrowLeft", presses=2)
    message(found).get_by_text(re.compile("samples of 20 steps of 64 neurons: .* 1/25.6 of it")).wait_for()
    message(found).get_by_text("its weight's gradient has the same bits").wait_for()
    found.screenshot(path=pictures / "data_path.png")


def stop_speech(page: Any, pictures: Any) -> None:
    found = explorer(page, "test utterance shown")
    as_wide_as_the_page(page, found)
    message(found).get_by_text("Press Start to train; each utterance ends at its own length.").wait_for()
    step(found, "epochs", "End")
    listen(found)
    found.get_by_role("button", name="Start").click()
    heard(found, r"\d+ batches in .* of the test utterances are right")
    found.get_by_role("button", name="Stop").click()
    found.locator("button:not([disabled])", has_text="Resume").wait_for()
    losses, accuracies = drawn(found, "loss"), drawn(found, "accuracy")
    assert len(losses) == 9 * len(accuracies) < 9 * 200
    assert accuracies[-1] > 0.5

    step(found, "test utterance shown", "ArrowRight")
    message(found).get_by_text(re.compile(r"Utterance 1: \d+ of 29 steps are speech, by speaker 1")).wait_for()
    end = "node._fullLayout.shapes.find(one => one.name === 'end, spikes').x0"
    wait_until(found, f"{trace('spikes')}.x.length && {trace('spikes')}.x.every(step => step < {end})")
    assert drawn(found, "loss")[: len(losses)] == losses, "what was learned stays"
    found.screenshot(path=pictures / "speech.png")
    found.get_by_role("checkbox").uncheck()
    message(found).get_by_text("Press Start to train; the padding counts as speech.").wait_for()
    wait_until(found, f"{trace('loss')}.x.length === 0")


def time_the_step(page: Any, pictures: Any) -> None:
    found = explorer(page, "torch.compile too")
    as_wide_as_the_page(page, found)
    message(found).get_by_text("Press Start").wait_for()
    step(found, "time steps T", "Home")
    found.get_by_role("button", name="Start").click()
    message(found).get_by_text(
        re.compile(r"ms a step as it stands; .* ms captured, which takes .* s before and")
    ).wait_for()
    found.locator("button:not([disabled])", has_text="Start").wait_for()  # it is over in a second
    eager, captured = drawn(found, "steps")
    assert eager > 0 < captured
    assert len(drawn(found, "as it stands")) == len(drawn(found, "captured")) > 100
    found.screenshot(path=pictures / "whole_step.png")
