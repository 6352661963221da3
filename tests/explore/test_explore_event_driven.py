"""The event-driven explorer, in Python: its lines against the costs, and its rates against the network's own spikes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install scikit-learn")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.measure.event_driven import DENSE, EVENTS_FAR, EVENTS_NEAR


def test_lines_are_costs_per_synapse_step() -> None:
    made = explore.event_driven("energy, 45 nm", rows=512, width=128)
    x = np.array(made.trace(EVENTS_NEAR).x)
    np.testing.assert_allclose(made.trace(EVENTS_NEAR).y, x * (0.9 + 3 * 5), rtol=1e-9)
    dense = 0.9 + 3.7 + 5 * 2 / 32 + 650 * (1 / 512 + 2 / 128)
    np.testing.assert_allclose(made.trace(DENSE).y, dense, rtol=1e-9)
    rates = made.result.rates
    assert sorted(rates) == ["lif1", "lif2"]
    assert all(0.01 < rate < 0.5 for rate in rates.values())
    assert made.result.trained.accuracy > 0.9
    assert list(made.trace(f"{EVENTS_FAR}: trained").x) == list(rates.values())
    assert spread(made.picture()) > 0.03


def test_what_shares_a_weight_decides() -> None:
    made = explore.event_driven("words from far", rows=1, width=2048)
    assert made.result.crossing(EVENTS_FAR) > 1
    assert "weights far (fewer at any rate)" in made.message.value
    made.rows = 4096
    assert made.result.crossing(EVENTS_FAR) == pytest.approx(1 / 4096 + 2 / 2048)
    assert "weights far (fewer below a rate of 0.1%)" in made.message.value
    assert len(made.trace(EVENTS_NEAR).x) == 0, "no word comes from far"


def test_what_it_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="rows must be one of 1, 8, 64, 512, 4096, but got 2"):
        explore.event_driven(rows=2)
