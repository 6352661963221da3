"""What a fused layer reads and writes: words per element-step (one neuron at one time step), derived from its equations.

Nothing here is typed in or measured. The arrays, and the kernel that touches each, are those of the loops in `kernels/`; how
many words follows from the neuron: its states, and what its derived adjoint needs of the forward pass::

    forward    reads x, writes out, and writes what is saved for backward ("kept")
    backward   reads g_out and what was saved, writes g_x; with keep="input" it rereads x and recomputes the rest

A word is a float32; with keep="bits" a bit is a thirty-second of it.

A BatchNorm before the neuron, in training, adds two passes where the neuron's kernel normalises x as it reads it ("fused"), and
four where the two are modules of their own ("apart", as torch computes a BatchNorm)::

                            fused                                      apart
    statistics              moments reads x                            statistics reads x
    forward                 the neuron's, of scale x + shift           normalise reads x, writes y; then the neuron's, of y
    backward                the neuron's, which adds up both sums      the neuron's; then sums reads g_y and x
    through the statistics  affine reads g and x, writes g_x           denormalise reads g_y and x, writes g_x

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
from tfexplore.neurons.step import normalised, step_of


@dataclass(frozen=True)
class Access:
    """One kernel's traffic with one array.

    Args:
        kernel: `"forward"` or `"backward"`; of a BatchNorm before it, see `BATCH_NORM`.
        action: `"reads"` or `"writes"`.
        array: as the loops in `kernels/` call it: x, out, kept, g_out or g_x, g in affine; y is a normalised x.
        words: words per element-step.
        stateful: whether the words have the state's dtype, so that half-precision data do not halve them.
        bits: where not 0, bits per element-step instead, whatever the dtype.
    """

    kernel: str
    action: str
    array: str
    words: Fraction
    stateful: bool = False
    bits: int = 0


BATCH_NORM = {"fused": ("moments", "affine"), "apart": ("statistics", "normalise", "sums", "denormalise")}
"""How a BatchNorm before the neuron runs: the kernels that it adds, in the order in which they run."""


def traffic_of(
    neuron: Neuron, keep: str = "input", gradient: bool = True, batch_norm: str | None = None
) -> tuple[Access, ...]:
    """Every access of the fused kernels of a layer on a CPU, forward and (with `gradient`) backward.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`.
        keep: `"potential"`, `"input"` or `"bits"`, as in `Layer`.
        gradient: False for inference, which saves nothing and has no backward pass; a BatchNorm then has its running statistics.
        batch_norm: `"fused"` for a BatchNorm in the layer's kernel, `"apart"` for one before the layer, None for none.

    Returns:
        The accesses, in the order of the kernels; `words` and `nbytes` add them up.

    Raises:
        ValueError: for an unknown `keep` or `batch_norm`, or a `keep` that is not exact for this neuron.

    Example:
        >>> from tfexplore import codegen, neurons
        >>> for access in codegen.traffic_of(neurons.LIF(), "potential"):
        ...     print(access.kernel, access.action, access.words, access.array)
        forward reads 1 x
        forward writes 1 out
        forward writes 1 kept
        backward reads 1 g_out
        backward reads 1 kept
        backward writes 1 g_x
        >>> [float(codegen.words(codegen.traffic_of(neurons.LIF(), keep))) for keep in ("potential", "input")]
        [6.0, 5.0625]
        >>> [float(codegen.words(codegen.traffic_of(neurons.LIF(), batch_norm=how))) for how in ("apart", "fused")]
        [13.0625, 9.125]
    """
    if keep not in KEEP:
        raise ValueError(f"keep must be {' or '.join(map(repr, KEEP))}, but got {keep!r}.")
    if batch_norm is not None and batch_norm not in BATCH_NORM:
        raise ValueError(f"batch_norm must be {' or '.join(map(repr, BATCH_NORM))} or None, but got {batch_norm!r}.")
    step = normalised(step_of(neuron)) if batch_norm == "fused" else step_of(neuron)
    check(keep, step)
    own = accesses_of(Variant(step, keep=keep if gradient else "nothing"))
    if batch_norm is None:
        return own
    one = Fraction(1)

    def reads(kernel: str, *arrays: str) -> list[Access]:
        return [Access(kernel, "reads", array, one) for array in arrays]

    if batch_norm == "fused":
        through = [*reads("affine", "g", "x"), Access("affine", "writes", "out", one)]
        return (*reads("moments", "x"), *own, *through) if gradient else own
    normalise = [*reads("normalise", "x"), Access("normalise", "writes", "y", one)]
    through = [
        *reads("sums", "g_y", "x"),
        *reads("denormalise", "g_y", "x"),
        Access("denormalise", "writes", "g_x", one),
    ]
    return (*reads("statistics", "x"), *normalise, *own, *through) if gradient else (*normalise, *own)


def accesses_of(variant: Variant) -> tuple[Access, ...]:
    """The same for one variant of the kernels, on a CPU or a GPU, whose chunks may be shorter."""
    one = Fraction(1)
    forward = (Access("forward", "reads", "x", one), Access("forward", "writes", "out", one))
    if variant.keep == "nothing":
        return forward
    words_saved = {
        "nothing": Fraction(0),  # a linear neuron without a threshold needs nothing of the forward pass
        "potential": Fraction(len(variant.needs)),
        "input": Fraction(len(variant.step.before), variant.chunk),
        "bits": Fraction(variant.width, 8 * BYTES[variant.real]),
    }[variant.keeps]
    saved = (words_saved, True, variant.width if variant.in_bits else 0)
    write = [Access("forward", "writes", "kept", *saved)] if words_saved else []
    read = [Access("backward", "reads", "kept", *saved)] if words_saved else []
    reread = [Access("backward", "reads", "x", one)] if variant.keeps == "input" else []
    g_out, g_x = Access("backward", "reads", "g_out", one), Access("backward", "writes", "g_x", one)
    return (*forward, *write, g_out, *reread, *read, g_x)


def words(accesses: Iterable[Access], kernel: str | None = None) -> Fraction:
    """Words per element-step of these accesses.

    Args:
        accesses: from `traffic_of`.
        kernel: `"forward"` or `"backward"` alone, or another that is there; None for all.

    Example:
        >>> from tfexplore import codegen, neurons
        >>> codegen.words(codegen.traffic_of(neurons.LIF(), "potential"), "backward")
        Fraction(3, 1)
    """
    return sum((access.words for access in accesses if kernel in (None, access.kernel)), Fraction(0))


def nbytes(accesses: Iterable[Access], dtype: str = "float32", kernel: str | None = None) -> Fraction:
    """Bytes per element-step of these accesses; the state is float32, or float64 for float64 data.

    Args:
        accesses: from `traffic_of`.
        dtype: that of x and the spikes: `"float16"`, `"bfloat16"`, `"float32"` or `"float64"`.
        kernel: `"forward"` or `"backward"` alone, or another that is there; None for all.

    Raises:
        ValueError: for another dtype.

    Example:
        >>> from tfexplore import codegen, neurons
        >>> accesses = codegen.traffic_of(neurons.LIF(), "potential")
        >>> [float(codegen.nbytes(accesses, dtype)) for dtype in ("float32", "float16")]
        [24.0, 16.0]
    """
    if dtype not in BYTES:
        raise ValueError(f"dtype must be {', '.join(BYTES)}, but got {dtype!r}.")
    data, state = BYTES[dtype], BYTES["float64" if dtype == "float64" else "float32"]
    chosen = [access for access in accesses if kernel in (None, access.kernel)]
    return sum((Fraction(a.bits, 8) or a.words * (state if a.stateful else data) for a in chosen), Fraction(0))


def kept_bytes(neuron: Neuron, keep: str = "input", dtype: str = "float32") -> Fraction:
    """Bytes per element-step that stay in memory between the forward and the backward pass.

    keep="input" saves x itself: that costs no traffic in the forward pass, but x cannot be freed.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`.
        keep: `"potential"`, `"input"` or `"bits"`, as in `Layer`.
        dtype: that of x and the spikes.

    Raises:
        ValueError: for an unknown dtype or `keep`, or a `keep` that is not exact for this neuron.

    Example:
        >>> from tfexplore import codegen, neurons
        >>> [float(codegen.kept_bytes(neurons.LIF(), keep)) for keep in ("potential", "input")]
        [4.0, 4.125]
    """
    accesses = traffic_of(neuron, keep)
    saved = [a for a in accesses if (a.kernel, a.array) in (("forward", "kept"), ("backward", "x"))]
    return nbytes(saved, dtype)
