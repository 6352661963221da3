"""The threads for fused CPU kernels: torch's own, so that there are never two thread pools on the same cores.

On Linux, torch's operators run in the threads of the OpenMP library that it ships. For a while after each operator those
spin, waiting for the next one; other threads beside them lose half of the machine. So kernels run in the same threads, through
the library's own entry (GOMP_parallel, what a compiler makes of `#pragma omp parallel`): `kernels/share.py`. Where torch has
another library (macOS, Windows), and in a forked child, in which OpenMP's threads are gone, `in_pool` has a Python thread pool.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch


def openmp() -> int | None:
    """The address of that entry, or None where torch has another library."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            loaded = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            return ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):  # not the one in use, or without that entry
            continue
    return None


_parallel = openmp()
_process = os.getpid()


def entry() -> int | None:
    """The address of OpenMP's entry where its threads can be used, else None."""
    return _parallel if os.getpid() == _process else None


@functools.lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tfexplore")


def in_pool(work: Callable[[int], object], pieces: int) -> None:
    """work(0), ..., work(pieces - 1) in Python threads, as many as torch has; raises what one of them raised.

    The work must release the GIL to gain anything.
    """
    list(_pool(torch.get_num_threads(), os.getpid()).map(work, range(pieces)))
