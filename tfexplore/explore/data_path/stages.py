"""The bytes of a data set of spikes at each stage of training, as float32 and as bits: counted, not computed."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import dataclass
from pathlib import Path

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


def passed(layer: nn.Module, weight: Tensor, x: Tensor) -> tuple[int, Tensor]:
    """The bytes that a layer's forward pass leaves in memory besides its output, and the gradient of its weight."""
    before = storages()
    out = layer(x.clone())  # which nobody else keeps
    found = storages()
    del found[out.untyped_storage().data_ptr()]
    (gradient,) = torch.autograd.grad(out.square().sum(), weight)
    return sum(size for place, size in found.items() if place not in before), gradient


def storages() -> dict[int, int]:
    """The bytes of all tensors' memory that there is, by its place."""
    tensors = [each for each in gc.get_objects() if type(each) in (Tensor, nn.Parameter)]
    return {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors if each.is_cpu}
