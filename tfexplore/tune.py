"""The fastest build of the GPU kernels, found by measuring: `tfexplore warm --tune`.

`search` changes one option after another, from the predicted build on; a `Trial` times the kernels of one neuron by CUDA events.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tfexplore import neurons, surrogates
from tfexplore.backends import cuda, tuned
from tfexplore.builds import BYTES, Build, Config, Shape, default, fits
from tfexplore.codegen import Variant
from tfexplore.equations import Neuron
from tfexplore.step import scalars_of, step_of

OPTIONS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("backward.shared", (False, True)),
    ("chunk", (8, 16, 32)),
    ("backward.vector", (1, 2, 4, 8)),
    ("backward.ahead", (2, 4, 8)),
    ("forward.vector", (1, 2, 4, 8)),
    ("forward.ahead", (2, 4, 8)),
    ("backward.streaming", (False, True)),
    ("forward.streaming", (False, True)),
)
"""In the order in which they are tried: what is predicted to matter most comes first."""
BOX = surrogates.Rectangle()
COMMON: tuple[tuple[Neuron, str], ...] = (
    (neurons.LIF(), "input"), (neurons.LIF(), "nothing"), (neurons.LIF(surrogate=BOX), "bits"), (neurons.LIF(), "potential"),
    (neurons.ParametricLIF(), "input"), (neurons.ALIF(), "input"), (neurons.CubaLIF(), "input"), (neurons.Izhikevich(), "input"),
)  # fmt: skip
"""One neuron of each shape of the library, and what is saved for its backward pass; the most used first."""
DTYPES = ("float32", "bfloat16", "float16")

Seconds = Callable[[str, Build, int], float]


def search(shape: Shape, seconds: Seconds) -> Config:
    """The config that no change of one option makes faster, found from the predicted one on.

    seconds(loop, build, chunk): of one pass; math.inf for a build that cannot run. Each is asked for once.
    """
    once = functools.cache(seconds)

    def total(config: Config) -> float:
        loops = ("forward",) if shape.keep == "nothing" else ("forward", "backward")
        return sum(once(loop, getattr(config, loop), config.chunk) for loop in loops)

    best, before = default(shape), None
    while best != before:  # one option may make room for another: a narrower access for a longer chunk
        before = best
        for option, values in OPTIONS:
            tried = [changed(best, option, value) for value in values]
            best = min((config for config in (best, *tried) if fits(config, shape)), key=total)
    return best


def changed(config: Config, option: str, value: Any) -> Config:
    loop, _, name = option.rpartition(".")
    return replace(config, **{loop: replace(getattr(config, loop), **{name: value})} if loop else {name: value})


class Trial:
    """The two kernels of a neuron on a GPU, over x [steps, neurons] of noise; `seconds` times them in any build.

    Where memory is short, fewer neurons take part. Every build must give the bits of the first.
    """

    def __init__(
        self, neuron: Neuron, keep: str, dtype: str, device: str = "cuda", steps: int = 32, neurons: int = 1 << 22
    ) -> None:
        step, real = step_of(neuron), "float64" if dtype == "float64" else "float32"
        self.variant, self.scalars = Variant(step, real, dtype, keep), list(scalars_of(neuron).values())
        each = steps * (8 * BYTES[dtype] + 2 * max(1, len(self.variant.needs)) * BYTES[real])
        self.steps, self.neurons = steps, min(neurons, 1 << int(math.log2(free_bytes(device) / each)))
        generator = torch.Generator(device).manual_seed(0)

        def noise(rows: int, kind: str) -> Tensor:
            shape = (rows, self.neurons)
            return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(getattr(torch, kind))

        self.x, self.g_out = noise(steps, dtype).add_(0.3), noise(steps, dtype)
        self.start, self.g_state = noise(len(step.before), real), noise(len(step.before), real)
        learned = [float(getattr(neuron, symbol.name)) for symbol in step.rows]
        self.rows = self.start.new_tensor(learned).reshape(-1, 1).repeat(1, self.neurons)
        self.first: dict[str, tuple[Tensor, ...]] = {}
        self.why: dict[tuple[str, Build, int], str] = {}

    @property
    def shape(self) -> Shape:
        return self.variant.shape

    def run(self, loop: str, build: Build, chunk: int) -> Callable[[], tuple[Tensor, ...]]:
        """One pass of this loop, built so."""
        usual = default(self.shape)
        variant = self.variant.for_gpu(replace(usual, chunk=chunk, **{loop: build}))
        given = (variant, self.x)
        if loop == "forward":
            return lambda: cuda.forward(*given, self.start, self.rows, self.scalars)[:2]
        kept = cuda.forward(*given, self.start, self.rows, self.scalars)[2]
        return lambda: cuda.backward(*given, self.g_out, self.g_state, self.rows, self.scalars, kept)[:2]

    def seconds(self, loop: str, build: Build, chunk: int) -> float:
        """The time of one pass, or math.inf, with the reason in `why`, for a build that fails or gives other bits."""
        try:
            run = self.run(loop, build, chunk)
            made = run()
            if not all(map(torch.equal, made, self.first.setdefault(loop, made))):
                raise RuntimeError("it gives other results than the first build")
            del made
            return event_seconds(run)
        except RuntimeError as error:
            self.why[loop, build, chunk] = str(error)
            return math.inf


def free_bytes(device: str) -> float:
    return float(torch.cuda.mem_get_info(device)[0])


def event_seconds(run: Callable[[], object], rounds: int = 5, passes: int = 4) -> float:
    """The time of one run on the GPU: by CUDA events around several, between two synchronisations; the median of some rounds."""
    run()
    taken = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        begin.record()
        for _ in range(passes):
            run()
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end) / passes / 1000)
    return statistics.median(taken)


def tune(device: str = "cuda") -> Iterator[tuple[str, Config, float]]:
    """Finds and keeps the fastest config of each shape in `COMMON`; yields the shape, the config, the gain over the default."""
    for dtype in DTYPES:
        for neuron, keep in COMMON:
            trial = Trial(neuron, keep, dtype, device)
            seconds = functools.cache(trial.seconds)
            config = search(trial.shape, seconds)
            loops = ("forward",) if keep == "nothing" else ("forward", "backward")
            was, now = (
                sum(seconds(loop, getattr(c, loop), c.chunk) for loop in loops) for c in (default(trial.shape), config)
            )
            tuned.remember(trial.shape, torch.cuda.get_device_name(device), config)
            yield str(trial.shape), config, was / now
