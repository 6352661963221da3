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


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def spread(png: bytes) -> float:
    """0 for an empty picture."""
    return float(pixels(png).std())


@pytest.fixture(scope="module")
def race() -> Any:
    return explore.race(steps=3, neurons=1000, device="cpu")


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


def test_every_control_is_labelled(race: Any) -> None:
    for name, control in race.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert race.caption.endswith(".")


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
