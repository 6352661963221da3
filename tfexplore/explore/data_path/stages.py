"""The bytes of a data set of spikes at each stage of training, as float32 and as bits: counted, not computed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.data import PackedDataset, digits, pack
from tfexplore.nn import BitSaving

FLOATS, BITS = "float32", "bits"
DISK, DEVICE, BATCH, SAVED = STAGES = (
    "file on disk", "whole set on the device", "a batch, handed out", "saved for backward by the first layer",
)  # fmt: skip
HEADER = 128
"""Bytes in front of the array in a .npy file."""


@dataclass(frozen=True)
class Stages:
    """What spikes `[N, T, features]` take.

    Args:
        samples, steps, features: N, T and the neurons of the input.
        batch: samples in a batch.
        nbytes: by stage, then by "float32" and "bits".
        alike: whether the first layer's gradient has the same bits both ways.
    """

    samples: int
    steps: int
    features: int
    batch: int
    nbytes: dict[str, dict[str, int]]
    alike: bool

    def ratio(self, stage: str) -> float:
        """How many times less the bits take."""
        return self.nbytes[stage][FLOATS] / self.nbytes[stage][BITS]

    def sentence(self) -> str:
        device, saved = self.nbytes[DEVICE], self.nbytes[SAVED]
        same = "the same bits" if self.alike else "other bits: please report it"
        return (
            f"{self.samples:,} samples of {self.steps} steps of {self.features} neurons: {size(device[FLOATS])} as float32 or "
            f"{size(device[BITS])} as bits, 1/{self.ratio(DEVICE):.3g} of it. The first layer saves {size(saved[FLOATS])} or "
            f"{size(saved[BITS])}, and its weight's gradient has {same}."
        )


def size(nbytes: float) -> str:
    """
    >>> size(900), size(34_000), size(4_600_000)
    ('900 B', '33.2 kB', '4.39 MB')
    """
    power = next(k for k in (2, 1, 0) if nbytes >= 1024**k or not k)
    return f"{nbytes / 1024**power:.3g} {('B', 'kB', 'MB')[power]}"


def spikes(steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The digits as spikes [N, T, 64]: the brighter a pixel, the more often it fires; and their labels."""
    x, labels, _, _ = digits()
    draw = torch.rand(len(x), steps, x.shape[-1], generator=torch.Generator().manual_seed(seed))
    return (draw < x.unsqueeze(1)).float(), labels


def look(steps: int, batch: int) -> Stages:
    """Packs the data set, hands out its first batch, and runs the first layer of a network forward and backward on it."""
    x, labels = spikes(steps)
    packed = PackedDataset(pack(x, dim=1), labels)
    floats, words = next(iter(packed.batches(batch)))[0], next(iter(packed.batches(batch, packed=True)))[0]
    layer = nn.Linear(x.shape[-1], 128)
    saved, gradients = zip(*(passed(each, layer.weight, floats) for each in (layer, BitSaving(layer))), strict=True)
    nbytes = {
        DISK: (HEADER + x.nbytes, filed(packed)),
        DEVICE: (x.nbytes, packed.nbytes),
        BATCH: (floats.nbytes, words.nbytes),
        SAVED: saved,
    }
    pairs = {stage: dict(zip((FLOATS, BITS), pair, strict=True)) for stage, pair in nbytes.items()}
    return Stages(len(x), steps, x.shape[-1], batch, pairs, torch.equal(*gradients))


def filed(packed: PackedDataset) -> int:
    """The size of its file."""
    with tempfile.TemporaryDirectory(prefix="tfexplore-") as folder:
        path = Path(folder) / "spikes.npz"
        packed.save(path)
        return path.stat().st_size


def passed(layer: Callable[[Tensor], Tensor], weight: Tensor, x: Tensor) -> tuple[int, Tensor]:
    """The bytes that a layer's forward pass saves, its weight apart, and the weight's gradient."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() != weight.untyped_storage().data_ptr():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = layer(x)
    (gradient,) = torch.autograd.grad(out.square().sum(), weight)
    return sum(kept.values()), gradient
