"""The figure of the bits explorer: spikes in their cells, below them their bytes, and beside them how much memory each takes."""

from __future__ import annotations

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Heat, Panel, Sheet
from tfexplore.explore.bits.packing import Packing

SILENT, SPIKE, BYTE = "#7b879430", style.SKY, style.TEAL


def sheet(made: Packing, row: int, byte: int) -> Sheet:
    rows = len(made.values)
    bytes_ = made.words.shape[1]
    width = made.each * bytes_
    inner = {"time": "time step t", "neurons": "neuron i"}
    across = inner[made.along]
    down = inner["neurons" if made.along == "time" else "time"]
    every = Axis("", -0.6, width - 0.4, every=-(-width // 16), bare=True)
    up = Axis(down, rows - 0.4, -0.6, every=-(-rows // 8), bare=True)
    numbers = made.values.astype(int)
    spikes = [
        Heat(
            "spikes", (numbers > 0).astype(int), colours=(SILENT, SPIKE), distinct=True, gap=2,
            texts=np.where(numbers > 0, numbers.astype(str), "").tolist(),
            words=f"{across} {{x}}, {down} {{y}}: {{under}}", under=numbers.tolist(),
        ),
        frame("these values", row, made.cells(byte).start, made.cells(byte).stop),
    ]  # fmt: skip
    places = [(k, j) for k in range(rows) for j in range(bytes_)]
    value = {place: int(made.words[place]) for place in places}
    packed = [
        Bars(
            "bytes", [k for k, _ in places], [made.each - 0.3] * len(places),
            [j * made.each - 0.35 for _, j in places], 0.8, colour=BYTE, inside=True,
            texts=[f"{value[place]}" for place in places],
            words=[f"byte {j} of {down} {k}: {value[k, j]} = {value[k, j]:08b} in binary" for k, j in places],
        ),
        frame("this byte", row, byte * made.each, (byte + 1) * made.each),
    ]  # fmt: skip
    sizes = made.nbytes
    kept = Bars(
        "kept", list(sizes), list(sizes.values()), thickness=0.6, colour=(style.STEPPED, style.LAYERED, BYTE), upright=True,
        texts=[f"{size:,}" for size in sizes.values()], words="{x}: {y:,} bytes",
    )  # fmt: skip
    below = Axis(across, -0.6, width - 0.4, every=every.every, bare=True)
    memory = Axis(low=0, high=1.15 * sizes["float32"], form=",.0f")
    panels = {
        "spikes": Panel(spikes, title="values" if made.packed.bits > 1 else "spikes", x=every, y=up),
        "bytes": Panel(packed, title="the same in bytes", x=below, y=up),
        "memory": Panel([kept], title="memory, in bytes", x=Axis(words=list(sizes), bare=True), y=memory),
    }
    grid, height = [["spikes", "memory"], ["bytes", "memory"]], max(620, 160 + 34 * rows)
    return Sheet(panels, grid, (0.72, 0.28), (1, 1), (0.09, 0.1), height=height)


def frame(name: str, row: int, first: int, last: int) -> Bars:
    """Around the cells of one byte."""
    return Bars(name, [row], [last - first], [first - 0.5], 1.0, colour="#00000000", edge=[style.INK], words=None)
