"""Time splitting, planned: the wavefront of P devices, and how many of them pay, beside data parallelism."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tfexplore.explore import gantt, plots
from tfexplore.explore.explorer import NARROW, WIDTH, Explorer, choice, slider
from tfexplore.measure import results
from tfexplore.timesplit.plan import Cost, Link, Plan, Sweep, best, plan, rule, sweep

STEPS = tuple(2**k for k in range(3, 15))
BANDWIDTHS = (1e7, 1e8, 1e9, 3e9, 1e10, 3e10, 1e11, 4.5e11)
LATENCIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
MEASURED_BATCH = 64
NONE, BATCH_NORM = "none", "BatchNorm, a barrier"
CURVES = len(gantt.KINDS)  # the first trace that is not the Gantt chart's


def recorded() -> tuple[list[Cost], str]:
    """One block (linear, LIF) of 256 neurons as it was measured, for a batch of 64, and on which machine."""
    for record in results.records(benchmark="split"):
        for row in record.rows:
            if (row["network"], row["B"], row["ranks"]) == ("mlp", MEASURED_BATCH, 2) and "costs" in row:
                linear, lif = (Cost(**cost) for cost in row["costs"][2:4])
                return [replace(linear, layer="linear"), replace(lif, layer="lif")], record.machine
    raise FileNotFoundError("no measured costs of layers are recorded; run `tfexplore bench split`, or give costs=.")


def blocks(costs: list[Cost], layers: int, batch: int, measured_batch: int, barrier: bool = False) -> list[Cost]:
    """So many blocks, of another batch: what grows with the batch, and what does not. With a barrier before each state."""
    scale = batch / measured_batch
    found = []
    for k in range(1, layers + 1):
        for cost in costs:
            grown = {name: scale * getattr(cost, name) for name in ("forward", "backward", "state", "kept")}
            found.append(replace(cost, layer=f"{cost.layer}{k}", **grown, barrier=barrier and not cost.state))
    return found


@dataclass(frozen=True)
class Result:
    """The plan of the chosen devices, and predicted seconds for other numbers of them."""

    plan: Plan
    machine: str

    @cached_property
    def sweep(self) -> Sweep:
        p = self.plan
        return sweep(p.costs, p.steps, p.batch, p.link, micro_batches=p.micro_batches)

    @cached_property
    def fastest(self) -> Plan:
        """Split in time, on as many devices as are fastest."""
        p = self.plan
        ranks = best(p.costs, p.steps, p.batch, p.link, p.micro_batches)
        return plan(p.costs, p.steps, p.batch, p.link, ranks, p.micro_batches)

    @property
    def best(self) -> int:
        return self.fastest.ranks

    def speedup(self, seconds: float) -> float:
        return self.one.seconds / seconds

    @cached_property
    def one(self) -> Plan:
        """The whole on one device."""
        p = self.plan
        return plan(p.costs, p.steps, p.batch, p.link)

    @property
    def rule(self) -> float:
        """sqrt(T_s / T_c): one device's seconds, and what every further one adds: a message each way, its rounds of the two
        sums, and once more the calls of a layer whose state it waits for."""
        p = self.plan
        stateful = [cost for cost in p.costs if cost.state]
        message = max(p.link.message(cost.state / p.micro_batches) for cost in stateful)
        calls = max(cost.forward_call + cost.backward_call for cost in stateful)
        return rule(self.one.seconds, 2 * message + 4 * p.link.latency + calls)

    @cached_property
    def data_parallel(self) -> Plan | None:
        """The same devices, each with a part of the batch; None where there are fewer samples than devices."""
        p = self.plan
        return plan(p.costs, p.steps, p.batch, p.link, replicas=p.ranks) if p.ranks <= p.batch else None

    def sentence(self) -> str:
        p, several = self.plan, "s" * (self.plan.ranks > 1)
        took = f"{1e3 * p.seconds:.3g} ms a training step, {times(self.speedup(p.seconds))} as one"
        told = [
            f"{p.ranks} device{several}: {took}; each waits {p.bubble:.0%} of the time and needs {size(p.memory().max())}."
        ]
        other = self.data_parallel
        if p.ranks > 1 and other is None:
            told.append(f"Data parallelism cannot use them: a batch of {p.batch} for {p.ranks} devices.")
        elif other is not None and p.ranks > 1:
            told.append(f"Data parallel: {times(self.speedup(other.seconds))}, {size(other.memory().max())} each.")
        if p.ranks > 1:
            both = sweep(p.costs, p.steps, p.batch, p.link, [p.ranks], p.micro_batches)
            parts, faster = int(both.replicas[0]), self.speedup(float(both.combined[0]))
            how = f"{parts} part{'s' * (parts > 1)} of the batch × {p.ranks // parts} of time"
            told.append(f"Both together: {times(faster)} ({how}).")
        fastest = times(self.speedup(self.fastest.seconds))
        barrier = any(cost.barrier for cost in p.costs)
        rule_says = "" if barrier else f"; the rule √(T_s/T_c) says {self.rule:.0f}"
        told.append(f"Time splitting is fastest with {self.best} ({fastest}){rule_says}.")
        told.append(f"Costs of layers: measured on {self.machine}.")
        return " ".join(told)


def times(factor: float) -> str:
    return f"{factor:.3g} times as fast"


def size(nbytes: float) -> str:
    """Bytes for people.

    >>> size(3 * 2**20)
    '3 MiB'
    """
    unit = min(3, int(math.log2(max(nbytes, 1)) // 10))
    return f"{nbytes / 2 ** (10 * unit):.3g} {('B', 'KiB', 'MiB', 'GiB')[unit]}"


class SplitPlan(Explorer):
    """How long a training step takes when its T time steps are cut over P devices, and what the devices do when.

    costs:  of one block of layers, for a batch of `measured_batch`, as `timesplit.costs.costs` measures them; default: a linear
            layer and 256 LIF neurons as they were recorded. machine: where.

    controls: devices, steps (T), layers, batch, micro_batches, norm, bandwidth, latency;   result: `Result`.

    >>> made = SplitPlan(devices=4, steps=64)
    >>> made.result.plan.ranks, len(made.result.plan.pieces)
    (4, 4)
    """

    caption = (
        f"Left: what every device does when, in one planned training step, split in time. {gantt.LEGEND} Right: how many times "
        "as fast as one device, over the number of devices, on logarithmic axes."
    )

    def __init__(
        self, devices: int = 4, steps: int = 256, layers: int = 4, batch: int = 16, *, micro_batches: int = 1,
        norm: str = NONE, bandwidth: float = 1e10, latency: float = 1e-5,
        costs: list[Cost] | None = None, measured_batch: int = MEASURED_BATCH, machine: str = "this machine",
    ) -> None:  # fmt: skip
        self.costs, self.machine = recorded() if costs is None else (costs, machine)
        self.measured_batch = measured_batch
        controls = {
            "devices": slider("devices P", devices, 1, 64, live=True, help="each takes a piece of the time steps"),
            "steps": powers("time steps T", STEPS, steps, "{:,}".format),
            "layers": slider("blocks of layers", layers, 1, 24, live=True, help="a linear layer and its LIF neurons"),
            "batch": slider("batch", batch, 1, 64, live=True),
            "micro_batches": slider(
                "micro-batches", micro_batches, 1, 16, live=True, help="the batch is cut into so many"
            ),
            "norm": choice("normalisation", [NONE, BATCH_NORM], norm, "BatchNorm needs the mean over all time steps"),
            "bandwidth": powers("link, bytes per second", BANDWIDTHS, bandwidth, lambda b: f"{b / 1e9:g} GB/s"),
            "latency": powers("link, latency", LATENCIES, latency, lambda s: f"{1e6 * s:,.0f} µs"),
        }
        super().__init__(controls, self._figure(), None)
        for name in controls:
            self.on(name, self.update)
        self.update()
        self.go_live()

    def update(self) -> None:
        """A control moved."""
        value = {name: control.value for name, control in self.controls.items()}
        barrier, parts = value["norm"] == BATCH_NORM, self.controls["micro_batches"]
        with self.quietly():  # no more devices than steps, no more micro-batches than samples, and none with BatchNorm
            self.controls["devices"].max = min(64, value["steps"])
            parts.max, parts.disabled = max(2, min(16, value["batch"])), barrier or value["batch"] == 1
            if parts.disabled:
                parts.value = 1
        ranks = self.controls["devices"].value
        costs = blocks(self.costs, value["layers"], value["batch"], self.measured_batch, barrier)
        link = Link(value["latency"], value["bandwidth"])
        self.result = Result(plan(costs, value["steps"], value["batch"], link, ranks, parts.value), self.machine)
        self.draw()
        self.say(self.result.sentence())

    # -- the figure ----------------------------------------------------------------------------------------------

    @staticmethod
    def _figure() -> go.Figure:
        grid = make_subplots(rows=1, cols=2, column_widths=[0.62, 0.38], horizontal_spacing=0.09)
        gantt.add(grid, 1, 1)
        for name, k, dash in (
            ("time splitting", 0, "solid"),
            ("data parallel", 1, "dash"),
            ("both together", 2, "dot"),
        ):
            grid.add_scatter(
                x=[],
                y=[],
                mode="lines",
                name=name,
                line={"color": plots.colour(k), "dash": dash, "width": 2.5},
                row=1,
                col=2,
            )
        chosen = {"symbol": "circle", "size": 12, "color": plots.colour(0), "line": {"color": "black", "width": 1}}
        grid.add_scatter(x=[], y=[], mode="markers", name="chosen P, time split", marker=chosen, row=1, col=2)
        fastest = {"symbol": "star", "size": 15, "color": "#e0b000", "line": {"color": "black", "width": 1}}
        grid.add_scatter(x=[], y=[], mode="markers", name="fastest P, time split", marker=fastest, row=1, col=2)
        ideal = {"color": "#aaaaaa", "dash": "dot", "width": 1}
        grid.add_scatter(x=[1, 1024], y=[1, 1024], mode="lines", name="P times", line=ideal, row=1, col=2)
        legend = {
            "x": 0.66,
            "y": 0.99,
            "xanchor": "left",
            "yanchor": "top",
            "bgcolor": "rgba(255,255,255,0.75)",
            "font": {"size": 11},
        }
        made = plots.styled(grid, height=430, barmode="overlay", bargap=0, legend=legend)
        made.update_layout(
            xaxis={"title": "milliseconds"}, yaxis={"title": "device", "autorange": "reversed", "tickformat": "d"}
        )
        return made.update_layout(
            xaxis2={"title": "devices", "type": "log", "range": [-0.05, 3.05], "dtick": 1},
            yaxis2={"title": "times as fast as one", "type": "log", "range": [-0.7, 2.6], "dtick": 1},
        )

    def curves(self) -> list[tuple[list[float], list[float]]]:
        """Speed-ups over devices: time splitting, data parallelism, both; the chosen point and the fastest."""
        result, found = self.result, self.result.sweep
        devices = found.devices.tolist()
        made = [
            (devices, [None if np.isnan(s) else result.speedup(s) for s in seconds.tolist()])
            for seconds in (found.time_splitting, found.data_parallel, found.combined)
        ]
        return [*made, *(([p.ranks], [result.speedup(p.seconds)]) for p in (result.plan, result.fastest))]

    @plots.at_once
    def draw(self) -> None:
        events = self.result.plan.events()
        gantt.put(self.figure, 0, events, [cost.layer for cost in self.result.plan.costs])
        for k, (x, y) in enumerate(self.curves()):
            self.figure.data[CURVES + k].update(x=x, y=y)
        ranks = self.result.plan.ranks
        self.figure.update_layout(yaxis={"dtick": max(1, ranks // 8)})

    def picture(self) -> bytes:
        drawing = plots.static_figure(11, 4)
        left, right = drawing.subplots(1, 2, width_ratios=(0.62, 0.38))
        gantt.draw(left, self.result.plan.events(), [cost.layer for cost in self.result.plan.costs])
        left.set(xlabel="milliseconds", ylabel="device", xlim=(0, None))
        split, parallel, both, chosen, fastest = self.curves()
        looks: list[tuple[Any, str, str, int]] = [
            (split, "-", "time splitting", 0),
            (parallel, "--", "data parallel", 1),
            (both, ":", "both together", 2),
        ]
        for (x, y), style, name, k in looks:
            right.plot(x, [math.nan if v is None else v for v in y], style, color=plots.rgb(k), lw=2, label=name)
        right.plot(*chosen, "o", color=plots.rgb(0), mec="black", ms=8, label="chosen P, time split")
        right.plot(*fastest, "*", color="#e0b000", mec="black", ms=12, label="fastest P, time split")
        right.plot([1, 1024], [1, 1024], ":", color="#aaaaaa", lw=1, label="P times")
        right.set(
            xlabel="devices",
            ylabel="times as fast as one",
            xscale="log",
            yscale="log",
            xlim=(0.9, 1100),
            ylim=(0.2, 400),
        )
        right.legend(frameon=False, fontsize=8, loc="upper left")
        right.grid(alpha=0.25)
        right.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)


def powers(description: str, values: tuple[Any, ...], value: Any, told: Any) -> widgets.Widget:
    """A slider over numbers that grow by factors."""
    nearest = min(values, key=lambda v: abs(math.log(v / value)))
    if value not in values:
        raise ValueError(
            f"{description} must be one of {', '.join(map(told, values))}, but got {value!r}; {told(nearest)} is near."
        )
    return widgets.SelectionSlider(
        options=[(told(v), v) for v in values], value=value, description=description, tooltip=description, continuous_update=True,
        style=NARROW, layout=widgets.Layout(width=WIDTH),
    )  # fmt: skip
