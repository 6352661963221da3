"""Draws a sheet by plotly, and updates a live figure to another sheet of the same explorer in one message.

`described` writes a sheet as plotly's own JSON. The first drawing and every update come from it, so they cannot differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Arrows, Axis, Bars, Colours, Heat, Line, Mark, Points, Rule, Sheet

SIGNS = {"circle": "circle", "square": "square", "diamond": "diamond", "cross": "x", "triangle": "triangle-up",
         "star": "star", "tick": "line-ns"}  # fmt: skip
DARK_TEXT = "#17202a"  # on a colour, whatever the page's theme
RIGHT, BAR, FOOT, HEAD, LEGEND, TICKS = 45, 95, 48, 30, 36, 18  # margins in pixels
Described = tuple[list[dict[str, Any]], dict[str, Any]]


def described(sheet: Sheet) -> Described:
    """The sheet as plotly's traces and layout."""
    names = list(sheet.panels)
    domains, traces, labelled = places(sheet), [], set()
    layout: dict[str, Any] = {
        "template": style.PLOTLY, "height": sheet.height, "autosize": True, "barmode": "overlay", "bargap": 0,
        "showlegend": True, "annotations": [], "shapes": [],
        "margin": {"l": sheet.margin, "r": RIGHT, "t": HEAD, "b": FOOT, "pad": 0},
    }  # fmt: skip
    for k, (name, panel) in enumerate(sheet.panels.items()):
        n = str(k + 1) if k else ""
        across, up = domains.get(name, domains[next(iter(domains))])
        follows = names.index(panel.along) if panel.along else None
        layout[f"xaxis{n}"] = axis(panel.x, panel.hidden) | {"domain": across, "anchor": f"y{n}"}
        layout[f"yaxis{n}"] = axis(panel.y, panel.hidden) | {"domain": up, "anchor": f"x{n}"}
        if follows is not None:
            layout[f"xaxis{n}"]["matches"] = f"x{follows + 1 if follows else ''}"
        if panel.square:
            layout[f"yaxis{n}"] |= {"scaleanchor": f"x{n}", "constrain": "domain", "constraintoward": "top"}
            layout[f"xaxis{n}"]["constrain"] = "domain"
        if panel.table:
            layout[f"xaxis{n}"] |= {"side": "top", "showline": False, "ticks": ""}
            layout[f"yaxis{n}"] |= {"showline": False, "ticks": ""}
            layout["margin"] |= {"t": HEAD + TICKS, "b": 8}
        title = {"text": f"<b>{panel.title}</b>" if panel.title else "", "x": across[0], "y": up[1], "xref": "paper",
                 "yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False, "yshift": 4 + TICKS * panel.table,
                 "font": {"size": style.SIZE}}  # fmt: skip
        layout["annotations"].append(title)
        for mark in panel.marks:
            if isinstance(mark, Rule):
                layout["shapes"].append(rule(mark, n))
                continue
            if isinstance(mark, Heat) and mark.bar is not None:
                layout["margin"]["r"] = BAR
            shown = bool(mark.label) and not empty(mark) and mark.label not in labelled and not panel.hidden
            labelled |= {mark.label} if shown else set()
            common = {
                "name": mark.label or mark.name, "meta": mark.name, "xaxis": f"x{n}", "yaxis": f"y{n}", "showlegend": shown,
                "visible": not panel.hidden, "legendgroup": mark.label or mark.name,
            }  # fmt: skip
            traces.append(common | TRACES[type(mark)](mark, (across, up)) | hover(mark))
    if sheet.legend:
        layout["margin"]["t" if sheet.legend == "above" else "b"] += LEGEND
        where = {"y": 1, "yanchor": "top"} if sheet.legend == "above" else {"y": 0, "yanchor": "bottom"}
        layout["legend"] = {"orientation": "h", "x": 0, "yref": "container", "traceorder": "normal"} | where
    return traces, layout


def places(sheet: Sheet) -> dict[str, tuple[list[float], list[float]]]:
    """From where to where each panel goes, across and up, as parts of the whole."""
    grid = sheet.grid
    columns, rows = len(grid[0]), len(grid)
    lefts = edges(sheet.widths or [1.0] * columns, sheet.gaps[0])
    downs = edges(sheet.heights or [1.0] * rows, sheet.gaps[1])
    found: dict[str, tuple[list[float], list[float]]] = {}
    for name in sheet.panels:
        cells = [(r, c) for r, row in enumerate(grid) for c, here in enumerate(row) if here == name]
        if cells:
            (top, left), (bottom, right) = cells[0], cells[-1]
            up = [1 - downs[bottom][1], 1 - downs[top][0]]
            found[name] = ([round(lefts[left][0], 4), round(lefts[right][1], 4)], [round(edge, 4) for edge in up])
    return found


def edges(sizes: Sequence[float], gap: float) -> list[tuple[float, float]]:
    scale, at, found = (1 - gap * (len(sizes) - 1)) / sum(sizes), 0.0, []
    for size in sizes:
        found.append((at, at + scale * size))
        at += scale * size + gap
    return found


def axis(given: Axis, hidden: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "log" if given.log else "category" if given.words else "linear", "title": {"text": given.title},
        "visible": not hidden, "showgrid": not given.bare, "showticklabels": not given.silent, "automargin": True,
    }  # fmt: skip
    low, high = (math.log10(end) if end is not None and given.log else end for end in (given.low, given.high))
    if low is not None and high is not None:
        found |= {"range": [low, high], "autorange": False}
    else:  # not a range with one end: the browser forgets that end with the next update
        found["autorange"] = "reversed" if given.backwards else True
        found["autorangeoptions"] = {"minallowed": low, "maxallowed": high}
    if given.words:
        found |= {"categoryorder": "array", "categoryarray": list(given.words)}
    if isinstance(given.ticks, Mapping):
        found |= {"tickmode": "array", "tickvals": list(given.ticks), "ticktext": list(given.ticks.values())}
    elif given.ticks is not None:
        found |= {"tickmode": "array", "tickvals": list(given.ticks)}
    elif given.every or given.log:
        found |= {"tick0": 0, "dtick": given.every or 1}
    if given.ticks is not None and not given.ticks:
        found |= {"showticklabels": False, "ticks": "", "showgrid": False, "showline": not given.bare}
    if given.log or given.form:
        found |= {"exponentformat": "none", "tickformat": re.sub("g$", "~g", given.form)}  # ~: 0.1, not 0.100000
    return found


def rule(mark: Rule, n: str) -> dict[str, Any]:
    line = {"color": mark.colour, "dash": mark.dash, "width": mark.width}
    across = {"xref": f"x{n} domain", "x0": 0, "x1": 1, "yref": f"y{n}", "y0": mark.y, "y1": mark.y}
    upright = {"xref": f"x{n}", "x0": mark.x, "x1": mark.x, "yref": f"y{n} domain", "y0": 0, "y1": 1}
    there = mark.x is not None or mark.y is not None  # without a place plotly would draw it aslant
    return {"type": "line", "name": mark.name, "visible": there, "line": line} | (across if mark.x is None else upright)


# -- marks ---------------------------------------------------------------------------------------------------------


def empty(mark: Mark) -> bool:
    values = {Line: "x", Points: "x", Bars: "at", Heat: "z", Arrows: "ends"}[type(mark)]
    return len(getattr(mark, values)) == 0


def hover(mark: Mark) -> dict[str, Any]:
    """What the pointer shows."""
    if mark.words is None or isinstance(mark, Arrows):
        return {"hoverinfo": "skip"}
    if not isinstance(mark.words, str):
        return {"hovertext": list(mark.words), "hovertemplate": "%{hovertext}<extra></extra>"}
    if mark.words:
        pattern = mark.words.replace("{", "%{").replace("%{under", "%{customdata")
        return {"hovertemplate": f"{pattern}<extra></extra>"}
    return {"hovertemplate": f"%{{x}}, %{{y:.4g}}<extra>{mark.label or mark.name}</extra>"}


def values(given: Any) -> Any:
    """Numbers as an array, which plotly sends as bytes; words as a list."""
    array = np.asarray(given)
    return array if array.dtype.kind in "fiub" and array.size else list(given)


def signs(mark: Line | Points, colour: Any, edge: str) -> dict[str, Any]:
    name = SIGNS[mark.sign or "circle"] + ("-open" if mark.hollow else "")
    if mark.sign == "tick":
        return {"symbol": name, "size": mark.size, "line": {"color": colour, "width": 2}}
    return {"symbol": name, "size": mark.size, "color": colour, "opacity": 1,
            "line": {"color": edge or colour, "width": 1 if edge else 1.5 if mark.hollow else 0}}  # fmt: skip


def line(mark: Line, _: Any) -> dict[str, Any]:
    parts = ["lines"] * bool(mark.dash) + ["markers"] * bool(mark.sign)
    found = {
        "type": "scatter", "mode": "+".join(parts), "x": values(mark.x), "y": values(mark.y), "opacity": mark.alpha,
        "line": {"color": mark.colour, "dash": mark.dash or "solid", "width": mark.width,
                 "shape": "hvh" if mark.steps else "linear"},
    }  # fmt: skip
    return found | ({"marker": signs(mark, mark.colour, "")} if mark.sign else {})


def points(mark: Points, _: Any) -> dict[str, Any]:
    colour = mark.colour if isinstance(mark.colour, str) else list(mark.colour)
    return {"type": "scatter", "mode": "markers", "x": values(mark.x), "y": values(mark.y),
            "marker": signs(mark, colour, mark.edge)}  # fmt: skip


def each(given: Colours, count: int) -> list[str]:
    return [given] * count if isinstance(given, str) else list(given)


def bars(mark: Bars, _: Any) -> dict[str, Any]:
    at, length, base = values(mark.at), values(mark.length), mark.start
    colours, edge = each(mark.colour, len(at)), each(mark.edge, len(at))
    place, size = ("x", "y") if mark.upright else ("y", "x")
    outline = {"color": [e or c for e, c in zip(edge, colours, strict=True)], "width": [1.5 * bool(e) for e in edge]}
    found: dict[str, Any] = {
        "type": "bar", "orientation": "v" if mark.upright else "h", place: at, size: length, "width": mark.thickness,
        "base": base if np.ndim(base) == 0 else values(base), "offset": mark.shift - mark.thickness / 2,
        "marker": {"color": colours, "line": outline,
                   "pattern": {"shape": each(mark.hatch, len(at)), "size": 7, "solidity": 0.25, "fgcolor": style.PAPER,
                               "fillmode": "overlay"}},
    }  # fmt: skip
    if mark.inside:
        inks = [style.INK if c == style.WAITING else DARK_TEXT if bright(c) else style.PAPER for c in colours]
        anchor = "middle" if any("\n" in text for text in mark.texts) else "start"
        found |= {"insidetextanchor": anchor, "textangle": 0, "textfont": {"color": inks}}
    where = "inside" if mark.inside else "outside"
    texts = [text.replace("\n", "<br>") for text in mark.texts]
    return found | {"text": texts, "textposition": where if len(mark.texts) else "none", "cliponaxis": False,
                    "constraintext": "none"}  # fmt: skip


def bright(colour: str) -> bool:
    """Whether dark text is read better on it than light text."""
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18


def heat(mark: Heat, place: Any) -> dict[str, Any]:
    z, count = np.asarray(mark.z, float), len(mark.colours)
    low, high = (-0.5, count - 0.5) if mark.distinct else (mark.low, mark.high)
    if mark.distinct:
        scale = [[edge, c] for k, c in enumerate(mark.colours) for edge in (k / count, (k + 1) / count)]
    else:
        scale = [[k / (count - 1), c] for k, c in enumerate(mark.colours)]
    rows, columns = z.shape if z.ndim == 2 else (0, 0)
    (_, right), (bottom, top) = place
    found: dict[str, Any] = {
        "type": "heatmap", "z": np.where(np.isnan(z), np.array(None), z),  # JSON has no other word for not-a-number
        "x": values(range(columns) if mark.x is None else mark.x), "y": values(range(rows) if mark.y is None else mark.y),
        "zmin": low, "zmax": high, "colorscale": scale, "xgap": mark.gap, "ygap": mark.gap, "showscale": mark.bar is not None,
    }  # fmt: skip
    if mark.texts is not None:
        found |= {"text": [list(row) for row in mark.texts], "texttemplate": "%{text}", "textfont": {"size": 10}}
    if mark.under is not None:
        found["customdata"] = mark.under
    if mark.bar is not None:
        found["colorbar"] = {"tickvals": list(mark.bar), "ticktext": list(mark.bar.values()), "len": top - bottom, "y": top,
                             "yanchor": "top", "x": right + 0.01, "thickness": 14, "outlinewidth": 0,
                             "tickfont": {"size": 11}}  # fmt: skip
    return found


def arrows(mark: Arrows, _: Any) -> dict[str, Any]:
    """One line with gaps; a gap is a point without coordinates."""
    many = len(mark.ends)
    return {
        "type": "scatter", "mode": "lines+markers",
        "x": [x for a, b in mark.ends for x in (a[0], b[0], None)], "y": [y for a, b in mark.ends for y in (a[1], b[1], None)],
        "line": {"color": mark.colour, "dash": mark.dash, "width": mark.width},
        "marker": {"symbol": ["circle", "arrow", "circle"] * many, "size": [0, 10, 0] * many, "angleref": "previous",
                   "color": mark.colour, "opacity": 1},
    }  # fmt: skip


TRACES: dict[type[Mark], Any] = {Line: line, Points: points, Bars: bars, Heat: heat, Arrows: arrows}


# -- figures -------------------------------------------------------------------------------------------------------


def figure_of(description: Described) -> go.Figure:
    """A plain figure."""
    traces, layout = description
    return go.Figure(traces, layout)


def trace(figure: go.Figure, name: str) -> Any:
    """The trace of the mark of this name."""
    return next(trace for trace in figure.data if trace.meta == name)


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def same(a: Any, b: Any) -> bool:
    if not (isinstance(a, np.ndarray) or isinstance(b, np.ndarray)):
        return bool(a == b)
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What leads from old to new, by path; None where there is nothing any more."""
    before, after = dict(flat(old)), dict(flat(new))
    found = {path: value for path, value in after.items() if path not in before or not same(before[path], value)}
    return found | {path: None for path in before if path not in after}


def update(figure: go.FigureWidget, old: Described, new: Described) -> None:
    """Brings a figure from one sheet to another in one message: one for each trace would draw the whole anew for each."""
    names = [[trace["meta"] for trace in traces] for traces, _ in (old, new)]
    if names[0] != names[1]:
        raise ValueError(
            f"all sheets of an explorer must have the same marks in the same order (an empty one shows nothing), but "
            f"{names[0]} became {names[1]}."
        )
    with figure.batch_update():
        for trace, before, after in zip(figure.data, old[0], new[0], strict=True):
            for path, value in changes(before, after).items():
                trace[path] = value
        for path, value in changes(old[1], new[1]).items():
            figure.layout[path] = value


def frames(sheets: Mapping[str, Sheet]) -> list[go.Frame]:
    """A frame for each sheet, by name, with all that changes between any two of them."""
    all_of = {name: described(sheet) for name, sheet in sheets.items()}
    first = next(iter(all_of.values()))
    moving: list[set[str]] = [set() for _ in first[0]]
    for traces, _ in all_of.values():
        for paths, before, after in zip(moving, first[0], traces, strict=True):
            paths.update(changes(before, after))
    which = [k for k, paths in enumerate(moving) if paths]
    made = []
    for name, (traces, _) in all_of.items():
        data = []
        for k in which:
            own = {path: value for path, value in flat(traces[k]) if path in moving[k]}
            data.append({"type": traces[k]["type"]} | {path: shortened(path, value) for path, value in own.items()})
        made.append(go.Frame(name=name, data=[nested(values) for values in data], traces=which))
    return made


def shortened(path: str, value: Any) -> Any:
    """Half as long on a page; and a trace with nothing in it, which plotly would leave as it was, has one point nowhere."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = np.float32(value)
    return [None] if path in ("x", "y") and len(value) == 0 else value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in values.items():
        *ways, last = path.split(".")
        place = found
        for way in ways:
            place = place.setdefault(way, {})
        place[last] = value
    return found


def playing(sheets: Mapping[str, Sheet], at: str, prefix: str, interval: int = 0) -> go.Figure:
    """A figure with a slider over these sheets, and (`interval`, in ms) buttons that play them: it needs no kernel."""
    made = figure_of(described(sheets[at]))
    made.frames = frames(sheets)
    names, still = list(sheets), {"mode": "immediate", "transition": {"duration": 0}}
    jump = still | {"frame": {"duration": 0, "redraw": True}}
    steps = [{"label": name, "method": "animate", "args": [[name], jump]} for name in names]
    bottom, left = made.layout.margin.b, 0.16 if interval else 0.0
    room = 75  # below what is there
    whole = made.layout.height - bottom - made.layout.margin.t
    made.update_layout(
        height=made.layout.height + room,
        margin_b=bottom + room,
        sliders=[{
            "active": names.index(at), "steps": steps, "x": left, "len": 1 - left, "y": -(bottom - 8) / whole, "pad": {"t": 0},
            "currentvalue": {"prefix": f"{prefix}: ", "font": {"color": style.INK}}, "font": {"color": "rgba(0,0,0,0)"},
            "ticklen": 0, "minorticklen": 0, "bgcolor": style.GRID, "activebgcolor": style.MUTED, "borderwidth": 0,
        }],
    )  # fmt: skip
    if interval:
        play = still | {"frame": {"duration": interval, "redraw": True}, "fromcurrent": True}
        buttons = [
            {"label": "▶ play", "method": "animate", "args": [None, play]},
            {"label": "pause", "method": "animate", "args": [[None], jump]},
        ]
        made.update_layout(updatemenus=[{
            "type": "buttons", "direction": "left", "x": 0, "xanchor": "left", "y": -(bottom + 6) / whole, "yanchor": "top",
            "showactive": False, "buttons": buttons, "bgcolor": style.WAITING, "bordercolor": style.GRID,
        }])  # fmt: skip
    return made
