"""The conventions explorer, in Python: traces against plain loops over each library's rule, and where they part."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.conventions.traces import KINDS, WHOLE_INPUT

Step = Callable[[float, float, float, float, float], tuple[float, float, float]]
"""(v, spike before, x, dt/tau, threshold) -> what is compared, spike, v after."""


def exact(v: float, s: float, x: float, part: float, level: float) -> tuple[float, float, float]:
    h = math.exp(-part) * v + (1 - math.exp(-part)) * x
    return h, float(h > level), 0.0 if h > level else h


def norse(v: float, s: float, x: float, part: float, level: float) -> tuple[float, float, float]:
    h = v + part * (x - v)
    return h, float(h > level), 0.0 if h > level else h


def snntorch(v: float, s: float, x: float, part: float, level: float) -> tuple[float, float, float]:
    h = (1 - part) * v + x - s * level
    return h, float(h > level), h


def spikingjelly(v: float, s: float, x: float, part: float, level: float) -> tuple[float, float, float]:
    h = v + (x - v) * part
    return h, float(h >= level), 0.0 if h >= level else h


def sinabs(v: float, s: float, x: float, part: float, level: float) -> tuple[float, float, float]:
    h = math.exp(-part) * v + (1 - math.exp(-part)) * x
    return h, float(h >= level), h - level * (h >= level)


def spyx(v: float, s: float, x: float, part: float, level: float) -> tuple[float, float, float]:
    return v, float(v > level), (1 - part) * v + x - level * (v > level)


STEPS: dict[str, Step] = {
    "exact": exact, "norse": norse, "snntorch": snntorch, "spikingjelly": spikingjelly, "sinabs": sinabs, "spyx": spyx,
}  # fmt: skip


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("current", KINDS)
def test_traces_are_those_of_plain_loops(current: str, scaled: bool) -> None:
    made = explore.conventions(tau=17.0, dt=2.0)
    made.current, made.scaled, made.threshold = current, scaled, 0.85
    assert set(made.result.by_library) == set(STEPS)
    for library, step in STEPS.items():
        given = made.result.x * (2 / 17 if scaled and library in WHOLE_INPUT else 1)
        v = s = 0.0
        h, fired = [], []
        for x in given:
            now, s, v = step(v, s, float(x), 2 / 17, 0.85)
            h.append(now)
            fired.append(s)
        trace = made.result.by_library[library]
        np.testing.assert_allclose(trace.h, h, atol=1e-5)
        np.testing.assert_array_equal(trace.s, fired)


def test_what_the_notebook_says() -> None:
    made = explore.conventions("snntorch", "exact", tau=20, dt=2)
    count = {name: len(trace.fired) for name, trace in made.result.by_library.items()}
    assert (count["snntorch"], count["exact"]) == (44, 6)
    made.scaled = True
    assert len(made.result.by_library["snntorch"].fired) == 6
    assert made.result.apart("snntorch", "exact") == made.result.apart("norse", "exact") == 4
    made.dt = 0.5
    assert made.result.apart("norse", "exact") == 94
    made.dt, made.current = 5.0, "spikes"
    assert [len(made.result.by_library[name].fired) for name in ("exact", "sinabs")] == [4, 8]


def test_a_tie_decides() -> None:
    made = explore.conventions("norse", "spikingjelly", tau=20, dt=5)
    made.current, made.strength = "constant", 4.0
    assert [len(made.result.by_library[name].fired) for name in ("norse", "spikingjelly")] == [10, 20]
    assert "other spikes from step 1 on" in made.message.value
    made.strength = 3.9
    assert made.result.apart("norse", "spikingjelly") is None
    assert "the same spikes" in made.message.value


def test_the_figure_shows_the_chosen_two_and_all_spikes() -> None:
    made = explore.conventions("sinabs", "norse", dt=5)
    np.testing.assert_allclose(made.trace("potential 0").y, made.result.by_library["sinabs"].h)
    np.testing.assert_allclose(made.trace("potential 1").y, made.result.by_library["norse"].h)
    np.testing.assert_array_equal(made.trace("spyx").x, made.result.by_library["spyx"].fired)
    assert spread(made.picture()) > 0.05


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"library must be one of 'exact', .*, but got 'brian'"):
        explore.conventions("brian")
    with pytest.raises(ValueError, match=r"dt must be one of 0.5, 1.0, 2.0, 5.0, but got 3"):
        explore.conventions(dt=3)
