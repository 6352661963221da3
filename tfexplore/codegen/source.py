"""The generated part of a kernel as text, for readers: one of a neuron's functions, or all of it."""

from __future__ import annotations

from tfexplore.codegen import keep as keeping
from tfexplore.codegen.cuda_source import cuda_functions, cuda_source
from tfexplore.codegen.numba_source import numba_functions, numba_source
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of

LANGUAGES = {"numba": (numba_source, numba_functions), "cuda": (cuda_source, cuda_functions)}
"""For each, what writes all, and what writes each function."""


def source_of(neuron: Neuron, function: str | None = None, *, keep: str = "input", language: str = "numba") -> str:
    r"""The code that the fused kernels of a neuron are compiled from, generated from its equations.

    The loops over time in `kernels/` are hand-written and the same for every neuron; they call these functions.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`, or of a class of your own.
        function: `"charge"`, `"fire"`, `"spike"`, `"reset"`, `"output"`, `"remember"` (what is saved for backward),
            `"watch"` (what is recorded), `"adjoint"` (the backward pass of one step), or `"derive"` (CUDA only: numbers that
            the parameters alone decide). None gives the whole module `generated_neuron.py` or header `neuron.cuh`.
        keep: what the forward pass saves for backward, as in `Layer`.
        language: `"numba"` (Python, as the CPU's kernels are compiled from) or `"cuda"` (C++).

    Returns:
        Source text.

    Raises:
        ValueError: for an unknown function or language, or a `keep` that is not exact for this neuron.

    Example:
        >>> from tfexplore import codegen, neurons
        >>> print(codegen.source_of(neurons.IF(), "charge"))
        def charge(z, x, p):
            v = z[0]
            h_v = v + x
            return (h_v,)
        <BLANKLINE>
        >>> print(codegen.source_of(neurons.IF(), "charge", language="cuda"))
        __device__ __forceinline__ void charge(const real *z, real x, const real *p, real *h) {
            const real v = z[0];
            const real h_v = v + x;
            h[0] = h_v;
        }
        <BLANKLINE>
    """
    if language not in LANGUAGES:
        raise ValueError(f"language must be {' or '.join(map(repr, LANGUAGES))}, but got {language!r}.")
    step = step_of(neuron)
    keeping.check(keep, step)
    variant = Variant(step, keep=keeping.fastest(step, language) if keep == "auto" else keep)
    if language == "cuda":
        variant = variant.for_gpu()
    whole, each = LANGUAGES[language]
    if function is None:
        return whole(variant)
    texts = each(variant)
    if function not in texts:
        raise ValueError(f"function must be one of {', '.join(map(repr, texts))}, but got {function!r}.")
    return texts[function]
