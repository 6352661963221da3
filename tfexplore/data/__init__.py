"""Data that is at hand without a download, data on your disk, and encoders from numbers to the input of a spiking network.

>>> from tfexplore import data
>>> split = data.digits()
>>> data.currents(split.train_images[:2], steps=5).shape     # [T, B, pixels]
torch.Size([5, 2, 64])
"""

from tfexplore.data import encoders, recordings
from tfexplore.data.datasets import Sequences, Split, digits, japanese_vowels, mnist
from tfexplore.data.encoders import currents
from tfexplore.data.images import cifar10, mnist_files
from tfexplore.data.moving import SimulatedEvents, moving_digits
from tfexplore.data.recordings import cifar10_dvs, dvs128_gesture, nmnist, shd, ssc

__all__ = [
    "Sequences", "SimulatedEvents", "Split", "cifar10", "cifar10_dvs", "currents", "digits", "dvs128_gesture", "encoders",
    "japanese_vowels", "mnist", "mnist_files", "moving_digits", "nmnist", "recordings", "shd", "ssc",
]  # fmt: skip
