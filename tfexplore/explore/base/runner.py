"""An explorer with long work, and Start and Stop.

The work is a generator that yields often; `run` awaits between its pieces, so the Stop button is heard, also under Run All.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from typing import Any

from tfexplore.backends import choose
from tfexplore.explore.base.controls import button
from tfexplore.explore.base.explorer import Explorer, worker
from tfexplore.measure import clock

OVER = object()
"""After the last piece of work."""


class Runner(Explorer):
    """Base of the explorers with long work.

    `look()` makes the empty result of one run, and `work(result)` fills it; it yields often: None, or an awaitable
    (`in_background`). A `resumable` one has a Resume button too: a stopped run goes on where it stopped, unless a control
    made it `abandon` it.
    """

    resumable = False

    def __init__(self, **values: Any) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.running = self._stopping = False
        self._rest: Iterator[Any] | None = None  # of the work, when it was stopped
        super().__init__(**values)

    def built(self, controls: Any) -> dict[str, Any]:
        made = super().built(controls)
        if not self.resumable:
            del made["resume"]
        return made

    def work(self, result: Any) -> Iterator[Any]:
        """Fills the result; yields between two pieces of work."""
        raise NotImplementedError

    def in_background(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Work that may take long, in a background thread: the page stays alive meanwhile. Yield it, then take its result."""
        return asyncio.get_running_loop().run_in_executor(worker(), work)

    def in_turn(
        self, work: Mapping[str, Callable[[], object]], rounds: int, enough: float, device: str,
        taken: dict[str, list[float]],
    ) -> Iterator[asyncio.Future[None]]:  # fmt: skip
        """Times every piece of work once a round, in the background; `taken` has their seconds so far, after each run.

        The first round warms up (see `measure.clock.samples`). After `enough` seconds no other begins.
        """
        samples, began = clock.samples(work, rounds, device), time.perf_counter()
        for k in range(rounds + 1):
            for _ in work:
                yield self.in_background(lambda: taken.update(next(samples)))
            if k and time.perf_counter() - began > enough:
                return

    def say_compiling(self, device: str = "cpu") -> None:
        """What comes first; or why nothing is fused here."""
        chosen, kept = choose("auto", device), "a few seconds the very first time, then they are kept"
        eager = f"No fused backend here, only the eager one: {chosen.reason}"
        self.say(eager if chosen.name == "torch" else f"Compiling the kernels: {kept}.")

    def update(self) -> None:
        """A control moved: begin anew."""
        self.abandon()
        super().update()

    # -- the buttons -----------------------------------------------------------------------------------------------

    @button("Start", icon="play", primary=True)
    def start(self, resume: bool = False) -> None:
        """Runs in the kernel's event loop, between the cells."""
        self.launch(self.run, resume)

    @button("Stop", icon="stop", help="Stop after the piece of work at hand", disabled=True)
    def stop(self) -> None:
        """The run ends after the piece of work at hand, and keeps what it has."""
        self._stopping = True

    @button("Resume", icon="forward", help="Go on where it stopped", disabled=True)
    def resume(self) -> None:
        """Goes on with the run that was stopped."""
        self.start(resume=True)

    def abandon(self) -> None:
        """Stops a run that a control has made pointless; it cannot be resumed."""
        self._stopping, self._rest = True, None
        if self.resumable:
            self.controls["resume"].disabled = True

    # -- a run -----------------------------------------------------------------------------------------------------

    def launch(self, run: Callable[[bool], Coroutine[Any, Any, Any]], resume: bool = False) -> None:
        self.may_run(resume, self.running or (self.task is not None and not self.task.done()))
        self.task = asyncio.get_running_loop().create_task(run(resume))
        # an error was shown by run(); retrieving it keeps asyncio from complaining that nobody did
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

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
            for control in idle:
                control.disabled = True
            self.controls["stop"].disabled = False
        pieces: Iterator[Any] | None = None
        try:
            with self.turn:
                if not resume:
                    self.result = self.look()
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
                for control in idle:
                    control.disabled = control.description == "Resume" and self._rest is None
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
