"""Fused way back on the CPU: the adjoint of all time steps in one call (the twin of backward.cu).

Time is walked backwards in chunks. What the adjoint needs of a step (q: for LIF the charged potential) is either read
(keep="potential") or recomputed for one chunk from the states at its start and x (keep="input"); so neither scratch
memory nor registers grow with T. `neuron` is generated from the equations (tfexplore/codegen.py).

Shapes: x (read only with keep="input"), g_out, g_x [T, N]; g_state, g_start (gradients of the final and the initial
states) [STATES, N]; rows, g_rows [ROWS, N]; kept as in forward.py.
Words per element-step: g_out read, g_x written, plus NEEDS read for "potential", 1 + STATES / CHUNK for "input".
"""

import numpy as np
from neuron import (
    CHUNK, KEEP_INPUT, KEEP_POTENTIAL, NEEDS, ROWS, STATES, add_p, adjoint, charge, fire, load_p, load_q, load_z,
    parameters, real, remember, reset, spike, store_p, store_q, store_z,
)  # fmt: skip
from numba import njit

BLOCK = np.uint64(2048)  # CHUNK x NEEDS x BLOCK words of scratch: 256 KiB, which fits the L2 cache


@njit(cache=True, nogil=True, error_model="numpy")
def backward(first, last, x, g_out, g_state, rows, scalars, kept, g_x, g_start, g_rows):
    """Neurons first <= i < last, given as uint64."""
    steps = g_out.shape[0]
    scratch = np.empty((CHUNK, NEEDS, BLOCK if KEEP_INPUT else 0), real)
    state = np.empty((STATES, BLOCK if KEEP_INPUT else 0), real)
    for lo in range(first, last, BLOCK):
        hi = min(lo + BLOCK, last)
        offset = lo if KEEP_INPUT else np.uint64(0)
        for i in range(lo, hi):
            store_z(g_start, i, load_z(g_state, i))
        for chunk in range((steps + CHUNK - 1) // CHUNK - 1, -1, -1):
            begin, end = chunk * CHUNK, min(steps, (chunk + 1) * CHUNK)

            if KEEP_INPUT and NEEDS:  # the way there once more, for this chunk
                for i in range(lo, hi):
                    store_z(state, i - lo, load_z(kept[chunk], i))
                for t in range(begin, end):
                    x_t, q_t = x[t], scratch[t - begin]
                    for i in range(lo, hi):
                        p = parameters(scalars, rows, i)
                        z = load_z(state, i - lo)
                        h = charge(z, x_t[i], p)
                        store_z(state, i - lo, reset(h, spike(fire(h, p), p), p))
                        store_q(q_t, i - lo, remember(z, x_t[i], h))

            for t in range(end - 1, begin - 1, -1):
                g_out_t, g_x_t = g_out[t], g_x[t]
                q_t = kept[t] if KEEP_POTENTIAL else scratch[t - begin]
                for i in range(lo, hi):
                    p = parameters(scalars, rows, i)
                    g_x_t[i], g, g_p = adjoint(g_out_t[i], load_z(g_start, i), load_q(q_t, i - offset), p)
                    store_z(g_start, i, g)
                    if ROWS:
                        store_p(g_rows, i, add_p(load_p(g_rows, i), g_p))
