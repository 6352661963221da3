"""What executes a layer: `torch` (eager reference, any device), `numba` (fused, CPU), `cuda` (fused, CuPy).

A fused backend is a module with two functions over raw tensors, `forward` and `backward` (see `numba_cpu.py`); both
get a `Variant` and what is `Given` besides x, and know nothing of modules or autograd. What is absent is None: the initial states
where all neurons begin alike, the final states where they are not requested, their gradients. A GPU then moves nothing for it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

MODULES = {"numba": "tfexplore.backends.numba_cpu", "cuda": "tfexplore.backends.cuda"}
NAMES = ("auto", "torch", *MODULES)


@dataclass(frozen=True)
class Choice:
    """A backend, and why it was chosen.

    Args:
        name: `"torch"`, `"numba"` or `"cuda"`.
        reason: one sentence.
    """

    name: str
    reason: str


class Given(NamedTuple):
    """What both passes take besides x [T, ...], whose N neurons lie in one order.

    Args:
        steps: T.
        scalars: the numbers that all neurons share, then the states in which they begin alike (`step.by_value`).
        start: the initial states [STATES, N]; None where all neurons begin alike.
        per_neuron: the parameters [PER_NEURON, COUNT] of which neuron i has those of column (i // inner) % COUNT; None without
            any.
        inner: how many neighbours share a column.
        lengths: the steps of each sample, int64 [B] on the CPU or x's device; sample b has the neurons from b N / B on. After its
            last step a sample's state stays, and what is written for it is 0. None where all have T.
        chunk: L: time is cut into C = ceil(T / L) chunks of L steps that run side by side, the last one shorter; 0: one piece.
            The states then have C N columns, chunk c of neuron n in column c N + n, and each chunk begins with its own; what has
            a time axis keeps its shape. L is a multiple of `variant.chunk` and of `variant.steps`.
    """

    steps: int
    scalars: Sequence[float]
    start: Tensor | None = None
    per_neuron: Tensor | None = None
    inner: int = 1
    lengths: Tensor | None = None
    chunk: int = 0


def sizes(x: torch.Tensor) -> tuple[int, int]:
    """T and N of a tensor [T, ...] (len would specialise a traced one to its T)."""
    return x.shape[0], math.prod(x.shape[1:])


def name_of(dtype: torch.dtype) -> str:
    """As NumPy, the kernels and messages say it.

    >>> name_of(torch.float32)
    'float32'
    """
    return str(dtype).removeprefix("torch.")


def module(name: str) -> ModuleType:
    """The fused backend of that name, imported when it is first used."""
    return importlib.import_module(MODULES[name])


@functools.cache
def _why_not(name: str) -> str:
    """Why a fused backend cannot run here, or "" if it can."""
    if name == "numba":
        return "" if importlib.util.find_spec("numba") else "Numba is not installed: pip install numba."
    return str(module("cuda").why_not())


def choose(backend: str, device: torch.device | str) -> Choice:
    """The backend that runs tensors of this device.

    Args:
        backend: `"torch"`, `"numba"`, `"cuda"`, or `"auto"` for the fused one where it can run, else `"torch"`.
        device: where the tensors are.

    Raises:
        ValueError: for an unknown name, or a backend that cannot run on this device.
        RuntimeError: if what the backend needs is missing.

    Example:
        >>> from tfexplore import backends
        >>> backends.choose("torch", "cpu")
        Choice(name='torch', reason='requested')
    """
    kind = torch.device(device).type
    if backend not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(map(repr, NAMES))}, but got {backend!r}.")
    if backend == "torch":
        return Choice("torch", "requested")
    fused = {"cpu": "numba", "cuda": "cuda"}.get(kind)
    if backend == "auto":
        if fused is None:
            return Choice("torch", f"no fused backend runs on {kind!r} tensors")
        if problem := _why_not(fused):
            return Choice("torch", f"the fused {fused} backend cannot run: {problem}")
        return Choice(fused, f"all time steps in one kernel on {kind.upper()} tensors")
    if backend != fused:
        home = {"numba": "cpu", "cuda": "cuda"}[backend]
        raise ValueError(
            f"backend={backend!r} runs {home.upper()} tensors, but x is on {kind!r}; move x with x.to({home!r}), "
            "or use backend='auto'."
        )
    if problem := _why_not(backend):
        raise RuntimeError(f"backend={backend!r} cannot run: {problem}")
    return Choice(backend, "requested")
