"""Recycled output buffers of the CPU kernels: a caching allocator for large CPU tensors, as torch has one for GPUs.

The system clears every page of fresh memory when it is first touched: for a tensor of 64 MiB that takes longer than the
kernel that fills it. torch frees CPU memory at once, so every training step would pay for that anew. A tensor from `empty`
returns its memory when the last view of it is gone, and the next one of that size takes it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections import OrderedDict
from math import prod

import torch
from torch import Tensor

HUGE_PAGE = 1 << 21
LARGE = 1 << 19
"""Bytes from which on memory is recycled here; the C library does so itself with what is much smaller."""
LIMIT = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8 if hasattr(os, "sysconf") else 1 << 30
"""Bytes of unused memory that are held at most: an eighth of the machine's."""

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_MADV_HUGEPAGE = 14
_lock = threading.RLock()  # a garbage collection may return memory in the middle of what follows, in the same thread
_free: OrderedDict[int, Tensor] = OrderedDict()  # by address, those returned last at the end


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Like `torch.empty`, on the CPU; a large tensor takes the memory of one that is gone, or 2 MiB pages."""
    wanted = prod(shape) * dtype.itemsize
    if wanted < LARGE:
        return torch.empty(shape, dtype=dtype)
    size = rounded(wanted)
    with _lock:
        found = next((address for address, memory in reversed(_free.items()) if memory.nbytes == size), None)
        memory = _fresh(size) if found is None else _free.pop(found)
    seen = memory.numpy()[:wanted]  # the tensor below keeps this array alive, and nothing else does
    weakref.finalize(seen, _give_back, memory).atexit = False
    return torch.from_numpy(seen).view(dtype).view(shape)


def rounded(size: int) -> int:
    """Up to an eighth more, so that a batch of slightly another size finds memory too.

    >>> rounded(1 << 20) == 1 << 20, rounded((1 << 20) + 1) == 9 << 17
    (True, True)
    """
    step = 1 << (size.bit_length() - 4)
    return -(-size // step) * step


def held() -> int:
    """Bytes of unused memory, held for the next tensor.

    >>> held() <= LIMIT
    True
    """
    with _lock:
        return sum(memory.nbytes for memory in _free.values())


def release() -> None:
    """Frees the unused memory."""
    with _lock:
        _free.clear()


def _give_back(memory: Tensor) -> None:
    with _lock:
        _free[memory.data_ptr()] = memory
        while held() > LIMIT:
            _free.popitem(last=False)


def _fresh(size: int) -> Tensor:
    made = torch.empty(size, dtype=torch.uint8)
    if _LIBC is not None:  # advice: it may be refused
        begin = -(-made.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        length = (made.data_ptr() + size) // HUGE_PAGE * HUGE_PAGE - begin
        _LIBC.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    return made
