"""The one look of all figures: colours that colour-blind eyes tell apart, type, and pictures made by matplotlib.

Every colour can be seen on white and on dark paper. Ink, grid and waiting cells are those of light paper; on a dark page
`theme.css` turns them into their dark counterparts, also in a figure that is updated later.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1f2933", "#7b8794", "#d9e2ec", "#ffffff"
SKY, ROSE, SAND, GREEN, VIOLET, PURPLE, TEAL, OLIVE = PALETTE = (
    "#88ccee", "#cc6677", "#ddcc77", "#2f8f4e", "#4c6fff", "#aa4499", "#44aa99", "#999933",
)  # fmt: skip
"""After Paul Tol's muted scheme; its indigo and its green, which dark paper swallows, are lighter here."""
STEPPED, LAYERED, FUSED = ROSE, SAND, VIOLET
"""The three ways to run a network, in every figure."""
DONE, WAITING = SKY, "#eef2f6"
ALARM = "var(--jp-error-color1, #c62839)"
DIVERGING = ("#2f4fd8", "#4c6fff73", "#88888800", "#cc667773", "#b1354a")
"""From negative to positive; around zero the paper shines through, be it light or dark."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
SIZE, DPI = 12, 110

MATPLOTLIB: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.6,
}
_AXIS = {
    "gridcolor": GRID, "linecolor": MUTED, "showline": True, "zeroline": False, "ticks": "outside", "ticklen": 4,
    "tickcolor": MUTED, "tickfont": {"size": 11}, "title": {"standoff": 8, "font": {"size": SIZE}},
}  # fmt: skip
PLOTLY = {
    "layout": {
        "font": {"family": FONT, "size": SIZE, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(PALETTE),
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"font": {"size": 11}, "bgcolor": "rgba(0,0,0,0)"},
        "hoverlabel": {"font": {"family": FONT, "size": SIZE}},
        "modebar": {"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": VIOLET},
    }
}


@contextmanager
def static_figure(width: float, height: float) -> Iterator[Figure]:
    """A matplotlib figure, in inches, that no notebook backend shows or keeps; what is drawn within has this look."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(MATPLOTLIB):
        yield Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a picture, on a card of paper with round corners, for pages light and dark."""
    from matplotlib.patches import FancyBboxPatch

    width, height = figure.get_size_inches()
    corners, place = f"round,pad=0,rounding_size={0.12 / width}", figure.transFigure
    card: Any = FancyBboxPatch((0, 0), 1, 1, corners, mutation_aspect=width / height, transform=place)
    figure.patch = card
    out = io.BytesIO()
    look: Any = {"facecolor": PAPER, "edgecolor": GRID, "bbox_inches": "tight", "pad_inches": 0.15}
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None}, **look)
    return out.getvalue()
