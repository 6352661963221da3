"""A Python process beside this one: asked in lines of JSON, it answers in lines of JSON, and it can be ended at any time.

For work that must not touch this process (a fresh cache, a compiler that takes half a minute). `Beside` is this end,
`serve` the other one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from tfexplore.machine.paths import PACKAGE

Question = dict[str, Any]


class Beside:
    """Runs `python -m module`, which must call `serve`.

    env: variables that are other there. python: another interpreter than this one. `ask` waits for the answer; `end` may be
    called meanwhile, from another thread.
    """

    def __init__(self, module: str, env: Mapping[str, str] | None = None, python: str = sys.executable) -> None:
        self.module = module
        self.complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints,
            env={**os.environ, "PYTHONPATH": python_path(), **(env or {})}, encoding="utf-8", bufsize=1,
            start_new_session=True,  # a group of its own, with the compilers that it starts; Windows has none
        )  # fmt: skip

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer; RuntimeError with what went wrong, if it did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            line = self.process.stdout.readline()
        except (OSError, ValueError):  # ended before, or meanwhile
            line = ""
        if not line:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)  # its pipe is closed a moment before it is gone
            raise RuntimeError(f"The process {self.module} ended without an answer{last_words(self.complaints)}.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def within(self, seconds: float, /, **question: Any) -> dict[str, Any]:
        """As `ask`, for so many seconds: then the process is ended, and TimeoutError says so."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.end()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            return self.ask(**question)
        except RuntimeError as error:
            if late.is_set():
                timer.join()  # until it has ended
                raise TimeoutError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()

    def end(self) -> None:
        """Ends the process and (but on Windows) those it started, whatever they do; more than once does no harm."""
        if self.process.returncode is None:  # once it was waited for, its number may be another's
            kill(self.process)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.complaints):
            # what was still to be written has no reader, or another thread closes it at the same time
            with suppress(OSError, ValueError):
                pipe.close()  # type: ignore[union-attr]  # both were asked for

    def finish(self, seconds: float = 10) -> None:
        """Lets the process end by itself, and end what it has started in groups of their own; it has so many seconds for it."""
        with suppress(OSError, ValueError):
            self.process.stdin.close()  # type: ignore[union-attr]  # it was asked for
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.end()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def python_path() -> str:
    """PYTHONPATH for processes that are to import this very package."""
    return os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))


def kill(process: subprocess.Popen[Any]) -> None:
    """Ends a process that leads a group of its own, and (but on Windows) those it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def last_words(complaints: IO[str]) -> str:
    """The last line that a process has written there, behind a colon."""
    try:
        complaints.seek(0)
        lines = complaints.read().strip().splitlines()
    except ValueError:  # closed
        return ""
    return f": {lines[-1]}" if lines else ""


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    if os.getpgrp() == os.getpid():  # as `Beside` starts it
        os.killpg(0, signal.SIGKILL)


def serve(answer: Callable[[Question], Mapping[str, Any]]) -> None:
    """Answers every line of standard input until it ends; an exception is answered as {"error": its text}.

    When the process that asks is gone, this one ends with its group, in the middle of an answer too (but on Windows).
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever else prints (a compiler, say) must not mix with the answers
    for line in sys.stdin:
        try:
            reply = dict(answer(json.loads(line)))
        except Exception as error:  # noqa: BLE001  (it is told to who asked)
            reply = {"error": f"{type(error).__name__}: {error}"}
        channel.write(json.dumps(reply) + "\n")
