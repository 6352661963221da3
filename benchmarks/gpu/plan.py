"""Every point, in the order of its value: the module that measures it, its expected seconds, its limit, what it depends on.

Eight sections: 1 does it run correctly; 2 the fastest builds, and the share of a copy that they reach; 3 one layer beside the
others; 4 whole training steps; 5 time splitting, the explorers' data; 6 the sanitizer and the profiler; 7 other neurons' builds;
8 time walked serially or in chunks.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import neuron
from benchmarks.harness import ROOT
from benchmarks.work import BACKWARD, BOTH, FORWARD, INFERENCE
from tfexplore.codegen.keep import KEEP
from tfexplore.machine.files import fingerprint

KERNELS = (
    "kernels/*.cu*", "tfexplore/measure/tune.py",
    *(f"tfexplore/{room}/*.py" for room in ("neurons", "codegen", "backends", "nn")),
)  # fmt: skip
"""The sources of the kernels and of the layers that run them."""
RACE = ("benchmarks/contestants/*", "benchmarks/[hnprtw]*.py", "tfexplore/measure/clock.py")
"""The sources of the races: harness, neuron, networks, play, reference, training, work."""
TUNING = "benchmarks.gpu.tuning"
OTHERS = ("ParametricLIF", "ALIF", "CubaLIF", "Izhikevich")
"""Neurons whose kernels have other shapes than LIF's."""
ENOUGH = 2**20
"""Element-steps that are compared with the reference before anything is timed."""


@dataclass(frozen=True)
class Point:
    """One thing to measure: `module.measure(device=..., out=..., **given)` returns its row.

    seconds: as an H200 took. limit: after which its process is ended. together: such points are measured side by side, since
    nothing is timed there. peers: whether other libraries take part. reads: files whose content it depends on, beside its module.
    """

    section: int
    name: str
    module: str
    given: dict[str, Any] = field(default_factory=dict)
    seconds: float = 5.0
    limit: float = 60.0
    together: bool = False
    peers: bool = False
    reads: tuple[str, ...] = KERNELS

    def key(self, machine: dict[str, Any]) -> str:
        """A fingerprint of all that its row depends on: the machine, the arguments, and the text of every file."""
        there = {name: value for name, value in machine.items() if name != "peers" or self.peers}
        given = json.dumps([self.module, self.given, there], sort_keys=True)
        own = importlib.util.find_spec(self.module)
        assert own is not None
        assert own.origin is not None
        return fingerprint(given, Path(own.origin).read_text(encoding="utf-8"), *map(text, self.reads))


@cache
def text(pattern: str) -> str:
    paths = sorted(path for path in ROOT.glob(pattern) if path.is_file())
    return "".join(f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in paths)


MACHINE = Point(1, "the machine", "benchmarks.gpu.machine", seconds=12, reads=())
"""Always first, and never skipped: all others depend on its row."""


def points(dry: bool) -> Iterator[Point]:
    yield from right(dry)
    yield from tunings(dry, {"LIF": ("input", "nothing", "bits")})
    yield from copies(dry)
    yield from layers(dry)
    yield from steps(dry)
    yield from uses(dry)
    yield from tools(dry)
    if not dry:
        yield from tunings(dry, {"LIF": ("potential",)} | dict.fromkeys(OTHERS, ("input",)), section=7)
    yield from schedules(dry)


def right(dry: bool) -> Iterator[Point]:
    from benchmarks.gpu.bits import NEURONS

    for k, name in enumerate(list(NEURONS)[: 2 if dry else None]):
        yield Point(
            1,
            f"bits: {name}",
            "benchmarks.gpu.bits",
            {"neuron": name, "small": dry},
            45 if k == 0 else 0,
            150,
            together=True,
        )
    tests = ("tests/**/*.py", "tests/cuda_on_cpu/*", *(f"tfexplore/{room}/*.py" for room in ("data", "timesplit")))
    yield Point(1, "pytest -m gpu", "benchmarks.gpu.tools", {"tool": "pytest"}, 65, 200, reads=(*KERNELS, *tests))


def tunings(dry: bool, kept: Mapping[str, tuple[str, ...]], section: int = 2) -> Iterator[Point]:
    """The builds that the search tries, and the winner, which every later point runs."""
    steps, count = (4, 64) if dry else (32, 2**22)
    for neuron_, keeps in kept.items():
        for keep in keeps[: 1 if dry else None]:
            for dtype in ("float32",) if dry else ("float32", "bfloat16"):
                given = {"neuron": neuron_, "keep": keep, "dtype": dtype, "T": steps, "N": count}
                name = f"fastest build: {neuron_}, {dtype}, keep={keep}"
                yield Point(section, name, TUNING, given, 10, 60)


def copies(dry: bool) -> Iterator[Point]:
    """The LIF of the benchmarks, for each dtype, pass and `keep`."""
    steps, count = (4, 64) if dry else (32, 2**22)
    for dtype in ("float32", "bfloat16"):
        for passes in (FORWARD, BACKWARD):
            for keep in KEEP:
                case = neuron.case(steps, count, passes, dtype, "Rectangle" if keep == "bits" else "ATan")
                given = {"case": compared(case), "keep": keep}
                name = f"share of copy: {dtype}, {passes}, keep={keep}"
                yield Point(2, name, "benchmarks.gpu.sweep", given, 1, 40, reads=(*KERNELS, *RACE))


def layers(dry: bool) -> Iterator[Point]:
    """The cases of the goals come first; torch.compile, half a minute for a case, in one of them, last."""
    yield Point(3, "Python's overhead of a small layer", "benchmarks.gpu.calls", {"N": 64 if dry else 10**4}, 2, 30)
    cases = [(4, 64, "float32"), (4, 64, "bfloat16")] if dry else [
        *((32, n, dtype) for n in (10**7, 10**4) for dtype in ("float32", "bfloat16")), (32, 10**6, "float32"),
        (32, 10**5, "float32"), (4, 10**7, "float32"), (4, 10**6, "float32"), (4, 10**5, "float32"), (4, 10**4, "float32"),
        (128, 10**6, "float32"), (128, 10**5, "float32"), (128, 10**4, "float32"), (500, 10**5, "float32"),
        (500, 10**4, "float32"),
    ]  # fmt: skip
    for steps, count, dtype in cases:
        case = neuron.case(steps, count, BOTH, dtype)
        yield race(
            "neuron", f"T={steps}, N={count}, {dtype}", compared(case) | {"graphs": not dry, "compiled": False}, 7
        )
    if not dry:
        for what, case in (
            ("rectangle", neuron.case(32, 10**7, surrogate="Rectangle")), ("inference", neuron.case(32, 10**7, INFERENCE)),
        ):  # fmt: skip
            yield race("neuron", f"T=32, N=10000000, float32, {what}", compared(case) | {"compiled": False}, 7)
        case = neuron.case(32, 10**6)
        only = ["copy", "cuda, keep=input", "torch.compile of the plain loop"]
        yield race("neuron", "T=32, N=1000000, torch.compile", compared(case) | {"modes": only}, 30)


def steps(dry: bool) -> Iterator[Point]:
    for network in ("conv",) if dry else ("resnet18", "conv", "vgg11"):
        for autocast in ({"autocast": "bfloat16"}, {}):
            about = {"T": 2, "B": 2, "width": 4} if dry else {"T": 4, "B": 64}
            case = {"network": network, **about, "dtype": "float32", "surrogate": "ATan", "seed": 0, **autocast}
            name = f"{network}, {autocast.get('autocast', 'float32')}"
            yield race("training", name, case | {"parts": False, "graphs": not dry}, 8, section=4)
    for keep in KEEP:
        network = "conv" if dry else "resnet18"
        given = {"network": network, "keep": keep, "T": 2 if dry else 4, "B": 2 if dry else 64}
        yield Point(
            4, f"peak memory, {network}, keep={keep}", "benchmarks.gpu.memory", given, 1, reads=(*KERNELS, *RACE)
        )


def race(benchmark: str, name: str, case: dict[str, Any], seconds: float, section: int = 3) -> Point:
    # the peers too are measured again when a kernel has changed: only what ran in turn is compared
    given = {"benchmark": benchmark, "case": case}
    return Point(
        section, f"{benchmark}: {name}", "benchmarks.gpu.race", given, seconds, 150, peers=True, reads=(*KERNELS, *RACE)
    )


def compared(case: dict[str, Any]) -> dict[str, Any]:
    return case | {"every": max(1, case["T"] * case["N"] // ENOUGH)}


def uses(dry: bool) -> Iterator[Point]:
    reads = (*KERNELS, "tfexplore/timesplit/*.py", "tests/split_jobs.py")
    for ranks in (2,) if dry else (2, 4):
        yield Point(5, f"time split, {ranks} ranks", "benchmarks.gpu.split", {"ranks": ranks}, 8, 90, reads=reads)
    reads = (*KERNELS, "tfexplore/explore/**/*.py", "tfexplore/measure/contestants.py")
    yield Point(
        5, "the explorers' data", "benchmarks.gpu.explorers", {"count": 64 if dry else 2**16}, 5, 90, reads=reads
    )


def tools(dry: bool) -> Iterator[Point]:
    reads = (*KERNELS, "benchmarks/gpu/small.py")
    for tool in ("memcheck", "initcheck"):
        yield Point(6, tool, "benchmarks.gpu.tools", {"tool": tool}, 15, 120, reads=reads)
    yield Point(6, "ncu", "benchmarks.gpu.tools", {"tool": "ncu"}, 17, 120, reads=reads)


def schedules(dry: bool) -> Iterator[Point]:
    """The widest corners first: few neurons and many steps, where chunks must win, and many neurons, where they must not.

    Last, and by `--only 8` in a run of its own: the first point compiles some twenty kernels.
    """
    cases = [(64, 8)] if dry else [
        (65536, 1), (4096, 32768), (4096, 1), (65536, 1024), (4096, 1024), (256, 1), (65536, 32), (4096, 32), (256, 1024),
        (256, 32768), (256, 32), (65536, 32768),
    ]  # fmt: skip
    reads = (*KERNELS, "tfexplore/measure/clock.py", "benchmarks/gpu/tuning.py")
    for k, (steps, count) in enumerate(cases):
        name, given = f"schedules: T={steps}, N={count}", {"T": steps, "N": count}
        yield Point(8, name, "benchmarks.gpu.schedules", given, 35 if k == 0 else 4, 120, reads=reads)
