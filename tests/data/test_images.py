"""MNIST's and CIFAR-10's own files: what went in comes out, as from mlxtend; a missing or truncated one is one error."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.recorded_files import idx_bytes
from tfexplore.data import cifar10, mnist_files

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def mnist(tmp_path: Path) -> list[np.ndarray]:
    """Five images to train and three to test, in four files."""
    random = np.random.default_rng(0)
    parts = [random.integers(0, 256, (5, 28, 28)), np.arange(5), random.integers(0, 256, (3, 28, 28)), np.arange(3)]
    for name, numbers in zip(NAMES, parts, strict=True):
        (tmp_path / name).write_bytes(idx_bytes(numbers.astype(np.uint8)))
    return parts


def test_mnist_files(tmp_path: Path, mnist: list[np.ndarray]) -> None:
    for tensor, numbers, divisor in zip(mnist_files(tmp_path), mnist, (255, 1, 255, 1), strict=True):
        np.testing.assert_allclose(tensor.numpy(), numbers.reshape(tensor.shape) / divisor, atol=1e-7)


def test_mlxtend_reads_the_same(tmp_path: Path, mnist: list[np.ndarray]) -> None:
    mlxtend = pytest.importorskip("mlxtend.data", reason="reads IDX, as an oracle")
    images, labels = mlxtend.loadlocal_mnist(str(tmp_path / NAMES[0]), str(tmp_path / NAMES[1]))
    found = mnist_files(tmp_path)
    np.testing.assert_allclose(found.train_images.numpy(), images / 255, atol=1e-7)
    assert found.train_labels.tolist() == labels.tolist()


def test_as_published_and_in_the_folder_of_torchvision(tmp_path: Path, mnist: list[np.ndarray]) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        (raw / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    assert mnist_files(tmp_path).train_images.shape == (5, 784)
    (raw / f"{NAMES[1]}.gz").write_bytes((raw / f"{NAMES[1]}.gz").read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is not a whole gzip file"):
        mnist_files(tmp_path)


def test_a_missing_file_says_which_and_from_where(tmp_path: Path, mnist: list[np.ndarray]) -> None:
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^t10k-images-idx3-ubyte is not in .*LeCun.*nothing is downloaded here\.$"
    ):
        mnist_files(tmp_path)


@pytest.mark.parametrize(
    ("keep", "message"),
    [(slice(0, -1), "has 3935 bytes, but 3936 for its shape"), (slice(0, 9), "has 9 bytes"), (slice(4, 40), "begins with"),
     (slice(0, 2), "begins with")],
)  # fmt: skip
def test_truncated_idx(tmp_path: Path, mnist: list[np.ndarray], keep: slice, message: str) -> None:
    path = tmp_path / NAMES[0]
    path.write_bytes(path.read_bytes()[keep])
    with pytest.raises(ValueError, match=f"{NAMES[0]} {message}"):
        mnist_files(tmp_path)


def test_a_damaged_gzip_file(tmp_path: Path, mnist: list[np.ndarray]) -> None:
    """Its deflated blocks, not only its checksum."""
    path = tmp_path / "train-labels-idx1-ubyte"
    whole = bytearray(gzip.compress(path.read_bytes()))
    whole[10] = 0xFF  # a block of the reserved type 3
    path.unlink()
    path.with_suffix(".gz").write_bytes(whole)
    with pytest.raises(ValueError, match=r"not a whole gzip file .*copy it again"):
        mnist_files(tmp_path)


def test_labels_that_do_not_belong_to_the_images(tmp_path: Path, mnist: list[np.ndarray]) -> None:
    (tmp_path / NAMES[1]).write_bytes(idx_bytes(np.arange(4, dtype=np.uint8)))
    with pytest.raises(
        ValueError, match=r"train: images must be \[n, height, width\] and labels \[n\], but got \(5, 28, 28\), \(4,\)"
    ):
        mnist_files(tmp_path)


def test_cifar10(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    pixels = (
        np.random.default_rng(1).integers(0, 256, (12, 3, 32, 32)).astype(np.uint8)
    )  # two images in each of six files
    for number, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
        rows = [bytes([number]) + pixels[k].tobytes() for k in (2 * number, 2 * number + 1)]
        (folder / name).write_bytes(b"".join(rows))
    for where in (tmp_path, folder):
        found = cifar10(where)
        np.testing.assert_allclose(found.train_images.numpy(), pixels[:10] / 255, atol=1e-7)
        np.testing.assert_allclose(found.test_images.numpy(), pixels[10:] / 255, atol=1e-7)
        assert found.train_labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert found.test_labels.tolist() == [5, 5]
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(
        ValueError, match=r"data_batch_3\.bin has 6145 bytes, which is not a whole number of images of 3073"
    ):
        cifar10(tmp_path)
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(ValueError, match=r"data_batch_3\.bin has the label 10"):
        cifar10(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^data_batch_3\.bin is not in .*Krizhevsky"):
        cifar10(tmp_path)
