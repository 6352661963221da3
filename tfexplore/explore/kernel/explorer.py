"""The kernel explorer: threads in lockstep through a real kernel's source, and the words of memory that they touch."""

from __future__ import annotations

import html

import ipywidgets as widgets
import plotly.graph_objects as go

from tfexplore.explore.base import style
from tfexplore.explore.base.controls import Choice, Play, Slider, moved
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.picture import picture
from tfexplore.explore.base.plotly_sheet import playing
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.kernel import figure
from tfexplore.explore.kernel.panels import loop_panel, register_table, traffic_table
from tfexplore.explore.kernel.stepping import KEEPS, KERNELS, Stepped, check, keeps, stepped
from tfexplore.neurons.library import BY_NAME as NEURONS
from tfexplore.neurons.neuron import Neuron

MOST_FRAMES = 120  # of the page that plays without a kernel


class Kernel(Explorer):
    """Threads that go through a fused kernel line by line, and what each line does to memory and to their registers.

    The source of the CPU's kernel is run for one neuron after the other, and the records are laid side by side: thread i of
    a GPU does the same for its neuron i. The words that are counted stand beside those that follow from the equations.

    Args:
        neuron: the name of a neuron of the library, or a value of your own such as `neurons.LIF(tau=3.0)`.
        kernel: "forward" or "backward".
        keep: what is saved for backward: "potential", "input" (chunked checkpointing: x, and the state at the start of every
            chunk), or for the forward kernel "nothing".
        threads: one per neuron, from 1 to 64.
        steps: time steps `T`, from 1 to 64.
        micro_step: how many lines have run at first; by default as many as reach the third read of the input.

    Controls: kernel, keep, neuron, threads, steps, micro_step, play.

    Result: `tfexplore.explore.kernel.stepping.Stepped`, with the touched words and the registers at every moment.

    Raises:
        TypeError: if threads or steps is no whole number.
        ValueError: if an argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> explorer = explore.kernel("LIF", threads=4, steps=3)
        >>> explorer.controls["micro_step"].value = 4
        >>> explorer.result.words("x", "read"), explorer.result.words("x", "read", moment=3)
        (12, 4)
    """

    caption = (
        "The arrays in memory, a row per time step and a column per thread: R (blue) is being read and W (red) written; "
        "grey words were touched before, pale ones not yet."
    )

    kernel = Choice("kernel", KERNELS, help="the forward or the backward pass")
    keep = Choice("keep for backward", KEEPS, help="what the forward kernel saves for the backward pass")
    neuron = Choice("neuron", (), help="the neuron with the equations that the kernel runs")
    threads = Slider("threads (neurons)", 1, 16, help="one thread per neuron")
    steps = Slider("time steps T", 1, 40, help="time steps of the whole loop")
    micro_step = Slider("micro-step", 0, 1, help="one line of the kernel, in all threads at once", live=True)
    play = Play("play the micro-steps", of="micro_step", interval=600, help="play the kernel, micro-step by micro-step")

    def __init__(
        self, neuron: Neuron | str = "LIF", kernel: str = "forward", keep: str = "input", threads: int = 8, steps: int = 6,
        micro_step: int | None = None,
    ) -> None:  # fmt: skip
        self.neurons: dict[str, Neuron] = {name: kind() for name, kind in NEURONS.items()}
        name = type(neuron).__name__ if isinstance(neuron, Neuron) else neuron
        if isinstance(neuron, Neuron):
            self.neurons[name] = neuron
        elif neuron not in self.neurons:
            raise ValueError(
                f"neuron must be one of {', '.join(self.neurons)}, or one of your own like LIF(tau=3.0), but got {neuron!r}."
            )
        check(self.neurons[name], kernel, keep, threads, steps)
        self.source, self.registers, self.traffic = (widgets.HTML() for _ in range(3))
        self._first = micro_step
        kind = type(self)
        super().__init__(
            kernel=kernel, keep=kind.keep.at(keep, options=keeps(kernel)),
            neuron=kind.neuron.at(name, options=list(self.neurons)), threads=threads, steps=steps,
        )  # fmt: skip

    def begin(self) -> None:
        super().begin()
        if self._first is not None:
            self.micro_step = self._first

    @property
    def moment(self) -> int:
        """The moment that is shown, from 0; -1 before the first."""
        return int(self.micro_step) - 1

    # -- what the controls do --------------------------------------------------------------------------------------

    def look(self) -> Stepped:
        return stepped(self.neurons[self.neuron], self.kernel, self.keep, self.threads, self.steps)

    @moved("kernel")
    def switch(self) -> None:
        """The backward pass needs something saved, so it has no `keep="nothing"`."""
        keep, allowed = self.keep, keeps(self.kernel)
        with self.quietly():
            self.controls["keep"].options = allowed
            self.keep = keep if keep in allowed else "potential"
        self.update()

    def update(self) -> None:
        """Another kernel, or other numbers: it is run anew, and shown at a first moment."""
        self.result = self.look()
        micro = self.controls["micro_step"]
        with self.quietly(), micro.hold_sync():
            micro.max = len(self.result.lines)
            micro.value = self.result.opening() + 1
        self.move()

    @moved("micro_step")
    def move(self) -> None:
        """Another moment."""
        self.draw()
        for panel, made in ((self.source, loop_panel), (self.registers, register_table), (self.traffic, traffic_table)):
            panel.value = made(self.result, self.moment)
        self.say(self.sentence())

    # -- what is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.moment)

    def sentence(self) -> str:
        return str(self.result.sentence(self.moment))

    def layout(self) -> widgets.Widget:
        """The player above the figure; below it the source, and the tables beside it."""
        row, message, drawn, caption = super().layout().children
        play, micro = self.controls["play"], self.controls["micro_step"]
        row.children = [control for control in row.children if control not in (play, micro)]
        micro.layout = widgets.Layout(flex="1 1 350px", max_width="800px")
        player = widgets.HBox([play, micro], layout=widgets.Layout(flex_flow="row wrap"))
        wide = widgets.Layout(flex="1 1 430px", min_width="0")
        self.source.layout = wide
        side = widgets.VBox([self.registers, self.traffic], layout=wide)
        panels = widgets.HBox([self.source, side], layout=widgets.Layout(flex_flow="row wrap", grid_gap="6px 12px"))
        return widgets.VBox([row, player, message, drawn, caption, panels])

    def picture(self) -> bytes:
        return style.png(picture(self.sheet(), f"{self._said} Line {self.result.code(self.moment)}"))

    def page(self) -> go.Figure:
        """A figure that plays by itself: a frame per micro-step, with the sentence and the line of the kernel above it."""
        run = self.result
        if len(run.lines) > MOST_FRAMES:
            return self.figure
        moments = range(-1, len(run.lines))
        sheets = {str(moment + 1): figure.sheet(run, moment) for moment in moments}
        made = playing(sheets, str(self.micro_step), "micro-step", interval=600)
        for moment, frame in zip(moments, made.frames, strict=True):
            words, line = html.escape(run.sentence(moment)), html.escape(run.code(moment))
            text = f"{words}<br><span style='font-family:monospace'>{line}</span>"
            frame.layout = {"title": {"text": text, "font": {"size": 13}, "x": 0.01, "y": 0.97, "yanchor": "top"}}
        room = 60  # for these words
        made.update_layout(
            made.frames[self.micro_step].layout, height=made.layout.height + room, margin_t=made.layout.margin.t + room
        )
        return made
