"""Runs a learner's function so that it can do no harm: it may crash, never end, or hold arrays of its own; all is reported.

It runs in a thread of its own. After the deadline `OutOfTime` is raised there again and again: no `Exception`, so that
`except Exception` lets it pass, and where a bare `except:` inside an endless loop catches one, the next one follows. (A trace
function could not do that: the first error that it raises switches it off.) A thread that catches them all is put to sleep.
Only an endless call into C, such as `sum(itertools.count())`, cannot be interrupted: it lets no other thread run, and the
kernel must be restarted.
"""

from __future__ import annotations

import ctypes
import linecache
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from tfexplore.measure.counting import Counted
from tfexplore.puzzles.counted_memory import TooManyAccesses

PATIENCE = 0.5  # seconds for which `OutOfTime` is raised in a thread past its deadline


class OutOfTime(BaseException):
    """Raised inside a learner's code that does not end."""


class Asleep(OutOfTime):
    """Its constructor never returns: the thread that raises it waits here for ever, and takes no more time."""

    def __init__(self) -> None:
        threading.Event().wait()


@dataclass
class Run:
    """How a run ended.

    Attributes:
        value: what the work returned.
        error: what it raised.
        endless: it was stopped, since it did not end.
        over: the thread has finished the work.
        line: where it crashed or was stopped.
        held: the most words in each of the learner's own variables.
    """

    value: Any = None
    error: BaseException | None = None
    endless: bool = False
    over: bool = False
    line: str = ""
    held: dict[str, float] = field(default_factory=dict)


def run(work: Callable[[], Any], function: Callable[..., Any], given: list[Counted], seconds: float = 5.0) -> Run:
    """Calls `work`, which calls the learner's `function`, and returns how it ended; only Ctrl-C (Stop) is passed on.

    Args:
        given: the arrays that were passed in, which are no variables of the learner's own.
        seconds: after which it is stopped.
    """
    ran = Run()
    own = getattr(function, "__globals__", None)  # code with these is the learner's: this cell's, and other cells'

    def measure_variables(frame: FrameType, event: str, _: Any) -> None:
        """The size of the variables of the learner's code, whenever it calls anything (memory's methods too) and returns."""
        if ran.endless:  # no work while the thread is being stopped
            return
        caller = frame.f_back if event == "call" else frame
        if caller is not None and caller.f_globals is own and event in ("call", "c_call", "return"):
            known = {id(array) for array in given}
            for name, value in caller.f_locals.items():
                words = 0.0 if id(value) in known else words_in(value)
                ran.held[name] = max(ran.held.get(name, 0.0), words)

    def guarded() -> None:
        try:
            sys.setprofile(measure_variables)  # of this thread only
            with np.errstate(all="ignore"):
                ran.value = work()
        except OutOfTime:
            ran.endless = True
        except BaseException as error:  # noqa: BLE001  (SystemExit too: no error of a learner's is passed on)
            if not ran.endless:
                ran.line = quoted(traceback.walk_tb(error.__traceback__), own)
            ran.endless |= isinstance(error, TooManyAccesses)
            ran.error = error.with_traceback(None)
        finally:
            sys.setprofile(None)

    def body() -> None:
        try:
            guarded()
        except OutOfTime:  # one more, after the work
            ran.endless = True
        finally:
            ran.over = True

    thread = threading.Thread(target=body, name="puzzle", daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thread.start()
        try:
            thread.join(seconds)
            if thread.is_alive():
                ran.endless = True
                ran.line = quoted(stack_of(thread), own)
        finally:  # Stop was pressed, perhaps
            end(thread, ran)
    return ran


def end(thread: threading.Thread, ran: Run) -> None:
    """Raises `OutOfTime` in the thread until it ends or `PATIENCE` is over; then puts it to sleep."""
    interval, limit = sys.getswitchinterval(), time.monotonic() + PATIENCE
    hook = sys.unraisablehook
    sys.setswitchinterval(1e-5)  # the next one must come before a loop is back inside its `try`
    # one that comes while an object is deleted is ignored, which Python would print on the learner's page; the next one follows
    sys.unraisablehook = lambda found: None if issubclass(found.exc_type, OutOfTime) else hook(found)
    try:
        while thread.is_alive() and not ran.over and time.monotonic() < limit:
            throw(thread, OutOfTime)
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
        sys.unraisablehook = hook
    if not ran.over:
        throw(thread, Asleep)


def throw(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raises in that thread as soon as it runs Python code again; does nothing to one that has ended."""
    if thread.is_alive():
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(error))


def stack_of(thread: threading.Thread) -> list[tuple[FrameType, int]]:
    """The thread's frames and their lines, outermost call first."""
    frame = sys._current_frames().get(thread.ident or 0)
    return list(traceback.walk_stack(frame))[::-1] if frame is not None else []


def quoted(stack: Iterable[tuple[FrameType, int]], own: Any) -> str:
    """The innermost line of the learner's own code, as in its source."""
    found = [(frame.f_code.co_filename, line) for frame, line in stack if frame.f_globals is own]
    return (linecache.getline(*found[-1]).strip() or f"line {found[-1][1]}") if found else ""


def words_in(value: Any, depth: int = 3) -> float:
    """The words in a variable: the numbers of an array (bits and bytes by their size), of a list of arrays, of a list."""
    if isinstance(value, Counted):
        value = value.array
    if isinstance(value, np.ndarray):
        return value.size * min(1.0, value.itemsize / 4)
    if isinstance(value, list | tuple | set) and depth:
        return sum(words_in(item, depth - 1) for item in value)
    if isinstance(value, dict) and depth:
        return sum(words_in(item, depth - 1) for item in value.values())
    return float(isinstance(value, int | float | np.generic))
