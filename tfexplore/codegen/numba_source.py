"""The generated part of a Numba kernel: the neuron's functions (see `functions.py`) as Python, with sizes, loads and stores."""

from __future__ import annotations

from tfexplore.codegen.functions import functions_of, python_function
from tfexplore.codegen.printing import NUMBA
from tfexplore.codegen.variant import Variant


def numba_source(variant: Variant) -> str:
    """The module `neuron.py` of the loops of `kernels/*.py`. Its functions need none but `real` of its other names."""
    step = variant.step
    jit = '@njit(inline="always")\n'  # else each is compiled by itself first: 1.0 s for a LIF both ways instead of 0.6
    count = len(step.scalars)
    rows = [f"rows[{k}][i]" for k in range(len(step.rows))]
    numbers = "".join(f"scalars[{k}], " for k in range(count))
    taken = [f"shared[{k}]" for k in range(count)] + rows
    head = f'''"""Generated from the equations of {step.name}; see tfexplore/codegen/variant.py."""

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
