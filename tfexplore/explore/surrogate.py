"""Surrogates: what stands in for the slope of a step, and how far the gradient then flows back through time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tfexplore.explore import plots
from tfexplore.explore.explorer import Explorer, choice, running, slider
from tfexplore.explore.gradient import DECADES, FAINT, SCALES, Flow, curves, flow, pooled, shade
from tfexplore.neurons.library import LIF
from tfexplore.neurons.parameters import parameters_of
from tfexplore.neurons.surrogates import ALL, ATan, Surrogate

U = np.linspace(-2, 2, 401)
BINS = np.linspace(-2, 2, 41)
MOST_DOTS = 2000
NOTHING = "#bdbdbd"  # grey: exactly zero
DIVERGING = "RdBu_r"  # blue to red through white, told apart by colour-blind eyes


@dataclass(frozen=True)
class Result:
    """The curves over u (`U`): slope (the surrogate derivative) and smooth (the step it belongs to); and the flow back."""

    neuron: LIF
    slope: np.ndarray
    smooth: np.ndarray
    flow: Flow

    def sentence(self) -> str:
        back, neurons = self.flow, self.flow.gradient.shape[1]
        if not back.gradient.any():
            return "No gradient at all: no potential came near enough to the threshold while the loss counted spikes."
        whole = "all " if back.reach == back.first - 1 > 0 else ""
        peak = 1 + int(back.magnitude.argmax())
        grown = f" It grew on its way: its mean is largest at step {peak}." if peak < back.first else ""
        return (
            f"The gradient reaches back {whole}{back.reach} steps before the loss (to {FAINT:.0%} of its largest mean); "
            f"{back.zeros:.0%} of the gradients up to the loss are exactly zero, and {back.dead} of {neurons} neurons get "
            f"none.{grown}"
        )

    @property
    def decay(self) -> tuple[np.ndarray, np.ndarray]:
        """(1 - 1/tau) per step, back from the first step that the loss counts, beside the mean gradient there."""
        back = np.arange(self.flow.first, 0, -1)
        here = self.flow.magnitude[self.flow.first - 1]
        return back, here * (1 - 1 / self.neuron.tau) ** (self.flow.first - back)


def look(neuron: LIF, steps: int, neurons: int, loss_at: int, seed: int) -> Result:
    """All that is shown, from numbers alone."""
    return Result(neuron, *curves(neuron.surrogate, U), flow(neuron, steps, neurons, loss_at, seed=seed))


class SurrogateExplorer(Explorer):
    """Left: a surrogate, and where the neurons' potentials fall under it. Right: the gradient over (time x neuron).

    surrogate: one of `surrogates.ALL` or of your own (also from `surrogates.custom`), to begin with.

    controls: surrogate, scale (and scale_2, ... if yours has more), tau, reset, detach_reset, steps (T), loss_at, colours.
    result: `Result`.

    >>> explorer = SurrogateExplorer(steps=60, tau=2.0)
    >>> explorer.result.flow.reach
    6
    >>> explorer.controls["tau"].value = 4.0
    >>> explorer.result.flow.reach
    16
    """

    caption = (
        "Left: the step function, a smooth step and its slope, the surrogate; below, where the potentials of all neurons fall. "
        "Right: the gradient of the loss with respect to every neuron's current at every time step (grey: exactly zero; dots: "
        "spikes); below, its mean magnitude and the factor (1 − 1/τ) per step."
    )

    def __init__(
        self,
        surrogate: Surrogate = ATan(),  # noqa: B008  (a frozen value)
        *,
        tau: float = 5.0,
        reset: str = "soft",
        detach_reset: bool = True,
        steps: int = 100,
        neurons: int = 24,
        seed: int = 0,
    ) -> None:
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"surrogate must be like surrogates.ATan(alpha=2.0), but got {surrogate!r}.")
        if not 1 <= neurons <= 64:
            raise ValueError(f"neurons must be from 1 to 64, the rows of the heat map, but got {neurons!r}.")
        self.neurons, self.seed = neurons, seed
        self.kinds: dict[str, Surrogate] = {kind.__name__: kind() for kind in ALL}
        self.kinds[type(surrogate).__name__] = surrogate
        count = max(1, *(len(parameters_of(type(kind))) for kind in self.kinds.values()))
        self.scales = ["scale", *(f"scale_{k}" for k in range(2, count + 1))]
        low, high = min([0.05, *vars(surrogate).values()]), max([20.0, *vars(surrogate).values()])
        controls = {
            "surrogate": choice(
                "surrogate", list(self.kinds), type(surrogate).__name__, "the slope used on the way back"
            ),
            **{name: slider("scale", 1.0, low, high, step=low, live=True) for name in self.scales},
            "tau": slider("time constant τ", float(tau), 1.0, 50.0, step=0.5, help="in time steps", live=True),
            "reset": choice("reset", list(LIF.resets), reset, "what a spike does to the potential"),
            "detach_reset": widgets.Checkbox(
                value=detach_reset,
                description="detach reset",
                tooltip="no gradient flows through the spike in the reset",
                indent=False,
            ),
            "steps": slider("time steps T", steps, 20, 500, step=10, live=True),
            "loss_at": slider(
                "loss at time step", steps, 1, steps, help="the loss counts spikes up to here", live=True
            ),
            "colours": choice(
                "colour scale", list(SCALES), SCALES[0], "how the magnitude of a gradient becomes a colour"
            ),
        }
        super().__init__(controls, self._figure(), None)
        self.show_scales()
        for name in controls:
            self.on(
                name, {"surrogate": self.change, "steps": self.stretch, "colours": self.draw}.get(name, self.update)
            )
        self.update()
        self.go_live()

    # -- what the controls do --------------------------------------------------------------------------------------

    def neuron(self, kind: str | None = None) -> LIF:
        chosen = self.controls["surrogate"].value
        surrogate = self.kinds[kind or chosen]
        if kind in (None, chosen):
            names = parameters_of(type(surrogate))
            values = {key: self.controls[name].value for key, name in zip(names, self.scales, strict=False)}
            surrogate = dataclasses.replace(surrogate, **values)
        tau, reset, detach = (self.controls[name].value for name in ("tau", "reset", "detach_reset"))
        return LIF(tau=tau, reset=reset, detach_reset=detach, surrogate=surrogate)

    def change(self) -> None:
        """Another surrogate: its own scales, as it came."""
        self.show_scales()
        self.update()

    def show_scales(self) -> None:
        surrogate = self.kinds[self.controls["surrogate"].value]
        names = [*parameters_of(type(surrogate)), *[""] * len(self.scales)]
        with self.quietly():
            for name, key in zip(self.scales, names, strict=False):
                control = self.controls[name]
                control.layout.display = "" if key else "none"
                if key:
                    control.description = control.tooltip = f"{key} of the surrogate"
                    control.value = getattr(surrogate, key)

    def stretch(self) -> None:
        """Another T: the loss stays at the end, if it was there."""
        end = self.controls["loss_at"]
        at_end = end.value == end.max
        # one message: the browser's echo of a half-changed slider would come back as a value
        with self.quietly(), end.hold_sync():
            end.max = self.controls["steps"].value
            end.value = end.max if at_end else end.value
        self.update()

    def update(self) -> None:
        neuron = self.neuron()
        if not self.ready(neuron, self.update):
            return
        steps, loss_at = self.controls["steps"].value, self.controls["loss_at"].value
        self.result = look(neuron, steps, self.neurons, loss_at, self.seed)
        self.draw()
        self.say(self.result.sentence())

    def prepare(self, neuron: LIF) -> None:
        look(neuron, 10, 1, 10, self.seed)

    def show(self) -> None:
        super().show()
        if (loop := running()) is not None:
            self._warming = loop.create_task(self.warm(self.neuron(kind) for kind in self.kinds))
            self._warming.add_done_callback(lambda task: task.cancelled() or self.guarded(task.result)())

    # -- what is drawn ---------------------------------------------------------------------------------------------

    @staticmethod
    def _figure() -> go.Figure:
        grid = make_subplots(
            rows=2,
            cols=2,
            column_widths=[0.36, 0.64],
            row_heights=[0.62, 0.38],
            vertical_spacing=0.14,
            horizontal_spacing=0.13,
            subplot_titles=(
                "the surrogate",
                "gradient dL/dx",
                "where the potentials fall",
                "mean magnitude of the gradient",
            ),
        )
        for name, k, dash in (("step", 3, "dot"), ("smooth step", 0, "dash"), ("surrogate (slope)", 4, "solid")):
            line = {"color": plots.colour(k), "dash": dash, "width": 3 if k == 4 else 2}
            y: np.ndarray = (U >= 0).astype(float) if name == "step" else U[:0]
            grid.add_scatter(x=U, y=y, mode="lines", line=line, name=name, row=1, col=1)
        middles = (BINS[1:] + BINS[:-1]) / 2
        grid.add_bar(x=middles, y=[], width=BINS[1] - BINS[0], name="potentials", showlegend=False, row=2, col=1)
        grid.add_heatmap(
            z=[], zmin=-1, zmax=1, colorscale=DIVERGING, colorbar={"len": 0.6, "y": 1, "yanchor": "top"},
            hovertemplate="step %{x}, neuron %{y}: %{customdata:.2g}<extra></extra>", name="gradient", row=1, col=2,
        )  # fmt: skip
        dot = {"symbol": "circle", "size": 3, "color": "black"}
        grid.add_scatter(
            x=[], y=[], mode="markers", marker=dot, name="spike", hoverinfo="skip", showlegend=False, row=1, col=2
        )
        line = {"color": plots.colour(4), "width": 2}
        grid.add_scatter(x=[], y=[], mode="lines", line=line, name="mean magnitude", showlegend=False, row=2, col=2)
        line = {"color": plots.colour(1), "width": 2, "dash": "dash"}
        grid.add_scatter(x=[], y=[], mode="lines", line=line, name="(1 − 1/τ) per step", row=2, col=2)
        made = plots.styled(grid, height=590, bargap=0, margin={"l": 70, "r": 50, "t": 40, "b": 90})
        made.update_layout(legend={"orientation": "h", "x": 0, "y": -0.15, "yanchor": "top"})
        made.update_layout(xaxis={"title": None}, xaxis3={"title": "u = h − threshold"}, xaxis4={"title": "time step"})
        made.update_layout(
            xaxis2={"showgrid": False, "zeroline": False},
            yaxis2={"title": "neuron", "showgrid": False, "zeroline": False},
            yaxis3={"tickformat": ".0%", "rangemode": "tozero"},
        )
        decades = [10.0**-k for k in range(0, DECADES + 1, 2)]
        made.update_layout(yaxis4={"type": "log", "range": [-DECADES, 0.3], "tickvals": decades,
                                   "ticktext": [percent(d) for d in decades], "title": "of the largest"})  # fmt: skip
        grey = {"type": "rect", "xref": "x2 domain", "yref": "y2 domain", "layer": "below"}
        made.add_shape(**grey, x0=0, x1=1, y0=0, y1=1, fillcolor=NOTHING, line_width=0)
        level = {"type": "line", "xref": "x4 domain", "yref": "y4", "x0": 0, "x1": 1}
        made.add_shape(**level, y0=FAINT, y1=FAINT, line={"color": plots.colour(3), "dash": "dot", "width": 1.5})
        return made

    def histogram(self) -> tuple[np.ndarray, list[bool]]:
        """The share of all (step, neuron) cells in every bin of u, and whether the surrogate is zero there."""
        share = np.histogram(self.result.flow.u, BINS)[0] / self.result.flow.u.size
        slope, _ = curves(self.result.neuron.surrogate, (BINS[1:] + BINS[:-1]) / 2)
        return share, list(slope == 0)

    def dots(self) -> tuple[np.ndarray, np.ndarray]:
        times, cells = np.nonzero(self.result.flow.spikes)
        return (times + 1, cells) if len(times) <= MOST_DOTS else (times[:0], cells[:0])

    def map(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Time steps, colours and gradients of the heat map, [neurons, columns]."""
        shown, group = pooled(self.result.flow.gradient)
        middle = (group - 1) / 2
        return 1 + middle + group * np.arange(len(shown)), shade(shown, self.controls["colours"].value).T, shown.T

    def lines(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """The mean magnitude and the decay of (1 - 1/tau) per step, as shares of the largest; nothing below the axis."""
        size, (when, decay) = self.result.flow.magnitude, self.result.decay
        largest, least = size.max() or 1.0, 10.0 ** -(DECADES + 1)
        own, theory = (np.where(y / largest > least, y / largest, np.nan) for y in (size, decay))
        return (np.arange(1, len(size) + 1), own), (when, theory)

    def ticks(self) -> tuple[list[float], list[str]]:
        if self.controls["colours"].value == "linear":
            return [-1, -0.5, 0, 0.5, 1], ["−100 %", "−50 %", "0", "50 %", "100 %"]
        places = [1 - k / DECADES for k in (0, 2, 4)]
        words = [percent(10.0**-k) for k in (0, 2, 4)]
        return [-p for p in places] + [0] + places[::-1], [f"−{w}" for w in words] + ["≈ 0"] + words[::-1]

    @plots.at_once
    def draw(self) -> None:
        traces, layout, steps = self.figure.data, self.figure.layout, self.controls["steps"].value
        share, zero = self.histogram()
        x, colours, gradient = self.map()
        tickvals, ticktext = self.ticks()
        (t, size), (when, decay) = self.lines()
        bars = [NOTHING if z else plots.colour(4) for z in zero]
        traces[1].y, traces[2].y = self.result.smooth, self.result.slope
        traces[3].update(y=share, marker={"color": bars})
        bar = {"tickvals": tickvals, "ticktext": ticktext}
        traces[4].update(x=x, z=sendable(colours.round(3)), customdata=short(gradient), colorbar=bar)
        traces[5].x, traces[5].y = self.dots()
        traces[6].update(x=t, y=size)
        traces[7].update(x=when, y=decay)
        layout.yaxis.range = [-0.05, self.top()]
        layout.xaxis2.range = layout.xaxis4.range = [0.5, steps + 0.5]
        layout.yaxis2.range = [-0.5, self.neurons - 0.5]
        layout.annotations[1].text = self._title()

    def top(self) -> float:
        return 1.08 * max(1.0, float(self.result.slope.max()))

    def _title(self) -> str:
        back = self.result.flow
        return f"gradient of the spikes at steps {back.first}–{back.loss_at} with respect to the current"

    def picture(self) -> bytes:
        drawing = plots.static_figure(10, 5.2)
        (curve, heat), (where, size) = drawing.subplots(2, 2, width_ratios=[36, 64], height_ratios=[62, 38])
        curve.plot(U, U >= 0, ":", color=plots.rgb(3), label="step")
        curve.plot(U, self.result.smooth, "--", color=plots.rgb(0), label="smooth step")
        curve.plot(U, self.result.slope, color=plots.rgb(4), linewidth=2.5, label="surrogate (slope)")
        curve.set(title=str(self.result.neuron.surrogate), ylim=(-0.05, self.top()))
        share, zero = self.histogram()
        middles = (BINS[1:] + BINS[:-1]) / 2
        where.bar(middles, share, BINS[1] - BINS[0], color=[NOTHING if z else plots.rgb(4) for z in zero])
        where.set(title="where the potentials fall", xlabel="u = h − threshold", xlim=(-2, 2))
        x, colours, _ = self.map()
        half = (x[1] - x[0]) / 2
        extent = (x[0] - half, x[-1] + half, -0.5, self.neurons - 0.5)
        heat.set_facecolor(NOTHING)
        image = heat.imshow(colours, DIVERGING, vmin=-1, vmax=1, extent=extent, aspect="auto", origin="lower",
                            interpolation="nearest")  # fmt: skip
        heat.plot(*self.dots(), "k.", markersize=2)
        heat.set_title(self._title(), fontsize=10)
        heat.set(ylabel="neuron")
        places, words = self.ticks()
        drawing.colorbar(image, ax=heat, ticks=places).ax.set_yticklabels(words, fontsize=7)
        (t, own), (when, decay) = self.lines()
        size.set_yscale("log")
        size.set(title="mean magnitude, of the largest", xlabel="time step", ylim=(10.0**-DECADES, 2), xlim=extent[:2])
        size.plot(t, own, color=plots.rgb(4))
        size.plot(when, decay, "--", color=plots.rgb(1), label="(1 − 1/τ) per step")
        size.axhline(FAINT, linestyle=":", color=plots.rgb(3))
        drawing.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        for axes in (curve, where, size):
            axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def sendable(values: np.ndarray) -> np.ndarray:
    """With None for not-a-number: plotly sends what has two dimensions as JSON, which has no other word for it."""
    return np.where(np.isnan(values), None, values)  # type: ignore[call-overload]


def short(values: np.ndarray) -> np.ndarray:
    """Rounded to three digits: less to send."""
    with np.errstate(divide="ignore"):
        unit = 10.0 ** np.floor(np.log10(np.where(values == 0, 1.0, np.abs(values))))
    rounded: np.ndarray = np.round(values / unit, 2) * unit
    return rounded


def percent(share: float) -> str:
    return f"{100 * share:g} %"
