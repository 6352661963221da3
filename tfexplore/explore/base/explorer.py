"""What an explorer is: named controls, one live figure, a result, a sentence, and a static picture of the same sheet.

Setting a control in Python does exactly what moving it in the browser does, so explorers are tested without one.
"""

from __future__ import annotations

import asyncio
import functools
import html
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

from tfexplore.explore.base import plotly_sheet, statuses, style
from tfexplore.explore.base.controls import Control, Play, declared, marked
from tfexplore.explore.base.live import LiveFigure, kept_figure
from tfexplore.explore.base.picture import picture
from tfexplore.explore.base.sheet import Sheet
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step, step_of

READY: set[tuple[type, Step]] = set()
"""Which kernels this process has at hand: for this kind of explorer, those of this step."""


@functools.cache
def worker() -> ThreadPoolExecutor:
    """The background thread of all explorers. One: torch keeps a team of its own for each thread that computes."""
    return ThreadPoolExecutor(1, thread_name_prefix="tfexplore-explore")


def running() -> asyncio.AbstractEventLoop | None:
    """The event loop of a notebook; None in a plain script."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Explorer:
    """Base of the explorers.

    A subclass declares its controls as class attributes, makes `result` from their values in `look`, describes the figure in
    `sheet`, and says in `sentence` what it shows. Where it runs kernels, `update` waits until they are `ready`. A constructor
    of its own ends with `super().__init__(...)`, which takes the controls' first values, shows the first state and goes live:
    what is drawn into a live figure before the browser has loaded it may never arrive there.

    controls: named ipywidgets;   figure: a plotly FigureWidget;   result: plain arrays and numbers.
    """

    caption = ""
    """One sentence under the figure: what it shows."""

    def __init__(self, **values: Any) -> None:
        kind = type(self)
        self.result: Any = None
        self.message, self.widget, self.figure = widgets.HTML(), widgets.VBox(), go.Figure()
        self._said = ""
        self._drawn: plotly_sheet.Described = ([], {})
        self._handle: Any = None
        self._quiet = self._live = False
        # JupyterLab has a slider's message answered in another thread (a subshell) than the cell that awaits a run
        self.turn = threading.RLock()
        self._compiling: asyncio.Future[None] | None = None
        self.controls = self.built(declared(kind, values))
        answers = {control: method for method, controls in marked(kind, "moved").items() for control in controls}
        for name, control in self.controls.items():
            if not isinstance(control, widgets.Button | widgets.Play):
                self.observe(name, answers.get(name, "update"))
        self.begin()
        self.go_live()

    def begin(self) -> None:
        """Shows the first state."""
        self.update()

    def built(self, controls: Mapping[str, Control]) -> dict[str, widgets.Widget]:
        """The widgets of these controls, and the buttons."""
        made = {name: control.widget() for name, control in controls.items()}
        for name, control in controls.items():
            if isinstance(control, Play):
                control.drive(made[name], made[control.of])
        for name, look in marked(type(self), "button").items():
            made[name] = widgets.Button(**look)
            made[name].on_click(self.guarded(functools.partial(self.call, name)))
        return made

    def call(self, method: str) -> Any:
        """Found anew each time, so that a subclass or a test may put another in its place."""
        return getattr(self, method)()

    # -- from the controls to the figure ---------------------------------------------------------------------------

    def look(self) -> Any:
        """The result, from the controls' values alone."""
        raise NotImplementedError

    def sheet(self) -> Sheet:
        """The figure, described from the result and the controls."""
        raise NotImplementedError

    def sentence(self) -> str:
        """What the result shows, as a teacher would say it; by default the result's own `sentence()`."""
        found: str = self.result.sentence()
        return found

    def update(self) -> None:
        """A control moved: another result is shown."""
        self.result = self.look()
        self.draw()
        self.say(self.sentence())

    def draw(self) -> None:
        """Brings the figure up to the sheet; once live, in one message to the browser."""
        before, self._drawn = self._drawn, plotly_sheet.described(self.sheet())
        if self._live:
            plotly_sheet.update(self.figure, before, self._drawn)
        else:
            self.figure = plotly_sheet.figure_of(self._drawn)

    def trace(self, mark: str) -> Any:
        """The figure's trace of the mark of this name."""
        return plotly_sheet.trace(self.figure, mark)

    def go_live(self) -> None:
        statuses.mend()
        self.figure = LiveFigure(self.figure)
        self.widget = self.layout().add_class("tfexplore")
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

    def say(self, text: str, alarm: bool = False) -> None:
        """One sentence above the figure, read out by screen readers."""
        self._said = text
        role, look = ("alert", f"color:{style.ALARM};font-weight:600") if alarm else ("status", "font-size:110%")
        self.message.value = f'<div role="{role}" style="{look}">{html.escape(text)}</div>'

    # -- the controls ----------------------------------------------------------------------------------------------

    def observe(self, control: str, method: str) -> None:
        """Calls the method of this name when the control moves; an error is shown above the figure, and raised."""
        answer = self.guarded(lambda: None if self._quiet else self.call(method))
        self.controls[control].observe(answer, names="value")

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Within, controls move without being answered: for several that move together."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def show_control(self, name: str, shown: bool) -> None:
        """Shows or hides a control."""
        self.controls[name].layout.display = "" if shown else "none"

    def guarded(self, work: Callable[[], Any]) -> Callable[..., Any]:
        """What the browser requests: in turn with a run under way, and an error is shown."""

        @functools.wraps(work, assigned=())
        def call(*_: Any) -> Any:
            with self.turn:
                try:
                    return work()
                except Exception as error:
                    self.say(f"{type(error).__name__}: {error}", alarm=True)
                    raise

        return call

    # -- kernels, compiled in the background thread ----------------------------------------------------------------

    def ready(self, neuron: Neuron, then: Callable[[], None]) -> bool:
        """Whether the neuron's kernels are at hand. If not, a live explorer compiles them in a background thread, and then
        calls `then`. Before it is live, and in plain Python, they are compiled at once."""
        key = type(self), step_of(neuron)
        if key in READY:
            return True
        loop = running() if self._live else None
        if loop is None:
            self.prepare(neuron)
            READY.add(key)
            return True

        def compiled() -> None:
            self._compiling = None
            work.result()  # raises what went wrong
            READY.add(key)
            then()

        if self._compiling is None:  # one at a time: `then` looks at the controls as they are by then
            self.say("Compiling the kernels of this choice: a second or two the very first time, then they are kept.")
            work = self._compiling = loop.run_in_executor(worker(), self.prepare, neuron)
            work.add_done_callback(self.guarded(compiled))
        return False

    async def warm(self, neurons: Iterable[Neuron]) -> None:
        """Compiles the kernels of these neurons in a background thread, so that choosing one need not wait."""
        for neuron in neurons:
            if (key := (type(self), step_of(neuron))) not in READY:
                await asyncio.get_running_loop().run_in_executor(worker(), self.prepare, neuron)
                READY.add(key)

    def prepare(self, neuron: Any) -> None:
        """Compiles the kernels with which the explorer shows this neuron, in any thread."""
        raise NotImplementedError

    # -- without a browser -----------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The picture in words: the caption, and the last sentence."""
        return f"{self.caption} {self._said}".strip()

    def picture(self) -> bytes:
        """The sheet as a PNG, for pages without a kernel."""
        return style.png(picture(self.sheet(), self._said))

    def page(self) -> go.Figure:
        """The figure for a page without a kernel (`make docs`); a subclass may add frames (`plotly_sheet.playing`)."""
        return self.figure

    def show(self) -> None:
        """Displays the explorer; where no browser shows it live, its picture is brought up to date when a run ends."""
        from IPython.display import display

        self._handle = display(self, display_id=True)

    def refresh(self) -> None:
        # not under a live view: that would be replaced by a second one, to which plotly does not give all data
        if self._handle is not None and not self.widget._view_count:
            self._handle.update(self)

    def __repr__(self) -> str:
        hidden = [
            name for name, c in self.controls.items() if isinstance(c, widgets.Button) or c.layout.display == "none"
        ]
        shown = {name: control.value for name, control in self.controls.items() if name not in hidden}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        view: dict[str, Any] = self.widget._repr_mimebundle_() or {}
        shown = view | {"text/plain": repr(self), "image/png": self.picture()}
        return shown, kept_figure(self.page(), self.describe())
