"""The fused GPU backend: `kernels/*.cu` around a generated `neuron.cuh`, compiled at run time by CuPy's `RawModule`.

CuPy only compiles and launches; memory and streams are torch's. Each variant's headers have a folder of their own, named by
their content, and CuPy's disk cache then keeps the binary. `-fmad=false`: a fused multiply-add rounds once where the CPU
rounds twice, so there is one only where the text has fma(). The numbers (tau, ...) are passed by value: a captured
CUDA graph holds its own copy of them, and no launch waits for a transfer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfexplore.backends import Given, sizes
from tfexplore.backends.compiling import told
from tfexplore.codegen.builds import ACCESS, THREADS, Build
from tfexplore.codegen.cuda_source import cuda_source
from tfexplore.codegen.variant import Variant
from tfexplore.machine.cuda_setup import explain
from tfexplore.machine.files import fingerprint, write_once
from tfexplore.machine.paths import cache_dir, kernels_dir
from tfexplore.neurons.step import Step

OPTIONS = ("-std=c++17", "-fmad=false")
WARP = 32


def why_not() -> str:
    """Why this backend cannot run here, or ""."""
    if not torch.cuda.is_available():
        return "torch finds no CUDA device (see `tfexplore doctor`)."
    try:
        import cupy  # type: ignore[import-not-found, unused-ignore]

        cupy.cuda.runtime.getDeviceCount()
        cupy.RawModule(code='extern "C" __global__ void probe() {}', options=OPTIONS).compile()
    except Exception as error:  # noqa: BLE001  (CuPy fails in many ways: at import, in the driver, in NVRTC)
        return explain(error)
    return ""


source = functools.cache(cuda_source)


@functools.cache
def load(header: str, loop: str, options: tuple[str, ...], device: int, function: str = "") -> Any:
    """The compiled kernel of the file `loop` ("forward", "backward"), of its name or another, around this generated neuron."""
    import cupy

    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(kernels_dir().glob("*.cuh"))}
    texts["neuron.cuh"] = header
    # CuPy's cache is keyed by the text and the options, not by headers: their contents must name the folder
    folder = cache_dir() / "cuda" / fingerprint(*texts.values())
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_once(folder / name, text)
    text = (kernels_dir() / f"{loop}.cu").read_text(encoding="utf-8")
    try:
        with cupy.cuda.Device(device), told(loop):
            return cupy.RawModule(code=text, options=(*OPTIONS, *options, f"-I{folder}")).get_function(function or loop)
    except Exception as error:  # the usual one: CUDA's headers for half precision are missing
        raise RuntimeError(f"The CUDA kernel {loop!r} does not compile: {explain(error)}") from error


@functools.cache
def prepared(
    variant: Variant, loop: str, as_wide: bool, lengths: bool, device: int, chunked: bool = False, ends: bool = False
) -> tuple[Any, int]:
    """The compiled kernel of a variant, in its config's build or with one neuron in each thread; and the neurons of a thread."""
    build: Build = getattr(variant.config, loop)
    recomputes = variant.keeps == "input"
    if not as_wide:
        build = build.narrow(variant.chunk) if recomputes and loop == "backward" else build.narrow()
    # only recomputation is in chunks; else a chunk is the steps in flight
    options = build.options(variant.chunk if recomputes else build.ahead, lengths, chunked, ends)
    return load(source(variant), loop, options, device), build.vector


def wide(
    variant: Variant, loop: str, pointers: Sequence[int], neurons: int, each: int, device: int, columns: int = 0
) -> bool:
    """Whether each thread takes as many neurons as in the config: rows, and the neurons of each sample, are whole accesses, and
    there are enough threads. columns: with chunks of time, how many pairs of a chunk and a neuron there are."""
    vector: int = getattr(variant.config, loop).vector
    whole = neurons % vector == 0 and each % vector == 0 and not any(pointer % ACCESS for pointer in pointers)
    return whole and (columns or neurons) >= vector * THREADS * processors(device)


@functools.cache
def processors(device: int) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@functools.lru_cache(maxsize=1024)
def packed(scalars: tuple[float, ...], real: str) -> Any:
    """The kernels' struct Scalars, or Groups: one item of raw bytes is what CuPy passes by value."""
    values = np.array(scalars, real)
    return values.view(f"V{values.nbytes}")


def launch(
    variant: Variant, loop: str, tensors: Sequence[Tensor | None], given: Given, neurons: int, device: int, ends: bool = False,
    matrix: Tensor | None = None,
) -> None:  # fmt: skip
    """Launches on torch's current stream of the device; what is None is a null pointer. ends, matrix: see `cuda_chunks`."""
    pointers = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    each = neurons if given.lengths is None else neurons // len(given.lengths)
    columns, chunked = columns_of(given, neurons), given.chunk > 0
    if chunked:
        check_chunk(variant, given.chunk)
    as_wide = wide(variant, loop, pointers, neurons, each, device, columns)
    kernel, vector = prepared(variant, loop, as_wide, given.lengths is not None, device, chunked, ends)
    # blocks of one warp spread few pairs over more multiprocessors
    threads = WARP if chunked and columns < THREADS * processors(device) else THREADS
    groups = packed((given.inner, 1 if given.per_neuron is None else given.per_neuron.shape[1]), "int64")
    # int64 by name: CuPy makes a small Python int 4 bytes wide where NumPy's default integer is (Windows, NumPy 1)
    arguments = (
        *map(np.int64, (*pointers, given.steps, neurons, max(each, 1))),
        groups,
        packed(tuple(given.scalars), variant.real),
        np.int64(given.chunk),
        *([np.int64(0 if matrix is None else matrix.data_ptr())] if loop == "backward" else []),
    )
    run(kernel, -(-columns // (vector * threads)), threads, arguments, device)


def check_chunk(variant: Variant, chunk: int) -> None:
    """What is saved for several steps together belongs to one chunk."""
    whole = variant.chunk if variant.keeps == "input" else variant.steps
    if chunk % whole:
        raise ValueError(
            f"chunk must be a multiple of the {whole} steps that keep={variant.keep!r} saves together, but got {chunk}."
        )


def run(kernel: Any, blocks: int, threads: int, arguments: tuple[Any, ...], device: int) -> None:
    """On torch's current stream of the device."""
    import cupy

    # CuPy reads only a stream's address; its ExternalStream is deprecated in CuPy 14, and the successor new there
    stream = SimpleNamespace(ptr=torch.cuda.current_stream(device).cuda_stream)
    with cupy.cuda.Device(device):
        kernel((blocks,), (threads,), arguments, stream=stream)


def columns_of(given: Given, neurons: int) -> int:
    """Of what belongs to an end of time: the neurons, or (with a chunk) the pairs of a chunk and a neuron."""
    return neurons * -(-given.steps // given.chunk) if given.chunk else neurons


def contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def forward(
    variant: Variant, x: Tensor, given: Given, want_state: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """As `numba_cpu.forward`, on a GPU; x in float32, float64, float16 or bfloat16."""
    steps, neurons = given.steps, sizes(x)[1]
    real, kept_dtype = getattr(torch, variant.real), getattr(torch, variant.kept_dtype)
    out = x.new_empty((steps, *x.shape[1:]))
    columns = columns_of(given, neurons)
    state = x.new_empty(len(variant.step.before), columns, dtype=real) if want_state else None
    keeps = variant.keeps != "nothing"
    kept = x.new_empty(variant.kept_shape(steps, neurons), dtype=kept_dtype) if keeps else None
    watched = x.new_empty(steps, len(variant.record), neurons, dtype=real) if variant.record else None
    inputs = map(contiguous, (x, given.start, given.per_neuron, given.lengths))
    launch(variant, "forward", (*inputs, out, state, kept, watched), given, neurons, x.device.index or 0)
    return out, state, kept, watched


def backward(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, given: Given,
    kept: Tensor | None, want_g_start: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """As `numba_cpu.backward`, on a GPU. With a chunk, only the first chunk's columns of `given.start` are read."""
    step, real = variant.step, getattr(torch, variant.real)
    neurons = sizes(g_out)[1]
    columns = columns_of(given, neurons)
    # a constant x has one gradient in each column: the chunks' are added up below
    g_x = g_out.new_empty((columns // neurons if neurons else 1, *g_out.shape[1:]) if variant.constant else g_out.shape)
    g_start = g_out.new_empty((len(step.before), columns), dtype=real) if want_g_start else None
    rows = g_out.new_empty((len(step.learned), columns), dtype=real) if step.learned else None
    inputs = map(
        contiguous, (x, g_out, g_state, g_watched, first_of(given, neurons), given.per_neuron, given.lengths, kept)
    )
    launch(variant, "backward", (*inputs, g_x, g_start, rows), given, neurons, g_out.device.index or 0)
    g_x = g_x.sum(0, keepdim=True) if variant.constant and given.chunk else g_x
    return g_x, g_start, None if rows is None else summed(rows, given, step)


def first_of(given: Given, neurons: int) -> Tensor | None:
    """The states before the first step: behind it, chunks begin with what was saved."""
    return given.start if given.start is None or not given.chunk else given.start[:, :neurons]


def summed(rows: Tensor, given: Given, step: Step) -> Tensor:
    """The gradients [LEARNED, N] added up for those that share a parameter: [PER_NEURON, COUNT], 0 for what is not learned."""
    assert given.per_neuron is not None
    found = torch.zeros_like(given.per_neuron, memory_format=torch.contiguous_format)
    learned, count = len(step.learned), found.shape[1]
    found[:learned] = rows.view(learned, -1, count, given.inner).sum((1, 3))
    return found


def forward_steps(
    variant: Variant, x: Tensor, state: Tensor, given: Given, out: Tensor, kept: Tensor
) -> Callable[[int], None]:
    """As `numba_cpu.forward_steps`, on a GPU."""
    neurons, device, one = sizes(x)[1], x.device.index or 0, given._replace(steps=1, start=None)
    xs, outs, states, rows = (tensor.unbind(0) for tensor in (x, out, state, kept))
    saved, p = variant.keeps != "nothing", contiguous(given.per_neuron)

    def run_step(t: int) -> None:
        before, after = states[t % 2], states[(t + 1) % 2]
        made = outs[t % len(outs)], after, rows[t % len(rows)] if saved else None, None
        launch(variant, "forward", (xs[t % len(xs)], before, p, None, *made), one, neurons, device)

    return run_step


def backward_steps(
    variant: Variant, g_out: Tensor, g_state: Tensor, given: Given, kept: Tensor, g_x: Tensor
) -> tuple[Callable[[int], None], Callable[[], Tensor | None]]:
    """As `numba_cpu.backward_steps`, on a GPU."""
    neurons, device, step = sizes(g_x)[1], g_x.device.index or 0, variant.step
    gs, g_xs, g_states, rows = (tensor.unbind(0) for tensor in (g_out, g_x, g_state, kept))
    saved, one, p = variant.keeps != "nothing", given._replace(steps=1, start=None), contiguous(given.per_neuron)
    g_p = g_state.new_zeros((2, len(step.learned), neurons))  # those of one step, and their sum

    def run_step(t: int) -> None:
        after, before = g_states[(t + 1) % 2], g_states[t % 2]
        read = None, gs[t % len(gs)], after, None, None, p, None, rows[t % len(rows)] if saved else None
        launch(variant, "backward", (*read, g_xs[t % len(g_xs)], before, g_p[0]), one, neurons, device)
        if step.learned:
            g_p[1] += g_p[0]

    return run_step, lambda: summed(g_p[1], given, step) if step.learned else None
