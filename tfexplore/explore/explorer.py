"""What an explorer is: named controls, one live figure, a result, a sentence, and a static picture of the same arrays.

Setting a control in Python does exactly what moving it in the browser does, so explorers are tested without one. Long
work is a generator that yields often; `run` awaits between its pieces, so the Stop button is heard, also under Run All.
"""

from __future__ import annotations

import asyncio
import functools
import html
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

from tfexplore.explore import plots
from tfexplore.explore.base import statuses
from tfexplore.explore.base.sliders import FloatSlider, IntSlider
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step, step_of

OVER = object()
"""After the last piece of work."""
READY: set[tuple[type, Step]] = set()
"""Which kernels this process has at hand: for this kind of explorer, those of this step."""


@functools.cache
def worker() -> ThreadPoolExecutor:
    """The thread that works aside for all explorers. One: torch keeps a team of its own for each that computes."""
    return ThreadPoolExecutor(1, thread_name_prefix="tfexplore-explore")


def running() -> asyncio.AbstractEventLoop | None:
    """The event loop of a notebook; None in a plain script."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Explorer:
    """Base of the explorers. A subclass fills `controls`, `figure` and `result`, and draws its static twin in `picture`.

    controls: named ipywidgets;   figure: a plotly FigureWidget;   result: plain arrays and numbers.

    A subclass draws its first state into a plain figure and then calls `go_live`: what is drawn into a live figure before
    the browser has loaded it may never arrive there.
    """

    caption = ""  # one sentence under the figure: what it shows

    def __init__(self, controls: dict[str, widgets.Widget], figure: go.Figure, result: Any) -> None:
        self.controls, self.figure, self.result = controls, figure, result
        self.message = widgets.HTML()
        self.widget = widgets.VBox()
        self._said = ""
        self._handle: Any = None
        self._quiet = self._live = False
        # JupyterLab has what a slider says answered in another thread (a subshell) than the cell that awaits a run
        self.turn = threading.RLock()
        self._compiling_aside: asyncio.Future[None] | None = None

    def go_live(self) -> None:
        statuses.mend()
        self.figure = plots.live(self.figure)
        self.widget = self.layout()
        self.widget._view_count = 0  # asks ipywidgets to count the views that browsers show
        self._live = True

    def layout(self) -> widgets.Widget:
        buttons = [control for control in self.controls.values() if isinstance(control, widgets.Button)]
        others = [control for control in self.controls.values() if control not in buttons]
        row = widgets.HBox(
            [*others, widgets.HBox(buttons)], layout=widgets.Layout(flex_flow="row wrap", grid_gap="4px 16px")
        )
        caption = widgets.HTML(f"<i>{html.escape(self.caption)}</i>")
        return widgets.VBox([row, self.message, self.figure, caption])

    def describe(self) -> str:
        """What the picture shows, in words, for who cannot see it: the caption, and what the explorer said last."""
        return f"{self.caption} {self._said}".strip()

    def page(self) -> go.Figure:
        """The figure for a page without a kernel (`make book`); a subclass may add frames that play by themselves."""
        return self.figure

    def say(self, text: str, alarm: bool = False) -> None:
        """One sentence above the figure, read out by screen readers."""
        self._said = text
        role, style = ("alert", "color:#b00020;font-weight:600") if alarm else ("status", "font-size:110%")
        self.message.value = f'<div role="{role}" style="{style};line-height:1.4">{html.escape(text)}</div>'

    def on(self, control: str, change: Callable[[], None], name: str = "value") -> None:
        """Calls `change` when the control moves; an error is shown above the figure, and raised."""
        self.controls[control].observe(self.guarded(lambda: None if self._quiet else change()), names=name)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Within, controls move without calling what they were given by `on`: for several that move together."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def ready(self, neuron: Neuron, then: Callable[[], None]) -> bool:
        """Whether the neuron's kernels are at hand. If not, a live explorer compiles them aside, and calls `then` afterwards.

        Before it is live, and in plain Python, they are compiled at once.
        """
        key = type(self), step_of(neuron)
        if key in READY:
            return True
        loop = running() if self._live else None
        if loop is None:
            self.prepare(neuron)
            READY.add(key)
            return True

        def compiled() -> None:
            self._compiling_aside = None
            aside.result()  # raises what went wrong
            READY.add(key)
            then()

        if self._compiling_aside is None:  # one at a time: `then` looks at the controls as they are by then
            self.say("Compiling the kernels of this choice: a second or two the very first time, then they are kept.")
            aside = self._compiling_aside = loop.run_in_executor(worker(), self.prepare, neuron)
            aside.add_done_callback(self.guarded(compiled))
        return False

    async def warm(self, neurons: Iterable[Neuron]) -> None:
        """Compiles the kernels of these neurons aside, one after the other, so that choosing one need not wait."""
        for neuron in neurons:
            if (key := (type(self), step_of(neuron))) not in READY:
                await asyncio.get_running_loop().run_in_executor(worker(), self.prepare, neuron)
                READY.add(key)

    def prepare(self, neuron: Any) -> None:
        """Compiles the kernels with which the explorer shows this neuron, in any thread."""
        raise NotImplementedError

    def guarded(self, work: Callable[[], Any]) -> Callable[..., Any]:
        """What the browser asks for: in turn with a run under way, and an error is shown."""

        @functools.wraps(work)
        def call(*_: Any) -> Any:
            with self.turn:
                try:
                    return work()
                except Exception as error:
                    self.say(f"{type(error).__name__}: {error}", alarm=True)
                    raise

        return call

    def picture(self) -> bytes:
        """The figure as a PNG, drawn from `result` by matplotlib: for pages without a kernel."""
        raise NotImplementedError

    def show(self) -> None:
        """Displays the explorer; where no browser shows it live, its picture is brought up to date when a run ends."""
        from IPython.display import display

        self._handle = display(self, display_id=True)

    def refresh(self) -> None:
        # not under a live view: that would be replaced by a second one, to which plotly does not give all data
        if self._handle is not None and not self.widget._view_count:
            self._handle.update(self)

    def __repr__(self) -> str:
        shown = {key: c.value for key, c in self.controls.items() if not isinstance(c, widgets.Button)}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        view: dict[str, Any] = self.widget._repr_mimebundle_() or {}
        shown = view | {"text/plain": repr(self), "image/png": self.picture()}
        return shown, plots.about(self.page(), self.describe())


class Runner(Explorer):
    """An explorer with long work, and Start and Stop.

    `begin()` makes the result of one run, and `work(result)` fills it; it yields often: None, or an awaitable (`aside`).
    A `resumable` one has a Resume button too: a stopped run goes on where it stopped, unless a control made it `abandon` it.
    """

    resumable = False

    def __init__(self, controls: dict[str, widgets.Widget], figure: go.Figure, result: Any) -> None:
        start = widgets.Button(description="Start", icon="play", button_style="primary", tooltip="Start")
        stop = widgets.Button(
            description="Stop", icon="stop", disabled=True, tooltip="Stop after the piece of work at hand"
        )
        self.task: asyncio.Task[Any] | None = None
        self.running = False
        self._stopping = False
        self._rest: Iterator[Any] | None = None  # of the work, when it was stopped
        buttons = {"start": start, "stop": stop}
        if self.resumable:
            resume = widgets.Button(
                description="Resume", icon="forward", disabled=True, tooltip="Go on where it stopped"
            )
            resume.on_click(self.guarded(self.resume))
            buttons["resume"] = resume
        super().__init__(controls | buttons, figure, result)
        start.on_click(self.guarded(self.start))
        stop.on_click(self.guarded(self.stop))

    def begin(self) -> Any:
        raise NotImplementedError

    def work(self, result: Any) -> Iterator[Any]:
        raise NotImplementedError

    def draw(self) -> None:
        """Brings the live figure up to the result."""
        raise NotImplementedError

    def aside(self, work: Callable[[], Any]) -> Awaitable[Any]:
        """Work that may take long, in a thread: the page stays alive meanwhile."""
        return asyncio.get_running_loop().run_in_executor(worker(), work)

    def start(self, resume: bool = False) -> None:
        """What the Start button does: runs in the kernel's event loop, between the cells."""
        self.launch(self.run, resume)

    def launch(self, run: Callable[[bool], Coroutine[Any, Any, Any]], resume: bool = False) -> None:
        self.may_run(resume, self.running or (self.task is not None and not self.task.done()))
        self.task = asyncio.get_running_loop().create_task(run(resume))
        # an error was shown by run(); asking for it keeps asyncio from complaining that nobody did
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def stop(self) -> None:
        """What the Stop button does: the run ends after the piece of work at hand, and keeps what it has."""
        self._stopping = True

    def resume(self) -> None:
        """What the Resume button does: goes on with the run that was stopped."""
        self.start(resume=True)

    def abandon(self) -> None:
        """Stops a run that a control has made pointless; it cannot be resumed."""
        self._stopping, self._rest = True, None
        if self.resumable:
            self.controls["resume"].disabled = True

    def reset(self) -> None:
        """A control moved: begin anew."""
        self.abandon()
        self.result = self.begin()
        self.draw()
        self.say(self.result.sentence())

    def may_run(self, resume: bool, running: bool) -> None:
        """Raises RuntimeError if no run can begin now."""
        if running:
            raise RuntimeError(f"this {type(self).__name__} is running already; press Stop, or wait for it.")
        if resume and self._rest is None:
            raise RuntimeError(f"this {type(self).__name__} has no stopped run to resume; press Start.")

    async def run(self, resume: bool = False) -> Any:
        """Does the work, and gives the result. `await explorer.run()` in a cell leaves every button working."""
        idle = [self.controls[name] for name in ("start", "resume") if name in self.controls]
        with self.turn:
            self.may_run(resume, self.running)
            self.running, self._stopping = True, False
            for button in idle:
                button.disabled = True
            self.controls["stop"].disabled = False
        pieces: Iterator[Any] | None = None
        try:
            with self.turn:
                if not resume:
                    self.result = self.begin()
                    self._rest = self.work(self.result)
                result, pieces = self.result, self._rest
            assert pieces is not None
            while (piece := self.next_of(pieces)) is not OVER:
                await (piece if inspect.isawaitable(piece) else asyncio.sleep(0))
                if self._stopping:
                    break
            else:
                self._rest = None
        except BaseException as error:
            self._rest = None
            if isinstance(error, Exception):
                self.say(f"{type(error).__name__}: {error}", alarm=True)
            raise
        finally:
            with self.turn:
                self.running = False
                if not self.resumable:
                    self._rest = None
                for button in idle:
                    button.disabled = button.description == "Resume" and self._rest is None
                self.controls["stop"].disabled = True
                if self._rest is None and isinstance(pieces, Generator):
                    pieces.close()  # now, not when it is forgotten: what it opened is closed, what it keeps is freed
        with self.turn:
            self.refresh()
        return result

    def next_of(self, pieces: Iterator[Any]) -> Any:
        """Goes on to the next piece of work, while no control is heard; `OVER` at the end."""
        with self.turn:
            return next(pieces, OVER)


NARROW, WIDTH = {"description_width": "155px"}, "350px"


def slider(
    description: str, value: float, low: float, high: float, *, step: float = 1, help: str = "", live: bool = False
) -> widgets.Widget:
    """A labelled slider that reports when it is let go, or (`live`) while it is dragged."""
    kind = IntSlider if isinstance(value, int) else FloatSlider
    return kind(
        value=value,
        min=low,
        max=high,
        step=step,
        description=description,
        tooltip=help or description,
        continuous_update=live,
        style=NARROW,
        layout=widgets.Layout(width=WIDTH),
    )


def choice(description: str, options: list[str], value: str, help: str = "") -> widgets.Widget:
    return widgets.Dropdown(
        options=options,
        value=value,
        description=description,
        tooltip=help or description,
        style=NARROW,
        layout=widgets.Layout(width=WIDTH),
    )
