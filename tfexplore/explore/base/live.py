"""A live plotly figure whose plotly.js (5 MB) is sent to the browser once, not once for every figure.

Plotly's own FigureWidget carries all of plotly.js, and anywidget gives a widget two seconds to start: with several figures
in a notebook, on a slow machine, some miss that and stay deaf to every change. The other half is live.js. `theme.css`
turns ink, grid and waiting cells into their dark counterparts on a dark page, with no message from anybody.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import ipywidgets
import plotly
import plotly.graph_objects as go
import plotly.io as pio
import traitlets
from plotly.basedatatypes import Undefined


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """What is imported within goes on as if this module were not installed, unless it is there already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


# plotly imports nbformat, that jsonschema, and that a check of IRIs, which would build 35 parsers in one to two seconds
# (python-jsonschema/jsonschema#1428); no notebook has an IRI to be checked.
with without("rfc3987_syntax"):
    from plotly.graph_objects import FigureWidget

HERE = pathlib.Path(__file__).parent


@functools.cache
def library() -> ipywidgets.HTML:
    """Carries the text of plotly's widget to the browser, once for this kernel; it is never shown."""
    text = pathlib.Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
    return ipywidgets.HTML(text.read_text(encoding="utf-8"))


class LiveFigure(FigureWidget):
    """Plotly's FigureWidget in Python, as wide as the page; in the browser it waits for the shared plotly.js to draw."""

    _esm = HERE / "live.js"
    _css = HERE / "theme.css"
    library = traitlets.Instance(ipywidgets.HTML).tag(sync=True, **ipywidgets.widget_serialization)
    version = traitlets.Unicode(plotly.__version__).tag(sync=True)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._config: dict[str, Any] = self._config | {"responsive": True, "displaylogo": False}

    @traitlets.default("library")
    def _library(self) -> ipywidgets.HTML:
        return library()

    def _build_update_params_from_batch(self) -> Any:
        """What the traces changed in a `batch_update`. Plotly leaves a gap where one trace changed a property and another
        did not, and its browser half clears the property there: the gap is filled with what the trace has."""
        restyle, relayout, traces = super()._build_update_params_from_batch()
        for name, values in restyle.items():
            for k, trace in enumerate(self.data[index] for index in traces):
                if values[k] is Undefined and name in trace and (own := trace[name]) is not None:
                    values[k] = own
        return restyle, relayout, traces


def kept_figure(figure: go.Figure, words: str) -> dict[str, Any]:
    """What a notebook keeps beside a picture: words for readers who cannot see it, and the figure, for `tools/book.py`.

    As metadata, which nbval does not compare and other readers ignore: they show the picture. The figure is one line of
    JSON: spread out by nbformat it would be twice as long.
    """
    drawn = figure.to_plotly_json() if not isinstance(figure, FigureWidget) else go.Figure(figure).to_plotly_json()
    for trace in drawn["data"]:
        trace.pop("uid", None)  # random
    return {"image/png": {"alt": words}, "tfexplore": {"plotly": pio.to_json(drawn, validate=False)}}
