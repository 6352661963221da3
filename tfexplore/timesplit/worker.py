"""One process of a `Crew`: does job after job, until the store that it hangs on is gone."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import threading
import traceback
from contextlib import redirect_stdout
from datetime import timedelta
from io import StringIO
from typing import Any

import torch
import torch.distributed as dist

from tfexplore.timesplit.crew import LONG, START, pickled
from tfexplore.timesplit.ranks import ranks


def serve(port: int) -> None:
    rank = int(os.environ["RANK"])
    store, watched = (
        dist.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=START), use_libuv=False)
        for _ in range(2)
    )
    store.set_timeout(LONG)
    watched.set_timeout(LONG)
    threading.Thread(target=end_with, args=[watched], daemon=True).start()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    gc.freeze()  # what was imported stays: the collection after each job need not look at it
    store.set(f"ready/{rank}", "yes")
    job = 0
    while True:
        report = answer(store.get(f"job/{job}"), dist.PrefixStore(f"group/{job}", store))
        gc.collect()  # of groups that are gone, threads and files stay until then
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
    except BaseException as error:  # noqa: BLE001  (it is told to who asked)
        return pickled((printed.getvalue(), (f"{type(error).__name__}: {error}", traceback.format_exc()), None))


def end_with(store: Any) -> None:
    """Ends this process, whatever it does, when the one that keeps the store has ended."""
    try:
        store.get("never")
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
