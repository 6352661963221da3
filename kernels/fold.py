"""The serial part of a chunked scan, on a CPU: from the states at the chunks' ends to those at their starts.

Each chunk c maps the states at its start to those at its end as z -> M[c] z + b[c]; chunk by chunk::

    z[c + 1] = M[c] z[c] + b[c]

Shapes: matrices [C, STATES, STATES, N] (or [1, ...]: all chunks have the same), ends (b) and starts (z) [C, STATES, N], in
float64. starts[0] is given, and ends[0] is the end of chunk 0 from there.
"""

from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def walk(first, last, steps, stream, part, matrices, ends, starts):
    """Neurons first <= i < last over `steps` chunks."""
    states, alike = ends.shape[1], matrices.shape[0] == 1
    for k in range(states):
        starts[1, k, first:last] = ends[0, k, first:last]
    for c in range(1, steps - 1):
        matrix = matrices[0 if alike else c]
        for k in range(states):
            starts[c + 1, k, first:last] = ends[c, k, first:last]
            for j in range(states):
                for i in range(first, last):
                    z = starts[c, j, i]
                    # the product of many steps may have overflowed: where there is nothing to multiply, nothing comes of it
                    starts[c + 1, k, i] += matrix[k, j, i] * z if z != 0.0 else 0.0
