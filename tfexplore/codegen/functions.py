"""The generated part of a fused kernel: a neuron's equations as a handful of small functions.

The time loops in `kernels/` are hand-written, once, and call these functions; only the neuron is generated::

    parameters(scalars, per_neuron, i) -> p       the numbers of neuron i: those that all share, then its own
    charge(z, x, p) -> h                    fire(h, p) -> u                   spike(u, p) -> s
    reset(h, s, p) -> z                     output(z, s) -> out               remember(z, x, h, u, p) -> q
    adjoint(g_out, g, q, p) -> g_x, g, g_p  watch(z, h) -> w

z, h, p, q, w and g are short lists (states, charged states, parameters, what the adjoint needs, what is recorded,
gradients of the states). Where traces are handed out, `adjoint` takes their gradients first: adjoint(g_w, g_out, ...). As
Python they are tuples (`generated_neuron.py`, for Numba), as CUDA C++ small arrays (`neuron.cuh`). q is what is saved for
backward; with keep="bits", the outcomes of comparisons, of which the loops pack several steps into a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sympy import Expr, Symbol

from tfexplore.codegen.printing import Dialect, code
from tfexplore.codegen.variant import Variant

Group: TypeAlias = tuple[str, Symbol | tuple[Symbol, ...]]
"""A name, and the number or the short list of numbers that goes by it."""


@dataclass(frozen=True)
class Function:
    """One generated function: named inputs, assignments, and what it returns.

    gradients: those of the assigned that only gradients use; their last digits are free, all others are exact to the bit.
    """

    name: str
    inputs: tuple[Group, ...]
    body: tuple[tuple[Symbol, Expr], ...]
    outputs: tuple[Group, ...]
    gradients: frozenset[Symbol] = frozenset()

    def used(self) -> set[Symbol]:
        """The symbols that the assignments mention or the function returns."""
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
    """All functions of a variant, in the order in which the loops call them."""
    step = variant.step
    p = (*step.scalars, *step.per_neuron)
    fire = step.fire if step.fire is not None else step.charged[0]
    spike = step.smooth if variant.smooth else step.spike
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
    if variant.keep != "nothing":  # else there is no backward pass, and nothing to derive
        adjoint = variant.adjoint
        recomputed = [pair for pair in ((step.u, fire), (step.s, spike)) if pair[0] in adjoint.recomputed]
        given: tuple[Group, ...] = (("g_out", adjoint.g_out), ("g", adjoint.g_after), ("q", variant.needs), ("p", p))
        given = (("g_w", adjoint.g_traced), *given) if adjoint.g_traced else given
        results = (("g_x", adjoint.g_x), ("g", adjoint.g_before), ("g_p", adjoint.g_learned))
        gradients = frozenset(symbol for symbol, _ in adjoint.body)
        functions.append(Function("adjoint", given, (*recomputed, *adjoint.body), results, gradients))
    return functions


def python_function(function: Function, dialect: Dialect, decorator: str = "") -> str:
    """As Python, for Numba or torch: lists are tuples."""
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
