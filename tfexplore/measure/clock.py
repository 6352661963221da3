"""Time and bandwidth, measured honestly: warmed up, synchronised, in rounds, as a median."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import torch


def synchronise(device: torch.device | str) -> None:
    """Waits until the device has done what was asked of it; a CPU has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """One run of `work`, by the wall clock."""
    synchronise(device)
    begin = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begin


FILL, MOST = 0.01, 50
"""Seconds that one measurement of short work on a GPU takes, in at most so many runs."""


def event_seconds(
    work: Callable[[], object], before: Callable[[], object] = lambda: None, count: int | None = None
) -> float:
    """One run of `work` on the GPU, by CUDA events: the mean of `count` runs asked for between two synchronisations.

    No run waits for the one before, so Python's own time counts only where the GPU has nothing left to do. `before` precedes
    each run, unmeasured. count: by default what fills `FILL` seconds, after a first run.
    """
    count = count or max(1, min(MOST, int(FILL / max(1e-7, event_seconds(work, before, 1)))))
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    torch.cuda.synchronize()
    for begin, end in pairs:
        before()
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return sum(begin.elapsed_time(end) for begin, end in pairs) / 1e3 / count


def pass_seconds(work: Callable[[], object], device: torch.device | str) -> float:
    """One run of `work`, without Python's own time where that can be told apart: by CUDA events on a GPU, else by the clock."""
    return event_seconds(work) if torch.device(device).type == "cuda" else seconds(work, device)


def samples(
    contestants: Mapping[str, Callable[[], object]], count: int, device: torch.device | str = "cpu"
) -> Iterator[dict[str, list[float]]]:
    """Runs every contestant once a round, in turn, so that noise hits all alike; yields all seconds so far after each run.

    The first round warms up: it counts only as long as there is no other.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(count + 1):
        for name, work in contestants.items():
            taken[name].append(seconds(work, device))
            yield {key: values[1:] or values[:] for key, values in taken.items() if values}


def rounds(
    contestants: Mapping[str, Callable[[], object]], count: int, device: torch.device | str = "cpu"
) -> Iterator[dict[str, float]]:
    """As `samples`, but yields the medians.

    >>> *_, last = rounds({"a": lambda: None, "b": lambda: None}, count=3)
    >>> sorted(last)
    ['a', 'b']
    """
    for taken in samples(contestants, count, device):
        yield {name: statistics.median(values) for name, values in taken.items()}


def large_copy(device: torch.device | str = "cpu", mebibytes: int = 128) -> tuple[Callable[[], object], int]:
    """A copy from one array to another, each of this size, and the bytes that it reads and writes together.

    The default is far beyond any cache. (A CPU may read a line of the target before it overwrites it; as is usual, that
    is not counted.)
    """
    source = torch.ones(mebibytes << 18, device=device)  # float32: four bytes each
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes


def copy_bandwidth(device: torch.device | str = "cpu", mebibytes: int = 128, count: int = 7) -> float:
    """Bytes per second, read and written ones counted, of a large copy: the median of several.

    >>> copy_bandwidth(mebibytes=1, count=3) > 0
    True
    """
    copy, nbytes = large_copy(device, mebibytes)
    *_, last = rounds({"copy": copy}, count, device)
    return nbytes / last["copy"]


def matrix_product(device: torch.device | str = "cpu", size: int = 1024) -> tuple[Callable[[], object], int]:
    """A float32 product of two square matrices, and its multiplications and additions: near the most a machine computes."""
    a = torch.ones(size, size, device=device)
    return lambda: a @ a, 2 * size**3


def machine(device: torch.device | str = "cpu") -> str:
    """The device in words, to stand beside every figure measured on it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux: platform's word will do
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores"
