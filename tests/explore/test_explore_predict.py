"""A prediction before an experiment."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")
pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")

from tfexplore import explore


def test_what_was_predicted_stands_beside_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    guess = explore.predict("Twice the steps?", ["the same time", "twice the time"])
    assert guess.answer is None
    said = []
    for answer in (None, "the same time", "twice the time"):
        guess.answer = answer
        guess.check("twice the time")
        said.append(capsys.readouterr().out.strip())
    assert said == [
        "You made no prediction. Measured: twice the time.",
        "You predicted: the same time. Measured: twice the time.",
        "As you predicted: twice the time.",
    ]


def test_choosing_in_the_browser_is_setting_it_in_python() -> None:
    guess = explore.predict("Twice the steps?", ["the same time", "twice the time"])
    guess.controls["answer"].index = 1
    assert guess.answer == "twice the time"
    data = guess._repr_mimebundle_()
    assert data["text/plain"] == "Predict first: Twice the steps?\n  ( ) the same time\n  ( ) twice the time"
    assert "application/vnd.jupyter.widget-view+json" in data


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"^options must be at least two different answers, but got \['a', 'a'\]\.$"):
        explore.predict("Which?", ["a", "a"])
    guess = explore.predict("Which?", ["a", "b"])
    with pytest.raises(ValueError, match=r"^answer must be one of 'a', 'b', but got 'c'\.$"):
        guess.answer = "c"
    with pytest.raises(ValueError, match=r"^measured must be one of 'a', 'b', but got 'c'\.$"):
        guess.check("c")
