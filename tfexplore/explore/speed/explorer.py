"""The speed explorer: controls for what grows, the measurement of every point, and torch.compile on request."""

from __future__ import annotations

import asyncio
import functools
import html
import statistics
import time
from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets
import torch

from tfexplore.backends import choose
from tfexplore.explore.base.controls import Choice, Slider, button, moved
from tfexplore.explore.base.explorer import worker
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.speed import figure
from tfexplore.explore.speed.curves import SWEEPS, UNITS, Series, SpeedCurves, remarks, series, shown
from tfexplore.measure import clock
from tfexplore.measure.contestants import (
    COMPILED,
    DTYPES,
    FUSED,
    PASSES,
    WAYS,
    check,
    contestants,
    why_not_compiled,
)
from tfexplore.measure.server_process import ServerProcess

STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NEURONS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
LARGEST = {"cpu": 4_000_000, "cuda": 64_000_000}
"""Time steps times neurons, by kind of device: the eager ways keep some 20 tensors of T x N."""
ROUNDS, ENOUGH = 5, 0.8  # at every point; after so many seconds no new round begins
MOST_COMPILED = 64  # time steps: the compiler unrolls the loop, and its time grows with them
UNLESS = "; for the curves unless it grows to the right, and for torch.compile"


class Speed(Runner):
    """Curves of time over T, N or dtype: two layers of LIF neurons step by step, layer by layer and fused.

    At every point all ways must give the same spikes before they are timed, and then take turns. Where measurements were
    recorded, they are shown as well, labelled with their machine and date. The button `compile` adds one point of
    `torch.compile`, at the chosen T, N and dtype, measured in a subprocess; in Python: `await speed.compile()`.

    Args:
        sweep: what grows to the right: "T", "N" or "dtype".
        steps: time steps `T`, unless they grow.
        neurons: `N` in each of the two layers, unless they grow.
        dtype: "float32", "float64", "float16" or "bfloat16", unless it is swept.
        passes: "forward + backward" or "forward".
        largest: the last T or N of the curves; by default as far as memory suffices.
        device: "cpu" or "cuda"; by default the GPU, if there is one.

    Controls: sweep, steps, neurons, dtype, passes, unit, start, stop, compile.

    Result: `tfexplore.explore.speed.curves.SpeedCurves`, with the median `seconds` by way, one for each of `values`.

    Raises:
        ValueError: if sweep, dtype or passes is none of those allowed, or largest is below the first point.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> speed = explore.speed(steps=2, neurons=100, largest=4)
        >>> [len(seconds) for seconds in asyncio.run(speed.run()).seconds.values()]       # T = 1, 2, 4
        [3, 3, 3]
    """

    caption = (
        "Median time of two layers of LIF neurons, three ways, on logarithmic axes; lower is faster. Stars and dashed lines: "
        "torch.compile. Thin lines with open signs were recorded earlier, on the machine named below."
    )

    sweep = Choice("grows to the right", SWEEPS, help="what is on the horizontal axis")
    steps = Slider("time steps T", 1, 256, help=f"time steps in one pass{UNLESS}")
    neurons = Slider("neurons per layer N", 100, 100_000, step=100, help=f"in each of two layers{UNLESS}")
    dtype = Choice("dtype", list(DTYPES), help=f"of x and of the spikes{UNLESS}")
    passes = Choice("passes", PASSES, help="training needs both, inference the forward pass only")
    unit = Choice("vertical axis", list(UNITS), help="an element-step: one neuron at one time step")

    def __init__(
        self, sweep: str = "T", *, steps: int = 16, neurons: int = 10_000, dtype: str = "float32",
        passes: str = PASSES[0], largest: int | None = None, device: str | None = None,
    ) -> None:  # fmt: skip
        if largest is not None and largest < (least := {"T": STEPS[0], "N": NEURONS[0]}.get(sweep, largest)):
            raise ValueError(f"largest must be at least {least}, the first {sweep} of the curve, but got {largest}.")
        self.device = clock.or_gpu(device)
        self.largest = largest  # of the swept T or N: no point beyond it
        self.recorded, self.notes = shown(self.device), widgets.HTML()
        self._compiler: ServerProcess | None = None
        super().__init__(sweep=sweep, steps=steps, neurons=neurons, dtype=dtype, passes=passes)

    # -- what the controls do --------------------------------------------------------------------------------------

    def look(self) -> SpeedCurves:
        """No point measured yet, with the controls as they are."""
        room, most = LARGEST[torch.device(self.device).type], self.largest or 10**9
        values: dict[str, tuple[Any, ...]] = {
            "T": tuple(t for t in STEPS if t <= most and t * self.neurons <= room),
            "N": tuple(n for n in NEURONS if n <= most and n * self.steps <= room),
            "dtype": tuple(DTYPES),
        }
        machine, backend = clock.machine(self.device), choose("auto", self.device).name
        return SpeedCurves(
            self.sweep, values[self.sweep], self.steps, self.neurons, self.dtype, self.passes, machine, backend
        )

    @moved("steps", "neurons", "dtype")
    def change(self) -> None:
        """T, N or dtype: what grows to the right changes nothing of the curves, only the point of torch.compile."""
        if self.look().fixed() != self.result.fixed():
            self.update()

    def stop(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Ends torch.compile's process as well, so it need not wait for the compiler."""
        super().abandon()
        if self._compiler is not None:
            self._compiler.end()

    # -- the curves ------------------------------------------------------------------------------------------------

    def work(self, result: SpeedCurves) -> Iterator[object]:
        self.say_compiling(self.device)
        for value in result.values:
            at = result.case(value)
            work = contestants(at["T"], at["N"], dtype=at["dtype"], passes=result.passes, device=self.device)
            yield self.in_background(functools.partial(check, work, at["dtype"]))  # correct before fast
            taken: dict[str, list[float]] = {}
            yield from self.in_turn(work, ROUNDS, ENOUGH, self.device, taken)
            for name in WAYS:
                result.seconds[name].append(statistics.median(taken[name]))
            self.draw()
            self.say(result.sentence())

    async def run(self, resume: bool = False) -> Any:
        self.controls["compile"].disabled = True
        try:
            return await super().run(resume)
        finally:
            self.controls["compile"].disabled = self.running

    # -- torch.compile ---------------------------------------------------------------------------------------------

    def built(self, controls: Any) -> dict[str, Any]:
        made = super().built(controls)
        return made | {"compile": made.pop("start_compiling")}

    @button(
        "torch.compile (one point, about half a minute)", icon="cogs", wide=True,
        help="Compile a plain loop for the chosen T, N and dtype, and measure it",
    )  # fmt: skip
    def start_compiling(self) -> None:
        """Runs `compile` in the kernel's event loop."""
        self.launch(lambda _: self.compile())

    async def compile(self) -> SpeedCurves:
        """Measures one point with torch.compile, at the chosen T, N and dtype, and adds it to the curves; half a minute."""
        self.may_run(resume=False, running=self.running)
        self._rest = self.compile_one(self.result)  # run as if it had been stopped: the result goes on
        result: SpeedCurves = await self.run(resume=True)
        if self._stopping and result is self.result:
            self.say(f"torch.compile was stopped. {result.sentence()}")
        return result

    def compile_one(self, result: SpeedCurves) -> Iterator[object]:
        value = {"T": self.steps, "N": self.neurons, "dtype": self.dtype}[result.axis]
        at = result.case(value)
        steps, neurons, dtype = at["T"], at["N"], at["dtype"]
        if reason := why_not_compiled(self.device):
            self.say(reason, alarm=True)
            return
        if steps > MOST_COMPILED:
            self.say(
                f"torch.compile unrolls the loop, which takes minutes for T = {steps}: choose T up to {MOST_COMPILED}."
            )
            return
        where = f"T = {steps}, N = {neurons:,}, {dtype}, {result.passes}"
        request = {
            "steps": steps, "neurons": neurons, "dtype": dtype, "passes": result.passes, "device": self.device,
        }  # fmt: skip
        began = time.perf_counter()
        with ServerProcess("tfexplore.measure.contestants") as self._compiler:
            answer = worker().submit(self._compiler.request, **request)
            while not answer.done():
                gone = time.perf_counter() - began
                self.say(f"torch.compile is compiling a loop for {where}: {gone:.0f} s so far; half a minute is usual.")
                yield asyncio.sleep(0.25)
            point = result.compiled[value] = answer.result()
        self.draw()
        ratio = point["seconds"][COMPILED]["median"] / point["seconds"][FUSED]["median"]
        compared = f"takes {ratio:.1f} times as long" if ratio >= 1 else f"is {1 / ratio:.1f} times as fast"
        self.say(
            f"torch.compile, after {point['first_call']:.0f} s of compiling, {compared} as fused ({where}; both measured in "
            f"turn in one process on {result.machine})."
        )

    # -- what is shown ---------------------------------------------------------------------------------------------

    def series(self) -> list[Series]:
        return series(self.result, self.unit, self.recorded)

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.series(), self.unit)

    @moved("unit")
    def draw(self) -> None:
        super().draw()
        notes = remarks(self.result, self.series(), self.device)
        self.notes.value = "".join(f"<div>{html.escape(note)}</div>" for note in notes)

    def layout(self) -> widgets.Widget:
        made = super().layout()
        made.children += (self.notes,)
        return made
