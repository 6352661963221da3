"""The seconds of one run on a device, by the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronise(device: torch.device | str) -> None:
    """Waits until all work queued on the device is done; on a CPU it is."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """The seconds of one run of `work`, by the wall clock.

    Args:
        work: called without arguments.
        device: synchronised before and after.

    Example:
        >>> seconds(lambda: torch.ones(3) + 1) > 0
        True
    """
    synchronise(device)
    begin = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begin
