"""g + slope (x - mean) + offset, with these numbers per channel: what the statistics of a BatchNorm add to the gradient of x.

Shapes: g, x, out [rows, N]; mean, slope, offset [COUNT]; neuron i has channel (i // inner) % COUNT.
Words per element: g and x read, out written.
"""

import numpy as np
from numba import njit
from tfexplore.backends.streaming import cut, fence, prefetch, write

ONE, PIECE = np.uint64(1), np.uint64(512)


@njit(cache=True, nogil=True, error_model="numpy")
def affine(first, last, rows, stream, part, g, x, inner, mean, slope, offset, out):
    """Neurons first <= i < last of every row; `stream`: the tensors are larger than the cache."""
    count, filled = np.uint64(slope.shape[0]), np.empty(PIECE, x.dtype)
    for r in range(rows):
        begin = first
        while begin < last:
            end = min(last, begin + PIECE)
            prefetch(cut(g, r, end, min(last, end + PIECE)), stream)
            prefetch(cut(x, r, end, min(last, end + PIECE)), stream)
            g_r, x_r, i = cut(g, r, begin, end), cut(x, r, begin, end), begin
            while i < end:
                channel = i // inner % count
                if inner == ONE:
                    stop = min(end, i + count - channel)
                    for j in range(stop - i):
                        k = i - begin + j
                        filled[k] = g_r[k] + slope[channel + j] * (x_r[k] - mean[channel + j]) + offset[channel + j]
                else:
                    stop, near = min(end, (i // inner + ONE) * inner), mean[channel]
                    a, b = slope[channel], offset[channel]
                    for k in range(i - begin, stop - begin):
                        filled[k] = g_r[k] + a * (x_r[k] - near) + b
                i = stop
            write(filled, cut(out, r, begin, end), stream)
            begin = end
    fence()
