"""Binned recordings stay beside the data as bits, with a checksum: made once, in pieces; an interruption costs one of them."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from tfexplore.data.bits import pack
from tfexplore.data.packed import PackedDataset
from tfexplore.data.recordings.binning import Window, binned
from tfexplore.data.recordings.formats import RecordedFile, events_of
from tfexplore.machine.files import fingerprint
from tfexplore.machine.paths import writable

RULE = 1
"""Part of each cache's name: to be raised when the same recordings and options come to give other samples."""
PIECE = 256
"""Samples in a file of an unfinished cache: what an interruption costs at most."""

Progress = Callable[[int, int], None]


def line(done: int, total: int) -> None:
    """Progress in one line of stderr, which each call writes anew; a notebook shows it below the cell."""
    print(f"\r{done:,} of {total:,} samples", end="\n" if done == total else "", file=sys.stderr, flush=True)


def key(folder: Path, recordings: list[RecordedFile], *options: object) -> str:
    """Differs wherever the binned samples may differ: in an option, or in the name, size or time stamp of a file."""
    stamps = []
    for path in (path for recording in recordings for path in recording.files):
        stat = path.stat()
        stamps.append(f"{path.relative_to(folder).as_posix()} {stat.st_size} {stat.st_mtime_ns}")
    return fingerprint(*map(repr, (RULE, *options)), *stamps)


def cached(
    home: Path, name: str, total: int, samples: Callable[[int], Iterator[PackedDataset]], progress: Progress | None
) -> PackedDataset:
    """The data set of this name in the folder; where it is not there, or only a part of it, it is made.

    Args:
        home: the folder of the cache.
        name: of the file.
        total: the number of samples.
        samples: one sample after the other, from this number on, each a data set of its own.
        progress: called with the number of samples that are done, and of all, after each piece.
    """
    whole, unfinished = home / f"{name}.npz", home / f"{name}.unfinished"
    if whole.exists():
        return PackedDataset.load(whole)
    reason = writable(unfinished)
    if reason:
        raise PermissionError(f"cannot write to {home} ({reason}); give a folder for the binned samples: cache=...")
    pieces = [unfinished / f"{begin:08}.npz" for begin in range(0, total, PIECE)]
    done = sum(1 for _ in itertools.takewhile(Path.exists, pieces))
    coming = samples(done * PIECE)
    try:
        for number, piece in enumerate(pieces[done:], done + 1):
            joined(itertools.islice(coming, PIECE)).save(piece)
            if progress:
                progress(min(number * PIECE, total), total)
        made = joined(map(PackedDataset.load, pieces))
        made.save(whole)
    except FileNotFoundError:
        if not whole.exists():
            raise
        made = PackedDataset.load(whole)  # another process has made the same meanwhile, and removed the pieces
    shutil.rmtree(unfinished, ignore_errors=True)
    return made


def each(
    recordings: list[RecordedFile],
    sensor: tuple[int, ...],
    window: Window,
    late: str,
    bits: int,
    counts: str,
    names: tuple[str, ...],
) -> Callable[[int], Iterator[PackedDataset]]:
    """The samples, binned and packed, from a number on; an error names the file."""

    def samples(first: int) -> Iterator[PackedDataset]:
        for path, number, label, events in events_of(recordings, first):
            try:
                found, length = binned(events, sensor, window, late)
                packed = pack(torch.from_numpy(found).float().unsqueeze(0), dim=1, bits=bits, counts=counts)
            except ValueError as error:
                raise ValueError(f"{path}, sample {number}: {error}") from None
            yield PackedDataset(packed, torch.tensor([label]), torch.tensor([length]), names)

    return samples


def joined(parts: Iterable[PackedDataset]) -> PackedDataset:
    """One data set of several."""
    parts = list(parts)
    words = torch.cat([part.spikes.words for part in parts])
    lengths = torch.cat([part.lengths for part in parts if part.lengths is not None])
    return PackedDataset(
        replace(parts[0].spikes, words=words), torch.cat([part.labels for part in parts]), lengths, parts[0].names
    )
