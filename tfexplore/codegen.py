"""The generated part of a fused kernel: a neuron's equations as a handful of small functions.

The time loops in `kernels/` are written by hand, once, and call these functions; what is generated is only the neuron:

    parameters(scalars, rows, i) -> p       the numbers of neuron i: shared ones, then learned ones
    charge(z, x, p) -> h                    fire(h, p) -> u                   spike(u, p) -> s
    reset(h, s, p) -> z                     output(z, s) -> out               remember(z, x, h, u, p) -> q
    adjoint(g_out, g, q, p) -> g_x, g, g_p  watch(z, h) -> w

z, h, p, q, w and g are short lists (states, charged states, parameters, what the adjoint needs, what is recorded,
gradients of the states). As Python they are tuples (`neuron.py`, for Numba), as CUDA C++ small arrays (`neuron.cuh`).
With keep="bits", q holds the outcomes of comparisons, and the loops pack those of several steps into a byte.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol

from tfexplore.adjoint import BYTE, Adjoint, adjoint_of, in_bits
from tfexplore.builds import Config, Shape, default
from tfexplore.printing import NUMBA, Dialect, code
from tfexplore.step import Step

LONGEST_CHUNK = 32
"""Time steps that the way back recomputes at once with keep="input" on a CPU, whose caches hold them."""


@dataclass(frozen=True)
class Variant:
    """What one compiled kernel is made for; every number (tau, thresholds, T, N) is a run-time argument instead.

    real: the dtype of the state ("float32", "float64"); data: that of x and the spikes (half precision too, on a GPU).
    config: how its kernels are built for a GPU; None on a CPU.
    keep: "nothing" (no way back), "potential", "input" or "bits" (see `keep.py`).
    """

    step: Step
    real: str = "float32"
    data: str = "float32"
    keep: str = "nothing"
    record: tuple[str, ...] = ()
    relaxed: bool = False
    config: Config | None = None

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in dataclasses.fields(self)))

    def __hash__(self) -> int:  # of every call of a kernel, which is found by its variant
        return self._hash

    @functools.cached_property
    def adjoint(self) -> Adjoint:
        adjoint = adjoint_of(self.step)
        return in_bits(adjoint, self.step) if self.keep == "bits" else adjoint

    @functools.cached_property
    def needs(self) -> tuple[Symbol, ...]:
        """What the adjoint needs of every step: values, or with keep="bits" the outcomes of comparisons."""
        if self.keep == "nothing":
            return ()
        return tuple(bit for bit, _ in self.adjoint.bits) if self.keep == "bits" else self.adjoint.needs

    @functools.cached_property
    def keeps(self) -> str:
        """As `keep`, but "nothing" for a neuron whose adjoint needs nothing of the way there: one that is linear."""
        return self.keep if self.needs else "nothing"

    @functools.cached_property
    def in_bits(self) -> bool:
        """Whether what is kept are bytes."""
        return self.keeps == "bits"

    @functools.cached_property
    def width(self) -> int:
        """Bits that one time step takes of a byte with keep="bits": 1, 2, 4 or 8, so that no step straddles two."""
        return 1 << (max(1, len(self.needs)) - 1).bit_length()

    @functools.cached_property
    def steps(self) -> int:
        """Time steps that share a byte of what is kept; 1 without bits."""
        return BYTE // self.width if self.in_bits else 1

    @functools.cached_property
    def chunk(self) -> int:
        """Steps per chunk, a power of two: on a GPU the config's; a CPU's cache holds more."""
        return self.config.chunk if self.config else max(1, LONGEST_CHUNK >> (max(1, len(self.needs)) - 1).bit_length())

    @functools.cached_property
    def shape(self) -> Shape:
        step = self.step
        return Shape(self.real, self.data, self.keeps, len(step.before), len(self.needs), bool(step.rows))

    @property
    def on_gpu(self) -> bool:
        return self.config is not None

    def for_gpu(self, config: Config | None = None) -> Variant:
        """This variant on a GPU, built so, or as predicted to be the fastest (`backends.tuned.built` knows what was measured)."""
        return dataclasses.replace(self, config=config or default(self.shape))

    @functools.cached_property
    def kept_dtype(self) -> str:
        return "uint8" if self.in_bits else self.real

    def kept_shape(self, steps: int, neurons: int) -> tuple[int, int, int]:
        """What the forward pass writes for the way back."""
        if self.keeps == "potential":
            return steps, len(self.needs), neurons
        if self.keeps == "bits":
            return -(-steps // self.steps), 1, neurons
        if self.keeps == "input":  # a GPU takes the first chunk's from `start`
            chunks = (max(steps, 1) - 1) // self.chunk if self.on_gpu else -(-steps // self.chunk)
            return chunks, len(self.step.before), neurons
        return 1, 0, neurons


@dataclass(frozen=True)
class Function:
    """One generated function: named inputs (a symbol, or a short list of symbols), assignments, and what it returns.

    gradients: those of the assigned that only gradients use; their last digits are free, all others are exact to the bit.
    """

    name: str
    inputs: tuple[tuple[str, Symbol | tuple[Symbol, ...]], ...]
    body: tuple[tuple[Symbol, Expr], ...]
    outputs: tuple[tuple[str, Symbol | tuple[Symbol, ...]], ...]
    gradients: frozenset[Symbol] = frozenset()

    def used(self) -> set[Symbol]:
        mentioned: set[Symbol] = set().union(*(value.free_symbols for _, value in self.body), set())
        for _, given in self.outputs:
            mentioned |= {given} if isinstance(given, Symbol) else set(given)
        return mentioned

    def argument(self, group: str) -> str:
        """The group's name as an argument, unless the neuron has a symbol of that name (a state called z, say)."""
        lists = {name: given for name, given in (*self.inputs, *self.outputs) if not isinstance(given, Symbol)}
        names = {symbol.name for given in lists.values() for symbol in given}
        return f"{group}_" if group in lists and group in names else group


def functions_of(variant: Variant) -> list[Function]:
    step = variant.step
    p = (*step.scalars, *step.rows)
    fire = step.fire if step.fire is not None else step.charged[0]
    spike = step.smooth if variant.relaxed else sympy.Heaviside(step.u, 1)
    watched = {**{z.name: n for z, n in zip(step.before, step.after, strict=True)}, "h": step.charged[0]}
    watch = tuple(watched[name] for name in variant.record)
    z, h, after = step.before, step.charged, step.after
    compared = variant.adjoint.bits if variant.keep == "bits" else ()
    functions = [
        Function("charge", (("z", z), ("x", step.x), ("p", p)), tuple(zip(h, step.charge, strict=True)), (("h", h),)),
        Function("fire", (("h", h), ("p", p)), ((step.u, fire),), (("u", step.u),)),
        Function("spike", (("u", step.u), ("p", p)), ((step.s, spike),), (("s", step.s),)),
        Function(
            "reset", (("h", h), ("s", step.s), ("p", p)), tuple(zip(after, step.reset, strict=True)), (("z", after),)
        ),
        Function(
            "output", (("z", after), ("s", step.s)), (), (("out", step.s if step.fire is not None else after[0]),)
        ),
        Function(
            "remember", (("z", z), ("x", step.x), ("h", h), ("u", step.u), ("p", p)), compared, (("q", variant.needs),)
        ),
        Function("watch", (("z", after), ("h", h)), (), (("w", watch),)),
    ]
    if variant.keep != "nothing":  # else there is no way back, and nothing to derive
        adjoint = variant.adjoint
        recomputed = [pair for pair in ((step.u, fire), (step.s, spike)) if pair[0] in adjoint.recomputed]
        given = (("g_out", adjoint.g_out), ("g", adjoint.g_after), ("q", variant.needs), ("p", p))
        results = (("g_x", adjoint.g_x), ("g", adjoint.g_before), ("g_p", adjoint.g_rows))
        gradients = frozenset(symbol for symbol, _ in adjoint.body)
        functions.append(Function("adjoint", given, (*recomputed, *adjoint.body), results, gradients))
    return functions


def python_function(function: Function, dialect: Dialect, decorator: str = "") -> str:
    used = function.used()
    inputs = [(function.argument(group), given) for group, given in function.inputs]
    lines = [f"{decorator}def {function.name}({', '.join(group for group, _ in inputs)}):"]
    for group, given in inputs:
        if not isinstance(given, Symbol):
            lines += [f"    {symbol.name} = {group}[{k}]" for k, symbol in enumerate(given) if symbol in used]
        elif given.name != group:
            lines.append(f"    {given.name} = {group}")
    body = [f"    {symbol.name} = {code(value, dialect)}" for symbol, value in function.body]
    if any("LIKE" in line for line in body):  # see printing.TORCH: the first state, or u
        group, given = inputs[0]
        lines.append(f"    LIKE = {group if isinstance(given, Symbol) else group + '[0]'}")
    lines += body
    results = []
    for _, given in function.outputs:
        names = [given.name] if isinstance(given, Symbol) else [symbol.name for symbol in given]
        results.append(names[0] if isinstance(given, Symbol) else f"({', '.join(names)}{',' * (len(names) == 1)})")
    return "\n".join([*lines, f"    return {', '.join(results)}"]) + "\n"


def numba_source(variant: Variant) -> str:
    """The module `neuron.py` of the loops of `kernels/*.py`. Its functions need none but `real` of its other names."""
    step = variant.step
    jit = '@njit(inline="always")\n'  # else each is compiled by itself first: 1.0 s for a LIF both ways instead of 0.6
    count = len(step.scalars)
    rows = [f"rows[{k}][i]" for k in range(len(step.rows))]
    numbers = "".join(f"scalars[{k}], " for k in range(count))
    taken = [f"shared[{k}]" for k in range(count)] + rows
    head = f'''"""Generated from the equations of {step.name}; see tfexplore/codegen.py."""

import math

import numpy as np
from numba import njit
from tfexplore.backends.streaming import cut

real = np.{variant.real}
STATES = {len(step.before)}
NEEDS = {len(variant.needs)}
ROWS = {len(rows)}
WATCHED = {len(variant.record)}
CHUNK = {variant.chunk}
KEEP_POTENTIAL = {variant.keeps == "potential"}
KEEP_INPUT = {variant.keeps == "input"}
KEEP_BITS = {variant.in_bits}
STEPS = {variant.steps}
WIDTH = {variant.width}


{jit}def shared(scalars):
    return ({numbers})


{jit}def parameters(shared, rows, i):
    return ({", ".join([*taken, ""])})
'''
    for name, size in {
        "z": len(step.before),
        "q": 1 if variant.in_bits else len(variant.needs),
        "p": len(rows),
        "w": len(variant.record),
    }.items():
        cuts = "".join(f"cut(a, {k}, begin, end), " for k in range(size))
        values = "".join(f"rows[{k}][i], " for k in range(size))
        stores = "".join(f"    rows[{k}][i] = values[{k}]\n" for k in range(size)) or "    pass\n"
        head += f"\n\n{jit}def cut_{name}(a, begin, end):\n    return ({cuts})\n"
        head += f"\n\n{jit}def load_{name}(rows, i):\n    return ({values})\n"
        head += f"\n\n{jit}def store_{name}(rows, i, values):\n{stores}"
    places = [f"(place + np.uint8({k}))" for k in range(len(variant.needs) if variant.in_bits else 0)]
    outcomes = "".join(f"(q[0] >> {place}) & np.uint8(1) != 0, " for place in places)
    packed = " | ".join(["before", *(f"np.uint8(values[{k}]) << {place}" for k, place in enumerate(places))])
    head += f"\n\n{jit}def unpack(q, place):\n    return ({outcomes})\n"
    head += f"\n\n{jit}def pack(before, values, place):\n    before = before if place else np.uint8(0)\n    return {packed}\n"
    sums = "".join(f"a[{k}] + b[{k}], " for k in range(len(rows)))
    head += f"\n\n{jit}def add_p(a, b):\n    return ({sums})\n"
    return head + "\n\n" + "\n\n".join(python_function(f, NUMBA, jit) for f in functions_of(variant))


def fingerprint(*texts: str) -> str:
    """A short content hash: equal texts share one compiled kernel, whoever wrote them and in whichever process."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
