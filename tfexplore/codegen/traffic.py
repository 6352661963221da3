"""What a fused layer reads and writes: words per element-step (one neuron at one time step), derived from its equations.

Nothing here is typed in or measured. The arrays and who touches them are those of the loops in `kernels/`; how many words
follow from the neuron: its states, and what its derived adjoint needs of the way there.

    forward    reads x, writes out, and writes what the way back will need ("kept")
    backward   reads g_out and what was kept, writes g_x; with keep="input" it reads x once more and recomputes the rest

A word is a float32; with keep="bits" a bit is a thirty-second of it.

Left out, because they do not grow with T: the states and gradients at both ends of time, and the parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from tfexplore.codegen.builds import BYTES
from tfexplore.codegen.keep import KEEP, check
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import step_of


@dataclass(frozen=True)
class Access:
    """One kernel's traffic with one array.

    stateful: words of the state's dtype, which half-precision data do not halve; bits: so many instead, in any dtype.
    """

    kernel: str
    action: str
    array: str
    words: Fraction
    stateful: bool = False
    bits: int = 0


def traffic_of(neuron: Neuron, keep: str = "input", gradient: bool = True) -> tuple[Access, ...]:
    """Every access of the fused kernels of a layer, forward and (with `gradient`) backward.

    keep: "potential", "input" or "bits", as in `Layer`. Without a gradient nothing is kept.

    >>> from tfexplore.neurons.library import LIF
    >>> for access in traffic_of(LIF(), "potential"):
    ...     print(access.kernel, access.action, access.words, access.array)
    forward reads 1 x
    forward writes 1 out
    forward writes 1 kept
    backward reads 1 g_out
    backward reads 1 kept
    backward writes 1 g_x
    >>> float(words(traffic_of(LIF(), "potential"))), float(words(traffic_of(LIF(), "input")))
    (6.0, 5.0625)
    """
    if keep not in KEEP:
        raise ValueError(f"keep must be {' or '.join(map(repr, KEEP))}, but got {keep!r}.")
    check(keep, step_of(neuron))
    one = Fraction(1)
    forward = (Access("forward", "reads", "x", one), Access("forward", "writes", "out", one))
    if not gradient:
        return forward
    variant = Variant(step_of(neuron), keep=keep)
    needs = len(variant.needs)
    kept = {  # of words of the state; a linear neuron without a threshold needs nothing, and keeps nothing
        "nothing": Fraction(0),
        "potential": Fraction(needs),
        "input": Fraction(len(variant.step.before), variant.chunk),
        "bits": Fraction(variant.width, 8 * BYTES[variant.real]),
    }[variant.keeps]
    bits = variant.width if variant.in_bits else 0
    way_back = [Access("backward", "reads", "g_out", one)]
    if variant.keeps == "input":
        way_back += [Access("backward", "reads", "x", one)]
    if kept:
        way_back += [Access("backward", "reads", "kept", kept, True, bits)]
    written = (Access("forward", "writes", "kept", kept, True, bits),) if kept else ()
    return (*forward, *written, *way_back, Access("backward", "writes", "g_x", one))


def words(accesses: Iterable[Access], kernel: str | None = None) -> Fraction:
    """Words per element-step, of one kernel or of all."""
    return sum((access.words for access in accesses if kernel in (None, access.kernel)), Fraction(0))


def nbytes(accesses: Iterable[Access], dtype: str = "float32", kernel: str | None = None) -> Fraction:
    """Bytes per element-step with data of this dtype; the state is float32, or float64 for float64.

    >>> from tfexplore.neurons.library import LIF
    >>> [float(nbytes(traffic_of(LIF(), "potential"), dtype)) for dtype in ("float32", "float16")]
    [24.0, 16.0]
    """
    if dtype not in BYTES:
        raise ValueError(f"dtype must be {', '.join(BYTES)}, but got {dtype!r}.")
    data, state = BYTES[dtype], BYTES["float64" if dtype == "float64" else "float32"]
    chosen = [access for access in accesses if kernel in (None, access.kernel)]
    return sum((Fraction(a.bits, 8) or a.words * (state if a.stateful else data) for a in chosen), Fraction(0))


def kept_bytes(neuron: Neuron, keep: str = "input", dtype: str = "float32") -> Fraction:
    """Bytes per element-step that stay in memory between the way there and the way back.

    keep="input" keeps x itself too: it costs no traffic on the way there, but x cannot be freed.

    >>> from tfexplore.neurons.library import LIF
    >>> float(kept_bytes(LIF(), "potential")), float(kept_bytes(LIF(), "input"))
    (4.0, 4.125)
    """
    accesses = traffic_of(neuron, keep)
    held = [a for a in accesses if (a.kernel, a.array) in (("forward", "kept"), ("backward", "x"))]
    return nbytes(held, dtype)
