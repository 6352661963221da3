"""tfexplore: see, measure and use temporal fusion in spiking neural networks.

A layer is a neuron (its equations), a schedule (the order of the walk) and a backend (who executes it):

>>> import torch, tfexplore
>>> layer = tfexplore.LIF(tau=2.0)
>>> layer(torch.rand(100, 8, 32)).shape     # [T, B, *features], all 100 steps in one kernel
torch.Size([100, 8, 32])
"""

import importlib
from types import ModuleType

from tfexplore import backends, codegen, neurons, nn
from tfexplore.neurons import Neuron, surrogates
from tfexplore.nn import schedules
from tfexplore.nn.layers import ALIF, EIF, IF, LI, LIF, QIF, CubaLIF, Izhikevich, Layer, PaperLIF, ParametricLIF
from tfexplore.nn.schedules import layer_by_layer, step_by_step
from tfexplore.nn.states import carry, record
from tfexplore.nn.wrappers import FoldTime, Recurrent

__version__ = "0.1.0"

__all__ = [
    "ALIF", "EIF", "IF", "LI", "LIF", "QIF", "CubaLIF", "FoldTime", "Izhikevich", "Layer", "Neuron", "PaperLIF",
    "ParametricLIF", "Recurrent", "backends", "carry", "codegen", "layer_by_layer", "neurons", "nn", "record", "schedules",
    "step_by_step", "surrogates",
]  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in (
        "explore",
        "puzzles",
        "timesplit",
    ):  # need plotly or torch.distributed: imported when they are asked for
        return importlib.import_module(f"tfexplore.{name}")
    raise AttributeError(f"module 'tfexplore' has no attribute {name!r}")
