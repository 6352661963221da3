"""Training, live: loss, accuracy, firing rates, and what one hidden neuron does with one test image."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import nn

from tfexplore.data import currents
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner, choice, slider
from tfexplore.explore.networks import (
    BATCH,
    RATES,
    WALKS,
    Traces,
    accuracy,
    built_in,
    firing_rates,
    fit,
    look,
    own,
    shared,
    spiking,
    try_out,
    tuned,
)
from tfexplore.explore.neuron.membrane import threshold_of, zigzag
from tfexplore.neurons.step import scalars_of

SLOW = 0.2  # seconds of a batch from which on the page would seem frozen
SHOWN = 64  # neurons of a layer in the raster
LIVELY = {"mlp": 44, "conv": 37}  # neurons worth looking at once they are trained
LOSS, ACCURACY, POTENTIAL, SPIKE, THRESHOLD, RASTER, CHOSEN, IMAGE, RATE, RATE_BEFORE = range(10)  # the traces


@dataclass
class Result:
    """What a training has shown so far, each with the number of batches seen by then.

    accuracies: the part of the test images read rightly;   rates: spikes per neuron and time step, by layer.
    """

    walk: str
    losses: list[float] = field(default_factory=list)
    accuracies: list[tuple[int, float]] = field(default_factory=list)
    rates: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    seconds: float = 0.0
    net: nn.Module | None = None

    def sentence(self) -> str:
        if not self.losses:
            return "Press Start to train."
        right = (
            f"{self.accuracies[-1][1]:.1%} of the test set read rightly" if self.accuracies else "first epoch under way"
        )
        return f"{self.walk}: {len(self.losses)} batches in {self.seconds:.1f} s, {right}."


class Training(Runner):
    """Live curves of a training, firing rates by layer, a membrane trace and a raster.

    network: "mlp", "conv", or a module of your own that takes constant currents `[T, B, *features]` and returns
    `[T, B, classes]`;   data: (x_train, y_train, x_test, y_test) with x `[n, *features]` and y `[n]`, by default the digits.
    rate: Adam's learning rate. A network of your own is not changed: every Start trains a copy, `result.net`, in which the
    chosen walk sets the backend of every layer. Its batches come in the same order each time; what else is random in it
    (Dropout) draws from torch's own generator.

    controls: walk, steps (T), hidden (mlp), tau and threshold (where all spiking layers share one), epochs, start, stop,
    resume; layer, digit and neuron choose at any time what is looked at.   result: `Result`.

    >>> import asyncio
    >>> training = Training("mlp", epochs=1, hidden=16, steps=4)
    >>> len(asyncio.run(training.run()).losses)
    23
    """

    caption = (
        "Left: loss of every batch, and accuracy on the test images after every epoch. Middle: potential of one hidden "
        "neuron for one test image (up to h, then reset to v; dots are spikes), and the spikes of its layer. "
        "Right: that image, and the part of all time steps in which the neurons of each layer fire."
    )
    resumable = True

    def __init__(
        self,
        network: str | nn.Module = "mlp",
        data: Sequence[object] | None = None,
        *,
        walk: str = "fused",
        steps: int = 16,
        hidden: int = 128,
        epochs: int = 6,
        rate: float | None = None,
        neuron: int | None = None,
        seed: int = 0,
    ) -> None:
        self.network, self.seed = network, seed
        if walk not in WALKS:
            raise ValueError(f"walk must be one of {', '.join(map(repr, WALKS))}, but got {walk!r}.")
        if isinstance(network, nn.Module):
            net, self.data = network, own(network, data)
            device = next(net.parameters()).device
            self.data = self.data._replace(**{key: part.to(device) for key, part in self.data._asdict().items()})
            try_out(tuned(net, walk), self.data, walk, steps)
            what = "image" if data is None else "example"
        elif data is not None:
            raise ValueError(f"network={network!r} has its own data; give data with a network of your own.")
        else:
            net, self.data = built_in(network, seed, hidden)
            what = "image"
        self.rate = rate or RATES.get(str(network), 2e-3)
        controls = {
            "walk": choice("walk", list(WALKS), walk, help="how the network walks its (layer, time) grid"),
            "steps": slider("time steps T", steps, min(2, steps), max(64, steps)),
        }
        if network == "mlp":
            controls["hidden"] = slider("hidden neurons", hidden, 16, 512, step=16)
        if (tau := shared(net, "tau")) is not None:
            controls["tau"] = slider(
                "time constant τ", tau, 1.0, max(8.0, tau), step=0.5, help="membrane time constant, in time steps"
            )
        if (threshold := shared(net, "v_threshold")) is not None:
            help = "potential from which a neuron fires"
            low, high = min(0.1, threshold), max(10.0, threshold)
            controls["threshold"] = slider("threshold", threshold, low, high, step=0.1, help=help)
        remaking = [*controls]  # these make another network
        names = list(spiking(net))
        controls |= {
            "epochs": slider("epochs", epochs, 1, max(20, epochs)),
            "layer": choice("hidden layer shown", names, names[-1], help="layer of the potential and of the raster"),
            "digit": slider(f"test {what} shown", 0, 0, len(self.data.test_labels) - 1),
            "neuron": slider("hidden neuron shown", 0, 0, SHOWN - 1, help="its row in the raster"),
        }
        super().__init__(controls, self._figure(), Result(walk))
        for name in ("digit", "neuron"):
            self.on(name, self.draw_traces)
        self.on("layer", self.show_layer)
        for name in remaking:
            self.on(name, self.reset)
        self.traces: Traces
        self._busy = threading.Lock()  # nobody looks at a network while it learns in a thread
        self.reset()
        self.show_layer()
        neuron = LIVELY.get(str(network)) if neuron is None else neuron
        if neuron is not None:
            self.controls["neuron"].value = neuron  # the slider keeps it within the raster
        self.go_live()

    # -- the work ------------------------------------------------------------------------------------------------

    def net(self) -> nn.Module:
        """A new, untrained network as the controls say."""
        controls, made = self.controls, self.network
        names = {"tau": "tau", "threshold": "v_threshold"}
        parameters = {key: controls[name].value for name, key in names.items() if name in controls}
        if isinstance(made, str):
            made, _ = built_in(made, self.seed, controls["hidden"].value if "hidden" in controls else 0)
        return tuned(made, controls["walk"].value, **parameters)

    def reset(self) -> None:
        """A control that makes another network moved: begin anew, untrained."""
        self.abandon()
        self.result = self.begin()
        self.untrained(self.result)
        self.draw()
        self.say(self.result.sentence())

    def begin(self) -> Result:
        return Result(self.controls["walk"].value, net=self.net(), rates=self.result.rates[:1])

    def untrained(self, result: Result) -> None:
        """The firing rates before the first batch."""
        assert result.net is not None
        result.rates = [(0, firing_rates(result.net, self.data, self.controls["steps"].value))]

    def alone(self, work: Callable[[], None]) -> None:
        with self._busy:
            work()

    def work(self, result: Result) -> Iterator[object]:
        steps, walk, net = self.controls["steps"].value, WALKS[self.controls["walk"].value][0], result.net
        assert net is not None
        self.say("Compiling the kernels: a few seconds the very first time, then they are kept.")
        yield self.aside(lambda: walk(self.net(), currents(self.data.train_images[:2], 2)).sum().backward())
        yield self.aside(partial(self.alone, lambda: self.untrained(result)))
        run = fit(net, self.data, walk, steps, self.rate, self.seed)
        batches = -(-len(self.data.train_labels) // BATCH)

        def learn() -> None:
            begin = time.perf_counter()
            result.losses.append(next(run))
            result.seconds += time.perf_counter() - begin

        def test() -> None:
            result.accuracies.append((len(result.losses), accuracy(net, self.data, walk, steps)))

        def rates() -> None:
            result.rates.append((len(result.losses), firing_rates(net, self.data, steps)))

        drawn, looked_at, slow = 0.0, True, True
        while True:
            done = len(result.losses)
            over = done >= batches * self.controls["epochs"].value  # the slider may be moved meanwhile
            if over or (done and time.perf_counter() - drawn > 0.5):  # a browser draws no faster than it can
                yield self.piece(rates, slow)
                self.draw_curves()
                self.say(result.sentence())
                if not looked_at:
                    self.draw_traces()
                looked_at, drawn = True, time.perf_counter()
            if over:
                return
            before = result.seconds
            yield self.piece(learn, slow)
            slow = result.seconds - before > SLOW
            if len(result.losses) % batches == 0:
                yield self.piece(test, slow=True)
                looked_at = False

    def piece(self, work: Callable[[], None], slow: bool) -> object:
        """Slow work is done aside, so that the page stays alive; for short work a thread would cost more than it saves."""
        if slow:
            return self.aside(partial(self.alone, work))
        work()
        return None

    # -- the figure ----------------------------------------------------------------------------------------------

    @staticmethod
    def _figure() -> go.Figure:
        titles = ("loss", "membrane potential", "test image", "test accuracy", "spikes", "firing rates (◇ untrained)")
        grid = make_subplots(
            rows=2,
            cols=3,
            column_widths=[0.3, 0.42, 0.28],
            vertical_spacing=0.2,
            horizontal_spacing=0.07,
            subplot_titles=titles,
        )
        line = {"color": plots.colour(4), "width": 2}
        grid.add_scatter(x=[], y=[], mode="lines", line=line, name="loss", row=1, col=1)
        grid.add_scatter(
            x=[], y=[], mode="lines+markers", line=line | {"color": plots.colour(1)}, name="accuracy", row=2, col=1
        )
        grid.add_scatter(x=[], y=[], mode="lines", line=line, name="potential", row=1, col=2)
        dot = {"color": plots.colour(1), "size": 9}
        grid.add_scatter(x=[], y=[], mode="markers", marker=dot, name="spike", row=1, col=2)
        dash = {"color": plots.colour(3), "dash": "dash", "width": 1.5}
        grid.add_scatter(x=[], y=[], mode="lines", line=dash, name="threshold", row=1, col=2)
        square = {"symbol": "square", "size": 3, "color": plots.colour(4)}
        grid.add_scatter(x=[], y=[], mode="markers", marker=square, name="spikes", row=2, col=2)
        grid.add_scatter(x=[], y=[], mode="markers", marker=dot | {"size": 6}, name="of the neuron above", row=2, col=2)
        grid.add_heatmap(z=[[0]], colorscale="Greys", showscale=False, name="image", row=1, col=3)
        bar = {"color": plots.colour(4), "pattern": {"shape": "/"}}
        grid.add_bar(x=[], y=[], orientation="h", marker=bar, name="firing rate", row=2, col=3)
        diamond = {"symbol": "diamond-open", "size": 11, "color": "black", "line": {"width": 2}}
        grid.add_scatter(x=[], y=[], mode="markers", marker=diamond, name="untrained", row=2, col=3)
        made = plots.styled(grid, height=560, showlegend=False)
        made.update_annotations(font_size=14)
        made.update_layout(yaxis={"rangemode": "tozero"}, yaxis4={"range": [0, 1.02], "tickformat": ".0%"})
        made.update_layout(
            xaxis4={"title": "batches", "rangemode": "tozero"},
            xaxis5={"title": "time step"},
            yaxis5={"title": "neuron"},
        )
        made.update_layout(xaxis6={"title": "spikes per neuron and step", "rangemode": "tozero"})
        made.update_layout(
            xaxis3={"visible": False, "constrain": "domain"},
            yaxis3={"visible": False, "autorange": "reversed", "scaleanchor": "x3", "constrain": "domain"},
            yaxis6={"type": "category", "autorange": "reversed", "ticklabelstandoff": 4},
        )
        return made

    @plots.at_once
    def draw(self) -> None:
        self.draw_curves()
        self.draw_traces()

    @plots.at_once
    def draw_curves(self) -> None:
        result, traces = self.result, self.figure.data
        traces[LOSS].update(x=list(range(1, len(result.losses) + 1)), y=list(result.losses))
        traces[ACCURACY].update(x=[n for n, _ in result.accuracies], y=[right for _, right in result.accuracies])
        for trace, (_, rates) in ((RATE, result.rates[-1]), (RATE_BEFORE, result.rates[0])):
            traces[trace].update(x=list(rates.values()), y=[shown(name) for name in rates])

    def cells(self) -> np.ndarray:
        """The neurons in the raster: the first of a vector of neurons, or of maps some that were picked at random once."""
        shape = self.traces.shape
        count = int(np.prod(shape))
        if len(shape) == 1 or count <= SHOWN:
            return np.arange(min(SHOWN, count))
        return np.sort(np.random.default_rng(0).choice(count, SHOWN, replace=False))

    def seen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The chosen neuron's h, v and s, [T] each."""
        cell = self.cells()[self.controls["neuron"].value]
        return self.traces.h[:, cell], self.traces.v[:, cell], self.traces.s[:, cell]

    def threshold(self) -> float | None:
        """The threshold of the layer shown, if it is a number that does not change."""
        assert self.result.net is not None
        layer = spiking(self.result.net)[self.controls["layer"].value]
        level, numbers = threshold_of(layer.step), scalars_of(layer.neuron).values()
        if level is None:
            return None
        try:  # what hangs on a state or on x is no number when these are none
            found = float(level(*(math.nan for _ in layer.step.before), math.nan, *numbers))
        except TypeError:  # still a symbol: it is learned
            return None
        return found if math.isfinite(found) else None

    def show_layer(self) -> None:
        """Another layer: shows the neuron that is nearest to firing in every third step, so that there is something to see."""
        self.look()
        spikes = self.traces.s[:, self.cells()].mean(0)
        with self.quietly():
            self.controls["neuron"].value = int(np.abs(spikes - 1 / 3).argmin())
        self.draw_seen()

    def draw_traces(self) -> None:
        self.look()
        self.draw_seen()

    def look(self) -> None:
        assert self.result.net is not None
        at = {name: self.controls[name].value for name in ("digit", "steps", "layer")}
        with self._busy:
            self.traces = look(self.result.net, self.data, at["digit"], at["steps"], at["layer"])
        self.controls["neuron"].max = len(self.cells()) - 1

    @plots.at_once
    def draw_seen(self) -> None:
        """What was looked at last."""
        steps, cells = self.controls["steps"].value, self.cells()
        row = self.controls["neuron"].value
        h, v, s = self.seen()
        x, y = zigzag(h, v)
        fired = np.flatnonzero(s)
        times, rows = np.nonzero(self.traces.s[:, cells])
        level = self.threshold()
        others = rows != row
        traces, layout = self.figure.data, self.figure.layout
        traces[POTENTIAL].update(x=x, y=y)
        traces[SPIKE].update(x=fired + 1, y=h[fired])
        traces[THRESHOLD].update(x=[1, steps], y=[level, level])
        traces[RASTER].update(x=times[others] + 1, y=rows[others])
        traces[CHOSEN].update(x=fired + 1, y=np.full(len(fired), row))
        traces[IMAGE].z = self.traces.image
        for place, title in zip((1, 2, 4), self.titles(), strict=True):
            layout.annotations[place].text = title
        layout.xaxis5.range = (0.5, steps + 0.5)
        layout.yaxis5.range = (-1, len(cells))

    def titles(self) -> tuple[str, str, str]:
        row, cells = self.controls["neuron"].value, self.cells()
        address = self.traces.address(cells[row])
        return (
            f"potential of neuron {row}" + (f" ({address})" if address else ""),
            f"a {self.traces.label}, read as {self.traces.guess}",
            f"spikes of {len(cells)} neurons of {shown(self.controls['layer'].value)}",
        )

    def picture(self) -> bytes:
        steps, result, cells = self.controls["steps"].value, self.result, self.cells()
        drawing = plots.static_figure(10, 4.8)
        (loss, potential, image), (reached, raster, rate) = drawing.subplots(2, 3, width_ratios=(3, 4, 2.6))
        loss.plot(range(1, len(result.losses) + 1), result.losses, color=plots.rgb(4))
        loss.set(title="loss", ylim=(0, None))
        reached.plot(*np.array(result.accuracies).reshape(-1, 2).T, "o-", color=plots.rgb(1))
        reached.set(title="test accuracy", xlabel="batches", xlim=(0, None), ylim=(0, 1.02))
        h, v, s = self.seen()
        fired = np.flatnonzero(s)
        potential.plot(*zigzag(h, v), color=plots.rgb(4))
        potential.plot(fired + 1, h[fired], "o", color=plots.rgb(1))
        if (level := self.threshold()) is not None:
            potential.plot([1, steps], [level, level], "--", color=plots.rgb(3))
        times, rows = np.nonzero(self.traces.s[:, cells])
        raster.scatter(times + 1, rows, marker="s", s=4, color=plots.rgb(4))
        raster.plot(fired + 1, [self.controls["neuron"].value] * len(fired), "o", ms=4, color=plots.rgb(1))
        raster.set(xlabel="time step", ylabel="neuron", xlim=(0.5, steps + 0.5), ylim=(-1, len(cells)))
        image.imshow(self.traces.image, cmap="Greys")
        image.axis("off")
        (_, before), (_, now) = result.rates[0], result.rates[-1]
        rate.barh([shown(name) for name in now], list(now.values()), color=plots.rgb(4), hatch="//", edgecolor="white")
        rate.plot(list(before.values()), [shown(name) for name in before], "D", mfc="none", mec="black")
        rate.invert_yaxis()
        rate.set(title="firing rates (◇ untrained)", xlabel="spikes per neuron and step", xlim=(0, None))
        for axes, title in zip((potential, image, raster), self.titles(), strict=True):
            axes.set_title(title)
        for axes in (potential, raster):
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in (loss, potential, image, reached, raster, rate):
            axes.title.set_fontsize(10)
            axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def shown(name: str) -> str:
    """A layer's name to read: a module without a name of its own has its place, such as 3."""
    return f"layer {name}" if name.isdigit() else name
