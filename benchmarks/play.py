"""A contestant's own process, `python -m benchmarks.play`: asked by `benchmarks.harness`, it prepares, checks and times.

open     imports the contestant; limits this process's memory, so that too large a case ends in an error
prepare  names the modes for a case
check    makes the Work of a mode, and compares its result with the reference
time     one run, by the wall clock
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
from tfexplore.beside import Question, serve
from tfexplore.measure import seconds, synchronise


class Player:
    def __init__(self) -> None:
        self.module: Any = None
        self.device = "cpu"
        self.modes: Modes = {}
        self.works: dict[str, Work] = {}

    def answer(self, question: Question) -> dict[str, Any]:
        reply: dict[str, Any] = getattr(self, question.pop("do"))(**question)
        return reply

    def open(self, name: str, memory: int | None) -> dict[str, Any]:
        if memory:
            _limit(memory)
        self.module = importlib.import_module(f"benchmarks.contestants.{name}")
        return {"versions": self.module.VERSIONS()}

    def prepare(self, benchmark: str, case: work.Case) -> dict[str, Any]:
        self.drop()
        self.device = case["device"]
        self.modes = getattr(self.module, benchmark)(case) if hasattr(self.module, benchmark) else {}
        return {"modes": list(self.modes)}

    def check(self, mode: str, folder: str, tolerance: dict[str, float]) -> dict[str, Any]:
        """The share of elements farther from the reference than `tolerance`, relative to its largest value, by name."""
        begin = time.perf_counter()
        made = self.modes[mode]()
        found = made.result()
        synchronise(self.device)
        first = time.perf_counter() - begin
        apart = {}
        for name, values in found.items():
            expected = np.load(Path(folder) / f"{name}.npy")
            if values.shape != expected.shape:
                raise ValueError(f"{name} has the shape {values.shape}, the reference {expected.shape}")
            near = np.abs(values - expected) <= tolerance[name] * np.abs(expected).max()  # NaN is not near
            apart[name] = 1 - float(near.mean())
        del found
        self.works[mode] = made
        return {
            "apart": apart, "first_s": first, "kept": made.kept(), "least": made.least, "equation": made.equation,
        }  # fmt: skip

    def time(self, mode: str, warm: bool) -> dict[str, Any]:
        """warm: once untimed before, for short work, since the contestants between have emptied the caches."""
        made = self.works[mode]
        if warm:
            made.before()
            made.run()
        made.before()
        held: list[object] = []  # freed after the clock has stopped
        return {"seconds": seconds(lambda: held.append(made.run()), self.device)}

    def drop(self) -> dict[str, Any]:
        self.works.clear()
        self.modes = {}
        work.forget()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {}


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


if __name__ == "__main__":
    serve(Player().answer)
