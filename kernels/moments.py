"""Sums per channel of x and of its square, in one read: the statistics of a BatchNorm (on a GPU they are torch's).

Sums are float64, of x less a value near it, so that a large mean takes no digits from a small variance. `part`: each of the parts
into which the neurons are divided adds to rows of its own.

Shapes: x [rows, N], shift [COUNT], sums [parts, 2, COUNT]; neuron i has channel (i // inner) % COUNT.
"""

import numpy as np
from numba import njit
from tfexplore.backends.streaming import cut, prefetch

ONE, FOUR, PIECE = np.uint64(1), np.uint64(4), np.uint64(1024)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def moments(first, last, rows, stream, part, x, inner, shift, sums):
    """Neurons first <= i < last of every row."""
    count, total, square = np.uint64(shift.shape[0]), sums[part, 0], sums[part, 1]
    for r in range(rows):
        for begin in range(first, last, PIECE):
            end = min(last, begin + PIECE)
            prefetch(cut(x, r, end, min(last, end + PIECE)), True)
            x_r, i = cut(x, r, begin, end), begin
            while i < end:
                channel, k = i // inner % count, i - begin
                if inner == ONE and channel == 0 and i + FOUR * count <= end:  # four of each channel at a time
                    for j in range(count):
                        near, n = shift[j], k + j
                        a, b = x_r[n] - near, x_r[n + count] - near
                        c, d = x_r[n + count + count] - near, x_r[n + count + count + count] - near
                        total[j] += (a + b) + (c + d)
                        square[j] += (a * a + b * b) + (c * c + d * d)
                    stop = i + FOUR * count
                elif inner == ONE:  # channels are neighbours
                    stop = min(end, i + count - channel)
                    for j in range(stop - i):
                        away = x_r[k + j] - shift[channel + j]
                        total[channel + j] += away
                        square[channel + j] += away * away
                else:
                    stop, near, a, b = min(end, (i // inner + ONE) * inner), shift[channel], 0.0, 0.0
                    for j in range(k, stop - begin):
                        away = x_r[j] - near
                        a += away
                        b += away * away
                    total[channel] += a
                    square[channel] += b
                i = stop
