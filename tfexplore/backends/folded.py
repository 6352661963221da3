"""Chunks of time as neurons, on a CPU: x [T, N] laid out as [L, C N], and the ordinary kernels run over that.

Chunk c of neuron n, the steps c L <= t < (c + 1) L, is column c N + n. So one neuron over 16,384 steps becomes 256 over 64: they
fill the vector lanes and the threads, which a single chain of operations cannot. The last chunk may be shorter; it is then a
sample that ends early (`Given.lengths`).

    x        0 1 2 3 4 5 6 7        L = 3, N = 1:     0 3 6
                                                      1 4 7
                                                      2 5

`forward` and `backward` are those of `numba_cpu`, for a `Given` with a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tfexplore.backends import Given, numba_cpu, sizes
from tfexplore.backends.buffers import empty
from tfexplore.codegen.variant import Variant


def fold(tensor: Tensor, chunk: int) -> Tensor:
    """[T, ..., N] -> [L, ..., C N]; what is behind the end of the last chunk may be anything.

    >>> fold(torch.arange(6.0).view(6, 1), 3).tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    whole, rest = divmod(len(tensor), chunk)
    rows, neurons = tensor.shape[1:-1], tensor.shape[-1]
    made = empty((chunk, *rows, whole + (rest > 0), neurons), tensor.dtype)
    full = tensor[: whole * chunk].view(whole, chunk, *rows, neurons)
    made[..., :whole, :].copy_(full.movedim(0, -2))
    if rest:
        made[:rest, ..., whole, :].copy_(tensor[whole * chunk :])
    return made.flatten(-2)


def unfold(tensor: Tensor, steps: int, neurons: int) -> Tensor:
    """[L, ..., C N] -> [T, ..., N], the other way round.

    >>> unfold(torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]), 5, 1).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    chunk, rows = len(tensor), tensor.shape[1:-1]
    whole, rest = divmod(steps, chunk)
    apart = tensor.unflatten(-1, (-1, neurons))
    made = empty((steps, *rows, neurons), tensor.dtype)
    made[: whole * chunk].view(whole, chunk, *rows, neurons).copy_(apart[..., :whole, :].movedim(-2, 0))
    if rest:
        made[whole * chunk :].copy_(apart[:rest, ..., whole, :])
    return made


def fold_kept(variant: Variant, kept: Tensor | None, steps: int, chunk: int) -> Tensor | None:
    """What was saved for backward, as the chunks have it; the states at their starts are `given.start` there."""
    if kept is None or variant.keeps != "input":
        return None if kept is None else fold(kept, chunk // variant.steps)
    each, count = chunk // variant.chunk, -(-steps // chunk)
    whole = empty((count * each, *kept.shape[1:]), kept.dtype)
    whole[1 : len(kept) + 1] = kept
    return fold(whole, each)[1:]


def unfold_kept(
    variant: Variant, kept: Tensor | None, start: Tensor | None, steps: int, chunk: int, neurons: int
) -> Tensor | None:
    """What the chunks saved for backward, as the serial forward pass saves it."""
    if kept is None and variant.keeps != "input":
        return None
    if variant.keeps != "input":
        assert kept is not None
        return unfold(kept, -(-steps // variant.steps), neurons)
    assert start is not None
    rows = start.unsqueeze(0) if kept is None else torch.cat([start.unsqueeze(0), kept])
    return unfold(rows, -(-steps // variant.chunk), neurons)[1:]


def side_by_side(given: Given) -> Given:
    """What the ordinary kernels take for the chunks as neurons."""
    whole, rest = divmod(given.steps, given.chunk)
    lengths = torch.tensor([given.chunk] * whole + [rest]) if rest else None
    return given._replace(steps=given.chunk, lengths=lengths, chunk=0)


def rows(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """[T, ...] as [T, N] in the kernels' dtype."""
    return numba_cpu.converted(tensor, dtype).flatten(1)


def forward(
    variant: Variant, x: Tensor, given: Given, want_state: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """`numba_cpu.forward`, of chunks side by side where there are any."""
    if not given.chunk:
        return numba_cpu.forward(variant, x, given, want_state)
    (steps, neurons), chunk = sizes(x), given.chunk
    folded = fold(rows(x, getattr(torch, variant.real)), chunk)
    out, state, kept, watched = numba_cpu.forward(variant, folded, side_by_side(given), want_state)
    out = unfold(out, steps, neurons).view(x.shape)
    kept = unfold_kept(variant, kept, given.start, steps, chunk, neurons)
    watched = None if watched is None else unfold(watched, steps, neurons)
    return numba_cpu.converted(out, x.dtype), state, kept, watched


def backward(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, given: Given,
    kept: Tensor | None, want_g_start: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """`numba_cpu.backward`, of chunks side by side where there are any."""
    if not given.chunk:
        return numba_cpu.backward(variant, x, g_out, g_state, g_watched, given, kept, want_g_start)
    (steps, neurons), chunk, real = sizes(g_out), given.chunk, getattr(torch, variant.real)
    x, g_folded = (None if z is None else fold(rows(z, real), chunk) for z in (x, g_out))
    assert g_folded is not None
    traced = None if g_watched is None else fold(numba_cpu.converted(g_watched, real), chunk)
    saved = fold_kept(variant, kept, steps, chunk)
    folded = side_by_side(given)
    g_x, g_start, g_learned = numba_cpu.backward(variant, x, g_folded, g_state, traced, folded, saved, want_g_start)
    g_x = unfold(g_x, steps, neurons).view(g_out.shape)
    return numba_cpu.converted(g_x, g_out.dtype), g_start, g_learned


def walk(matrices: Tensor, ends: Tensor, starts: Tensor) -> None:
    """Phase 2 of a scan (see `chunked.walk`), in place: matrices [C or 1, STATES, STATES, N], ends and starts [C, STATES, N]."""
    if len(starts) > 1:
        parts = [(0, starts.shape[2], len(starts))]
        numba_cpu.caller(numba_cpu.load("", "fold", "walk"), 0, parts)(
            *(tensor.numpy() for tensor in (matrices, ends, starts))
        )
