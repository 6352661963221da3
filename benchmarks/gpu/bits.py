"""Every neuron with every `keep`, in every dtype, against the eager loop on the CPU: spikes and state bit for bit.

Gradients within 3e-6 of the largest in float32 (1e-14 in float64, a unit of the dtype in half precision), whatever is kept.
It needs neither Numba nor pytest; tests/test_gpu.py tests more (strides, streams, graphs ...).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from tfexplore import Layer, neurons, surrogates
from tfexplore.codegen.keep import KEEP, why_not
from tfexplore.neurons import Neuron
from tfexplore.neurons.step import step_of

BOX = surrogates.Rectangle()
NEURONS: dict[str, Neuron] = {
    "LIF": neurons.LIF(),
    "LIF, rectangle": neurons.LIF(surrogate=BOX),
    "IF, rectangle": neurons.IF(surrogate=BOX),
    "LIF, hard reset, rectangle": neurons.LIF(reset="hard", surrogate=BOX),
    "LIF, hard reset, decaying input": neurons.LIF(reset="hard", v_reset=-0.1, decay_input=True),
    "LIF, no reset": neurons.LIF(reset="none"),
    "LIF, hard reset, attached": neurons.LIF(reset="hard", detach_reset=False),
    "LIF, attached, triangle": neurons.LIF(detach_reset=False, surrogate=surrogates.Triangle()),
    "ALIF, attached": neurons.ALIF(detach_reset=False),
    "ALIF, rectangle": neurons.ALIF(surrogate=BOX),
    "CubaLIF": neurons.CubaLIF(),
    "LI": neurons.LI(),
    "QIF": neurons.QIF(reset="hard"),
    "Izhikevich": neurons.Izhikevich(),
    "PaperLIF": neurons.PaperLIF(v_reset=0.05),
    "LIF, learned threshold": neurons.LIF(learn=("v_threshold", "v_reset")),
}
"""Made of + - * / and comparisons alone: an exp (EIF's, or that of a learned tau) differs in its last bit between libraries."""
DTYPES = ("float32", "bfloat16", "float16", "float64")
NEAR = {"float32": 3e-6, "float64": 1e-14, "float16": 2e-3, "bfloat16": 2e-2}


def measure(device: str, out: str, neuron: str, small: bool) -> dict[str, Any]:
    """The seconds and the largest distance of a gradient, by dtype; RuntimeError for the first thing that differs."""
    made = NEURONS[neuron]
    kept = [keep for keep in KEEP if keep != "bits" or not why_not(step_of(made))]
    row: dict[str, Any] = {"keep": kept, "apart": {}, "seconds": {}}
    for dtype in DTYPES[: 1 if small else None]:
        begin, far = time.perf_counter(), 0.0
        for steps, count in ((1, 5), (33, 257)) if small else ((1, 5), (33, 257), (100, 5)):
            wanted = run(made, "torch", "auto", dtype, steps, count, "cpu")
            for keep in kept:
                found = run(made, "auto", keep, dtype, steps, count, device)
                far = max(far, compare(found, wanted, dtype, f"{neuron}, keep={keep}, {dtype}, T={steps}, N={count}"))
        row["apart"][dtype], row["seconds"][dtype] = far, time.perf_counter() - begin
    return row


def run(neuron: Neuron, backend: str, keep: str, dtype: str, steps: int, count: int, device: str) -> dict[str, Tensor]:
    """One forward and backward pass; its results, on the CPU."""
    make = torch.Generator().manual_seed(steps)
    scale, shift = (4.0, 8.0) if isinstance(neuron, neurons.Izhikevich) else (1.0, 0.3)
    x, g = (torch.randn(steps, 1, count, generator=make, dtype=torch.float64) for _ in range(2))
    kind = getattr(torch, dtype)
    x = (x * scale + shift).to(kind).to(device).requires_grad_()
    layer = Layer(neuron, backend=backend, keep=keep).to(device)
    spikes, state = layer(x, return_state=True)
    (g_x,) = torch.autograd.grad(spikes, x, g.to(kind).to(device))
    return {"spikes": spikes.detach().cpu(), "state": torch.stack(state).detach().cpu(), "g_x": g_x.cpu()}


def compare(found: dict[str, Tensor], wanted: dict[str, Tensor], dtype: str, what: str) -> float:
    """How far the gradients are apart."""
    for name in ("spikes", "state"):
        if not torch.equal(flushed(found[name]), flushed(wanted[name])):
            differ = int((flushed(found[name]) != flushed(wanted[name])).sum())
            raise RuntimeError(f"{what}: {differ} of {wanted[name].numel()} {name} differ from the CPU's.")
    mine, theirs = (values["g_x"].double() for values in (found, wanted))
    far = float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-300))
    allowed = NEAR[dtype] * (3 if "Izhikevich" in what else 1)  # its v**2 multiplies what is rounded off by hundreds
    if not far <= allowed:
        raise RuntimeError(f"{what}: a gradient is {far:.1e} of the largest from the CPU's, {allowed:.0e} is allowed.")
    return far


def flushed(x: Tensor) -> Tensor:
    """Without float32's denormals: CuPy compiles with -ftz=true, which makes them 0."""
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, 0, x) if x.dtype == torch.float32 else x
