"""The program under the sanitizer and the profiler: `python -m benchmarks.gpu.small check` (small) or `profile` (large).

Data come from the CPU: nothing runs on the GPU but our kernels, and what PyTorch needs to start and to stack.
"""

from __future__ import annotations

import sys

import torch

from tfexplore import Layer, surrogates
from tfexplore.codegen.keep import KEEP, why_not
from tfexplore.neurons import ALIF, LIF
from tfexplore.neurons.step import step_of


def run(layer: Layer, steps: int, count: int, dtype: torch.dtype) -> None:
    make = torch.Generator().manual_seed(0)
    x, g = (torch.randn(steps, 1, count, generator=make).to(dtype).to("cuda") for _ in range(2))
    out = layer(x.requires_grad_())
    torch.autograd.grad(out, x, g)


def check() -> None:
    """Sizes around a chunk and a block; wide accesses too, for which there must be enough neurons."""
    wide = 8 * 128 * torch.cuda.get_device_properties(0).multi_processor_count
    box = surrogates.Rectangle()
    for neuron in (LIF(), LIF(surrogate=box), ALIF()):
        for keep in KEEP:
            if keep == "bits" and why_not(step_of(neuron)):
                continue
            for dtype in (torch.float32, torch.bfloat16):
                for steps, count in ((1, 5), (33, 257), (33, wide)):
                    run(Layer(neuron, keep=keep), steps, count, dtype)
                for count in (5, 256):
                    run(Layer(neuron, keep=keep, schedule="chunked"), 301, count, dtype)
    for schedule in ("chunked", "speculative"):  # a forward pass in chunks, too
        run(Layer(LIF(reset="none"), schedule=schedule), 301, 5, torch.float32)


def profile() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        run(Layer(LIF()), 32, 2**22, dtype)


if __name__ == "__main__":
    {"check": check, "profile": profile}[sys.argv[1]]()
    torch.cuda.synchronize()
