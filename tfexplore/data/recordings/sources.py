"""Which event recordings can be read: their files on disk, the sensor, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tfexplore.data.recordings import formats
from tfexplore.data.recordings.formats import Events, RecordedFile


class Source(NamedTuple):
    """One data set of recordings.

    sensor: the size of each axis: (units,), or (polarities, height, width), polarity 0 for OFF and 1 for ON.
    splits: the names of its parts.
    origin: where it is published.
    find: the recordings of one part in a folder, and the names of the classes, in an order that does not depend on the disk.
    """

    name: str
    sensor: tuple[int, ...]
    splits: tuple[str, ...]
    origin: str
    find: Callable[[Path, str], tuple[list[RecordedFile], tuple[str, ...]]]

    def recordings(self, folder: str | Path, split: str) -> tuple[list[RecordedFile], tuple[str, ...]]:
        """The recordings of this part in the folder, and the names of the classes."""
        if split not in self.splits:
            raise ValueError(f"split must be one of {', '.join(map(repr, self.splits))}, but got {split!r}.")
        try:
            return self.find(Path(folder), split)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.name} needs {error.args[0]}. {self.origin}") from None

    def events(self, folder: str | Path, split: str = "train") -> Iterator[tuple[int, Events]]:
        """Each sample's class and events as they were recorded: to look at, to count, or to bin in another way."""
        return ((label, events) for _, _, label, events in formats.events_of(self.recordings(folder, split)[0]))


def there(folder: Path, *names: str) -> Path:
    """The first of these names that is in the folder: the archive's own, and that which tonic gives it."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{' or '.join(names)} in {folder}, where it is not")


def sorted_files(folder: Path, pattern: str) -> list[Path]:
    """The files of this pattern, folder by folder, those numbered 9 before those numbered 10."""
    found = sorted(folder.glob(pattern), key=lambda path: (path.parent, len(path.name), path.name))
    if not found:
        raise FileNotFoundError(f"files {pattern} in {folder}, where there are none")
    return found


def find_hdf5(name: str) -> Callable[[Path, str], tuple[list[RecordedFile], tuple[str, ...]]]:
    def find(folder: Path, split: str) -> tuple[list[RecordedFile], tuple[str, ...]]:
        file = f"{name.lower()}_{split}.h5"
        path = there(folder, file, f"{name}/{file}")
        return [formats.hdf5(path)], formats.class_names(path)

    return find


def find_nmnist(folder: Path, split: str) -> tuple[list[RecordedFile], tuple[str, ...]]:
    root = there(folder, split.title(), f"NMNIST/{split.title()}")
    digits = tuple(map(str, range(10)))
    paths = [path for digit in digits for path in sorted_files(there(root, digit), "*.bin")]
    return [formats.one(path, int(path.parent.name), formats.nmnist_bin) for path in paths], digits


GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip


def find_gestures(folder: Path, split: str) -> tuple[list[RecordedFile], tuple[str, ...]]:
    listed = f"trials_to_{split}.txt"
    by_tonic = f"ibmGesture{split.title()}"
    root = there(folder, listed, f"DvsGesture/{listed}", by_tonic, f"DVSGesture/{by_tonic}")
    if root.is_dir():
        paths = sorted_files(root, "*/*.npy")
        return [formats.one(path, int(path.stem), formats.gesture_npy) for path in paths], GESTURES
    names = [name.removesuffix(".aedat") for name in root.read_text().split()]
    both = [(there(root.parent, f"{name}.aedat"), there(root.parent, f"{name}_labels.csv")) for name in names]
    return [formats.gestures(*files) for files in both], GESTURES


OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def find_cifar10_dvs(folder: Path, split: str) -> tuple[list[RecordedFile], tuple[str, ...]]:
    found = []
    for label, name in enumerate(OBJECTS):
        paths = sorted_files(there(folder, name, f"CIFAR10DVS/{name}"), "*.aedat")
        cut = len(paths) - len(paths) // 10
        chosen = {"train": paths[:cut], "test": paths[cut:], "all": paths}[split]
        found += [formats.one(path, label, formats.aedat2) for path in chosen]
    return found, OBJECTS


HEIDELBERG = (
    "It is on the page of the Spiking Heidelberg Datasets at compneuro.net (Cramer, Stradmann, Schemmel and Zenke, IEEE TNNLS "
    "2022), as a compressed HDF5 file to be unpacked; nothing is downloaded here."
)
SHD = Source("SHD", (700,), ("train", "test"), HEIDELBERG, find_hdf5("SHD"))
SSC = Source("SSC", (700,), ("train", "valid", "test"), HEIDELBERG, find_hdf5("SSC"))
NMNIST = Source(
    "N-MNIST", (2, 34, 34), ("train", "test"),
    "It is at garrickorchard.com/datasets/n-mnist (Orchard, Jayawant, Cohen and Thakor, Frontiers in Neuroscience 2015): extract "
    "Train.zip and Test.zip into this folder; nothing is downloaded here.",
    find_nmnist,
)  # fmt: skip
DVS128_GESTURE = Source(
    "DVS128-Gesture", (2, 128, 128), ("train", "test"),
    "It is at research.ibm.com/dvsgesture (Amir et al., CVPR 2017): extract DvsGesture.tar.gz into this folder; nothing is "
    "downloaded here.",
    find_gestures,
)  # fmt: skip
CIFAR10_DVS = Source(
    "CIFAR10-DVS", (2, 128, 128), ("train", "test", "all"),
    "It is the figshare item 'CIFAR10-DVS New' (Li, Liu, Ji, Li and Shi, Frontiers in Neuroscience 2017): extract its ten "
    "archives, airplane.zip to truck.zip, into this folder; nothing is downloaded here.",
    find_cifar10_dvs,
)  # fmt: skip
