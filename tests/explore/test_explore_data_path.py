"""The data-path explorer, in Python: the bytes of each stage by arithmetic, and what follows T and the batch."""

from __future__ import annotations

import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install scikit-learn")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.data_path.stages import BATCH, BITS, DEVICE, DISK, FLOATS, SAVED

N, PIXELS, LABEL = 1438, 64, 8


@pytest.mark.parametrize(("steps", "batch"), [(8, 512), (20, 7)])
def test_bytes_are_counted(steps: int, batch: int) -> None:
    made = explore.data_path(steps=steps, batch=batch)
    nbytes, words = made.result.nbytes, -(-steps // 8)
    assert nbytes[DEVICE][FLOATS] == 4 * N * steps * PIXELS
    assert nbytes[BATCH] == {FLOATS: 4 * batch * steps * PIXELS, BITS: batch * words * PIXELS}
    saved = {FLOATS: 4 * batch * steps * PIXELS, BITS: batch * steps * PIXELS // 8}
    assert nbytes[SAVED] == saved, "the first layer saves its input, and nothing else"
    assert nbytes[DEVICE][BITS] == N * (words * PIXELS + LABEL)
    assert N * words * PIXELS < nbytes[DISK][BITS] < N * (words * PIXELS + LABEL) + 4096
    assert made.result.alike
    assert "gradient has the same bits" in made.message.value


def test_a_control_counts_anew() -> None:
    made = explore.data_path(steps=8, batch=2)
    before = made.result.nbytes[BATCH][BITS]
    made.batch = 4
    assert made.result.nbytes[BATCH][BITS] == 2 * before
    made.steps = 32
    assert made.result.nbytes[BATCH][BITS] == 8 * before
    assert made.trace(BITS).x[2] == 8 * before
    assert spread(made.picture()) > 0.03


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be one of 8, 20, 32, 64, 100, 128, but got 9"):
        explore.data_path(steps=9)
    with pytest.raises(ValueError, match="batch must be a whole number from 1 to 512, but got 513"):
        explore.data_path(batch=513)
