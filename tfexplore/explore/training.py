"""Training on handwritten digits, live: loss, accuracy, and what one hidden neuron does with one test image."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfexplore import layers
from tfexplore.data import Split, currents, digits
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner, choice, slider
from tfexplore.schedules import layer_by_layer, step_by_step
from tfexplore.states import record

WALKS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], str]] = {
    "fused": (layer_by_layer, "auto"),
    "layer by layer": (layer_by_layer, "torch"),
    "step by step": (step_by_step, "torch"),
}
"""Each way to train, as a schedule and a backend."""

BATCH = 64
SHOWN = 64  # hidden neurons in the raster


def network(hidden: int = 128, tau: float = 2.0, backend: str = "auto", seed: int = 0) -> nn.Sequential:
    """64 pixels -> hidden spiking neurons -> hidden spiking neurons -> 10 digits; the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear1, linear2 = nn.Linear(64, hidden), nn.Linear(hidden, hidden)
        for linear in (linear1, linear2):
            nn.init.uniform_(
                linear.weight, -2 / linear.in_features**0.5, 2 / linear.in_features**0.5
            )  # strong enough to fire
        lif1, lif2 = (layers.LIF(tau=tau, backend=backend) for _ in range(2))
        parts = {"linear1": linear1, "lif1": lif1, "linear2": linear2, "lif2": lif2, "linear3": nn.Linear(hidden, 10)}
        return nn.Sequential(OrderedDict(parts))


def fit(
    net: nn.Module,
    data: Split,
    walk: Callable[[nn.Module, Tensor], Tensor],
    steps: int,
    rate: float = 2e-3,
    seed: int = 0,
) -> Iterator[float]:
    """Trains without end, a batch at a time (Adam, cross-entropy of the mean output over time); yields the losses."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    order = torch.Generator().manual_seed(seed)
    while True:
        for batch in torch.randperm(len(data.train_labels), generator=order).split(BATCH):
            optimiser.zero_grad()
            loss = cross_entropy(walk(net, currents(data.train_images[batch], steps)).mean(0), data.train_labels[batch])
            loss.backward()
            optimiser.step()
            yield loss.item()


@torch.no_grad()
def accuracy(net: nn.Module, data: Split, walk: Callable[[nn.Module, Tensor], Tensor], steps: int) -> float:
    """The part of the test images that the network reads rightly."""
    out = walk(net, currents(data.test_images, steps)).mean(0)
    return (out.argmax(1) == data.test_labels).float().mean().item()


def losses(
    walk: str, batches: int, *, steps: int = 16, hidden: int = 128, dtype: torch.dtype = torch.float32
) -> list[float]:
    """The first losses of one training, from the same weights and data whatever the walk."""
    data = digits()
    data = data._replace(train_images=data.train_images.to(dtype))
    schedule, backend = WALKS[walk]
    run = fit(network(hidden, backend=backend).to(dtype), data, schedule, steps)
    return [next(run) for _ in range(batches)]


@dataclass
class Result:
    """What a training has shown so far. accuracies: (batches seen, part of the test images read rightly)."""

    walk: str
    losses: list[float] = field(default_factory=list)
    accuracies: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    net: nn.Module | None = None

    def sentence(self) -> str:
        if not self.losses:
            return "Press Start to train."
        right = (
            f"{self.accuracies[-1][1]:.1%} of the test digits read rightly"
            if self.accuracies
            else "first epoch under way"
        )
        return f"{self.walk}: {len(self.losses)} batches in {self.seconds:.1f} s, {right}."


@dataclass(frozen=True)
class Traces:
    """One test image through the second hidden layer: h, v and s are [T, hidden]."""

    label: int
    guess: int
    h: np.ndarray
    v: np.ndarray
    s: np.ndarray


@torch.no_grad()
def look(net: nn.Module, data: Split, digit: int, steps: int) -> Traces:
    with record(net, "h", "v", "s") as traces:
        out = net(currents(data.test_images[digit : digit + 1], steps)).mean(0)
    seen = {name: trace[:, 0].numpy() for name, trace in traces["lif2"].items()}
    return Traces(int(data.test_labels[digit]), int(out.argmax()), seen["h"], seen["v"], seen["s"])


def zigzag(h: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The potential as a line: at every step up to h, then, after the reset, at v."""
    return np.repeat(np.arange(1, len(h) + 1), 2), np.stack([h, v], axis=1).ravel()


class Training(Runner):
    """Live curves of a training, a membrane trace and a raster.

    controls: walk, steps (T), hidden, tau, epochs, start, stop; digit and neuron, which move the traces at any time.
    result: `Result`.

    >>> import asyncio
    >>> training = Training(epochs=1, hidden=16, steps=4)
    >>> len(asyncio.run(training.run()).losses)
    23
    """

    caption = (
        "Left: loss of every batch, and accuracy on the test digits after every epoch. Right: the potential of one hidden "
        "neuron for one test digit (up to h, then reset to v; dots are spikes), and the spikes of 64 hidden neurons."
    )

    def __init__(self, walk: str = "fused", steps: int = 16, hidden: int = 128, epochs: int = 6, seed: int = 0) -> None:
        self.data, self.seed = digits(), seed
        controls = {
            "walk": choice("walk", list(WALKS), walk, help="how the network walks its (layer, time) grid"),
            "steps": slider("time steps T", steps, 2, 64),
            "hidden": slider("hidden neurons", hidden, 16, 512, step=16),
            "tau": slider("time constant τ", 2.0, 1.0, 8.0, step=0.5, help="membrane time constant, in time steps"),
            "epochs": slider("epochs", epochs, 1, 20),
            "digit": slider("test digit shown", 0, 0, len(self.data.test_labels) - 1),
            "neuron": slider("hidden neuron shown", min(44, hidden - 1), 0, min(SHOWN, hidden) - 1),
        }
        super().__init__(controls, self._figure(), Result(walk))
        for name in ("digit", "neuron"):
            self.on(name, self.draw_traces)
        for name in ("walk", "steps", "hidden", "tau"):
            self.on(name, self.reset)
        self.traces: Traces | None = None
        self.reset()
        self.go_live()

    @staticmethod
    def _figure() -> go.Figure:
        grid = make_subplots(
            rows=2,
            cols=2,
            vertical_spacing=0.2,
            subplot_titles=("loss", "membrane potential", "test accuracy", "spikes of the second hidden layer"),
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
        made = plots.styled(grid, height=540, showlegend=False)
        made.update_layout(yaxis={"rangemode": "tozero"}, yaxis3={"range": [0, 1.02], "tickformat": ".0%"})
        made.update_layout(xaxis3={"title": "batches"}, xaxis4={"title": "time step"}, yaxis4={"title": "neuron"})
        return made

    def network(self) -> nn.Sequential:
        _, backend = WALKS[self.controls["walk"].value]
        return network(self.controls["hidden"].value, self.controls["tau"].value, backend, self.seed)

    def reset(self) -> None:
        """A control that makes another network moved: begin anew, untrained."""
        self._stopping = True
        self.controls["neuron"].max = min(SHOWN, self.controls["hidden"].value) - 1
        self.result = self.begin()
        self.draw_curves()
        self.draw_traces()
        self.say(self.result.sentence())

    def begin(self) -> Result:
        return Result(self.controls["walk"].value, net=self.network())

    def work(self, result: Result) -> Iterator[object]:
        steps, epochs = self.controls["steps"].value, self.controls["epochs"].value
        walk, _ = WALKS[self.controls["walk"].value]
        net = result.net
        assert net is not None
        self.say("Compiling the kernels: a few seconds the very first time, then they are kept.")
        yield self.aside(lambda: walk(self.network(), currents(self.data.train_images[:2], 2)).sum().backward())
        run = fit(net, self.data, walk, steps, seed=self.seed)
        batches = -(-len(self.data.train_labels) // BATCH)
        drawn = 0.0
        for _ in range(epochs):
            for _ in range(batches):
                begin = time.perf_counter()
                result.losses.append(next(run))
                result.seconds += time.perf_counter() - begin
                if time.perf_counter() - drawn > 0.2:  # a browser draws no faster than it can
                    self.draw_curves()
                    self.say(result.sentence())
                    drawn = time.perf_counter()
                yield None
            result.accuracies.append((len(result.losses), accuracy(net, self.data, walk, steps)))
            self.draw_curves()
            self.draw_traces()
            self.say(result.sentence())
            yield None

    def draw_curves(self) -> None:
        plots.put(self.figure, 0, x=list(range(1, len(self.result.losses) + 1)), y=list(self.result.losses))
        plots.put(
            self.figure, 1, x=[n for n, _ in self.result.accuracies], y=[right for _, right in self.result.accuracies]
        )

    def draw_traces(self) -> None:
        assert self.result.net is not None
        neuron, steps = self.controls["neuron"].value, self.controls["steps"].value
        self.traces = look(self.result.net, self.data, self.controls["digit"].value, steps)
        x, y = zigzag(self.traces.h[:, neuron], self.traces.v[:, neuron])
        fired = np.flatnonzero(self.traces.s[:, neuron])
        times, cells = np.nonzero(self.traces.s[:, :SHOWN])
        plots.put(self.figure, 2, x=x, y=y)
        plots.put(self.figure, 3, x=fired + 1, y=self.traces.h[fired, neuron])
        plots.put(self.figure, 4, x=[1, steps], y=[1.0, 1.0])
        plots.put(self.figure, 5, x=times + 1, y=cells)
        self.figure.layout.annotations[1].text = self._trace_title()

    def _trace_title(self) -> str:
        assert self.traces is not None
        return (
            f"potential of neuron {self.controls['neuron'].value}; a {self.traces.label}, read as {self.traces.guess}"
        )

    def picture(self) -> bytes:
        assert self.traces is not None
        neuron, steps = self.controls["neuron"].value, self.controls["steps"].value
        drawing = plots.static_figure(9, 4.6)
        (loss, potential), (reached, raster) = drawing.subplots(2, 2)
        loss.plot(range(1, len(self.result.losses) + 1), self.result.losses, color=plots.rgb(4))
        loss.set(title="loss", ylim=(0, None))
        reached.plot(*np.array(self.result.accuracies).reshape(-1, 2).T, "o-", color=plots.rgb(1))
        reached.set(title="test accuracy", xlabel="batches", ylim=(0, 1.02))
        potential.plot(*zigzag(self.traces.h[:, neuron], self.traces.v[:, neuron]), color=plots.rgb(4))
        fired = np.flatnonzero(self.traces.s[:, neuron])
        potential.plot(fired + 1, self.traces.h[fired, neuron], "o", color=plots.rgb(1))
        potential.plot([1, steps], [1, 1], "--", color=plots.rgb(3))
        potential.set(title=self._trace_title())
        times, cells = np.nonzero(self.traces.s[:, :SHOWN])
        raster.scatter(times + 1, cells, marker="|", s=12, color=plots.rgb(4))
        raster.set(
            title="spikes of the second hidden layer", xlabel="time step", ylabel="neuron", xlim=(0.5, steps + 0.5)
        )
        for axes in (loss, potential, reached, raster):
            axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)
