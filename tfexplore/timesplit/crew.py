"""Several processes on this machine, started from a notebook or a test, that run a function together and report.

They hang on a TCPStore that lives in this process: jobs and results go through it, and when this process ends, however it does,
the store is gone and every one of them ends too.
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

from tfexplore.measure.beside import kill, last_words, python_path
from tfexplore.neurons.parameters import checked_count
from tfexplore.timesplit.ranks import GLOO, LOOPBACK, TIMEOUT, RankError

LONG = timedelta(days=365)
"""How long a process waits for its next job: until there is one, or the store is gone."""
START = 120.0
"""Seconds within which all processes must have started."""

GRACE = 3.0
"""Seconds that the other ranks have to report when one has failed."""


class Crew:
    """`size` processes that run functions together; they start with the first job, and stay for the next ones.

    timeout: seconds that a rank waits for another one in a job. threads: of torch in each process; default: the cores shared out.

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
        self._engine: _Engine | None = None

    def start(self) -> None:
        """Starts the processes, if they are not there; some seconds, most of which torch takes to be imported (once for all
        of them on Linux, see `worker.start`)."""
        if self._engine is None or self._engine.ended():
            self.end()
            self._engine = _Engine(self.size, self.threads)

    def run(self, function: Callable[..., Any], *given: Any, **named: Any) -> list[Any]:
        """function(ranks, *given, **named) in every process, within `timesplit.ranks()`; the results in the order of the ranks.

        What they print (in Python, on standard output) is printed here. RankError says which rank failed and how; the next `run`
        works again. A function of a notebook's cell is sent as it is (cloudpickle), one of a module by its name.
        """
        self.start()
        assert self._engine is not None
        try:
            return self._engine.run((function, given, named), self.timeout)
        except BaseException:
            if self._engine.ended() or not self._engine.idle:
                self.end()  # a process died, or this one was interrupted in the middle
            raise

    def end(self) -> None:
        """Ends the processes, whatever they do."""
        if self._engine is not None:
            self._engine.finalizer()
            self._engine = None

    @property
    def pids(self) -> list[int]:
        """The processes' numbers, while they run."""
        return [] if self._engine is None else self._engine.pids

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class _Engine:
    """The processes from their start to their end."""

    def __init__(self, size: int, threads: int) -> None:
        self.size, self.jobs, self.idle = size, 0, True
        self.store = opened_store()
        self.words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        own = {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfexplore.timesplit.worker", str(self.store.port), str(size)],
            stdin=subprocess.DEVNULL, stdout=self.words, stderr=subprocess.STDOUT, start_new_session=True,
            env=({GLOO: LOOPBACK} if LOOPBACK else {}) | os.environ | own,
        )  # fmt: skip
        self.finalizer = weakref.finalize(self, _end, self.process, self.words)
        try:
            for rank in range(size):
                self._any({f"ready/{rank}": rank}, START, {})
            self.pids = [int(self.store.get(f"ready/{rank}")) for rank in range(size)]
        except BaseException:
            self.finalizer()
            raise

    def ended(self) -> RankError | None:
        """The error that says which rank's process is no more, or that the one that started them is."""
        code, rank = self.process.poll(), None  # asked first: what it has told counts
        if self.store.check(["ended"]):
            rank, code = map(int, self.store.get("ended").split())
        if code is None:
            return None
        who = "the process that starts the ranks" if rank is None else f"rank {rank}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended itself with exit status {code}"
        when = "in the middle of a job" if self.jobs else "before its first job"
        return RankError(
            f"{who} {how} {when}; all ranks stop{'' if self.jobs else last_words(self.words)}.",
            rank,
        )

    def run(self, work: Any, timeout: float) -> list[Any]:
        job, self.jobs, self.idle = self.jobs, self.jobs + 1, False
        self.store.set(f"job/{job}", pickled((sys.path, timeout, pickled(work))))  # type: ignore[arg-type]  # bytes do as well
        missing, reports, most = set(range(self.size)), dict[int, Any](), float("inf")
        while missing:
            missing.remove(rank := self._any({f"result/{job}/{rank}": rank for rank in missing}, most, reports))
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

    def _any(self, keys: dict[str, int], most: float, reports: dict[int, Any]) -> int:
        """The rank of the first key that is there."""
        until, pause = time.monotonic() + most, 0.001
        while True:
            ended = self.ended()
            for key, rank in keys.items():
                if self.store.check([key]):
                    return rank
            if ended:
                raise _failure(reports, only_told=True) or ended
            if time.monotonic() > until:
                silent = " and ".join(f"rank {rank}" for rank in sorted(keys.values()))
                failed = _failure(reports) or RankError(
                    f"not all of the {self.size} processes started within {most:g} s{last_words(self.words)}."
                )
                failed.add_note(f"{silent} gave no answer.")
                raise failed
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def _end(process: subprocess.Popen[bytes], words: Any) -> None:
    """Ends the processes at once, whatever they do."""
    process.terminate()  # it ends the ranks, and waits for them: else they would be left to the system
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        kill(process)
        process.wait()
    words.close()


def _failure(reports: dict[int, Any], only_told: bool = False) -> RankError | None:
    """Of the errors that were reported, the one that began it: not one that says that another rank failed."""
    failed = {rank: error for rank, (_, error, _) in reports.items() if error}
    began = {rank: error for rank, error in failed.items() if not error[0].startswith("RankError: ")}
    if not failed or (only_told and not began):
        return None
    rank, (text, trace) = next(iter((began or failed).items()))
    error = RankError(f"rank {rank} failed: {text}" if began else text.removeprefix("RankError: "), rank)
    error.add_note(f"On rank {rank}:\n{trace}")
    return error


def opened_store() -> dist.TCPStore:
    """A store that only this machine reaches (torch's own would listen to the network), for values of any size (the default
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
