"""The fastest build of the GPU kernels, found by measuring: `tfexplore warm --tune`.

`search` changes one option after another, starting at the predicted build; a `Trial` times the kernels of one neuron by CUDA
events.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from tfexplore import neurons
from tfexplore.backends import Given, cuda, tuned
from tfexplore.codegen.builds import BYTES, Build, Config, Shape, default, fits
from tfexplore.codegen.variant import Variant
from tfexplore.measure.clock import pass_seconds
from tfexplore.neurons import surrogates
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import by_value, step_of

Options: TypeAlias = tuple[tuple[str, tuple[Any, ...]], ...]
OPTIONS: Options = (
    ("backward.shared", (False, True)),
    ("chunk", (8, 16)),
    ("backward.vector", (2, 4)),
    ("backward.ahead", (4, 8)),
    ("forward.vector", (2, 4, 8)),
    ("forward.ahead", (4, 8)),
    ("backward.streaming", (False, True)),
)
"""In the order in which they are tried, the most effective first. Those left out gained at most 2 % on an H200."""
BOX = surrogates.Rectangle()
COMMON: tuple[tuple[Neuron, str], ...] = (
    (neurons.LIF(), "input"), (neurons.LIF(), "nothing"), (neurons.LIF(surrogate=BOX), "bits"), (neurons.LIF(), "potential"),
    (neurons.ParametricLIF(), "input"), (neurons.ALIF(), "input"), (neurons.CubaLIF(), "input"), (neurons.Izhikevich(), "input"),
)  # fmt: skip
"""One neuron of each shape of the library, and what it saves for backward; the most used first."""
DTYPES = ("float32", "bfloat16", "float16")

Seconds: TypeAlias = Callable[[str, Build, int], float]


def search(shape: Shape, seconds: Seconds, options: Options = OPTIONS) -> Config:
    """The config that no change of a single option makes faster, starting at the predicted one.

    Args:
        shape: of the kernels.
        seconds: seconds(loop, build, chunk) of one pass; math.inf for a build that cannot run. Called once for each.
        options: what to try, in this order.
    """
    once = functools.cache(seconds)
    best, before = default(shape), None
    while best != before:  # one option may make room for another: a narrower access for a longer chunk
        before = best
        for option, values in options:
            tried = [changed(best, option, value) for value in values]
            fitting = [config for config in (best, *tried) if fits(config, shape)]
            best = min(fitting, key=lambda config: total(config, shape, once))
    return best


def fastest(shape: Shape, seconds: Seconds, options: Options = OPTIONS) -> tuple[Config, float]:
    """The config that `search` finds, and its speed-up over the predicted one."""
    once = functools.cache(seconds)
    config = search(shape, once, options)
    return config, total(default(shape), shape, once) / total(config, shape, once)


def total(config: Config, shape: Shape, seconds: Seconds) -> float:
    """The seconds of both passes, or of the forward pass where there is no other."""
    loops = ("forward",) if shape.keep == "nothing" else ("forward", "backward")
    return sum(seconds(loop, getattr(config, loop), config.chunk) for loop in loops)


def changed(config: Config, option: str, value: Any) -> Config:
    loop, _, name = option.rpartition(".")
    return replace(config, **{loop: replace(getattr(config, loop), **{name: value})} if loop else {name: value})


class Trial:
    """The two kernels of a neuron on a GPU, run on noise x [steps, neurons]; `seconds` times them in any build.

    Where memory is short, fewer neurons take part. Every build must give the same bits as the first.
    """

    def __init__(
        self, neuron: Neuron, keep: str, dtype: str, device: str = "cuda", steps: int = 32, neurons: int = 1 << 22
    ) -> None:
        step, real = step_of(neuron), "float64" if dtype == "float64" else "float32"
        self.variant = Variant(step, real, dtype, keep)
        each = steps * (8 * BYTES[dtype] + 2 * max(1, len(self.variant.needs)) * BYTES[real])
        while neurons * each > free_bytes(device):
            neurons //= 2
        self.neurons = neurons
        generator = torch.Generator(device).manual_seed(0)

        def noise(rows: int, kind: str) -> Tensor:
            shape = (rows, self.neurons)
            return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(getattr(torch, kind))

        self.x, self.g_out = noise(steps, dtype).add_(0.3), noise(steps, dtype)
        learned = [float(getattr(neuron, symbol.name)) for symbol in step.per_neuron]
        own = self.x.new_tensor(learned, dtype=getattr(torch, real)).reshape(-1, 1) if learned else None
        self.given = Given(steps, by_value(neuron), None, own, self.neurons)  # no initial state, as in most layers
        self.first: dict[str, tuple[Tensor, ...]] = {}
        self.why: dict[tuple[str, Build, int], str] = {}

    @property
    def shape(self) -> Shape:
        return self.variant.shape

    def run(self, loop: str, build: Build, chunk: int) -> Callable[[], tuple[Tensor, ...]]:
        """A function that runs one pass of this loop in this build."""
        usual = default(self.shape)
        variant = self.variant.for_gpu(replace(usual, chunk=chunk, **{loop: build}))

        def forward() -> tuple[Tensor, Any, Any, Any]:
            return cuda.forward(variant, self.x, self.given, want_state=False)

        if loop == "forward":
            return lambda: forward()[:1]
        kept = forward()[2]
        return lambda: cuda.backward(variant, self.x, self.g_out, None, None, self.given, kept, want_g_start=False)[:1]

    def seconds(self, loop: str, build: Build, chunk: int) -> float:
        """The time of one pass; math.inf, with the reason in `why`, for a build that fails or gives other bits."""
        try:
            run = self.run(loop, build, chunk)
            made = run()
            if not all(map(torch.equal, made, self.first.setdefault(loop, made))):
                raise RuntimeError("it gives other results than the first build")
            del made
            return statistics.median(pass_seconds(run, self.x.device) for _ in range(3))
        except RuntimeError as error:
            self.why[loop, build, chunk] = str(error)
            return math.inf


def free_bytes(device: str) -> float:
    """Of a GPU's memory; unlimited on a CPU, which stands in for a GPU in tests."""
    return torch.cuda.mem_get_info(device)[0] if torch.device(device).type == "cuda" else math.inf


class Progress(NamedTuple):
    """One shape done: the fastest config, and its speed-up over the predicted one."""

    done: int
    total: int
    shape: Shape
    config: Config
    gain: float


def tune(device: int = 0) -> Iterator[Progress]:
    """Finds the fastest config for each shape in `COMMON` and each dtype, and stores it for every later process."""
    jobs = [(neuron, keep, dtype) for dtype in DTYPES for neuron, keep in COMMON]
    for done, (neuron, keep, dtype) in enumerate(jobs, start=1):
        trial = Trial(neuron, keep, dtype, f"cuda:{device}")
        config, gain = fastest(trial.shape, trial.seconds)
        tuned.remember(trial.shape, torch.cuda.get_device_name(device), config)
        yield Progress(done, len(jobs), trial.shape, config, gain)
