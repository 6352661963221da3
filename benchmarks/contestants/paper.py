"""The kernel design of the temporal-fusion paper, rebuilt: `paper.cu` on a GPU, the same loops in Numba on a CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from benchmarks.work import BACKWARD, BOTH, FORWARD, INFERENCE, Case
from tfexplore.backends.cuda import OPTIONS

SOURCE, THREADS = Path(__file__).with_suffix(".cu"), 256
WORDS = {INFERENCE: 3, FORWARD: 3, BACKWARD: 3, BOTH: 6}
HALF, ONE, TWO, ZERO, PI = (np.float32(value) for value in (0.5, 1, 2, 0, np.pi))


def least(case: Case) -> int:
    """The bytes that this design moves."""
    return WORDS[case["passes"]] * 4 * case["T"] * case["N"]


def layer(case: Case) -> Callable[[Tensor], Tensor]:
    if case["dtype"] != "float32":
        raise ValueError("the paper's kernels are float32 only")
    kernels: tuple[Callable[..., None], ...] = cuda() if case["device"] != "cpu" else (forward_cpu, backward_cpu)
    forward, backward = kernels
    atan = int(case["surrogate"] == "ATan")

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            s, h = torch.empty_like(x), torch.empty_like(x)
            forward(*map(flat, (x, s, h)))
            ctx.save_for_backward(h)
            return s

        @staticmethod
        def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
            (h,) = ctx.saved_tensors
            g_x = torch.empty_like(h)
            backward(*map(flat, (grad_outputs[0].contiguous(), h, g_x)), atan)
            return g_x

    run: Callable[[Tensor], Tensor] = Fused.apply
    return run


def flat(values: Tensor) -> Any:
    """[T, N]: for Numba as an array of NumPy's."""
    rows = values.detach().view(len(values), -1)
    return rows if values.is_cuda else rows.numpy()


@njit(parallel=True, error_model="numpy")
def forward_cpu(x, s, h):  # type: ignore[no-untyped-def]  # Numba's own types
    for i in prange(x.shape[1]):
        v = ZERO
        for t in range(x.shape[0]):
            v = v - v / TWO + x[t, i]
            h[t, i] = v
            spike = ONE if v - ONE >= ZERO else ZERO
            s[t, i] = spike
            v -= spike


@njit(parallel=True, error_model="numpy")
def backward_cpu(g, h, g_x, atan):  # type: ignore[no-untyped-def]
    for i in prange(g.shape[1]):
        carried = ZERO
        for back in range(g.shape[0]):
            t = g.shape[0] - 1 - back
            u = h[t, i] - ONE
            w = PI * u
            slope = ONE / (ONE + w * w) if atan else (ONE if abs(u) <= HALF else ZERO)
            gh = g[t, i] * slope + carried
            g_x[t, i] = gh
            carried = gh - gh / TWO


@functools.cache
def cuda() -> tuple[Callable[..., None], Callable[..., None]]:
    import cupy

    module = cupy.RawModule(code=SOURCE.read_text(encoding="utf-8"), options=OPTIONS)

    def launcher(name: str) -> Callable[..., None]:
        kernel = module.get_function(name)

        def launch(*given: Any) -> None:
            tensors = [value for value in given if isinstance(value, Tensor)]
            steps, neurons = tensors[0].shape
            stream = SimpleNamespace(
                ptr=torch.cuda.current_stream(tensors[0].device).cuda_stream
            )  # as backends/cuda.py
            numbers = [np.int32(value) for value in given if not isinstance(value, Tensor)]
            sizes = [np.int64(steps), np.int64(neurons)]
            pointers = [np.int64(tensor.data_ptr()) for tensor in tensors]
            kernel((-(-neurons // THREADS),), (THREADS,), (*pointers, *numbers, *sizes), stream=stream)

        return launch

    return launcher("forward"), launcher("backward")
