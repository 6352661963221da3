"""A kernel in several threads of a CPU (a GPU does this by itself).

parts: int64 [count, 3]: for each part of the neurons the first, the last + 1, and their steps. Each thread takes the next part
until none is left, since cores are rarely equally fast. openmp, kernel: the addresses of OpenMP's entry, and of the kernel
compiled for these arrays; it is called as kernel(first, last, steps, stream, part, *arrays).
"""

import numpy as np
from numba import njit
from tfexplore.backends.sharing import in_threads


@njit(cache=True, nogil=True)
def share(openmp, threads, kernel, parts, stream, *arrays):
    """The kernel for every part, in this number of threads."""
    if not in_threads(openmp, threads, kernel, np.uint64(parts.ctypes.data), len(parts), stream, arrays):
        raise MemoryError("A fused CPU kernel found no memory for its rows of numbers; free some and run it again.")
