"""The explorers in Python, without a browser: a control's value does what moving it does."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

import plotly.graph_objects as go

from tfexplore import explore
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner
from tfexplore.explore.race import CONTESTANTS, contestants
from tfexplore.explore.training import look, network, zigzag


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def spread(png: bytes) -> float:
    """0 for an empty picture."""
    return float(pixels(png).std())


@pytest.fixture(scope="module")
def race() -> Any:
    return explore.race(steps=3, neurons=1000, device="cpu")


@pytest.fixture(scope="module")
def training() -> Any:
    made = explore.training(steps=6, hidden=64, epochs=3)
    asyncio.run(made.run())
    return made


def test_the_contestants_of_the_race_do_the_same_work() -> None:
    outs = [work() for work in contestants(5, 200).values()]
    assert all(torch.equal(out, outs[0]) for out in outs)
    assert outs[0].sum() > 0


def test_race_measures_all_three_and_says_so(race: Any) -> None:
    result = asyncio.run(race.run())
    assert set(result.seconds) == set(CONTESTANTS)
    assert all(value > 0 for value in result.seconds.values())
    assert "times as" in race.message.value
    assert list(race.figure.data[0].x) == [1e3 * result.seconds[name] for name in CONTESTANTS]
    assert spread(race.picture()) > 0.05


def test_a_moved_slider_sends_the_bars_back(race: Any) -> None:
    race.controls["steps"].value = 4
    assert race.result.steps == 4
    assert not race.result.seconds
    assert list(race.figure.data[0].x) == [0, 0, 0]
    assert "4 time steps" in race.message.value
    assert repr(race) == "Race(steps=4, neurons=1000)"


def test_race_stops_between_two_runs(race: Any) -> None:
    async def run_and_stop() -> None:
        run = asyncio.create_task(race.run())
        while not race.result.seconds:
            await asyncio.sleep(0)
        assert not race.controls["stop"].disabled
        race.controls["stop"].click()
        await run

    asyncio.run(run_and_stop())
    assert race.controls["stop"].disabled
    assert len(race.result.seconds) < len(CONTESTANTS)


def test_training_learns_and_draws(training: Any) -> None:
    assert len(training.result.losses) == 3 * 23
    assert np.mean(training.result.losses[-5:]) < 0.8 * np.mean(training.result.losses[:5])
    assert [batches for batches, _ in training.result.accuracies] == [23, 46, 69]
    assert list(training.figure.data[0].y) == training.result.losses
    assert "69 batches" in training.message.value
    assert spread(training.picture()) > 0.05


def test_the_trace_follows_its_sliders(training: Any) -> None:
    training.controls["digit"].value = 3
    training.controls["neuron"].value = 5
    net, data = training.result.net, training.data
    assert net is not None
    seen = look(net, data, 3, 6)
    x, y = zigzag(seen.h[:, 5], seen.v[:, 5])
    np.testing.assert_array_equal(training.figure.data[2].x, x)
    np.testing.assert_array_equal(training.figure.data[2].y, y)
    assert f"a {seen.label}, read as {seen.guess}" in training.figure.layout.annotations[1].text
    before = training.picture()
    training.controls["neuron"].value = 6
    assert not np.array_equal(training.figure.data[2].y, y)
    assert training.picture() != before


def test_the_trace_is_what_a_loop_in_numpy_gives() -> None:
    net = network(hidden=32, tau=2.0)
    image = explore.training(steps=6, hidden=32).data.test_images[:1]
    seen = look(net, explore.training(steps=6, hidden=32).data, 0, 6)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in (net[0].weight, net[0].bias, net[2].weight, net[2].bias))
    v1 = v2 = np.zeros(32)
    for t in range(6):
        h1 = v1 - v1 / 2 + w1 @ image[0].double().numpy() + b1
        s1 = (h1 >= 1).astype(float)
        v1 = h1 - s1
        h2 = v2 - v2 / 2 + w2 @ s1 + b2
        s2 = (h2 >= 1).astype(float)
        v2 = h2 - s2
        np.testing.assert_allclose(seen.h[t], h2, atol=1e-5)
        np.testing.assert_allclose(seen.v[t], v2, atol=1e-5)
        np.testing.assert_array_equal(seen.s[t], s2)


def test_another_walk_begins_a_new_training(training: Any) -> None:
    made = explore.training(steps=4, hidden=16, epochs=1)
    asyncio.run(made.run())
    made.controls["walk"].value = "step by step"
    assert not made.result.losses
    assert made.result.walk == "step by step"
    assert list(made.figure.data[0].y) == []
    assert "Press Start" in made.message.value
    assert len(asyncio.run(made.run()).losses) == 23


def test_training_stops_where_it_is() -> None:
    made = explore.training(steps=4, hidden=16, epochs=20)

    async def run_and_stop() -> None:
        made.controls["start"].click()
        while len(made.result.losses) < 5:
            await asyncio.sleep(0)
        made.controls["stop"].click()
        assert made.task is not None
        await made.task

    asyncio.run(run_and_stop())
    assert 5 <= len(made.result.losses) < 23
    assert not made.running


def test_one_run_at_a_time() -> None:
    made = explore.training(steps=4, hidden=16, epochs=20)

    async def twice() -> None:
        first = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="running already; press Stop"):
            await made.run()
        made.stop()
        await first

    asyncio.run(twice())


def test_an_error_in_long_work_is_shown_and_raised(race: Any) -> None:
    class Broken(Runner):
        def begin(self):  # type: ignore[no-untyped-def]
            return None

        def work(self, result):  # type: ignore[no-untyped-def]
            yield None
            raise ValueError("the <third> layer is missing")

    broken = Broken({}, race.figure, None)
    with pytest.raises(ValueError, match="third"):
        asyncio.run(broken.run())
    assert "ValueError: the &lt;third&gt; layer is missing" in broken.message.value
    assert 'role="alert"' in broken.message.value
    assert not broken.running


def test_the_mime_bundle_says_something_without_a_kernel(training: Any) -> None:
    bundle, about = training._repr_mimebundle_()
    assert "69 batches" in about["image/png"]["alt"]
    assert len(about["tfexplore"]["plotly"]["data"]) == len(training.figure.data)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"].startswith("Training(walk='fused', steps=6, hidden=64")
    assert spread(bundle["image/png"]) > 0.05


@pytest.mark.parametrize("explorer", ["race", "training"])
def test_every_control_is_labelled(explorer: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(explorer)
    for name, control in made.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert made.caption.endswith(".")


def test_fused_and_layered_losses_are_the_same_bits() -> None:
    assert explore.losses("fused", 10, steps=5, hidden=32) == explore.losses("layer by layer", 10, steps=5, hidden=32)
    one, other = (
        explore.losses(walk, 10, steps=5, hidden=32, dtype=torch.float64) for walk in ("fused", "step by step")
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def test_breakdown_adds_up() -> None:
    made = explore.breakdown(steps=4, hidden=32, rounds=2)
    assert set(made.parts) == {"layer by layer", "fused"}
    assert made.total("fused") == pytest.approx(sum(made.parts["fused"].values()))
    assert "times" in made.sentence()
    assert spread(made.picture()) > 0.05


def test_a_stopped_run_resumes_where_it_was_unless_abandoned() -> None:
    class Counting(Runner):
        resumable = True

        def begin(self):  # type: ignore[no-untyped-def]
            return []

        def work(self, result):  # type: ignore[no-untyped-def]
            for k in range(6):
                result.append(k)
                if k == 2:
                    self.stop()
                yield None

    counting = Counting({}, plots.styled(go.Figure()), None)
    with pytest.raises(RuntimeError, match="no stopped run to resume; press Start"):
        asyncio.run(counting.run(resume=True))
    assert asyncio.run(counting.run()) == [0, 1, 2]
    assert not counting.controls["resume"].disabled
    assert asyncio.run(counting.run(resume=True)) == [0, 1, 2, 3, 4, 5]
    assert counting.controls["resume"].disabled
    assert asyncio.run(counting.run()) == [0, 1, 2]  # Start begins anew
    counting.abandon()
    assert counting.controls["resume"].disabled
