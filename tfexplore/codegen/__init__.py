"""From a neuron's equations to text (torch, Numba, CUDA, LaTeX) and to cost (what is saved for backward, words moved).

>>> from tfexplore import codegen, neurons
>>> float(codegen.kept_bytes(neurons.LIF(), keep="potential"))     # saved for backward, per element-step
4.0
>>> print(codegen.source_of(neurons.LIF(), "fire"))
def fire(h, p):
    h_v = h[0]
    v_threshold = p[1]
    u = h_v - v_threshold
    return u
<BLANKLINE>

All of these take a neuron's value; the modules beside this one work on its `Step` and on a `Variant` of its kernels.
"""

from tfexplore.codegen.latex import latex_of, latex_of_adjoint, latex_of_surrogate
from tfexplore.codegen.source import source_of
from tfexplore.codegen.traffic import Access, kept_bytes, nbytes, traffic_of, words

__all__ = [
    "Access", "kept_bytes", "latex_of", "latex_of_adjoint", "latex_of_surrogate", "nbytes", "source_of", "traffic_of", "words",
]  # fmt: skip
