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

Part: TypeAlias = tuple[int, int, int]
"""The neurons first <= i < last, and their number of steps."""

_compiling = threading.RLock()


@functools.cache
def load(variant_source: str, loop: str) -> Callable[..., None]:
    """The compiled function `loop` ("forward" or "backward") around this generated neuron."""
    text = (kernels_dir() / f"{loop}.py").read_text(encoding="utf-8")
    used = [(PACKAGE / "backends" / name).read_text(encoding="utf-8") for name in ("streaming.py", "groups.py")]
    part = imported(variant_source, text)
    return load_from(cache_dir() / "numba" / fingerprint(part, text, *used), part, loop, text)


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


def run(kernel: Any, written: int, parts: Sequence[Part], arguments: tuple[Any, ...], rows: int = 0) -> None:
    """Calls the kernel on these parts of the neurons, in torch's number of threads.

    written: bytes of each tensor [T, N] that it writes; from half the cache on, stores bypass it. rows: where not 0, the kernel
    is given the number of its part among so many.
    """
    prepared(kernel, written, parts, arguments, rows)(*arguments)


def prepared(
    kernel: Any, written: int, parts: Sequence[Part], arguments: tuple[Any, ...], rows: int = 0
) -> Callable[..., None]:
    """`run` for many calls with arguments like these."""
    if not kernel.overloads:  # compiled, or loaded from the disk, when it is first called: here with no neurons
        with uncollected():
            kernel(np.uint64(0), np.uint64(0), 0, False, *((0,) if rows else ()), *arguments)
    from tfexplore.backends.streaming import CACHE  # here: without Numba, this module still imports

    stream = written > CACHE // 2
    each = [
        (np.uint64(first), np.uint64(last), steps, stream, *((number % rows,) if rows else ()))
        for number, (first, last, steps) in enumerate(parts)
    ]
    if len(each) == 1:
        return functools.partial(kernel, *each[0])
    if sum((last - first) * steps for first, last, steps in parts) < SMALL:
        return lambda *given: [kernel(*leading, *given) for leading in each] and None
    return lambda *given: share(lambda k: kernel(*each[k], *given), len(each))


def parts_of(given: Given, neurons: int) -> list[Part]:
    """The neurons in parts that threads take one by one, each with its number of steps."""
    if given.lengths is not None:
        return samples(given.lengths, neurons)
    threads, units = torch.get_num_threads(), -(-neurons // UNIT)
    if threads == 1 or given.steps * neurons < SMALL or units == 1:
        return [(0, neurons, given.steps)]
    pieces = min(4 * threads, units)  # a few per thread, since cores are rarely equally fast
    edges = [min(neurons, UNIT * (units * k // pieces)) for k in range(pieces + 1)]
    return [(first, last, given.steps) for first, last in itertools.pairwise(edges)]


def samples(lengths: Tensor, neurons: int) -> list[Part]:
    """A part for each run of samples of one length; sample b has the neurons from b N / B on."""
    each, parts, first = neurons // len(lengths), [], 0
    for steps, run_of in itertools.groupby(lengths.tolist()):
        last = first + each * len(list(run_of))
        parts.append((first, last, steps))
        first = last
    return parts


def pad(parts: Sequence[Part], *tensors: Any) -> None:
    """Zeros where a sample has ended, in arrays [T, ..., N]."""
    for first, last, steps in parts:
        for array in tensors:
            array[steps:, ..., first:last] = 0


def array(tensor: Tensor, dtype: torch.dtype) -> Any:
    return converted(tensor.detach(), dtype).numpy()


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Contiguous, in this dtype; a copy only where needed, and then in a recycled buffer."""
    if tensor.dtype == dtype and tensor.is_contiguous():
        return tensor
    return empty(tuple(tensor.shape), dtype).copy_(tensor)


def forward(
    variant: Variant, x: Tensor, given: Given, want_state: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Forward pass: x [T, ...] -> out [T, ...]; state, kept and watched with the kernels' shapes, None where absent.

    x: [1, ...] for a variant of a constant one. want_state: whether the final states are requested.
    """
    dtype = getattr(torch, variant.real)
    steps, neurons = given.steps, sizes(x)[1]
    parts = parts_of(given, neurons)
    states = len(variant.step.before)
    out = empty((steps, *x.shape[1:]), dtype)
    state = empty((states, neurons if want_state else 0), dtype)
    kept = empty(variant.kept_shape(steps, neurons), getattr(torch, variant.kept_dtype))
    watched = empty((steps if variant.record else 1, len(variant.record), neurons), dtype)
    read = (array(x, dtype).reshape(len(x), neurons), ends(given.start, states, dtype), *own(given, dtype))
    made = (out.numpy().reshape(steps, neurons), *(t.numpy() for t in (state, kept, watched)))
    run(load(source(variant), "forward"), out.nbytes, parts, (*read, np.array(given.scalars, variant.real), *made))
    if given.lengths is not None:
        pad(parts, made[0], made[3])
    return (
        converted(out, x.dtype), state if want_state else None, kept if variant.keeps != "nothing" else None,
        watched if variant.record else None,
    )  # fmt: skip


def backward(
    variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, given: Given,
    kept: Tensor | None, want_g_start: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Backward pass: the gradients of x, of the initial states (with `want_g_start`) and of `per_neuron`.

    x: None where the adjoint does not need it. g_state: None where the final states were not used. g_watched: that of the traces,
    with a variant that is traced.
    """
    dtype, step = getattr(torch, variant.real), variant.step
    steps, neurons = sizes(g_out)
    parts = parts_of(given, neurons)
    g_x = empty((1 if variant.constant else steps, *g_out.shape[1:]), dtype)
    states = len(step.before)
    g_start = empty((states, neurons if want_g_start else 0), dtype)
    g_learned = sums(variant, given, neurons, len(parts))
    read = (
        np.empty((0, neurons), variant.real) if x is None else array(x, dtype).reshape(len(x), neurons),
        array(g_out, dtype).reshape(steps, neurons),
        np.empty((1, len(variant.record), neurons), variant.real) if g_watched is None else array(g_watched, dtype),
        ends(g_state, states, dtype), ends(given.start, states, dtype), *own(given, dtype), np.array(given.scalars, variant.real),
        np.empty(variant.kept_shape(steps, neurons), variant.kept_dtype) if kept is None else kept.numpy(),
    )  # fmt: skip
    made = (g_x.numpy().reshape(len(g_x), neurons), g_start.numpy(), g_learned)
    run(load(source(variant), "backward"), g_x.nbytes, parts, (*read, *made), rows=len(g_learned))
    if given.lengths is not None and not variant.constant:
        pad(parts, made[0])
    return converted(g_x, g_out.dtype), g_start if want_g_start else None, summed(variant, g_learned, dtype)


def own(given: Given, dtype: torch.dtype) -> tuple[Any, np.uint64]:
    """The parameters of groups of neurons, and how many neighbours share one."""
    values = (
        np.empty((0, 1), str(dtype).removeprefix("torch."))
        if given.per_neuron is None
        else array(given.per_neuron, dtype)
    )
    return values, np.uint64(given.inner)


def ends(states: Tensor | None, count: int, dtype: torch.dtype) -> Any:
    """States at one end of time, [STATES, N]; None has no columns."""
    return np.empty((count, 0), str(dtype).removeprefix("torch.")) if states is None else array(states, dtype)


def forward_steps(
    variant: Variant, x: Tensor, state: Tensor, given: Given, out: Tensor, kept: Tensor
) -> Callable[[int], None]:
    """The forward pass of one time step at a time, for a loop outside: what is returned runs step t, in place.

    All that does not change from step to step is prepared here. x, out [T, ...] and kept [T, NEEDS, N] are contiguous, in the
    kernels' dtypes; with a length of 1 instead of T they serve every step. state [2, STATES, N]: step t reads state[t % 2] and
    writes state[(t + 1) % 2].
    """
    neurons, parts = sizes(x)[1], parts_of(given._replace(steps=1), sizes(x)[1])
    xs, outs, states, rows = each(x), each(out), list(state.numpy()), list(kept.numpy()[:, None])
    fixed = *own(given, state.dtype), np.array(given.scalars, variant.real)
    watched = np.empty((1, 0, neurons), variant.real)

    def arguments(t: int) -> tuple[Any, ...]:
        before, after = states[t % 2], states[(t + 1) % 2]
        return xs[t % len(xs)], before, *fixed, outs[t % len(outs)], after, rows[t % len(rows)], watched

    call = prepared(load(source(variant), "forward"), out[:1].nbytes, parts, arguments(0))
    return lambda t: call(*arguments(t))


def backward_steps(
    variant: Variant, g_out: Tensor, g_state: Tensor, given: Given, kept: Tensor, g_x: Tensor
) -> tuple[Callable[[int], None], Callable[[], Tensor | None]]:
    """The backward pass of one time step at a time, as `forward_steps`, for keep="potential"; and the gradient of per_neuron.

    Step t reads the states' gradients g_state[(t + 1) % 2] and writes g_state[t % 2].
    """
    neurons, parts = sizes(g_x)[1], parts_of(given._replace(steps=1), sizes(g_x)[1])
    gs, g_xs, g_states, rows = each(g_out), each(g_x), list(g_state.numpy()), list(kept.numpy()[:, None])
    fixed = *own(given, g_state.dtype), np.array(given.scalars, variant.real)
    no_x, none = np.empty((0, neurons), variant.real), np.empty((len(variant.step.before), 0), variant.real)
    no_trace = np.empty((1, 0, neurons), variant.real)
    g_learned = sums(variant, given, neurons, len(parts))

    def arguments(t: int) -> tuple[Any, ...]:
        after, before = g_states[(t + 1) % 2], g_states[t % 2]
        read = no_x, gs[t % len(gs)], no_trace, after, none, *fixed, rows[t % len(rows)]
        return *read, g_xs[t % len(g_xs)], before, g_learned

    call = prepared(load(source(variant), "backward"), g_x[:1].nbytes, parts, arguments(0), rows=len(g_learned))
    return lambda t: call(*arguments(t)), lambda: summed(variant, g_learned, g_state.dtype)


def each(tensor: Tensor) -> list[Any]:
    """The steps of a tensor [T, ...], as arrays [1, N]."""
    return list(tensor.view(len(tensor), 1, -1).numpy())


def sums(variant: Variant, given: Given, neurons: int, parts: int) -> Any:
    """Zeros, to which the parts of the neurons add the gradients of what they learn: [parts, LEARNED, COUNT] in float64."""
    count = 1 if given.per_neuron is None else given.per_neuron.shape[1]
    alone = count == neurons  # then no two parts add to one number, and need no rows of their own
    return np.zeros((1 if alone else parts, len(variant.step.learned), count))


def summed(variant: Variant, g_learned: Any, dtype: torch.dtype) -> Tensor | None:
    """The gradient of per_neuron [PER_NEURON, COUNT]: 0 for what is not learned, None where nothing is."""
    step = variant.step
    if not step.learned:
        return None
    found = torch.zeros((len(step.per_neuron), g_learned.shape[2]), dtype=dtype)
    found[: len(step.learned)] = torch.from_numpy(g_learned).sum(0)
    return found
