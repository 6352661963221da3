"""From a neuron's equations to text (torch, Numba, CUDA, LaTeX) and to cost (what is saved for backward, words moved)."""

from tfexplore.codegen import latex

__all__ = ["latex"]  # imported here, for a neuron to show its equations in a notebook
