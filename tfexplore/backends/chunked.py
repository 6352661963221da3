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
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import Given, sizes, torch_reference
from tfexplore.codegen.functions import Function
from tfexplore.codegen.schedule import length
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.affine import affine_of
from tfexplore.neurons.step import Step, real

Passed = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]


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


CHUNKS = {"numba": "tfexplore.backends.folded", "cuda": "tfexplore.backends.cuda"}
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
    starts = true_starts(backend, variant, x, given)
    out, state, kept, watched = backend.forward(variant, x, given._replace(start=starts), want_state)
    return out, None if state is None else state[:, -sizes(x)[1] :].contiguous(), kept, watched


def true_starts(backend: ModuleType, variant: Variant, x: Tensor, given: Given) -> Tensor:
    """The states at the chunks' starts [STATES, C N], from phases 1 and 2."""
    if variant.schedule == "speculative":
        return speculate(backend, variant, x, given).starts
    neurons = sizes(x)[1]
    start = torch_reference.begin(variant.step, given, x.flatten(1)).to(getattr(torch, variant.real))
    starts = start.new_zeros(len(start), -(-given.steps // given.chunk), neurons)
    starts[:, 0] = start
    ends = ends_from(backend, variant, x, given._replace(start=starts.flatten(1)))
    matrices = products(backend, variant, x, given)
    return walk(backend, matrices, ends.view_as(starts), starts).flatten(1)


def ends_from(backend: ModuleType, variant: Variant, x: Tensor, given: Given) -> Tensor:
    """The states at the chunks' ends [STATES, C N] from these starts."""
    ends: Tensor = backend.forward(without_backward(variant), x, given, True)[1]
    return ends


@functools.cache
def without_backward(variant: Variant) -> Variant:
    return dataclasses.replace(variant, keep="nothing", record=(), traced=False)


def walk(backend: ModuleType, matrices: Tensor, ends: Tensor, starts: Tensor) -> Tensor:
    """z[c + 1] = M[c] z[c] + b[c] from z[0] = starts[:, 0], where z[1] is the end of the first chunk: all z, as `starts`.

    matrices [C or 1, STATES, STATES, N] in float64, ends and starts [STATES, C, N].
    """
    b, z = ends.double().movedim(0, 1).contiguous(), starts.double().movedim(0, 1).contiguous()
    if (native := getattr(backend, "walk", None)) is not None:
        native(matrices, b, z)
    elif len(b) > 1:
        z[1] = b[0]
        for c in range(1, len(b) - 1):
            moved = torch.where(z[c] == 0, 0, matrices[c % len(matrices)] * z[c])
            z[c + 1] = moved.sum(1) + b[c]
    return z.movedim(1, 0).to(starts.dtype).contiguous()


def products(backend: ModuleType, variant: Variant, x: Tensor, given: Given) -> Tensor:
    """M: what each chunk makes of the states at its start [C or 1, STATES, STATES, N], in float64."""
    step, neurons = variant.step, sizes(x)[1]
    states, count = len(step.before), -(-given.steps // given.chunk)
    if affine_of(step).constant(step):
        return power(step, given, given.chunk, neurons, x.device)
    linear, found = linear_variant(variant), []
    for j in range(states):
        unit = x.new_zeros(states, count * neurons, dtype=getattr(torch, variant.real))
        unit[j] = 1
        found.append(ends_from(backend, linear, x, given._replace(start=unit)))
    return torch.stack(found, 1).double().view(states, states, count, neurons).movedim(2, 0).contiguous()


@functools.cache
def linear_variant(variant: Variant) -> Variant:
    """z -> A z alone, without b: as a neuron that does not spike."""
    step, matrix = variant.step, affine_of(variant.step).matrix
    charge = tuple(sum((a * z for a, z in zip(row, step.before, strict=True)), step.x * 0) for row in matrix)
    alone = dataclasses.replace(step, charge=charge, fire=None, reset=step.charged, name=f"{step.name}'s linear part")
    return dataclasses.replace(without_backward(variant), step=alone)


def power(step: Step, given: Given, times: int, neurons: int, device: torch.device) -> Tensor:
    """A to this power, where it is the same at every step [1, STATES, STATES, N]."""
    states = len(step.before)
    p = [torch.tensor(value, dtype=torch.float64, device=device) for value in given.scalars[: len(step.scalars)]]
    if given.per_neuron is not None:
        p += torch_reference.spread(given.per_neuron.double(), given.inner, neurons).unbind(0)
    entries = matrix_function(step)(tuple(p))
    a = torch.stack([torch.as_tensor(z, dtype=torch.float64, device=device).expand(neurons) for z in entries])
    a = torch.linalg.matrix_power(a.view(states, states, neurons).permute(2, 0, 1), times)
    return a.permute(1, 2, 0).unsqueeze(0).contiguous()


@functools.cache
def matrix_function(step: Step) -> Any:
    """A's entries, row by row, of the parameters."""
    entries = [a for row in affine_of(step).matrix for a in row]
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
    count, states = -(-given.steps // given.chunk), len(variant.step.before)
    given = given._replace(start=recomputed_from(variant, g_out, given, kept))
    g_ends = g_out.new_zeros(states, count, neurons, dtype=getattr(torch, variant.real))
    if g_state is not None:
        g_ends[:, -1] = g_state
    if variant.step.temporal_gradient and count > 1:
        rest = given, kept, True
        b = backend.backward(variant, x, g_out, g_ends.flatten(1), g_watched, *rest)[1]
        matrices, nothing, plain = [], torch.zeros_like(g_out), dataclasses.replace(variant, traced=False)
        plain = variant if g_watched is None else plain
        for j in range(states):
            unit = torch.zeros_like(g_ends)
            unit[j] = 1
            none = None if g_watched is None else torch.zeros_like(g_watched)
            matrices.append(backend.backward(variant, x, nothing, unit.flatten(1), none, *rest)[1])
        m = torch.stack(matrices, 1).double().view(states, states, count, neurons).movedim(2, 0)
        g_ends = walk(backend, m.flip(0).contiguous(), b.view_as(g_ends).flip(1), g_ends.flip(1)).flip(1)
    g_x, g_start, g_learned = backend.backward(
        variant, x, g_out, g_ends.flatten(1).contiguous(), g_watched, given, kept, want_g_start
    )
    return g_x, None if g_start is None else g_start[:, :neurons].contiguous(), g_learned


def recomputed_from(variant: Variant, like: Tensor, given: Given, kept: Tensor | None) -> Tensor | None:
    """The states at the chunks' starts [STATES, C N], which keep="input" recomputes from: every so many of those saved."""
    if variant.keeps != "input":
        return None
    start = torch_reference.begin(variant.step, given, like.flatten(1)).to(getattr(torch, variant.real))
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


def speculate(backend: ModuleType, variant: Variant, x: Tensor, given: Given) -> Speculation:
    """The states at the chunks' starts of any neuron, by guessing: exact, bit for bit.

    In the first round every chunk runs from the initial state; in each round after it, those run again whose left neighbour has
    left another state than they began with, until none has. The chunks become final from the left, at least one a round: C rounds
    at most, where no neuron ever forgets; few where it does, by its leak or a hard reset.
    """
    neurons, chunk = sizes(x)[1], given.chunk
    count = -(-given.steps // chunk)
    start = torch_reference.begin(variant.step, given, x.flatten(1)).to(getattr(torch, variant.real))
    starts = start.unsqueeze(1).expand(-1, count, -1).contiguous()
    bits = {4: torch.int32, 8: torch.int64}[start.element_size()]
    ends, again, ran = torch.empty_like(starts), torch.arange(count, device=x.device), []
    while len(again):
        ran.append(torch.zeros(count, dtype=torch.bool).index_fill_(0, again.cpu(), True))
        pieces = x if len(again) == count else torch.cat([x[c * chunk : (c + 1) * chunk] for c in again.tolist()])
        some = given._replace(steps=len(pieces), start=starts[:, again].flatten(1))
        ends[:, again] = ends_from(backend, variant, pieces, some).view(len(start), -1, neurons)
        changed = (ends[:, :-1].view(bits) != starts[:, 1:].view(bits)).any(2).any(0)
        starts[:, 1:] = ends[:, :-1]
        again = changed.nonzero().flatten() + 1
    return Speculation(starts.flatten(1), torch.stack(ran))
