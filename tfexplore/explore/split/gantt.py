"""A Gantt chart of ranks: what each of them does when, from events, those of a real run or those of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from tfexplore.explore import plots
from tfexplore.measure.timeline import Event

KINDS = {"forward": "", "backward": "/", "wait": "", "sum": ""}
"""What a rank may be at, and the pattern of its bars."""
HEIGHTS = {"forward": 0.8, "backward": 0.8, "wait": 0.12, "sum": 0.4}
GREY = {"wait": "#8c8c8c", "sum": "#222222"}
MOST = 1500
"""Bars that a browser draws at once without a pause; of more, a bar is all that a rank does for one micro-batch."""
ALL = "all layers"
LEGEND = (
    "One colour for each layer; hatched on the way back. A thin line is a wait, a black bar a sum over all devices."
)


def merged(events: Sequence[Event]) -> list[Event]:
    """The events, or, where they are too many to draw, one for all of a rank's work on a micro-batch without a longer wait."""
    if len(events) <= MOST:
        return list(events)
    short = 0.003 * max(event.end for event in events)
    found: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda e: e.begin):
        own = found.setdefault(event.device, [])
        if event.kind in GREY:
            if event.end - event.begin > short:
                own.append(event)
        elif own and (own[-1].kind, own[-1].part) == (event.kind, event.part):
            own[-1] = replace(own[-1], end=event.end)
        else:
            own.append(replace(event, layer=ALL))
    return [event for own in found.values() for event in own]


def colours(events: Iterable[Event], layers: Sequence[str]) -> list[int]:
    """A colour for every layer, in the order of the network, or for every micro-batch; beyond the palette they begin again."""
    place = {layer: k for k, layer in enumerate(layers)}
    return [(e.part if e.layer == ALL else place[e.layer]) % (len(plots.SAFE) - 1) for e in events]


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


def add(figure: go.Figure, row: int, col: int) -> None:
    """Four empty traces, one for each kind."""
    for kind, pattern in KINDS.items():
        marker: dict[str, Any] = {"color": [], "line": {"width": 0}}
        if pattern:
            marker["pattern"] = {"shape": pattern, "fgcolor": "white", "size": 7, "solidity": 0.25}
        figure.add_bar(
            x=[], y=[], base=[], width=HEIGHTS[kind], orientation="h", marker=marker, text=[], textposition="none",
            hovertemplate="%{text}<extra></extra>", name=kind, showlegend=False, row=row, col=col,
        )  # fmt: skip


def put(figure: go.Figure, first: int, events: Sequence[Event], layers: Sequence[str]) -> None:
    """Draws the events into the four traces from the trace `first` on."""
    shown = merged(events)
    for k, kind in enumerate(KINDS):
        own = [event for event in shown if event.kind == kind]
        colour = [GREY[kind]] * len(own) if kind in GREY else [plots.colour(c) for c in colours(own, layers)]
        figure.data[first + k].update(
            x=[1e3 * (e.end - e.begin) for e in own], y=[number(e) for e in own], base=[1e3 * e.begin for e in own],
            text=[about(e) for e in own], marker={"color": colour},
        )  # fmt: skip


def number(event: Event) -> int:
    """The rank of an event."""
    return int(event.device.removeprefix("rank "))


def draw(axes: Any, events: Sequence[Event], layers: Sequence[str]) -> None:
    """The same in matplotlib."""
    shown = merged(events)
    for kind, pattern in KINDS.items():
        own = [event for event in shown if event.kind == kind]
        colour: Any = GREY.get(kind) or [plots.rgb(c) for c in colours(own, layers)]
        axes.barh(
            [number(e) for e in own], [1e3 * (e.end - e.begin) for e in own], HEIGHTS[kind], [1e3 * e.begin for e in own],
            color=colour, hatch=2 * pattern, edgecolor="white", linewidth=0,
        )  # fmt: skip
    ranks = sorted({number(event) for event in events}) or [0]
    axes.set_yticks(ranks if len(ranks) <= 16 else ranks[:: len(ranks) // 8], minor=False)
    axes.set_ylim(ranks[-1] + 0.6, ranks[0] - 0.6)
    axes.spines[["top", "right"]].set_visible(False)
