"""Recycled output buffers, and stores that bypass the cache."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch

from tfexplore.backends import buffers
from tfexplore.backends.streaming import cache_size, cut, fence, prefetch, write

LARGE = (buffers.LARGE // 4,)


@pytest.fixture(autouse=True)
def nothing_held():
    gc.collect()
    buffers.release()
    yield
    buffers.release()


def test_a_large_tensor_takes_the_memory_of_one_that_is_gone() -> None:
    first = buffers.empty(LARGE, torch.float32)
    place = first.data_ptr()
    assert buffers.held() == 0
    del first
    assert buffers.held() >= buffers.LARGE
    second = buffers.empty(LARGE, torch.float32)
    assert second.data_ptr() == place
    assert buffers.held() == 0
    assert buffers.empty(LARGE, torch.float32).data_ptr() != place


def test_a_view_an_array_or_autograd_keeps_it() -> None:
    made = buffers.empty((4, *LARGE), torch.float64)
    view, array = made[1:].T, made.numpy()
    other = torch.ones_like(made, requires_grad=True)
    loss = (other * made).sum()
    for name in ("made", "view", "array"):
        assert buffers.held() == 0, name
        if name == "made":
            del made
        elif name == "view":
            del view
        else:
            del array
    assert buffers.held() == 0, "autograd needs it for the backward pass"
    loss.backward()
    del loss
    assert buffers.held() > 0


def test_small_tensors_are_torchs_own() -> None:
    made = buffers.empty((3, 5), torch.float16)
    assert (made.shape, made.dtype) == ((3, 5), torch.float16)
    del made
    assert buffers.held() == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64], ids=str)
def test_shape_and_dtype(dtype) -> None:
    made = buffers.empty((3, 7, buffers.LARGE + 1), dtype)
    assert (made.shape, made.dtype, made.is_contiguous(), made.data_ptr() % 64) == (
        (3, 7, buffers.LARGE + 1),
        dtype,
        True,
        0,
    )
    made.fill_(1)
    assert made.sum(dtype=torch.float64) == made.numel()


def test_unused_memory_is_limited(monkeypatch) -> None:
    monkeypatch.setattr(buffers, "LIMIT", 3 * buffers.HUGE_PAGE)
    several = [buffers.empty((buffers.HUGE_PAGE // 4,), torch.float32) for _ in range(5)]
    places = [made.data_ptr() for made in several]
    while several:
        several.pop(0)
    assert buffers.held() <= buffers.LIMIT
    again = [buffers.empty((buffers.HUGE_PAGE // 4,), torch.float32).data_ptr() for _ in range(1)]
    assert again[0] == places[-1], "the last one returned is the one that the cache still holds"


def test_from_several_threads() -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(50):
            made = buffers.empty(LARGE, torch.float32).fill_(number)
            if not (made == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_write_fills_the_piece_and_nothing_beside_it(dtype, stream) -> None:
    from numba import njit

    @njit
    def fill(target, row, begin, end):
        piece = cut(target, 1, begin, end)
        prefetch(piece, stream)
        write(row, piece, stream)
        fence()

    row = np.arange(1, 200, dtype=dtype)
    for begin in range(20):
        for size in (0, 1, 7, 15, 16, 17, 64, 100, 199):
            target = np.zeros((3, 300), dtype)
            fill(target, row, np.uint64(begin), np.uint64(begin + size))
            expected = np.zeros((3, 300), dtype)
            expected[1, begin : begin + size] = row[:size]
            np.testing.assert_array_equal(target, expected)


def test_the_cache_has_a_size() -> None:
    assert 1 << 18 <= cache_size() <= 1 << 32
