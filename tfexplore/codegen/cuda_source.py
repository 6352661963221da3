"""The generated part of a CUDA kernel, `neuron.cuh`: the neuron's functions (see `codegen.py`) as CUDA C++.

What the parameters alone decide is computed once per thread, before the loop over time: `derive` puts it behind the
parameters p. Divisions by such numbers then take three operations (`kernels/divide.cuh`): to the bit in the forward pass,
and about right in gradients, whose last digits are free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sympy import Expr, Pow, Symbol

from tfexplore.codegen.functions import Function, functions_of
from tfexplore.codegen.printing import CUDA, CodePrinter, code
from tfexplore.codegen.variant import Variant

DATA = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
HEADER = {"float16": "#include <cuda_fp16.h>\n", "bfloat16": "#include <cuda_bf16.h>\n"}


@dataclass
class Derived:
    """Numbers that follow from the parameters: the expressions that give them, as text, and their names."""

    parameters: frozenset[Symbol]
    taken: set[str]
    names: dict[str, str] = field(default_factory=dict)

    def name(self, text: str, wish: str = "") -> str:
        """The name of the number that `text` computes: the wish, if it is an identifier that nothing else has."""
        if text not in self.names:
            free = wish.isidentifier() and wish not in self.taken
            self.names[text] = wish if free else f"derived_{len(self.names)}"
            self.taken.add(self.names[text])
        return self.names[text]

    def decides(self, *values: Expr) -> bool:
        return all(value.free_symbols <= self.parameters for value in values)


class CudaPrinter(CodePrinter):
    """Prints for a loop over time: exact to the bit, or a gradient."""

    def __init__(self, derived: Derived, gradient: bool) -> None:
        super().__init__(CUDA)
        self.derived, self.gradient = derived, gradient

    def _print(self, expr: object, **kwargs: object) -> str:
        if isinstance(expr, Expr) and not expr.is_number and self.derived.decides(expr) and divides(expr):
            return self.derived.name(code(expr, CUDA))
        return super()._print(expr, **kwargs)

    def _quotient(self, top: str, below: list[Expr]) -> str:
        bottom = "*".join(map(self._factor, below))
        if not self.derived.decides(*below):
            return f"ratio({top}, {bottom})" if self.gradient else super()._quotient(top, below)
        if self.gradient:
            return f"{top}*{self.derived.name(f'real(1.0)/({bottom})', f'one_over_{bottom}')}"
        return f"divide({top}, {bottom}, {self.derived.name(f'reciprocal({bottom})', f'inverse_{bottom}')})"

    def _print_Relational(self, expr: Expr) -> str:
        """Exact in gradients too: keep="bits" compares in the forward pass, the others in the backward pass."""
        gradient, self.gradient = self.gradient, False
        text = super()._print_Relational(expr)
        self.gradient = gradient
        return text


def divides(expr: Expr) -> bool:
    return any(power.exp.could_extract_minus_sign() for power in expr.atoms(Pow))


def cuda_function(function: Function, derived: Derived) -> str:
    single = len(function.outputs) == 1 and isinstance(function.outputs[0][1], Symbol)
    inputs = [(function.argument(group), given) for group, given in function.inputs]
    arguments = [f"real {g}" if isinstance(s, Symbol) else f"const real *{g}" for g, s in inputs]
    if not single:
        taken = {group for group, _ in function.inputs}
        renamed = [(f"{g}_before" if g in taken else function.argument(g), s) for g, s in function.outputs]
        arguments += [f"real &{g}" if isinstance(s, Symbol) else f"real *{g}" for g, s in renamed]
    arguments_out = set() if single else {given for _, given in function.outputs if isinstance(given, Symbol)}
    body = []
    for symbol, value in function.body:
        declare = "" if symbol in arguments_out else "const real "
        text = CudaPrinter(derived, symbol in function.gradients).doprint(value)
        body.append(f"    {declare}{symbol.name} = {text};")
    if single:
        body.append(f"    return {function.outputs[0][1].name};")  # type: ignore[union-attr]  # a symbol when single
    else:
        for group, given in renamed:
            if not isinstance(given, Symbol):
                body += [f"    {group}[{k}] = {symbol.name};" for k, symbol in enumerate(given)]
    used = words(*body)
    head = [f"__device__ __forceinline__ {'real' if single else 'void'} {function.name}({', '.join(arguments)}) {{"]
    for group, given in inputs:
        if not isinstance(given, Symbol):
            head += [f"    const real {z.name} = {group}[{k}];" for k, z in enumerate(given) if z.name in used]
    p = function.argument("p")
    head += [
        f"    const real {n} = {p}[SCALARS + ROWS + {k}];" for k, n in enumerate(derived.names.values()) if n in used
    ]
    return "\n".join([*head, *body, "}"]) + "\n"


def words(*texts: str) -> set[str]:
    return set(re.findall(r"\w+", " ".join(texts)))


def derive_function(derived: Derived, parameters: tuple[Symbol, ...]) -> str:
    used = words(*derived.names)
    p = "p_" if "p" in used else "p"  # a parameter called p keeps its name
    lines = [f"__device__ __forceinline__ void derive(real *{p}) {{"]
    lines += [f"    const real {symbol.name} = {p}[{k}];" for k, symbol in enumerate(parameters) if symbol.name in used]
    lines += [
        f"    {p}[SCALARS + ROWS + {k}] = {text};  // {name}" for k, (text, name) in enumerate(derived.names.items())
    ]
    return "\n".join([*lines, "}"]) + "\n"


def cuda_functions(variant: Variant) -> dict[str, str]:
    """The neuron's functions by name, `derive` first."""
    step = variant.step
    parameters = (*step.scalars, *step.rows)
    functions = functions_of(variant)
    groups = {group for function in functions for group, _ in (*function.inputs, *function.outputs)}
    symbols = {s.name for f in functions for s in f.used() | {symbol for symbol, _ in f.body}}
    derived = Derived(frozenset(parameters), groups | symbols)
    texts = {function.name: cuda_function(function, derived) for function in functions}
    return {"derive": derive_function(derived, parameters)} | texts


def cuda_source(variant: Variant) -> str:
    """The header `neuron.cuh` that `kernels/*.cu` include."""
    step = variant.step
    functions = cuda_functions(variant)
    constants = {
        "STATES": len(step.before),
        "SCALARS": len(step.scalars),
        "ROWS": len(step.rows),
        "DERIVED": functions["derive"].count("[SCALARS + ROWS + "),  # numbers that follow from those
        "NEEDS": len(variant.needs),
        "WATCHED": len(variant.record),
        "KEEP_POTENTIAL": int(variant.keeps == "potential"),
        "KEEP_INPUT": int(variant.keeps == "input"),
        "KEEP_BITS": int(variant.in_bits),
        "STEPS": variant.steps,  # time steps in one byte of what is kept
        "WIDTH": variant.width,  # bits of one step
    }
    head = f"// Generated from the equations of {step.name}; see tfexplore/codegen/cuda_source.py.\n#pragma once\n"
    head += HEADER.get(variant.data, "") + '#include "divide.cuh"\n'
    head += f"typedef {DATA[variant.real]} real;  // the state's type\n"
    head += f"typedef {DATA[variant.data]} data;  // that of x and the spikes\n"
    head += f"typedef {'unsigned char' if variant.in_bits else 'real'} saved;  // that of what is kept\n"
    head += "".join(f"#define {key} {value}\n" for key, value in constants.items())
    head += "// by value: the numbers that all neurons share, then the states in which they begin\n"
    head += "struct Scalars { real value[SCALARS + STATES]; };\n"
    return head + "\n" + "\n".join(functions.values())
