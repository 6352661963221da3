"""How a layer walks time: the choices, and which is the fastest::

    serial        the fused loop over time
    chunked       chunks of time side by side, a scan in three phases (backends/chunked.py): backward for every neuron, forward
                  where the step is affine in the states
    speculative   the forward pass of any neuron by chunks from guessed states, again and again until nothing changes: the bits
                  of "serial"; backward as "chunked"
    auto          the faster of "serial" and "chunked" by the cycles predicted here, where that changes no spike: each backward
                  pass for itself, and the forward pass of a neuron that does not spike. On a GPU serial, until it is measured

The serial loop waits: a step's operations on a state follow from each other, and with few neurons there is nothing else to
compute meanwhile. Chunks fill the lanes and the threads, for twice the operations, and are laid out before and after.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import sympy
from sympy import Expr, Symbol

from tfexplore.codegen.variant import Variant
from tfexplore.neurons import affine

SCHEDULES = ("serial", "chunked", "speculative")

LATENCY = {"sum": 4, "quotient": 13, "function": 40}
"""Cycles until the result of a sum or a product, a division, and a function can be used (x86-64, float32)."""
WORK = {"sum": 1, "quotient": 16, "function": 300}
"""Cycles in which a core starts the next one of 16 lanes; a function is computed lane by lane."""
LANES = 16
STEP = 25
"""Cycles of a time step in which nothing is computed: piece by piece the rows are found, prefetched and written."""
MOVE = {True: 2.0, False: 5.0}
"""Cycles for laying out a number, or laying it back: one neuron's by squares in registers, or those of several row by row."""
FIXED = {"forward": 500_000, "backward": 700_000}
"""Cycles that the calls of the phases take, whatever their size: some ten, most of them in Python."""
SHARED = 0.7
"""How much of its time a second thread is worth, laying out included."""
MARGIN = 1.25
"""By how much "chunked" must be predicted to be faster: a prediction wrong by less makes nothing slower."""
COLUMNS = 2048
"""Chunks times neurons that fill a core's lanes and outweigh `STEP`; more of them only shorten the chunks."""


def check(schedule: str, backend: str = "auto") -> None:
    """Raises ValueError for an unknown choice, or one that the eager backend does not have."""
    if schedule not in (allowed := ("auto", *SCHEDULES)):
        raise ValueError(f"schedule must be one of {', '.join(map(repr, allowed))}, but got {schedule!r}.")
    if backend == "torch" and in_chunks(schedule):
        raise ValueError(
            f"schedule={schedule!r} belongs to the fused kernels, and backend='torch' is an eager loop; use backend='auto', or "
            "tfexplore.scan for a scan in plain torch."
        )


def in_chunks(schedule: str) -> bool:
    """Whether it was asked for chunks by name."""
    return schedule in ("chunked", "speculative")


def refuse(schedule: str, reason: str) -> None:
    """Raises ValueError, with the reason, where it was asked for chunks by name and there can be none."""
    if in_chunks(schedule):
        raise ValueError(
            f"schedule={schedule!r} runs chunks of time side by side, but {reason}; use schedule='auto' or 'serial'."
        )


class Cycles(NamedTuple):
    """The predicted cost of a pass on a CPU."""

    serial: float
    chunked: float


@functools.lru_cache(maxsize=4096)
def predicted(variant: Variant, loop: str, steps: int, neurons: int, threads: int) -> Cycles:
    """The cycles of a pass ("forward", "backward") over T steps of N neurons, serial and in chunks.

    >>> from tfexplore import neurons
    >>> one, many = (predicted(Variant(neurons.step_of(neurons.LI())), "forward", 65536, n, 1) for n in (1, 256))
    >>> one.chunked < one.serial, many.chunked < many.serial
    (True, False)
    """
    costs = [cost_of(variant, "forward")] if loop == "forward" or variant.keeps == "input" else []
    costs += [cost_of(variant, "backward")] if loop == "backward" else []

    def walked(length: int, columns: int, threads: int) -> float:
        """A loop over time; `keep="input"` walks it twice, backward."""
        each = columns / threads
        return sum(length * max(cost.chain, STEP + each / LANES * cost.work) for cost in costs)

    chunk = longest(variant, steps, neurons)
    if not chunk:
        return Cycles(walked(steps, neurons, min(threads, -(-neurons // 1024))), math.inf)
    helped = 1 + (threads - 1) * SHARED
    words = (
        2 if loop == "forward" else 2 + (variant.keeps == "input") + len(variant.needs) * (variant.keeps == "potential")
    )
    moved = words * steps * neurons * MOVE[neurons == 1] / helped
    phases = 2 * walked(chunk, -(-steps // chunk) * neurons, 1) / helped
    return Cycles(walked(steps, neurons, min(threads, -(-neurons // 1024))), FIXED[loop] + moved + phases)


@functools.lru_cache(maxsize=4096)
def length(variant: Variant, loop: str, steps: int, neurons: int, threads: int) -> int:
    """The length of the chunks in which a pass runs ("forward", "backward"), 0 for one piece."""
    if variant.schedule == "serial" or variant.constant or why_not(variant, loop):
        return 0
    chunk = longest(variant, steps, neurons)
    if variant.schedule == "auto" and chunk:
        cost = predicted(variant, loop, steps, neurons, threads)
        return chunk if cost.chunked * MARGIN < cost.serial else 0
    return chunk


def why_not(variant: Variant, loop: str) -> str:
    """Why a pass of this variant never runs in chunks, or "".

    >>> from tfexplore import neurons
    >>> print(why_not(Variant(neurons.step_of(neurons.LIF()), schedule="chunked"), "forward"))
    its v[t] depends on its own spike, which is a comparison of the state (reset='soft')
    """
    if loop == "backward" or variant.schedule == "speculative":
        return ""
    if reason := affine.why_not(variant.step):
        return reason
    if variant.schedule == "auto" and variant.step.fire is not None and not variant.smooth:
        return "a last digit may decide a spike, and 'auto' changes none; ask for 'chunked'"
    return ""


def longest(variant: Variant, steps: int, neurons: int) -> int:
    """The length of the chunks, a multiple of what is saved together; 0 where T is too short for two.

    A power of two where that is one: whole squares to lay out (a pass of 64 or 128 steps takes half the time of one of 96), and
    for most T no last chunk that is shorter.
    """
    unit = math.lcm(variant.steps, variant.chunk if variant.keeps == "input" else 1)
    count = max(2, min(COLUMNS // max(neurons, 1), 2 * math.isqrt(steps)))
    chunk = unit << (max(1, -(-steps // (count * unit))) - 1).bit_length()
    return chunk if chunk < steps else 0


class Cost(NamedTuple):
    """Of one time step: cycles from a state to itself, and to start all operations in 16 lanes."""

    chain: int
    work: int


@functools.lru_cache(maxsize=256)
def cost_of(variant: Variant, loop: str) -> Cost:
    """The cost of a step forward or backward, counted in its equations.

    >>> from tfexplore import neurons
    >>> cost_of(Variant(neurons.step_of(neurons.IF(reset="none"))), "forward")
    Cost(chain=4, work=4)
    """
    step = variant.step
    if loop == "forward":
        fire = [] if step.fire is None else [(step.u, step.fire), (step.s, step.spike)]
        charge, reset = zip(step.charged, step.charge, strict=True), zip(step.after, step.reset, strict=True)
        body: list[tuple[Symbol, Expr]] = [*charge, *fire, *reset]
        begin, end = step.before, step.after
    else:
        body, begin, end = [*variant.adjoint.body], variant.adjoint.g_after, variant.adjoint.g_before
    depths: dict[Symbol, int] = dict.fromkeys(begin, 0)
    work = 0
    for symbol, value in body:
        depth, own = counted(value, depths)
        work += own
        if depth is not None:
            depths[symbol] = depth
    return Cost(max((depths.get(symbol, 0) for symbol in end), default=0), work)


def counted(value: Expr, depths: Mapping[Symbol, int]) -> tuple[int | None, int]:
    """Cycles until the value is there after the symbols of `depths` (None: it needs none of them), and to start its operations.

    What is made of x and parameters alone lengthens no chain. Its work counts nevertheless, even where it is computed once,
    before the loop: h - v_threshold is a sum and a sign.
    """
    if isinstance(value, Symbol):
        return depths.get(value), 0
    parts = [counted(part, depths) for part in value.args]
    depth = max((d for d, _ in parts if d is not None), default=None)
    kind, times = operations(value)
    return None if depth is None else depth + LATENCY[kind] * times, sum(w for _, w in parts) + WORK[kind] * times


def operations(value: Expr) -> tuple[str, int]:
    """What an expression does with its parts, and how often."""
    if isinstance(value, sympy.Pow) and value.exp.is_Integer:
        return ("quotient", 1) if value.exp < 0 else ("sum", int(value.exp) - 1)
    if isinstance(value, sympy.Function) and not isinstance(value, sympy.Heaviside | sympy.Abs | sympy.Piecewise):
        return ("sum", 0) if type(value).__name__ in ("first", "detached") else ("function", 1)
    return "sum", max(1, len(value.args) - 1) if value.args else 0


class Walks(NamedTuple):
    """How time is walked for an input: each pass "serial", "chunked" or "speculative", and why.

    >>> Walks("serial", "chunked", "requested").forward
    'serial'
    """

    forward: str
    backward: str
    reason: str


def walks(variant: Variant, steps: int, neurons: int, threads: int) -> Walks:
    """What runs, as `length` decides."""
    chosen = {loop: length(variant, loop, steps, neurons, threads) for loop in ("forward", "backward")}
    chunked = "speculative" if variant.schedule == "speculative" else "chunked"
    forward, backward = chunked if chosen["forward"] else "serial", "chunked" if chosen["backward"] else "serial"
    return Walks(forward, backward, reason_of(variant, chosen, steps, neurons, threads))


def reason_of(variant: Variant, chosen: Mapping[str, int], steps: int, neurons: int, threads: int) -> str:
    if variant.schedule == "serial":
        return "requested"
    reasons: Iterable[str] = filter(None, (why_not(variant, loop) for loop in chosen))
    if refused := next(iter(reasons), ""):
        refused = f"forward: {refused}"
    if variant.schedule != "auto":
        return refused or ("requested" if any(chosen.values()) else f"{steps} steps are too few for two chunks")
    costs = {loop: predicted(variant, loop, steps, neurons, threads) for loop in chosen if not why_not(variant, loop)}
    said = [
        f"{loop}: {cost.serial / 1e6:.2g} million cycles predicted for serial, {cost.chunked / 1e6:.2g} for chunked"
        for loop, cost in costs.items()
    ]
    return "; ".join([*said, *([refused] if refused else [])])
