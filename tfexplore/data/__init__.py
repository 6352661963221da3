"""Data at hand without a download, data on your disk, encoders from numbers to the input of a network, and spikes as bits.

>>> from tfexplore import data
>>> split = data.digits()
>>> data.currents(split.train_images[:2], steps=5).shape     # [T, B, pixels]
torch.Size([5, 2, 64])
"""

from tfexplore.data import encoders, recordings
from tfexplore.data.bits import Packed, pack, unpack
from tfexplore.data.datasets import Sequences, Split, digits, japanese_vowels, mnist
from tfexplore.data.encoders import currents
from tfexplore.data.images import cifar10, mnist_files
from tfexplore.data.moving import SimulatedEvents, moving_digits
from tfexplore.data.packed import Crop, Flip, PackedDataset, Shift
from tfexplore.data.recordings import cifar10_dvs, dvs128_gesture, nmnist, shd, ssc

__all__ = [
    "Crop", "Flip", "Packed", "PackedDataset", "Sequences", "Shift", "SimulatedEvents", "Split", "cifar10", "cifar10_dvs",
    "currents", "digits", "dvs128_gesture", "encoders", "japanese_vowels", "mnist", "mnist_files", "moving_digits", "nmnist",
    "pack", "recordings", "shd", "ssc", "unpack",
]  # fmt: skip
