"""The gradient through time against closed forms, a plain torch loop and numpy; the explorer's controls in Python."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore, surrogates
from tfexplore.explore.backward.gradient import U, curves, drive, flow, pooled, shade
from tfexplore.explore.base import explorer as explorer_module
from tfexplore.neurons import LIF


@pytest.fixture
def explorer() -> Any:
    return explore.surrogate(steps=40, neurons=8)


# -- the pure functions ----------------------------------------------------------------------------------------------


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).double()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (u,) = ctx.saved_tensors
        return gradients[0] / (1 + (math.pi * u) ** 2)  # the slope of an arctangent with alpha = 2


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("detach", [True, False])
def test_the_flow_is_what_autograd_gives_for_a_hand_written_loop(reset: str, detach: bool) -> None:
    steps, loss_at, tau = 37, 30, 4.0
    found = flow(LIF(tau=tau, reset=reset, detach_reset=detach), steps, 6, loss_at)
    x = torch.from_numpy(drive(steps, 6) / tau).requires_grad_()
    v, spikes = torch.zeros(6, dtype=torch.float64), []
    for x_t in x:
        h = v - v / tau + x_t
        s = Spike.apply(h - 1)
        spikes.append(s)
        back = s.detach() if detach else s
        v = {"soft": h - back, "hard": h * (1 - back), "none": h}[reset]
    torch.stack(spikes)[loss_at - 5 : loss_at].sum().backward()
    np.testing.assert_allclose(found.gradient, x.grad.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.spikes, torch.stack(spikes).detach().numpy())
    assert not found.gradient[loss_at:].any(), "nothing after the loss can change it"
    assert found.spikes.sum() > 0


@pytest.mark.parametrize(("tau", "reach"), [(2.0, 6), (5.0, 20), (10.0, 43)])
def test_with_a_detached_soft_reset_the_gradient_fades_by_one_factor_per_step(tau: float, reach: int) -> None:
    found = flow(LIF(tau=tau), 100)
    factor = 1 - 1 / tau
    early = found.gradient[: found.first]
    np.testing.assert_allclose(early[:-1], factor * early[1:], rtol=1e-12)
    assert found.reach == math.floor(math.log(0.01) / math.log(factor)) == reach


def test_a_hard_reset_cuts_the_gradient_at_every_spike() -> None:
    found = flow(LIF(tau=20.0, reset="hard"), 60)
    for k in range(24):
        fired = np.flatnonzero(found.spikes[: found.first - 1, k])
        if len(fired):
            assert not found.gradient[: fired[-1] + 1, k].any()
            assert found.gradient[fired[-1] + 1 : found.loss_at, k].all()
    assert 0 < found.zeros < 1
    assert found.dead == 0


def test_a_narrow_rectangle_leaves_neurons_without_gradient() -> None:
    wide, narrow = (flow(LIF(tau=5.0, surrogate=surrogates.Rectangle(w)), 100) for w in (4.0, 0.2))
    assert wide.dead == wide.zeros == 0
    out_of_reach = (np.abs(narrow.u[95:]) >= 0.1).all(0)
    assert narrow.dead == out_of_reach.sum() > 0
    np.testing.assert_array_equal((narrow.gradient == 0).all(0), out_of_reach)


def test_an_attached_reset_multiplies_by_one_minus_the_slope_and_may_explode() -> None:
    neuron = LIF(tau=40.0, detach_reset=False, surrogate=surrogates.Rectangle(0.3))
    found = flow(neuron, 100)
    slope = np.where(np.abs(found.u) < 0.15, 1 / 0.3, 0)
    factor = (1 - 1 / 40) * (1 - slope)
    before = slice(0, found.first - 1)
    np.testing.assert_allclose(found.gradient[before], factor[before] * found.gradient[1 : found.first])
    assert found.magnitude.argmax() < found.first - 20


def test_the_sum_of_a_longer_loss_window_is_that_of_its_steps() -> None:
    neuron = LIF(tau=3.0)
    whole = flow(neuron, 30, 5, 20, window=3).gradient
    parts = [flow(neuron, 30, 5, at, window=1).gradient for at in (18, 19, 20)]
    np.testing.assert_allclose(whole, sum(parts), rtol=1e-12)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    np.testing.assert_array_equal(drive(30, 4), drive(50, 4)[:30])


@pytest.mark.parametrize("kind", surrogates.ALL, ids=lambda kind: kind.__name__)
def test_the_smooth_step_has_the_slope_drawn_and_rises_by_one(kind: Any) -> None:
    u = np.linspace(-200, 200, 400_001)
    slope, smooth = curves(kind(), u)
    np.testing.assert_allclose(np.gradient(smooth, u)[1:-1], slope[1:-1], atol=2e-3 * slope.max() + 0.51 * jump(kind))
    if kind is not surrogates.SuperSpike:  # whose area is 2 / alpha
        assert smooth[-1] - smooth[0] == pytest.approx(1, abs=2e-3)
    assert smooth[len(u) // 2] == pytest.approx(0.5)


def jump(kind: Any) -> float:
    return 1.0 if kind is surrogates.Rectangle else 0.02 if kind is surrogates.SuperSpike else 0.0


def test_without_a_primitive_of_its_own_the_slope_is_summed_up() -> None:
    u = np.linspace(-2, 2, 4001)
    slope, smooth = curves(surrogates.custom("Cauchy", "1 / (pi * g * (1 + (u / g)**2))", g=0.5), u)
    np.testing.assert_allclose(slope, 1 / (np.pi * 0.5 * (1 + (u / 0.5) ** 2)), rtol=1e-12)
    np.testing.assert_allclose(smooth, np.arctan(u / 0.5) / np.pi + 0.5, atol=1e-6)
    constant, line = curves(surrogates.custom("Through", "1"), u)  # "straight through"
    assert set(constant) == {1.0}
    np.testing.assert_allclose(line, u + 0.5)


def test_pooling_keeps_the_largest_of_each_group() -> None:
    made = np.random.default_rng(0).standard_normal((500, 3))
    small, group = pooled(made, 125)
    assert (small.shape, group) == ((125, 3), 4)
    for row, part in zip(small, np.split(made, 125), strict=True):
        for k in range(3):
            assert row[k] == max(part[:, k], key=abs)
    same, group = pooled(made[:7], 125)
    assert group == 1
    np.testing.assert_array_equal(same, made[:7])
    assert pooled(np.zeros((7, 1)), 3)[0].shape == (3, 1)


def test_shades() -> None:
    given = np.array([[10.0, -10.0, 0.1, -1e-5, 1e-9, 0.0]])
    np.testing.assert_allclose(shade(given), [[1, -1, 1 - 2 / 6, 0, 0, np.nan]], atol=1e-12)
    np.testing.assert_allclose(shade(given, "linear"), [[1, -1, 0.01, -1e-6, 1e-10, np.nan]])
    assert np.isnan(shade(np.zeros((2, 2)))).all()


# -- the explorer ----------------------------------------------------------------------------------------------------


def test_controls_change_the_result(explorer: Any) -> None:
    seen = [explorer.result.flow.gradient]
    for name, value in {
        "tau": 9.0, "scale": 0.7, "reset": "hard", "detach_reset": False, "loss_at": 20, "steps": 60, "surrogate": "Triangle",
    }.items():  # fmt: skip
        explorer.controls[name].value = value
        new = explorer.result.flow.gradient
        assert not (new.shape == seen[-1].shape and np.array_equal(new, seen[-1])), name
        seen.append(new)
    assert explorer.result.neuron == LIF(
        tau=9.0, reset="hard", detach_reset=False, surrogate=surrogates.Triangle(width=1.0)
    ), "another surrogate comes with its own width"
    direct = flow(explorer.result.neuron, 60, 8, 20).gradient
    np.testing.assert_array_equal(explorer.result.flow.gradient, direct)


def test_the_figure_shows_the_result(explorer: Any) -> None:
    explorer.controls["tau"].value = 3.0
    explorer.controls["loss_at"].value = 35
    trace, back = explorer.trace, explorer.result.flow
    np.testing.assert_allclose(trace("gradient").customdata, back.gradient.T, rtol=5e-3)
    np.testing.assert_allclose(trace("gradient").z.astype(float), shade(back.gradient).T, atol=1e-3)
    zero = np.equal(trace("gradient").z, None)  # JSON knows no NaN, and plotly sends what has two dimensions as JSON
    np.testing.assert_array_equal(zero, back.gradient.T == 0)
    np.testing.assert_array_equal(trace("surrogate").y, explorer.result.slope)
    assert sum(trace("potentials").y) == pytest.approx(1)
    np.testing.assert_allclose(trace("mean magnitude").y[back.first - 1], 1)
    np.testing.assert_allclose(trace("decay").y[:3], [1, 2 / 3, 4 / 9])
    assert len(trace("spike").x) == back.spikes.sum()
    explorer.controls["colours"].value = "linear"
    linear = np.where(back.gradient == 0, np.nan, back.gradient / np.abs(back.gradient).max())
    np.testing.assert_allclose(trace("gradient").z.astype(float), linear.T, atol=1e-3)


def test_what_is_sent_is_capped() -> None:
    made = explore.surrogate(steps=500)
    assert np.size(made.trace("gradient").z) == 125 * 24
    assert all(np.size(trace.x) <= 2000 for trace in made.figure.data if trace.type != "heatmap")


def test_the_loss_stays_at_the_end_when_time_grows(explorer: Any) -> None:
    explorer.controls["steps"].value = 100
    assert explorer.controls["loss_at"].value == 100
    explorer.controls["loss_at"].value = 50
    explorer.controls["steps"].value = 120
    assert explorer.controls["loss_at"].value == 50
    explorer.controls["steps"].value = 30
    assert explorer.controls["loss_at"].value == 30


def test_the_sentence_says_how_far_and_how_many(explorer: Any) -> None:
    assert (
        "reaches back 20 steps before the loss (to 1% of its largest mean); 0% of the gradients"
        in explorer.message.value
    )
    explorer.controls["surrogate"].value = "Rectangle"
    explorer.controls["scale"].value = 0.05
    assert f"{explorer.result.flow.dead} of 8 neurons get none" in explorer.message.value
    none = explore.surrogate(surrogates.Rectangle(0.05), steps=20, neurons=1)  # of the weakest drive
    assert "No gradient at all" in none.message.value
    assert none.result.flow.reach == 0
    assert spread(none.picture()) > 0.05, "and drawing nothing is no error"


def test_an_exploding_gradient_is_named() -> None:
    made = explore.surrogate(surrogates.Rectangle(0.3), tau=40.0, detach_reset=False)
    peak = 1 + int(made.result.flow.magnitude.argmax())
    assert f"It grew on the way: its mean is largest at step {peak}." in made.message.value


def test_your_own_surrogate_has_a_slider_for_each_of_its_scales() -> None:
    own = surrogates.custom("Bump", "a * exp(-Abs(u) / b)", a=1.5, b=0.3)
    made = explore.surrogate(own, steps=30, neurons=4)
    assert [made.controls[n].description for n in ("scale", "scale_2")] == ["a of the surrogate", "b of the surrogate"]
    np.testing.assert_allclose(made.result.slope, 1.5 * np.exp(-np.abs(U) / 0.3))
    made.controls["scale_2"].value = 0.6
    np.testing.assert_allclose(made.result.slope, 1.5 * np.exp(-np.abs(U) / 0.6))
    made.controls["surrogate"].value = "ATan"
    assert made.controls["scale_2"].layout.display == "none"
    assert made.result.neuron.surrogate == surrogates.ATan(2.0)
    made.controls["surrogate"].value = "Bump"
    assert made.result.neuron.surrogate == own


def test_a_new_kernel_is_compiled_aside_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    async def choose() -> Any:
        made = explore.surrogate(steps=30, neurons=4)
        monkeypatch.setattr(explorer_module, "READY", set())
        before = made.result
        made.controls["surrogate"].value = "Gaussian"
        assert made.result is before, "the control comes back at once"
        assert "Compiling" in made.message.value
        while made.result is before:
            await asyncio.sleep(0.01)
        return made

    made = asyncio.run(choose())
    assert isinstance(made.result.neuron.surrogate, surrogates.Gaussian)
    assert "reaches back" in made.message.value


def test_an_error_while_compiling_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def choose() -> str:
        made = explore.surrogate(steps=30, neurons=4)
        monkeypatch.setattr(explorer_module, "READY", set())
        monkeypatch.setattr(made, "prepare", lambda neuron: 1 / 0)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it is raised there as well
        made.controls["surrogate"].value = "Gaussian"
        while "Compiling" in made.message.value:
            await asyncio.sleep(0.01)
        return str(made.message.value)

    assert "ZeroDivisionError" in asyncio.run(choose())


def test_showing_it_warms_the_other_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def show() -> None:
        made = explore.surrogate(steps=30, neurons=4)
        monkeypatch.setattr(explorer_module, "READY", set())
        monkeypatch.setattr(made, "prepare", lambda neuron: asked.append(type(neuron.surrogate)))
        await made.warm(made.chosen(kind) for kind in made.kinds)

    asyncio.run(show())
    assert set(asked) == set(surrogates.ALL)


def test_an_error_while_warming_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def show() -> str:
        made = explore.surrogate(steps=30, neurons=4)
        monkeypatch.setattr(explorer_module, "READY", set())
        monkeypatch.setattr(made, "prepare", lambda neuron: 1 / 0)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it is raised there as well
        made.show()
        while not made._warming.done():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        return str(made.message.value)

    assert "ZeroDivisionError" in asyncio.run(show())


def test_while_a_kernel_compiles_a_dragged_slider_asks_for_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    drawn: list[float] = []

    async def drag() -> None:
        made = explore.surrogate(steps=30, neurons=4)
        monkeypatch.setattr(explorer_module, "READY", set())
        monkeypatch.setattr(made, "prepare", asked.append)
        monkeypatch.setattr(made, "draw", lambda: drawn.append(made.result.neuron.tau))
        made.controls["surrogate"].value = "Gaussian"
        for tau in (6.0, 7.0, 8.0):
            made.controls["tau"].value = tau
        while not drawn:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    asyncio.run(drag())
    assert len(asked) == 1
    assert drawn == [8.0]


def test_it_is_labelled_and_says_what_it_shows(explorer: Any) -> None:
    for name, control in explorer.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert explorer.caption.endswith(".")
    assert repr(explorer).startswith(
        "SurrogateExplorer(surrogate='ATan', scale=2.0, tau=5.0, reset='soft', detach_reset=True"
    )
    bundle, about = explorer._repr_mimebundle_()
    assert spread(bundle["image/png"]) > 0.05
    assert "reaches back" in about["image/png"]["alt"]


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"surrogate must be like surrogates\.ATan\(alpha=2\.0\), but got 'ATan'"):
        explore.surrogate("ATan")
    with pytest.raises(ValueError, match="neurons must be from 1 to 64"):
        explore.surrogate(neurons=1000)
    with pytest.raises(ValueError, match="loss_at must be a time step from 1 to 10, but got 11"):
        flow(LIF(), 10, loss_at=11)
