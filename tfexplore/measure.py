"""Time, measured honestly: warmed up, synchronised, in rounds, as a median."""

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


def rounds(
    contestants: Mapping[str, Callable[[], object]], count: int, device: torch.device | str = "cpu"
) -> Iterator[dict[str, float]]:
    """Runs every contestant once a round, in turn, so that noise hits all alike; yields the medians after each run.

    The first round warms up: it counts only as long as there is no other.

    >>> *_, last = rounds({"a": lambda: None, "b": lambda: None}, count=3)
    >>> sorted(last)
    ['a', 'b']
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(count + 1):
        for name, work in contestants.items():
            taken[name].append(seconds(work, device))
            yield {key: statistics.median(values[1:] or values) for key, values in taken.items() if values}


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
