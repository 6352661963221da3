"""Time in chunks that run side by side, around any fused backend: a scan in three phases, forward and backward.

A chunk of time is just more neurons (`Given.chunk`), so every phase is the backend's own kernel::

    1   every chunk from the state 0, but the first from its true one: the ends b[c]. Where the step is affine in the states,
        chunk c maps the state z at its start to M[c] z + b[c] at its end, and M[c] is the product of its steps' matrices
    2   z[c + 1] = M[c] z[c] + b[c], chunk after chunk: the true states at all starts (float64, so that it adds no error)
    3   every chunk from its true start

In phase 3 the operations within a chunk are those of the serial kernel. Forward that takes a neuron whose step is affine
(`neurons.affine.why_not`). Backward it takes any, since the chain rule is linear in the gradient; and what the forward pass saves
has the layout of serial time, so that either pass may run either way. Without a gradient through time nothing is to be scanned.

"speculative" runs any neuron forward, exactly: see `speculate`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import sympy
import torch
from sympy import Expr
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import Given, sizes, torch_reference
from tfexplore.codegen.functions import Function
from tfexplore.codegen.schedule import length
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.adjoint import transition
from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.step import Step, real

Passed: TypeAlias = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
Matrix: TypeAlias = tuple[tuple[Expr, ...], ...]
First: TypeAlias = Callable[[Variant, Tensor], Tensor]
"""Phase 1 backward: of a variant and the gradients at the chunks' ends, those at their starts."""


@dataclass(frozen=True)
class Chunked:
    """A backend for variants whose schedule is not "serial": the same two functions.

    Args:
        backend: a module whose `forward` and `backward` take a `Given.chunk`.
    """

    backend: ModuleType

    def forward(self, variant: Variant, x: Tensor, given: Given, want_state: bool = True) -> Passed:
        chunk = chosen(variant, "forward", x, given)
        if not chunk:
            made: Passed = self.backend.forward(variant, x, given, want_state)
            return made
        return forward(self.backend, variant, x, given._replace(chunk=chunk), want_state)

    def backward(
        self, variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None, given: Given,
        kept: Tensor | None, want_g_start: bool = True,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        chunk = chosen(variant, "backward", g_out, given)
        rest = x, g_out, g_state, g_watched, given._replace(chunk=chunk), kept, want_g_start
        if chunk:
            return backward(self.backend, variant, *rest)
        found: tuple[Tensor, Tensor | None, Tensor | None] = self.backend.backward(variant, *rest)
        return found


CHUNKS = {"numba": "tfexplore.backends.folded", "cuda": "tfexplore.backends.cuda_chunks"}
"""The modules whose passes take a `Given.chunk`."""


@functools.cache
def executor(backend: str, schedule: str) -> ModuleType | Chunked:
    """What has the `forward` and `backward` of a fused backend's variants with this schedule."""
    if schedule == "serial":
        return backends.module(backend)
    return Chunked(importlib.import_module(CHUNKS[backend]))


def chosen(variant: Variant, loop: str, x: Tensor, given: Given) -> int:
    """The length of the chunks in which this pass runs, 0 for one piece."""
    neurons = sizes(x)[1]
    if not neurons or given.lengths is not None:
        return 0
    return length(variant, loop, given.steps, neurons, torch.get_num_threads())


def forward(backend: ModuleType, variant: Variant, x: Tensor, given: Given, want_state: bool = True) -> Passed:
    """The forward pass in chunks of `given.chunk` steps: arguments and results of a serial one."""
    laid = backend.lay(variant, x, given) if hasattr(backend, "lay") else x  # a CPU reads it in another order
    starts = true_starts(backend, variant, x, laid, given)
    out, state, kept, watched = backend.forward(variant, laid, given._replace(start=starts), want_state)
    return out, None if state is None else state[:, -sizes(x)[1] :].clone(), kept, watched


def true_starts(backend: ModuleType, variant: Variant, x: Tensor, laid: Any, given: Given) -> Tensor:
    """The states at the chunks' starts [STATES, C N], from phases 1 and 2; laid: x, as the backend reads it."""
    if variant.schedule == "speculative":
        return speculate(backend, variant, x, given, laid).starts
    if hasattr(backend, "true_starts"):  # a GPU: phases 1 and 2 in a launch each
        found: Tensor = backend.true_starts(variant, x, given)
        return found
    start = torch_reference.begin(variant.step, given, x)
    starts = start.new_zeros(len(start), -(-given.steps // given.chunk), start.shape[1])
    starts[:, 0] = start
    ends = ends_from(backend, variant, laid, given._replace(start=starts.flatten(1)))
    walk(backend, products(backend, variant, x, laid, given), ends.view_as(starts), starts)
    return starts.flatten(1)


def ends_from(backend: ModuleType, variant: Variant, x: Any, given: Given) -> Tensor:
    """The states at the chunks' ends [STATES, C N] from these starts."""
    variant = without_backward(variant)
    ends: Tensor = (
        backend.ends(variant, x, given) if hasattr(backend, "ends") else backend.forward(variant, x, given)[1]
    )
    return ends


@functools.cache
def without_backward(variant: Variant) -> Variant:
    return dataclasses.replace(variant, keep="nothing", record=(), traced=False)


def walk(backend: ModuleType, matrices: Tensor, ends: Tensor, starts: Tensor, backwards: bool = False) -> None:
    """Phase 2: z[c + 1] = M[c] z[c] + b[c] for all c, in place from starts[:, 0]; backwards, from starts[:, -1].

    matrices: M [C or 1, STATES, STATES, N] in float64, in which the sums are made. ends: b [STATES, C, N], where b[0] is the
    end of the first chunk from z[0]. starts: z, as ends.
    """
    if hasattr(backend, "walk"):
        backend.walk(matrices, ends, starts, backwards)
        return
    order = range(ends.shape[1])[:: -1 if backwards else 1]
    z = torch.zeros_like(starts[:, 0], dtype=torch.float64)
    apart = ~torch.eye(len(z), dtype=torch.bool, device=z.device).unsqueeze(2)
    for c, following in itertools.pairwise(order):
        # the product of many steps, or a state, may have overflowed: where one is 0, the other stays out of the other states
        matrix = matrices[c if len(matrices) > 1 else 0]
        moved = torch.where((z == 0) | (matrix == 0) & apart, 0, matrix * z)
        z = moved.sum(1) + ends[:, c]
        starts[:, following] = z


def products(backend: ModuleType, variant: Variant, x: Tensor, laid: Any, given: Given) -> Tensor:
    """M: what each chunk makes of the states at its start [C or 1, STATES, STATES, N], in float64."""
    matrix, neurons = same_forward(variant.step), sizes(x)[1]
    if matrix is not None:
        return power(variant.step, matrix, given, neurons, x.device)
    from_each = [given._replace(start=unit) for unit in units(variant, x, given)]
    columns = [ends_from(backend, linear_variant(variant), laid, one) for one in from_each]
    return by_chunk(torch.stack(columns, 1), neurons)


@functools.cache
def same_forward(step: Step) -> Matrix | None:
    """A where it is the same at every step, of parameters only."""
    affine = affine_of(step)
    return affine.matrix if affine.constant(step) else None


@functools.cache
def same_backward(variant: Variant) -> Matrix | None:
    """The same of the adjoint."""
    matrix, parameters = transition(variant.adjoint), {*variant.step.scalars, *variant.step.per_neuron}
    return matrix if all(entry.free_symbols <= parameters for row in matrix for entry in row) else None


def units(variant: Variant, like: Tensor, given: Given) -> Iterator[Tensor]:
    """For each state [STATES, C N]: 1 for it and 0 for the others."""
    states, columns = len(variant.step.before), -(-given.steps // given.chunk) * sizes(like)[1]
    for k in range(states):
        unit = like.new_zeros(states, columns, dtype=getattr(torch, variant.real))
        unit[k] = 1
        yield unit


def by_chunk(matrices: Tensor, neurons: int) -> Tensor:
    """[STATES, STATES, C N] -> [C, STATES, STATES, N] in float64."""
    return matrices.double().unflatten(-1, (-1, neurons)).movedim(2, 0).contiguous()


@functools.cache
def linear_variant(variant: Variant) -> Variant:
    """z -> A z alone, without b: as a neuron that does not spike."""
    step, matrix = variant.step, affine_of(variant.step).matrix
    charge = tuple(sum((a * z for a, z in zip(row, step.before, strict=True)), sympy.S.Zero) for row in matrix)
    alone = dataclasses.replace(step, charge=charge, fire=None, reset=step.charged, name=f"{step.name}'s linear part")
    return dataclasses.replace(without_backward(variant), step=alone)


def power(step: Step, matrix: Matrix, given: Given, neurons: int, device: torch.device) -> Tensor:
    """The matrix of one step, the same at all, to the power of a chunk's steps [1, STATES, STATES, N] in float64."""
    numbers, states = tuple(given.scalars[: len(step.scalars)]), len(step.before)
    if given.per_neuron is None:
        shared = shared_power(step, matrix, numbers, given.chunk).to(device)
        return shared.view(1, states, states, 1).expand(-1, -1, -1, neurons).contiguous()
    p = [torch.tensor(value, dtype=torch.float64, device=device) for value in numbers]
    p += torch_reference.spread(given.per_neuron.double(), given.inner, neurons).unbind(0)
    entries = matrix_function(step, matrix)(tuple(p))
    a = torch.stack([torch.as_tensor(z, dtype=torch.float64, device=device).expand(neurons) for z in entries])
    if states == 1:
        return (a**given.chunk).view(1, 1, 1, neurons)
    a = torch.linalg.matrix_power(a.view(states, states, neurons).permute(2, 0, 1), given.chunk)
    return a.permute(1, 2, 0).unsqueeze(0).contiguous()


@functools.lru_cache(maxsize=256)
def shared_power(step: Step, matrix: Matrix, numbers: tuple[float, ...], times: int) -> Tensor:
    """The same where all neurons share their numbers [STATES, STATES], computed once for those, on the CPU."""
    p = tuple(torch.tensor(value, dtype=torch.float64, device="cpu") for value in numbers)
    entries = [torch.as_tensor(z, dtype=torch.float64, device="cpu") for z in matrix_function(step, matrix)(p)]
    states = len(step.before)
    return torch.linalg.matrix_power(torch.stack(entries).view(states, states), times)


@functools.lru_cache(maxsize=256)
def matrix_function(step: Step, matrix: Matrix) -> Any:
    """The entries, row by row, of the parameters."""
    entries = [a for row in matrix for a in row]
    names = tuple(real(f"entry_{k}") for k in range(len(entries)))
    p = (*step.scalars, *step.per_neuron)
    made = Function("matrix", (("p", p),), tuple(zip(names, entries, strict=True)), (("a", names),))
    return torch_reference.on_tensors([made], step.name)["matrix"]


def backward(
    backend: ModuleType, variant: Variant, x: Tensor | None, g_out: Tensor, g_state: Tensor | None, g_watched: Tensor | None,
    given: Given, kept: Tensor | None, want_g_start: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """The backward pass in chunks of `given.chunk` steps: arguments and results of a serial one."""
    neurons = sizes(g_out)[1]
    g_ends = g_out.new_zeros(
        len(variant.step.before), -(-given.steps // given.chunk), neurons, dtype=getattr(torch, variant.real)
    )
    if g_state is not None:
        g_ends[:, -1] = g_state

    def scanned(first: First) -> Tensor:
        """The gradients at the chunks' ends [STATES, C N], from phases 1 and 2."""
        if not variant.step.temporal_gradient or g_ends.shape[1] == 1:
            return g_ends.flatten(1)
        b, matrices = adjoint_products(variant, g_out, given, g_ends.flatten(1), first)
        walk(backend, matrices, b.view_as(g_ends), g_ends, backwards=True)
        return g_ends.flatten(1)

    if hasattr(backend, "twice"):  # a CPU lays out once what both phases read
        given = given._replace(start=recomputed_from(variant, g_out, given, kept))
        found = backend.twice(variant, x, g_out, g_watched, given, kept, scanned, want_g_start)
    else:  # a GPU: phases 1 and 2 in a launch each
        true = g_ends.flatten(1)
        if variant.step.temporal_gradient:
            true = backend.true_g_ends(variant, x, g_out, g_state, g_watched, given, kept)
        found = backend.backward(variant, x, g_out, true, g_watched, given, kept, want_g_start)
    g_x, g_start, g_learned = found
    return g_x, None if g_start is None else g_start[:, :neurons].clone(), g_learned


def adjoint_products(
    variant: Variant, like: Tensor, given: Given, g_ends: Tensor, first: First
) -> tuple[Tensor, Tensor]:
    """b: the gradients at the chunks' starts [STATES, C N] from these at their ends; and M."""
    states, neurons = len(variant.step.before), sizes(like)[1]
    if (matrix := same_backward(variant)) is not None:
        return first(variant, g_ends), power(variant.step, matrix, given, neurons, like.device)
    found = first(with_matrix(variant), torch.cat([g_ends, *units(variant, like, given)]))
    b, columns = found[:states].contiguous(), found[states:].unflatten(0, (states, states))  # [unit, state]
    return b, by_chunk(columns.transpose(0, 1), neurons)


@functools.cache
def with_matrix(variant: Variant) -> Variant:
    return dataclasses.replace(variant, matrix=True)


def recomputed_from(variant: Variant, like: Tensor, given: Given, kept: Tensor | None) -> Tensor | None:
    """The states at the chunks' starts [STATES, C N], which keep="input" recomputes from: every so many of those saved."""
    if variant.keeps != "input":
        return None
    start = torch_reference.begin(variant.step, given, like)
    each = given.chunk // variant.chunk
    rows = [start.unsqueeze(0)] if kept is None else [start.unsqueeze(0), kept[each - 1 :: each]]
    return torch.cat(rows).movedim(0, 1).flatten(1)


class Speculation(NamedTuple):
    """What `speculate` found.

    Args:
        starts: the true states at the chunks' starts [STATES, C N].
        ran: which chunks ran in which round, [ROUNDS, C]; a chunk is final from the round on after which it runs no more.
    """

    starts: Tensor
    ran: Tensor


def speculate(backend: ModuleType, variant: Variant, x: Tensor, given: Given, laid: Any = None) -> Speculation:
    """The states at the chunks' starts of any neuron, by guessing: exact, bit for bit.

    In the first round every chunk runs from the initial state; in each round after it, those run again whose left neighbour has
    left another state than they began with, until none has. The chunks become final from the left, at least one a round: C rounds
    at most, where no neuron ever forgets; few where it does, by its leak or a hard reset. laid: x, as the backend reads it.
    """
    neurons, chunk = sizes(x)[1], given.chunk
    count = -(-given.steps // chunk)
    start = torch_reference.begin(variant.step, given, x)
    starts = start.unsqueeze(1).expand(-1, count, -1).contiguous()
    bits = {4: torch.int32, 8: torch.int64}[start.element_size()]
    ends, again, ran = torch.empty_like(starts), torch.arange(count, device=x.device), []
    while len(again):
        ran.append(torch.zeros(count, dtype=torch.bool, device="cpu").index_fill_(0, again.cpu(), True))
        pieces = x if len(again) == count else torch.cat([x[c * chunk : (c + 1) * chunk] for c in again.tolist()])
        some = given._replace(steps=len(pieces), start=starts[:, again].flatten(1))
        pieces = laid if pieces is x and laid is not None else pieces
        ends[:, again] = ends_from(backend, variant, pieces, some).view(len(start), -1, neurons)
        changed = (ends[:, :-1].view(bits) != starts[:, 1:].view(bits)).any(2).any(0)
        starts[:, 1:] = ends[:, :-1]
        again = changed.nonzero().flatten() + 1
    return Speculation(starts.flatten(1), torch.stack(ran))
