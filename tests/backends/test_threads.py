"""Work shared out to torch's own threads, or to a pool of Python's where torch has no OpenMP that can be called."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tfexplore.backends import threads
from tfexplore.backends.threads import share


@pytest.fixture(params=["openmp", "pool"], autouse=True)
def way(request, monkeypatch):
    if request.param == "pool":
        monkeypatch.setattr(threads, "_parallel", None)
    elif threads._parallel is None:
        pytest.skip("torch's threads are called on Linux, where its wheels ship GNU's OpenMP")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels for Linux ship GNU's OpenMP")
def test_on_linux_torchs_own_threads_are_found() -> None:
    assert threads.openmp() is not None


def test_every_piece_once_in_as_many_threads_as_torch_uses() -> None:
    for pieces in (1, 2, 3, 50):
        seen, threads_used, together = [], set(), threading.Barrier(min(3, pieces))

        def work(
            piece: int, seen: Any = seen, used: Any = threads_used, together: threading.Barrier = together
        ) -> None:
            if piece < together.parties:  # the first wait for each other: a busy machine cannot give all to one thread
                together.wait(timeout=60)
            used.add(threading.get_ident())
            seen.append(piece)

        share(work, pieces)
        assert sorted(seen) == list(range(pieces))
        assert len(threads_used) == min(3, pieces)


def test_an_error_comes_back_and_the_next_call_works() -> None:
    def work(piece: int) -> None:
        if piece == 5:
            raise ValueError("piece 5")

    for _ in range(3):
        with pytest.raises(ValueError, match="piece 5"):
            share(work, 12)
    done = []
    share(done.append, 12)
    assert len(done) == 12


def test_from_several_threads_at_once_between_torchs_own_operators() -> None:
    def work(number: int) -> int:
        done: list[int] = []
        for _ in range(20):
            share(done.append, 9)
            torch.ones(100_000).add_(number).sum()
        return len(done)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [180] * 4
