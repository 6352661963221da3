"""The ways to run the same two layers of LIF neurons, checked against each other: for races, curves and benchmarks.

    step by step      eager torch: at every time step both layers
    layer by layer    eager torch: every layer over all time steps
    fused             layer by layer, all time steps of a layer in one kernel (of the backend that "auto" chooses)
    torch.compile     a loop over time as anyone would write it, compiled; every T, N and dtype is compiled for itself

As a program, `python -m tfexplore.measure.contestants`, it measures all of them in a subprocess (see `server_process`).
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import statistics
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tfexplore.measure import clock
from tfexplore.nn import LIF, checks, routes
from tfexplore.nn.schedules import layer_by_layer, step_by_step

WAYS = STEPPED, LAYERED, FUSED = ("step by step", "layer by layer", "fused")
COMPILED = "torch.compile"
PASSES = TRAINING, INFERENCE = ("forward + backward", "forward")
LAYERS = 2
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in checks.DTYPES}
TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "float16": 2e-2, "bfloat16": 1e-1}
"""How far gradients may differ, relative to the largest: each way adds in its own order; half precision rounds between layers."""

Work: TypeAlias = Callable[[], tuple[Tensor, ...]]
"""One pass: returns the spikes and, in training, the gradient of the input."""


def contestants(
    steps: int,
    neurons: int,
    *,
    dtype: str = "float32",
    passes: str = TRAINING,
    device: str = "cpu",
    compiled: bool = False,
    seed: int = 0,
) -> dict[str, Work]:
    """The ways by name, on one input x [T, 1, N] of random current.

    Args:
        steps: time steps T.
        neurons: neurons N of each layer.
        dtype: of the input, one of `DTYPES`.
        passes: `TRAINING` or `INFERENCE`.
        device: where everything runs.
        compiled: whether `torch.compile` takes part.
        seed: of the random current and gradient.

    Returns:
        A function for each way, which runs one pass and returns the spikes and, in training, the gradient of the input.

    Example:
        >>> work = contestants(3, 100)
        >>> {name: [tuple(result.shape) for result in run()] for name, run in work.items()}["fused"]
        [(3, 1, 100), (3, 1, 100)]
    """
    make = torch.Generator().manual_seed(seed)
    draw = (torch.randn(steps, 1, neurons, generator=make) for _ in range(2))
    x, gradient = ((0.8 * values).to(device, DTYPES[dtype]) for values in draw)
    x.requires_grad_(passes == TRAINING)
    eager, fused = (nn.Sequential(LIF(backend=b), LIF(backend=b)) for b in ("torch", "auto"))
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        STEPPED: lambda x: step_by_step(eager, x),
        LAYERED: lambda x: layer_by_layer(eager, x),
        FUSED: lambda x: layer_by_layer(fused, x),
    }
    if compiled:
        runs[COMPILED] = torch.compile(plain_loop, fullgraph=True, dynamic=False)

    def work(run: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        if passes == INFERENCE:
            with torch.no_grad():
                return (run(x),)
        out = run(x)
        return out.detach(), *torch.autograd.grad(out, x, gradient)

    return {name: lambda run=run: work(run) for name, run in runs.items()}  # type: ignore[misc]  # mypy: a lambda's default


def check(work: Mapping[str, Work], dtype: str = "float32") -> None:
    """Correct before fast: every contestant's spikes must equal the first one's, and its gradient must be equal up to rounding.

    `torch.compile` may flip one spike in ten thousand: a compiler may reorder sums.

    Raises:
        RuntimeError: a contestant differs; the message names it.
    """
    names, results = list(work), [run() for run in work.values()]
    for name, result in zip(names[1:], results[1:], strict=True):
        turned = int((result[0] != results[0][0]).sum())
        if turned > (result[0].numel() // 10_000 if name == COMPILED else 0):
            raise RuntimeError(
                f"{name!r} gives other spikes than {names[0]!r}: {turned} of {result[0].numel()} differ, so it is not timed."
            )
        for mine, first in zip(result[1:], results[0][1:], strict=True):
            error = float((mine - first).abs().max() / first.abs().max())
            if not turned and not error <= TOLERANCE[dtype]:
                raise RuntimeError(
                    f"{name!r} gives another gradient than {names[0]!r}: {error:.1e} of the largest, so it is not timed."
                )


# -- torch.compile -----------------------------------------------------------------------------------------------


class Spike(torch.autograd.Function):
    """1 where u >= 0; in the backward pass the ATan surrogate, as `surrogates.ATan()`."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad_outputs[0] / (1 + (math.pi * u).square())


def plain_loop(x: Tensor, tau: float = 2.0, threshold: float = 1.0) -> Tensor:
    """Both layers in one hand-written loop over time, without tfexplore: x [T, B, N] -> spikes of the same shape."""
    potentials = [torch.zeros_like(x[0], dtype=routes.state_dtype(x.dtype))] * LAYERS
    spikes = []
    for s in x:
        for k, v in enumerate(potentials):
            h = v + s.to(v.dtype) - v / tau
            s = Spike.apply(h - threshold)
            potentials[k] = h - s.detach() * threshold
        spikes.append(s)
    return torch.stack(spikes).to(x.dtype)


def why_not_compiled(device: str = "cpu") -> str:
    """Why `torch.compile` cannot work here, or an empty text."""
    if torch.device(device).type == "cuda":
        if importlib.util.find_spec("triton") is None:
            return "torch.compile needs Triton for a GPU: pip install triton."
    elif not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++", "cl")):
        return (
            "torch.compile needs a C++ compiler, and there is none here: install g++ or clang++ (on Debian or Ubuntu: "
            "sudo apt-get install g++), then start the kernel anew."
        )
    return ""


def point(
    steps: int,
    neurons: int,
    dtype: str = "float32",
    passes: str = TRAINING,
    device: str = "cpu",
    rounds: int = 5,
    compiled: bool = True,
) -> dict[str, Any]:
    """All ways measured in turn, after a check.

    Returns:
        "seconds" by contestant: the "median" of one pass, and the quartiles "low" and "high"; the "rounds"; and the seconds of
        the "first_call" of `torch.compile`, 0 without it.
    """
    work = contestants(steps, neurons, dtype=dtype, passes=passes, device=device, compiled=compiled)
    first, rounds = clock.seconds(work[COMPILED], device) if compiled else 0.0, max(2, rounds)
    check(work, dtype)
    *_, taken = clock.samples(work, rounds, device)
    cut = {name: statistics.quantiles(values, method="inclusive") for name, values in taken.items()}
    return {
        "first_call": first,
        "rounds": rounds,
        "seconds": {name: {"low": low, "median": middle, "high": high} for name, (low, middle, high) in cut.items()},
    }


if __name__ == "__main__":
    from tfexplore.measure.server_process import serve

    serve(lambda request: point(**request))
