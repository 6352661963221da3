"""Chunks of time as neurons, on a CPU: x [T, N] laid out as [L, C N], and the ordinary kernels run over that.

Chunk c of neuron n, the steps c L <= t < (c + 1) L, is column c N + n. So one neuron over 16,384 steps becomes 256 over 64: they
fill the vector lanes and the threads, which a single chain of operations cannot. The last chunk may be shorter; it is then a
sample that ends early (`Given.lengths`).

    x        0 1 2 3 4 5 6 7        L = 3, N = 1:     0 3 6
                                                      1 4 7
                                                      2 5

`forward` and `backward` are those of `numba_cpu`, for a `Given` with a chunk. `lay` lays out once what several of them read.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tfexplore.backends import Given, name_of, numba_cpu, sizes
from tfexplore.codegen.variant import Variant

SIDE = 16
"""Chunks that `fold.py` moves together."""


class Laid(NamedTuple):
    """A tensor [T, ...] that is laid out already, as the kernels read it: what it was, and `fold` of it."""

    plain: Tensor
    folded: Tensor


@functools.lru_cache(maxsize=1024)
def folder(loop: str, chunk: int, chunks: int, size: int, threads: int) -> Callable[..., None]:
    """What calls "fold" or "unfold" for so many chunks, in threads where there are that many elements to move."""
    units = -(-chunks // SIDE)
    pieces = 1 if size < numba_cpu.SMALL or threads == 1 else min(4 * threads, units)
    edges = [min(chunks, SIDE * (units * k // pieces)) for k in range(pieces + 1)]
    parts = [(first, last, chunk) for first, last in itertools.pairwise(edges)]
    return numba_cpu.caller(numba_cpu.load("", "fold", loop), 0, parts)


def moved(loop: str, apart: Tensor, beside: Tensor, chunk: int) -> None:
    """Fills `beside` [L, ..., C N] from `apart` [T, ..., N] ("fold"), or the other way round ("unfold")."""
    chunks = -(-len(apart) // chunk)
    call = folder(loop, chunk, chunks, apart.numel(), torch.get_num_threads())
    arrays = apart.numpy(), beside.numpy()
    row = apart.shape[-1] * arrays[0].itemsize
    if wider := next((name for size, name in ((16, "complex128"), (8, "float64")) if row % size == 0), ""):
        arrays = arrays[0].view(wider), arrays[1].view(wider)  # neighbours move as one number
    call(*(each.reshape(len(each), -1, each.shape[-1]) for each in arrays))


def fold(tensor: Tensor, chunk: int) -> Tensor:
    """[T, ..., N] -> [L, ..., C N]; what is behind the end of the last chunk may be anything.

    >>> fold(torch.arange(6.0).view(6, 1), 3).tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    columns = -(-len(tensor) // chunk) * tensor.shape[-1]
    beside, _ = numba_cpu.made((chunk, *tensor.shape[1:-1], columns), name_of(tensor.dtype))
    if tensor.numel():
        moved("fold", tensor.contiguous(), beside, chunk)
    return beside


def unfold(tensor: Tensor, steps: int, neurons: int) -> Tensor:
    """[L, ..., C N] -> [T, ..., N], the other way round.

    >>> unfold(torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]), 5, 1).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    apart, _ = numba_cpu.made((steps, *tensor.shape[1:-1], neurons), name_of(tensor.dtype))
    if apart.numel():
        moved("unfold", apart, tensor.contiguous(), len(tensor))
    return apart


def fold_kept(variant: Variant, kept: Tensor | None, steps: int, chunk: int) -> Tensor | None:
    """What was saved for backward, as the chunks have it; the states at their starts are `given.start` there."""
    if kept is None or variant.keeps != "input":
        return None if kept is None else fold(kept, chunk // variant.steps)
    each, count = chunk // variant.chunk, -(-steps // chunk)
    whole = kept.new_empty((count * each, *kept.shape[1:]))
    whole[1 : len(kept) + 1] = kept
    return fold(whole, each)[1:]


def unfold_kept(variant: Variant, kept: Tensor | None, start: Tensor | None, steps: int, neurons: int) -> Tensor | None:
    """What the chunks saved for backward, as the serial forward pass saves it."""
    if variant.keeps != "input":
        return None if kept is None else unfold(kept, -(-steps // variant.steps), neurons)
    assert start is not None
    rows = start.unsqueeze(0) if kept is None else torch.cat([start.unsqueeze(0), kept])
    return unfold(rows, -(-steps // variant.chunk), neurons)[1:].clone()  # a small one, and no view of a larger


def side_by_side(given: Given) -> Given:
    """What the ordinary kernels take for the chunks as neurons."""
    whole, rest = divmod(given.steps, given.chunk)
    lengths = torch.tensor([given.chunk] * whole + [rest], device="cpu") if rest else None
    return given._replace(steps=given.chunk, lengths=lengths, chunk=0)


def lay(variant: Variant, tensor: Tensor, given: Given) -> Laid:
    """A tensor [T, ...] laid out for every pass over these chunks."""
    rows = numba_cpu.converted(tensor, getattr(torch, variant.real))
    return Laid(tensor, fold(rows.view(len(rows), math.prod(rows.shape[1:])), given.chunk))


def laid(variant: Variant, tensor: Tensor | Laid, given: Given) -> Laid:
    return tensor if isinstance(tensor, Laid) else lay(variant, tensor, given)


def forward(
    variant: Variant, x: Tensor | Laid, given: Given, want_state: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """`numba_cpu.forward`, of chunks side by side where there are any."""
    if not given.chunk:
        assert isinstance(x, Tensor)
        return numba_cpu.forward(variant, x, given, want_state)
    x, folded = laid(variant, x, given)
    steps, neurons = sizes(x)
    out, state, kept, watched = numba_cpu.forward(variant, folded, side_by_side(given), want_state)
    out = unfold(out, steps, neurons).view(x.shape)
    kept = unfold_kept(variant, kept, given.start, steps, neurons)
    watched = None if watched is None else unfold(watched, steps, neurons)
    return numba_cpu.converted(out, x.dtype), state, kept, watched


def ends(variant: Variant, x: Tensor | Laid, given: Given) -> Tensor:
    """The states at the chunks' ends [STATES, C N], and nothing else."""
    state = numba_cpu.forward(variant, laid(variant, x, given).folded, side_by_side(given), want_out=False)[1]
    assert state is not None
    return state


def backward(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, given: Given,
    kept: Tensor | None, want_g_start: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """`numba_cpu.backward`, of chunks side by side where there are any."""
    if not given.chunk:
        return numba_cpu.backward(variant, x, g_out, g_state, g_watched, given, kept, want_g_start)
    return twice(variant, x, g_out, g_watched, given, kept, lambda _: g_state, want_g_start)


def twice(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_watched: Tensor | None, given: Given, kept: Tensor | None,
    g_ends: Callable[[Callable[[Variant, Tensor], Tensor]], Tensor | None], want_g_start: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """`backward` from gradients of the chunks' ends that g_ends(first) makes, once everything is laid out.

    first(variant, g_state): the gradients of the chunks' starts [GRADIENTS, C N] of a pass that does nothing else.
    """
    steps, neurons = sizes(g_out)
    real = getattr(torch, variant.real)
    read = [None if z is None else lay(variant, z, given).folded for z in (x, g_out)]
    traced = None if g_watched is None else fold(numba_cpu.converted(g_watched, real), given.chunk)
    saved, folded = fold_kept(variant, kept, steps, given.chunk), side_by_side(given)

    def run(variant: Variant, g_state: Tensor | None, *wants: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, g = read
        assert g is not None
        return numba_cpu.backward(variant, x, g, g_state, traced, folded, saved, *wants)

    def first(variant: Variant, g_state: Tensor) -> Tensor:
        found = run(variant, g_state, True, False)[1]
        assert found is not None
        return found

    g_x, g_start, g_learned = run(variant, g_ends(first), want_g_start)
    g_x = unfold(g_x, steps, neurons).view(g_out.shape)
    return numba_cpu.converted(g_x, g_out.dtype), g_start, g_learned


def walk(matrices: Tensor, ends: Tensor, starts: Tensor, backwards: bool) -> None:
    """Phase 2 of a scan (see `chunked.walk`)."""
    _, chunks, neurons = starts.shape
    call = numba_cpu.caller(numba_cpu.load("", "fold", "walk"), 0, [(0, neurons, chunks)])
    call(np.uint8(backwards), *(tensor.numpy() for tensor in (matrices, ends, starts)))
