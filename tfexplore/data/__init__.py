"""Data that is at hand without a download, and encoders from numbers to the input of a spiking network.

>>> from tfexplore import data
>>> split = data.digits()
>>> data.currents(split.train_images[:2], steps=5).shape     # [T, B, pixels]
torch.Size([5, 2, 64])
"""

from tfexplore.data import encoders
from tfexplore.data.datasets import Split, digits, mnist
from tfexplore.data.encoders import currents

__all__ = ["Split", "currents", "digits", "encoders", "mnist"]
