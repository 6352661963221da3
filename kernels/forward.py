"""Fused forward pass on the CPU: all time steps of a layer in one call (the twin of forward.cu).

The neurons are walked in blocks whose states stay in the cache: block, then time, then the neurons of the block.
`neuron` is generated from the equations (tfexplore/codegen.py).

Shapes: x, out [T, N]; start, state [STATES, N]; rows [ROWS, N]; watched [T, WATCHED, N]; kept [T, NEEDS, N] for
keep="potential", [chunks, STATES, N] (the states at the start of every chunk) for keep="input".
Words per element-step: x read, out written, plus NEEDS written for "potential", STATES / CHUNK for "input".

Tried (LIF, T=32, N=524,288, float32, one thread; a copy of x takes 3.2 ms):
  signed indices, row sliced in the inner loop    20 ms   nothing vectorised
  unsigned indices                                 7 ms   Numba adds no test for negative indices: LLVM vectorises
"""

import numpy as np
from neuron import (
    CHUNK, KEEP_INPUT, KEEP_POTENTIAL, WATCHED, charge, fire, load_z, output, parameters, remember, reset, spike,
    store_q, store_w, store_z, watch,
)  # fmt: skip
from numba import njit

BLOCK = np.uint64(2048)  # long runs per row of time feed the prefetcher; the states of a block fit the L1 cache


@njit(cache=True, nogil=True, error_model="numpy")
def forward(first, last, x, start, rows, scalars, out, state, kept, watched):
    """Neurons first <= i < last, given as uint64."""
    for lo in range(first, last, BLOCK):
        hi = min(lo + BLOCK, last)
        for i in range(lo, hi):
            store_z(state, i, load_z(start, i))
        for t in range(x.shape[0]):
            if KEEP_INPUT and t % CHUNK == 0:
                for i in range(lo, hi):
                    store_z(kept[t // CHUNK], i, load_z(state, i))
            # rows of time are sliced out here: inside the next loop that would keep it from being vectorised
            x_t, out_t = x[t], out[t]
            kept_t = kept[t if KEEP_POTENTIAL else 0]
            watched_t = watched[t if WATCHED else 0]
            for i in range(lo, hi):
                p = parameters(scalars, rows, i)
                z = load_z(state, i)
                h = charge(z, x_t[i], p)
                s = spike(fire(h, p), p)
                after = reset(h, s, p)
                out_t[i] = output(after, s)
                store_z(state, i, after)
                if KEEP_POTENTIAL:
                    store_q(kept_t, i, remember(z, x_t[i], h))
                if WATCHED:
                    store_w(watched_t, i, watch(after, h))
