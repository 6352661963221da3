"""What the bits explorer shows: a few spikes, packed along time or along neurons, and the bytes that they need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tfexplore.data.bits import Packed, pack

ALONG = {"time": 0, "neurons": 1}
DEPTHS = {1: "spikes: 1 bit", 2: "up to 3: 2 bits", 4: "up to 15: 4 bits"}
NEURONS = 12


def example(steps: int, bits: int, seed: int = 1) -> np.ndarray:
    """Drawn spikes [T, N], or for more than one bit counts of spikes; neurons differ in how often they fire."""
    rng = np.random.default_rng(seed)
    rates = np.linspace(0.5, 0.15, NEURONS)
    if bits == 1:
        made: np.ndarray = (rng.random((steps, NEURONS)) < rates).astype(np.float32)
        return made
    return np.minimum(rng.poisson(rates * 2**bits / 3, (steps, NEURONS)), 2**bits - 1).astype(np.float32)


@dataclass(frozen=True)
class Packing:
    """Spikes and their bytes, a row each of what is packed side by side.

    Args:
        values: [rows, cells]; cells lie along the packed axis.
        packed: what `tfexplore.data.pack` made of them.
        words: its bytes, [rows, bytes].
        along: "time" or "neurons", the packed axis.
    """

    values: np.ndarray
    packed: Packed
    words: np.ndarray
    along: str

    @property
    def each(self) -> int:
        """Values in a byte."""
        return 8 // self.packed.bits

    @property
    def nbytes(self) -> dict[str, int]:
        """Of these values, by how they are kept."""
        return {"float32": 4 * self.values.size, "a byte each": self.values.size, "packed": self.words.size}

    @property
    def smaller(self) -> float:
        """How many times less the packed bytes are than float32."""
        return self.nbytes["float32"] / self.nbytes["packed"]

    @property
    def unused(self) -> int:
        """Bits behind the last value of a row."""
        return int(8 * self.words.shape[1] - self.packed.bits * self.values.shape[1])

    def cells(self, byte: int) -> slice:
        """The values in a byte of any row."""
        return slice(byte * self.each, min((byte + 1) * self.each, self.values.shape[1]))

    def sum(self, row: int, byte: int) -> str:
        """How a byte is put together: "64 + 8 + 1 = 73"."""
        inside = self.values[row, self.cells(byte)].astype(int)
        depth = self.packed.bits
        places = range(self.each)[:: -1 if self.packed.order == "big" else 1]
        terms = [int(value) << (depth * place) for value, place in zip(inside, places, strict=False)]
        found = [str(term) for term in terms if term] or ["0"]
        return f"{' + '.join(found)}{f' = {sum(terms)}' if len(found) > 1 else ''}"

    def sentence(self, row: int, byte: int) -> str:
        steps, each = self.along == "time", self.cells(byte)
        first, last = each.start, each.stop - 1
        which = f"{'step' if steps else 'neuron'}{'s' * (last > first)} {first}{f' to {last}' * (last > first)}"
        where = f"{'Neuron' if steps else 'Step'} {row}, {which}: {self.sum(row, byte)}."
        sizes = self.nbytes
        unused = f" Each row has {self.unused} unused bit{'s' * (self.unused > 1)}." if self.unused else ""
        less = f"{sizes['float32']:,} bytes as float32 are {sizes['packed']:,} packed: 1/{self.smaller:.3g} of them."
        return f"{where} {less}{unused}"


def look(values: np.ndarray, along: str, order: str, bits: int) -> Packing:
    """Packs values [T, N]; rows are neurons when packed along time, and time steps when packed along neurons."""
    dim = ALONG[along]
    packed = pack(torch.from_numpy(values), dim, bits=bits, order=order)
    rows, words = (values.T, packed.words.numpy().T) if dim == 0 else (values, packed.words.numpy())
    return Packing(rows, packed, words, along)
