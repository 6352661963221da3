"""A figure without controls: it shows the numbers that it was given, and refuses those that no bar can show."""

from __future__ import annotations

import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Line, Panel, Sheet


def test_a_sheet_is_shown_with_its_words() -> None:
    made = explore.drawn(
        Sheet({"work": Panel([Line("work", [1, 2, 4], [5, 10, 20])])}), "Work grows.", "Steps to the right."
    )
    assert list(made.trace("work").y) == [5, 10, 20]
    assert "Work grows." in made.message.value
    assert made.describe() == "Steps to the right. Work grows."
    shown, _ = made._repr_mimebundle_()
    assert shown["text/plain"] == "Work grows."
    assert spread(made.picture()) > 0.03
    with pytest.raises(TypeError, match=r"^sheet must be a Sheet of panels, but got dict\.$"):
        explore.drawn({}, "")  # type: ignore[arg-type]


def test_bars_are_as_long_as_the_numbers() -> None:
    groups = {"kept": {"float32": 400, "bits": 12.5}, "moved": {"bits": 3.0}}
    made = explore.bars(groups, "bytes", "Bits are few.", log=True)
    assert list(made.trace("bars, kept").x) == [400, 12.5]
    assert list(made.trace("bars, kept").y) == ["float32", "bits"]
    colours = [made.trace(f"bars, {title}").marker.color for title in groups]
    assert colours[0][1] == colours[1][0] == style.TEAL, "a name has one colour"
    upper, lower = (made.figure.layout[f"yaxis{n}"].domain for n in ("", "2"))
    assert (upper[0] - lower[1]) * made.figure.layout.height > 60, "room for ticks, an axis' title and a panel's"
    assert spread(made.picture()) > 0.03


@pytest.mark.parametrize(
    ("groups", "log", "words"),
    [
        ({}, False, "at least one number in each panel"),
        ({"a": {}}, False, "at least one number in each panel"),
        ({"a": {"b": -1.0}}, False, "finite, non-negative numbers, but b, a is -1.0"),
        ({"a": {"b": 0.0}}, True, "finite, positive numbers, but b, a is 0.0"),
        ({"a": {"b": float("nan")}}, False, "b, a is nan"),
    ],
)
def test_what_no_bar_can_show_is_refused(groups: dict[str, dict[str, float]], log: bool, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explore.bars(groups, "ms", "", log=log)


def test_bars_without_panels_are_refused() -> None:
    with pytest.raises(TypeError, match=r"groups must have the numbers by name, by panel: .*, but got {'a': 1.0}"):
        explore.bars({"a": 1.0}, "ms", "")  # type: ignore[dict-item]
