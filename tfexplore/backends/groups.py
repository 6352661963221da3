"""What a block of neurons has at its start and its end, on a CPU: states, and the parameters that groups of neurons share.

A parameter with one value per channel is COUNT numbers, not N: neuron i has number (i // inner) % COUNT, where `inner` neighbours
share one. A kernel spreads them once for a block and all its time steps, into memory that stays in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True)
def begin_with(given: Any, alike: Any, lo: Any, hi: Any, states: Any) -> None:
    """states[k, i - lo] = given[k, i] for lo <= i < hi, or alike[k] where `given` has no columns."""
    for k in range(states.shape[0]):
        if given.shape[1]:
            states[k, : hi - lo] = given[k, lo:hi]
        else:
            states[k, : hi - lo] = alike[k]


@njit(nogil=True)
def spread(values: Any, inner: Any, lo: Any, hi: Any, rows: Any) -> None:
    """rows[k, i - lo] = values[k, (i // inner) % COUNT] for lo <= i < hi."""
    count, one = np.uint64(values.shape[1]), np.uint64(1)
    for k in range(values.shape[0]):
        i, own, row, place = lo, values[k], rows[k], lo // inner % count
        stop = min(hi, lo + count - place if inner == one else (lo // inner + one) * inner)
        while i < hi:
            if inner == one:  # as many as follow one another; loops, since a slice takes longer than the copy of a few
                for j in range(stop - i):
                    row[i - lo + j] = own[place + j]
                place, i, stop = np.uint64(0), stop, min(hi, stop + count)
            else:
                value = own[place]
                for j in range(i - lo, stop - lo):
                    row[j] = value
                place, i, stop = place + one if place + one < count else np.uint64(0), stop, min(hi, stop + inner)


@njit(nogil=True, fastmath={"reassoc"})
def collect(rows: Any, inner: Any, lo: Any, hi: Any, sums: Any) -> None:
    """sums[k, (i // inner) % COUNT] += rows[k, i - lo] for lo <= i < hi; `sums` is float64.

    In the order that vectorises, the same every time.
    """
    count, one = np.uint64(sums.shape[1]), np.uint64(1)
    for k in range(rows.shape[0]):
        i, row, own, place = lo, rows[k], sums[k], lo // inner % count
        stop = min(hi, lo + count - place if inner == one else (lo // inner + one) * inner)
        while i < hi:
            if inner == one:
                for j in range(stop - i):
                    own[place + j] += row[i - lo + j]
                place, i, stop = np.uint64(0), stop, min(hi, stop + count)
            else:
                found = 0.0
                for j in range(i - lo, stop - lo):
                    found += row[j]
                own[place] += found
                place, i, stop = place + one if place + one < count else np.uint64(0), stop, min(hi, stop + inner)
