"""The schedules explorer: what it draws is what ran, and what it reports against hand-written loops."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")
import tfexplore
from tests.pictures import spread
from tfexplore import FoldTime, Recurrent, explore
from tfexplore.data import currents
from tfexplore.explore.base.plotly_sheet import trace
from tfexplore.explore.base.style import DONE, WAITING
from tfexplore.explore.schedules.figure import NOW
from tfexplore.explore.schedules.walks import BATCH, WALKS, Loop, check, example, example_input, grid
from tfexplore.nn import routes


def said(made: Any) -> str:
    return str(made._said)


def to_the_end(made: Any) -> Any:
    made.controls["piece"].value = made.controls["piece"].max
    return made


def stages(made: Any) -> list[int]:
    return [(WAITING, DONE, NOW).index(colour) for colour in made.trace("pieces").marker.color]


def bars(figure: Any) -> list[tuple[int, int, int]]:
    """(row, first, last) of each bar, read off the figure."""
    bar = trace(figure, "pieces")
    return [
        (int(y), round(base + 0.5 - 0.13), round(base + 0.5 - 0.13 + x + 0.26))
        for y, base, x in zip(bar.y, bar.base, bar.x, strict=True)
    ]


COLUMNS = [(row, t, t + 1) for t in range(8) for row in range(5)]
LIF_ROWS = [[(row, t, t + 1) for t in range(8)] for row in (1, 3)]
ROWS = [(0, 0, 8), *LIF_ROWS[0], (2, 0, 8), *LIF_ROWS[1], (4, 0, 8)]
FUSED = [(row, 0, 8) for row in range(5)]


@pytest.mark.parametrize(("walk", "expected"), [(WALKS[0], COLUMNS), (WALKS[1], ROWS), (WALKS[2], FUSED)])
def test_the_bars_are_the_order_of_the_walk(walk: str, expected: list[tuple[int, int, int]]) -> None:
    made = explore.schedules(walk=walk)
    assert bars(made.figure) == expected
    assert list(made.trace("pieces").text) == [str(k + 1) for k in range(len(expected))]
    made = explore.schedules()
    made.controls["walk"].value = walk
    assert bars(made.figure) == expected
    assert made.controls["piece"].value == 0
    assert made.controls["piece"].max == made.controls["play"].max == len(expected)
    assert bars(made.page()) == expected


def test_moving_the_player_colours_the_cells_and_counts() -> None:
    made = explore.schedules()
    events = made.result.walks["step by step"].pieces
    made.controls["piece"].value = 12  # LIF, step 2: after two columns of five
    assert stages(made) == [1] * 11 + [2] + [0] * 28
    launches, words = (sum(getattr(e, what) for e in events[:12]) for what in ("launches", "words"))
    assert f"piece 12 of 40: 1 LIF, step 2. So far {launches:,} launches, {words:,} words" in said(made)
    assert [list(made.trace(f"{what} now").y) for what in ("launches", "words")] == [[launches], [words]]
    assert list(made.trace("launches now").x) == [12]
    made.controls["piece"].value = 0
    assert stages(made) == [0] * 40
    assert "nothing has run yet" in said(made)


def test_the_arrows_are_the_layer_below_and_the_own_last_step() -> None:
    made = explore.schedules()
    assert set(made.shown.pieces[11].needs) == {((0, 2), (1, 2)), ((1, 1), (1, 2))}
    assert set(made.shown.pieces[12].needs) == {((1, 2), (2, 2))}
    made.controls["piece"].value = 12
    arrow = made.trace("needs")
    assert sorted(v for v in arrow.x if v is not None) == pytest.approx([1.37, 1.63, 2, 2])
    assert sorted(v for v in arrow.y if v is not None) == pytest.approx([0.28, 0.72, 1, 1])
    fused = made.result.walks["fused"].pieces[1]
    assert set(fused.needs) == {((0, t), (1, t)) for t in range(8)}, "its own past is inside of the piece"


def test_counts_worked_out_here() -> None:
    walks = explore.schedules(steps=5).result.walks
    batch, sizes = BATCH, (16, 32, 32, 10)
    once = sum(batch * (a + b) for a, b in itertools.pairwise(sizes)) * 5
    weights = sum(a * b + b for a, b in itertools.pairwise(sizes))
    linear = {name: sum(p.words for p in walk.pieces if p.row in (0, 2, 4)) for name, walk in walks.items()}
    assert linear == {"step by step": once + 5 * weights, "layer by layer": once + weights, "fused": once + weights}
    neurons = batch * 32
    lif = {name: sum(p.words for p in walk.pieces if p.row in (1, 3)) for name, walk in walks.items()}
    assert lif["fused"] == 2 * (2 * 5 * neurons)  # two words
    # 21 words a step and 4 parameters; at the end stacked: 2 words a step, and the state. The first step reads one initial
    # state for all neurons, twice
    first = 2 * (neurons - 1)
    assert lif["layer by layer"] == 2 * (21 * 5 * neurons - first + 4 * 5 + 2 * 5 * neurons + 2 * neurons)
    assert {name: walk.launches for name, walk in walks.items()} == {
        # the state is stacked before each step but the first, and after each; in the end, the result
        "step by step": 5 * 3 + 2 * (5 * (9 + 1 + 2) - 1) + 1,
        "layer by layer": 3 + 2 * (5 * 9 + 2),
        "fused": 3 + 2 * 1,
    }


def test_all_walks_of_the_feed_forward_network_agree() -> None:
    walks = explore.schedules().result.walks
    assert torch.equal(walks["layer by layer"].out, walks["fused"].out)
    assert torch.allclose(walks["step by step"].out, walks["fused"].out, rtol=0, atol=1e-12)
    assert not any(walk.unmet or walk.refusal for walk in walks.values())
    assert walks["fused"].verdict().startswith("The result is that of step by step")


def loop_of(kind: str, x: torch.Tensor, stale: bool) -> torch.Tensor:
    """The networks with feedback as one plain loop over time; `stale`: what is fed back is always zero."""
    net = example(kind)
    parameters = dict(net.named_parameters())
    names = {"recurrent layer": ("0", "1.back", "2", "4"), "feedback": ("0", "1.back", "1.body.1", "2")}[kind]
    (w1, wb, w2, w3) = (parameters[f"{name}.weight"] for name in names)
    b1, b2, b3 = (parameters[f"{name}.bias"] for name in (names[0], *names[2:]))
    v1 = v2 = s1 = s2 = torch.zeros(x.shape[1], 32, dtype=x.dtype)
    outs = []
    for x_t in x:
        back = (s1 if kind == "recurrent layer" else s2) @ wb.T
        h = v1 - v1 / 2 + x_t @ w1.T + b1 + (0 if stale else back)
        s1 = (h >= 1).to(x.dtype)
        v1 = h - s1
        h = v2 - v2 / 2 + s1 @ w2.T + b2
        s2 = (h >= 1).to(x.dtype)
        v2 = h - s2
        outs.append(s2 @ w3.T + b3)
    return torch.stack(outs).detach()


@pytest.mark.parametrize("kind", ["recurrent layer", "feedback"])
def test_feedback_breaks_layer_by_layer(kind: str) -> None:
    made = explore.schedules(network=kind, walk="layer by layer")
    walks = made.result.walks
    x = example_input(8)
    right, stale = loop_of(kind, x, stale=False), loop_of(kind, x, stale=True)
    torch.testing.assert_close(walks["step by step"].out, right, rtol=0, atol=1e-10)
    torch.testing.assert_close(walks["layer by layer"].out, stale, rtol=0, atol=1e-10)
    torch.testing.assert_close(walks["fused"].out, stale, rtol=0, atol=1e-10)
    back = made.result.rows.index("1.back")
    assert "The library refuses it: '1' feeds its spikes back" in said(made), "before anything has run"
    to_the_end(made)
    assert walks["layer by layer"].unmet == {(back, t) for t in range(1, 8)}
    assert walks["step by step"].unmet == set()
    differ = int((right - stale).abs().gt(1e-9).sum())
    assert f"{differ:,} of 2,560 outputs differ" in said(made)
    assert "The library refuses: '1' feeds its spikes back" in said(made)
    assert 'role="alert"' in made.message.value
    assert list(made.trace("unmet").x) == list(range(1, 8))
    assert set(made.trace("unmet").y) == {back}
    assert list(made.trace("unmet needs").marker.symbol).count("arrow") == 7
    made.controls["piece"].value = 1  # before the row `back`
    assert list(made.trace("unmet").x) == []
    made.controls["walk"].value = "step by step"
    assert 'role="status"' in made.message.value
    assert list(made.trace("unmet").x) == []


def test_the_loop_is_the_librarys_recurrent_when_walked_step_by_step() -> None:
    torch.manual_seed(0)
    layer, back = tfexplore.LIF(), nn.Linear(6, 6, bias=False)
    x = torch.rand(9, 3, 6)
    with torch.no_grad():
        expected = Recurrent(layer, back)(x)
        assert expected.sum() > 5
        assert torch.equal(tfexplore.step_by_step(Loop(layer, back), x), expected)


def test_more_steps_and_another_network_draw_another_grid() -> None:
    made = explore.schedules()
    made.controls["steps"].value = 3
    assert len(bars(made.figure)) == 15
    assert made.figure.layout.xaxis.range == (-0.6, 2.6)
    made.controls["network"].value = "feedback"
    assert made.figure.layout.yaxis.ticktext[1] == "1.back Linear"
    assert len(bars(made.figure)) == 18
    assert len(made.trace("pieces").text) == len(made.trace("pieces").hovertext) == 18
    assert repr(made) == "Schedules(network='feedback', walk='step by step', steps=3, piece=0, play=0)"


def test_pictures_follow_the_player() -> None:
    made = explore.schedules(walk="layer by layer", network="feedback")
    whole = made.picture()
    assert spread(whole) > 0.05
    made.controls["piece"].value = 3
    assert made.picture() != whole
    made.controls["piece"].value = 0
    assert spread(made.picture()) > 0.05


def test_the_page_plays_without_a_kernel() -> None:
    page = explore.schedules(walk="layer by layer").page()
    assert len(page.frames) == 20
    assert [sum(colour != WAITING for colour in frame.data[0].marker.color) for frame in page.frames] == list(range(20))
    assert page.data[page.frames[3].traces[0]].meta == "pieces"
    assert [button.label for button in page.layout.updatemenus[0].buttons] == ["▶ play", "pause"]
    many = explore.schedules(nn.Sequential(nn.Linear(2, 2), tfexplore.LIF()), torch.rand(100, 1, 2), steps=90).page()
    assert len(many.frames) <= 82
    assert many.frames[-1].name == "180"


def test_a_network_of_ones_own() -> None:
    net = nn.Sequential(
        FoldTime(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        tfexplore.ALIF(),
        nn.Flatten(2),
        Recurrent(tfexplore.LIF(), nn.Linear(8, 8)),
        nn.Linear(8, 3),
    ).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.rand(5, 2, 1, 4, 4)
    made = to_the_end(explore.schedules(net, x, walk="fused"))
    assert "network" not in made.controls
    assert made.result.kinds == ("FoldTime", "ALIF", "Recurrent", "Linear")
    assert made.controls["steps"].max == 5
    assert bars(made.figure) == [(0, 0, 5), (1, 0, 5), *((2, t, t + 1) for t in range(5)), (3, 0, 5)]
    assert "The library refuses: '3' feeds its spikes back" in said(made)
    assert not made.shown.unmet, "Recurrent steps inside: refused, but right"
    assert torch.allclose(made.shown.out, net(x), atol=1e-5)
    made.controls["steps"].value = 2
    assert made.result.steps == 2
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert net[1].backend == "auto"


def test_batch_norm_in_training_is_refused_the_other_way_round() -> None:
    net = nn.Sequential(FoldTime(nn.Linear(4, 6), nn.BatchNorm1d(6)), tfexplore.LIF(v_threshold=0.3))
    made = to_the_end(explore.schedules(net, torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(0))))
    assert "The library refuses: '0.1' is a BatchNorm in training mode" in said(made)
    made.controls["walk"].value = "layer by layer"
    assert "refuses" not in said(made)
    to_the_end(made)
    assert "outputs differ from step by step" in said(made)
    assert net[0][1].num_batches_tracked == 0, "a copy was walked"


def test_where_nothing_can_be_fused_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from tfexplore.backends import Choice

    net = nn.Sequential(nn.Linear(4, 4), tfexplore.LIF())
    for module in ("tfexplore.backends", "tfexplore.explore.schedules.explorer"):
        monkeypatch.setattr(sys.modules[module], "choose", lambda *_: Choice("torch", "no fused backend runs here"))
    routes.cached_kernel.cache_clear()
    try:
        assert "Nothing was fused here (no fused backend runs here)" in said(
            to_the_end(explore.schedules(net, torch.rand(3, 2, 4), walk="fused"))
        )
    finally:
        routes.cached_kernel.cache_clear()


def test_errors_name_what_came_and_what_to_do() -> None:
    net, x = nn.Sequential(nn.Linear(4, 4), tfexplore.LIF()), torch.rand(3, 2, 4)
    with pytest.raises(TypeError, match="net is missing"):
        explore.schedules(x=x)
    with pytest.raises(TypeError, match="x is missing"):
        explore.schedules(net)
    with pytest.raises(TypeError, match=r"net must be a torch.nn.Module, but got function"):
        explore.schedules(lambda x: x, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x must be a tensor"):
        explore.schedules(net, np.zeros((3, 2, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="with time first, but got shape"):
        explore.schedules(net, torch.rand(4))
    with pytest.raises(ValueError, match="at least one time step"):
        explore.schedules(net, x[:0])
    with pytest.raises(ValueError, match=r"does not run on x of shape \(4, 3, 2\).*time first"):
        explore.schedules(net, x.permute(2, 0, 1))
    with pytest.raises(ValueError, match="no layer of spiking neurons"):
        explore.schedules(nn.Linear(4, 4), x)
    with pytest.raises(ValueError, match=r"walk must be one of 'step by step', .*, but got 'sideways'"):
        explore.schedules(walk="sideways")
    with pytest.raises(ValueError, match=r"network must be one of 'feed-forward', .*, but got 'x'"):
        explore.schedules(network="x")
    with pytest.raises(ValueError, match="steps must be a whole number from 1 to 3, but got 4"):
        explore.schedules(net, x, steps=4)
    with pytest.raises(ValueError, match="network must be one of"):
        example("x")
    assert check(net, x) is x


def test_every_control_is_labelled_and_the_words_are_deterministic() -> None:
    made = explore.schedules()
    for name, control in made.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert made.caption.endswith(".")
    bundle, about = made._repr_mimebundle_()
    assert spread(bundle["image/png"]) > 0.05
    assert "Step by step: nothing has run yet" in about["image/png"]["alt"]
    assert "Step by step: 40 pieces of work, 215 launches" in to_the_end(made).describe()
    assert json.loads(about["tfexplore"]["plotly"])["frames"]


def test_a_shared_layer_has_a_row_for_each_call() -> None:
    shared = tfexplore.LIF()
    made = grid(nn.Sequential(shared, nn.Linear(3, 3), shared), torch.rand(4, 2, 3))
    assert made.rows == ("0", "1", "0, call 2")
    assert made.kinds == ("LIF", "Linear", "LIF")


def test_a_leaf_that_works_only_when_it_gets_several_steps_is_a_row() -> None:
    class Contiguous(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.contiguous()  # copies an x that was expanded over time; a single step of it is whole already

    net = nn.Sequential(Contiguous(), nn.Linear(4, 3), tfexplore.LIF())
    made = grid(net, currents(torch.rand(2, 4), 5))
    assert made.rows == ("0", "1", "2")
    assert [len(made.walks[name].pieces) for name in ("step by step", "fused")] == [10, 3]
    explore.schedules(net, currents(torch.rand(2, 4), 5))
