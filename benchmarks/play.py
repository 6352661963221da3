"""A contestant's own process, `python -m benchmarks.play`: on requests of `benchmarks.harness` it prepares, checks and times.

open     imports the contestant; limits this process's memory, so that too large a case ends in an error
prepare  names the modes for a case
check    makes the Work of a mode, and compares its result with the reference
time     one run, by the wall clock, or the mean of several short ones; on a GPU by its events
drop     frees what the case held
"""

from __future__ import annotations

import gc
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import work
from benchmarks.work import Modes, Work
from tfexplore.machine.stopwatch import seconds, synchronise
from tfexplore.measure.clock import FILL, MOST, event_seconds
from tfexplore.measure.server_process import Request, serve

SHORT = 1e-3
"""Seconds: shorter work on a CPU is repeated too, since the first run after a pause finds other processes' data in the caches."""


class Player:
    def __init__(self) -> None:
        self.module: Any = None
        self.device, self.passes = "cpu", ""
        self.modes: Modes = {}
        self.works: dict[str, Work] = {}

    def answer(self, request: Request) -> dict[str, Any]:
        reply: dict[str, Any] = getattr(self, request.pop("do"))(**request)
        return reply

    def open(self, name: str, memory: int | None) -> dict[str, Any]:
        if memory:
            _limit(memory)
        self.module = importlib.import_module(f"benchmarks.contestants.{name}")
        return {"versions": self.module.VERSIONS()}

    def prepare(self, benchmark: str, case: work.Case) -> dict[str, Any]:
        self.drop()
        self.device, self.passes = case["device"], case.get("passes", "")
        modes = getattr(self.module, benchmark)(case) if hasattr(self.module, benchmark) else {}
        self.modes = {name: make for name, make in modes.items() if name in case.get("modes", modes)}
        return {"modes": list(self.modes)}

    def check(self, mode: str, folder: str, tolerance: dict[str, float]) -> dict[str, Any]:
        """The share of elements farther from the reference than `tolerance`, relative to its largest value, by name."""
        begin = time.perf_counter()
        made = self.modes[mode]()
        found = made.result()
        synchronise(self.device)
        first = time.perf_counter() - begin
        far = {
            name: apart(name, v, np.load(Path(folder) / f"{name}.npy"), tolerance[name]) for name, v in found.items()
        }
        del found
        self.works[mode] = made
        return {
            "apart": far, "first_s": first, "kept": made.kept(), "least": made.least, "equation": made.equation,
        }  # fmt: skip

    def time(self, mode: str, warm: bool) -> dict[str, Any]:
        """warm: run once before, untimed, for short work, since the other contestants have emptied the caches."""
        made = self.works[mode]
        if warm:
            made.before()
            made.run()
        wait = made.wait or same
        if torch.device(self.device).type == "cuda" and made.wait is None:
            return {"seconds": event_seconds(made.run, made.before)}
        made.before()
        held: list[object] = []  # freed after the clock has stopped
        once = seconds(lambda: held.append(wait(made.run())), self.device)
        if self.passes == work.BACKWARD or (torch.device(self.device).type == "cpu" and once > SHORT):
            return {"seconds": once}  # a backward pass needs `before`, which waits
        count = max(1, min(MOST, int(FILL / once)))
        return {"seconds": seconds(lambda: wait([made.run() for _ in range(count)]), self.device) / count}

    def drop(self) -> dict[str, Any]:
        self.works.clear()
        self.modes = {}
        work.forget()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {}


def same(result: object) -> object:
    return result


def apart(name: str, found: np.ndarray, expected: np.ndarray, near: float) -> float:
    """The share of elements farther from the reference than `near`, relative to its largest value."""
    if found.shape != expected.shape:
        raise ValueError(f"{name} has the shape {found.shape}, the reference {expected.shape}")
    return 1 - float((np.abs(found - expected) <= near * np.abs(expected).max()).mean())  # NaN is not near


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


if __name__ == "__main__":
    serve(Player().answer)
