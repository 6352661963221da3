"""A race: the same two layers of neurons, walked step by step, layer by layer, and fused."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import plotly.graph_objects as go
import torch

from tfexplore.backends import choose
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner, slider
from tfexplore.measure import clock
from tfexplore.measure.contestants import FUSED, STEPPED, WAYS, check, contestants

ROUNDS = 7
ENOUGH = 10.0  # seconds: no new round begins after that
MOST_NEURONS, LARGEST = 200_000, 12_800_000  # per layer; time steps times neurons


@dataclass
class Result:
    """Median seconds of one training pass (forward and backward) by contestant, and where it was measured."""

    steps: int
    neurons: int
    machine: str
    backend: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """How many times as fast as step by step the fused kernel is."""
        return self.seconds[STEPPED] / self.seconds[FUSED]

    def sentence(self) -> str:
        if len(self.seconds) < len(WAYS):
            return "The race is on."
        work = f"{self.steps} time steps of 2 × {self.neurons:,} neurons"
        times = self.speedup
        lead = (
            f"{times:.1f} times as fast as step by step"
            if times >= 1
            else f"{1 / times:.1f} times as slow as step by step"
        )
        return f"Fused runs {work}, forward and backward, {lead} ({self.machine}; backend {self.backend})."


class Race(Runner):
    """Bars of the three contestants, growing while they run.

    controls: steps (T), neurons (per layer), start, stop;   result: `Result`.

    >>> import asyncio
    >>> race = Race(steps=4, neurons=1000)
    >>> sorted(asyncio.run(race.run()).seconds)
    ['fused', 'layer by layer', 'step by step']
    """

    caption = "Median time of one training pass (forward and backward) of two layers of LIF neurons; shorter is faster."

    def __init__(self, steps: int = 32, neurons: int = 50_000, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        figure = plots.styled(go.Figure(), height=260, xaxis={"title": "milliseconds"}, showlegend=False)
        figure.add_bar(
            x=[0.0] * 3,
            y=list(WAYS),
            orientation="h",
            marker={"color": [plots.colour(k) for k in range(3)], "pattern": {"shape": ["/", ".", ""]}},
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.2f} ms<extra></extra>",
        )
        figure.update_yaxes(autorange="reversed")
        controls = {
            "steps": slider("time steps T", steps, 1, 256, help="time steps in one pass"),
            "neurons": slider(
                "neurons per layer", neurons, 1000, MOST_NEURONS, step=1000, help="neurons in each of the two layers"
            ),
        }
        super().__init__(controls, figure, None)
        for name in controls:
            self.on(name, self.reset)
        self.reset()
        self.go_live()

    def begin(self) -> Result:
        steps, neurons = self.controls["steps"].value, self.controls["neurons"].value
        return Result(steps, neurons, clock.machine(self.device), choose("auto", self.device).name)

    def reset(self) -> None:
        """A slider moved: the bars go back to the start."""
        self._stopping = True  # a race under way was for the old numbers
        room = min(MOST_NEURONS, LARGEST // self.controls["steps"].value // 1000 * 1000)
        self.controls["neurons"].max = room  # the eager ways keep some twenty tensors of T x N
        self.result = self.begin()
        self.draw()
        self.say(
            f"Three ways through {self.result.steps} time steps of 2 × {self.result.neurons:,} neurons "
            f"(there is room for {room:,}). Press Start."
        )

    def work(self, result: Result) -> Iterator[object]:
        choice = choose("auto", self.device)
        if choice.name == "torch":
            self.say(f"No fused backend here, so the third bar is eager too: {choice.reason}")
        else:
            self.say("Compiling the fused kernel: a few seconds the very first time, then it is kept.")
        work = contestants(result.steps, result.neurons, device=self.device)
        yield self.aside(functools.partial(check, work))  # correct before fast
        begin = time.perf_counter()
        turns = clock.rounds(work, ROUNDS, self.device)
        for _ in range(ROUNDS + 1):
            for _ in WAYS:
                yield self.aside(lambda: setattr(result, "seconds", next(turns)))
                self.draw()
                self.say(result.sentence())
            if time.perf_counter() - begin > ENOUGH:
                break

    @plots.at_once
    def draw(self) -> None:
        values = [1e3 * self.result.seconds.get(name, 0.0) for name in WAYS]
        self.figure.data[0].update(x=values, text=[f"{v:.2f} ms" if v else "" for v in values])
        self.figure.layout.xaxis.range = [0, 1.15 * max(values) or 1]

    def picture(self) -> bytes:
        drawing = plots.static_figure(8, 2.2)
        axes = drawing.subplots()
        values = [1e3 * self.result.seconds.get(name, 0.0) for name in WAYS]
        bars = axes.barh(WAYS, values, color=[plots.rgb(k) for k in range(3)], hatch=["//", "..", ""])
        axes.bar_label(bars, [f"{v:.2f} ms" if v else "" for v in values], padding=4)
        axes.invert_yaxis()
        axes.set(xlabel="milliseconds", xlim=(0, 1.18 * max(values) if any(values) else 1))
        axes.set_title(self.result.sentence() if any(values) else "Press Start", fontsize=8, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)
