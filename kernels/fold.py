"""Time laid out in chunks side by side, and back, on a CPU; and the serial part of a scan over them.

`fold` and `unfold` are a transposition of time: step c L + l of neuron n, in row c L + l, goes to row l, column c N + n. Both
walk squares of chunks and steps. For one neuron each is transposed in registers, so that every line of the cache is read and
written once (0.2 to 0.4 ns for a float32, where one by one takes 10); of many neurons a step's row is copied whole.

Shapes: apart [T, R, N], beside [L, R, C N]; R rows for each step.

`walk`: each chunk c maps the states at its start to those at its end as z -> M[c] z + b[c], so chunk by chunk::

    z[c + 1] = M[c] z[c] + b[c]

Shapes: matrices [C, STATES, STATES, N] (or [1, ...]: all chunks have the same) in float64, in which the sums are made; ends (b)
and starts (z) [STATES, C, N]. starts[:, 0] is given, and ends[:, 0] is the end of chunk 0 from there.
"""

import numpy as np
from numba import njit
from tfexplore.backends.streaming import copy_bytes, copy_items, square, transpose_lines

ZERO, ONE = np.uint64(0), np.uint64(1)
WHOLE = np.uint64(64)
"""Bytes of a step's row from which on it is copied as one."""


@njit(cache=True, nogil=True, error_model="numpy")
def fold(first, last, steps, stream, part, apart, beside):
    """Chunks first <= c < last of L = `steps` steps."""
    source, target = sides(apart, beside, np.uint64(steps))
    move(first, last, np.uint64(steps), apart, source, target)


@njit(cache=True, nogil=True, error_model="numpy")
def unfold(first, last, steps, stream, part, apart, beside):
    """The inverse of `fold`."""
    target, source = sides(apart, beside, np.uint64(steps))
    move(first, last, np.uint64(steps), apart, source, target)


@njit(nogil=True)
def sides(apart, beside, long):
    """Where a cell of N numbers is in each: the address, the bytes from chunk to chunk, from step to step and from row to row.

    Then those between the rows of a square: chunks are the rows of one side, and steps those of the other.
    """
    rows, size = np.uint64(apart.shape[1]), np.uint64(apart.itemsize)
    cell, row = np.uint64(apart.shape[2]) * size, np.uint64(beside.shape[2]) * size
    chunk = long * rows * cell
    return (
        (np.uint64(apart.ctypes.data), chunk, rows * cell, cell, chunk),
        (np.uint64(beside.ctypes.data), cell, rows * row, row, rows * row),
    )


@njit(nogil=True)
def move(first, last, long, apart, source, target):
    """All cells of these chunks. long: L; source, target: as from `sides`."""
    size, item = np.uint64(apart.itemsize), apart[0, 0, 0]
    total, rows, cell = np.uint64(apart.shape[0]), np.uint64(apart.shape[1]), np.uint64(apart.shape[2]) * size
    at, at_c, at_t, at_r, source_row = source
    to, to_c, to_t, to_r, target_row = target
    side = np.uint64(square(size))
    for c_0 in range(first, last, side):
        c_1 = min(c_0 + side, last)
        for t_0 in range(ZERO, long, side):
            t_1 = min(t_0 + side, long)
            whole = c_1 - c_0 == side and t_1 - t_0 == side and (c_1 - ONE) * long + t_1 <= total
            if whole and rows * cell == size and size < np.uint64(16):
                transpose_lines(
                    to + c_0 * to_c + t_0 * to_t, target_row, at + c_0 * at_c + t_0 * at_t, source_row, item
                )
                continue
            for c in range(c_0, c_1):
                count = min(t_1, max(total, c * long + t_0) - c * long) - t_0
                for r in range(rows):
                    here, there = at + c * at_c + t_0 * at_t + r * at_r, to + c * to_c + t_0 * to_t + r * to_r
                    if cell >= WHOLE:
                        for t in range(count):
                            copy_bytes(there + t * to_t, here + t * at_t, cell)
                    else:
                        for n in range(ZERO, cell, size):
                            copy_items(there + n, to_t, here + n, at_t, count, item)


@njit(cache=True, nogil=True, error_model="numpy")
def walk(first, last, steps, stream, part, backwards, matrices, ends, starts):
    """Neurons first <= i < last over `steps` chunks, from the first one or `backwards` from the last one."""
    states, alike, z = ends.shape[0], matrices.shape[0] == 1, np.zeros((2, ends.shape[0]))
    for i in range(first, last):
        for c in range(steps - 1):
            at, to = (steps - 1 - c, steps - 2 - c) if backwards else (c, c + 1)
            matrix = matrices[0 if alike else at]
            for k in range(states):
                moved = np.float64(ends[k, at, i])
                for j in range(states if c else 0):
                    # the product of many steps, or a state, may have overflowed: where one is 0, the other stays out of the
                    # other states
                    if z[0, j] != 0.0 and (matrix[k, j, i] != 0.0 or j == k):
                        moved += matrix[k, j, i] * z[0, j]
                z[1, k] = moved
                starts[k, to, i] = moved
            z[0, :] = z[1]
