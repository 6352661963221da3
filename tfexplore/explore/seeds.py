"""The same training twice, step by step and fused, from several seeds: do both ways learn the same?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from tfexplore.data import Split
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner, choice, slider
from tfexplore.explore.networks import WALKS, accuracy, tuned
from tfexplore.measure import clock
from tfexplore.nn.networks import BATCH, RATES, built_in, fit

STEPPED, FUSED = PAIR = ("step by step", "fused")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LOOKS = ((1, "solid", 6), (4, "dash", 2.5))  # colour, dash and width of the mean; the second lies on top of the first


def both() -> dict[str, list[float]]:
    return {walk: [] for walk in PAIR}


@dataclass(frozen=True)
class Pair:
    """One seed, by walk: the loss of every batch, and the test accuracy after every epoch.

    Both walks begin with the same weights and see the same batches in the same order.
    """

    losses: dict[str, list[float]] = field(default_factory=both)
    accuracies: dict[str, list[float]] = field(default_factory=both)

    def drift(self) -> np.ndarray:
        """How far apart the two losses of each batch are."""
        both = min(len(values) for values in self.losses.values())
        stepped, fused = (np.array(self.losses[walk][:both]) for walk in PAIR)
        return np.abs(stepped - fused)


@dataclass
class Result:
    """The pairs so far, one per seed, and the seconds that training took, by walk, for all seeds together."""

    network: str
    dtype: str
    epochs: int
    tests: int
    machine: str
    pairs: list[Pair] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PAIR, 0.0))

    def finished(self) -> list[Pair]:
        return [pair for pair in self.pairs if len(pair.accuracies[FUSED]) == self.epochs]

    def final(self, walk: str) -> list[float]:
        """The test accuracy at the end, by seed."""
        return [pair.accuracies[walk][-1] for pair in self.finished()]

    def images_apart(self) -> list[int]:
        """How many more test images the fused network reads rightly, by seed."""
        return [round((f - s) * self.tests) for s, f in zip(self.final(STEPPED), self.final(FUSED), strict=True)]

    def drift(self) -> np.ndarray:
        """How far apart the two losses of each batch are, over all seeds."""
        return np.concatenate([pair.drift() for pair in self.pairs] or [np.empty(0)])

    def sentence(self) -> str:
        drift = self.drift()
        if not len(drift):
            return "Press Start to train both ways from every seed."
        same = int((drift == 0).sum())
        told = [
            f"{len(drift)} pairs of losses in {self.dtype}: {same} have the same bits; at most {drift.max():.1e} apart."
        ]
        if finals := self.final(FUSED):
            apart = ", ".join(f"{k:+d}" if k else "0" for k in self.images_apart())
            told.append(
                f"Test accuracy {np.mean(self.final(STEPPED)):.1%} step by step and {np.mean(finals):.1%} fused; seed by seed, "
                f"the fused network reads {apart} more of the {self.tests} test images rightly."
            )
        if len(finals) > 1:
            told.append(
                f"The best and the worst seed are {round((max(finals) - min(finals)) * self.tests)} images apart."
            )
        slow, fast = (self.seconds[walk] for walk in PAIR)
        told.append(f"Training took {slow:.1f} s step by step and {fast:.1f} s fused ({self.machine}).")
        return " ".join(told)


class Seeds(Runner):
    """Loss and accuracy of step by step and fused over several seeds, and how far apart the losses of each pair are.

    network: "mlp" or "conv". The two walks take turns batch by batch, so that noise on the machine hits both alike.
    controls: seeds, epochs, steps (T), precision, start, stop, resume;   result: `Result`.

    >>> import asyncio
    >>> seeds = Seeds(seeds=1, epochs=1, steps=2, hidden=16)
    >>> [len(pair.losses["fused"]) for pair in asyncio.run(seeds.run()).pairs]
    [23]
    """

    caption = (
        "Left and middle: loss and test accuracy, thin for each seed, thick for the mean of the seeds; step by step solid, "
        "fused dashed and on top of it. Right: how far apart the two losses of the same batch are, one line for each seed, on a "
        "logarithmic axis; where they have the same bits there is nothing to draw."
    )
    resumable = True

    def __init__(
        self,
        network: str = "mlp",
        *,
        seeds: int = 3,
        epochs: int = 3,
        steps: int = 8,
        hidden: int = 128,
        precision: str = "float32",
    ) -> None:
        if precision not in DTYPES:
            raise ValueError(f"precision must be one of {', '.join(map(repr, DTYPES))}, but got {precision!r}.")
        self.network, self.hidden = network, hidden
        _, self.data = built_in(network, hidden=hidden)
        controls = {
            "seeds": slider(
                "seeds", seeds, 1, max(8, seeds), help="trainings from other weights, in another order of batches"
            ),
            "epochs": slider("epochs", epochs, 1, max(10, epochs)),
            "steps": slider("time steps T", steps, min(2, steps), max(32, steps)),
            "precision": choice("precision", list(DTYPES), precision, help="about 7 digits (float32) or 16 (float64)"),
        }
        super().__init__(controls, self._figure(), None)
        for name in controls:
            self.on(name, self.reset)
        self.reset()
        self.go_live()

    def begin(self) -> Result:
        epochs, tests = self.controls["epochs"].value, len(self.data.test_labels)
        return Result(self.network, self.controls["precision"].value, epochs, tests, clock.machine())

    def work(self, result: Result) -> Iterator[object]:
        steps, dtype = self.controls["steps"].value, DTYPES[result.dtype]
        images = {key: getattr(self.data, key).to(dtype) for key in ("train_images", "test_images")}
        data = self.data._replace(**images)
        self.say("Compiling the kernels: a few seconds the very first time, then they are kept.")
        yield self.aside(lambda: [next(run) for _, run in self.runs(0, data, 2).values()])
        batches = -(-len(data.train_labels) // BATCH)
        drawn = time.perf_counter()
        for seed in range(self.controls["seeds"].value):
            pair, runs = Pair(), self.runs(seed, data, steps)
            result.pairs.append(pair)
            for batch in range(1, 1 + result.epochs * batches):
                for walk in PAIR if batch % 2 else PAIR[::-1]:
                    begin = time.perf_counter()
                    loss = next(runs[walk][1])
                    result.seconds[walk] += time.perf_counter() - begin
                    pair.losses[walk].append(loss)
                if batch % batches == 0:
                    for walk, (right, _) in runs.items():
                        pair.accuracies[walk].append(right())
                if time.perf_counter() - drawn > 0.5:
                    self.draw()
                    self.say(
                        f"Seed {seed + 1} of {self.controls['seeds'].value}, batch {batch} of {result.epochs * batches}."
                    )
                    drawn = time.perf_counter()
                yield None
        self.draw()
        self.say(result.sentence())

    def runs(self, seed: int, data: Split, steps: int) -> dict[str, tuple[Callable[[], float], Iterator[float]]]:
        """For each walk, what tells the test accuracy, and the training: from the same weights, on the same batches."""

        def run(walk: str) -> tuple[Callable[[], float], Iterator[float]]:
            schedule, _ = WALKS[walk]
            net = tuned(built_in(self.network, seed, self.hidden)[0], walk).to(data.train_images.dtype)
            return lambda: accuracy(net, data, schedule, steps), fit(
                net, data, schedule, steps, RATES[self.network], seed
            )

        return {walk: run(walk) for walk in PAIR}

    # -- the figure ----------------------------------------------------------------------------------------------

    @staticmethod
    def _figure() -> go.Figure:
        titles = ("loss", "test accuracy", "|difference| of the two losses")
        grid = make_subplots(rows=1, cols=3, subplot_titles=titles, horizontal_spacing=0.09)
        for col, mode in ((1, "lines"), (2, "lines+markers")):
            for walk, (k, dash, width) in zip(PAIR, LOOKS, strict=True):
                line: dict[str, Any] = {"color": plots.colour(k), "dash": dash}
                common = {"x": [], "y": [], "legendgroup": walk, "row": 1, "col": col}
                grid.add_scatter(mode="lines", line=line | {"width": 1}, opacity=0.5, showlegend=False, **common)
                grid.add_scatter(mode=mode, line=line | {"width": width}, name=walk, showlegend=col == 1, **common)
        line = {"color": plots.colour(3), "width": 1.5}
        grid.add_scatter(
            x=[], y=[], mode="lines+markers", line=line, marker={"size": 3}, showlegend=False, row=1, col=3
        )
        made = plots.styled(grid, height=380, legend={"orientation": "h", "y": -0.22})
        made.update_annotations(font_size=14)
        made.update_layout(yaxis={"rangemode": "tozero"}, yaxis2={"tickformat": ".0%", "range": [0, 1.02]})
        made.update_layout(yaxis3={"type": "log", "exponentformat": "power", "dtick": 4, "range": [-17.5, 0.5]})
        return made.update_layout(
            xaxis={"title": "batches"},
            xaxis2={"title": "epochs", "dtick": 1},
            xaxis3={"title": "batches", "rangemode": "tozero"},
        )

    @plots.at_once
    def draw(self) -> None:
        finished = self.result.finished()
        for k, walk in enumerate(PAIR):
            for first, kind in ((0, "losses"), (4, "accuracies")):
                x, y = one_line([getattr(pair, kind)[walk] for pair in self.result.pairs])
                mean = np.mean([getattr(pair, kind)[walk] for pair in finished], axis=0) if finished else []
                self.figure.data[first + 2 * k].update(x=x, y=y)
                self.figure.data[first + 2 * k + 1].update(x=list(range(1, 1 + len(mean))), y=list(mean))
        x, y = one_line([np.where((d := pair.drift()) > 0, d, np.nan) for pair in self.result.pairs])
        self.figure.data[8].update(x=x, y=y)

    def picture(self) -> bytes:
        drawing = plots.static_figure(10, 3.4)
        loss, reached, apart = axes = drawing.subplots(1, 3)
        for walk, (k, dash, width) in zip(PAIR, LOOKS, strict=True):
            look: dict[str, Any] = {"color": plots.rgb(k), "ls": {"solid": "-", "dash": "--"}[dash]}
            for plot, kind, marker in ((loss, "losses", None), (reached, "accuracies", "o")):
                for pair in self.result.pairs:
                    values = getattr(pair, kind)[walk]
                    plot.plot(range(1, 1 + len(values)), values, lw=0.7, alpha=0.5, **look)
                if finished := self.result.finished():
                    mean = np.mean([getattr(pair, kind)[walk] for pair in finished], axis=0)
                    plot.plot(range(1, 1 + len(mean)), mean, marker=marker, lw=0.7 * width, label=walk, **look)
        for pair in self.result.pairs:
            drift = pair.drift()
            apart.plot(
                range(1, 1 + len(drift)), np.where(drift > 0, drift, np.nan), ".-", ms=3, lw=0.9, color=plots.rgb(3)
            )
        loss.set(title="loss", xlabel="batches", ylim=(0, None))
        reached.set(title="test accuracy", xlabel="epochs", ylim=(0, 1.02))
        reached.xaxis.get_major_locator().set_params(integer=True)
        apart.set(
            title="|difference| of the two losses", xlabel="batches", yscale="log", xlim=(0, None), ylim=(3e-18, 3)
        )
        if self.result.finished():
            loss.legend(frameon=False)
        for plot in axes:
            plot.title.set_fontsize(10)
            plot.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def one_line(runs: Sequence[Sequence[float] | np.ndarray]) -> tuple[list[float | None], list[float | None]]:
    """Several curves over 1, 2, ... as one line with gaps between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    for run in runs:
        x += [*range(1, 1 + len(run)), None]
        y += [*(None if np.isnan(value) else float(value) for value in run), None]
    return x, y
