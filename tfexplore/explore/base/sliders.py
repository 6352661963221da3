"""Sliders whose range may change with their value, in one message that a browser understands.

A browser that hears of the new value before the new bounds moves it into the old ones, and sends that back as if somebody
had dragged it. ipywidgets' `hold_sync` gathers changes in a set, so their order is chance; here the value comes last.
"""

from __future__ import annotations

from collections.abc import Iterable

import ipywidgets as widgets
import traitlets


class BoundsFirst(widgets.Widget):
    def send_state(self, key: str | Iterable[str] | None = None) -> None:
        if isinstance(key, set | frozenset):
            key = sorted(key, key=lambda name: (name == "value", name))
        super().send_state(key)


class FloatSlider(BoundsFirst, widgets.FloatSlider): ...


class IntSlider(BoundsFirst, widgets.IntSlider): ...


class IntRangeSlider(BoundsFirst, widgets.IntRangeSlider): ...


class Player(widgets.Play):
    """Its value is the browser's: cut to a lower maximum here and sent back, it would move the slider that it plays."""

    @traitlets.validate("max")
    def _validate_max(self, proposal: dict[str, int]) -> int:
        return proposal["value"]
