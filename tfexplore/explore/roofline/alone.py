"""A fused kernel alone: run again and again on the same memory, without the layer around it that allocates its result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import Given, tuned
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import by_value, step_of
from tfexplore.nn.routes import state_dtype


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

    own = [getattr(neuron, symbol.name) for symbol in step.per_neuron]
    per_neuron = x.new_tensor(own).reshape(-1, 1) if own else None
    out, g_x = torch.zeros_like(x), torch.zeros_like(x)
    kept = x.new_zeros(variant.kept_shape(steps, count), dtype=getattr(torch, variant.kept_dtype))
    module, given = backends.module(backend), Given(steps, by_value(neuron), None, per_neuron, count)

    def on_gpu() -> tuple[Tensor, ...]:
        place = (given, count, x.device.index or 0)
        module.launch(variant, "forward", (x, None, per_neuron, None, out, None, kept, None), *place)
        if keep == "nothing":
            return (out,)
        read = (x, gradient, None, None, None, per_neuron, None, kept)
        module.launch(variant, "backward", (*read, g_x, None, g_rows), *place)
        return out, g_x

    if backend == "cuda":
        g_rows = x.new_zeros(len(step.learned), count)
        return on_gpu
    none = x.new_empty(len(step.before), 0)  # all neurons begin alike, and the last state is not returned
    values, scalars = module.own(given, name), np.array(given.scalars, name)

    def run(loop: str, read: tuple[Tensor, ...], made: tuple[Tensor, ...]) -> None:
        arrays = (*(t.numpy() for t in read), *values, scalars, *(t.numpy() for t in made))
        call, parts = module.usual(variant, loop, steps, count, torch.get_num_threads())
        call(*arrays, *((module.sums(variant, given, parts),) if loop == "backward" else ()))

    def on_cpu() -> tuple[Tensor, ...]:
        run("forward", (x, none), (out, none, kept, x.new_empty(1, 0, count)))
        if keep == "nothing":
            return (out,)
        run("backward", (x, gradient, x.new_empty(1, 0, count), none, none), (kept, g_x, none))
        return out, g_x

    return on_cpu
