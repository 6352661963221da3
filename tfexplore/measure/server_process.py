"""A Python subprocess that answers requests, one line of JSON each, and can be ended at any time.

For work that must not touch this process (a fresh cache, a compiler that takes half a minute). `ServerProcess` starts it and
sends it requests; `serve` answers them there.
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

Request = dict[str, Any]


class ServerProcess:
    """A subprocess that runs `python -m module`, which must call `serve`. As a context manager it ends the subprocess.

    Args:
        module: the module to run.
        env: environment variables to change there.
        python: another interpreter than this one.

    Example:
        >>> with ServerProcess("tfexplore.measure.first_calls") as process:      # doctest: +SKIP
        ...     process.request(neuron="LIF")
        {'seconds': 0.004, 'compiled': 0}
    """

    def __init__(self, module: str, env: Mapping[str, str] | None = None, python: str = sys.executable) -> None:
        self.module = module
        self.stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
            env={**os.environ, "PYTHONPATH": python_path(), **(env or {})}, encoding="utf-8", bufsize=1,
            start_new_session=True,  # a group of its own, with the compilers that it starts; Windows has none
        )  # fmt: skip

    def request(self, **request: Any) -> dict[str, Any]:
        """Sends a request, and waits for its answer; `end` may be called meanwhile, from another thread.

        Raises:
            RuntimeError: the request failed there, with the text of its exception, or the process ended without an answer.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            line = self.process.stdout.readline()
        except (OSError, ValueError):  # ended before, or meanwhile
            line = ""
        if not line:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)  # its pipe is closed a moment before it is gone
            raise RuntimeError(f"The process {self.module} ended without an answer{last_line(self.stderr)}.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def request_within(self, seconds: float, /, **request: Any) -> dict[str, Any]:
        """As `request`, but raises TimeoutError after `seconds`, and ends the process."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.end()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            return self.request(**request)
        except RuntimeError as error:
            if late.is_set():
                timer.join()  # until it has ended
                raise TimeoutError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()

    def end(self) -> None:
        """Ends the process and (except on Windows) those it started, at once; may be called several times."""
        if self.process.returncode is None:  # once it was waited for, its process id may belong to another
            kill(self.process)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.stderr):
            # what was still to be written has no reader, or another thread closes it at the same time
            with suppress(OSError, ValueError):
                pipe.close()  # type: ignore[union-attr]  # both were requested

    def finish(self, seconds: float = 10) -> None:
        """Lets the process end by itself, with what it has started in other process groups; after `seconds` it is ended."""
        with suppress(OSError, ValueError):
            self.process.stdin.close()  # type: ignore[union-attr]  # it was requested
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.end()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def python_path() -> str:
    """PYTHONPATH for processes that are to import this very package."""
    return os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))


def kill(process: subprocess.Popen[Any]) -> None:
    """Ends a process that leads a process group of its own, and (except on Windows) those it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def last_line(stderr: IO[str]) -> str:
    """The last line that a process has written there, after a colon, or an empty text."""
    try:
        stderr.seek(0)
        lines = stderr.read().strip().splitlines()
    except ValueError:  # closed
        return ""
    return f": {lines[-1]}" if lines else ""


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    if os.getpgrp() == os.getpid():  # as `ServerProcess` starts it
        os.killpg(0, signal.SIGKILL)


def serve(answer: Callable[[Request], Mapping[str, Any]]) -> None:
    """Answers every request on standard input until it is closed; an exception is answered as {"error": its text}.

    When the client process is gone, this one ends with its process group, in the middle of an answer too (except on Windows).

    Args:
        answer: takes a request, and returns its answer; both must fit into JSON.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever else prints (a compiler, say) must not mix with the answers
    for line in sys.stdin:
        try:
            reply = dict(answer(json.loads(line)))
        except Exception as error:  # noqa: BLE001  (it is the answer)
            reply = {"error": f"{type(error).__name__}: {error}"}
        channel.write(json.dumps(reply) + "\n")
