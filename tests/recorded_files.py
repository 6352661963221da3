"""Tiny recordings in the true formats, byte for byte as each format's documentation says, for the tests of the loaders.

An event is (t in microseconds, polarity, y, x); of SHD and SSC (t in seconds, unit).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

Event = tuple[int, int, int, int]


def some_events(seed: int, count: int, side: int, last: int) -> list[Event]:
    """In the order of time, the first at 0 and the last at `last`."""
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, last, count))
    times[0], times[-1] = 0, last
    return [(int(t), *map(int, random.integers(0, (2, side, side)))) for t in times]  # type: ignore[misc]


def write_shd(path: Path, samples: Sequence[tuple[Sequence[float], Sequence[int]]], labels: Sequence[int]) -> None:
    """spikes/times (float16) and spikes/units (uint16) of variable length, labels, extra/keys (Cramer et al., 2022)."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (len(samples),), dtype=h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (len(samples),), dtype=h5py.vlen_dtype(np.uint16))
        for number, (t, unit) in enumerate(samples):
            times[number], units[number] = np.array(t, np.float16), np.array(unit, np.uint16)
        file["labels"] = np.array(labels, np.uint16)
        file["extra/keys"] = np.array([word.encode() for word in ("zero", "one", "fünf")])


def nmnist_bytes(events: Iterable[Event]) -> bytes:
    """40 bits an event, the highest first: x 8, y 8, polarity 1, time 23 (the page of N-MNIST)."""
    return b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for t, p, y, x in events)


AEDAT3_HEADER = (
    b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-10-21 11:24:43\r\n#!END-HEADER\r\n"
)


def aedat3_packet(events: Sequence[Event], kind: int = 1, valid: Sequence[bool] | None = None) -> bytes:
    """A header of 28 bytes and events of 8, little-endian (AEDAT 3.1): validity in bit 0, polarity 1, y 2-16, x 17-31."""
    valid = [True] * len(events) if valid is None else valid
    header = struct.pack("<hhiiiiii", kind, 1, 8, 4, 0, len(events), len(events), sum(valid))
    return header + b"".join(
        struct.pack("<Ii", x << 17 | y << 2 | p << 1 | good, t)
        for (t, p, y, x), good in zip(events, valid, strict=True)
    )


def write_gestures(folder: Path, name: str, packets: bytes, rows: Iterable[tuple[int, int, int]]) -> None:
    """The archive's two files of one person: AEDAT 3.1, and the table of classes from 1 on, begin and end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.aedat").write_bytes(AEDAT3_HEADER + packets)
    table = "class,startTime_usec,endTime_usec\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    (folder / f"{name}_labels.csv").write_text(table)


def aedat2_bytes(events: Iterable[Event], start: int = 5_000_000) -> bytes:
    """After text, 32 bits of address and of time, big-endian: polarity (0 = ON) in bit 0, 127 - y in 1-7, 127 - x in 8-14."""
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"
    return header + b"".join(
        struct.pack(">II", (127 - x) << 8 | (127 - y) << 1 | (1 - p), start + t) for t, p, y, x in events
    )


def idx_bytes(numbers: np.ndarray) -> bytes:
    """0, 0, 8 (bytes), the number of axes, their sizes in 32 bits big-endian, and the numbers (the page of MNIST)."""
    return (
        struct.pack(">BBBB", 0, 0, 8, numbers.ndim)
        + struct.pack(f">{numbers.ndim}I", *numbers.shape)
        + numbers.tobytes()
    )


def counted(events: Iterable[Event], steps: int, duration: int, side: int) -> np.ndarray:
    """The events of a camera in time steps, counted one by one."""
    counts = np.zeros((steps, 2, side, side))
    for t, p, y, x in events:
        counts[int(t * steps // duration), p, y, x] += 1
    return counts
