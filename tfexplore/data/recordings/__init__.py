"""Recordings of events on disk, binned into time steps and packed as bits: SHD, SSC, N-MNIST, DVS128-Gesture, CIFAR10-DVS.

A loader takes the folder in which the data set's archive was extracted, and downloads nothing. The first call reads every
recording and writes the packed samples beside them, with a checksum; the next ones read that file.

``data.shd(folder, "test", steps=100, dt=0.01)`` gives a `PackedDataset` of `[2264, 100, 700]` spikes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Required, TypedDict, Unpack

import torch

from tfexplore.data.bits import pack
from tfexplore.data.packed import PackedDataset
from tfexplore.data.recordings import sources
from tfexplore.data.recordings.binning import window
from tfexplore.data.recordings.cache import Progress, cached, each, key, line
from tfexplore.data.recordings.formats import BrokenFile, Events
from tfexplore.data.recordings.sources import Source

__all__ = [
    "BrokenFile", "Events", "Source", "cifar10_dvs", "dvs128_gesture", "line", "load", "nmnist", "shd", "ssc",
]  # fmt: skip


class Options(TypedDict, total=False):
    """The arguments by name that all loaders share: those of `load`."""

    steps: Required[int]
    dt: float | None
    duration: float | None
    late: str
    bits: int
    counts: str
    cache: str | Path | None
    progress: Progress | None


def load(
    source: Source,
    folder: str | Path,
    split: str = "train",
    *,
    steps: int,
    dt: float | None = None,
    duration: float | None = None,
    late: str = "refuse",
    bits: int = 1,
    counts: str = "refuse",
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> PackedDataset:
    """One part of a data set of recordings: its events counted in time steps, and packed as bits.

    With the time t of an event since its sample's beginning, T steps and their duration D (T dt), in whole microseconds::

        step = floor(t T / D),   0 <= t < D

    What is binned is kept in a file whose name has a fingerprint of the options and of each file's name, size and time stamp, so
    that another T, or a recording that changed, makes a new one. It is written in pieces of 256 samples: after an interruption
    the next call goes on behind the last of them. Files of earlier options stay until you delete them.

    Args:
        source: the data set, such as `sources.SHD`.
        folder: where its archive was extracted.
        split: the part: "train", "test", or what the data set has.
        steps: T.
        dt: the length of a step, in seconds; or
        duration: that of all T steps.
        late: what to do with events that are not within the steps: `"refuse"` them, naming how many and the last, or `"drop"`
            them.
        bits: for each count: 1, 2, 4 or 8, which hold up to 1, 3, 15 or 255.
        counts: `"refuse"` larger ones; or `"any"`, with one bit: a 1 wherever there is any event.
        cache: the folder of the packed file; None for tfexplore-packed beside the data.
        progress: called as `progress(done, total)` after each piece, such as `line`, which writes to stderr, or `print`; None
            for silence.

    Returns:
        The samples `[N, T, *sensor]`, labels, lengths (the steps up to each sample's last event, 0 without any) and the names of
        the classes.

    Raises:
        FileNotFoundError: naming the file that is missing, and where the data set comes from.
        BrokenFile: a ValueError, naming the file that is truncated or something else than it should be.
        ValueError: for events or counts that were to be refused, naming the file; or an argument out of range.
        ImportError: without h5py or tonic, which read the files.
    """
    bins = window(steps, dt, duration)
    if late not in ("refuse", "drop"):
        raise ValueError(f"late must be 'refuse' or 'drop', but got {late!r}.")
    pack(torch.zeros(1), bits=bits, counts=counts)  # refuses other bits and counts before anything is read
    folder = Path(folder)
    recordings, names = source.recordings(folder, split)
    name = f"{source.name}-{split}-T{steps}-{key(folder, recordings, source.sensor, split, bins, late, bits, counts)}"
    samples = each(recordings, source.sensor, bins, late, bits, counts, names)
    total = sum(len(recording.labels) for recording in recordings)
    if not total:
        raise ValueError(f"{source.name} has no sample in {folder}. {source.origin}")
    return cached(folder / "tfexplore-packed" if cache is None else Path(cache), name, total, samples, progress)


def shd(folder: str | Path, split: str = "train", **options: Unpack[Options]) -> PackedDataset:
    """Spiking Heidelberg Digits: spoken digits in English and German, 20 classes, as spikes of 700 units (Cramer et al., 2022).

    8,156 recordings to train and 2,264 to test. The longest take 1.4 s; their times are float16, which beyond half a second are
    half a millisecond apart. Samples are `[T, 700]`.

    Args:
        folder: has shd_train.h5 and shd_test.h5, unpacked, or tonic's folder SHD.
        split: "train" or "test".
        options: those of `load`.
    """
    return load(sources.SHD, folder, split, **options)


def ssc(folder: str | Path, split: str = "train", **options: Unpack[Options]) -> PackedDataset:
    """Spiking Speech Commands: 35 English words, as spikes of 700 units (Cramer et al., 2022).

    75,466 recordings to train, 9,981 to validate and 20,382 to test, of about one second. Samples are `[T, 700]`.

    Args:
        folder: has ssc_train.h5, ssc_valid.h5 and ssc_test.h5, unpacked, or tonic's folder SSC.
        split: "train", "valid" or "test".
        options: those of `load`.
    """
    return load(sources.SSC, folder, split, **options)


def nmnist(folder: str | Path, split: str = "train", **options: Unpack[Options]) -> PackedDataset:
    """N-MNIST: MNIST's digits on a screen before a camera that moved along a triangle (Orchard et al., 2015).

    60,000 recordings to train and 10,000 to test, of three saccades and 0.3 s. Many pixels have several events in a step: say
    `bits` or `counts="any"`. Samples are `[T, 2, 34, 34]`: polarity (OFF, ON), y, x.

    Args:
        folder: has Train/0 ... Train/9 and Test/0 ... Test/9, or tonic's folder NMNIST with them.
        split: "train" or "test".
        options: those of `load`.
    """
    return load(sources.NMNIST, folder, split, **options)


def dvs128_gesture(folder: str | Path, split: str = "train", **options: Unpack[Options]) -> PackedDataset:
    """DVS128-Gesture: eleven gestures of 29 people before an event camera (Amir et al., 2017).

    A sample is one gesture, from its begin to its end in the table of labels, six seconds on average: say how many of them you
    want, and `late="drop"` for the rest. Samples are `[T, 2, 128, 128]`: polarity (OFF, ON), y, x.

    Args:
        folder: has DvsGesture, as extracted (recordings in AEDAT 3.1, and trials_to_train.txt), or tonic's folder DVSGesture.
        split: "train" or "test".
        options: those of `load`.
    """
    return load(sources.DVS128_GESTURE, folder, split, **options)


def cifar10_dvs(folder: str | Path, split: str = "train", **options: Unpack[Options]) -> PackedDataset:
    """CIFAR10-DVS: 10,000 pictures of CIFAR-10 that moved on a screen before an event camera (Li et al., 2017).

    It has no split of its own: "train" is, as usual, the first nine tenths of each class, "test" the rest. Samples are
    `[T, 2, 128, 128]`: polarity (OFF, ON), y, x; the first event is at time 0.

    Args:
        folder: has airplane ... truck, with cifar10_airplane_0.aedat and so on (AEDAT 2.0). The .aedat4 that tonic makes of them
            are not read.
        split: "train", "test" or "all".
        options: those of `load`.
    """
    return load(sources.CIFAR10_DVS, folder, split, **options)
