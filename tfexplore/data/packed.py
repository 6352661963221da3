"""A whole data set of spikes on one device, as bits: shuffled, augmented and batched there, and one file on disk.

>>> import torch
>>> from tfexplore.data import Flip, PackedDataset, Shift, pack
>>> spikes = (torch.rand(100, 20, 2, 16, 16) < 0.1).float()              # [N, T, *features]
>>> dataset = PackedDataset(pack(spikes, dim=1), torch.arange(100) % 10)
>>> drawn = torch.Generator().manual_seed(0)
>>> for x, labels in dataset.batches(32, shuffle=drawn, augment=(Shift(2), Flip())):
...     pass                                                             # x: [T, B, 2, 16, 16]
>>> x.shape, labels.shape
(torch.Size([20, 4, 2, 16, 16]), torch.Size([4]))
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from tfexplore.backends import name_of
from tfexplore.data.bits import Packed, unpack
from tfexplore.neurons.parameters import check_between, checked_count

__all__ = ["Crop", "Flip", "PackedDataset", "Shift"]

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""Words [B, words of T, *features] -> those of other features; what is drawn for each sample comes from the generator."""


@dataclass(frozen=True)
class Shift:
    """Shifts each sample by up to so many places along each of these axes; zeros come in.

    Args:
        most: places; each sample's is drawn from -most ... most, for each axis.
        axes: of the features.
    """

    most: int
    axes: tuple[int, ...] = (-2, -1)

    def __post_init__(self) -> None:
        checked_count("most", self.most)

    def __call__(self, words: Tensor, generator: torch.Generator) -> Tensor:
        for axis in self.axes:
            size = size_of(self, words, axis)
            shift = drawn(2 * self.most + 1, words, generator) - self.most
            words = taken(words, axis, torch.arange(size, device=words.device) - shift)
        return words


@dataclass(frozen=True)
class Flip:
    """Mirrors each sample along an axis with probability p.

    Args:
        axis: of the features; the last: left and right.
        p: from 0 to 1.
    """

    axis: int = -1
    p: float = 0.5

    def __post_init__(self) -> None:
        check_between("p", self.p, 0, 1)

    def __call__(self, words: Tensor, generator: torch.Generator) -> Tensor:
        size = size_of(self, words, self.axis)
        flips = torch.rand((len(words), 1), generator=generator, device=generator.device).to(words.device) < self.p
        places = torch.arange(size, device=words.device)
        return taken(words, self.axis, torch.where(flips, size - 1 - places, places))


@dataclass(frozen=True)
class Crop:
    """Cuts a piece out of each sample, at a place of its own.

    Args:
        size: of the piece, along the last axes of the features.
    """

    size: tuple[int, ...]

    def __call__(self, words: Tensor, generator: torch.Generator) -> Tensor:
        for axis, piece in zip(range(-len(self.size), 0), self.size, strict=True):
            size = size_of(self, words, axis)
            checked_count("every size of Crop", piece, size)
            words = taken(
                words, axis, torch.arange(piece, device=words.device) + drawn(size - piece + 1, words, generator)
            )
        return words


def size_of(owner: object, words: Tensor, axis: int) -> int:
    """The features' size along this axis."""
    features = words.shape[2:]
    if not -len(features) <= axis < 0:
        raise ValueError(
            f"{owner} acts on axis {axis} of the features, counted from their end, but these are {tuple(features)}."
        )
    return features[axis]


def drawn(below: int, words: Tensor, generator: torch.Generator) -> Tensor:
    """A whole number from 0 on for each sample, [B, 1]."""
    made = torch.randint(below, (len(words), 1), generator=generator, device=generator.device)
    return made.to(words.device)


def taken(words: Tensor, axis: int, places: Tensor) -> Tensor:
    """Of each sample b what lies at places[b] along the axis; 0 where that is outside."""
    moved = words.movedim(axis, 1)
    size = moved.shape[1]
    samples = torch.arange(len(words), device=words.device).unsqueeze(1)
    found = moved[samples, places.clamp(0, size - 1)]
    outside = ((places < 0) | (places >= size)).view(*places.shape, *(1,) * (found.ndim - 2))
    return found.masked_fill_(outside, 0).movedim(1, axis)


class PackedDataset:
    """A data set of spikes in memory, as bits: a thirty-second of float32, where T fills its words.

    Args:
        spikes: `pack(x, dim=1)` of x `[N, T, *features]`.
        labels: `[N, ...]`.
        lengths: the steps of each sample, `[N]`, where they differ.
        names: of the classes.

    Raises:
        ValueError: where these do not fit together.
    """

    def __init__(
        self, spikes: Packed, labels: Tensor, lengths: Tensor | None = None, names: Sequence[str] = ()
    ) -> None:
        if spikes.dim != 1:
            raise ValueError(f"spikes must be packed along T, pack(x, dim=1) of x [N, T, ...], but got {spikes}.")
        for what, given in (("labels", labels), ("lengths", lengths)):
            if given is not None and given.shape[:1] != spikes.shape[:1]:
                raise ValueError(
                    f"{what} must have one for each of {len(spikes.words)} samples, but got shape {tuple(given.shape)}."
                )
        if lengths is not None and len(lengths) and not (lengths.min() >= 0 and lengths.max() <= spikes.length):
            raise ValueError(
                f"lengths must be from 0 to T = {spikes.length}, but got {lengths.min()} to {lengths.max()}."
            )
        self.spikes, self.names = spikes, tuple(names)
        self.labels = labels.to(spikes.device)
        self.lengths = None if lengths is None else lengths.to(spikes.device)

    def __len__(self) -> int:
        return len(self.spikes.words)

    def __getitem__(self, indices: slice | Sequence[int] | Tensor) -> PackedDataset:
        """The data set of these samples."""
        if not isinstance(indices, slice) and np.ndim(indices) == 0:
            raise TypeError(
                f"a data set is indexed by a slice, a list or a tensor, but got {indices!r}; write [k:k + 1] for sample k."
            )
        lengths = None if self.lengths is None else self.lengths[indices]
        return PackedDataset(self.spikes[indices], self.labels[indices], lengths, self.names)

    @property
    def steps(self) -> int:
        """T."""
        return self.spikes.length

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.spikes.device

    @property
    def nbytes(self) -> int:
        """Bytes of the words, the labels and the lengths."""
        return self.spikes.nbytes + self.labels.nbytes + (0 if self.lengths is None else self.lengths.nbytes)

    def to(self, device: torch.device | str) -> PackedDataset:
        """The same on another device."""
        return PackedDataset(self.spikes.to(device), self.labels, self.lengths, self.names)

    def __repr__(self) -> str:
        classes = f", {len(self.names)} classes" if self.names else ""
        return f"<PackedDataset of {len(self):,} samples{classes}: {self.spikes!r}>"

    def batches(
        self, size: int, *, shuffle: torch.Generator | None = None, augment: Sequence[Augmentation] = (), packed: bool = False,
        drop_last: bool = False,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """One epoch: batches `(x, labels)`, or `(x, labels, lengths)` where there are lengths.

        Samples are chosen and augmented as words, on the device, and then unpacked in one pass. A generator in the same state
        gives the same epoch.

        Args:
            size: B, samples in a batch.
            shuffle: draws the order, and what `augment` draws; None for the order of the data set.
            augment: one after the other, such as `(Shift(4), Flip())`.
            packed: give x as `Packed`, for a first layer that reads bits (`nn.BitSaving`), instead of unpacked float32.
            drop_last: leave out a last batch that is smaller.

        Shape:
            - x: `[T, B, *features]`

        Raises:
            ValueError: for a size below 1, or `augment` without a generator.
        """
        checked_count("size", size)
        if augment and shuffle is None:
            raise ValueError("augment draws from the generator of shuffle; give shuffle=torch.Generator().")
        return self._batches(size, shuffle, augment, packed, drop_last)

    def _batches(
        self, size: int, shuffle: torch.Generator | None, augment: Sequence[Augmentation], packed: bool, drop_last: bool
    ) -> Iterator[tuple[Any, ...]]:
        count = len(self)
        order = torch.arange(count)
        if shuffle is not None:
            order = torch.randperm(count, generator=shuffle, device=shuffle.device)
        for chosen in order.to(self.device).split(size):
            if len(chosen) < (size if drop_last else 1):  # of no samples, too, torch makes one piece
                return
            words = self.spikes.words[chosen]
            for change in augment:
                assert shuffle is not None
                words = change(words, shuffle)
            spikes = self.spikes
            x = Packed(words.transpose(0, 1), spikes.length, 0, spikes.bits, spikes.order, torch.float32)
            rest = [self.labels[chosen]] if self.lengths is None else [self.labels[chosen], self.lengths[chosen]]
            yield x if packed else unpack(x), *rest

    def save(self, path: str | Path) -> None:
        """Writes all of it to one file; whoever reads it meanwhile finds the old one or the new.

        It is an `.npz` of NumPy without pickle. Its arrays are `words` `[N, words of T, *features]`, `labels`, `lengths` and
        `names` (empty where there are none), and `about`, a line of JSON: T, bits, order, dtype, and the SHA-256 of all this.
        """
        path = Path(path)
        arrays: dict[str, Any] = {
            "words": self.spikes.words.cpu().numpy(),
            "labels": self.labels.cpu().numpy(),
            "lengths": np.zeros(0, np.int64) if self.lengths is None else self.lengths.cpu().numpy(),
            "names": np.array(self.names, dtype=np.str_),
        }
        about: dict[str, Any] = {
            "format": 1, "T": self.steps, "bits": self.spikes.bits, "order": self.spikes.order,
            "dtype": name_of(self.spikes.dtype), "has_lengths": self.lengths is not None,
        }  # fmt: skip
        about["sha256"] = sha256(arrays, about)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, about=np.array(json.dumps(about)), **arrays)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> PackedDataset:
        """What `save` has written.

        Args:
            path: of the file.
            device: where to put it.

        Raises:
            FileNotFoundError: without the file.
            ValueError: where it was changed since, or is another file.
        """
        with open(path, "rb") as file:
            try:
                found = cls._read(file)
            except MemoryError:
                raise
            except Exception as error:  # a damaged archive fails in many ways
                raise ValueError(
                    f"{path} is not a data set as PackedDataset.save wrote it ({error}); delete it and make it again."
                ) from error
        return found.to(device)

    @classmethod
    def _read(cls, file: BinaryIO) -> PackedDataset:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("words", "labels", "lengths", "names")}
            about = json.loads(str(archive["about"]))
        if about.pop("sha256") != sha256(arrays, about):
            raise ValueError("its content is another than its SHA-256")
        words, labels, lengths = (torch.from_numpy(arrays[name]) for name in ("words", "labels", "lengths"))
        spikes = Packed(words, about["T"], 1, about["bits"], about["order"], getattr(torch, about["dtype"]))
        return cls(spikes, labels, lengths if about["has_lengths"] else None, arrays["names"].tolist())


def sha256(arrays: dict[str, Any], about: dict[str, Any]) -> str:
    """Of the arrays' names, dtypes, shapes and bytes, and of what is said about them."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        found.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
