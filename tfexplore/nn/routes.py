"""Which compiled kernel runs an input of a layer: chosen once for each kind of input, and a constant for torch.compile."""

from __future__ import annotations

import functools

import torch

from tfexplore import backends
from tfexplore.backends import torch_reference, tuned
from tfexplore.codegen import keep as keeping
from tfexplore.codegen import schedule as scheduling
from tfexplore.codegen.variant import Variant
from tfexplore.machine.files import fingerprint
from tfexplore.machine.torch_private import constant_when_compiled, dynamo_is_loaded
from tfexplore.neurons.step import Step, normalised
from tfexplore.nn import ops

STEPS: dict[str, Step] = {}
"""By name: torch.compile can hold literals constant, but no object of ours."""


@functools.cache
def name_of(step: Step) -> str:
    """The name of the step in `STEPS`."""
    name = f"{step.name}-{fingerprint(repr(step))}"
    while STEPS.setdefault(name, step) != step:  # other equations that print alike
        name += "'"
    return name


@functools.cache
def normalised_step(step: Step) -> tuple[Step, str]:
    """The step behind a normalisation, and its name."""
    behind = normalised(step)
    return behind, name_of(behind)


@constant_when_compiled
def kernel_for(
    step_name: str, backend: str, device: str, index: int, dtype: torch.dtype, keep: str, record: tuple[str, ...], smooth: bool,
    traced: bool, constant: bool, schedule: str = "serial",
) -> str | None:  # fmt: skip
    """The name of the fused kernel in `ops`; None where the eager backend runs instead.

    keep: as in `Layer`, or "nothing" without a gradient. traced, constant, schedule: as in `Variant`.
    """
    if dynamo_is_loaded():
        torch_reference.stay_eager()
    return cached_kernel(step_name, backend, device, index, dtype, keep, record, smooth, traced, constant, schedule)


@functools.cache  # apart: torch.compile traces into a cache, but not into what is constant
def cached_kernel(
    step_name: str, backend: str, device: str, index: int, dtype: torch.dtype, keep: str, record: tuple[str, ...], smooth: bool,
    traced: bool, constant: bool, schedule: str,
) -> str | None:  # fmt: skip
    name, step = backends.choose(backend, device).name, STEPS[step_name]
    if keep != "nothing":
        keeping.check(keep, step, smooth)  # a normalised step may want more than the layer's own
    scheduling.check(schedule, name)  # which "auto" has found only now
    if name == "torch":
        return None
    if name == "cuda" and schedule == "auto":
        schedule = "serial"
    if keep == "auto":
        keep = keeping.fastest(step, name, smooth)
    data, real = (str(each).removeprefix("torch.") for each in (dtype, state_dtype(dtype)))
    # the CPU's half precision is converted outside of the kernel, so that it shares the variant of float32
    variant = Variant(
        step, real, data if name == "cuda" else real, keep, record, smooth, traced, constant, schedule=schedule
    )
    if name == "cuda":
        variant = tuned.built(variant, index)
    return ops.register(name, variant)


def walks_of(key: str | None, x: torch.Tensor, otherwise: str) -> scheduling.Walks:
    """How the kernel of this name walks time for x, and why; `otherwise`: why there is none."""
    if key is None:
        return scheduling.Walks("serial", "serial", otherwise)
    return scheduling.walks(ops.find(key)[1], *backends.sizes(x), torch.get_num_threads())


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The state of float64 input is float64, that of all other input float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
