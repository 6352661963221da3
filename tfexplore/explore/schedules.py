"""The grid of (layer, time) cells, and the order in which a network really walked it, played piece by piece."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor, nn

from tfexplore.backends import choose
from tfexplore.explore import plots
from tfexplore.explore.explorer import Explorer, choice, slider
from tfexplore.explore.walks import NETWORKS, WALKS, Grid, Need, Piece, Walk, check, example, example_input, grid
from tfexplore.neurons.parameters import checked_count

MOST_CELLS, MOST_FRAMES, NUMBERED = 600, 80, 16
HEIGHT, GAP = 0.56, 0.13  # of a bar, and left and right of it: room for the arrows
WAITING, DONE, NOW, LINE = "#eee", "#8ce", "#dc7", "#333"  # the palette's sky and sand, in short
WRONG = plots.colour(1)
WALK_COLOURS, COUNTED = (4, 9, 3), ("launches", "words")
BARS, NOW_EDGE, NEEDS, UNMET, CROSSES, CURVES = range(
    6
)  # traces: the curves of launches, those of words, then a dot on each


class Schedules(Explorer):
    """Plays the recorded order in which the cells of the (layer, time) grid were executed, and what each piece cost.

    net, x:    a network of yours and its input, [T, B, *features]; without them, small ones to choose from.
    controls:  network (only without net), walk, steps (T), play, piece (how many pieces of work have run).
    result:    `walks.Grid`: every walk's pieces, launches, words, and the needs that were not met.

    >>> made = Schedules()
    >>> made.controls["walk"].value = "fused"
    >>> len(made.walk.pieces), made.walk.launches
    (5, 5)
    """

    caption = (
        "Each bar is one piece of work that was executed, numbered in the order of execution; the arrows are what the "
        "current piece needs. The curves count the launches and the words moved."
    )

    def __init__(
        self,
        net: nn.Module | None = None,
        x: Tensor | None = None,
        *,
        network: str = NETWORKS[0],
        walk: str = WALKS[0],
        steps: int | None = None,
    ) -> None:
        if net is None and x is not None:
            raise TypeError("net is missing: give the network that x is for, or neither of the two.")
        for what, given, allowed in (("walk", walk, WALKS), ("network", network, NETWORKS)):
            if given not in allowed:
                raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}, but got {given!r}.")
        most = 16
        if net is not None:
            x = check(net, x)
            most = min(len(x), max(1, MOST_CELLS // len(grid(net, x[:1]).rows)))
        steps = min(8, most) if steps is None else steps
        checked_count("steps", steps, most)
        self.net, self.x = net, x
        controls = {
            "network": choice("network", list(NETWORKS), network, "what is connected to what"),
            "walk": choice("walk", list(WALKS), walk, "the order in which the cells are executed"),
            "steps": slider("time steps T", steps, 1, most, help="time steps in one pass"),
            "piece": slider("pieces done", 0, 0, 1, help="how many pieces of work have been executed", live=True),
            "play": widgets.Play(
                interval=400, min=0, max=1, description="play the walk", tooltip="play the walk, piece by piece"
            ),
        }
        if net is not None:
            del controls["network"]
        super().__init__(controls, go.Figure(), None)
        self.record()
        self.figure = self.drawn()
        self.describe_state()
        for name in ("network", "steps"):
            if name in controls:
                self.on(name, self.record)
                self.on(name, self.redraw)
        self.on("walk", self.rewalk)
        self.on("piece", self.move)
        widgets.jslink((controls["play"], "value"), (controls["piece"], "value"))
        self.go_live()

    @property
    def walk(self) -> Walk:
        """The walk that is shown."""
        walks: dict[str, Walk] = self.result.walks
        return walks[self.controls["walk"].value]

    def record(self) -> None:
        """Walks the network in all ways, and puts the player at the end of the chosen one."""
        steps = self.controls["steps"].value
        if self.net is None:
            self.result = grid(example(self.controls["network"].value), example_input(steps))
        else:
            assert self.x is not None
            self.result = grid(self.net, self.x[:steps])
        self.to_the_end()

    def to_the_end(self) -> None:
        with self.quietly():
            for name in ("piece", "play"):
                control, last = self.controls[name], len(self.walk.pieces)
                control.max = last
                control.value = last

    def rewalk(self) -> None:
        self.to_the_end()
        self.redraw()

    def move(self) -> None:
        """The player stands somewhere else: colours, arrows, dots and the sentence."""
        self.draw(states(self.result, self.walk, self.controls["piece"].value))
        self.describe_state()

    def redraw(self) -> None:
        """Another walk, or another grid."""
        self.draw_anew()
        self.describe_state()

    @plots.at_once
    def draw_anew(self) -> None:
        self.figure.layout.xaxis.update(self.time())
        self.figure.layout.yaxis.update(self.layers())
        self.draw(contents(self.result, self.walk, self.controls["piece"].value))

    @plots.at_once
    def draw(self, traces: dict[int, dict[str, Any]]) -> None:
        for trace, values in traces.items():
            self.figure.data[trace].update(values)

    def time(self) -> dict[str, Any]:
        """The axis of the columns."""
        return {"range": [-0.6, self.result.steps - 0.4], "tick0": 0, "dtick": -(-self.result.steps // 16)}

    def layers(self) -> dict[str, Any]:
        """The axis of the rows."""
        rows = range(len(self.result.rows))
        return {"range": [-0.6, len(rows) - 0.4], "tickvals": list(rows), "ticktext": [self.label(row) for row in rows]}

    def describe_state(self) -> None:
        walk, position = self.walk, self.controls["piece"].value
        done = walk.pieces[:position]
        counts = f"{sum(p.launches for p in done):,} launches, {sum(p.words for p in done):,} words"
        name = walk.name.capitalize()
        if position == 0:
            self.say(f"{name}: nothing has run yet. Press play, or move the slider with the arrow keys.")
        elif position < len(walk.pieces):
            piece = done[-1]
            bad = " It needs spikes that are not there yet (×)." if piece.unmet else ""
            self.say(
                f"{name}, piece {position} of {len(walk.pieces)}: {self.label(piece.row)}, {when(piece)}. So far {counts}.{bad}"
            )
        else:
            self.say(self.summary(), alarm=bool(walk.refusal))

    def summary(self) -> str:
        """What the whole walk cost, whether the library allows it, and whether its result is right."""
        walk = self.walk
        between = f", of which {walk.outside[0]} and {walk.outside[1]:,} between the layers" if walk.outside[0] else ""
        cost = f"{len(walk.pieces)} pieces of work, {walk.launches:,} launches, {walk.words:,} words{between}."
        if walk.name == "fused" and self.result.walks["fused"].pieces == self.result.walks["layer by layer"].pieces:
            device = "cpu" if self.x is None else self.x.device
            cost += f" Nothing was fused here ({choose('auto', device).reason})."
        if not walk.refusal:
            return f"{walk.name.capitalize()}: {cost} {walk.verdict()}".strip()
        unmet = f" {len(walk.unmet)} cells (×) needed what was not there yet." if walk.unmet else ""
        return f"The library refuses: {walk.refusal} Walked like that all the same:{unmet} {walk.verdict()}".strip()

    def label(self, row: int) -> str:
        return f"{self.result.rows[row]} {self.result.kinds[row]}"

    def drawn(self) -> go.Figure:
        """A plain figure of the present state."""
        made, walk, position = self.result, self.walk, self.controls["piece"].value
        cut = {"rows": 2, "cols": 2, "specs": [[{"rowspan": 2}, {}], [None, {}]], "column_widths": [0.7, 0.3]}
        figure = make_subplots(**cut, horizontal_spacing=0.1, vertical_spacing=0.2)
        left, right = {"row": 1, "col": 1}, ({"row": 1, "col": 2}, {"row": 2, "col": 2})
        number = {"textposition": "inside", "insidetextanchor": "start", "textangle": 0, "constraintext": "none"}
        hover = "%{customdata}<extra></extra>"
        number["textfont"] = {"color": "black"}
        figure.add_bar(orientation="h", showlegend=False, hovertemplate=hover, **number, **left)
        figure.add_scatter(mode="lines", line={"color": LINE, "width": 2}, hoverinfo="skip", showlegend=False, **left)
        for colour, dash in ((LINE, "solid"), (WRONG, "dash")):
            look = {"line": {"color": colour, "width": 1.5, "dash": dash}, "marker": {"color": colour, "opacity": 1}}
            figure.add_scatter(mode="lines+markers", hoverinfo="skip", showlegend=False, **look, **left)
        cross = {"symbol": "x", "size": 11, "color": WRONG}
        figure.add_scatter(mode="markers", marker=cross, hoverinfo="skip", showlegend=False, **left)
        for place, what in zip(right, COUNTED, strict=True):
            for k, name in enumerate(made.walks):
                line = {"color": plots.colour(WALK_COLOURS[k]), "dash": plots.DASHES[k], "width": 2}
                figure.add_scatter(
                    mode="lines", name=name, line=line, showlegend=what == COUNTED[0], hoverinfo="skip", **place
                )
            figure.update_yaxes(title=what, rangemode="tozero", nticks=4, **place)
        dot = {"size": 11, "color": NOW, "line": {"color": LINE, "width": 2}}
        for place, what in zip(right, COUNTED, strict=True):
            hover = "%{y:,} " + what + "<extra></extra>"
            figure.add_scatter(mode="markers", marker=dot, showlegend=False, hovertemplate=hover, **place)
        for trace, values in contents(made, walk, position).items():
            figure.data[trace].update(values)
        bare = {"showgrid": False, "zeroline": False, **left}
        figure.update_xaxes(title="time step t", **self.time(), **bare)
        figure.update_yaxes(**self.layers(), **bare)
        figure.update_xaxes(title="cells done", **right[1])
        legend = {"orientation": "h", "x": 1.0, "xanchor": "right", "y": 1.04, "yanchor": "bottom"}
        return plots.styled(
            figure, height=440, barmode="overlay", legend=legend, margin={"l": 120, "r": 50, "t": 40, "b": 50}
        )

    def page(self) -> go.Figure:
        """The chosen walk as frames, with a play button and a slider: it needs no kernel."""
        walk, figure = self.walk, self.drawn()
        total = len(walk.pieces)
        stops = sorted({*range(0, total, -(-total // MOST_FRAMES)), total})
        for k in stops:
            changed = states(self.result, walk, k)
            data = [{"type": figure.data[trace].type, **values} for trace, values in changed.items()]
            figure.frames += (go.Frame(name=str(k), data=data, traces=list(changed)),)
        still = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
        play = {"frame": {"duration": 400, "redraw": True}, "transition": {"duration": 0}, "fromcurrent": False}
        buttons = [
            {"label": "▶ play", "method": "animate", "args": [None, play]},
            {"label": "pause", "method": "animate", "args": [[None], still]},
        ]
        marks = [{"label": str(k), "method": "animate", "args": [[str(k)], still]} for k in stops]
        where = {"x": 0.14, "len": 0.55, "y": -0.14, "pad": {"t": 0}}
        figure.update_layout(
            height=520,
            margin={"l": 120, "r": 50, "t": 40, "b": 130},
            updatemenus=[{"type": "buttons", "direction": "left", "x": 0.1, "xanchor": "right", "y": -0.16, "yanchor": "top",
                          "showactive": False, "buttons": buttons}],
            sliders=[{**where, "active": len(stops) - 1, "steps": marks, "currentvalue": {"prefix": "pieces done: "}}],
        )  # fmt: skip
        return figure

    def picture(self) -> bytes:
        made, walk, position = self.result, self.walk, self.controls["piece"].value
        drawing = plots.static_figure(10, 1.6 + 0.45 * max(4, len(made.rows)))
        panels = drawing.subplot_mosaic([["grid", "launches"], ["grid", "words"]], width_ratios=[7, 3])
        axes = panels["grid"]
        for k, piece in enumerate(walk.pieces):
            x, width = piece.first - 0.5 + GAP, piece.last - piece.first - 2 * GAP
            now = k == position - 1
            face = paint(k, position)
            axes.barh(
                piece.row, width, HEIGHT, left=x, color=face, edgecolor="0.2" if now else "white", lw=1.5 if now else 0
            )
            if numbered(made, walk):
                axes.text(x + 0.06, piece.row, str(k + 1), va="center", fontsize=8)
        for needs, tint, style in (
            (current_needs(walk, position), "0.2", "-"),
            (broken(walk, position), plots.rgb(1), "--"),
        ):
            for need in needs:
                (x0, y0), (x1, y1) = segment(need)
                arrow = {"arrowstyle": "->", "color": tint, "linestyle": style, "lw": 1.2}
                axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
        wrong = {cell for _, cell in broken(walk, position)}
        axes.plot([t for _, t in wrong], [r for r, _ in wrong], "x", color=plots.rgb(1), ms=11, mew=2.5)
        axes.set(xlim=(-0.6, made.steps - 0.4), ylim=(-0.6, len(made.rows) - 0.4), xlabel="time step t")
        axes.set_yticks(range(len(made.rows)), [self.label(r) for r in range(len(made.rows))])
        axes.set_title(f"{walk.name}: {position} of {len(walk.pieces)} pieces of work", fontsize=9, loc="left")
        lines = curves(made)
        for r, what in enumerate(COUNTED):
            for k, name in enumerate(made.walks):
                style = ("-", "--", ":")[k]
                values = lines[len(made.walks) * r + k]
                panels[what].plot(values["x"], values["y"], style, color=plots.rgb(WALK_COLOURS[k]), label=name)
            dot = states(made, walk, position)[CURVES + 2 * len(made.walks) + r]
            panels[what].plot(dot["x"], dot["y"], "o", color=plots.rgb(2), mec="0.2", ms=7)
            panels[what].set(ylabel=what, ylim=(0, None))
            panels[what].spines[["top", "right"]].set_visible(False)
            panels[what].yaxis.set_major_formatter(
                lambda value, _: f"{value:,.0f}" if value < 1e4 else f"{value / 1e3:,.0f}k"
            )
        panels["launches"].legend(frameon=False, fontsize=7)
        panels["words"].set_xlabel("cells done")
        axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def paint(k: int, position: int) -> str:
    """The colour of piece k when `position` pieces are done."""
    return WAITING if k >= position else NOW if k == position - 1 else DONE


def outline(walk: Walk, position: int) -> dict[str, Any]:
    """The frame around the piece that ran last."""
    if position == 0:
        return {"x": [None] * 5, "y": [None] * 5}
    piece = walk.pieces[position - 1]
    left, right, half = piece.first - 0.5 + GAP, piece.last - 0.5 - GAP, HEIGHT / 2
    low, high = piece.row - half, piece.row + half
    return {"x": [left, right, right, left, left], "y": [low, low, high, high, low]}


def numbered(made: Grid, walk: Walk) -> bool:
    """Whether there is room for the numbers of the pieces."""
    return made.steps <= NUMBERED or len(walk.pieces) < 2 * NUMBERED


def when(piece: Piece) -> str:
    alone = piece.last == piece.first + 1
    return f"step {piece.first}" if alone else f"steps {piece.first} to {piece.last - 1}"


def bars(made: Grid, walk: Walk) -> dict[str, Any]:
    return {
        "base": [p.first - 0.5 + GAP for p in walk.pieces],
        "x": [p.last - p.first - 2 * GAP for p in walk.pieces],
        "y": [p.row for p in walk.pieces],
        "width": [HEIGHT] * len(walk.pieces),
        "text": [str(k + 1) if numbered(made, walk) else "" for k in range(len(walk.pieces))],
        "customdata": [
            f"{made.rows[p.row]} {made.kinds[p.row]}, {when(p)}: {p.launches} launches, {p.words:,} words"
            for p in walk.pieces
        ],
    }


def current_needs(walk: Walk, position: int) -> list[Need]:
    """What the piece that ran last needed and got."""
    return (
        [need for need in walk.pieces[position - 1].needs if need not in walk.pieces[position - 1].unmet]
        if position
        else []
    )


def broken(walk: Walk, position: int) -> list[Need]:
    """What the pieces so far needed and did not get."""
    return [need for piece in walk.pieces[:position] for need in piece.unmet]


def segment(need: Need) -> tuple[tuple[float, float], tuple[float, float]]:
    """An arrow from the edge of a cell to the edge of another."""
    (r0, t0), (r1, t1) = need
    dx, dy = t1 - t0, r1 - r0
    off = min((0.5 - GAP) / max(abs(dx), 0.1), HEIGHT / 2 / max(abs(dy), 0.1))
    aside = 0.2 if dx == 0 and abs(dy) > 1 else 0.0  # past the rows between
    return (t0 + off * dx + aside, r0 + off * dy), (t1 - off * dx + aside, r1 - off * dy)


def arrows(needs: list[Need]) -> dict[str, Any]:
    """The arrows as one line with gaps; a gap is a point without coordinates."""
    ends = [segment(need) for need in needs]
    many = max(1, len(ends))
    return {
        "x": [x for a, b in ends for x in (a[0], b[0], None)] or [None] * 3,
        "y": [y for a, b in ends for y in (a[1], b[1], None)] or [None] * 3,
        "marker": {"symbol": ["circle", "arrow", "circle"] * many, "size": [0, 10, 0] * many, "angleref": "previous"},
    }


def progress(pieces: tuple[Piece, ...]) -> tuple[list[int], list[int], list[int]]:
    """Cells done, launches and words, before the first piece and after each."""
    counts = ([p.last - p.first for p in pieces], [p.launches for p in pieces], [p.words for p in pieces])
    cells, launches, words = (list(accumulate(values, initial=0)) for values in counts)
    return cells, launches, words


def curves(made: Grid) -> list[dict[str, Any]]:
    """Launches of all walks, then their words."""
    ways = [progress(walk.pieces) for walk in made.walks.values()]
    return [{"x": way[0], "y": way[k]} for k in (1, 2) for way in ways]


def states(made: Grid, walk: Walk, position: int) -> dict[int, dict[str, Any]]:
    """By trace: what changes when the player moves."""
    cells, launches, words = progress(walk.pieces)
    dots = CURVES + 2 * len(made.walks)
    wrong = broken(walk, position)
    crossed = sorted({cell for _, cell in wrong})
    return {
        BARS: {"marker": {"color": [paint(k, position) for k in range(len(walk.pieces))]}},
        NOW_EDGE: outline(walk, position),
        NEEDS: arrows(current_needs(walk, position)),
        UNMET: arrows(wrong),
        CROSSES: {"x": [t for _, t in crossed] or [None], "y": [row for row, _ in crossed] or [None]},
        dots: {"x": [cells[position]], "y": [launches[position]]},
        dots + 1: {"x": [cells[position]], "y": [words[position]]},
    }


def contents(made: Grid, walk: Walk, position: int) -> dict[int, dict[str, Any]]:
    """By trace: everything that is drawn."""
    moving = states(made, walk, position)
    fixed = dict(enumerate(curves(made), CURVES))
    return moving | fixed | {BARS: bars(made, walk) | moving[BARS]}
