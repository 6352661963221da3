"""What a contestant does in a benchmark (`Work`), and how a PyTorch layer does it in each kind of pass.

A contestant is a module `benchmarks/contestants/NAME.py`, NAME being its distribution on PyPI (or "ours"), with

    VERSIONS(): the versions of what it uses, {"name": "version"}
    neuron(case), linear_lif(case), recurrent(case), training(case): for each benchmark it takes part in {mode: a function that
        makes its Work}

A mode is one way to do the case, named as it stands in the table; what it cannot do raises ValueError, and the text is the reason
in the table. `case` is a plain dict: what the benchmark put there, with "device" and "seed".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Case: TypeAlias = dict[str, Any]
Arrays: TypeAlias = dict[str, np.ndarray]
PASSES = INFERENCE, FORWARD, BACKWARD, BOTH = ("inference", "forward", "backward", "forward + backward")
"""Without gradient; with what is saved for backward; the backward pass alone; both together."""


LAYOUTS = FIRST, LAST = ("channels first", "channels last")
"""How images lie in memory: [.., channels, height, width], or with the channels of a pixel as neighbours."""

GRAPH = "CUDA graph of "
"""What the names of modes begin with that are the same kernels, replayed."""


@dataclass
class Work:
    """One contestant's way to do one case.

    run:       one complete pass; what it returns is freed after the clock has stopped. The caller that times it synchronises
               PyTorch's device before and after; other libraries wait for their own results.
    result:    runs once, untimed, and returns what is compared with the reference (all of its names, or fewer: see `equation`).
    kept:      bytes saved for backward, measured; None where the library cannot report them.
    before:    precedes a run, untimed.
    least:     bytes that this way must at least read and write, derived; None where they were not derived.
    equation:  in words, where it is not the case's own; spikes and gradients are then compared only if `result` has them.
    wait:      waits for what `run` returned, for a library whose work neither PyTorch's events nor its synchronisation see.
    """

    run: Callable[[], object]
    result: Callable[[], Arrays]
    kept: Callable[[], int | None] = lambda: None
    before: Callable[[], object] = lambda: None
    least: int | None = None
    equation: str = ""
    wait: Callable[[Any], object] | None = None


Modes: TypeAlias = dict[str, Callable[[], Work]]


def versions(*names: str) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def inputs(case: Case, *drawn: tuple[tuple[int, ...], float]) -> list[Tensor]:
    """Normal random tensors of these shapes and standard deviations, of the case's dtype and on its device.

    From the case's seed, so that all processes get the same: by NumPy, on a GPU by its own generator (NumPy would take seconds).
    Drawn once for all modes of a process.
    """
    return _inputs(case["seed"], case.get("dtype", "float32"), case["device"], drawn)


@functools.lru_cache(maxsize=1)
def _inputs(seed: int, dtype: str, device: str, drawn: tuple[tuple[tuple[int, ...], float], ...]) -> list[Tensor]:
    if torch.device(device).type == "cuda":
        on_gpu = torch.Generator(device).manual_seed(seed)
        kind = getattr(torch, dtype)
        return [torch.randn(shape, generator=on_gpu, device=device).mul_(scale).to(kind) for shape, scale in drawn]
    make = np.random.default_rng(seed)
    draws = (make.standard_normal(shape, np.float32) * np.float32(scale) for shape, scale in drawn)
    return [torch.from_numpy(values).to(device, getattr(torch, dtype)) for values in draws]


def forget() -> None:
    """Frees the inputs of the last case, for other processes of the device too."""
    _inputs.cache_clear()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def neuron_inputs(case: Case) -> list[Tensor]:
    """The current x and the gradient of the spikes, [T, B, N / B]."""
    shape = (case["T"], case["B"], case["N"] // case["B"])
    return inputs(case, (shape, 1.0), (shape, 1.0))


def linear_inputs(case: Case) -> list[Tensor]:
    """x [T, B, n], a weight [n, n] that leaves x's variance as it is, and the gradient of the spikes."""
    shape, n = (case["T"], case["B"], case["n"]), case["n"]
    return inputs(case, (shape, 1.0), ((n, n), 1 / math.sqrt(n)), (shape, 1.0))


def norm_inputs(case: Case) -> list[Tensor]:
    """x and the gradient of the spikes, [T, B, channels, size, size] in the case's layout; a BatchNorm's weight and bias."""
    shape, channels = (case["T"], case["B"], case["channels"], case["size"], case["size"]), case["channels"]
    x, gradient, weight, bias = inputs(case, (shape, 2.0), (shape, 1.0), ((channels,), 0.2), ((channels,), 0.2))
    return [*(laid_out(values, case["layout"]) for values in (x, gradient)), 1 + weight, bias]


def laid_out(images: Tensor, layout: str) -> Tensor:
    """[T, B, channels, height, width] with this layout in memory."""
    form = torch.channels_last if layout == LAST else torch.contiguous_format
    return images.flatten(0, 1).contiguous(memory_format=form).unflatten(0, images.shape[:2])


def array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()  # bfloat16 is none of NumPy's


def kept_bytes(forward: Callable[[], object]) -> int:
    """Bytes of the distinct storages that autograd saves for the backward pass of `forward`."""
    held: dict[int, int] = {}

    def pack(values: Tensor) -> Tensor:
        storage = values.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return values

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda values: values):
        _out = forward()  # alive, so that no storage is freed and counted again
    return sum(held.values())


def neuron_work(
    layer: Callable[[Tensor], Tensor],
    case: Case,
    *,
    scale: float = 1.0,
    batch_first: bool = False,
    names: Mapping[str, str] = MappingProxyType({}),
    least: int | None = None,
    equation: str = "",
) -> Work:
    """The neuron benchmark for a PyTorch layer, x [T, B, N / B] -> spikes, which begins at rest in each call.

    scale: x is multiplied by this number, for a library that multiplies its input by the reciprocal. batch_first: the layer
    takes and returns [B, T, N / B]. names: the reference's names for "spikes" and "x.grad" where they are another equation's;
    "" where there is nothing to compare with.
    """
    current, gradient = neuron_inputs(case)
    x, gradient = (_turned(values, batch_first) for values in (current * scale if scale != 1.0 else current, gradient))
    x = x.detach().requires_grad_(case["passes"] != INFERENCE)

    def result() -> Arrays:
        out = layer(x)
        found = {"spikes": out}
        if x.requires_grad and names.get("x.grad", "x.grad"):
            found["x.grad"] = torch.autograd.grad(out, x, gradient)[0] * scale
        compared = {names.get(name, name): _turned(values, batch_first) for name, values in found.items()}
        return {name: array(values[..., :: case["every"]]) for name, values in compared.items() if name}

    return passes_work(lambda: layer(x), (x,), gradient, case["passes"], result, least, equation)


def linear_work(
    layer: Callable[[Tensor], Tensor],
    case: Case,
    equation: str = "",
    names: Mapping[str, str] = MappingProxyType({}),
) -> Work:
    """The linear_lif benchmark for a PyTorch layer of neurons, currents [T, B, n] -> spikes, behind a product with the weight."""
    x, weight, gradient = linear_inputs(case)
    weight = weight.detach().requires_grad_(case["passes"] != INFERENCE)
    x = x.detach().requires_grad_(case["passes"] != INFERENCE)

    def forward() -> Tensor:
        return layer(torch.nn.functional.linear(x, weight))

    def result() -> Arrays:
        out = forward()
        found = {names.get("spikes", "spikes"): array(out[..., :: case["every"]])}
        if weight.requires_grad and (name := names.get("weight.grad", "weight.grad")):
            found[name] = array(torch.autograd.grad(out, weight, gradient)[0][:: case["every"]])
        return found

    return passes_work(forward, (x, weight), gradient, case["passes"], result, equation=equation)


def recurrent_work(
    make: Callable[[torch.nn.Parameter], Callable[[Tensor], Tensor]],
    case: Case,
    equation: str = "",
    names: Mapping[str, str] = MappingProxyType({}),
) -> Work:
    """The recurrent benchmark: `make` makes of a weight [n, n] the layer, x [T, B, n] -> spikes, begun at rest in each call.

    names: as in `neuron_work`.
    """
    x, weight, gradient = linear_inputs(case)
    x, weight = (torch.nn.Parameter(values.clone(), case["passes"] != INFERENCE) for values in (x, weight))
    layer = make(weight)

    def result() -> Arrays:
        out = layer(x)
        found = {"spikes": out}
        if out.requires_grad:
            found |= zip(("x.grad", "weight.grad"), torch.autograd.grad(out, (x, weight), gradient), strict=True)
        return {names.get(name, name): array(values) for name, values in found.items() if names.get(name, name)}

    return passes_work(lambda: layer(x), (x, weight), gradient, case["passes"], result, equation=equation)


def norm_work(
    norm: torch.nn.BatchNorm2d,
    pair: Callable[[Tensor], Tensor],
    case: Case,
    *,
    which: str = "",
    equation: str = "",
    least: int | None = None,
) -> Work:
    """The batchnorm benchmark for a BatchNorm and a PyTorch function that applies it and a layer of neurons behind it.

    which: the reference's, where it is another equation's.
    """
    x, gradient, weight, bias = norm_inputs(case)
    norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    x = x.detach().requires_grad_()
    wanted = {"x.grad": x, "weight.grad": norm.weight, "bias.grad": norm.bias}

    def result() -> Arrays:
        out = pair(x)
        gradients = torch.autograd.grad(out, list(wanted.values()), gradient)
        found = {"spikes": out} | dict(zip(wanted, gradients, strict=True))
        channels = slice(None, None, case["every"])
        return {
            name + which: array(values[:, :, channels] if values.ndim > 1 else values[channels])
            for name, values in found.items()
        }

    return passes_work(lambda: pair(x), list(wanted.values()), gradient, case["passes"], result, least, equation)


def copy_work(case: Case, x: Tensor) -> Work:
    """A copy of x: two words an element, the unit of memory-bound work."""
    target = torch.empty_like(x)
    return Work(run=lambda: target.copy_(x), result=dict, least=2 * x.nbytes)


def graphed(make: Callable[[], Work]) -> Work:
    """The Work of a PyTorch pass as a CUDA graph: the same kernels, but no launch waits for Python."""
    work = make()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # as PyTorch requires: compiles, and fills its pools
            wanted = work.run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found: Any = work.run()
    graph.replay()
    for a, b in zip(*([x] if isinstance(x, Tensor) else x for x in (found, wanted)), strict=True):
        if not torch.equal(a, b):
            raise RuntimeError("the replayed graph gives another result than the pass itself")

    def run() -> object:
        graph.replay()
        return found  # the graph writes there

    return replace(work, run=run)


def _turned(values: Tensor, batch_first: bool) -> Tensor:
    return values.transpose(0, 1).contiguous() if batch_first else values


def passes_work(
    forward: Callable[[], Tensor],
    inputs: Sequence[Tensor],
    gradient: Tensor,
    passes: str,
    result: Callable[[], Arrays],
    least: int | None = None,
    equation: str = "",
) -> Work:
    """The Work of a PyTorch function whose gradient goes to `inputs`, in one kind of pass."""
    waiting: list[Tensor] = []

    def without() -> Tensor:
        with torch.no_grad():
            return forward()

    def wait() -> None:
        waiting.clear()
        waiting.append(forward())

    runs: dict[str, Callable[[], object]] = {
        INFERENCE: without,
        FORWARD: forward,
        BACKWARD: lambda: torch.autograd.grad(waiting.pop(), inputs, gradient),
        BOTH: lambda: torch.autograd.grad(forward(), inputs, gradient),
    }
    return Work(
        run=runs[passes],
        result=result,
        kept=(lambda: 0) if passes == INFERENCE else lambda: kept_bytes(forward),
        before=wait if passes == BACKWARD else lambda: None,
        least=least,
        equation=equation,
    )
