"""Data that is at hand without a download.

>>> from tfexplore import data
>>> split = data.digits()
>>> data.currents(split.train_images[:2], steps=5).shape     # [T, B, pixels]
torch.Size([5, 2, 64])
"""

from tfexplore.data.datasets import Split, currents, digits

__all__ = ["Split", "currents", "digits"]
