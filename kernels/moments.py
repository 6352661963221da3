"""Sums per channel of x and of its square, in one read: the statistics of a BatchNorm (on a GPU they are torch's).

Sums are float64, of x less a value near it, so that a large mean takes no digits from a small variance. `part`: each of the parts
into which the neurons are divided adds to rows of its own.

Shapes: x [rows, N], shift [COUNT], sums [parts, 2, COUNT]; neuron i has channel (i // inner) % COUNT.
"""

import numpy as np
from numba import njit

ONE = np.uint64(1)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def moments(first, last, rows, stream, part, x, inner, shift, sums):
    """Neurons first <= i < last of every row."""
    count, total, square = np.uint64(shift.shape[0]), sums[part, 0], sums[part, 1]
    for r in range(rows):
        row, i = x[r], first
        while i < last:
            channel = i // inner % count
            if inner == ONE:  # channels are neighbours
                stop = min(last, i + count - channel)
                for j in range(stop - i):
                    away = row[i + j] - shift[channel + j]
                    total[channel + j] += away
                    square[channel + j] += away * away
            else:
                stop, near, a, b = min(last, (i // inner + ONE) * inner), shift[channel], 0.0, 0.0
                for j in range(i, stop):
                    away = row[j] - near
                    a += away
                    b += away * away
                total[channel] += a
                square[channel] += b
            i = stop
