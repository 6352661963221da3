"""The explorers in Notebook 7, the other front end: the same widgets, another page around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.driving import drawn, explorer, message, open_notebook, run_all, step
from tests.browser.lab import running

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """One of its own: jupyter_server remembers a file by its name alone (`FileFindHandler._static_paths`), and refuses one
    front end a font that the other has asked for."""
    with running(tmp_path) as lab:
        yield lab


def test_notebook_7(page: Any, lab: Any, pictures: Any) -> None:
    open_notebook(page, lab.whole("00_start_here", "notebooks"))
    run_all(page)
    race = explorer(page, "neurons per layer")
    message(race).get_by_text(re.compile(r"times as (fast|slow)")).wait_for()
    page.get_by_text("torch.Size([16, 8, 10])").wait_for()  # the last cell has run
    race.scroll_into_view_if_needed()
    assert all(bar > 0 for bar in drawn(race, "times"))
    step(race, "time steps T", "PageUp")  # the arrows move between cells here, even when a slider has the focus
    message(race).get_by_text("Three ways through 37 time steps").wait_for()
    race.get_by_role("button", name="Start").click()
    message(race).get_by_text(re.compile(r"Fused runs 37 time steps.*times as")).wait_for()
    assert all(bar > 0 for bar in drawn(race, "times"))
    race.screenshot(path=pictures / "notebook7.png")
