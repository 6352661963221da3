"""Fused backward pass on the CPU: the adjoint of all time steps in one call (the twin of backward.cu).

Time is walked backwards in chunks. What the adjoint needs of a step (q: for LIF the charged potential) is either read
(keep="potential", or a bit for each comparison with keep="bits") or recomputed for one chunk from the states at its start
and x (keep="input"); so neither scratch memory nor registers grow with T. Blocks, pieces and prefetches are those of
forward.py. `generated_neuron` is written from the equations (tfexplore/codegen/numba_source.py).

Shapes: x (read only with keep="input"), g_out, g_x [T, N] (CONSTANT: x and g_x, which adds up the steps, are [1, N]); g_watched
(TRACED: the gradients of what the forward pass handed out) [T, WATCHED, N]; g_state, g_start (gradients of the final and the
initial states), start [STATES, N]; per_neuron [PER_NEURON, COUNT]; g_learned [parts of the neurons, LEARNED, COUNT] in float64;
kept as in forward.py. What is absent has no columns: g_state where the last state was not used, start where all neurons begin
alike, g_start or g_x where it is not requested. With MATRIX, g_state and g_start have GRADIENTS rows: behind the gradients of the
states, what a unit of each of them at the end becomes (codegen/variant.py).
Words per element-step: g_out read, g_x written, plus WATCHED read for TRACED, NEEDS read for "potential", 1 + STATES / CHUNK
for "input", WIDTH / 32 for "bits".

Tried (as in forward.py, where the reasons stand):
  1  one loop over all arrays and parameters       18.9 ms   too many pairs that may overlap: LLVM vectorises nothing
  2  parameters taken out, arrays cut before it    14.6 ms   vectorised: 0.4 instead of 1.7 ns of one core per element-step
  3  stores past the cache, prefetching             9.6 ms   in pieces of 1,024 neurons
  4  pieces of 512                                  8.2 ms
  5  blocks of 8 KiB instead of 16                  7.1 ms   32 steps of 2,048 neurons wait in 256 KiB
  6  blocks of 4 KiB                                0.9 x    (this one) for a BatchNorm's numbers, on an Intel Xeon; else 1.0 x
"""

import numpy as np
from generated_neuron import (
    CHUNK, CONSTANT, GRADIENTS, KEEP_BITS, KEEP_INPUT, KEEP_POTENTIAL, LEARNED, NEEDS, PER_NEURON, SCALARS, STATES, STEPS,
    TRACED, WIDTH, add_p, charge, cut_g, cut_g_p, cut_p, cut_q, cut_g_w, cut_z, fire, load_g, load_g_p, load_g_w, load_q,
    load_z, parameters, real, remember, reset, shared, spike, step_back, store_g, store_g_p, store_q, store_z, unpack,
)  # fmt: skip
from numba import njit
from tfexplore.backends.groups import begin_with, collect, spread
from tfexplore.backends.streaming import add, cut, fence, prefetch, write

PIECE = np.uint64(512)
# a block's gradients and parameters fit the L1 cache, and CHUNK x NEEDS of its values, with keep="input", the L2 cache: 128 KiB
BLOCK = np.uint64(4 * 1024 // np.dtype(real).itemsize)


@njit(cache=True, nogil=True, error_model="numpy")
def backward(
    first, last, steps, stream, part, x, g_out, g_watched, g_state, start, per_neuron, inner, scalars, kept, g_x, g_start,
    g_learned,
):  # fmt: skip
    """Neurons first <= i < last, given as uint64, as in forward.py; `part`: where their sums go in g_learned."""
    none, numbers, alike, zeros = np.uint64(0), shared(scalars), scalars[SCALARS:], np.zeros(GRADIENTS, real)
    row = np.empty(PIECE, real)
    scratch = np.empty((CHUNK, NEEDS, BLOCK if KEEP_INPUT else 0), real)
    states, g_states = np.empty((STATES, BLOCK if KEEP_INPUT else 0), real), np.empty((GRADIENTS, BLOCK), real)
    own = np.empty((PER_NEURON, BLOCK if PER_NEURON else 0), real)
    g_own = np.empty((LEARNED, BLOCK if LEARNED else 0), real)
    for lo in range(first, last, BLOCK):
        hi = min(lo + BLOCK, last)
        begin_with(g_state, zeros, lo, hi, g_states)
        spread(per_neuron, inner, lo, hi, own)
        g_own[:] = 0
        if CONSTANT:
            cut(g_x, none, lo, hi)[:] = 0
        for chunk in range((steps + CHUNK - 1) // CHUNK - 1, -1, -1):
            before, stop = chunk * CHUNK, min(steps, (chunk + 1) * CHUNK)

            if KEEP_INPUT:  # the forward pass again, for this chunk
                if chunk:
                    begin_with(kept[chunk - 1], alike, lo, hi, states)
                else:
                    begin_with(start, alike, lo, hi, states)
                for t in range(before, stop):
                    q_all = scratch[t - before]
                    for begin in range(lo, hi, PIECE):
                        end = min(begin + PIECE, hi)
                        if not CONSTANT:
                            prefetch(cut(x, t + 1, begin, end) if t + 1 < stop else cut(g_out, t, begin, end), stream)
                        x_t, p_b = cut(x, 0 if CONSTANT else t, begin, end), cut_p(own, begin - lo, end - lo)
                        z_b, q_t = cut_z(states, begin - lo, end - lo), cut_q(q_all, begin - lo, end - lo)
                        for i in range(end - begin):
                            p = parameters(numbers, p_b, i)
                            z = load_z(z_b, i)
                            h = charge(z, x_t[i], p)
                            u = fire(h, p)
                            store_z(z_b, i, reset(h, spike(u, p), p))
                            store_q(q_t, i, remember(z, x_t[i], h, u, p))

            for t in range(stop - 1, before - 1, -1):
                place = np.uint8(t % STEPS * WIDTH)
                q_all = scratch[t - before] if KEEP_INPUT else kept[t // STEPS if NEEDS else 0]
                shift = lo if KEEP_INPUT else none
                for begin in range(lo, hi, PIECE):
                    end = min(begin + PIECE, hi)
                    prefetch(cut(g_out, max(t - 1, 0), begin, end), stream)
                    if KEEP_POTENTIAL:
                        for k in range(NEEDS):
                            prefetch(cut(kept[max(t - 1, 0)], k, begin, end), stream)
                    g_out_t, g_b = cut(g_out, t, begin, end), cut_g(g_states, begin - lo, end - lo)
                    p_b, g_p_b = cut_p(own, begin - lo, end - lo), cut_g_p(g_own, begin - lo, end - lo)
                    q_t, g_w_t = (
                        cut_q(q_all, begin - shift, end - shift),
                        cut_g_w(g_watched[t if TRACED else 0], begin, end),
                    )
                    for i in range(end - begin):
                        p = parameters(numbers, p_b, i)
                        q = unpack(load_q(q_t, i), place) if KEEP_BITS else load_q(q_t, i)
                        row[i], g, g_p = step_back(load_g_w(g_w_t, i), g_out_t[i], load_g(g_b, i), q, p)
                        store_g(g_b, i, g)
                        if LEARNED:
                            store_g_p(g_p_b, i, add_p(load_g_p(g_p_b, i), g_p))
                    if CONSTANT:
                        add(row, cut(g_x, none, begin, end))
                    elif g_x.shape[1]:
                        write(row, cut(g_x, t, begin, end), stream)
        if g_start.shape[1]:
            for k in range(GRADIENTS):
                write(cut(g_states, k, none, hi - lo), cut(g_start, k, lo, hi), stream)
        if LEARNED:
            collect(g_own, inner, lo, hi, g_learned[part])
    fence()
