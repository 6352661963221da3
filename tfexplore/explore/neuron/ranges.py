"""How far a slider of the neuron explorer goes, and in which steps."""

from __future__ import annotations

import math

import ipywidgets as widgets

from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import Bound


def nice(size: float) -> float:
    """The least of 1, 2, 5, 10, ... that is not smaller."""
    power = 10.0 ** math.floor(math.log10(size))
    return float(f"{next(k * power for k in (1, 2, 5, 10) if k * power >= size * (1 - 1e-9)):.1g}")


def room(name: str, value: float, bound: Bound, neuron: Neuron) -> tuple[float, float]:
    """From where to where the slider of a parameter goes."""
    gap = abs(neuron.parameters.get("v_threshold", 1.0) - neuron.parameters.get("v_reset", 0.0)) or 1.0
    if bound.low == -math.inf:
        reach = {"v_threshold": 0.9 * gap, "v_reset": 0.9 * gap}.get(name, 2 * abs(value) or 1.0)
        return value - reach, value + (2 if name == "v_threshold" else 1) * reach
    low = bound.low + (nice(abs(value) or 1.0) / 50 if bound.open else 0.0)
    reach = bound.low + (4 * abs(value) or 1.0)
    high = bound.high - 0.01 if bound.high < math.inf else max(50.0 if bound.low == 1 else 0.0, reach)
    return min(low, value), max(high, value)


def stretch(control: widgets.Widget, low: float, high: float, value: float) -> None:
    """A new range and value. The value is a whole number of steps from the ends: the browser would move it there."""
    step = nice((high - low) / 200)
    below, above = (math.floor(abs(end - value) / step + 1e-9) for end in (low, high))
    low, high = round(value - below * step, 9), round(value + above * step, 9)
    with control.hold_sync():  # one message: else the browser moves the old value into half a range, and says so
        control.max = max(control.max, high)  # first, so that no bound passes the other
        control.min, control.max, control.step = low, high, step
        control.readout_format = f".{max(0, -math.floor(math.log10(step)))}f"
        control.value = value
