"""Events become time steps: how many of them fall into each bin, at each place of the sensor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfexplore.data.recordings.formats import Events
from tfexplore.neurons.parameters import check_between, checked_count


class Window(NamedTuple):
    """T bins of equal length over the first `microseconds` of a sample."""

    steps: int
    microseconds: int


def window(steps: int, dt: float | None = None, duration: float | None = None) -> Window:
    """T bins of dt seconds each, or over a duration in seconds: one of the two is given.

    >>> window(steps=100, dt=0.01) == window(steps=100, duration=1.0) == Window(100, 1_000_000)
    True
    """
    checked_count("steps", steps)
    if (dt is None) == (duration is None):
        raise ValueError(f"give either dt or duration, in seconds, but got dt={dt!r} and duration={duration!r}.")
    for name, given in (("dt", dt), ("duration", duration)):
        if given is not None:
            check_between(name, given, 0, above=True)
    microseconds = round(1e6 * (duration if dt is None else steps * dt))  # type: ignore[operator]
    if microseconds < steps:
        raise ValueError(f"a bin must have one microsecond or more, but {steps} of them have {microseconds} together.")
    return Window(steps, microseconds)


def binned(events: Events, sensor: tuple[int, ...], window: Window, late: str) -> tuple[np.ndarray, int]:
    """The number of events in each bin and at each place of the sensor, and how many steps there are up to the last event.

    With the time t of an event in microseconds, T bins and their duration D, all of them whole numbers::

        step = floor(t T / D),   0 <= t < D

    Args:
        events: of one sample.
        sensor: the size of each axis of a place.
        window: T and D.
        late: what to do with events from D on: "refuse" them, or "drop" them.

    Returns:
        Counts [T, *sensor], int64, and a length from 0 (no event) to T.

    Raises:
        ValueError: for late events unless they are to be dropped, an event before the sample's beginning or outside of the
            sensor.

    Example:
        >>> import numpy as np
        >>> events = Events(np.array([0, 400, 499, 500]), (np.array([1, 0, 0, 1]),))
        >>> counts, length = binned(events, (2,), Window(steps=4, microseconds=1000), late="refuse")
        >>> counts.tolist(), length
        ([[0, 1], [2, 0], [0, 1], [0, 0]], 3)
    """
    t, at = events
    for axis, (places, size) in enumerate(zip(at, sensor, strict=True)):
        if len(places) and (places.min() < 0 or places.max() >= size):
            raise ValueError(
                f"events lie from {places.min()} to {places.max()} on axis {axis} of a sensor of {sensor}: "
                "this is another sensor's recording."
            )
    if len(t) and t.min() < 0:
        raise ValueError(f"an event is {-t.min()} microseconds before the sample's beginning.")
    inside = t < window.microseconds
    if late == "refuse" and not inside.all():
        raise ValueError(
            f"{(~inside).sum()} of {len(t)} events are not within the {window.microseconds / 1e6:g} s of the {window.steps} "
            f"steps, the last is at {t.max() / 1e6:g} s; give more steps or longer ones, or drop such events: late='drop'."
        )
    step = t[inside] * window.steps // window.microseconds
    index = np.ravel_multi_index((step, *(places[inside] for places in at)), (window.steps, *sensor))
    counts = np.bincount(index, minlength=window.steps * int(np.prod(sensor)))
    return counts.reshape(window.steps, *sensor), int(step.max(initial=-1)) + 1
