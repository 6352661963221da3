"""The files that event recordings come in: each reader gives one sample's events after the other, and names a broken file.

N-MNIST's .bin and AEDAT 2.0 are read by tonic, HDF5 by h5py. Tonic takes a truncated file for a whole one, so what a file should
hold is checked here first. AEDAT 3.1 is decoded here: tonic takes every packet for events of pixels, also the camera's special
events and those that it marked invalid. Addresses are decoded here too: `tonic.io.read_dvs_128` of tonic 1.7 fails at every call.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Events(NamedTuple):
    """The events of one sample: times t [n] in whole microseconds from its beginning, and each one's place in the sensor.

    at has an array [n] for each axis of the sensor: (unit,) of SHD and SSC, (polarity, y, x) of a camera.
    """

    t: np.ndarray
    at: tuple[np.ndarray, ...]


class RecordedFile(NamedTuple):
    """One recording on disk, with one sample or several.

    files: the recording itself, and others that it is read with; a change of one of them is a change of the recording.
    labels: the class of each sample.
    read: the events of one sample after the other, from the sample of this number on.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    read: Callable[[int], Iterator[Events]]


def events_of(recordings: Iterable[RecordedFile], first: int = 0) -> Iterator[tuple[Path, int, int, Events]]:
    """File, number within it, class and events of each sample, from the sample of this number on."""
    for recording in recordings:
        labels = recording.labels
        if first < len(labels):
            for number, events in enumerate(recording.read(first), first):
                yield recording.files[0], number, labels[number], events
        first = max(0, first - len(labels))


class BrokenFile(ValueError):
    """A file is not what its format says, or ends too early."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}; copy it, or extract its archive, again.")


# -- SHD and SSC -------------------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The HDF5 file, for reading."""
    try:
        import h5py
    except ImportError:
        raise ImportError("SHD and SSC are HDF5 files, which h5py reads: pip install h5py.") from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError) as error:
        raise BrokenFile(path, f"is not a whole HDF5 file of SHD's form ({error})") from None


def hdf5(path: Path) -> RecordedFile:
    """SHD and SSC: spikes/times in seconds and spikes/units, of variable length, and labels (Cramer et al., 2022).

    Their times are float16: beyond half a second they are half a millisecond apart, beyond a second a whole one.
    """
    with opened(path) as file:
        names = ("labels", "spikes/times", "spikes/units")
        if absent := [name for name in names if name not in file]:
            raise BrokenFile(path, f"has no {' and no '.join(absent)}")
        counts = [len(file[name]) for name in names]
        labels = tuple(map(int, file["labels"][:]))
    if len(set(counts)) > 1:
        raise BrokenFile(path, "has {} labels, but {} samples of times and {} of units".format(*counts))

    def read(first: int) -> Iterator[Events]:
        with opened(path) as file:
            times, units = file["spikes/times"], file["spikes/units"]
            for sample in range(first, len(labels)):
                t, unit = times[sample].astype(np.float64), units[sample].astype(np.int64)
                if len(t) != len(unit) or not np.isfinite(t).all():
                    raise BrokenFile(path, f"has in sample {sample} no finite time for each unit")
                yield Events(np.rint(t * 1e6).astype(np.int64), (unit,))

    return RecordedFile((path,), labels, read)


def class_names(path: Path) -> tuple[str, ...]:
    """The words of SHD and SSC in the order of their labels, as the file has them (extra/keys); () where it has none."""
    with opened(path) as file:
        return tuple(word.decode() for word in file["extra/keys"][:]) if "extra/keys" in file else ()


# -- event cameras -----------------------------------------------------------------------------------------------------------


def tonic_io() -> Any:
    try:
        from tonic import io
    except ImportError:
        raise ImportError("Recordings of event cameras are read by tonic: pip install tonic.") from None
    return io


def one(path: Path, label: int, decode: Callable[[Path], Events]) -> RecordedFile:
    """A file with one sample."""
    return RecordedFile((path,), (label,), lambda first: iter([decode(path)][first:]))


def nmnist_bin(path: Path) -> Events:
    """N-MNIST: 40 bits an event: x and y (8 bits each), polarity (1), time in microseconds (23) (Orchard et al., 2015)."""
    if path.stat().st_size % 5 or not path.stat().st_size:
        raise BrokenFile(path, f"has {path.stat().st_size} bytes, which is not a whole number of events of 5 bytes")
    events = tonic_io().read_mnist_file(str(path), dtype=np.dtype([(name, np.int64) for name in "xytp"]))
    return Events(events["t"], (events["p"], events["y"], events["x"]))


def aedat2(path: Path) -> Events:
    """AEDAT 2.0 of a DVS128 (CIFAR10-DVS): 32 bits of address and of time in microseconds, big-endian, after a header of text.

    Bit 0 of the address is the polarity, 0 for ON; bits 1-7 and 8-14 are the pixel. They become x, y and p as by the
    data set's own dat2mat.m: y = 127 - (bits 1-7), x = 127 - (bits 8-14), and 1 for ON. The first event is at time 0.
    """
    io = tonic_io()
    check_version(path, b"#!AER-DAT2.0")
    start = io.read_aedat_header_from_file(str(path))[1]
    if (path.stat().st_size - start) % 8:
        raise BrokenFile(
            path, f"has {path.stat().st_size - start} bytes of events, which is not a whole number of 8 each"
        )
    events = io.get_aer_events_from_file(str(path), 2.0, start)
    t, address = events["timeStamp"].astype(np.int64), events["address"].astype(np.int64)
    return Events(t - t.min(), (1 - (address & 1), 127 - (address >> 1 & 127), 127 - (address >> 8 & 127)))


PACKET = np.dtype([
    ("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("time_at", "<i4"), ("overflow", "<i4"), ("capacity", "<i4"),
    ("number", "<i4"), ("valid", "<i4"),
])  # fmt: skip
"""AEDAT 3.1: the header of each packet of events."""
PIXELS = 1
"""The type of a packet of polarity events: data (bit 0 valid, 1 polarity, 2-16 y, 17-31 x) and time, 32 bits each."""


def aedat3(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """AEDAT 3.1: times [n] in microseconds and data words [n] of the valid polarity events; other packets are passed over."""
    check_version(path, b"#!AER-DAT3.1")
    whole = path.read_bytes()
    mark = b"#!END-HEADER\r\n"
    at = whole.find(mark) + len(mark)
    if at < len(mark):
        raise BrokenFile(path, "has no end of its header")
    packets = []
    while at < len(whole):
        if at + PACKET.itemsize > len(whole):
            raise BrokenFile(path, "ends within the header of a packet")
        header = np.frombuffer(whole, PACKET, 1, at)[0]
        size, capacity, number = int(header["size"]), int(header["capacity"]), int(header["number"])
        at += PACKET.itemsize
        if size < 1 or not 0 <= number <= capacity or (header["type"] == PIXELS and size != 8):
            raise BrokenFile(path, f"has at byte {at - PACKET.itemsize} no header of a packet")
        if at + size * capacity > len(whole):
            raise BrokenFile(path, f"ends within a packet of {capacity} events")
        if header["type"] == PIXELS:
            words = np.frombuffer(whole, "<u4", 2 * number, at).reshape(-1, 2)
            packets.append(words[words[:, 0] & 1 == 1])
            if len(packets[-1]) != header["valid"]:
                raise BrokenFile(
                    path, f"has a packet of {len(packets[-1])} valid events, but {header['valid']} in its header"
                )
        at += size * capacity
    words = np.concatenate([np.empty((0, 2), "<u4"), *packets])
    return words[:, 1].astype(np.int64), words[:, 0].astype(np.int64)


def gestures(path: Path, table: Path) -> RecordedFile:
    """DVS128-Gesture: one person's gestures in AEDAT 3.1; a table has the class, begin and end of each.

    An event at the end of a gesture is no longer part of it. Classes count from 0 here, from 1 in the file.
    """
    try:
        with table.open(newline="") as file:
            rows = [
                (int(row["class"]), int(row["startTime_usec"]), int(row["endTime_usec"]))
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError):
        raise BrokenFile(table, "is no table with class, startTime_usec and endTime_usec") from None

    def read(first: int) -> Iterator[Events]:
        t, data = aedat3(path)
        for _, begin, end in rows[first:]:
            chosen = (begin <= t) & (t < end)
            word = data[chosen]
            yield Events(t[chosen] - begin, (word >> 1 & 1, word >> 2 & 0x7FFF, word >> 17))

    return RecordedFile((path, table), tuple(label - 1 for label, _, _ in rows), read)


def gesture_npy(path: Path) -> Events:
    """DVS128-Gesture as tonic distributes it: a numpy array [n, 4] of x, y, polarity and milliseconds; the first is at time 0."""
    try:
        x, y, p, ms = np.load(path, allow_pickle=False).astype(np.int64).T
        return Events(1000 * (ms - ms.min()), (p, y, x))
    except (ValueError, EOFError) as error:
        raise BrokenFile(path, f"is not a whole array of x, y, p and t ({error})") from None


def check_version(path: Path, wanted: bytes) -> None:
    with path.open("rb") as file:
        came = file.readline(80).strip()
    if came != wanted:
        raise BrokenFile(path, f"begins with {came[:20]!r}, not with {wanted!r}")
