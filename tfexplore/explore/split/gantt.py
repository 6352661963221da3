"""A Gantt chart of ranks: what each of them does when, from events, those of a real run or those of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Panel
from tfexplore.measure.timeline import Event

THICKNESS = {"forward": 0.8, "backward": 0.8, "wait": 0.12, "sum": 0.4}
"""What a rank may be at, and how thick its bars are."""
PLAIN = {"wait": style.MUTED, "sum": style.INK}
"""Kinds that have one colour, whatever the layer."""
HATCH = {"backward": "/"}
MOST = 1500
"""Bars that a browser draws at once without a pause; of more, a bar is all that a rank does for one micro-batch."""
ALL = "all layers"
LEGEND = "One colour for each layer, hatched in the backward pass. A thin line is a wait, a low bar a sum over all"
"""The end of a caption, up to what the ranks are."""


def panel(
    events: Sequence[Event], layers: Sequence[str], ranks: int, *, who: str, prefix: str = "", title: str = "",
    until: float | None = None, along: str = "",
) -> Panel:  # fmt: skip
    """The chart: a row for each rank, and a mark for each kind of event, named `prefix` and the kind.

    layers: all, in the order of the network.   who: what a rank is, such as "device".   until: where time ends, in ms.
    """
    shown = merged(events)
    marks = []
    for kind, thickness in THICKNESS.items():
        own = [event for event in shown if event.kind == kind]
        marks.append(
            Bars(
                prefix + kind, [rank(e) for e in own], [1e3 * (e.end - e.begin) for e in own], [1e3 * e.begin for e in own],
                thickness, colour=PLAIN.get(kind) or colours(own, layers), hatch=HATCH.get(kind, ""),
                words=[about(event) for event in own],
            )
        )  # fmt: skip
    place = Axis(who, ranks - 0.4, -0.6, every=max(1, ranks // 8), bare=True)
    return Panel(marks, title, Axis("milliseconds", 0, until), place, along=along)


def merged(events: Sequence[Event]) -> list[Event]:
    """The events, or, where they are too many to draw, one for all of a rank's work on a micro-batch without a longer wait."""
    if len(events) <= MOST:
        return list(events)
    short = 0.003 * max(event.end for event in events)
    found: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda e: e.begin):
        own = found.setdefault(event.device, [])
        if event.kind in PLAIN:
            if event.end - event.begin > short:
                own.append(event)
        elif own and (own[-1].kind, own[-1].part) == (event.kind, event.part):
            own[-1] = replace(own[-1], end=event.end)
        else:
            own.append(replace(event, layer=ALL))
    return [event for own in found.values() for event in own]


def colours(events: Iterable[Event], layers: Sequence[str]) -> list[str]:
    """A colour for every layer, in the order of the network, or for every micro-batch; beyond the palette they begin again."""
    place = {layer: k for k, layer in enumerate(layers)}
    numbers = (event.part if event.layer == ALL else place[event.layer] for event in events)
    return [style.PALETTE[number % len(style.PALETTE)] for number in numbers]


def about(event: Event) -> str:
    """One event in words."""
    part = f", micro-batch {event.part + 1}" if event.kind in ("forward", "backward") else ""
    what = {
        "forward": f"{event.layer} forward",
        "backward": f"{event.layer} backward",
        "wait": f"waits for {event.layer}",
        "sum": f"sum over all ranks: {event.layer}",
    }[event.kind]
    steps = f"steps {event.first} to {event.last - 1}"
    return f"{event.device}: {what}, {steps}{part}<br>{1e3 * (event.end - event.begin):.2f} ms"


def rank(event: Event) -> int:
    """The rank of an event."""
    return int(event.device.removeprefix("rank "))
