"""A live plotly figure whose plotly.js (5 MB) is sent to the browser once, not once for every figure.

Plotly's own FigureWidget carries all of plotly.js, and anywidget gives a widget two seconds to start: with several figures
in a notebook, on a slow machine, some miss that and stay deaf to every change. The other half is live.js.
"""

from __future__ import annotations

import functools
import pathlib

import anywidget
import ipywidgets
import plotly
import plotly.graph_objects as go
import traitlets


class Library(anywidget.AnyWidget):
    """Carries the text of plotly's widget to the browser; nothing to see."""

    _esm = "export default {}"
    source = traitlets.Unicode().tag(sync=True)


@functools.cache
def library() -> Library:
    """The one of this kernel."""
    text = pathlib.Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
    return Library(source=text.read_text(encoding="utf-8"))


class LiveFigure(go.FigureWidget):
    """Plotly's FigureWidget in Python; in the browser it starts at once, and waits for the shared plotly.js to draw."""

    _esm = pathlib.Path(__file__).parent / "live.js"
    library = traitlets.Instance(Library).tag(sync=True, **ipywidgets.widget_serialization)
    version = traitlets.Unicode(plotly.__version__).tag(sync=True)

    @traitlets.default("library")
    def _library(self) -> Library:
        return library()
