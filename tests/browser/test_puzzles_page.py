"""The notebook of puzzles in JupyterLab: a learner writes an answer, runs it, and reads what the check says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.driving import open_notebook, run_all

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DEMO = 1  # the notebook's own example of `charge` comes first


def answer(page: Any, name: str, lines: list[str]) -> Any:
    """Types the function into the cell of its stub, runs it and its check, and gives the check's cell."""
    stub = page.locator(".jp-CodeCell").filter(has_text=re.compile(rf"def {name}\(.*your turn", re.DOTALL)).first
    stub.scroll_into_view_if_needed()
    stub.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    stub = page.locator(".jp-CodeCell.jp-mod-active")
    for line in lines:  # the editor indents by itself
        page.keyboard.insert_text(line)
        page.keyboard.press("Enter")
        page.keyboard.press("Home")
        page.keyboard.press("Shift+End")
    page.keyboard.press("Delete")
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    check = page.locator(".jp-CodeCell").filter(has_text=f'puzzles.check("{name}", {name})')
    return check.nth(DEMO) if check.count() > 1 else check.first


def said(check: Any, words: str) -> str:
    """Waits until the check says this, and has its picture beside it; gives all it says."""
    status = check.locator("[role=status]").filter(has_text=words)
    status.wait_for()
    check.locator("img").wait_for()  # JupyterLab drops its alternative text; the sentence stands beside it
    text = status.inner_text()
    assert isinstance(text, str)
    return text


def test_puzzles(page: Any, lab: Any, pictures: Any) -> None:
    open_notebook(page, lab.whole("puzzles"))
    run_all(page)
    score = page.locator(".jp-CodeCell").filter(has_text="puzzles.progress()").first
    page.wait_for_timeout(3_000)  # the cells above come into view and are laid out
    score.scroll_into_view_if_needed()
    said(score, "0 of 31 puzzles solved")

    check = answer(page, "charge", ["def charge(v, x, tau):", "    return v - v / tau + x"])
    assert said(check, "Right").endswith("Right: 3 cases agree.")
    check.screenshot(path=pictures / "puzzle_right.png")

    check = answer(page, "fire", ["def fire(h, v_threshold):", "    return np.where(h > v_threshold, 1, 0)"])
    assert "1 of 8 values differs, at i = 4" in said(check, "Wrong")
    check.screenshot(path=pictures / "puzzle_wrong.png")

    check = answer(page, "soft_reset", ["def soft_reset(h, s, v_threshold):", "    return h - s * threshold"])
    text = said(check, "Crashed")
    assert "at the line return h - s * threshold: name 'threshold' is not defined" in text  # from the cell itself

    endless = ["def hard_reset(h, s, v_reset):", "    while True:", "        h = h - s"]
    check = answer(page, "hard_reset", endless)
    assert "it was still running when time was up" in said(check, "Not finished")

    loop = [
        "def fuse_the_loop(x, h, out, tau, v_threshold):",
        "    v = 0 * np.zeros(x.shape[1])",
        "    for t in range(len(x)):",
        "        h[t] = v - v / tau + x[t]",
        "        out[t] = np.where(h[t] >= v_threshold, 1.0, 0.0)",
        "        v = h[t] - out[t] * v_threshold",
    ]
    check = answer(page, "fuse_the_loop", loop)
    assert "6 words per element-step where 2 are enough" in said(check, "Right, but too much traffic")
    check.screenshot(path=pictures / "puzzle_traffic.png")

    score.scroll_into_view_if_needed()
    score.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    said(score, "1 of 31 puzzles solved. Right, but with too much traffic: fuse_the_loop.")
    score.screenshot(path=pictures / "puzzle_score.png")
