"""Time walked serially, in chunks, or by guessing: what `schedule="auto"` needs to know of a GPU.

One kernel pass alone for T steps of N neurons, float32: forward of a LIF without a reset (a scan), forward of a LIF (by guessed
states), backward of a LIF (a scan as well); serial, and in chunks of several lengths. Whatever is timed gives the serial results
before that.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.tuning import as_cpp
from benchmarks.work import BACKWARD, FORWARD, versions
from tfexplore import neurons
from tfexplore.backends import Given, chunked, cuda, cuda_chunks, tuned
from tfexplore.codegen.variant import Variant
from tfexplore.measure.clock import pass_seconds
from tfexplore.neurons import Neuron
from tfexplore.neurons.step import by_value, step_of

WHAT = (
    "One pass of a kernel of LIF alone, float32, over T steps of N neurons: all steps one after the other, or in chunks of L "
    "steps side by side, as a scan (chunked) or from guessed states (speculative)"
)
COUNTS = (4, 16, 64, 256, 1024)
"""Chunks."""
WHOLE, ROUNDS, NEAR = 16, 3, 1e-4
BYTES_EACH = 7 * 4
"""Of an element-step, at most: x, the gradient of the output, what is saved, and two results, each twice."""
PASSES: dict[str, tuple[Neuron, str, str]] = {
    "forward, no reset": (neurons.LIF(reset="none"), FORWARD, "chunked"),
    "forward": (neurons.LIF(), FORWARD, "speculative"),
    "backward": (neurons.LIF(), BACKWARD, "chunked"),
}
"""The neuron, the pass, and the schedule beside the serial one."""


def lengths(T: int, schedule: str) -> list[int]:
    """The chunks' lengths; guessing asks the GPU after every round, so only for few."""
    most = 64 if schedule == "speculative" else max(COUNTS)
    return [T // count for count in COUNTS if count <= most and T // count >= WHOLE and not T // count % WHOLE]


def measure(device: str, out: str, T: int, N: int) -> dict[str, Any]:
    """Milliseconds by pass and way, and for each pass the fastest way with its gain over the serial one."""
    dry = torch.device(device).type == "cpu"
    with as_cpp() if dry else nullcontext():
        while N > 1 and free_bytes(device) < T * N * BYTES_EACH:
            N //= 2
        make = torch.Generator(device).manual_seed(0)
        x, g_out = (torch.randn(T, N, generator=make, device=device) for _ in range(2))
        x += 0.3
        taken: dict[str, float] = {}
        for name, (neuron, passes, schedule) in PASSES.items():
            for label, run in ways(neuron, passes, schedule, x, g_out):
                key = f"{name}: {label}"
                taken[key] = statistics.median(1e3 * pass_seconds(run, device) for _ in range(ROUNDS))
    about = {
        "benchmark": "schedules",
        "what": WHAT,
        "versions": {"ours": versions("torch", "cupy-cuda12x", "cupy-cuda13x")},
    }
    return {
        "T": T,
        "N": N,
        "dtype": "float32",
        "rounds": ROUNDS,
        "median_ms": taken,
        "fastest": fastest(taken),
        "about": about,
    }


def fastest(taken: dict[str, float]) -> dict[str, dict[str, Any]]:
    """By pass: the schedule and the chunk's length (0: serial), and how many times as fast as the serial one it is.

    >>> fastest({"backward: serial": 3.0, "backward: chunked, L=64": 0.5, "backward: chunked, L=16": 1.0})
    {'backward': {'schedule': 'chunked', 'chunk': 64, 'gain': 6.0}}
    """
    found = {}
    for name in dict.fromkeys(key.partition(": ")[0] for key in taken):
        own = {key.partition(": ")[2]: ms for key, ms in taken.items() if key.partition(": ")[0] == name}
        best = min(own, key=lambda label: own[label])
        schedule, _, length = best.partition(", L=")
        found[name] = {"schedule": schedule, "chunk": int(length or 0), "gain": own["serial"] / own[best]}
    return found


def ways(
    neuron: Neuron, passes: str, schedule: str, x: Tensor, g_out: Tensor
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """The serial pass, then those in chunks, each compared with it before it is handed out."""
    step, T = step_of(neuron), len(x)
    variant = Variant(step, keep="potential" if passes == BACKWARD else "nothing", schedule=schedule)
    variant = tuned.built(variant, x.device.index or 0)
    given = Given(T, by_value(neuron))
    kept = cuda.forward(variant, x, given, want_state=False)[2]

    def run(chunk: int) -> Tensor:
        here = given._replace(chunk=chunk)
        if passes == FORWARD:
            return (
                chunked.forward(cuda_chunks, variant, x, here, False)
                if chunk
                else cuda.forward(variant, x, here, False)
            )[0]
        rest = None, g_out, None, None, here, kept, False
        return (chunked.backward(cuda_chunks, variant, *rest) if chunk else cuda.backward(variant, *rest))[0]

    wanted = run(0)
    yield "serial", functools.partial(run, 0)
    for length in lengths(T, schedule):
        found = run(length)
        check(found, wanted, passes, schedule, length)
        del found
        yield f"{schedule}, L={length}", functools.partial(run, length)


def check(found: Tensor, wanted: Tensor, passes: str, schedule: str, length: int) -> None:
    """Guessed states give the same bits; a scan the same gradients to the last digits, and spikes but where u is as near to 0."""
    if schedule == "speculative" or passes == FORWARD:
        apart = float((found != wanted).float().mean())
        allowed = 0.0 if schedule == "speculative" else NEAR
    else:
        apart, allowed = float((found - wanted).abs().max() / wanted.abs().max()), NEAR
    if not apart <= allowed:
        raise RuntimeError(
            f"{passes}, {schedule}, L={length}: {apart:.1e} apart from the serial pass, so it is not timed"
        )


def free_bytes(device: str) -> float:
    return torch.cuda.mem_get_info(device)[0] if torch.device(device).type == "cuda" else math.inf
