"""The generated part of a CUDA kernel, `neuron.cuh`: the neuron's functions (see `functions.py`) as CUDA C++.

What the parameters alone decide is computed once per thread, before the loop over time: `derive` puts it behind the
parameters p. Divisions by such numbers then take three operations (`kernels/divide.cuh`): to the bit in the forward pass,
and about right in gradients, whose last digits are free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sympy import Expr, Pow, Symbol

from tfexplore.codegen.functions import Function, Group, functions_of
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
    """As CUDA C++: a function of one number returns it; any other writes what it computes through its last arguments."""
    result = function.outputs[0][1] if len(function.outputs) == 1 else None
    returned = result if isinstance(result, Symbol) else None
    written = [] if returned is not None else output_arguments(function)
    given = [(function.argument(group), values) for group, values in function.inputs]

    body = assignments(function, derived, {value for _, value in written if isinstance(value, Symbol)})
    body += [f"return {returned.name};"] if returned is not None else stores(written)
    body = [*loads(function, derived, words(*body)), *body]

    arguments = [f"real {name}" if isinstance(v, Symbol) else f"const real *{name}" for name, v in given]
    arguments += [f"real &{name}" if isinstance(v, Symbol) else f"real *{name}" for name, v in written]
    kind = "void" if returned is None else "real"
    head = f"__device__ __forceinline__ {kind} {function.name}({', '.join(arguments)}) {{"
    return "\n".join([head, *(f"    {line}" for line in body), "}"]) + "\n"


def output_arguments(function: Function) -> list[Group]:
    """What the function writes, under names that its inputs do not have: the adjoint is given g and gives g_before."""
    taken = {name for name, _ in function.inputs}
    return [(f"{n}_before" if n in taken else function.argument(n), values) for n, values in function.outputs]


def loads(function: Function, derived: Derived, used: set[str]) -> list[str]:
    """The numbers of the given lists, and those derived from the parameters, each under its name where it is used."""
    lines = []
    for group, values in function.inputs:
        if not isinstance(values, Symbol):
            name = function.argument(group)
            lines += [f"const real {z.name} = {name}[{k}];" for k, z in enumerate(values) if z.name in used]
    p = function.argument("p")
    names = enumerate(derived.names.values())
    return lines + [f"const real {name} = {p}[SCALARS + PER_NEURON + {k}];" for k, name in names if name in used]


def assignments(function: Function, derived: Derived, declared: set[Symbol]) -> list[str]:
    """The function's equations; `declared` are arguments already."""
    lines = []
    for symbol, value in function.body:
        declaration = "" if symbol in declared else "const real "
        text = CudaPrinter(derived, symbol in function.gradients).doprint(value)
        lines.append(f"{declaration}{symbol.name} = {text};")
    return lines


def stores(written: list[Group]) -> list[str]:
    """The lists among the outputs; an output of one number is assigned where it is computed."""
    lists = [(name, values) for name, values in written if not isinstance(values, Symbol)]
    return [f"{name}[{k}] = {symbol.name};" for name, values in lists for k, symbol in enumerate(values)]


def words(*texts: str) -> set[str]:
    return set(re.findall(r"\w+", " ".join(texts)))


def derive_function(derived: Derived, parameters: tuple[Symbol, ...]) -> str:
    used = words(*derived.names)
    p = "p_" if "p" in used else "p"  # a parameter called p keeps its name
    lines = [f"__device__ __forceinline__ void derive(real *{p}) {{"]
    lines += [f"    const real {symbol.name} = {p}[{k}];" for k, symbol in enumerate(parameters) if symbol.name in used]
    lines += [
        f"    {p}[SCALARS + PER_NEURON + {k}] = {text};  // {name}"
        for k, (text, name) in enumerate(derived.names.items())
    ]
    return "\n".join([*lines, "}"]) + "\n"


def cuda_functions(variant: Variant) -> dict[str, str]:
    """The neuron's functions by name, `derive` first."""
    step = variant.step
    parameters = (*step.scalars, *step.per_neuron)
    functions = functions_of(variant)
    groups = {group for function in functions for group, _ in (*function.inputs, *function.outputs)}
    symbols = {s.name for f in functions for s in f.used() | {symbol for symbol, _ in f.body}}
    derived = Derived(frozenset(parameters), groups | symbols)
    texts = {function.name: cuda_function(function, derived) for function in functions}
    return {"derive": derive_function(derived, parameters)} | texts


def step_back(variant: Variant) -> str:
    """What the loop calls: `adjoint`, which takes gradients of traces only where there are any."""
    given = "g_w, g_out" if variant.traced else "g_out"
    return (
        "__device__ __forceinline__ void step_back(const real *g_w, real g_out, const real *g, const real *q, const real *p, "
        f"real &g_x, real *g_before, real *g_p) {{\n    adjoint({given}, g, q, p, g_x, g_before, g_p);\n}}\n"
    )


def cuda_source(variant: Variant) -> str:
    """The header `neuron.cuh` that `kernels/*.cu` include."""
    step = variant.step
    functions = cuda_functions(variant)
    constants = {
        "STATES": len(step.before),
        "SCALARS": len(step.scalars),
        "PER_NEURON": len(step.per_neuron),
        "LEARNED": len(step.learned),
        "DERIVED": functions["derive"].count("[SCALARS + PER_NEURON + "),  # numbers that follow from those
        "NEEDS": len(variant.needs),
        "WATCHED": len(variant.record),
        "TRACED": int(variant.traced),
        "CONSTANT": int(variant.constant),
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
    glue = [step_back(variant)] if variant.keep != "nothing" else []
    return head + "\n" + "\n".join([*functions.values(), *glue])
