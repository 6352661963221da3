"""Time and bandwidth, measured honestly: warmed up, synchronised, in rounds, as a median."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping

import torch

from tfexplore.machine.stopwatch import seconds


def or_gpu(device: str | None) -> str:
    """The device that was given; by default the GPU, if there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


FILL, MOST = 0.01, 50
"""A measurement of short work on a GPU repeats it until it takes `FILL` seconds, at most `MOST` times."""


def event_seconds(
    work: Callable[[], object], before: Callable[[], object] = lambda: None, count: int | None = None
) -> float:
    """The seconds of one run of `work` on the GPU, by CUDA events: the mean of `count` runs between two synchronisations.

    No run waits for the one before, so Python's own time counts only where the GPU has nothing left to do.

    Args:
        work: called without arguments.
        before: called before each run, unmeasured.
        count: the number of runs; by default as many as fill `FILL` seconds, after a first run.
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
    """The seconds of one run of `work`: by CUDA events on a GPU, which leaves out Python's own time, else by the clock."""
    return event_seconds(work) if torch.device(device).type == "cuda" else seconds(work, device)


def samples(
    contestants: Mapping[str, Callable[[], object]], count: int, device: torch.device | str = "cpu"
) -> Iterator[dict[str, list[float]]]:
    """Runs every contestant once a round, in turn, so that noise hits all alike; yields all seconds so far after each run.

    The first round warms up: it counts only as long as there is no other.

    Args:
        contestants: the work of each, by name.
        count: rounds after the first one.
        device: synchronised before and after each run.

    Returns:
        An iterator of the seconds of each contestant, by name.
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

    Example:
        >>> *_, last = rounds({"a": lambda: None, "b": lambda: None}, count=3)
        >>> sorted(last)
        ['a', 'b']
    """
    for taken in samples(contestants, count, device):
        yield {name: statistics.median(values) for name, values in taken.items()}


def large_copy(device: torch.device | str = "cpu", mebibytes: int = 128) -> tuple[Callable[[], object], int]:
    """A copy from one array of this size to another, and the bytes that it reads and writes together.

    The default is far beyond any cache. (A CPU may read a line of the target before it overwrites it; as is usual, that
    is not counted.)
    """
    source = torch.ones(mebibytes << 18, device=device)  # float32: four bytes each
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes


def copy_bandwidth(device: torch.device | str = "cpu", mebibytes: int = 128, count: int = 7) -> float:
    """Measures the bandwidth of a large copy in bytes per second, counting both those read and those written.

    Args:
        device: where the arrays lie.
        mebibytes: the size of each of the two arrays.
        count: rounds, of which the median counts; one more warms up.

    Example:
        >>> copy_bandwidth(mebibytes=1, count=3) > 0
        True
    """
    copy, nbytes = large_copy(device, mebibytes)
    *_, last = rounds({"copy": copy}, count, device)
    return nbytes / last["copy"]


def matrix_product(device: torch.device | str = "cpu", size: int = 1024) -> tuple[Callable[[], object], int]:
    """A float32 product of two square matrices, and its number of operations: close to a machine's peak performance."""
    a = torch.ones(size, size, device=device)
    return lambda: a @ a, 2 * size**3


def machine(device: torch.device | str = "cpu") -> str:
    """The name of the device, to stand beside every figure that was measured on it: "AMD EPYC, 2 of 2 cores"."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux: the name from `platform` stays
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores"
