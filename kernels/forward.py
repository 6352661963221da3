"""Fused forward pass on the CPU: all time steps of a layer in one call (the twin of forward.cu).

The neurons are walked in blocks whose states stay in the cache: block, then time, then the block's neurons piece by piece.
While a piece is computed, the same piece of the next time step is prefetched, and what it writes goes past the cache where
the tensors are large (tfexplore/backends/streaming.py). `generated_neuron` is written from the equations
(tfexplore/codegen/numba_source.py).

Shapes: x, out [T, N] (CONSTANT: x is [1, N], the same at every step); start, state [STATES, N]; per_neuron [PER_NEURON, COUNT],
where neuron i has the values of column (i // inner) % COUNT; watched [T, WATCHED, N]; kept [T, NEEDS, N] for
keep="potential", [chunks - 1, STATES, N] (the states at the start of every chunk but the first, which is `start`) for
keep="input", and bytes [T / STEPS, 1, N] for keep="bits" (the outcomes of NEEDS comparisons of STEPS steps in each). What is
absent has no columns: start where all neurons begin alike, state or out where it is not requested.
Words per element-step: x read, out written, plus NEEDS written for "potential", STATES / CHUNK for "input", WIDTH / 32
for "bits".

Tried (LIF, keep="input", T=32, N=524,288, float32, two threads of an AMD EPYC, medians; a copy of x takes 3.9 ms):
  1  signed indices                               >20 ms   Numba tests for negative ones: nothing is vectorised
  2  unsigned ones, blocks of 2,048               10.8 ms   every line of out is read before it is written
  3  stores past the cache, prefetching            6.0 ms   in pieces of 1,024 neurons
  4  pieces of 512 (256: the same)                 4.0 ms   no more loads in flight than a core can hold
  5  blocks of 32 KiB instead of 64                3.7 ms
  6  blocks of 8 KiB, since states stay there      0.9 x    (this one) on an Intel Xeon; 0.83 x with a BatchNorm's numbers
A slice such as x[t, begin:end] does what `cut` does, and triples the compile time.
"""

import numpy as np
from generated_neuron import (
    CHUNK, CONSTANT, KEEP_BITS, KEEP_INPUT, KEEP_POTENTIAL, NEEDS, PER_NEURON, SCALARS, STATES, STEPS, WATCHED, WIDTH,
    charge, cut_p, cut_q, cut_w, cut_z, fire, load_z, output, pack, parameters, real, remember, reset, shared, spike,
    store_q, store_w, store_z, watch,
)  # fmt: skip
from numba import njit
from tfexplore.backends.groups import begin_with, spread
from tfexplore.backends.streaming import cut, fence, prefetch, write

PIECE = np.uint64(512)  # neurons between two prefetches; what they write fits the L1 cache
BLOCK = np.uint64(8 * 1024 // np.dtype(real).itemsize)  # states and parameters fit the L1 cache


@njit(cache=True, nogil=True, error_model="numpy")
def forward(first, last, steps, stream, part, x, start, per_neuron, inner, scalars, out, state, kept, watched):
    """Neurons first <= i < last, given as uint64, and their first `steps`; `stream`: the tensors are larger than the cache.

    `part` is the number of this part of the neurons, for kernels that add up.
    """
    none, numbers, alike = np.uint64(0), shared(scalars), scalars[SCALARS:]
    states = np.empty((STATES, BLOCK), real)
    row, q_rows = np.empty(PIECE, real), np.empty((NEEDS, PIECE), real)
    own = np.empty((PER_NEURON, BLOCK if PER_NEURON else 0), real)
    for lo in range(first, last, BLOCK):
        hi = min(lo + BLOCK, last)
        begin_with(start, alike, lo, hi, states)
        spread(per_neuron, inner, lo, hi, own)
        for t in range(steps):
            if KEEP_INPUT and t % CHUNK == 0 and t > 0:
                for k in range(STATES):
                    write(cut(states, k, none, hi - lo), cut(kept[t // CHUNK - 1], k, lo, hi), stream)
            kept_t, watched_t = kept[t // STEPS if KEEP_POTENTIAL or KEEP_BITS else 0], watched[t if WATCHED else 0]
            place = np.uint8(t % STEPS * WIDTH)
            for begin in range(lo, hi, PIECE):
                end = min(begin + PIECE, hi)
                prefetch(cut(x, 0 if CONSTANT else min(t + 1, steps - 1), begin, end), stream)
                # pieces are cut out here: inside the next loop that would keep it from being vectorised
                x_t, w_t = cut(x, 0 if CONSTANT else t, begin, end), cut_w(watched_t, begin, end)
                z_b, p_b = cut_z(states, begin - lo, end - lo), cut_p(own, begin - lo, end - lo)
                q_t = cut_q(q_rows, none, PIECE)
                bits = cut(kept_t, none, begin, end) if KEEP_BITS else row
                for i in range(end - begin):
                    p = parameters(numbers, p_b, i)
                    z = load_z(z_b, i)
                    h = charge(z, x_t[i], p)
                    u = fire(h, p)
                    s = spike(u, p)
                    after = reset(h, s, p)
                    row[i] = output(after, s)
                    store_z(z_b, i, after)
                    if KEEP_POTENTIAL:
                        store_q(q_t, i, remember(z, x_t[i], h, u, p))
                    if KEEP_BITS:
                        bits[i] = pack(bits[i], remember(z, x_t[i], h, u, p), place)
                    if WATCHED:
                        store_w(w_t, i, watch(after, h))
                if out.shape[1]:
                    write(row, cut(out, t, begin, end), stream)
                if KEEP_POTENTIAL:
                    for k in range(NEEDS):
                        write(cut(q_rows, k, none, PIECE), cut(kept_t, k, begin, end), stream)
        if state.shape[1]:
            for k in range(STATES):
                write(cut(states, k, none, hi - lo), cut(state, k, lo, hi), stream)
    fence()
