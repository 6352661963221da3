"""What must be kept for the way back, and what is moved: predicted from the equations, then counted in a real run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor, nn

from tfexplore import neurons as kinds
from tfexplore.codegen.traffic import BYTES
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner, choice, slider
from tfexplore.explore.kept import WAYS, Cells, Way, cells_of, kept, moved
from tfexplore.neurons import surrogates
from tfexplore.nn.layers import Layer

BY_NAME = {way.name: way for way in WAYS}
NEURONS = {kind.__name__: kind for kind in kinds.ALL}
DEFAULT, SURROGATES = "the default", {kind.__name__: kind for kind in surrogates.ALL}
BATCH, INPUTS, OUTPUTS = 4, 64, 10
POINTS = 4  # lengths of time at which memory is counted
SERIES = ("predicted", "counted")


def network(neuron: str = "LIF", neurons: int = 200, surrogate: str = DEFAULT, seed: int = 0) -> nn.Sequential:
    """64 inputs -> neurons -> as many neurons again -> 10 outputs."""
    kind = NEURONS[neuron] if surrogate == DEFAULT else partial(NEURONS[neuron], surrogate=SURROGATES[surrogate]())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[tuple[str, nn.Module]] = [
            ("linear1", nn.Linear(INPUTS, neurons)), ("neurons1", Layer(kind())), ("linear2", nn.Linear(neurons, neurons)),
            ("neurons2", Layer(kind())), ("linear3", nn.Linear(neurons, OUTPUTS)),
        ]  # fmt: skip
    return nn.Sequential(OrderedDict(parts))


@dataclass
class Result:
    """What is predicted for a network at T = `steps`, and what was counted so far, by the name of the way.

    cells: the layers of neurons.   kept: bytes by module.   moved: bytes per element-step by layer of neurons.
    lines: (T, bytes that the neurons keep).
    """

    cells: dict[str, Cells]
    steps: int
    kept: dict[str, dict[str, int]] = field(default_factory=dict)
    moved: dict[str, dict[str, float]] = field(default_factory=dict)
    lines: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def why_not(self, way: Way) -> str:
        """Why this network cannot be run this way, or ""."""
        for name, cells in self.cells.items():
            if reason := cells.why_not(way):
                return f"not exact for the {type(cells.neuron).__name__} of {name!r}: {reason}"
        return ""

    @property
    def ways(self) -> list[Way]:
        """The ways in which this network can be run."""
        return [way for way in WAYS if not self.why_not(way)]

    @property
    def neurons(self) -> int:
        return sum(cells.neurons for cells in self.cells.values())

    def _mean(self, value: Callable[[str, Cells], float | None]) -> float | None:
        """Per element-step, over all layers of neurons; None if it is not known."""
        values = [(value(name, cells), cells.neurons) for name, cells in self.cells.items()]
        known = [part * count for part, count in values if part is not None]
        return sum(known) / self.neurons if len(known) == len(values) else None

    def predicted_kept(self, way: Way) -> float | None:
        """Bytes per element-step."""
        return self._mean(lambda _, cells: cells.kept(way))

    def predicted_moved(self, way: Way) -> float | None:
        return self._mean(lambda _, cells: cells.moved(way))

    def counted_kept(self, way: Way) -> float | None:
        if way.name not in self.kept:
            return None
        return sum(self.kept[way.name].get(name, 0) for name in self.cells) / (self.steps * self.neurons)

    def counted_moved(self, way: Way) -> float | None:
        found = self.moved.get(way.name)
        return self._mean(lambda name, _: found.get(name)) if found is not None else None

    def sentence(self, way: Way) -> str:
        """About one way, in bytes per neuron and time step."""
        if reason := self.why_not(way):
            return f"{way.name}: {reason}."
        what = f"{way.name}, T = {self.steps}, {self.neurons:,} neurons"
        counted, moves = self.counted_kept(way), self.counted_moved(way)
        if counted is None or moves is None:
            known, moves = self.predicted_kept(way), self.predicted_moved(way)
            if known is None or moves is None:
                return f"{what}: only counting can tell what an eager way keeps. Press Start."
            return f"{what}: predicted to keep {known:.4g} and move {moves:.4g} bytes per neuron and step. Press Start."
        rest = sum(size for name, size in self.kept[way.name].items() if name not in self.cells)
        return (
            f"{what}: the neurons keep {counted:.4g} and move {moves:.4g} bytes per neuron and step, "
            f"{megabytes(counted * self.steps * self.neurons)} in all; the rest of the network keeps {megabytes(rest)}."
        )


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"


class Memory(Runner):
    """Memory and traffic of the ways to run a network: two eager ones, and fused with potential, input, bits (if that is
    exact for all its neurons) or nothing kept.

    net, x: your own network, and its input [T, B, ...]; without, a small one is made. A copy of it is run.

    controls: way (shown in the lower right), steps (T); for the network made here also neuron, surrogate, neurons (N),
    dtype; start, stop.   result: `Result`. What two modules keep together is counted once, for the first of them.

    >>> import asyncio
    >>> memory = Memory(steps=64, neurons=50)
    >>> result = asyncio.run(memory.run())
    >>> way = BY_NAME["fused, keep potential"]
    >>> result.predicted_kept(way), result.counted_kept(way)
    (4.0, 4.0)
    """

    caption = (
        "Above: bytes per neuron and time step that the layers of neurons keep for the way back, and that they move, for the "
        "ways to run them. Below: what the neurons keep against the number of time steps, and what each module keeps in the "
        "way chosen. Hatched: predicted from the equations (there is no prediction for the eager ways). Filled: counted."
    )

    def __init__(
        self,
        net: nn.Module | None = None,
        x: Tensor | None = None,
        *,
        steps: int = 64,
        neuron: str = "LIF",
        neurons: int = 200,
        surrogate: str = DEFAULT,
        dtype: str = "float32",
        way: str = "fused, keep input",
    ) -> None:
        if (net is None) != (x is None):
            raise TypeError("memory takes your network and its input together, memory(net, x), or none of both.")
        self.net, self.x = net, x
        controls = {
            "way": choice("way shown", list(BY_NAME), way, "the way whose modules are shown in the lower right")
        }
        if net is None or x is None:
            controls["steps"] = slider("time steps T", steps, 64, 512, step=64)
            controls["neuron"] = choice("neuron", list(NEURONS), neuron, "the neuron of both layers")
            controls["surrogate"] = choice("surrogate", [DEFAULT, *SURROGATES], surrogate, "of these neurons")
            controls["neurons"] = slider("neurons per layer", neurons, 50, 1000, step=50, help="times a batch of 4")
            controls["dtype"] = choice("number format", list(BYTES), dtype, "of currents and spikes")
        else:
            cells_of(net, x)  # complains before a control is made
            controls["steps"] = slider("time steps T", len(x), 1, len(x), help="the first T steps of your x")
        super().__init__(controls, self._figure(), None)
        for name in controls:
            self.on(name, self.draw_way if name == "way" else self.reset)
        self.reset()
        self.go_live()

    def subject(self) -> tuple[nn.Module, Tensor]:
        """The network and the input of the moment."""
        steps = self.controls["steps"].value
        if self.net is not None and self.x is not None:
            return self.net, self.x[:steps]
        neuron, neurons, surrogate = (self.controls[name].value for name in ("neuron", "neurons", "surrogate"))
        made = getattr(torch, self.controls["dtype"].value)
        return network(neuron, neurons, surrogate).to(made), _noise(steps).to(made)

    def begin(self) -> Result:
        return Result(cells_of(*self.subject()), self.controls["steps"].value)

    def reset(self) -> None:
        """A control moved: the predictions are there at once, what was counted was for other numbers."""
        self._stopping = True
        self.result = self.begin()
        self.draw()

    def work(self, result: Result) -> Iterator[object]:
        net, x = self.subject()
        self.say("Counting. New kernels are compiled first: a few seconds the very first time, then they are kept.")
        lengths = sorted({max(1, len(x) * k // POINTS) for k in range(1, POINTS + 1)})
        for way in result.ways:
            found: list[tuple[int, int]] = []
            for steps in lengths:
                held: list[dict[str, int]] = []
                yield self.aside(lambda w=way, n=steps, to=held: to.append(kept(net, x[:n], w)))  # type: ignore[misc]
                found.append((steps, sum(held[0].get(name, 0) for name in result.cells)))
            touched: list[dict[str, float]] = []
            yield self.aside(lambda w=way, to=touched: to.append(moved(net, x, w)))  # type: ignore[misc]
            result.kept[way.name], result.lines[way.name] = held[0], found
            result.moved[way.name] = touched[0]
            self.draw()

    # -- what is drawn ---------------------------------------------------------------------------------------------

    @staticmethod
    def _figure() -> go.Figure:
        titles = ("kept for the way back", "moved, forward and backward", "kept by the neurons", "kept by each module")
        grid = make_subplots(
            rows=2,
            cols=2,
            horizontal_spacing=0.16,
            vertical_spacing=0.2,
            subplot_titles=titles,
            row_heights=[0.52, 0.48],
        )
        for row, col in ((1, 1), (1, 2), (2, 2)):
            for k, (name, shape) in enumerate(zip(SERIES, ("/", ""), strict=True)):
                grid.add_bar(
                    x=[], y=[], orientation="h", name=name, legendgroup=name, showlegend=(row, col) == (1, 1),
                    marker={"color": plots.colour(4 if k else 0), "pattern": {"shape": shape}}, textposition="outside",
                    cliponaxis=False, hovertemplate="%{y}: %{x:.4g}<extra>" + name + "</extra>", row=row, col=col,
                )  # fmt: skip
        for k, way in enumerate(WAYS):
            line = {"color": plots.colour(k), "dash": plots.DASHES[k % 4], "width": 2}
            marker = {"symbol": k, "size": 8}
            grid.add_scatter(
                x=[],
                y=[],
                mode="lines+markers",
                line=line,
                marker=marker,
                name=way.name,
                legend="legend2",
                row=2,
                col=1,
            )
        made = plots.styled(grid, height=620, bargap=0.25, bargroupgap=0.05)
        made.update_layout(
            margin={"l": 160},
            legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 1.1},
            legend2={"x": 0.01, "y": 0.4, "yanchor": "top", "bgcolor": "rgba(255,255,255,0.7)", "font": {"size": 11}},
            xaxis={"title": "bytes per neuron and step"},
            xaxis2={"title": "bytes per neuron and step"},
            xaxis3={"title": "time steps T", "rangemode": "tozero"},
            xaxis4={"title": "MB"},
            yaxis={"autorange": "reversed"},
            yaxis2={"autorange": "reversed", "showticklabels": False},
            yaxis3={"title": "MB", "rangemode": "tozero"},
            yaxis4={"autorange": "reversed"},
        )
        return made

    def bars(self) -> tuple[list[list[float | None]], list[list[float | None]]]:
        """Kept, and moved: predicted and counted for every way possible, in bytes per element-step."""
        r, ways = self.result, self.result.ways
        return (
            [[r.predicted_kept(way) for way in ways], [r.counted_kept(way) for way in ways]],
            [[r.predicted_moved(way) for way in ways], [r.counted_moved(way) for way in ways]],
        )

    def modules(self) -> tuple[list[str], list[list[float | None]]]:
        """What every module keeps in the way chosen, in MB: predicted (for layers of neurons) and counted."""
        way, cells = BY_NAME[self.controls["way"].value], self.result.cells
        counted = self.result.kept.get(way.name)
        others = [name for name in counted or {} if name not in cells]
        net, _ = self.subject()
        order = [name for name, _ in net.named_modules() if name in cells or name in others]
        order += [""] if "" in others else []
        whole = {} if self.result.why_not(way) else {name: c.kept(way) for name, c in cells.items()}
        predicted = [
            None if (part := whole.get(name)) is None else part * cells[name].neurons * self.result.steps / 1e6
            for name in order
        ]
        found = [None if counted is None else counted.get(name, 0) / 1e6 for name in order]
        return [name or "(the walk)" for name in order], [predicted, found]

    def draw(self) -> None:
        self.draw_all()
        self.describe_way()

    def draw_way(self) -> None:
        """Another way is shown module by module."""
        self.draw_modules()
        self.describe_way()

    @plots.at_once
    def draw_all(self) -> None:
        ways = self.result.ways
        names = [way.name for way in ways]
        for first, axis, series in zip((0, 2), ("xaxis", "xaxis2"), self.bars(), strict=True):
            self._put_bars(first, axis, names, series)
        for k, way in enumerate(WAYS):
            line = self.result.lines.get(way.name, [])
            x, y = [t for t, _ in line], [size / 1e6 for _, size in line]
            self.figure.data[6 + k].update(x=x, y=y, showlegend=way in ways)
        self.draw_modules()

    @plots.at_once
    def draw_modules(self) -> None:
        names, series = self.modules()
        self._put_bars(4, "xaxis4", names, series)
        self.figure.layout.annotations[3].text = self._title()

    def describe_way(self) -> None:
        self.say(self.result.sentence(BY_NAME[self.controls["way"].value]))

    def _put_bars(self, first: int, axis: str, names: list[str], series: list[list[float | None]]) -> None:
        for k, values in enumerate(series):
            text = ["" if value is None else f"{value:.4g}" for value in values]
            self.figure.data[first + k].update(y=names, x=values, text=text)
        self.figure.layout[axis].range = [0, room(series)]

    def _title(self) -> str:
        return f"kept by each module: {self.controls['way'].value}"

    def picture(self) -> bytes:
        drawing = plots.static_figure(10, 5.4)
        (held, touched), (lines, modules) = drawing.subplots(2, 2)
        names = [way.name for way in self.result.ways]
        (kept_bars, moved_bars), (own, sizes) = self.bars(), self.modules()
        for axes, labels, series, title in (
            (held, names, kept_bars, "kept for the way back (bytes per neuron and step)"),
            (touched, names, moved_bars, "moved, forward and backward (bytes per neuron and step)"),
            (modules, own, sizes, f"{self._title()} (MB)"),
        ):
            for k, values in enumerate(series):
                y = [place + 0.4 * k - 0.2 for place in range(len(labels))]
                bars = axes.barh(y, [value or 0 for value in values], 0.38, color=plots.rgb(4 if k else 0),
                                 hatch="" if k else "//", label=SERIES[k])  # fmt: skip
                axes.bar_label(bars, ["" if v is None else f"{v:.4g}" for v in values], padding=3, fontsize=7)
            axes.set_yticks(range(len(labels)), labels if axes is not touched else [""] * len(labels), fontsize=8)
            axes.invert_yaxis()
            axes.set_title(title, fontsize=9)
            axes.set_xlim(0, room(series))
        held.legend(frameon=False, fontsize=7, loc="lower right")
        for k, way in enumerate(WAYS):
            if self.result.why_not(way):
                continue
            line = self.result.lines.get(way.name, [])
            lines.plot([t for t, _ in line], [size / 1e6 for _, size in line], color=plots.rgb(k), label=way.name,
                       linestyle=("-", "--", ":", "-.")[k % 4], marker="os^DvX"[k])  # fmt: skip
        lines.set(xlabel="time steps T", xlim=(0, None), ylim=(0, None))
        lines.set_title("kept by the neurons (MB)", fontsize=9)
        lines.legend(frameon=False, fontsize=7)
        for axes in (held, touched, lines, modules):
            axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def room(series: list[list[float | None]]) -> float:
    """The end of an axis, with room for the numbers beside the bars."""
    return 1.25 * max([value for values in series for value in values if value is not None], default=0.0) or 1.0


@lru_cache(maxsize=4)
def _noise(steps: int) -> Tensor:
    return torch.rand(steps, BATCH, INPUTS, generator=torch.Generator().manual_seed(0))
