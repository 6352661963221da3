"""Time splitting, run: real processes on this machine, and what each of them did when, above what the plan had said."""

from __future__ import annotations

import statistics
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import nn

from tfexplore.explore import gantt, plots
from tfexplore.explore.explorer import Runner, choice, slider
from tfexplore.measure import clock
from tfexplore.measure.timeline import Event
from tfexplore.nn import library
from tfexplore.timesplit.costs import costs, link, mean_costs
from tfexplore.timesplit.crew import Crew
from tfexplore.timesplit.events import rank_events
from tfexplore.timesplit.plan import Link, Plan, plan
from tfexplore.timesplit.ranks import Ranks
from tfexplore.timesplit.split import TimeSplit
from tfexplore.timesplit.standin import StandIn

WAITING, COMPUTING = NETWORKS = ("layers that only wait", "linear and LIF layers")
BATCH, FEATURES = 8, 256
PASSES = 5
"""Training steps that are run; the one of median length is shown."""
TITLES = ("what the processes did", "what the plan had said")
NO_LINK = Link(latency=0.0, bandwidth=float("inf"))


def network(kind: str, blocks: int) -> nn.Module:
    """The same on every rank: layers that sleep, as if each rank were a device of its own, or that compute."""
    torch.manual_seed(0)
    parts: dict[str, nn.Module] = {}
    for k in range(1, blocks + 1):
        if kind == WAITING:
            parts[f"layer{k}"] = StandIn(seconds=4e-5)
        else:
            parts |= {f"linear{k}": nn.Linear(FEATURES, FEATURES), f"lif{k}": library.LIF(v_threshold=0.3)}
    return nn.Sequential(OrderedDict(parts))


def inputs(kind: str, steps: int) -> torch.Tensor:
    return torch.rand(steps, BATCH, 8 if kind == WAITING else FEATURES)


def prepared(group: Ranks, kind: str, blocks: int, steps: int) -> Any:
    """In every process: what the layers cost while all are at work, and the link."""
    found = mean_costs(group.all_gather_object(costs(network(kind, blocks), inputs(kind, steps), group, runs=3)))
    return found, link(group) if group.size > 1 else None


def one_pass(group: Ranks, kind: str, blocks: int, steps: int, micro_batches: int) -> tuple[float, list[Event]]:
    """In every process: one training step, timed and written down, after one that warms up."""
    split = TimeSplit(network(kind, blocks), micro_batches=micro_batches, ranks=group)
    x = inputs(kind, steps)
    split.mean(split(split.piece(x))).square().mean().backward()
    with rank_events(split) as events:
        group.all_gather([0])
        begin = time.perf_counter()
        split.mean(split(split.piece(x))).square().mean().backward()
        group.all_gather([0])
        seconds = time.perf_counter() - begin
    return seconds, events


def alone(group: Ranks, kind: str, blocks: int, steps: int) -> float:
    """In every process; the first one does the whole step, the others wait for it."""
    net, x = network(kind, blocks), inputs(kind, steps)
    group.all_gather([0])
    begin = time.perf_counter()
    if group.first:
        net(x).mean(0).square().mean().backward()
    group.all_gather([0])
    return time.perf_counter() - begin


@dataclass
class Result:
    """The runs so far: seconds and events of each, the plan, and one process's seconds."""

    ranks: int
    network: str
    machine: str
    seconds: list[float] = field(default_factory=list)
    runs: list[list[Event]] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    plan: Plan | None = None

    @property
    def events(self) -> list[Event]:
        """Those of the run whose length is in the middle, from the first layer's work on."""
        if not self.runs:
            return []
        middle = sorted(range(len(self.runs)), key=self.seconds.__getitem__)[len(self.runs) // 2]
        begin = min(event.begin for event in self.runs[middle] if event.kind == "forward")
        return [event.moved(-begin) for event in self.runs[middle] if event.begin >= begin]

    def waiting(self) -> float:
        """The part of all ranks' time that they wait."""
        events = self.events
        waited = sum(event.end - event.begin for event in events if event.kind == "wait")
        return waited / (self.ranks * max(event.end for event in events))

    def sentence(self) -> str:
        if not self.seconds:
            return "Press Start: it starts the processes, runs training steps on them, and draws what each did when."
        took = statistics.median(self.seconds)
        told = [
            f"{self.ranks} process{'es' * (self.ranks > 1)}: {1e3 * took:.3g} ms a training step (median of {len(self.seconds)})"
        ]
        if self.alone:
            told[0] += f", {statistics.median(self.alone) / took:.2f} times as fast as one"
        told[0] += f"; {'they' if self.ranks > 1 else 'it'} waited {self.waiting():.0%} of the time."
        if self.plan is not None:
            told.append(
                f"Planned: {1e3 * self.plan.seconds:.3g} ms, {self.plan.seconds / took:.2f} of what was measured."
            )
        return f"{' '.join(told)} ({self.machine}.)"


class SplitRun(Runner):
    """Runs a network on real processes with its time steps split, and draws what each of them did when.

    network: "layers that only wait" (each process is like a device of its own, whatever the cores of this machine) or "linear
    and LIF layers" (which compute, and share the cores).

    controls: processes, network, steps (T), layers, micro_batches, start, stop;   result: `Result`.

    The processes stay for the next Start; they end with this explorer, with the kernel, or by `close()`.
    """

    caption = (
        "Above: what every process did in one training step, by this machine's clock. Below: the plan of the same step. One "
        "colour for each layer; hatched on the way back. A thin line is a wait (above, also for a sum); a sliver of colour "
        "before it is a layer that began and has to wait. A black bar is a planned sum over all processes."
    )

    def __init__(
        self, processes: int = 3, network: str = WAITING, *, steps: int = 48, layers: int = 4, micro_batches: int = 1
    ) -> None:
        if network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(map(repr, NETWORKS))}, but got {network!r}.")
        self.crew: Crew | None = None
        controls = {
            "processes": slider(
                "processes P", processes, 1, max(4, processes), help="each takes a piece of the time steps"
            ),
            "network": choice(
                "network", list(NETWORKS), network, "waiting needs no cores: each process is like a device"
            ),
            "steps": slider("time steps T", steps, 8, max(128, steps), step=4),
            "layers": slider("layers", layers, 1, max(8, layers)),
            "micro_batches": slider(
                "micro-batches", micro_batches, 1, BATCH, help="the batch of 8 is cut into so many"
            ),
        }
        super().__init__(controls, self._figure(), None)
        for name in controls:
            self.on(name, self.reset)
        self.reset()
        self.go_live()

    def begin(self) -> Result:
        return Result(self.controls["processes"].value, self.controls["network"].value, clock.machine())

    def work(self, result: Result) -> Iterator[object]:
        kind, steps, blocks, parts = (
            self.controls[name].value for name in ("network", "steps", "layers", "micro_batches")
        )
        if self.crew is None or self.crew.size != result.ranks:
            self.close()
            self.crew = Crew(result.ranks, threads=1)
            weakref.finalize(self, self.crew.end)
        crew = self.crew
        if not crew.pids:
            self.say(
                f"Starting {result.ranks} process{'es' * (result.ranks > 1)}: some seconds, in which torch is imported."
            )
            yield self.aside(crew.start)
        self.say("Measuring what the layers cost.")
        found: dict[str, Any] = {}
        yield self.aside(lambda: found.update(all=crew.run(prepared, kind, blocks, steps)[0]))
        each, wire = found["all"]
        result.plan = plan(each, steps, BATCH, wire or NO_LINK, result.ranks, parts)
        for _ in range(PASSES):
            yield self.aside(lambda: found.update(run=crew.run(one_pass, kind, blocks, steps, parts)[0]))
            seconds, events = found["run"]
            result.seconds.append(seconds)
            result.runs.append(events)
            self.draw()
            self.say(result.sentence())
            if result.ranks > 1:
                yield self.aside(lambda: found.update(alone=crew.run(alone, kind, blocks, steps)[0]))
                result.alone.append(found["alone"])
        self.draw()
        self.say(result.sentence())

    def close(self) -> None:
        """Ends the processes; the next Start begins new ones."""
        if self.crew is not None:
            self.crew.end()
            self.crew = None

    # -- the figure ----------------------------------------------------------------------------------------------

    @staticmethod
    def _figure() -> go.Figure:
        grid = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12, subplot_titles=TITLES)
        gantt.add(grid, 1, 1)
        gantt.add(grid, 2, 1)
        made = plots.styled(grid, height=470, barmode="overlay", bargap=0)
        made.update_annotations(font_size=14)
        made.update_yaxes(title="process", autorange="reversed", dtick=1)
        return made.update_layout(xaxis2={"title": "milliseconds"})

    def names(self) -> list[str]:
        return [] if self.result.plan is None else [cost.layer for cost in self.result.plan.costs]

    def planned(self) -> list[Event]:
        return [] if self.result.plan is None else self.result.plan.events()

    @plots.at_once
    def draw(self) -> None:
        for first, events in ((0, self.result.events), (len(gantt.KINDS), self.planned() if self.result.runs else [])):
            gantt.put(self.figure, first, events, self.names())

    def picture(self) -> bytes:
        drawing = plots.static_figure(10, 4.4)
        both = drawing.subplots(2, 1, sharex=True)
        for axes, events, title in zip(both, (self.result.events, self.planned()), TITLES, strict=True):
            gantt.draw(axes, events, self.names())
            axes.set_title(title, fontsize=10)
            axes.set(ylabel="process")
        axes.set(xlabel="milliseconds", xlim=(0, None))
        return plots.png(drawing)
