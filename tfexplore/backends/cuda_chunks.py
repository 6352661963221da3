"""Chunks of time side by side on a GPU: phases 1 and 2 of a scan in kernels of their own, for `chunked.py`.

Phase 3 is `cuda.forward` or `cuda.backward` with a chunk. Phase 1 runs the same kernels without all that belongs to time
(`ends`, `backward_ends`); the backward one carries the product of the Jacobians along, so that each value saved is read once for
it. Phase 2 (`combine`) is one launch, in which a thread walks over the chunks of its neuron.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tfexplore.backends import Given, chunked, name_of, sizes
from tfexplore.backends.cuda import WARP, backward, columns_of, contiguous, first_of, forward, launch, load, packed, run
from tfexplore.codegen.cuda_source import DATA
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.step import Step

__all__ = ["backward", "backward_ends", "combine", "ends", "forward", "true_g_ends", "true_starts"]


def ends(variant: Variant, x: Tensor, given: Given) -> Tensor:
    """Phase 1 of a chunked forward pass: the states at the end of every chunk, [STATES, C N]; nothing else is written.

    given: with a chunk; `start` [STATES, C N], or None where all chunks begin alike.
    """
    bare, neurons = chunked.without_backward(variant), sizes(x)[1]
    state = x.new_empty(len(variant.step.before), columns_of(given, neurons), dtype=getattr(torch, variant.real))
    inputs = map(contiguous, (x, given.start, given.per_neuron, given.lengths))
    launch(bare, "forward", (*inputs, None, state, None, None), given, neurons, x.device.index or 0, ends=True)
    return state


def backward_ends(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_watched: Tensor | None, given: Given, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Phase 1 of a chunked backward pass, in one walk: what the gradients at the start of every chunk depend on.

    With g those of the states at a chunk's end, those at its start are matrix g + vector.

    Returns:
        matrix [STATES, STATES, C, N]: the product of the chunk's Jacobians, transposed.
        vector [STATES, C N]: what arrives there of the chunk's own g_out and g_watched.
    """
    neurons, states, real = sizes(g_out)[1], len(variant.step.before), getattr(torch, variant.real)
    columns = columns_of(given, neurons)
    vector = g_out.new_empty((states, columns), dtype=real)
    matrix = g_out.new_empty((states, states, columns), dtype=real)
    inputs = map(
        contiguous, (x, g_out, None, g_watched, first_of(given, neurons), given.per_neuron, given.lengths, kept)
    )
    device = g_out.device.index or 0
    launch(variant, "backward", (*inputs, None, vector, None), given, neurons, device, ends=True, matrix=matrix)
    return matrix.view(states, states, -1, neurons), vector


def combine(
    matrix: Tensor | Sequence[float], vector: Tensor, start: Tensor | Sequence[float], neurons: int, back: bool = False
) -> Tensor:
    """Phase 2: the states at the start of every chunk, [STATES, C N], each from the chunk before: z <- matrix z + vector.

    Numbers instead of a tensor go by value: nothing waits for a transfer, and a captured graph holds them.

    Args:
        matrix: of every chunk and neuron, [STATES, STATES, C or 1, N or 1], in float64 or the states' dtype; or the numbers, row
            by row, that all have.
        vector: [STATES, C N].
        start: the states before the first chunk, [STATES, N], or those with which all neurons begin.
        neurons: N.
        back: from the last chunk to the first: `start` are then the gradients behind the last one, and the result has those at
            the *end* of every chunk, with which the adjoint begins.
    """
    states, device, real = len(vector), vector.device.index or 0, name_of(vector.dtype)
    vector, starts, given, begin = vector.contiguous(), torch.empty_like(vector), None, None
    between = beside = 0
    if isinstance(matrix, Tensor):
        given, same = matrix.contiguous(), (0.0,) * states**2
        between, beside = (s * (n > 1) for s, n in zip(given.stride()[2:], given.shape[2:], strict=True))
    else:
        same = tuple(matrix)
    if isinstance(start, Tensor):
        begin, alike = start.contiguous(), (0.0,) * states
    else:
        alike = tuple(start)
    kind = real if given is None else name_of(given.dtype)
    named = {"REAL": DATA[real], "MATRIX": DATA[kind], "STATES": states, "AHEAD": max(1, 16 // states**2)}
    kernel = load("", "combine", tuple(f"-D{name}={value}" for name, value in named.items()), device)
    pointers = (0 if tensor is None else tensor.data_ptr() for tensor in (given, vector, begin, starts))
    chunks = vector.shape[1] // neurons if neurons else 0
    numbers = map(np.int64, (*pointers, chunks, neurons, between, beside, int(back)))
    run(kernel, -(-neurons // WARP), WARP, (*numbers, packed((*same, *alike), "float64")), device)
    return starts


# -- phases 1 and 2, as chunked.py has them ------------------------------------------------------------------------------


def true_starts(variant: Variant, x: Tensor, given: Given) -> Tensor:
    """The states at the starts of all chunks [STATES, C N], of a neuron whose step is affine."""
    step, neurons = variant.step, sizes(x)[1]
    numbers, begin = tuple(given.scalars[: len(step.scalars)]), tuple(given.scalars[len(step.scalars) :])
    zero = given._replace(start=None, scalars=(*numbers, *[0.0] * len(begin)))
    matrix: Tensor | tuple[float, ...] | None = power(step, numbers, given.chunk)
    if matrix is None:
        matrix = chunked.products(sys.modules[__name__], variant, x, x, given).movedim(0, 2)
    return combine(matrix, ends(variant, x, zero), begin if given.start is None else given.start, neurons)


def power(step: Step, numbers: tuple[float, ...], times: int) -> tuple[float, ...] | None:
    """The matrix of a step to this power, row by row, in float64; None where it is not the same for all neurons and steps."""
    matrix = chunked.same_forward(step)
    if step.per_neuron or matrix is None:
        return None
    return tuple(chunked.shared_power(step, matrix, numbers, times).flatten().tolist())


def true_g_ends(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, given: Given,
    kept: Tensor | None,
) -> Tensor:  # fmt: skip
    """The gradients of the states at the ends of all chunks [STATES, C N], of any neuron."""
    nothing = (0.0,) * len(variant.step.before)
    last = nothing if g_state is None else g_state
    return combine(*backward_ends(variant, x, g_out, g_watched, given, kept), last, sizes(g_out)[1], back=True)
