"""The generated part of a Numba kernel: the neuron's functions (see `functions.py`) as Python, with sizes, loads and stores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tfexplore.codegen.functions import functions_of, python_function
from tfexplore.codegen.printing import NUMBA
from tfexplore.codegen.variant import Variant

MODULE = "generated_neuron"
"""The name under which the loops of `kernels/*.py` import it."""
JIT = '@njit(inline="always")\n'
"""Else each function is compiled by itself first: 1.0 s for a LIF, forward and backward, instead of 0.6."""


def numba_source(variant: Variant) -> str:
    """The module `generated_neuron` of a variant. Its functions need none but `real` of its other names."""
    add_p = inlined("add_p(a, b)", returned(f"a[{k}] + b[{k}]" for k in range(len(variant.learned))))
    given = "g_w, g_out, g, q, p" if variant.traced else "g_out, g, q, p"
    back = inlined("step_back(g_w, g_out, g, q, p)", f"return adjoint({given})") if variant.keep != "nothing" else ""
    neuron = numba_functions(variant, JIT).values()
    return "\n\n".join(
        [header(variant), *parameters(variant), *loads_and_stores(variant), *bits(variant), add_p, *neuron, back]
    )


def numba_functions(variant: Variant, decorator: str = "") -> dict[str, str]:
    """The neuron's functions by name."""
    return {function.name: python_function(function, NUMBA, decorator) for function in functions_of(variant)}


def header(variant: Variant) -> str:
    """The imports, and what the loops must know of the variant."""
    constants = {
        "STATES": len(variant.step.before),
        "SCALARS": len(variant.step.scalars),
        "NEEDS": len(variant.needs),
        "GRADIENTS": len(variant.adjoint.g_after) if variant.keep != "nothing" else 0,
        "PER_NEURON": len(variant.step.per_neuron),
        "LEARNED": len(variant.learned),
        "WATCHED": len(variant.record),
        "TRACED": variant.traced,
        "CONSTANT": variant.constant,
        "CHUNK": variant.chunk,
        "KEEP_POTENTIAL": variant.keeps == "potential",
        "KEEP_INPUT": variant.keeps == "input",
        "KEEP_BITS": variant.in_bits,
        "STEPS": variant.steps,
        "WIDTH": variant.width,
    }
    lines = [
        f'"""Generated from the equations of {variant.step.name}; see tfexplore/codegen/numba_source.py."""\n',
        "import math\n",
        "import numpy as np",
        "from numba import njit",
        "from tfexplore.backends.streaming import cut\n",
        f"real = np.{variant.real}",
        *(f"{name} = {value}" for name, value in constants.items()),
    ]
    return "\n".join(lines) + "\n"


def parameters(variant: Variant) -> Iterator[str]:
    """p: the numbers that all neurons share, then those of neuron i."""
    count, own = len(variant.step.scalars), len(variant.step.per_neuron)
    yield inlined("shared(scalars)", returned(f"scalars[{k}]" for k in range(count)))
    taken = [*(f"shared[{k}]" for k in range(count)), *(f"per_neuron[{k}][i]" for k in range(own))]
    yield inlined("parameters(shared, per_neuron, i)", returned(taken))


def loads_and_stores(variant: Variant) -> Iterator[str]:
    """For each short list that lies in memory: its arrays cut to a piece of the neurons, and its numbers read and written."""
    sizes = {
        "z": len(variant.step.before),
        "q": 1 if variant.in_bits else len(variant.needs),
        "p": len(variant.step.per_neuron),
        "g": len(variant.adjoint.g_after) if variant.keep != "nothing" else 0,
        "g_p": len(variant.learned),
        "w": len(variant.record),
        "g_w": len(variant.record) * variant.traced,
    }
    for name, size in sizes.items():
        yield inlined(f"cut_{name}(a, begin, end)", returned(f"cut(a, {k}, begin, end)" for k in range(size)))
        yield inlined(f"load_{name}(arrays, i)", returned(f"arrays[{k}][i]" for k in range(size)))
        stores = [f"arrays[{k}][i] = values[{k}]" for k in range(size)]
        yield inlined(f"store_{name}(arrays, i, values)", *(stores or ["pass"]))


def bits(variant: Variant) -> Iterator[str]:
    """q as bits of a byte from `place` on: taken out, and put in beside those of the time steps before."""
    places = [f"(place + np.uint8({k}))" for k in range(len(variant.needs) if variant.in_bits else 0)]
    yield inlined("unpack(q, place)", returned(f"(q[0] >> {place}) & np.uint8(1) != 0" for place in places))
    packed = " | ".join(["before", *(f"np.uint8(values[{k}]) << {place}" for k, place in enumerate(places))])
    yield inlined("pack(before, values, place)", "before = before if place else np.uint8(0)", f"return {packed}")


def inlined(signature: str, *body: str) -> str:
    return "\n".join([f"{JIT}def {signature}:", *(f"    {line}" for line in body)]) + "\n"


def returned(values: Iterable[str]) -> str:
    """The statement that returns them as a tuple.

    >>> returned(["a", "b"]), returned([])
    ('return (a, b, )', 'return ()')
    """
    return f"return ({''.join(f'{value}, ' for value in values)})"
