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
import itertools
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from tfexplore.backends import Given, sizes
from tfexplore.backends.buffers import LARGE, empty
from tfexplore.backends.threads import entry, in_pool
from tfexplore.codegen.numba_source import MODULE, numba_source
from tfexplore.codegen.variant import Variant
from tfexplore.machine.files import fingerprint, write_once
from tfexplore.machine.paths import PACKAGE, cache_dir, kernels_dir

UNIT = 1024
"""Neurons come to a thread in multiples of this: whole cache lines, and enough for the vectorised loops."""
SMALL = 1 << 16
"""Element-steps below which a second thread costs more than it saves (measured: they meet between 30,000 and 60,000)."""

Part: TypeAlias = tuple[int, int, int]
"""The neurons first <= i < last, and their number of steps."""

_compiling = threading.RLock()


@functools.cache
def load(variant_source: str, loop: str, function: str = "") -> Callable[..., None]:
    """The compiled function of the file `loop` ("forward", "backward"), of its name or another, around this generated neuron."""
    text = (kernels_dir() / f"{loop}.py").read_text(encoding="utf-8")
    used = [
        (PACKAGE / "backends" / f"{name}.py").read_text(encoding="utf-8")
        for name in ("streaming", "groups", "sharing")
        if f"from tfexplore.backends.{name} import" in text
    ]
    part = imported(variant_source, text)
    made = load_from(cache_dir() / "numba" / fingerprint(part, text, *used), part, loop, text)
    return getattr(made, function or loop)


@functools.cache
def load_from(folder: Path, part: str, loop: str, text: str) -> ModuleType:
    """The module of the loop with this text around this part of a neuron, once for all variants that share it."""
    folder.mkdir(parents=True, exist_ok=True)
    neuron, kernel = folder / f"{MODULE}.py", folder / f"{loop}.py"
    write_once(neuron, part)
    write_once(kernel, text)
    with _compiling:  # the loop imports a module of this name, and must find this folder's
        sys.modules[MODULE] = import_file(f"tfexplore_{folder.name}_neuron", neuron)
        try:
            return import_file(f"tfexplore_{folder.name}_{loop}", kernel)
        finally:
            del sys.modules[MODULE]


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
    functions = {node.name: node for node in neuron.body if isinstance(node, ast.FunctionDef)}
    for name in wanted & functions.keys():  # and what these call
        wanted |= {node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)} & functions.keys()
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


def caller(kernel: Any, written: int, parts: Sequence[Part]) -> Callable[..., None]:
    """Calls the kernel with its arrays, on these parts of the neurons, in torch's number of threads.

    written: bytes of each tensor [T, N] that it writes; from half the cache on, stores bypass it.
    """
    from tfexplore.backends.streaming import CACHE  # here: without Numba, this module still imports

    stream = written > CACHE // 2
    each = [(np.uint64(first), np.uint64(last), steps, stream, k) for k, (first, last, steps) in enumerate(parts)]
    edges = np.array(parts, np.int64)
    size = sum((last - first) * steps for first, last, steps in parts)
    threads = 1 if size < SMALL else min(torch.get_num_threads(), len(parts))

    def call(*arrays: Any) -> None:
        if threads > 1 and (openmp := entry()):
            load("", "share")(openmp, threads, compiled(kernel, kinds(arrays)), edges, stream, *arrays)
            return
        if not kernel.overloads:
            compiled(kernel, kinds(arrays))
        if threads == 1:
            for leading in each:
                kernel(*leading, *arrays)
        else:
            in_pool(lambda k: kernel(*each[k], *arrays), len(each))

    return call


Kind: TypeAlias = tuple[np.dtype[Any], int]
"""An array's dtype and number of dimensions; 0 for a number."""


def kinds(arrays: Sequence[Any]) -> tuple[Kind, ...]:
    return tuple([(array.dtype, array.ndim) for array in arrays])


@functools.lru_cache(maxsize=4096)
def compiled(kernel: Any, arrays: tuple[Kind, ...]) -> int:
    """The address of the kernel's machine code for contiguous arrays of these kinds, compiled or loaded from the disk."""
    from numba import from_dtype, types

    from tfexplore.backends.sharing import LEADING

    given = [types.Array(from_dtype(dtype), ndim, "C") if ndim else from_dtype(dtype) for dtype, ndim in arrays]
    signature = (*LEADING, *given)
    with uncollected():
        kernel.compile(signature)
    found = kernel.overloads[signature]
    address: int = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
    return address


@functools.lru_cache(maxsize=1024)
def usual(variant: Variant, loop: str, steps: int, neurons: int, threads: int) -> tuple[Callable[..., None], int]:
    """What calls a loop of this variant, where all neurons have all steps, and its number of parts."""
    return of_parts(variant, loop, steps, neurons, tuple(parts_of(steps, neurons)), threads)


@functools.lru_cache(maxsize=1024)
def of_parts(
    variant: Variant, loop: str, steps: int, neurons: int, parts: tuple[Part, ...], threads: int
) -> tuple[Callable[..., None], int]:
    """The same for these parts; the backward pass adds the gradients of each to rows of its own."""
    written = steps * neurons * np.dtype(variant.real).itemsize
    return caller(load(source(variant), loop), written, parts), len(parts)


@functools.lru_cache(maxsize=1024)
def blank(shape: tuple[int, ...], dtype: str) -> Any:
    """An array for what is absent."""
    return np.empty(shape, dtype)


@functools.lru_cache(maxsize=1024)
def numbers(scalars: tuple[float, ...], dtype: str) -> Any:
    return np.array(scalars, dtype)


def parts_of(steps: int, neurons: int) -> list[Part]:
    """The neurons in parts that threads take one by one, all with these steps."""
    threads, units = torch.get_num_threads(), -(-neurons // UNIT)
    if threads == 1 or steps * neurons < SMALL or units == 1:
        return [(0, neurons, steps)]
    pieces = min(4 * threads, units)  # a few per thread, since cores are rarely equally fast
    edges = [min(neurons, UNIT * (units * k // pieces)) for k in range(pieces + 1)]
    return [(first, last, steps) for first, last in itertools.pairwise(edges)]


def samples(lengths: Tensor, neurons: int) -> tuple[Part, ...]:
    """Parts for each run of samples of one length; sample b has the neurons from b N / B on."""
    each, first = neurons // len(lengths), 0
    parts: list[Part] = []
    for steps, run_of in itertools.groupby(lengths.tolist()):
        count = each * len(list(run_of))
        parts += [(first + begin, first + end, steps) for begin, end, _ in parts_of(steps, count)]
        first += count
    return tuple(parts)


def pad(parts: Sequence[Part], *tensors: Any) -> None:
    """Zeros where a sample has ended, in arrays [T, ..., N]."""
    for first, last, steps in parts:
        for array in tensors:
            array[steps:, ..., first:last] = 0


def made(shape: tuple[int, ...], dtype: str) -> tuple[Tensor, Any]:
    """A new tensor, and the array that is its memory."""
    if math.prod(shape) < LARGE // 8:  # numpy makes a small one in half the time
        array = np.empty(shape, dtype)
        return torch.from_numpy(array), array
    tensor = empty(shape, getattr(torch, dtype))
    return tensor, tensor.numpy()


def array(tensor: Tensor, dtype: str) -> Any:
    return converted(tensor.detach(), getattr(torch, dtype)).numpy()


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Contiguous, in this dtype; a copy only where needed, and then in a recycled buffer."""
    if tensor.dtype == dtype and tensor.is_contiguous():
        return tensor
    return empty(tuple(tensor.shape), dtype).copy_(tensor)


def forward(
    variant: Variant, x: Tensor, given: Given, want_state: bool = True, want_out: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Forward pass: x [T, ...] -> out [T, ...]; state, kept and watched with the kernels' shapes, None where absent.

    x: [1, ...] for a variant of a constant one. want_state, want_out: whether the final states, and the output, are requested; an
    output that is not has no neurons.
    """
    real, states, watches = variant.real, len(variant.step.before), len(variant.record)
    steps, neurons = given.steps, sizes(x)[1]
    out, out_array = made((steps, *x.shape[1:]) if want_out else (steps, 0), real)
    state, state_array = made((states, neurons), real) if want_state else (None, blank((states, 0), real))
    kept_shape = variant.kept_shape(steps, neurons)
    keeps = variant.keeps != "nothing" and kept_shape[0] > 0
    kept, kept_array = made(kept_shape, variant.kept_dtype) if keeps else (None, blank(kept_shape, variant.kept_dtype))
    watched, watched_array = made((steps, watches, neurons), real) if watches else (None, blank((1, 0, neurons), real))
    parts = None if given.lengths is None else samples(given.lengths, neurons)
    if parts is None:
        call, _ = usual(variant, "forward", steps, neurons, torch.get_num_threads())
    else:
        call, _ = of_parts(variant, "forward", steps, neurons, parts, torch.get_num_threads())
    out_array = out_array.reshape(steps, neurons if want_out else 0)
    call(
        rows(x, real), ends(given.start, states, real), *own(given, real), numbers(tuple(given.scalars), real), out_array,
        state_array, kept_array, watched_array,
    )  # fmt: skip
    if parts is not None:
        pad(parts, *([out_array] if want_out else []), watched_array)
    return out if x.dtype == out.dtype else converted(out, x.dtype), state, kept, watched


def backward(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, given: Given,
    kept: Tensor | None, want_g_start: bool = True, want_g_x: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Backward pass: the gradients of x (without `want_g_x`, of no neurons), of the initial states (with `want_g_start`) and of
    `per_neuron`.

    x: None where the adjoint does not need it. g_state: None where the final states were not used. g_watched: that of the traces,
    with a variant that is traced.
    """
    real, states, gradients = variant.real, len(variant.step.before), len(variant.adjoint.g_after)
    steps, neurons = sizes(g_out)
    rows_of_x = 1 if variant.constant else steps
    g_x, g_x_array = made((rows_of_x, *g_out.shape[1:]) if want_g_x else (rows_of_x, 0), real)
    g_start, g_start_array = made((gradients, neurons), real) if want_g_start else (None, blank((gradients, 0), real))
    parts = None if given.lengths is None else samples(given.lengths, neurons)
    if parts is None:
        call, count = usual(variant, "backward", steps, neurons, torch.get_num_threads())
    else:
        call, count = of_parts(variant, "backward", steps, neurons, parts, torch.get_num_threads())
    g_learned = sums(variant, given, count)
    g_x_array = g_x_array.reshape(rows_of_x, neurons if want_g_x else 0)
    call(
        blank((0, neurons), real) if x is None else rows(x, real), rows(g_out, real),
        blank((1, len(variant.record), neurons), real) if g_watched is None else array(g_watched, real),
        ends(g_state, gradients, real), ends(given.start, states, real), *own(given, real), numbers(tuple(given.scalars), real),
        blank(variant.kept_shape(steps, neurons), variant.kept_dtype) if kept is None else kept.numpy(),
        g_x_array, g_start_array, g_learned,
    )  # fmt: skip
    if parts is not None and want_g_x and not variant.constant:
        pad(parts, g_x_array)
    return g_x if g_x.dtype == g_out.dtype else converted(g_x, g_out.dtype), g_start, summed(variant, g_learned)


def rows(tensor: Tensor, dtype: str) -> Any:
    """[T, ...] as an array [T, N]."""
    found = array(tensor, dtype)
    return found if found.ndim == 2 else found.reshape(len(found), -1)


def own(given: Given, dtype: str) -> tuple[Any, Any]:
    """The parameters of groups of neurons, and how many neighbours share one."""
    return blank((0, 1), dtype) if given.per_neuron is None else array(given.per_neuron, dtype), np.uint64(given.inner)


def ends(states: Tensor | None, count: int, dtype: str) -> Any:
    """States at one end of time, [STATES, N]; None has no columns."""
    return blank((count, 0), dtype) if states is None else array(states, dtype)


def forward_steps(
    variant: Variant, x: Tensor, state: Tensor, given: Given, out: Tensor, kept: Tensor
) -> Callable[[int], None]:
    """The forward pass of one time step at a time, for a loop outside: what is returned runs step t, in place.

    All that does not change from step to step is prepared here. x, out [T, ...] and kept [T, NEEDS, N] are contiguous, in the
    kernels' dtypes; with a length of 1 instead of T they serve every step. state [2, STATES, N]: step t reads state[t % 2] and
    writes state[(t + 1) % 2].
    """
    neurons, real = sizes(x)[1], variant.real
    xs, outs, states, saved = each(x), each(out), list(state.numpy()), list(kept.numpy()[:, None])
    fixed, watched = (*own(given, real), numbers(tuple(given.scalars), real)), blank((1, 0, neurons), real)

    def arguments(t: int) -> tuple[Any, ...]:
        before, after = states[t % 2], states[(t + 1) % 2]
        return xs[t % len(xs)], before, *fixed, outs[t % len(outs)], after, saved[t % len(saved)], watched

    call, _ = usual(variant, "forward", 1, neurons, torch.get_num_threads())
    return lambda t: call(*arguments(t))


def backward_steps(
    variant: Variant, g_out: Tensor, g_state: Tensor, given: Given, kept: Tensor, g_x: Tensor
) -> tuple[Callable[[int], None], Callable[[], Tensor | None]]:
    """The backward pass of one time step at a time, as `forward_steps`, for keep="potential"; and the gradient of per_neuron.

    Step t reads the states' gradients g_state[(t + 1) % 2] and writes g_state[t % 2].
    """
    neurons, real = sizes(g_x)[1], variant.real
    gs, g_xs, g_states, saved = each(g_out), each(g_x), list(g_state.numpy()), list(kept.numpy()[:, None])
    fixed = *own(given, real), numbers(tuple(given.scalars), real)
    no_x, no_trace = blank((0, neurons), real), blank((1, 0, neurons), real)
    none = ends(None, len(variant.step.before), real)
    call, count = usual(variant, "backward", 1, neurons, torch.get_num_threads())
    g_learned = sums(variant, given, count)

    def arguments(t: int) -> tuple[Any, ...]:
        after, before = g_states[(t + 1) % 2], g_states[t % 2]
        read = no_x, gs[t % len(gs)], no_trace, after, none, *fixed, saved[t % len(saved)]
        return *read, g_xs[t % len(g_xs)], before, g_learned

    return lambda t: call(*arguments(t)), lambda: summed(variant, g_learned)


def each(tensor: Tensor) -> list[Any]:
    """The steps of a tensor [T, ...], as arrays [1, N]."""
    return list(tensor.view(len(tensor), 1, -1).numpy())


def sums(variant: Variant, given: Given, parts: int) -> Any:
    """Zeros, to which each part of the neurons adds the gradients of what it learns: [parts, LEARNED, COUNT] in float64."""
    learned = len(variant.learned)
    return np.zeros((parts, learned, given.per_neuron.shape[1] if learned and given.per_neuron is not None else 1))


def summed(variant: Variant, g_learned: Any) -> Tensor | None:
    """The gradient of per_neuron [PER_NEURON, COUNT]: 0 for what is not learned, None where nothing is."""
    step = variant.step
    if not variant.learned:
        return None
    found = torch.zeros((len(step.per_neuron), g_learned.shape[2]), dtype=getattr(torch, variant.real))
    found[: len(step.learned)] = torch.from_numpy(g_learned).sum(0)
    return found
