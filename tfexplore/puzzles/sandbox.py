"""Runs a learner's function so that it can do no harm: it may crash, never end, or hold arrays of its own; all is told.

It runs in a thread of its own. Past the deadline the interpreter is asked, again and again, to raise `OutOfTime` there: no
`Exception`, so that `except Exception` lets it pass, and where a bare `except:` inside an endless loop catches one, the
next is on its way. (A trace function could not do that: the first error that it raises switches it off.) A thread that
catches them all is sent to sleep. Only an endless call into C, such as `sum(itertools.count())`, hears nothing: it lets
no other thread run, and the kernel must be restarted.
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
from tfexplore.puzzles.memory import TooManyAccesses

PATIENCE = 0.5  # seconds in which a thread past its deadline is asked to end


class OutOfTime(BaseException):
    """Raised inside a learner's code that does not end."""


class Asleep(OutOfTime):
    """Never comes to be: where it is caught, the thread that makes it waits here for ever, and takes no more time."""

    def __init__(self) -> None:
        threading.Event().wait()


@dataclass
class Ran:
    """What became of a run.

    over: the thread is on its way out; line: where it crashed or was stopped; held: words in the learner's own variables.
    """

    value: Any = None
    error: BaseException | None = None
    endless: bool = False
    over: bool = False
    line: str = ""
    held: dict[str, float] = field(default_factory=dict)


def run(work: Callable[[], Any], function: Callable[..., Any], given: list[Counted], seconds: float = 5.0) -> Ran:
    """Does `work`, which calls the learner's `function`, and says what became of it; only Ctrl-C (Stop) gets out.

    given: the arrays that were handed out, which are no variables of the learner's own.
    """
    ran = Ran()
    own = getattr(function, "__globals__", None)  # code with these is the learner's: this cell's, and other cells'

    def left(frame: FrameType, event: str, _: Any) -> None:
        """Before the learner's code calls anything, memory's own methods too, and when it returns: what do its variables hold?"""
        if ran.endless:  # no work while the thread is asked to end
            return
        caller = frame.f_back if event == "call" else frame
        if caller is not None and caller.f_globals is own and event in ("call", "c_call", "return"):
            known = {id(array) for array in given}
            for name, value in caller.f_locals.items():
                words = 0.0 if id(value) in known else words_in(value)
                ran.held[name] = max(ran.held.get(name, 0.0), words)

    def guarded() -> None:
        try:
            sys.setprofile(left)  # of this thread only
            with np.errstate(all="ignore"):
                ran.value = work()
        except OutOfTime:
            ran.endless = True
        except BaseException as error:  # noqa: BLE001  (SystemExit too: nothing of a learner's gets out)
            if not ran.endless:
                ran.line = quoted(traceback.walk_tb(error.__traceback__), own)
            ran.endless |= isinstance(error, TooManyAccesses)
            ran.error = error.with_traceback(None)
        finally:
            sys.setprofile(None)

    def body() -> None:
        try:
            guarded()
        except OutOfTime:  # one more, on the way out
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
                ran.line = quoted(where(thread), own)
        finally:  # Stop was pressed, perhaps
            end(thread, ran)
    return ran


def end(thread: threading.Thread, ran: Ran) -> None:
    """Asks the thread to end, until it does or patience is over; then sends it to sleep."""
    interval, limit = sys.getswitchinterval(), time.monotonic() + PATIENCE
    told = sys.unraisablehook
    sys.setswitchinterval(1e-5)  # the next one must come before a loop is back inside its `try`
    # where one comes while an object is deleted, Python would say on the learner's page that it was ignored; the next one follows
    sys.unraisablehook = lambda found: None if issubclass(found.exc_type, OutOfTime) else told(found)
    try:
        while thread.is_alive() and not ran.over and time.monotonic() < limit:
            throw(thread, OutOfTime)
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
        sys.unraisablehook = told
    if not ran.over:
        throw(thread, Asleep)


def throw(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raises in that thread as soon as it runs Python code again; does nothing to one that has ended."""
    if thread.is_alive():
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(error))


def where(thread: threading.Thread) -> list[tuple[FrameType, int]]:
    """What the thread is doing: frames and their lines, outermost call first."""
    frame = sys._current_frames().get(thread.ident or 0)
    return list(traceback.walk_stack(frame))[::-1] if frame is not None else []


def quoted(stack: Iterable[tuple[FrameType, int]], own: Any) -> str:
    """The innermost line of the learner's own code, as it stands in the source."""
    found = [(frame.f_code.co_filename, line) for frame, line in stack if frame.f_globals is own]
    return (linecache.getline(*found[-1]).strip() or f"line {found[-1][1]}") if found else ""


def words_in(value: Any, depth: int = 3) -> float:
    """Words that a variable holds: numbers of an array (bits and bytes by their size), of a list of arrays, of a list."""
    if isinstance(value, Counted):
        value = value.array
    if isinstance(value, np.ndarray):
        return value.size * min(1.0, value.itemsize / 4)
    if isinstance(value, list | tuple | set) and depth:
        return sum(words_in(item, depth - 1) for item in value)
    if isinstance(value, dict) and depth:
        return sum(words_in(item, depth - 1) for item in value.values())
    return float(isinstance(value, int | float | np.generic))
