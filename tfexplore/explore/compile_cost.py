"""What compiling a kernel costs, and when it is paid: the first call ever, the first of a process, and all others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import plotly.graph_objects as go
import torch

from tfexplore import neurons
from tfexplore.backends import choose
from tfexplore.explore import plots
from tfexplore.explore.explorer import Runner, choice
from tfexplore.measure import clock, first_calls
from tfexplore.measure.beside import Beside

EVER, NEW_PROCESS, AGAIN, NUMBER, SIZE, DTYPE = CASES = (
    "first call ever", "first call in a new process", "the same call again", "another {number}", "another T and N",
    "another dtype (float64)",
)  # fmt: skip
QUESTIONS: dict[str, dict[str, Any]] = {
    EVER: {},
    AGAIN: {"count": 9},
    NUMBER: {"case": "number"},
    SIZE: {"case": "size"},
    DTYPE: {"dtype": "float64"},
    NEW_PROCESS: {},
}
"""In the order in which they are asked: the last one of a process that was not asked before."""


@dataclass
class Result:
    """Seconds of a forward and backward pass by case, and how many kernels were compiled for it."""

    neuron: str
    number: str
    machine: str
    backend: str
    seconds: dict[str, float] = field(default_factory=dict)
    compiled: dict[str, int] = field(default_factory=dict)

    def name(self, case: str) -> str:
        return case.format(number={"tau": "τ"}.get(self.number, self.number))

    def told(self, case: str) -> str:
        if case not in self.seconds:
            return ""
        count = self.compiled[case]
        kernels = "nothing compiled" if not count else f"{count} kernels compiled"
        return f"{1e3 * self.seconds[case]:,.{0 if self.seconds[case] > 0.1 else 1}f} ms, {kernels}"

    def more(self) -> str:
        return "nothing" if self.compiled[NUMBER] == self.compiled[SIZE] == 0 else "something: please report it"

    def sentence(self) -> str:
        if len(self.seconds) < len(CASES):
            return f"{len(self.seconds)} of {len(CASES)} cases measured." if self.seconds else "Press Start."
        first, process, again = (self.seconds[case] for case in (EVER, NEW_PROCESS, AGAIN))
        return (
            f"The first call ever of {self.neuron} took {first:.1f} s, the first in a new process {process:.2f} s, any other "
            f"{1e3 * again:.1f} ms. Another {self.name('{number}')}, T or N compiled {self.more()} ({self.machine}; backend "
            f"{self.backend})."
        )


class CompileCost(Runner):
    """Bars of what a forward and backward pass costs the first time, in a new process, and afterwards.

    Measured in two processes of their own, with an empty cache that is thrown away: yours stays as it is.
    controls: neuron (one of the library), start, stop;   result: `Result`.
    """

    caption = (
        "Time of one forward and backward pass of a small layer, on a logarithmic axis, and how many kernels were compiled for "
        "it. Compiling is paid once for each neuron and dtype; then the kernels are kept on disk."
    )

    def __init__(self, neuron: str = "LIF", device: str | None = None) -> None:
        known = [cls.__name__ for cls in neurons.ALL]
        if neuron not in known:
            raise ValueError(f"neuron must be one of {', '.join(known)}, but got {neuron!r}.")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._processes: list[Beside] = []
        figure = plots.styled(go.Figure(), height=320, showlegend=False, margin={"l": 190, "r": 40, "t": 20, "b": 50})
        figure.add_bar(
            x=[None] * len(CASES), y=list(CASES), orientation="h", textposition="outside", cliponaxis=False,
            marker={"color": plots.colour(1), "pattern": {"shape": [""] * len(CASES)}},
            hovertemplate="%{y}: %{text}<extra></extra>",
        )  # fmt: skip
        figure.update_xaxes(type="log", title="milliseconds", range=[-1.5, 5.5], dtick=1, exponentformat="none")
        figure.update_yaxes(autorange="reversed")
        controls = {"neuron": choice("neuron", known, neuron, "whose kernels are compiled anew")}
        super().__init__(controls, figure, None)
        self.on("neuron", self.reset)
        self.reset()
        self.go_live()

    def begin(self) -> Result:
        name = self.controls["neuron"].value
        number, _ = first_calls.changed(next(cls for cls in neurons.ALL if cls.__name__ == name)())
        return Result(name, number, clock.machine(self.device), choose("auto", self.device).name)

    def reset(self) -> None:
        self.stop()
        self.result = self.begin()
        self.draw()
        self.say(
            f"What does it cost to use {self.result.neuron} for the first time? Press Start: its kernels are compiled into an "
            "empty cache, which takes some seconds."
        )

    def stop(self) -> None:
        """Ends the two processes as well, so it need not wait for a compiler."""
        self.abandon()
        for process in self._processes:
            process.end()

    async def run(self, resume: bool = False) -> Any:
        result = await super().run(resume)
        if self._stopping and result is self.result:
            self.say(f"Stopped. {result.sentence()}")
        return result

    def work(self, result: Result) -> Iterator[object]:
        if result.backend == "torch":
            self.say(f"Nothing is compiled here: {choose('auto', self.device).reason}", alarm=True)
            return
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tfexplore-", ignore_cleanup_errors=True))
            env = {"TFEXPLORE_CACHE": folder, "CUPY_CACHE_DIR": os.path.join(folder, "cupy")}
            # both at once: the second one imports while the first compiles
            first, second = self._processes = [
                stack.enter_context(Beside("tfexplore.measure.first_calls", env)) for _ in range(2)
            ]
            self.say("Starting two processes with an empty cache.")
            for process in self._processes:
                yield self.aside(partial(self.ask, process, {}, case="nothing"))
            for case, question in QUESTIONS.items():
                self.say(f"Measuring: {result.name(case)}.")
                answer: dict[str, Any] = {}
                yield self.aside(partial(self.ask, second if case == NEW_PROCESS else first, answer, **question))
                result.seconds[case], result.compiled[case] = answer["seconds"], answer["compiled"]
                self.draw()
            self.say(result.sentence())

    def ask(self, process: Beside, answer: dict[str, Any], **question: Any) -> None:
        """Fills `answer`, unless Stop ended the process meanwhile."""
        try:
            answer.update(process.ask(neuron=self.result.neuron, device=self.device, **question))
        except RuntimeError:
            if not self._stopping:
                raise

    # -- the figure ----------------------------------------------------------------------------------------------

    def bars(self) -> tuple[list[str], list[float | None], list[str], list[bool]]:
        """Names, milliseconds, words, and whether something was compiled."""
        result = self.result
        values = [1e3 * result.seconds[case] if case in result.seconds else None for case in CASES]
        compiled = [result.compiled.get(case, 0) > 0 for case in CASES]
        return [result.name(case) for case in CASES], values, [result.told(case) for case in CASES], compiled

    @plots.at_once
    def draw(self) -> None:
        names, values, words, compiled = self.bars()
        look = {
            "color": [plots.colour(1 if is_new else 0) for is_new in compiled],
            "pattern": {"shape": ["/" if is_new else "" for is_new in compiled]},
        }
        self.figure.data[0].update(x=values, y=names, text=words, marker=look)

    def picture(self) -> bytes:
        drawing = plots.static_figure(9, 2.8)
        axes = drawing.subplots()
        names, values, words, compiled = self.bars()
        bars = axes.barh(
            names,
            [value or 10**-1.5 for value in values],
            color=[plots.rgb(1 if is_new else 0) for is_new in compiled],
            hatch=["//" if is_new else "" for is_new in compiled],
            edgecolor="white",
        )
        axes.set(xscale="log", xlim=(10**-1.5, 10**5.5), xlabel="milliseconds")
        axes.bar_label(bars, words, padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.set_title(self.result.sentence(), fontsize=8, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        return plots.png(drawing)
