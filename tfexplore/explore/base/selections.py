"""Widgets for one of several options, which name these when asked for another: ipywidgets' own error does not."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
import traitlets


class OneOf(widgets.Widget):
    unchosen = False
    """Whether none may be chosen (yet)."""

    def __init__(self, name: str, **given: Any) -> None:
        self.name = name  # in Python
        super().__init__(**given)

    @traitlets.validate("value")
    def _validate_value(self, proposal: Any) -> Any:  # the name of the check that it replaces
        if proposal.value is None and self.unchosen:
            return None
        if self._options_values and proposal.value not in self._options_values:
            allowed = ", ".join(map(repr, self._options_values))
            raise ValueError(f"{self.name} must be one of {allowed}, but got {proposal.value!r}.")
        return proposal.value


class Dropdown(OneOf, widgets.Dropdown): ...


class SelectionSlider(OneOf, widgets.SelectionSlider): ...


class RadioButtons(OneOf, widgets.RadioButtons):
    unchosen = True
