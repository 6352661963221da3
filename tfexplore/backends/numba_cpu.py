"""The fused CPU backend: the loops of `kernels/*.py`, compiled by Numba around a generated neuron.

Every kernel has a folder of its own in the cache, named by the hash of its sources: `generated_neuron.py` and a copy of
its loop. Numba caches functions of real files only, beside the file; equal sources share one folder, so a
neuron from a notebook cell is compiled once and found again by the next process.

The kernels are serial and release the GIL; their neurons are shared out to torch's threads (see `threads`). That needs no
threading layer (Numba's portable one aborts on concurrent calls) and compiles in a fraction of the time of `prange`.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfexplore.backends import sizes
from tfexplore.backends.buffers import empty
from tfexplore.backends.threads import share
from tfexplore.codegen.numba_source import MODULE, numba_source
from tfexplore.codegen.variant import Variant
from tfexplore.machine.files import fingerprint, write_once
from tfexplore.machine.paths import PACKAGE, cache_dir, kernels_dir

UNIT = 1024
"""Neurons come to a thread in multiples of this: whole cache lines, and enough for the vectorised loops."""
SMALL = 1 << 20
"""Element-steps below which a second thread costs more than it saves (measured: they meet between 0.6 and 1.3 million)."""

_compiling = threading.RLock()


@functools.cache
def load(variant_source: str, loop: str) -> Callable[..., None]:
    """The compiled function `loop` ("forward" or "backward") around this generated neuron."""
    text = (kernels_dir() / f"{loop}.py").read_text(encoding="utf-8")
    stores = (PACKAGE / "backends" / "streaming.py").read_text(encoding="utf-8")  # compiled into every kernel
    part = imported(variant_source, text)
    return load_from(cache_dir() / "numba" / fingerprint(part, text, stores), part, loop, text)


@functools.cache
def load_from(folder: Path, part: str, loop: str, text: str) -> Callable[..., None]:
    """The loop with this text around this part of a neuron, once for all variants that share it."""
    folder.mkdir(parents=True, exist_ok=True)
    neuron, kernel = folder / f"{MODULE}.py", folder / f"{loop}.py"
    write_once(neuron, part)
    write_once(kernel, text)
    with _compiling:  # the loop imports a module of this name, and must find this folder's
        sys.modules[MODULE] = import_file(f"tfexplore_{folder.name}_neuron", neuron)
        try:
            made = import_file(f"tfexplore_{folder.name}_{loop}", kernel)
        finally:
            del sys.modules[MODULE]
    return getattr(made, loop)


def imported(variant_source: str, loop_text: str) -> str:
    """The part of the generated neuron that this loop imports. The forward pass is then not compiled anew for another surrogate,
    which it does not use, nor the backward pass for another record."""
    froms = [node for node in ast.parse(loop_text).body if isinstance(node, ast.ImportFrom)]
    wanted = {alias.name for node in froms if node.module == MODULE for alias in node.names}

    def needed(node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign):
            return ast.unparse(node.targets[0]) in wanted
        return not isinstance(node, ast.FunctionDef) or node.name in wanted

    neuron = ast.parse(variant_source)
    neuron.body = list(filter(needed, neuron.body))
    return ast.unparse(neuron)


def import_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Numba's cached functions are unpickled by module name
    spec.loader.exec_module(module)
    return module


source = functools.cache(numba_source)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's garbage collector: a compiler makes millions of live objects, and scanning them takes 40 % of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def run(kernel: Any, written: int, steps: int, neurons: int, arguments: tuple[Any, ...]) -> None:
    """Calls the kernel on pieces of the neurons, in torch's number of threads.

    written: bytes of each tensor [T, N] that it writes; from half the cache on, stores bypass it.
    """
    if not kernel.overloads:  # compiled, or loaded from the disk, when it is first called: here with no neurons
        with uncollected():
            kernel(np.uint64(0), np.uint64(0), False, *arguments)
    threads = torch.get_num_threads()
    units = -(-neurons // UNIT)
    from tfexplore.backends.streaming import CACHE  # here: without Numba, this module still imports

    stream = written > CACHE // 2
    if threads == 1 or steps * neurons < SMALL or units == 1:
        kernel(np.uint64(0), np.uint64(neurons), stream, *arguments)
        return
    pieces = min(4 * threads, units)  # a few per thread, since cores are rarely equally fast
    edges = [np.uint64(min(neurons, UNIT * (units * k // pieces))) for k in range(pieces + 1)]
    share(lambda k: kernel(edges[k], edges[k + 1], stream, *arguments), pieces)


def array(tensor: Tensor, dtype: torch.dtype) -> Any:
    return converted(tensor.detach(), dtype).numpy()


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Contiguous, in this dtype; a copy only where needed, and then in a recycled buffer."""
    if tensor.dtype == dtype and tensor.is_contiguous():
        return tensor
    return empty(tuple(tensor.shape), dtype).copy_(tensor)


def forward(
    variant: Variant, x: Tensor, start: Tensor | None, per_neuron: Tensor | None, scalars: Sequence[float],
    want_state: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Forward pass: x [T, ...] -> out [T, ...]; state, kept and watched with the kernels' shapes, None where absent.

    start [STATES, N]: the initial states; None where all neurons begin alike, with the last of the scalars (`step.by_value`).
    per_neuron [PER_NEURON, N]: None without learned parameters. want_state: whether the final states are requested.
    """
    dtype = getattr(torch, variant.real)
    steps, neurons = sizes(x)
    begin = ends(scalars[len(variant.step.scalars) :], neurons, dtype) if start is None else start
    out = empty(tuple(x.shape), dtype)
    state = empty(tuple(begin.shape), dtype)
    kept = empty(variant.kept_shape(steps, neurons), getattr(torch, variant.kept_dtype))
    watched = empty((steps if variant.record else 1, len(variant.record), neurons), dtype)
    given = (array(x, dtype).reshape(steps, neurons), array(begin, dtype), array_or_none(per_neuron, neurons, dtype))
    made = (out.numpy().reshape(steps, neurons), *(t.numpy() for t in (state, kept, watched)))
    run(load(source(variant), "forward"), out.nbytes, steps, neurons, (*given, np.array(scalars, variant.real), *made))
    return (
        converted(out, x.dtype), state if want_state else None, kept if variant.keeps != "nothing" else None,
        watched if variant.record else None,
    )  # fmt: skip


def backward(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, start: Tensor | None, per_neuron: Tensor | None,
    scalars: Sequence[float], kept: Tensor | None, want_g_start: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Backward pass: the gradients of x [T, ...], of the initial states (with `want_g_start`) and of `per_neuron`.

    x: None where the adjoint does not need it. g_state: None where the final states were not used. start, per_neuron: as in
    `forward`.
    """
    dtype = getattr(torch, variant.real)
    steps, neurons = sizes(g_out)
    g_x = empty(tuple(g_out.shape), dtype)
    g_begin = ends([0.0] * len(variant.step.before), neurons, dtype) if g_state is None else g_state
    g_start = empty(tuple(g_begin.shape), dtype)
    g_per_neuron = torch.zeros((len(variant.step.per_neuron), neurons), dtype=dtype)
    given = (
        array_or_none(x, neurons, dtype).reshape(0 if x is None else steps, neurons),
        array(g_out, dtype).reshape(steps, neurons), array(g_begin, dtype),
        array_or_none(per_neuron, neurons, dtype), np.array(scalars, variant.real),
        np.empty(variant.kept_shape(steps, neurons), variant.kept_dtype) if kept is None else kept.numpy(),
    )  # fmt: skip
    made = (g_x.numpy().reshape(steps, neurons), g_start.numpy(), g_per_neuron.numpy())
    run(load(source(variant), "backward"), g_x.nbytes, steps, neurons, (*given, *made))
    return converted(g_x, g_out.dtype), g_start if want_g_start else None, None if per_neuron is None else g_per_neuron


def ends(values: Sequence[float], neurons: int, dtype: torch.dtype) -> Tensor:
    """States at one end of time that are the same for all neurons: [len(values), neurons]."""
    made = empty((len(values), neurons), dtype)
    for row, value in zip(made, values, strict=True):
        row.fill_(value)
    return made


def array_or_none(tensor: Tensor | None, neurons: int, dtype: torch.dtype) -> Any:
    """None is an array without rows."""
    return empty((0, neurons), dtype).numpy() if tensor is None else array(tensor, dtype)
