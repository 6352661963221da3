"""A kernel in several threads: torch's own, or a pool of Python's where torch has no OpenMP that can be called."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from tfexplore.backends import numba_cpu, threads
from tfexplore.backends.threads import in_pool

THREADS = 3
TOO_MANY = 1 << 46  # float64 numbers: more than a process can address


@pytest.fixture(autouse=True)
def three() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["openmp", "pool"])
def way(request, monkeypatch):
    monkeypatch.setattr(numba_cpu, "SMALL", 0)
    if request.param == "pool":
        monkeypatch.setattr(threads, "_parallel", None)
    elif threads.entry() is None:
        pytest.skip("torch's threads are called on Linux, where its wheels ship GNU's OpenMP")
    return request.param


def counted(pieces: int) -> list[numba_cpu.Part]:
    """Piece k has the neurons from 10 k on, and k + 1 steps."""
    return [(10 * k, 10 * k + 10, k + 1) for k in range(pieces)]


@njit(nogil=True)
def mark(first, last, steps, stream, part, calls, seen):
    calls[part] += 1
    for i in range(first, last):
        seen[i] += steps


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels for Linux ship GNU's OpenMP")
def test_on_linux_torchs_own_threads_are_found() -> None:
    assert threads.entry() is not None


def test_every_part_once(way: str) -> None:
    for pieces in (1, 2, 3, 50):
        calls, seen = np.zeros(pieces, np.int64), np.zeros(10 * pieces)
        numba_cpu.caller(mark, 0, counted(pieces))(calls, seen)
        assert (calls == 1).all()
        assert (seen == np.repeat(np.arange(pieces) + 1, 10)).all()


@pytest.mark.skipif(sys.platform == "win32", reason="asks the C library of Linux and macOS which thread it is in")
def test_in_as_many_threads_as_torch_has(way: str) -> None:
    """The first parts wait for each other, so that a busy machine cannot give them all to one thread."""
    c: Any = ctypes.CDLL(None)
    me, pause = c.pthread_self, c.usleep
    me.argtypes, me.restype = [], ctypes.c_uint64
    pause.argtypes, pause.restype = [ctypes.c_uint32], ctypes.c_int32

    @njit(nogil=True)
    def meet(first, last, steps, stream, part, there, who):
        who[part] = me()
        there[part] = 1
        waited = 0
        while part < THREADS and there[:THREADS].sum() < THREADS and waited < 60_000:
            pause(1000)
            waited += 1

    for pieces in (1, 2, 3, 50):
        there, who = np.zeros(max(pieces, THREADS), np.int64), np.zeros(pieces, np.uint64)
        there[pieces:] = 1
        numba_cpu.caller(meet, 0, counted(pieces))(there, who)
        assert len(set(who.tolist())) == min(THREADS, pieces)


@njit(nogil=True)
def greedy(first, last, steps, stream, part, size, done):
    if part == 5:
        np.empty(size)[part] = 1
    done[part] = 1


def test_a_kernel_without_memory_says_so_and_the_next_call_works(way: str) -> None:
    for _ in range(3):
        with pytest.raises(MemoryError):
            numba_cpu.caller(greedy, 0, counted(12))(np.int64(TOO_MANY), np.zeros(12))
    done = np.zeros(12)
    numba_cpu.caller(greedy, 0, counted(12))(np.int64(6), done)
    assert done.all()


def test_from_several_threads_at_once_between_torchs_own_operators(way: str) -> None:
    def work(number: int) -> int:
        calls, seen = np.zeros(9, np.int64), np.zeros(90)
        for _ in range(20):
            numba_cpu.caller(mark, 0, counted(9))(calls, seen)
            torch.ones(100_000).add_(number).sum()
        return int(calls.sum())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [180] * 4


def test_an_error_of_the_pool_comes_back_and_the_next_call_works() -> None:
    def work(piece: int) -> None:
        if piece == 5:
            raise ValueError("piece 5")

    for _ in range(3):
        with pytest.raises(ValueError, match="piece 5"):
            in_pool(work, 12)
    done: list[int] = []
    in_pool(done.append, 12)
    assert len(done) == 12


def test_the_pool_has_as_many_threads_as_torch() -> None:
    together, used = threading.Barrier(THREADS), set()

    def work(piece: int) -> None:
        if piece < THREADS:
            together.wait(timeout=60)
        used.add(threading.get_ident())

    in_pool(work, 50)
    assert len(used) == THREADS
