"""Python's overhead: microseconds of a call, and of its parts, for a layer so small that its kernels take no time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tfexplore import LIF
from tfexplore.backends import Given, cuda, tuned
from tfexplore.codegen.variant import Variant
from tfexplore.machine.stopwatch import synchronise

CALLS, ROUNDS = 200, 5


class Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return torch.empty_like(gradients[0])


def measure(device: str, out: str, N: int) -> dict[str, Any]:
    """The best of some rounds of many calls, with the device synchronised at the end of each round."""
    layer = LIF().to(device)
    x, gradient = torch.zeros(4, 1, N, device=device), torch.ones(4, 1, N, device=device)
    input = x.clone().requires_grad_()

    def inference() -> None:
        with torch.no_grad():
            layer(x)

    found = {
        "torch.empty_like": each(lambda: torch.empty_like(x), device),
        "an addition": each(lambda: x + 1, device),
        "an autograd.Function that does nothing, forward and backward": each(
            lambda: torch.autograd.grad(Nothing.apply(input), input, gradient), device
        ),
        "the layer without a gradient": each(inference, device),
        "the layer, forward and backward": each(lambda: torch.autograd.grad(layer(input), input, gradient), device),
    }
    if torch.device(device).type == "cuda":
        found["one launch"] = each(launch(layer, x), device)
    return {"N": N, "us": found}


def launch(layer: LIF, x: Tensor) -> Callable[[], None]:
    """The forward kernel again and again, into the same memory."""
    variant, into = tuned.built(Variant(layer.step), x.device.index), torch.empty_like(x)
    place = (Given(len(x), layer.by_value), x[0].numel(), x.device.index)
    return lambda: cuda.launch(variant, "forward", (x, None, None, None, into, None, None, None), *place)


def each(call: Callable[[], object], device: str) -> float:
    for _ in range(20):
        call()
    best = float("inf")
    for _ in range(ROUNDS):
        synchronise(device)
        begin = time.perf_counter()
        for _ in range(CALLS):
            call()
        synchronise(device)
        best = min(best, time.perf_counter() - begin)
    return 1e6 * best / CALLS
