"""Speed curves: the same two layers step by step, layer by layer and fused, while T, N or the dtype grows."""

from __future__ import annotations

import asyncio
import functools
import html
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
import torch

from tfexplore.backends import choose
from tfexplore.explore import plots
from tfexplore.explore.curves import SWEEPS, UNITS, Line, Result, lines, remarks, shown
from tfexplore.explore.explorer import Runner, choice, slider, worker
from tfexplore.measure import clock
from tfexplore.measure.beside import Beside
from tfexplore.measure.contestants import (
    COMPILED,
    DTYPES,
    FUSED,
    LAYERED,
    PASSES,
    STEPPED,
    WAYS,
    check,
    contestants,
    why_not_compiled,
)

STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NEURONS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
LARGEST = {
    "cpu": 4_000_000,
    "cuda": 64_000_000,
}  # time steps times neurons: the eager ways keep some 20 tensors of T x N
ROUNDS, ENOUGH = 5, 0.8  # at every point; after so many seconds no new round begins
MOST_COMPILED = 64  # time steps: the compiler unrolls the loop, and its time grows with them
UNLESS = "; for the curves unless it grows to the right, and for torch.compile"
LOOKS = {
    STEPPED: (0, "solid", "circle"),
    LAYERED: (1, "dot", "square"),
    FUSED: (2, "solid", "diamond"),
    COMPILED: (3, "dash", "star"),
}
"""Colour, dash and sign of a contestant."""
MARKS, STYLES = {"circle": "o", "square": "s", "diamond": "D", "star": "*"}, {"solid": "-", "dot": ":", "dash": "--"}


class Speed(Runner):
    """Curves of time over T, N or dtype, growing while they are measured; recorded ones beside them, labelled.

    controls: sweep, steps (T), neurons (N), dtype, passes, unit, start, stop, compile;   result: `Result`.
    largest: the last T or N of the curves.
    `compile` measures one point with torch.compile, at the chosen T, N and dtype, in a process of its own.

    >>> import asyncio
    >>> speed = Speed(steps=2, neurons=100, largest=4)
    >>> [len(seconds) for seconds in asyncio.run(speed.run()).seconds.values()]       # T = 1, 2, 4
    [3, 3, 3]
    """

    caption = (
        "Median time of two layers of LIF neurons, three ways, on logarithmic axes; lower is faster. Stars and dashed lines: "
        "torch.compile. Thin lines with open signs were recorded earlier, on the machine named below."
    )

    def __init__(
        self,
        sweep: str = "T",
        *,
        steps: int = 16,
        neurons: int = 10_000,
        dtype: str = "float32",
        passes: str = PASSES[0],
        largest: int | None = None,
        device: str | None = None,
    ) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.largest = largest  # of the swept T or N: no point beyond it
        for name, given, allowed in (
            ("sweep", sweep, tuple(SWEEPS.values())), ("dtype", dtype, tuple(DTYPES)), ("passes", passes, PASSES),
        ):  # fmt: skip
            if given not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, but got {given!r}.")
        if largest is not None and largest < (least := {"T": STEPS[0], "N": NEURONS[0]}.get(sweep, largest)):
            raise ValueError(f"largest must be at least {least}, the first {sweep} of the curve, but got {largest}.")
        self.recorded = shown(self.device)
        swept = next(label for label, axis in SWEEPS.items() if axis == sweep)
        units = list(UNITS)
        controls = {
            "sweep": choice("grows to the right", list(SWEEPS), swept, "what is on the horizontal axis"),
            "steps": slider("time steps T", steps, 1, max(256, steps), help=f"time steps in one pass{UNLESS}"),
            "neurons": slider(
                "neurons per layer N",
                neurons,
                100,
                max(100_000, neurons),
                step=100,
                help=f"in each of two layers{UNLESS}",
            ),
            "dtype": choice("dtype", list(DTYPES), dtype, f"the numbers of x and of the spikes{UNLESS}"),
            "passes": choice("passes", list(PASSES), passes, "training needs both, inference the way there only"),
            "unit": choice("vertical axis", units, units[0], "an element-step: one neuron at one time step"),
        }
        super().__init__(controls, go.Figure(), None)
        compile_ = widgets.Button(
            description="torch.compile (one point, about half a minute)", icon="cogs", layout={"width": "auto"},
            tooltip="Compile a plain loop for the chosen T, N and dtype, and measure it",
        )  # fmt: skip
        compile_.on_click(self.guarded(self.start_compiling))
        self.controls["compile"] = compile_
        self.notes = widgets.HTML()
        self._beside: Beside | None = None
        self._compiling = False  # what the next run does
        for name in ("sweep", "passes"):
            self.on(name, self.reset)
        for name, axis in (("steps", "T"), ("neurons", "N"), ("dtype", "dtype")):
            self.on(name, lambda axis=axis: self.moved(axis))  # type: ignore[misc]
        self.on("unit", self.draw)
        self.result = self.fresh()
        self.figure = self._figure(self.lines())
        self.reset()
        self.go_live()

    # -- what is measured ----------------------------------------------------------------------------------------

    def begin(self) -> Result:
        return self.result if self._compiling else self.fresh()  # torch.compile: a point more

    def fresh(self) -> Result:
        """No point measured yet, with the controls as they are."""
        names = ("sweep", "steps", "neurons", "dtype", "passes")
        sweep, steps, neurons, dtype, passes = (self.controls[name].value for name in names)
        axis, room, most = SWEEPS[sweep], LARGEST[torch.device(self.device).type], self.largest or 10**9
        values: dict[str, tuple[Any, ...]] = {
            "T": tuple(t for t in STEPS if t <= most and t * neurons <= room),
            "N": tuple(n for n in NEURONS if n <= most and n * steps <= room),
            "dtype": tuple(DTYPES),
        }
        machine, backend = clock.machine(self.device), choose("auto", self.device).name
        return Result(axis, values[axis], steps, neurons, dtype, passes, machine, backend)

    def moved(self, axis: str) -> None:
        """T, N or dtype moved: of no concern to the curves over it, only to torch.compile."""
        if axis != self.result.axis:
            self.reset()

    def reset(self) -> None:
        """The curves begin anew."""
        self.stop()  # what is under way was for the old numbers
        self.result = self.fresh()
        self.draw()
        self.say(self.result.sentence())

    def work(self, result: Result) -> Iterator[object]:
        return self.compile_one(result) if self._compiling else self.sweep(result)

    def sweep(self, result: Result) -> Iterator[object]:
        chosen = choose("auto", self.device)
        if chosen.name == "torch":
            self.say(f"No fused backend here, so the third curve is eager too: {chosen.reason}")
        else:
            self.say("Compiling the fused kernels: a few seconds the very first time, then they are kept.")
        for value in result.values:
            at = result.case(value)
            work = contestants(at["T"], at["N"], dtype=at["dtype"], passes=result.passes, device=self.device)
            yield self.aside(functools.partial(check, work, at["dtype"]))  # correct before fast
            turns = clock.rounds(work, ROUNDS, self.device)
            began, last = time.perf_counter(), dict[str, float]()
            for k in range(ROUNDS + 1):
                for _ in work:
                    yield self.aside(lambda: last.update(next(turns)))  # noqa: B023  (awaited within this turn)
                if k and time.perf_counter() - began > ENOUGH:
                    break
            for name in WAYS:
                result.seconds[name].append(last[name])
            self.draw()
            self.say(result.sentence())

    # -- torch.compile -------------------------------------------------------------------------------------------

    def start_compiling(self) -> None:
        """What the button torch.compile does."""
        self.launch(lambda _: self.compile())

    async def compile(self) -> Result:
        """Measures one point with torch.compile, at the chosen T, N and dtype; about half a minute."""
        self.may_run(resume=False, running=self.running)  # before the next line: a run under way would see it
        self._compiling = True
        try:
            result: Result = await self.run()
        finally:
            self._compiling = False
        if self._stopping and result is self.result:
            self.say(f"torch.compile was stopped. {result.sentence()}")
        return result

    async def run(self, resume: bool = False) -> Any:
        self.controls["compile"].disabled = True
        try:
            return await super().run(resume)
        finally:
            self.controls["compile"].disabled = self.running

    def stop(self) -> None:
        """Ends torch.compile's process as well, so it need not wait for the compiler."""
        self.abandon()
        if self._beside is not None:
            self._beside.end()

    def compile_one(self, result: Result) -> Iterator[object]:
        chosen = {
            "T": self.controls["steps"].value,
            "N": self.controls["neurons"].value,
            "dtype": self.controls["dtype"].value,
        }
        at = result.case(chosen[result.axis])
        if reason := why_not_compiled(self.device):
            self.say(reason, alarm=True)
            return
        if at["T"] > MOST_COMPILED:
            self.say(
                f"torch.compile unrolls the loop, which takes minutes for T = {at['T']}: choose T up to {MOST_COMPILED}."
            )
            return
        where = f"T = {at['T']}, N = {at['N']:,}, {at['dtype']}, {result.passes}"
        question = {
            "steps": at["T"],
            "neurons": at["N"],
            "dtype": at["dtype"],
            "passes": result.passes,
            "device": self.device,
        }
        began = time.perf_counter()
        with Beside("tfexplore.measure.contestants") as self._beside:
            answer = worker().submit(self._beside.ask, **question)
            while not answer.done():
                gone = time.perf_counter() - began
                self.say(f"torch.compile is compiling a loop for {where}: {gone:.0f} s so far; half a minute is usual.")
                yield asyncio.sleep(0.25)
            point = answer.result()
        value = at[result.axis]
        result.compiled[value] = point
        self.draw()
        taken = {name: point["seconds"][name]["median"] for name in (COMPILED, FUSED)}
        ratio = taken[COMPILED] / taken[FUSED]
        told = (
            f"takes {ratio:.1f} times as long as fused" if ratio >= 1 else f"is {1 / ratio:.1f} times as fast as fused"
        )
        self.say(
            f"torch.compile, after {point['first_call']:.0f} s of compiling, {told} ({where}; both measured in turn in one "
            f"process on {result.machine})."
        )

    # -- the figure ----------------------------------------------------------------------------------------------

    def lines(self) -> list[Line]:
        return lines(self.result, self.controls["unit"].value, self.recorded)

    def _figure(self, found: list[Line]) -> go.Figure:
        figure = plots.styled(go.Figure(), height=420, legend={"orientation": "h", "y": -0.2})
        for line in found:
            (colour, dash, symbol), live = LOOKS[line.contestant], line.record is None
            figure.add_scatter(
                x=[], y=[], name=line.label, line={"color": plots.colour(colour), "dash": dash, "width": 2.5 if live else 1.2},
                marker={"symbol": symbol if live else f"{symbol}-open", "size": 14 if symbol == "star" and live else 9},
                hovertemplate="%{x}: %{y:.3g}",
            )  # fmt: skip
        figure.update_yaxes(type="log", exponentformat="none", dtick="D2")
        return figure

    def axis(self) -> dict[str, Any]:
        """The horizontal axis: what stands on it, and where."""
        title = next(label for label, axis in SWEEPS.items() if axis == self.result.axis)
        values, numbers = list(self.result.values), self.result.axis != "dtype"
        return {
            "title": f"{title}   ({self.result.fixed()})", "type": "log" if numbers else "category",
            "tickvals": values, "ticktext": [f"{value:,}" if numbers else value for value in values],
        }  # fmt: skip

    @plots.at_once
    def draw(self) -> None:
        found, mode = self.lines(), "markers" if self.result.axis == "dtype" else "lines+markers"
        for k, line in enumerate(found):
            self.figure.data[k].update(x=list(line.x), y=list(line.y), mode=mode)
        self.figure.update_xaxes(self.axis())
        self.figure.update_yaxes(title=self.controls["unit"].value)
        said = remarks(self.result, found, self.device)
        self.notes.value = "".join(f"<div>{html.escape(note)}</div>" for note in said)

    def layout(self) -> widgets.Widget:
        box = super().layout()
        *above, fit = box.children
        box.children = (*above, self.notes, fit)
        return box

    def picture(self) -> bytes:
        drawing = plots.static_figure(9, 4.2)
        axes = drawing.subplots()
        axis, names = self.axis(), list(self.result.values)
        numbers = axis["type"] == "log"
        for line in self.lines():
            if not line.x:
                continue
            (colour, dash, symbol), live = LOOKS[line.contestant], line.record is None
            axes.plot(
                line.x if numbers else [names.index(value) for value in line.x], line.y, MARKS[symbol], color=plots.rgb(colour),
                ls=STYLES[dash] if numbers else "", lw=2 if live else 1, mfc=None if live else "white",
                ms=12 if symbol == "star" and live else 6, label=line.label,
            )  # fmt: skip
        axes.set(
            xlabel=axis["title"],
            ylabel=self.controls["unit"].value,
            yscale="log",
            xscale="log" if numbers else "linear",
        )
        axes.set_xticks(names if numbers else range(len(names)), axis["ticktext"])
        axes.xaxis.minorticks_off()
        axes.set_title(textwrap.fill(self.result.sentence(), 125), fontsize=8, loc="left")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
        else:
            axes.set_ylim(1, 100)
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)
