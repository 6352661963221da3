"""What one compiled kernel is made for: a neuron's step, the dtypes, what is saved for the backward pass, what is recorded."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from sympy import Symbol

from tfexplore.codegen.builds import Config, Shape, default
from tfexplore.neurons.adjoint import BYTE, Adjoint, adjoint_of, in_bits, with_matrix
from tfexplore.neurons.step import Step

LONGEST_CHUNK = 32
"""Time steps that the backward pass recomputes at once with keep="input" on a CPU, whose caches hold them."""


@dataclass(frozen=True)
class Variant:
    """What one compiled kernel is made for; every number (tau, thresholds, T, N) is a run-time argument instead.

    Args:
        step: the neuron's equations.
        real: the dtype of the state, `"float32"` or `"float64"`.
        data: the dtype of x and the spikes; on a GPU half precision too.
        keep: `"nothing"` (no backward pass), `"potential"`, `"input"` or `"bits"` (see `keep.py`).
        record: the variables that the forward pass writes besides, in the order of h and the states.
        smooth: the spike is replaced by its smooth primitive, for gradcheck.
        traced: the backward pass takes the gradients of what is recorded.
        constant: x is the same at every step: one row of it is read, and its gradient summed over time.
        config: how its kernels are built for a GPU; None on a CPU.
        schedule: how time is walked, by the same kernels: `"serial"`, `"chunked"`, `"speculative"` or `"auto"` (see
            `schedule.py`).
        matrix: the backward pass of a chunk of time whose end is not known yet: beside the gradients of the states it carries
            what a unit of each becomes, and sums up no gradient of a parameter.
    """

    step: Step
    real: str = "float32"
    data: str = "float32"
    keep: str = "nothing"
    record: tuple[str, ...] = ()
    smooth: bool = False
    traced: bool = False
    constant: bool = False
    config: Config | None = None
    schedule: str = "serial"
    matrix: bool = False

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in dataclasses.fields(self)))

    def __hash__(self) -> int:  # needed at every call of a kernel, which is found by its variant
        return self._hash

    @functools.cached_property
    def adjoint(self) -> Adjoint:
        adjoint = adjoint_of(self.step, self.record if self.traced else ())
        adjoint = in_bits(adjoint, self.step) if self.keep == "bits" else adjoint
        return with_matrix(adjoint) if self.matrix else adjoint

    @property
    def learned(self) -> tuple[Symbol, ...]:
        """The parameters whose gradients the backward pass adds up."""
        return () if self.matrix else self.step.learned

    @functools.cached_property
    def needs(self) -> tuple[Symbol, ...]:
        """What the adjoint needs of every step, saved or recomputed: values, or with keep="bits" outcomes of comparisons."""
        if self.keep == "nothing":
            return ()
        return tuple(bit for bit, _ in self.adjoint.bits) if self.keep == "bits" else self.adjoint.needs

    @functools.cached_property
    def keeps(self) -> str:
        """As `keep`, but "nothing" for a neuron whose adjoint needs nothing of the forward pass: one that is linear."""
        return self.keep if self.needs else "nothing"

    @functools.cached_property
    def in_bits(self) -> bool:
        """Whether what is saved for backward are bytes of bits."""
        return self.keeps == "bits"

    @functools.cached_property
    def width(self) -> int:
        """Bits that one time step takes of a byte with keep="bits": 1, 2, 4 or 8, so that no step straddles two."""
        return 1 << (max(1, len(self.needs)) - 1).bit_length()

    @functools.cached_property
    def steps(self) -> int:
        """Time steps that share a byte of what is saved; 1 without bits."""
        return BYTE // self.width if self.in_bits else 1

    @functools.cached_property
    def chunk(self) -> int:
        """Steps per chunk, a power of two: on a GPU the config's; a CPU's cache holds more."""
        return self.config.chunk if self.config else max(1, LONGEST_CHUNK >> (max(1, len(self.needs)) - 1).bit_length())

    @functools.cached_property
    def shape(self) -> Shape:
        step = self.step
        return Shape(self.real, self.data, self.keeps, len(step.before), len(self.needs), bool(step.learned))

    def for_gpu(self, config: Config | None = None) -> Variant:
        """This variant on a GPU, built as `config` says, else as predicted to be the fastest (see `backends.tuned`)."""
        return dataclasses.replace(self, config=config or default(self.shape))

    @functools.cached_property
    def kept_dtype(self) -> str:
        return "uint8" if self.in_bits else self.real

    def kept_shape(self, steps: int, neurons: int) -> tuple[int, int, int]:
        """The shape of what the forward pass saves for backward: [time, values, neurons], time in steps, chunks or bytes."""
        if self.keeps == "potential":
            return steps, len(self.needs), neurons
        if self.keeps == "bits":
            return -(-steps // self.steps), 1, neurons
        if self.keeps == "input":  # those of the first chunk are `start`
            return (max(steps, 1) - 1) // self.chunk, len(self.step.before), neurons
        return 1, 0, neurons
