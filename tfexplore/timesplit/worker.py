"""The processes of a `Crew`: each runs job after job, until the store that it is connected to is gone."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from contextlib import redirect_stdout, suppress
from datetime import timedelta
from io import StringIO
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from tfexplore import backends
from tfexplore.timesplit.crew import LONG, START, pickled
from tfexplore.timesplit.ranks import ranks


def start(port: int, size: int) -> None:
    """Starts the ranks, and stores the exit code of the first one that ends.

    On Linux they are forks of this process, which imports torch once for all of them: they start at once, and share the memory
    of what was imported.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # through `finally`
    fork = sys.platform == "linux"  # elsewhere a fork may not use what the system gave to this process
    made: Any = multiprocessing.get_context("fork" if fork else "spawn")
    processes = [made.Process(target=serve, args=(port, rank, size)) for rank in range(size)]
    if fork:
        with suppress(ImportError):
            backends.module("numba")
        gc.freeze()  # no collection in a fork visits it, and so copies its memory
    try:
        with warnings.catch_warnings():  # Python 3.12 warns of threads, which here are NumPy's, made for that
            warnings.simplefilter("ignore", DeprecationWarning)
            for process in processes:
                process.start()
        store = connected(port)
        ended = connection.wait([process.sentinel for process in processes])
        rank = next(rank for rank, process in enumerate(processes) if process.sentinel in ended)
        processes[rank].join()
        with suppress(RuntimeError):  # the owner of the store has ended, and so do the ranks
            store.set("ended", f"{rank} {processes[rank].exitcode}")
        for process in processes:
            process.join()
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def connected(port: int) -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=START), use_libuv=False)


def serve(port: int, rank: int, size: int) -> None:
    """A rank from its start to its end: connects to the store, then runs each job and stores its result."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ |= dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank))
    os.environ |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(size))
    np.random.seed()  # noqa: NPY002  (else all ranks would draw the same numbers)
    store, watched = connected(port), connected(port)
    store.set_timeout(LONG)
    watched.set_timeout(LONG)
    threading.Thread(target=end_with, args=[watched], daemon=True).start()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    gc.freeze()  # what was imported stays: the collection after each job need not visit it
    store.set(f"ready/{rank}", str(os.getpid()))
    job = 0
    while True:
        report = answer(store.get(f"job/{job}"), dist.PrefixStore(f"group/{job}", store))
        gc.collect()  # the threads and files of groups that are gone stay until then
        store.set(f"result/{job}/{rank}", report)  # type: ignore[arg-type]  # bytes do as well
        job += 1


def answer(sent: bytes, store: dist.Store) -> bytes:
    """What was printed, the error with its traceback or None, and the result."""
    path, timeout, work = pickle.loads(sent)
    sys.path.extend(folder for folder in path if folder not in sys.path)
    printed = StringIO()
    try:
        function, given, named = pickle.loads(work)
        with redirect_stdout(printed), ranks(timeout, store=store) as group:
            result = function(group, *given, **named)
        return pickled((printed.getvalue(), None, result))
    except BaseException as error:  # noqa: BLE001  (it is reported to the process that gave the job)
        return pickled((printed.getvalue(), (f"{type(error).__name__}: {error}", traceback.format_exc()), None))


def end_with(store: Any) -> None:
    """Ends this process at once when the owner of the store has ended."""
    try:
        store.get("never")
    finally:
        os._exit(0)


if __name__ == "__main__":
    start(int(sys.argv[1]), int(sys.argv[2]))
