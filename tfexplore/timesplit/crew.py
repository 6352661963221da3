"""Several processes on this machine, started from a notebook or a test, that run a function together and return its results.

They are connected to a TCPStore of this process: jobs and results go through it, and when this process ends, in whatever way,
the store is gone and each of them ends too.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from tfexplore.measure.server_process import kill, last_line, python_path
from tfexplore.neurons.parameters import checked_count
from tfexplore.timesplit.ranks import GLOO, LOOPBACK, TIMEOUT, RankError

LONG = timedelta(days=365)
"""How long a process waits for its next job: until there is one, or the store is gone."""
START = 120.0
"""Seconds within which all processes must have started."""

GRACE = 3.0
"""Seconds that the other ranks have to report after one has failed."""


class Crew:
    """Worker processes on this machine that run functions together, as the ranks of a process group.

    They start with the first job, and stay for the next ones. As a context manager it ends them.

    Args:
        size: the number of processes.
        timeout: seconds that a rank waits for another one within a job.
        threads: torch's threads in each process; by default the cores divided by `size`.

    Raises:
        ValueError: `size` is less than 1.

    Example:
        >>> def work(ranks, x):                               # in a notebook's cell or in a module
        ...     return ranks.rank * x
        >>> with Crew(2) as crew:                             # doctest: +SKIP
        ...     crew.run(work, 10)
        [0, 10]
    """

    def __init__(self, size: int, *, timeout: float = TIMEOUT, threads: int | None = None) -> None:
        checked_count("size", size)
        self.size, self.timeout = size, timeout
        self.threads = threads or max(1, (os.cpu_count() or 1) // size)
        self._workers: _Workers | None = None

    def start(self) -> None:
        """Starts the processes, unless they run. It takes some seconds, most of them for importing torch (once for all of them
        on Linux, see `worker.start`)."""
        if self._workers is None or self._workers.ended():
            self.end()
            self._workers = _Workers(self.size, self.threads)

    def run(self, function: Callable[..., Any], *given: Any, **named: Any) -> list[Any]:
        """Calls `function(ranks, *given, **named)` in every process, within `timesplit.ranks()`.

        What they print (in Python, on standard output) is printed here.

        Args:
            function: of a module, sent by its name, or of a notebook's cell, sent with its code (cloudpickle).
            given: its positional arguments after `ranks`.
            named: its keyword arguments.

        Returns:
            The results, in the order of the ranks.

        Raises:
            RankError: a rank failed; the message names it and its error, a note has its traceback. The next `run` works again.
            ImportError: the function cannot be sent without cloudpickle.
        """
        self.start()
        assert self._workers is not None
        try:
            return self._workers.run((function, given, named), self.timeout)
        except BaseException:
            if self._workers.ended() or not self._workers.idle:
                self.end()  # a process died, or this one was interrupted in the middle
            raise

    def end(self) -> None:
        """Ends the processes at once, in the middle of a job too."""
        if self._workers is not None:
            self._workers.finalizer()
            self._workers = None

    @property
    def pids(self) -> list[int]:
        """The process ids, while they run."""
        return [] if self._workers is None else self._workers.pids

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class _Workers:
    """The processes from their start to their end."""

    def __init__(self, size: int, threads: int) -> None:
        self.size, self.jobs, self.idle = size, 0, True
        self.store = opened_store()
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        own = {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfexplore.timesplit.worker", str(self.store.port), str(size)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
            env=({GLOO: LOOPBACK} if LOOPBACK else {}) | os.environ | own,
        )  # fmt: skip
        self.finalizer = weakref.finalize(self, _end, self.process, self.log)
        try:
            for rank in range(size):
                self._first_of({f"ready/{rank}": rank}, START, {})
            self.pids = [int(self.store.get(f"ready/{rank}")) for rank in range(size)]
        except BaseException:
            self.finalizer()
            raise

    def ended(self) -> RankError | None:
        """The error that names the rank whose process is gone, or the process that started them; None while all run."""
        code, rank = self.process.poll(), None  # polled first: what it has stored by then counts
        if self.store.check(["ended"]):
            rank, code = map(int, self.store.get("ended").split())
        if code is None:
            return None
        subject = "the process that starts the ranks" if rank is None else f"rank {rank}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended itself with exit status {code}"
        when = "in the middle of a job" if self.jobs else "before its first job"
        details = "" if self.jobs else last_line(self.log)
        return RankError(f"{subject} {how} {when}; all ranks stop{details}.", rank)

    def run(self, work: Any, timeout: float) -> list[Any]:
        job, self.jobs, self.idle = self.jobs, self.jobs + 1, False
        self.store.set(f"job/{job}", pickled((sys.path, timeout, pickled(work))))  # type: ignore[arg-type]  # bytes do as well
        missing, reports, most = set(range(self.size)), dict[int, Any](), float("inf")
        while missing:
            missing.remove(rank := self._first_of({f"result/{job}/{rank}": rank for rank in missing}, most, reports))
            reports[rank] = pickle.loads(self.store.get(f"result/{job}/{rank}"))
            self.store.delete_key(f"result/{job}/{rank}")
            if reports[rank][1]:
                most = GRACE  # one that hangs would never report
        self.store.delete_key(f"job/{job}")
        self.idle = True
        for rank in range(self.size):
            for line in reports[rank][0].splitlines():
                print(f"[rank {rank}] {line}")
        if failed := _failure(reports):
            raise failed
        return [reports[rank][2] for rank in range(self.size)]

    def _first_of(self, keys: dict[str, int], most: float, reports: dict[int, Any]) -> int:
        """Waits at most `most` seconds for one of these keys of the store, and returns its rank."""
        until, pause = time.monotonic() + most, 0.001
        while True:
            ended = self.ended()
            for key, rank in keys.items():
                if self.store.check([key]):
                    return rank
            if ended:
                raise _failure(reports, only_first=True) or ended
            if time.monotonic() > until:
                silent = " and ".join(f"rank {rank}" for rank in sorted(keys.values()))
                failed = _failure(reports) or RankError(
                    f"not all of the {self.size} processes started within {most:g} s{last_line(self.log)}."
                )
                failed.add_note(f"{silent} did not respond.")
                raise failed
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def _end(process: subprocess.Popen[bytes], log: Any) -> None:
    """Ends the processes at once, in the middle of a job too."""
    process.terminate()  # it ends the ranks, and waits for them: else the system would have to
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        kill(process)
        process.wait()
    log.close()


def _failure(reports: dict[int, Any], only_first: bool = False) -> RankError | None:
    """Of the errors that were reported, the one that came first: not a `RankError`, which another rank's error has caused."""
    failed = {rank: error for rank, (_, error, _) in reports.items() if error}
    began = {rank: error for rank, error in failed.items() if not error[0].startswith("RankError: ")}
    if not failed or (only_first and not began):
        return None
    rank, (text, trace) = next(iter((began or failed).items()))
    error = RankError(f"rank {rank} failed: {text}" if began else text.removeprefix("RankError: "), rank)
    error.add_note(f"On rank {rank}:\n{trace}")
    return error


def opened_store() -> dist.TCPStore:
    """A store that only this machine can reach (torch's own would listen on the network), for values of any size (the default
    one, on libuv, takes 8 MiB)."""
    listens = socket.create_server(("127.0.0.1", 0))
    port, opened = listens.getsockname()[1], listens.detach()
    return dist.TCPStore(
        "127.0.0.1",
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=LONG,
        master_listen_fd=opened,
        use_libuv=False,
    )


def pickled(work: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        try:
            return pickle.dumps(work)
        except (pickle.PicklingError, AttributeError) as error:
            raise ImportError(
                f"{error}; functions of a notebook's cell need cloudpickle: pip install cloudpickle."
            ) from None
    sent: bytes = cloudpickle.dumps(work)
    return sent
