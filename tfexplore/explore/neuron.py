"""One neuron: a current goes in, the potential charges, fires and resets; beside it, the firing rate at constant currents."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tfexplore import neurons
from tfexplore.codegen.latex import latex_of
from tfexplore.explore import plots
from tfexplore.explore.explorer import NARROW, WIDTH, Explorer, choice, slider
from tfexplore.explore.membrane import KINDS, STARTS, Curve, Result, Stimulus, curve, lively, trace
from tfexplore.explore.ranges import nice, room, stretch
from tfexplore.explore.sliders import FloatSlider, IntRangeSlider
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import parameters_of
from tfexplore.nn.layers import Layer

PIECES = 12  # of a current drawn by hand
DRAWN = (0, 1, 2, 2, 0, 0, 0.8, 0.8, 1.2, 1.6, 2, 0.4)  # at first, in units of the neuron's first current
LABELS = dict(
    zip(KINDS, ("constant current x", "current while on", "mean current", "", "weight of one spike"), strict=True)
)
TALL = {"width": "34px", "height": "124px", "overflow": "visible"}
FRAMES = 15  # of a page without a kernel
Array = np.ndarray


class NeuronExplorer(Explorer):
    """A current, the potential that follows it, and spikes; beside them the rate at constant currents (the f-I curve).

    neuron: a value such as `neurons.LIF(tau=2.0)` or of a class of your own, to begin with; all neurons of the library can be
    chosen as well. The traces come from one `Layer` under `tfexplore.record`. It runs the fused kernel where there is one: the
    first time a neuron is chosen it compiles for a moment (and is kept); from then on it is quicker than the eager loop, whose
    every step is a handful of calls.

    controls: neuron, reset, steps (T), current (a kind), strength, on, sigma, rate, seed, hand_1 to hand_12, and every
    parameter by its name (tau, v_threshold, ...); those that the neuron and the kind of current have are shown.
    result: `Result`.

    >>> explorer = NeuronExplorer(neurons.LIF(tau=2.0, reset="hard"), strength=0.6, steps=100)
    >>> print(explorer.result.sentence())
    33 spikes in 100 steps (rate 0.33 per step); threshold current 0.5: a constant current above it makes the neuron fire.
    >>> explorer.controls["tau"].value = 10.0
    >>> len(explorer.result.times)
    50
    """

    caption = (
        "Left: the input current, the potential (at every step up to h, then, after a spike, down to v) and the spike times. "
        "Right: spikes per step of 81 neurons with constant currents, in the last 500 of 1,000 steps; the exact rate and that "
        "of continuous time, where there is a formula; and the trace on the left, at its mean current."
    )

    def __init__(
        self,
        neuron: Neuron | type[Neuron] | None = None,
        *,
        current: str = "constant",
        strength: float | None = None,
        steps: int = 200,
        seed: int = 0,
    ) -> None:
        own = neuron() if isinstance(neuron, type) and issubclass(neuron, Neuron) else neuron
        if own is not None and not isinstance(own, Neuron):
            raise TypeError(f"neuron must be like neurons.LIF(tau=2.0), but got {neuron!r}.")
        if current not in KINDS:
            raise ValueError(f"current must be one of {', '.join(map(repr, KINDS))}, but got {current!r}.")
        if not 10 <= steps <= 1000:
            raise ValueError(f"steps must be from 10 to 1000, but got {steps!r}.")
        first = STARTS[neurons.LIF][0] if own is None else dataclasses.replace(own, learn=())  # here, sliders move them
        self.kinds = {type(first).__name__: first}
        self.kinds |= {kind.__name__: value for kind, (value, *_) in STARTS.items() if kind.__name__ not in self.kinds}
        self.layer = Layer(first)
        self._taken = ""  # the neuron whose parameters the controls show
        self._curve: tuple[Any, Curve | None] = (None, None)
        super().__init__(self._controls(type(first).__name__, current, steps, seed), self._figure(), None)
        self.equations = widgets.HTMLMath()
        self.take(strength)
        for name in self.controls:
            self.on(name, {"neuron": self.take, "current": self.choose, "steps": self.stretch}.get(name, self.update))
        self.go_live()

    # -- the controls ----------------------------------------------------------------------------------------------

    def _controls(self, first: str, current: str, steps: int, seed: int) -> dict[str, widgets.Widget]:
        on = IntRangeSlider(
            value=(steps // 4, steps * 3 // 4), min=1, max=steps, description="on from step to step",
            tooltip="the first and the last time step with current", style=NARROW, layout=widgets.Layout(width=WIDTH),
        )  # fmt: skip
        hand = {
            f"hand_{k + 1}": FloatSlider(
                orientation="vertical", readout=False, description=str(k + 1),
                tooltip=f"current in part {k + 1} of {PIECES} of the time", layout=widgets.Layout(**TALL),
            )
            for k in range(PIECES)
        }  # fmt: skip
        fixed = {
            "neuron": choice("neuron", list(self.kinds), first, "the neuron shown"),
            "reset": choice("reset", ["soft"], "soft", "what a spike does to the potential"),
            "steps": slider("time steps T", steps, 10 + steps % 10, 1000, step=10, live=True),
            "current": choice("input current", list(KINDS), current, "how the current goes over time"),
            "strength": number("constant current x", "in the units of the potential, per time step"),
            "on": on,
            "sigma": number("noise σ", "standard deviation of the current, drawn anew at every step"),
            "rate": slider(
                "spikes per step", 0.2, 0.0, 1.0, step=0.01, help="mean number of input spikes per step", live=True
            ),
            "seed": slider("seed", seed, 0, 20, help="another seed is another draw of the same randomness", live=True),
            **hand,
        }
        names = dict.fromkeys(name for kind in self.kinds.values() for name in kind.parameters)
        self.parameters = {name: f"neuron_{name}" if name in fixed else name for name in names}
        return fixed | {control: number(*words(name)) for name, control in self.parameters.items()}

    def take(self, strength: float | None = None) -> None:
        """Another neuron: its parameters, its resets, and currents at which it is lively."""
        chosen = self.controls["neuron"].value
        neuron = self.kinds[chosen]
        if not self.ready(neuron, self.update):
            return
        self.layer.neuron = neuron
        known, start, low, high = STARTS.get(type(neuron), (None, 0.0, math.inf, -math.inf))
        if neuron != known:
            start, *wide = lively(self.layer)
            low, high = (min(low, start), max(high, 2 * start)) if known else wide
        if strength is not None:
            start, low, high = strength, min(low, strength), max(high, strength)
        controls = self.controls
        with self.quietly():
            for name, control in self.parameters.items():
                controls[control].layout.display = "" if name in neuron.parameters else "none"
            for name, bound in parameters_of(type(neuron)).items():
                value = neuron.parameters[name]
                stretch(controls[self.parameters[name]], *room(name, value, bound, neuron), value)
            resets = controls["reset"]
            resets.options, resets.value = admitted(neuron), neuron.reset
            resets.disabled = len(resets.options) == 1
            stretch(controls["strength"], low, high, start)
            stretch(controls["sigma"], 0.0, nice(3 * abs(start) or 1.0), abs(start))
            for k, part in enumerate(DRAWN):
                stretch(controls[f"hand_{k + 1}"], low, high, float(f"{min(max(part * start, low), high):.3g}"))
        self._start, self._taken = start, chosen
        self.equations.value = f'<div style="font-size:85%">{latex_of(neuron)}</div>'
        self.choose(strength)

    def choose(self, strength: float | None = None) -> None:
        """Another kind of current: shows what it needs, and begins with the same mean."""
        kind, weight = self.controls["current"].value, self.controls["strength"]
        needs = {"on": "step", "sigma": "noise", "rate": "spikes at a rate"}
        needs |= {f"hand_{k}": "drawn by hand" for k in range(1, PIECES + 1)}
        for name, needed in needs.items():
            self.controls[name].layout.display = "" if kind == needed else "none"
        self.controls["seed"].layout.display = "" if kind in ("noise", "spikes at a rate") else "none"
        weight.layout.display = "none" if kind == "drawn by hand" else ""
        weight.description = LABELS[kind] or weight.description
        mean = self._start / (self.controls["rate"].value or 1.0 if kind == "spikes at a rate" else 1.0)
        with self.quietly():
            weight.value = float(f"{min(mean, weight.max):.3g}") if strength is None else strength
        self.update()

    def stretch(self) -> None:
        """Another T: the step of current keeps its place in it."""
        on, steps = self.controls["on"], self.controls["steps"].value
        first, last = (round(t * steps / on.max) for t in on.value)
        # one message: else the browser moves the old value into the new range, and says so
        with self.quietly(), on.hold_sync():
            on.max = steps
            on.value = (max(first, 1), max(last, 1))
        self.update()

    def prepare(self, neuron: Neuron) -> None:
        layer = Layer(neuron)  # its own: this may run in another thread
        trace(layer, np.zeros(10, np.float32))
        curve(layer, 0.0, 1.0)

    def update(self) -> None:
        if self.controls["neuron"].value != self._taken:  # chosen while kernels were compiled
            self.take()
            return
        neuron = self.kinds[self._taken]
        numbers: dict[str, Any] = {
            name: float(self.controls[self.parameters[name]].value) for name in neuron.parameters
        }
        neuron = dataclasses.replace(neuron, reset=self.controls["reset"].value, **numbers)
        if not self.ready(neuron, self.update):
            return
        self.layer.neuron = neuron
        self.result = self.look(self.stimulus())
        self.draw()
        self.say(self.result.sentence())

    def stimulus(self, **changed: Any) -> Stimulus:
        names = ("strength", "on", "sigma", "rate", "seed")
        pieces = tuple(self.controls[f"hand_{k}"].value for k in range(1, PIECES + 1))
        values = {name: self.controls[name].value for name in names} | changed
        return Stimulus(self.controls["current"].value, pieces=pieces, **values)

    def look(self, stimulus: Stimulus) -> Result:
        x = stimulus.current(self.controls["steps"].value)
        low, high = self.controls["strength"].min, self.controls["strength"].max
        key = (self.layer.neuron, low, high)
        if key != self._curve[0]:  # it does not hang on the current over time
            self._curve = (key, curve(self.layer, low, high))
        found = trace(self.layer, x)
        v = found[self.layer.neuron.states[0]]
        threshold = found.get("threshold", np.full_like(x, np.nan))
        return Result(self.layer.neuron, x, found["h"], v, found["s"], threshold, self._curve[1])

    # -- what is drawn ---------------------------------------------------------------------------------------------

    def layout(self) -> widgets.Widget:
        made = super().layout()
        row = made.children[0]
        hand = [control for name, control in self.controls.items() if name.startswith("hand_")]
        row.children = [control for control in row.children if control not in hand]
        for control in row.children:
            control.layout.width = "330px"  # three beside each other
        self.equations.layout = widgets.Layout(overflow="visible", margin="6px 40px 0 0")
        drawn = widgets.HBox(hand, layout=widgets.Layout(overflow="visible"))
        return widgets.VBox([row, widgets.HBox([self.equations, drawn]), *made.children[1:]])

    @staticmethod
    def _figure() -> go.Figure:
        grid = make_subplots(
            rows=3,
            cols=2,
            specs=[[{}, {"rowspan": 3}], [{}, None], [{}, None]],
            column_widths=[0.68, 0.32],
            row_heights=[0.24, 0.66, 0.1],
            vertical_spacing=0.09,
            horizontal_spacing=0.09,
            subplot_titles=("input current x", "rate at a constant current", "potential", "spikes"),
        )
        grid.add_scatter(
            x=[], y=[], mode="lines", line={"color": plots.colour(0), "width": 2, "shape": "hvh"},
            name="input current", showlegend=False, row=1, col=1,
        )  # fmt: skip
        line = {"color": plots.colour(4), "width": 1.8}
        grid.add_scatter(x=[], y=[], mode="lines", line=line, name="potential", row=2, col=1)
        dash = {"color": plots.colour(3), "dash": "dash", "width": 1.5}
        grid.add_scatter(x=[], y=[], mode="lines", line=dash, name="threshold", row=2, col=1)
        dot = {"color": plots.colour(1), "size": 8}
        grid.add_scatter(x=[], y=[], mode="markers", marker=dot, name="spike", row=2, col=1)
        tick = {"symbol": "line-ns", "size": 14, "line": {"color": plots.colour(1), "width": 2}}
        grid.add_scatter(x=[], y=[], mode="markers", marker=tick, name="spike time", showlegend=False, row=3, col=1)
        line = {"color": plots.colour(3), "width": 1.5, "dash": "dot"}
        grid.add_scatter(x=[], y=[], mode="lines", line=line, name="continuous time", row=1, col=2)
        dot = {"color": plots.colour(0), "size": 7, "line": {"color": "white", "width": 0.5}}
        grid.add_scatter(x=[], y=[], mode="markers", marker=dot, name="measured", row=1, col=2)
        line = {"color": plots.colour(4), "width": 1.5}
        grid.add_scatter(x=[], y=[], mode="lines", line=line, name="exact", row=1, col=2)
        diamond = {"symbol": "diamond", "color": plots.colour(1), "size": 13, "line": {"color": "black", "width": 1}}
        grid.add_scatter(x=[], y=[], mode="markers", marker=diamond, name="the trace on the left", row=1, col=2)
        made = plots.styled(grid, height=580, legend={"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"})
        made.update_layout(margin={"b": 110})
        silent = {"matches": "x4", "showticklabels": False}  # one time axis, labelled at its foot
        made.update_layout(xaxis=silent, xaxis3=silent, xaxis4={"title": "time step"})
        made.update_layout(xaxis2={"title": "constant current"}, yaxis2={"title": "spikes per step"})
        return made.update_layout(
            yaxis4={"range": [-1, 1], "showticklabels": False, "showgrid": False, "zeroline": False}
        )

    def lines(self) -> list[tuple[Array, Array]]:
        """x and y of every line, in the order of the figure's traces."""
        result, found, none = self.result, self.result.curve, np.array([])
        t, fired = np.arange(1, len(result.x) + 1), result.times
        rates = [(none, none)] * 4
        if found is not None:
            known = [(none, none) if y is None else (found.x, y) for y in (found.textbook, found.exact)]
            here = (np.array([result.x.mean()]), np.array([result.rate]))
            rates = [known[0], (found.currents, found.measured), known[1], here]
        left = [(t, result.x), result.drawn(), (t, result.threshold), (fired, result.h[fired - 1]), (fired, 0 * fired)]
        return left + rates

    @plots.at_once
    def draw(self) -> None:
        for k, (x, y) in enumerate(self.lines()):
            self.figure.data[k].update(x=x, y=y, showlegend=len(x) > 0 and k not in (0, 4))
        self.figure.layout.xaxis4.range = [0.5, len(self.result.x) + 0.5]
        self.figure.layout.yaxis.range = self.height()
        self.figure.layout.xaxis2.range, self.figure.layout.yaxis2.range = self.reach()
        self.figure.layout.annotations[1].text = self.title()

    def height(self) -> list[float]:
        """How far the axis of the current goes; zero is always in it."""
        low, high = min(0.0, float(self.result.x.min())), max(0.0, float(self.result.x.max()))
        strength = self.controls["strength"]
        room = 0.1 * ((high - low) or strength.max - strength.min)
        return [low - room, high + room]

    def reach(self) -> tuple[list[float], list[float]]:
        """How far the axes of the rates go: all that was measured, and the trace."""
        low, high = self.controls["strength"].min, self.controls["strength"].max
        if self.result.curve is None:
            return [low, high], [0.0, 1.05]
        mean = float(self.result.x.mean())
        top = max(0.05, float(self.result.curve.measured.max()), self.result.rate)
        edge = 0.03 * (high - low)
        return [min(low, mean) - edge, max(high, mean) + edge], [-0.03 * top, 1.08 * top]

    def title(self) -> str:
        return "no rate: it does not fire" if self.result.curve is None else "rate at a constant current"

    def page(self) -> go.Figure:
        """The figure with a slider for the strength of the current, which moves without a kernel."""
        made = go.Figure(self.figure)
        if self.controls["current"].value == "drawn by hand":
            return made
        control, kept = self.controls["strength"], self.result
        apart = nice((control.max - control.min) / FRAMES)
        grid = np.arange(np.ceil(control.min / apart - 1e-9), np.floor(control.max / apart + 1e-9) + 1) * apart
        values = sorted({*grid.round(9).tolist(), control.value})
        moving = [0, 1, 3, 4, 8]
        heights = []
        for value in values:
            self.result = self.look(self.stimulus(strength=value))
            lines = self.lines()
            heights.append(self.height())
            # the first two keep their time steps, and so does the page its size
            data = [go.Scatter(x=None if k < 2 else x, y=np.float32(y)) for k in moving for x, y in (lines[k],)]
            made.frames = (*made.frames, go.Frame(name=f"{value:.3g}", data=data, traces=moving))
        self.result = kept
        how = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
        steps = [{"label": f.name, "method": "animate", "args": [[f.name], how]} for f in made.frames]
        prefix = {"prefix": f"{control.description}: "}
        return made.update_layout(
            height=720,
            margin_b=240,
            yaxis_range=[min(heights)[0], max(heights, key=max)[1]],
            sliders=[{"active": values.index(control.value), "steps": steps, "currentvalue": prefix, "y": -0.3}],
        )

    def picture(self) -> bytes:
        drawing = plots.static_figure(10, 4.8)
        parts = drawing.subplot_mosaic(
            [["current", "rate"], ["potential", "rate"], ["spikes", "rate"]],
            width_ratios=[0.68, 0.32],
            height_ratios=[0.24, 0.66, 0.1],
        )
        current, potential, spikes, rate = (parts[name] for name in ("current", "potential", "spikes", "rate"))
        x, h, threshold, fired, times, textbook, measured, exact, here = self.lines()
        current.step(*x, where="mid", color=plots.rgb(0))
        current.set(title="input current x", ylim=self.height())
        potential.plot(*h, color=plots.rgb(4), lw=1.2, label="potential")
        potential.plot(*threshold, "--", color=plots.rgb(3), label="threshold")
        potential.plot(*fired, "o", ms=5, color=plots.rgb(1), label="spike")
        potential.set(title="potential")
        spikes.plot(*times, "|", ms=12, color=plots.rgb(1))
        spikes.set(xlabel="time step", ylabel="spikes", yticks=[], ylim=(-1, 1))
        rate.plot(*textbook, ":", color=plots.rgb(3), label="continuous time" if len(textbook[0]) else "")
        rate.plot(*measured, "o", ms=4, color=plots.rgb(0), label="measured")
        rate.plot(*exact, color=plots.rgb(4), lw=1.2, label="exact" if len(exact[0]) else "")
        rate.plot(*here, "D", ms=8, color=plots.rgb(1), mec="black", label="the trace on the left")
        across, up = self.reach()
        rate.set(title=self.title(), xlabel="constant current", ylabel="spikes per step", xlim=across, ylim=up)
        for axes in (current, potential, spikes):
            axes.set_xlim(0.5, len(self.result.x) + 0.5)
        for axes in (current, potential):
            axes.tick_params(labelbottom=False)
        drawing.legend(loc="outside lower center", ncols=7, fontsize=8)
        for axes in parts.values():
            axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)

    def __repr__(self) -> str:
        shown = {name: c.value for name, c in self.controls.items() if c.layout.display != "none"}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def admitted(neuron: Neuron) -> list[str]:
    """The resets that this neuron can do; a hard one needs a v_reset."""
    hard = "v_reset" in neuron.parameters or type(neuron).hard is not Neuron.hard
    return [reset for reset in neuron.resets if reset != "hard" or hard]


def number(description: str, help: str) -> widgets.Widget:
    return slider(description, 0.0, 0.0, 1.0, help=help, live=True)


def words(name: str) -> tuple[str, str]:
    """How a parameter is labelled, and its tooltip."""
    unit = ", in time steps" if name.startswith("tau") else ""
    known = {"tau": "time constant τ", "v_threshold": "threshold", "v_reset": "reset potential"}
    return known.get(name, f"parameter {name}"), f"{name} in the equations{unit}"
