"""tfexplore: see, measure and use temporal fusion in spiking neural networks.

A layer is a neuron (its equations), a schedule (the order of the walk) and a backend (what executes it):

>>> import torch, tfexplore
>>> layer = tfexplore.LIF(tau=2.0)
>>> layer(torch.rand(100, 8, 32)).shape     # [T, B, *features], all 100 steps in one kernel
torch.Size([100, 8, 32])
"""

import importlib
from types import ModuleType

from tfexplore import backends, codegen, data, neurons, nn
from tfexplore.neurons import Neuron, surrogates
from tfexplore.nn import (
    ALIF,
    EIF,
    IF,
    LI,
    LIF,
    QIF,
    CubaLIF,
    FoldTime,
    Izhikevich,
    Layer,
    PaperLIF,
    ParametricLIF,
    Recurrent,
    capture,
    carry,
    fuse,
    layer_by_layer,
    losses,
    padded,
    penalties,
    record,
    schedules,
    step_by_step,
    warm,
)

__version__ = "0.1.0"

__all__ = [
    "ALIF", "EIF", "IF", "LI", "LIF", "QIF", "CubaLIF", "FoldTime", "Izhikevich", "Layer", "Neuron", "PaperLIF",
    "ParametricLIF", "Recurrent", "backends", "capture", "carry", "codegen", "data", "fuse", "layer_by_layer",
    "losses", "neurons", "nn", "padded", "penalties", "record", "schedules", "step_by_step", "surrogates", "warm",
]  # fmt: skip

LATER = ("exchange", "explore", "puzzles", "reversible", "scan", "timesplit")
"""Imported when they are first used: not everybody needs them, nor plotly and torch.distributed."""


def __getattr__(name: str) -> ModuleType:
    if name in LATER:
        return importlib.import_module(f"tfexplore.{name}")
    raise AttributeError(f"module 'tfexplore' has no attribute {name!r}")
