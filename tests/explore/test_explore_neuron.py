"""The neuron explorer: traces against a loop, rates against a loop, controls that do what they say."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from typing import Annotated, Any

import numpy as np
import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

import sympy

from tests.pictures import spread
from tfexplore import explore, neurons
from tfexplore.explore.base import explorer as explorer_module
from tfexplore.explore.neuron import rates
from tfexplore.explore.neuron.membrane import KINDS, STARTS, Stimulus, lively
from tfexplore.neurons import Neuron, Positive
from tfexplore.neurons.parameters import Bound
from tfexplore.nn.layers import Layer

MODULE = sys.modules["tfexplore.explore.neuron.explorer"]  # the file
NAMES = [kind.__name__ for kind in neurons.ALL]


@pytest.fixture(scope="module")
def explorer() -> Any:
    return explore.neuron()


def loop(x: list[float], tau: float, reset: str, threshold: float = 1.0) -> tuple[list[float], list[float], list[int]]:
    """LIF with v_reset = 0 by hand: potentials before and after the reset, and spikes."""
    v, hs, vs, ss = 0.0, [], [], []
    for current in x:
        h = v - v / tau + current
        s = int(h >= threshold)
        v = {"soft": h - s * threshold, "hard": h * (1 - s), "none": h}[reset]
        hs.append(h), vs.append(v), ss.append(s)
    return hs, vs, ss


# -- rates: the formulas ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1.0, 1.5, 2.0, 10.0, 30.0, math.inf])
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_the_exact_rate_is_that_of_a_loop(tau: float, reset: str) -> None:
    exact = rates.affine(neurons.IF(reset=reset) if tau == math.inf else neurons.LIF(tau=tau, reset=reset))
    assert exact is not None
    assert exact.threshold_current == pytest.approx(1 / tau, abs=1e-12)
    for current in np.array([-3, 1, 3, 5, 8, 13, 21, 24, 31, 33, 40, 47, 52, 63, 64, 70]) / 64:
        _, _, s = loop([float(current)] * 3200, tau, reset)
        rate = exact.rate(np.array([current]))[0]
        assert abs(sum(s[200:]) - 3000 * rate) <= 1.5, (current, rate)


def test_the_interval_of_a_hard_reset_is_the_textbook_expression() -> None:
    """Spikes of LIF: k = ceil(ln(1 - threshold / (tau x)) / ln(1 - 1 / tau)), written out here, against a counted interval."""
    tau, exact = 10.0, rates.affine(neurons.LIF(tau=10.0, reset="hard"))
    assert exact is not None
    for x in (0.12, 0.15, 0.2, 0.35, 0.6):
        _, _, s = loop([x] * 300, tau, "hard")
        k = math.ceil(math.log(1 - 1 / (tau * x)) / math.log(1 - 1 / tau))
        assert set(np.diff(np.flatnonzero(s))) == {k}
        assert exact.rate(np.array([x]))[0] == 1 / k


@pytest.mark.parametrize(
    "neuron",
    [
        neurons.LIF(tau=3.0, reset="hard", v_reset=-0.4, v_threshold=0.7, decay_input=True),
        neurons.LIF(tau=5.0, v_reset=-0.4, v_threshold=0.7),
        neurons.LIF(tau=20.0, v_threshold=2.0),
        neurons.PaperLIF(v_reset=-0.2, decay=0.7),
        neurons.PaperLIF(),
        neurons.ParametricLIF(tau=4.0),
    ],
    ids=str,
)
def test_measured_rates_lie_on_the_exact_ones(neuron: Neuron) -> None:
    exact, currents = rates.affine(neuron), np.linspace(-0.3, 1.3, 161) + 0.00123
    assert exact is not None
    measured = rates.measured(Layer(neuron), currents)
    assert measured.max() >= 0.2
    # soft: two windows of 500 steps may differ by a spike
    np.testing.assert_allclose(measured, exact.rate(currents), atol=0 if neuron.reset == "hard" else 0.005, rtol=1e-9)


def test_slow_rates_are_those_of_continuous_time() -> None:
    """T = tau ln(tau x / (tau x - 1)) (Gerstner and Kistler, 4.1): near it when an interval has many steps."""
    exact = rates.affine(neurons.LIF(tau=200.0, reset="hard"))
    assert exact is not None
    x = np.array([0.006, 0.01, 0.02])
    np.testing.assert_allclose(exact.textbook(x), 1 / (200 * np.log(200 * x / (200 * x - 1))))
    np.testing.assert_allclose(exact.textbook(x), exact.rate(x), rtol=0.03)
    assert rates.affine(neurons.LIF(reset="none")).textbook(x) is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind", [neurons.ALIF, neurons.CubaLIF, neurons.LI, neurons.QIF, neurons.EIF, neurons.Izhikevich]
)
def test_no_formula_is_claimed_for_other_neurons(kind: type[Neuron]) -> None:
    assert rates.affine(kind()) is None


class Bucket(Neuron):
    """Of one's own, with a constant leak: not affine."""

    leak: Positive = 0.05
    v_threshold: float = 1.0
    rate: float = 0.0  # also the name of a control

    def charge(self, v: Any, x: Any) -> Any:
        return sympy.Max(v + x - self.leak + self.rate, 0)


# -- the trace -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_the_trace_is_what_a_plain_loop_gives(reset: str) -> None:
    made = explore.neuron(
        neurons.LIF(tau=8.0, v_threshold=0.8, reset=reset), current="noise", strength=0.2, steps=60, seed=3
    )
    h, v, s = loop([float(value) for value in made.result.x], 8.0, reset, 0.8)
    np.testing.assert_allclose(made.result.h, h, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.result.v, v, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(made.result.s, s)
    np.testing.assert_allclose(made.result.threshold, 0.8, rtol=1e-6)
    assert list(made.result.times) == [t + 1 for t in range(60) if s[t]]
    assert list(made.trace("spike time").x) == list(made.result.times)
    np.testing.assert_array_equal(made.trace("potential").y, np.stack([made.result.h, made.result.v], 1).ravel())


def test_the_adaptive_threshold_is_that_of_the_spikes() -> None:
    made = explore.neuron(neurons.ALIF(beta=4.0), strength=0.2)
    b, levels = 0.0, []
    for s in made.result.s:
        levels.append(1 + 4 * b)
        b += (s - b) / 200
    np.testing.assert_allclose(made.result.threshold, levels, rtol=1e-5)
    np.testing.assert_array_equal(made.result.s, made.result.h >= made.result.threshold - 1e-6)


# -- the controls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_neuron_is_lively_at_first_sight(explorer: Any, name: str) -> None:
    explorer.controls["current"].value = "constant"
    explorer.controls["neuron"].value = name
    result = explorer.result
    assert np.isfinite(result.h).all()
    assert np.ptp(result.h) > 0.05
    assert type(result.neuron).__name__ == name
    assert (len(result.times) >= 3) == (name != "LI")
    assert spread(explorer.picture()) > 0.05
    assert ("no exact rate" in explorer.message.value) == (name in ("ALIF", "CubaLIF", "QIF", "EIF", "Izhikevich"))
    shown = {parameter for parameter, control in explorer.parameters.items()
             if explorer.controls[control].layout.display != "none"}  # fmt: skip
    assert shown == set(result.neuron.parameters)
    assert explorer.controls["reset"].options == tuple(result.neuron.resets)


@pytest.mark.parametrize("name", NAMES)
def test_no_browser_would_move_a_slider_to_its_grid(explorer: Any, name: str) -> None:
    explorer.controls["neuron"].value = name
    for key, control in explorer.controls.items():
        if hasattr(control, "step") and key != "on":
            steps = (control.value - control.min) / control.step
            assert steps == pytest.approx(round(steps), abs=1e-6), key
            assert control.min <= control.value <= control.max


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_current_shows_what_it_needs(kind: str) -> None:
    made = explore.neuron(current=kind)
    needs = {"step": "on", "noise": "sigma", "drawn by hand": "hand_12", "spikes at a rate": "rate"}
    for of, control in needs.items():
        assert (made.controls[control].layout.display != "none") == (of == kind)
    assert (made.controls["strength"].layout.display != "none") == (kind != "drawn by hand")
    assert len(made.result.times) >= 3
    before = made.result
    control = made.controls[needs.get(kind, "strength")]
    control.value = (20, 60) if kind == "step" else control.value / 2
    assert not np.array_equal(made.result.x, before.x)


def test_currents() -> None:
    assert Stimulus("step", 2.0, on=(2, 3)).current(4).tolist() == [0, 2, 2, 0]
    assert Stimulus("drawn by hand", 0.0, levels=(1.0, 2.0, 3.0)).current(7).tolist() == [1, 1, 1, 2, 2, 3, 3]
    noise = Stimulus("noise", 0.5, sigma=2.0, seed=1).current(4000)
    assert noise.mean() == pytest.approx(0.5, abs=0.1)
    assert noise.std() == pytest.approx(2.0, abs=0.1)
    assert Stimulus("noise", 0.5, sigma=2.0, seed=1).current(10).tolist() == noise[:10].tolist(), (
        "T only makes it longer"
    )
    spikes = Stimulus("spikes at a rate", 0.25, rate=0.4, seed=1).current(4000)
    assert set(np.unique(spikes / 0.25)) <= set(range(10))
    assert (spikes / 0.25).mean() == pytest.approx(0.4, abs=0.05)


def test_controls_move_the_trace_and_the_curve() -> None:
    made = explore.neuron(neurons.LIF(tau=10.0))
    curve = made.result.curve
    made.controls["strength"].value = 0.3
    assert made.result.curve is curve, "the curve does not hang on the current over time"
    assert f"{len(made.result.times)} spikes in 200 steps" in made.message.value
    soft = len(made.result.times)
    made.controls["strength"].value = 0.35
    made.controls["reset"].value = "hard"
    assert len(made.result.times) == 50
    assert "threshold current 0.1:" in made.message.value
    made.controls["tau"].value = 20.0
    assert "threshold current 0.05:" in made.message.value
    made.controls["v_threshold"].value = 2.0
    assert "threshold current 0.1:" in made.message.value
    made.controls["steps"].value = 500
    assert len(made.trace("potential").y) == 1000
    assert made.controls["on"].max == 500
    assert soft == 50
    assert repr(made).startswith(
        "NeuronExplorer(neuron='LIF', reset='hard', steps=500, current='constant', strength=0.35"
    )


def test_a_neuron_of_ones_own_comes_first() -> None:
    made = explore.neuron(Bucket)
    assert made.controls["neuron"].options[0] == "Bucket"
    assert made.controls["reset"].options == ("soft", "none"), "it has no v_reset to be reset to"
    assert len(made.result.times) > 5
    v = 0.0
    for h, x in zip(made.result.h, made.result.x, strict=True):
        assert max(v + x - 0.05, 0) == pytest.approx(h, abs=1e-5)
        v = h - (h >= 1)
    made.controls["neuron_rate"].value = made.controls["neuron_rate"].max
    assert made.result.neuron.rate > 0
    assert made.controls["rate"].value == 0.2
    made.controls["neuron"].value = "LIF"
    assert made.result.neuron == STARTS[neurons.LIF][0]


def test_parameters_that_come_with_the_neuron_are_kept() -> None:
    made = explore.neuron(neurons.LIF(tau=2.3, v_reset=-0.13, learn="tau"))
    assert made.result.neuron.parameters == {"tau": 2.3, "v_threshold": 1.0, "v_reset": -0.13}
    assert made.controls["neuron"].options.count("LIF") == 1
    start, low, high = lively(made.layer)
    assert low < start < high
    assert len(made.result.times) > 5


def test_a_parameter_that_is_zero() -> None:
    class Own(Neuron):
        leak: Annotated[float, Bound(low=0.0)] = 0.0
        push: Annotated[float, Bound(low=-1.0, open=True)] = 0.0
        v_threshold: float = 1.0

        def charge(self, v: Any, x: Any) -> Any:
            return v - self.leak * v + x + self.push

    made = explore.neuron(Own)
    for name in ("leak", "push"):
        control = made.controls[name]
        assert control.min <= control.value == 0.0, name
        assert control.min > -1.0, "an open bound is not reached"
        assert control.max > control.min, name
    assert made.controls["leak"].max == 1.0
    made.controls["leak"].value = 0.5
    assert made.result.neuron.leak == 0.5


def test_after_an_error_the_controls_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    made = explore.neuron()
    with monkeypatch.context() as broken:
        broken.setattr(MODULE, "room", lambda *_: (_ for _ in ()).throw(ValueError("no room")))
        with pytest.raises(ValueError, match="no room"):
            made.controls["neuron"].value = "IF"
    assert "no room" in made.message.value
    made.controls["strength"].value = 0.3
    assert type(made.result.neuron).__name__ == "IF"
    assert made.controls["tau"].layout.display == "none"
    assert spread(made.picture()) > 0.05


def test_in_a_notebook_another_neuron_is_compiled_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    async def choose() -> Any:
        made = explore.neuron()
        assert made.result.times.any(), "the first one is there at once"
        monkeypatch.setattr(explorer_module, "READY", set())
        real = made.prepare

        def prepare(neuron: Neuron) -> None:
            asked.append((type(neuron).__name__, threading.current_thread() is threading.main_thread()))
            real(neuron)

        monkeypatch.setattr(made, "prepare", prepare)
        before = made.result
        made.controls["neuron"].value = "ALIF"
        assert "Compiling" in made.message.value
        for strength in (0.1, 0.2, 0.3):  # meanwhile
            made.controls["strength"].value = strength
        made.controls["neuron"].value = "Izhikevich"
        assert made.result is before, "the controls come back at once"
        while made.result is before:
            await asyncio.sleep(0.01)
        return made

    made = asyncio.run(choose())
    assert asked == [("ALIF", False), ("Izhikevich", False)], "one after the other, each once"
    assert made.result.neuron == STARTS[neurons.Izhikevich][0]
    assert made.controls["strength"].value == STARTS[neurons.Izhikevich][1]
    asked.clear()
    made.controls["neuron"].value = "IF"  # no loop runs here
    assert made.result.neuron == STARTS[neurons.IF][0]
    assert asked == [("IF", True)]


def test_a_potential_that_runs_away_is_said_and_cut() -> None:
    made = explore.neuron(neurons.QIF(reset="none"), strength=0.5)
    assert "runs away at step" in made.message.value
    assert np.nanmax(np.abs(made.trace("potential").y)) <= made.result.bound < np.inf
    assert spread(made.picture()) > 0.05


def test_the_page_plays_without_a_kernel(explorer: Any) -> None:
    explorer.controls["current"].value = "constant"
    explorer.controls["neuron"].value = "LIF"
    kept = explorer.result
    page = explorer.page()
    which = [page.data[k].meta for k in page.frames[0].traces].index("spike time")
    counts = [sum(t is not None for t in frame.data[which].x) for frame in page.frames]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]
    assert [step.args[0][0] for step in page.layout.sliders[0].steps] == [frame.name for frame in page.frames]
    assert explorer.result is kept


def test_every_control_is_labelled(explorer: Any) -> None:
    for name, control in explorer.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert explorer.caption.endswith(".")


def test_wrong_input_is_one_clear_sentence() -> None:
    with pytest.raises(TypeError, match=r"neuron must be like neurons.LIF\(tau=2.0\), but got 3"):
        explore.neuron(3)
    with pytest.raises(ValueError, match=r"current must be one of 'constant', .*but got 'sine'"):
        explore.neuron(current="sine")
    with pytest.raises(ValueError, match="steps must be from 10 to 1000, but got 5"):
        explore.neuron(steps=5)
