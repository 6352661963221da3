"""The bits explorer: spikes or counts packed into bytes, along time or neurons, one byte looked at."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tfexplore.explore.base.controls import Choice, Slider, moved
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.bits import figure
from tfexplore.explore.bits.packing import ALONG, DEPTHS, NEURONS, Packing, example, look

MOST = 32


class Bits(Explorer):
    """Spikes as bits: eight values of one bit to a byte, four of two bits, two of four.

    `tfexplore.data.pack` does the packing; what is shown are its bytes.

    Args:
        x: spikes or counts of yours, `[T, N]` with at most 32 steps and 32 neurons; without it, 12 neurons are drawn.
        steps: time steps `T` that are drawn, from 1 to 32.
        along: the packed axis, "time" or "neurons".
        order: the first value of a byte is its highest bits ("big") or its lowest ("little").
        bits: of each value: 1, 2 or 4.

    Controls: steps (without x), bits, along, order; row and byte choose what is looked at.

    Result: `tfexplore.explore.bits.packing.Packing`, with `values`, `words` and `nbytes`.

    Raises:
        TypeError: if x is no tensor.
        ValueError: if x is not `[T, N]` or too large, or does not fit into so many bits, or an argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> bits = explore.bits(steps=16)
        >>> bits.result.nbytes
        {'float32': 768, 'a byte each': 192, 'packed': 24}
    """

    caption = (
        "Above: the values, one cell each; an empty cell is 0. Below: the bytes that they are packed into, each under the values "
        "that it holds; the frame is around the byte that you look at. Right: the memory that the values take as float32, with a "
        "byte for each, and packed."
    )

    steps = Slider("time steps T", 1, MOST)
    bits = Choice("values", DEPTHS, help="how many bits a value is given")
    along = Choice("packed along", tuple(ALONG))
    order = Choice(
        "first value is", {"big": "the highest bit", "little": "the lowest bit"}, help="order of the bits in a byte"
    )
    row = Slider("row", 0, NEURONS - 1, help="a neuron, or a time step, whose byte is framed", live=True)
    byte = Slider("byte", 0, 1, help="which byte of the row is framed", live=True)

    def __init__(
        self, x: Tensor | None = None, *, steps: int = 20, along: str = "time", order: str = "big", bits: int = 1
    ) -> None:
        if x is not None and not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor [T, N], but got {type(x).__name__}.")
        if x is not None and (x.ndim != 2 or not 1 <= min(x.shape) <= max(x.shape) <= MOST):
            raise ValueError(f"x must be [T, N] with 1 to {MOST} steps and neurons, but got shape {tuple(x.shape)}.")
        self.x = None if x is None else x.detach().cpu().float().numpy()
        super().__init__(steps=steps if x is None else None, bits=bits, along=along, order=order)

    def values(self) -> np.ndarray:
        return example(self.steps, self.bits) if self.x is None else self.x

    def look(self) -> Packing:
        return look(self.values(), self.along, self.order, self.bits)

    def update(self) -> None:
        self.result = self.look()
        rows, bytes_ = self.result.words.shape
        with self.quietly():
            for name, count in (("row", rows), ("byte", bytes_)):
                self.controls[name].max = count - 1
        self.choose()

    @moved("row", "byte")
    def choose(self) -> None:
        self.draw()
        self.say(self.sentence())

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.row, self.byte)

    def sentence(self) -> str:
        return self.result.sentence(self.row, self.byte)
