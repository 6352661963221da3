"""The bits explorer, in Python: every byte and every sum against NumPy, and what the figure shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.bits.packing import ALONG, DEPTHS


def packed(values: np.ndarray, axis: int, order: Any, depth: int) -> np.ndarray:
    """The bytes by NumPy: each value as its bits, then `packbits`."""
    places = range(depth)[::-1] if order == "big" else range(depth)
    planes = np.stack([(values.astype(int) >> place) & 1 for place in places], axis + 1)
    shape = list(values.shape)
    shape[axis] *= depth
    found: np.ndarray = np.packbits(planes.reshape(shape), axis, order)
    return found


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("along", ALONG)
def test_bytes_are_numpys(along: str, order: str, bits: int) -> None:
    made = explore.bits(steps=13, along=along, order=order, bits=bits)
    values, axis = made.values(), ALONG[along]
    expected = packed(values, axis, order, bits)
    np.testing.assert_array_equal(made.result.words, expected.T if axis == 0 else expected)
    row, byte = made.result.words.shape[0] - 1, made.result.words.shape[1] - 1
    made.row, made.byte = row, byte
    assert made.result.sum(row, byte).split(" = ")[-1].split(" + ")[-1] == str(made.result.words[row, byte])
    assert made.result.nbytes == {"float32": values.nbytes, "a byte each": values.size, "packed": expected.size}


def test_the_sentence_names_the_byte() -> None:
    x = torch.tensor([[0.0, 1, 0, 0, 1, 0, 1, 1, 1]]).T
    made = explore.bits(x)
    assert "Neuron 0, steps 0 to 7: 64 + 8 + 2 + 1 = 75." in made.message.value
    assert "36 bytes as float32 are 2 packed: 1/18 of them. Each row has 7 unused bits." in made.message.value
    made.byte = 1
    assert "Neuron 0, step 8: 128." in made.message.value
    made.order = "little"
    assert "Neuron 0, step 8: 1." in made.message.value
    assert "steps" not in made.controls


def test_the_frame_is_around_what_the_byte_holds() -> None:
    made = explore.bits(steps=20)
    made.row, made.byte = 3, 2
    cells, word = made.trace("these values"), made.trace("this byte")
    assert (cells.base[0], cells.x[0], cells.y[0]) == (15.5, 4, 3)
    assert (word.base[0], word.x[0], word.y[0]) == (15.5, 8, 3)
    assert spread(made.picture()) > 0.05
    made.along = "neurons"
    assert made.controls["row"].max == 19
    assert made.controls["byte"].max == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": torch.ones(3)}, "must be \\[T, N\\] with 1 to 32"),
        ({"x": torch.ones(33, 2)}, "got shape \\(33, 2\\)"),
        ({"along": "batch"}, "along must be one of 'time', 'neurons', but got 'batch'"),
        ({"bits": 3}, "bits must be one of 1, 2, 4, but got 3"),
        ({"x": torch.full((3, 2), 2.0)}, "2"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explore.bits(**given)
    with pytest.raises(TypeError, match="x must be a tensor"):
        explore.bits([1, 0])
