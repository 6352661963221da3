"""Fused backward pass on the CPU: the adjoint of all time steps in one call (the twin of backward.cu).

Time is walked backwards in chunks. What the adjoint needs of a step (q: for LIF the charged potential) is either read
(keep="potential", or a bit for each comparison with keep="bits") or recomputed for one chunk from the states at its start
and x (keep="input"); so neither scratch memory nor registers grow with T. Blocks, pieces and prefetches are those of
forward.py. `generated_neuron` is written from the equations (tfexplore/codegen/numba_source.py).

Shapes: x (read only with keep="input"), g_out, g_x [T, N]; g_state, g_start (gradients of the final and the initial
states) [STATES, N]; per_neuron, g_per_neuron [PER_NEURON, N]; kept as in forward.py.
Words per element-step: g_out read, g_x written, plus NEEDS read for "potential", 1 + STATES / CHUNK for "input",
WIDTH / 32 for "bits".

Tried (as in forward.py, where the reasons stand):
  1  one loop over all arrays and parameters       18.9 ms   too many pairs that may overlap: LLVM vectorises nothing
  2  parameters taken out, arrays cut before it    14.6 ms   vectorised: 0.4 instead of 1.7 ns of one core per element-step
  3  stores past the cache, prefetching             9.6 ms   in pieces of 1,024 neurons
  4  pieces of 512                                  8.2 ms
  5  blocks of 8 KiB instead of 16                  7.1 ms   (this one) 32 steps of 2,048 neurons wait in 256 KiB
"""

import numpy as np
from generated_neuron import (
    CHUNK, KEEP_BITS, KEEP_INPUT, KEEP_POTENTIAL, NEEDS, PER_NEURON, STATES, STEPS, WIDTH, add_p, adjoint, charge, cut_p,
    cut_q, cut_z, fire, load_p, load_q, load_z, parameters, real, remember, reset, shared, spike, store_p, store_q,
    store_z, unpack,
)  # fmt: skip
from numba import njit
from tfexplore.backends.streaming import cut, fence, prefetch, write

PIECE = np.uint64(512)
# with keep="input", CHUNK x NEEDS values of each neuron of a block wait in the L2 cache: 256 KiB
BLOCK = np.uint64((8 if KEEP_INPUT else 32) * 1024 // np.dtype(real).itemsize)


@njit(cache=True, nogil=True, error_model="numpy")
def backward(first, last, stream, x, g_out, g_state, per_neuron, scalars, kept, g_x, g_start, g_per_neuron):
    """Neurons first <= i < last, given as uint64; `stream`: the tensors are larger than the cache."""
    steps, none, numbers = g_out.shape[0], np.uint64(0), shared(scalars)
    row = np.empty(PIECE, real)
    scratch = np.empty((CHUNK, NEEDS, BLOCK if KEEP_INPUT else 0), real)
    states = np.empty((STATES, BLOCK if KEEP_INPUT else 0), real)
    for lo in range(first, last, BLOCK):
        hi = min(lo + BLOCK, last)
        for k in range(STATES):
            write(cut(g_state, k, lo, hi), cut(g_start, k, lo, hi), False)
        for chunk in range((steps + CHUNK - 1) // CHUNK - 1, -1, -1):
            start, stop = chunk * CHUNK, min(steps, (chunk + 1) * CHUNK)

            if KEEP_INPUT:  # the forward pass again, for this chunk
                for k in range(STATES):
                    write(cut(kept[chunk], k, lo, hi), cut(states, k, none, hi - lo), False)
                for t in range(start, stop):
                    q_all = scratch[t - start]
                    for begin in range(lo, hi, PIECE):
                        end = min(begin + PIECE, hi)
                        prefetch(cut(x, t + 1, begin, end) if t + 1 < stop else cut(g_out, t, begin, end), stream)
                        x_t, p_b = cut(x, t, begin, end), cut_p(per_neuron, begin, end)
                        z_b, q_t = cut_z(states, begin - lo, end - lo), cut_q(q_all, begin - lo, end - lo)
                        for i in range(end - begin):
                            p = parameters(numbers, p_b, i)
                            z = load_z(z_b, i)
                            h = charge(z, x_t[i], p)
                            u = fire(h, p)
                            store_z(z_b, i, reset(h, spike(u, p), p))
                            store_q(q_t, i, remember(z, x_t[i], h, u, p))

            for t in range(stop - 1, start - 1, -1):
                place = np.uint8(t % STEPS * WIDTH)
                q_all = scratch[t - start] if KEEP_INPUT else kept[t // STEPS if NEEDS else 0]
                shift = lo if KEEP_INPUT else none
                for begin in range(lo, hi, PIECE):
                    end = min(begin + PIECE, hi)
                    prefetch(cut(g_out, max(t - 1, 0), begin, end), stream)
                    if KEEP_POTENTIAL:
                        for k in range(NEEDS):
                            prefetch(cut(kept[max(t - 1, 0)], k, begin, end), stream)
                    g_out_t, g_b = cut(g_out, t, begin, end), cut_z(g_start, begin, end)
                    p_b, g_p_b = cut_p(per_neuron, begin, end), cut_p(g_per_neuron, begin, end)
                    q_t = cut_q(q_all, begin - shift, end - shift)
                    for i in range(end - begin):
                        p = parameters(numbers, p_b, i)
                        q = unpack(load_q(q_t, i), place) if KEEP_BITS else load_q(q_t, i)
                        row[i], g, g_p = adjoint(g_out_t[i], load_z(g_b, i), q, p)
                        store_z(g_b, i, g)
                        if PER_NEURON:
                            store_p(g_p_b, i, add_p(load_p(g_p_b, i), g_p))
                    write(row, cut(g_x, t, begin, end), stream)
    fence()
