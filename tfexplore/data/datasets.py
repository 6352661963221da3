"""Data that is at hand without a download: scikit-learn's handwritten digits (1,797 images of 8 x 8)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Images [n, 64] in 0..1 and labels [n], for training and for testing."""

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
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, but got {test_fraction!r}.")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("The digits come with scikit-learn: pip install scikit-learn.") from None
    found = load_digits()
    images = torch.tensor(found.data, dtype=torch.float32) / 16
    labels = torch.tensor(found.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = len(labels) - int(test_fraction * len(labels))
    train, test = order[:cut], order[cut:]
    return Split(images[train], labels[train], images[test], labels[test])
