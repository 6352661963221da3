"""The figure of the data path: for each stage the bytes of float32 and of bits, on a logarithmic axis."""

from __future__ import annotations

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Panel, Sheet
from tfexplore.explore.data_path.stages import BITS, FLOATS, STAGES, Stages, size

LOOKS = {FLOATS: (style.STEPPED, "/", -0.19), BITS: (style.TEAL, "", 0.19)}
TICKS = {1024.0**k * 10**j: f"{10**j} {unit}" for k, unit in ((1, "kB"), (2, "MB")) for j in range(3)}
"""Where the axis has words: 1 kB, 10 kB ... 100 MB."""


def sheet(made: Stages) -> Sheet:
    marks = []
    for kind, (colour, hatch, shift) in LOOKS.items():
        sizes = [made.nbytes[stage][kind] for stage in STAGES]
        marks.append(
            Bars(kind, STAGES, sizes, thickness=0.36, shift=shift, colour=colour, hatch=hatch, label=kind,
                 texts=[size(each) for each in sizes], words=f"{{y}}, {kind}: {{x:,}} bytes")
        )  # fmt: skip
    most = max(max(pair.values()) for pair in made.nbytes.values())
    across = Axis("bytes, logarithmic", 512, 6 * most, log=True, ticks=TICKS)
    down = Axis(words=STAGES, bare=True, backwards=True)
    return Sheet({"bytes": Panel(marks, x=across, y=down)}, height=430, margin=230, legend="above")
