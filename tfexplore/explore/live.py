"""A live plotly figure whose plotly.js (5 MB) is sent to the browser once, not once for every figure.

Plotly's own FigureWidget carries all of plotly.js, and anywidget gives a widget two seconds to start: with several figures
in a notebook, on a slow machine, some miss that and stay deaf to every change. The other half is live.js.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import ipywidgets
import plotly
import plotly.graph_objects as go
import traitlets
from plotly.basedatatypes import Undefined


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

    def _build_update_params_from_batch(self) -> Any:
        """What the traces changed in a `batch_update` are told. Plotly leaves a gap where one trace changed a property and
        another did not, and its browser half clears the property there: the gap is filled with what the trace has."""
        restyle, relayout, traces = super()._build_update_params_from_batch()
        for name, values in restyle.items():
            for k, trace in enumerate(self.data[index] for index in traces):
                if values[k] is Undefined and name in trace and (own := trace[name]) is not None:
                    values[k] = own
        return restyle, relayout, traces
