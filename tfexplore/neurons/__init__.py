"""What a neuron is: its equations, its parameters, the surrogate of its spike, its step as SymPy and the step's adjoint.

>>> from tfexplore import neurons
>>> neurons.LIF(tau=2.0).charge(1.0, 0.5)
1.0

Nothing here knows of tensors, kernels or text; `codegen` makes those from the equations.
"""

from tfexplore.neurons import surrogates
from tfexplore.neurons.adjoint import Adjoint, adjoint_of
from tfexplore.neurons.affine import Affine, affine_of
from tfexplore.neurons.library import (
    ALIF,
    ALL,
    EIF,
    IF,
    LI,
    LIF,
    QIF,
    CubaLIF,
    Izhikevich,
    PaperLIF,
    ParametricLIF,
)
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.order import detached, first
from tfexplore.neurons.parameters import Decay, Positive, TimeConstant
from tfexplore.neurons.step import Step, step_of
from tfexplore.neurons.surrogates import Surrogate, Value

__all__ = [
    "ALIF", "ALL", "EIF", "IF", "LI", "LIF", "QIF", "Adjoint", "Affine", "CubaLIF", "Decay", "Izhikevich", "Neuron", "PaperLIF",
    "ParametricLIF", "Positive", "Step", "Surrogate", "TimeConstant", "Value", "adjoint_of", "affine_of", "detached",
    "first", "step_of", "surrogates",
]  # fmt: skip
