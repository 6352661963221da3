"""MNIST and CIFAR-10 from their own files on disk: IDX, and CIFAR's binary version. Nothing is downloaded."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tfexplore.data.datasets import Split

MNIST = "MNIST (LeCun, Bottou, Bengio and Haffner, 1998) is four files in the format IDX or .gz; nothing is downloaded here."
CIFAR10 = (
    "CIFAR-10 (Krizhevsky, 2009) is at cs.toronto.edu/~kriz/cifar.html: extract the binary version, cifar-10-binary.tar.gz, into "
    "this folder; nothing is downloaded here."
)


def mnist_files(folder: str | Path) -> Split:
    """MNIST from its four IDX files: 60,000 images to train, 10,000 to test; and others in that format, as Fashion-MNIST.

    An IDX file is two zero bytes, the type of its numbers (8: bytes), how many axes there are, their sizes (32 bits, big-endian),
    and the numbers. The files may be as published (.gz) or unpacked, and lie in the folder or in its MNIST/raw (torchvision's).

    Args:
        folder: has train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte.

    Returns:
        A named tuple: train_images [60000, 784] in 0..1, train_labels [60000], test_images [10000, 784], test_labels.

    Raises:
        FileNotFoundError: naming the file that is missing, and where it comes from.
        ValueError: for a file that is not IDX, or ends too early.
    """
    tensors = []
    for part in ("train", "t10k"):
        images, labels = (idx(Path(folder), f"{part}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{part}: images must be [n, height, width] and labels [n], but got {images.shape}, {labels.shape}."
            )
        tensors += [scaled(images.reshape(len(images), -1)), torch.tensor(labels.astype(np.int64))]
    return Split(*tensors)


def idx(folder: Path, name: str) -> np.ndarray:
    """The bytes of an IDX file, in its shape."""
    path = found(folder, [name, f"{name}.gz", f"MNIST/raw/{name}", f"MNIST/raw/{name}.gz"], MNIST)
    try:
        whole = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); copy it again.") from None
    if len(whole) < 4 or whole[:3] != b"\0\0\x08":
        raise ValueError(f"{path} begins with {whole[:4]!r}, but an IDX file of bytes with 0, 0, 8.")
    begin = 4 + 4 * whole[3]
    shape = tuple(map(int, np.frombuffer(whole[4:begin].ljust(4 * whole[3], b"\0"), ">u4")))
    if len(whole) != begin + math.prod(shape):
        raise ValueError(
            f"{path} has {len(whole)} bytes, but {begin + math.prod(shape)} for its shape {shape}; copy it again."
        )
    return np.frombuffer(whole, np.uint8, offset=begin).reshape(shape)


def cifar10(folder: str | Path) -> Split:
    """CIFAR-10 from its binary version: 50,000 images to train, 10,000 to test.

    A file has 3,073 bytes for each image: its label, and 32 x 32 numbers of red, green and blue, row by row. As float32 all of
    them take 737 MB.

    Args:
        folder: has data_batch_1.bin to data_batch_5.bin and test_batch.bin, or their folder cifar-10-batches-bin.

    Returns:
        A named tuple: train_images [50000, 3, 32, 32] in 0..1, train_labels [50000], test_images [10000, 3, 32, 32], test_labels.

    Raises:
        FileNotFoundError: naming the file that is missing, and where it comes from.
        ValueError: for a file that is no whole number of images, or has a label above 9.
    """
    train = [read_cifar10(Path(folder), f"data_batch_{number}.bin") for number in range(1, 6)]
    images, labels = zip(*train, strict=True)
    return Split(torch.cat(images), torch.cat(labels), *read_cifar10(Path(folder), "test_batch.bin"))


def read_cifar10(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    path = found(folder, [name, f"cifar-10-batches-bin/{name}"], CIFAR10)
    whole = np.fromfile(path, np.uint8)
    if len(whole) == 0 or len(whole) % 3073:
        raise ValueError(
            f"{path} has {len(whole)} bytes, which is not a whole number of images of 3073; copy it again."
        )
    rows = whole.reshape(-1, 3073)
    if rows[:, 0].max() > 9:
        raise ValueError(f"{path} has the label {rows[:, 0].max()}, but CIFAR-10 has 0 to 9.")
    return scaled(rows[:, 1:].reshape(-1, 3, 32, 32)), torch.tensor(rows[:, 0].astype(np.int64))


def found(folder: Path, names: list[str], origin: str) -> Path:
    """The first of these files that is there."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{names[0]} is not in {folder}. {origin}")


def scaled(pixels: np.ndarray) -> Tensor:
    """Bytes as float32 in 0..1."""
    return torch.tensor(pixels, dtype=torch.float32).div_(255)
