"""Work shared out to torch's own threads, so that there are never two thread pools on the same cores.

On Linux, torch's operators run in the threads of the OpenMP library that it ships. For a while after each operator those
spin, waiting for the next one; other threads beside them lose half of the machine. `share` runs the work in the same
threads, through the library's own entry (GOMP_parallel, what a compiler makes of `#pragma omp parallel`). Where torch has
another library (macOS, Windows), and in a forked child, in which OpenMP's threads are gone, a Python thread pool takes its place.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def openmp() -> Any:
    """The OpenMP library that torch has loaded, or None."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY).GOMP_parallel
        except (OSError, AttributeError):  # not the one in use, or without that entry
            continue
    return None


_parallel = openmp()
_process = os.getpid()


@functools.lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tfexplore")


def share(work: Callable[[int], object], pieces: int) -> None:
    """work(0), ..., work(pieces - 1) in torch's number of threads; raises what one of them raised.

    The work must release the GIL to gain anything.
    """
    threads = min(torch.get_num_threads(), pieces)
    if threads <= 1:
        for piece in range(pieces):
            work(piece)
    elif _parallel is None or os.getpid() != _process:
        list(_pool(torch.get_num_threads(), os.getpid()).map(work, range(pieces)))
    else:
        left, errors = itertools.count(), []

        def take(_: object) -> None:
            try:
                while (piece := next(left)) < pieces:
                    work(piece)
            except BaseException as error:  # noqa: BLE001  (ctypes would only print it)
                errors.append(error)

        _parallel(_BODY(take), None, ctypes.c_uint(threads), ctypes.c_uint(0))
        if errors:
            raise errors[0]
