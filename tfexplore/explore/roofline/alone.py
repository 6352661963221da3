"""A fused kernel alone: run again and again on the same memory, without the layer around it that allocates its result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import tuned
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import by_value, step_of
from tfexplore.nn.layers import state_dtype


def alone(neuron: Neuron, keep: str, backend: str, x: Tensor, gradient: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """What runs the kernels of one pass over x [T, N]; it returns the spikes, and the gradient of x if something is saved.

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

    per_neuron = column([getattr(neuron, symbol.name) for symbol in step.per_neuron])
    out, g_x, g_per_neuron = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(per_neuron)
    kept = x.new_zeros(variant.kept_shape(steps, count), dtype=getattr(torch, variant.kept_dtype))
    module, scalars = backends.module(backend), by_value(neuron)

    def on_gpu() -> tuple[Tensor, ...]:
        """All neurons begin alike, and the last state is not returned: as in most layers."""
        place = (scalars, steps, count, x.device.index or 0)
        module.launch(variant, "forward", (x, None, per_neuron, out, None, kept, None), *place)
        if keep == "nothing":
            return (out,)
        module.launch(variant, "backward", (x, gradient, None, None, per_neuron, kept, g_x, None, g_per_neuron), *place)
        return out, g_x

    if backend == "cuda":
        return on_gpu
    start = column([float(value) for value in neuron.initial()])
    state, g_start, none = torch.zeros_like(start), torch.zeros_like(start), torch.zeros_like(start)

    def run(loop: str, given: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> None:
        arrays = (*(t.numpy() for t in given), np.array(scalars, variant.real), *(t.numpy() for t in results))
        module.run(module.load(module.source(variant), loop), x.nbytes, steps, count, arrays)

    def on_cpu() -> tuple[Tensor, ...]:
        run("forward", (x, start, per_neuron), (out, state, kept, x.new_empty(1, 0, count)))
        if keep == "nothing":
            return (out,)
        g_per_neuron.zero_()  # the kernel adds to it
        run("backward", (x, gradient, none, per_neuron), (kept, g_x, g_start, g_per_neuron))
        return out, g_x

    return on_cpu
