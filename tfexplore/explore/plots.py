"""What all figures share: one colour-blind-safe palette, one look, and the static twin of a live figure."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

try:
    import plotly.graph_objects as go
    import plotly.io as pio
    from plotly.colors import qualitative
except ImportError as error:
    raise ImportError("The explorers draw with plotly: pip install 'tfexplore[notebooks]'.") from error

SAFE: list[str] = list(qualitative.Safe)
DASHES = ("solid", "dash", "dot", "dashdot")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def colour(k: int) -> str:
    return SAFE[k % len(SAFE)]


def rgb(k: int) -> tuple[float, ...]:
    """The same colour for matplotlib."""
    return tuple(int(part) / 255 for part in colour(k)[4:-1].split(","))


def styled(figure: go.Figure, **layout: Any) -> go.Figure:
    """The figure in the look of the house."""
    look = {
        "template": "plotly_white",
        "font": {"family": FONT, "size": 13},
        "margin": {"l": 70, "r": 50, "t": 40, "b": 50},
        "modebar": {"orientation": "v", "bgcolor": "rgba(0,0,0,0)"},  # beside the plot, not over its title
        "autosize": True,
    }
    return figure.update_layout(**(look | layout))


def live(figure: go.Figure) -> go.FigureWidget:
    """The figure as a widget, as wide as the page."""
    try:
        from tfexplore.explore.base.live import LiveFigure
    except ImportError as error:
        raise ImportError("Live figures need anywidget: pip install 'tfexplore[notebooks]'.") from error
    made = LiveFigure(figure)
    made._config = made._config | {"responsive": True, "displaylogo": False}
    return made


def at_once(draw: Callable[..., None]) -> Callable[..., None]:
    """What this method of an explorer changes in its figure goes to the browser in one message, and is drawn once there.

    A message for each trace is a drawing of the whole figure for each: that made a slider five to ten times as slow.
    """

    @functools.wraps(draw)
    def whole(self: Any, *given: Any) -> None:
        with self.figure.batch_update():
            draw(self, *given)

    return whole


def zigzag(h: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The potential as a line: at every step up to h, then, after the reset, at v."""
    return np.repeat(np.arange(1, len(h) + 1), 2), np.stack([h, v], axis=1).ravel()


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a picture; never shown by itself."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return out.getvalue()


def about(figure: go.Figure, words: str) -> dict[str, Any]:
    """What a notebook keeps beside a picture: words for who cannot see it, and the figure, for `tools/book.py`.

    As metadata, which nbval does not compare and other readers ignore: they show the picture. The figure is one line of
    JSON: spread out by nbformat it would be twice as long.
    """
    drawn = figure.to_plotly_json() if not isinstance(figure, go.FigureWidget) else go.Figure(figure).to_plotly_json()
    for trace in drawn["data"]:
        trace.pop("uid", None)  # random
    return {"image/png": {"alt": words}, "tfexplore": {"plotly": pio.to_json(drawn, validate=False)}}


def static_figure(width: float, height: float) -> Figure:
    """A matplotlib figure that no notebook backend shows or keeps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
