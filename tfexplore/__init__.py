"""tfexplore: see, measure and use temporal fusion in spiking neural networks.

A layer is a neuron (its equations), a schedule (the order of the walk) and a backend (who executes it):

>>> import torch, tfexplore
>>> layer = tfexplore.LIF(tau=2.0)
>>> layer(torch.rand(100, 8, 32)).shape     # [T, B, *features], all 100 steps in one kernel
torch.Size([100, 8, 32])
"""

from tfexplore import backends, neurons, schedules, surrogates
from tfexplore.layers import (
    ALIF, EIF, IF, LI, LIF, QIF, CubaLIF, FoldTime, Izhikevich, Layer, PaperLIF, ParametricLIF, Recurrent,
)  # fmt: skip
from tfexplore.states import carry, record

__version__ = "0.1.0"

__all__ = [
    "ALIF", "EIF", "IF", "LI", "LIF", "QIF", "CubaLIF", "FoldTime", "Izhikevich", "Layer", "PaperLIF", "ParametricLIF",
    "Recurrent", "backends", "carry", "neurons", "record", "schedules", "surrogates",
]  # fmt: skip
