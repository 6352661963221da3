"""PyTorch modules and operators: layers, wrappers, state carried and traces recorded, schedules, losses.

>>> import torch
>>> from tfexplore import nn
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), nn.LIF(tau=2.0))
>>> with nn.carry(net):
...     chunks = [net(x) for x in torch.rand(10, 2, 4).split(5)]     # the second goes on from the state of the first
>>> [chunk.shape for chunk in chunks]
[torch.Size([5, 2, 3]), torch.Size([5, 2, 3])]
"""

from tfexplore.nn import losses, penalties
from tfexplore.nn.bit_saving import BitSaving
from tfexplore.nn.capturing import Captured, capture
from tfexplore.nn.checks import State
from tfexplore.nn.fusion import fuse
from tfexplore.nn.layers import Layer
from tfexplore.nn.library import ALIF, EIF, IF, LI, LIF, QIF, CubaLIF, Izhikevich, NeuronLayer, PaperLIF, ParametricLIF
from tfexplore.nn.readouts import readout
from tfexplore.nn.recurrent import Recurrent
from tfexplore.nn.schedules import layer_by_layer, step_by_step
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.states import States, Traces, carry, padded, record
from tfexplore.nn.warming import warm
from tfexplore.nn.wrappers import FoldTime

__all__ = [
    "ALIF", "EIF", "IF", "LI", "LIF", "QIF", "BitSaving", "Captured", "CubaLIF", "FoldTime", "Izhikevich", "Layer", "NeuronLayer",
    "PaperLIF", "ParametricLIF", "Recurrent", "State", "Stateful", "States", "Traces", "capture", "carry", "fuse",
    "layer_by_layer", "losses", "padded", "penalties", "readout", "record", "step_by_step", "warm",
]  # fmt: skip
