"""The page to hand in: its counts by arithmetic, its verdicts, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tfexplore import LIF, FoldTime, explore
from tfexplore.explore.hand_in.page import Page


def test_counts_are_those_of_the_equations() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), LIF(v_threshold=0.2), nn.Linear(9, 4), LIF(v_threshold=0.1), nn.Linear(4, 3))
    x = torch.rand(16, 5, 6)
    page = explore.hand_in(net, x, name="Ada", saved=4160, moved=10.5)
    with torch.no_grad():
        first = net[1](net[0](x))
        second = net[3](net[2](first))
    assert page.counted["saved"] == 4 * 16 * 5 * (9 + 4), "keep='input' saves x"
    assert page.counted["moved"] == pytest.approx(5)
    events = float(first.sum()) * 4 + float(second.sum()) * 3
    assert page.counted["additions"] == pytest.approx(events / (first.numel() * 4 + second.numel() * 3))
    assert [page.verdict(key) for key in page.counted] == ["right", "2.1 times too much", "no prediction"]
    text = page.markdown.splitlines()
    assert text[0].startswith("**Ada**: Linear(in_features=6, out_features=9, bias=True), LIF(")
    assert text[0].endswith("x [16, 5, 6]")
    assert text[4] == "| bytes saved for backward by the neurons | 4,160 | 4,160 | right |"
    assert page._repr_markdown_() == str(page) == page.markdown


def test_a_convolution_counts_its_window() -> None:
    net = nn.Sequential(LIF(v_threshold=0.4), FoldTime(nn.Conv2d(2, 3, 3, padding=1)))
    x = torch.rand(4, 2, 2, 5, 5)
    with torch.no_grad():
        rate = float(net[0](x).mean())
    assert explore.hand_in(net, x).counted["additions"] == pytest.approx(rate)


@pytest.mark.parametrize(
    ("guess", "count", "said"),
    [
        (1.04, 1.0, "right"), (0.6, 1.0, "close"), (0.1, 1.0, "10 times too little"), (0.0, 0.0, "right"), (1.0, 0.0, "off"),
        (None, 1.0, "no prediction"),
    ],
)  # fmt: skip
def test_verdicts(guess: float | None, count: float, said: str) -> None:
    assert Page("", "", {"saved": guess}, {"saved": count}).verdict("saved") == said


def test_what_it_refuses() -> None:
    x = torch.rand(4, 2, 6)
    with pytest.raises(ValueError, match="net has no layer of neurons"):
        explore.hand_in(nn.Linear(6, 2), x)
    with pytest.raises(ValueError, match="no linear layer or convolution behind a layer of neurons"):
        explore.hand_in(nn.Sequential(nn.Linear(6, 2), LIF()), x)
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, but got str"):
        explore.hand_in("mlp", x)  # type: ignore[arg-type]
    net = nn.Sequential(LIF(), nn.Linear(6, 2))
    for guess in (-1.0, float("nan"), "320"):
        with pytest.raises(ValueError, match=f"moved must be a finite number from 0 on, but got {guess!r}"):
            explore.hand_in(net, x, moved=guess)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x must have at least one sample and one feature, but got shape \(4, 0, 6\)"):
        explore.hand_in(net, x[:, :0])
