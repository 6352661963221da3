"""A fused kernel alone: run again and again on the same memory, without the layer around it that makes new memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import tuned
from tfexplore.codegen import Variant
from tfexplore.equations import Neuron
from tfexplore.layers import state_dtype
from tfexplore.step import by_value, step_of


def alone(neuron: Neuron, keep: str, backend: str, x: Tensor, gradient: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """What runs the kernels of one pass over x [T, N]; it gives the spikes, and the gradient of x where something is kept.

    Every run writes into the same tensors, so a copy between two large tensors is its fair measure.
    """
    real, step = state_dtype(x.dtype), step_of(neuron)
    if real != x.dtype:
        raise TypeError(f"x must be float32 or float64, but got {str(x.dtype).removeprefix('torch.')}.")
    name = str(real).removeprefix("torch.")
    variant, (steps, count) = Variant(step, name, name, keep), x.shape
    if backend == "cuda":
        variant = tuned.built(variant, x.device.index or 0)

    def column(values: list[float]) -> Tensor:
        return x.new_tensor(values).reshape(-1, 1).repeat(1, count)

    initial = [float(value) for value in neuron.initial()]
    # a GPU moves nothing for where all neurons begin alike, and for a last state that nobody asks for
    start = column(initial) if backend == "numba" else x.new_empty(len(initial), 0)
    rows = column([getattr(neuron, symbol.name) for symbol in step.rows])
    out, state = torch.zeros_like(x), torch.zeros_like(start)
    kept = x.new_zeros(variant.kept_shape(steps, count), dtype=getattr(torch, variant.kept_dtype))
    g_x, g_start, g_rows = torch.zeros_like(x), torch.zeros_like(start), torch.zeros_like(rows)
    run = _runner(backend, variant, by_value(neuron), steps, count)
    begins = (start,) if backend == "cuda" else ()

    def work() -> tuple[Tensor, ...]:
        run("forward", (x, start, rows), (out, state, kept, x.new_empty(1, 0, count)))
        if keep == "nothing":
            return (out,)
        g_rows.zero_()  # the kernel adds to it
        run("backward", (x, gradient, torch.zeros_like(start), *begins, rows), (kept, g_x, g_start, g_rows))
        return out, g_x

    return work


def _runner(backend: str, variant: Variant, scalars: list[float], steps: int, count: int) -> Callable[..., None]:
    module: Any = backends.module(backend)

    def numba(loop: str, given: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> None:
        arrays = (*(t.numpy() for t in given), np.array(scalars, variant.real), *(t.numpy() for t in results))
        module.run(module.load(module.source(variant), loop), given[0].nbytes, steps, count, arrays)

    def cuda(loop: str, given: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> None:
        module.launch(variant, loop, (*given, *results), scalars, steps, count)

    return {"numba": numba, "cuda": cuda}[backend]
