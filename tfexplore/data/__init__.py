"""Data at hand without a download, data on your disk, spikes as bits, and encoders from numbers to the input of a network.

>>> from tfexplore import data
>>> split = data.digits()
>>> data.currents(split.train_images[:2], steps=5).shape     # [T, B, pixels]
torch.Size([5, 2, 64])
"""

from tfexplore.data import encoders
from tfexplore.data.bits import Packed, pack, unpack
from tfexplore.data.datasets import Sequences, Split, digits, japanese_vowels, mnist
from tfexplore.data.encoders import currents
from tfexplore.data.images import cifar10, mnist_files
from tfexplore.data.moving import SimulatedEvents, moving_digits

__all__ = [
    "Packed", "Sequences", "SimulatedEvents", "Split", "cifar10", "currents", "digits", "encoders", "japanese_vowels", "mnist",
    "mnist_files", "moving_digits", "pack", "unpack",
]  # fmt: skip
