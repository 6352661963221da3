"""The roofline's figure: operations per second over operations per byte, and the table of its numbers."""

from __future__ import annotations

import html
from collections.abc import Sequence

from tfexplore.codegen.traffic import BYTES
from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Line, Panel, Points, Sheet
from tfexplore.explore.roofline.points import NOTHING, Point, Roofs

LEFT, RIGHT = 10**-1.5, 10**1.5  # operations per byte
SIGNS = {NOTHING: "circle", "input": "diamond", "potential": "square"}
COLOURS = (style.FUSED, style.TEAL, style.SAND, style.PURPLE, style.SKY, style.ROSE, style.GREEN, style.OLIVE)
HEADS = ("pass", "operations per element-step", "bytes per element-step", "GB/s", "of the copy")
Curve = tuple[list[float], list[float]]


def sheet(found: Roofs, wanted: Sequence[Point]) -> Sheet:
    """wanted: what a run measures; it is drawn once the roofs have it."""
    memory, fresh, compute = roofs(found)
    marks = [
        Line("memory roof (copy)", *memory, label="memory roof (copy)"),
        Line("copy into new memory", *fresh, dash="dash", width=1.5, label="copy into new memory"),
        Line("compute roof", *compute, dash="dot", label="compute roof (matrix product)"),
        *(point(found, k, kernel, wanted) for k, kernel in enumerate(wanted)),
    ]
    x = Axis("operations per byte", LEFT, RIGHT, log=True)
    low, high = (None, None) if found.kernels else (0.1, 1000)
    panel = Panel(marks, x=x, y=Axis("10⁹ operations per second", low, high, log=True))
    return Sheet({"roofline": panel}, height=540, legend="below")


def roofs(found: Roofs) -> tuple[Curve, Curve, Curve]:
    """Memory's two, from the left up to where they meet the processor's, which goes on to the right."""
    if not found.kernels:
        return ([], []), ([], []), ([], [])
    peak, ridge, last = 1e-9 * found.peak, found.peak / found.bandwidth, found.peak / found.fresh
    memory, fresh = [1e-9 * found.bandwidth * LEFT, peak], [1e-9 * found.fresh * LEFT, peak]
    return ([LEFT, ridge], memory), ([LEFT, last], fresh), ([ridge, max(RIGHT, last)], [peak, peak])


def point(found: Roofs, k: int, planned: Point, wanted: Sequence[Point]) -> Points:
    """A colour for every neuron, a sign for every pass; the layer and the eager loop have signs of their own."""
    sign = "cross" if planned.backend == "torch" else "triangle" if planned.layer else SIGNS[planned.keep]
    colour = COLOURS[list(dict.fromkeys(each.neuron for each in wanted)).index(planned.neuron) % len(COLOURS)]
    x, y, label, words = [], [], planned.label, ""
    if found.kernels:
        kernel = found.kernels[k]
        x, y, label = (
            [kernel.intensity],
            [1e-9 * kernel.flops_per_second],
            f"{label} ({found.share(kernel):.0%})",
        )
        words = f"{label}, {kernel.bytes_per_second / 1e9:.1f} GB/s<br>{{x:.2f}} operations per byte<br>"
        words += "{y:.2f} · 10⁹ operations per second"
    return Points(planned.label, x, y, colour, sign, size=13, edge=style.INK, label=label, words=words)


def table(found: Roofs) -> str:
    """The numbers as HTML, and where they come from."""
    if not found.kernels:
        return ""
    rows = [
        (k.label, f"{k.flops:.0f}", f"{k.bytes:.4g}", f"{1e-9 * k.bytes_per_second:.1f}", f"{found.share(k):.0%}")
        for k in found.kernels
    ]
    cell = '<{0} style="text-align:left;padding:0 12px 0 0">{1}</{0}>'
    lines = [
        "".join(cell.format(tag, html.escape(text)) for text in row)
        for tag, row in [("th", HEADS), *(("td", row) for row in rows)]
    ]
    size = found.steps * found.neurons * BYTES[found.dtype] / 2**20
    return (
        f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table><div>Bytes of the fused kernels are derived from the equations, "
        "those of the eager loop were counted while it ran; operations are counted by SymPy, a division as one. A copy into "
        f"new memory reaches {1e-9 * found.fresh:.1f} GB/s; fused layers on a CPU reuse memory that was freed. Here x has "
        f"{size:.0f} MiB; what fits a cache, as the tensors of the eager loop often do, can lie above the memory's roof.</div>"
    )
