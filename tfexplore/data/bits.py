"""Spikes as bits: a tensor of 0 and 1 in a thirty-second of the memory of float32, eight or 32 values to a word, along any axis.

>>> import torch
>>> spikes = (torch.rand(30, 16, 700) < 0.1).float()              # [T, B, features]
>>> packed = pack(spikes)                                         # along time
>>> packed, spikes.nbytes / packed.nbytes
(<Packed [30, 16, 700] float32: 1 bit along axis 0, 44,800 bytes>, 30.0)
>>> torch.equal(unpack(packed), spikes)
True
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tfexplore.backends import bits as executed
from tfexplore.backends import name_of
from tfexplore.backends.bits import DTYPES, WORDS, Layout, untraced

__all__ = ["Packed", "pack", "unpack"]


@dataclass(frozen=True, eq=False, repr=False)
class Packed:
    """A tensor as bits: what `pack` gives and `unpack` takes.

    Args:
        words: its shape, but along `dim` the number of words; uint8 or int32.
        length: the size of `dim` before packing; what is left of the last word is 0.
        dim: the packed axis, from 0 on.
        bits: of each value: 1, 2, 4 or 8.
        order: `"big"`: the first value of a word is in its highest bits, as in `numpy.packbits` and Spyx; `"little"`: in its
            lowest.
        dtype: that of the tensor, in which it comes back.

    Raises:
        ValueError: where they do not fit together.

    Example:
        >>> packed = pack(torch.tensor([[1.0, 0, 1], [0, 1, 1]]), dim=1)
        >>> packed.words.tolist(), packed.shape, packed.nbytes
        ([[160], [96]], torch.Size([2, 3]), 2)
        >>> unpack(packed[1])
        tensor([0., 1., 1.])
    """

    words: Tensor
    length: int
    dim: int = 0
    bits: int = 1
    order: str = "big"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.words.dtype not in WORDS.values():
            raise ValueError(f"words must be uint8 or int32, but got {name_of(self.words.dtype)}.")
        check_layout(self.bits, self.order)
        check_dtype("dtype", self.dtype, self.bits)
        if not 0 <= self.dim < self.words.ndim:
            raise ValueError(f"dim must be an axis of words, from 0 to {self.words.ndim - 1}, but got {self.dim!r}.")
        count = self.layout.count(self.length)
        if self.words.shape[self.dim] != count:
            raise ValueError(
                f"{self.length} values of {self.bits} bits are {count} words of {self.layout.word} bits, but axis {self.dim} of "
                f"words has {self.words.shape[self.dim]}: {tuple(self.words.shape)}."
            )

    @property
    def layout(self) -> Layout:
        """How values lie in words."""
        return Layout(self.bits, self.order == "big", 8 * self.words.element_size())

    @property
    def shape(self) -> torch.Size:
        """That of the tensor."""
        return torch.Size((*self.words.shape[: self.dim], self.length, *self.words.shape[self.dim + 1 :]))

    @property
    def nbytes(self) -> int:
        """Bytes of the words."""
        return self.words.nbytes

    @property
    def device(self) -> torch.device:
        """Where the words are."""
        return self.words.device

    def to(self, device: torch.device | str) -> Packed:
        """The same on another device."""
        return replace(self, words=self.words.to(device))

    def __getitem__(self, index: Any) -> Packed:
        """The part that an index selects along other axes than the packed one: numbers, slices, and a list or tensor."""
        entries = index if isinstance(index, tuple) else (index,)
        if Ellipsis in [each for each in entries if not isinstance(each, Tensor)]:
            raise TypeError("Packed takes no ... in an index; write a : for each axis.")
        dim = self.dim
        for axis, each in enumerate(entries):
            if axis == self.dim and not (isinstance(each, slice) and each == slice(None)):
                raise IndexError(f"axis {axis} is packed, and its index must be :, but got {each!r}; unpack it first.")
            if axis < self.dim and not isinstance(each, slice):
                dim += torch.as_tensor(each).ndim - 1
        if sum(not isinstance(each, slice | int) for each in entries) > 1:
            raise TypeError("Packed takes one list or tensor in an index, but got several; index it in turn.")
        return replace(self, words=self.words[index], dim=dim)

    def __repr__(self) -> str:
        kind = f"{list(self.shape)} {name_of(self.dtype)}: {self.bits} bit{'s' * (self.bits > 1)} along axis {self.dim}"
        return f"<Packed {kind}, {self.nbytes:,} bytes{'' if self.device.type == 'cpu' else f', {self.device}'}>"


def pack(
    x: Tensor, dim: int = 0, *, bits: int = 1, counts: str = "refuse", order: str = "big", word: int = 8
) -> Packed:
    """Packs spikes, or small counts of them, into words.

    With P = word / bits values to a word, word w of a column x[0], x[1], ... along `dim`, in the order "big", is::

        words[w] = sum over j = 0 ... P - 1 of x[w P + j] 2^(bits (P - 1 - j))

    and 2^(bits j) in the order "little". Nothing is silently made binary: what bits cannot hold is refused.

    Args:
        x: 0 and 1; with more bits whole numbers from 0 to 2^bits - 1. float32, float64, float16, bfloat16, bool or uint8.
        dim: the axis that is packed: 0 for time.
        bits: of each value: 1, 2, 4 or 8.
        counts: what happens to other values: `"refuse"` them; or `"any"`: whatever is not 0 becomes a 1.
        order: `"big"`, as `numpy.packbits` and Spyx have it, or `"little"`.
        word: 8, for words of uint8, or 32, for int32.

    Returns:
        The `Packed` tensor, without gradient. A copy is made of an x that is not contiguous.

    Raises:
        TypeError: for what is no dense tensor of these dtypes.
        ValueError: for another value: how many, and the largest; or another argument out of range.

    Example:
        >>> pack(torch.tensor([1, 0, 0, 0, 0, 0, 0, 1, 1]).float()).words
        tensor([129, 128], dtype=torch.uint8)
        >>> pack(torch.tensor([1, 0, 3]).float(), bits=2).words       # 01 00 11 (00)
        tensor([76], dtype=torch.uint8)
    """
    check_layout(bits, order)
    if word not in WORDS:
        raise ValueError(f"word must be 8 or 32 bits, but got {word!r}.")
    if counts not in ("refuse", "any"):
        raise ValueError(
            f"counts must be 'refuse' or 'any', but got {counts!r}; to keep them, give each 2, 4 or 8 bits."
        )
    if counts == "any" and bits != 1:
        raise ValueError(f"counts='any' makes every count a single bit, but got bits={bits}; leave one of the two out.")
    if not isinstance(x, Tensor) or x.layout != torch.strided:
        came = f"layout {x.layout}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a dense tensor, but got {came}.")
    check_dtype("x", x.dtype)
    if not -x.ndim <= dim < x.ndim:
        axes = f"an axis of x, from {-x.ndim} to {x.ndim - 1}" if x.ndim else "an axis, but a single number has none"
        raise ValueError(f"dim must be {axes}, but got {dim!r}.")
    dim, layout, shape = dim % x.ndim, Layout(bits, order == "big", word), x.shape
    x = x.detach()
    words, wrong = untraced(executed.pack)(
        x.reshape(math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])), layout, counts == "any"
    )
    if wrong:
        if counts == "any":
            raise ValueError(f"x must have numbers, but {x.isnan().sum():,} of {x.numel():,} values are NaN.")
        raise ValueError(f"{complaint(x, bits)}; {ways_out(x)}.")
    made = words.view(*shape[:dim], layout.count(shape[dim]), *shape[dim + 1 :])
    return Packed(made, shape[dim], dim, bits, order, x.dtype)


def unpack(packed: Packed, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor again that was packed.

    Args:
        packed: from `pack`.
        dtype: that of the result; None for the tensor's own.

    Raises:
        TypeError: for a dtype that `pack` does not take, or bool for values of several bits.

    Example:
        >>> unpack(pack(torch.tensor([True, False, True])), torch.float16)
        tensor([1., 0., 1.], dtype=torch.float16)
    """
    dtype = dtype or packed.dtype
    check_dtype("dtype", dtype, packed.bits)
    before, after = packed.shape[: packed.dim], packed.shape[packed.dim + 1 :]
    words = packed.words.reshape(math.prod(before), packed.words.shape[packed.dim], math.prod(after))
    made: Tensor = untraced(executed.unpack)(words, packed.length, packed.layout, dtype)
    return made.view(packed.shape)


def complaint(x: Tensor, bits: int) -> str:
    """How many values of x are wrong, and which is the largest; made only once some are."""
    values, most = x.double(), (1 << bits) - 1
    others = values[~whole(values) | (values > most)]
    allowed = "only 0 and 1" if bits == 1 else f"only whole numbers from 0 to {most}"
    return (
        f"x must have {allowed}, but {len(others):,} of {x.numel():,} values are others, the largest {others.max():g}"
    )


def ways_out(x: Tensor) -> str:
    """What to do about it."""
    values = x.double()
    if not whole(values).all():
        return "make spikes of it first, such as (x > 0.5)"
    enough = [f"keep the counts with bits={k}, or " for k in (2, 4, 8) if values.max() < 1 << k][:1]
    return "".join([*enough, "make each a 1 with counts='any'"])


def whole(values: Tensor) -> Tensor:
    """Where they are counts."""
    return (values >= 0) & (values == values.floor()) & values.isfinite()


def check_layout(bits: int, order: str) -> None:
    if bits not in (1, 2, 4, 8):
        raise ValueError(f"bits must be 1, 2, 4 or 8, but got {bits!r}.")
    if order not in ("big", "little"):
        raise ValueError(f"order must be 'big' or 'little', but got {order!r}.")


def check_dtype(name: str, dtype: torch.dtype, bits: int = 1) -> None:
    allowed = [each for each in DTYPES if bits == 1 or each != torch.bool]
    if dtype not in allowed:
        names = ", ".join(map(name_of, allowed))
        raise TypeError(f"{name} must be one of {names}{' for counts' * (bits > 1)}, but got {name_of(dtype)}.")
