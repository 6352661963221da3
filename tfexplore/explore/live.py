"""A live plotly figure whose plotly.js (5 MB) is sent to the browser once, not once for every figure.

Plotly's own FigureWidget carries all of plotly.js, and anywidget gives a widget two seconds to start: with several figures
in a notebook, on a slow machine, some miss that and stay deaf to every change. The other half is live.js.
"""

from __future__ import annotations

import functools
import pathlib

import ipywidgets
import plotly
import plotly.graph_objects as go
import traitlets


@functools.cache
def library() -> ipywidgets.HTML:
    """Carries the text of plotly's widget to the browser, once for this kernel; it is never shown."""
    text = pathlib.Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
    return ipywidgets.HTML(text.read_text(encoding="utf-8"))


class LiveFigure(go.FigureWidget):
    """Plotly's FigureWidget in Python; in the browser it starts at once, and waits for the shared plotly.js to draw."""

    _esm = pathlib.Path(__file__).parent / "live.js"
    library = traitlets.Instance(ipywidgets.HTML).tag(sync=True, **ipywidgets.widget_serialization)
    version = traitlets.Unicode(plotly.__version__).tag(sync=True)

    @traitlets.default("library")
    def _library(self) -> ipywidgets.HTML:
        return library()
