"""Data that is at hand without a download, encoders from numbers to the input of a spiking network, and spikes as bits.

>>> from tfexplore import data
>>> split = data.digits()
>>> data.currents(split.train_images[:2], steps=5).shape     # [T, B, pixels]
torch.Size([5, 2, 64])
"""

from tfexplore.data import encoders
from tfexplore.data.bits import Packed, pack, unpack
from tfexplore.data.datasets import Split, digits, mnist
from tfexplore.data.encoders import currents
from tfexplore.data.packed import Crop, Flip, PackedDataset, Shift

__all__ = [
    "Crop", "Flip", "Packed", "PackedDataset", "Shift", "Split", "currents", "digits", "encoders", "mnist", "pack", "unpack",
]  # fmt: skip
