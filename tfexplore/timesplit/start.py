"""How a process group starts: all ranks meet at one store, then each connects to each.

On a busy machine a connection may break before any work was done ("Gloo connectFullMesh failed ... Connection closed by
peer"); some ranks have started then, and others not. So each reports through the store whether its start succeeded, and if one
failed, all try again together, under a prefix of the store that holds nothing of the failed attempt.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

ATTEMPTS = 3
COUNT = itertools.count()
"""Numbers the groups of this process in torchrun's store; all ranks count alike."""
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


class StartError(RuntimeError):
    """The process group did not start; `rank` is the one that failed, or did not join."""

    def __init__(self, message: str, rank: int | None) -> None:
        super().__init__(message)
        self.rank = rank


def start(backend: str, timeout: float, store: dist.Store | None, rank: int, size: int) -> None:
    """Calls `init_process_group` until all ranks have started, at most `ATTEMPTS` times within `timeout` seconds.

    Args:
        backend: as for `init_process_group`.
        timeout: seconds for the start, then the timeout of the group.
        store: None for the one that torchrun names in the environment, with rank and size.
        rank: of this process.
        size: of the group.

    Raises:
        StartError: the group did not start; names the rank that failed, and its reason.
    """
    if store is None:
        store, rank, size = next(iter(rendezvous("env://", timeout=timedelta(seconds=timeout))))
        store = dist.PrefixStore(f"tfexplore/group/{next(COUNT)}", store)  # a later group finds nothing of this one
    until = time.monotonic() + timeout
    exchanged(dist.PrefixStore("arrived", store), "", rank, size, until, timeout)
    for attempt in range(ATTEMPTS):
        fresh, reason = dist.PrefixStore(f"start/{attempt}", store), ""
        share = max(
            1.0, (until - time.monotonic()) / (ATTEMPTS - attempt + 1)
        )  # a rank waits this long for one that failed
        try:
            dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=timedelta(seconds=share))
        except RuntimeError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reasons = exchanged(fresh, reason, rank, size, until, timeout)
        if not any(reasons):
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=timeout), dist.group.WORLD)
            return
        failed = [(by, why) for by, why in enumerate(reasons) if why]
        culprit, why = next((found for found in failed if "timeout" not in found[1]), failed[0])  # not one that waited
        if dist.is_initialized():
            dist.destroy_process_group()
        # the next group's name is this number, which only the ranks that did not fail have reset
        dist.distributed_c10d._world.group_count = 0
    text = f"the process group did not start in {ATTEMPTS} attempts; at the last, rank {culprit} reported: {why}"
    raise StartError(text, culprit)


def exchanged(store: dist.Store, own: str, rank: int, size: int, until: float, timeout: float) -> list[str]:
    """An all-gather of one text through the store, in the order of the ranks; StartError if one is missing in the end."""
    store.set(f"{rank}", json.dumps(own))
    names = [str(other) for other in range(size)]
    try:
        store.wait(names, timedelta(seconds=max(0.1, until - time.monotonic())))
    except dist.DistStoreError as error:
        missing = [int(name) for name in names if not store.check([name])]
        absent = " and ".join(f"rank {other}" for other in missing) or "none"  # the last ones joined just now
        text = f"rank {rank} waited {timeout:g} s for the process group to start, and {absent} did not join"
        raise StartError(text, missing[0] if missing else None) from error
    return [json.loads(store.get(name)) for name in names]


def remove_torchrun_folders_at_exit(failed: bool = False) -> None:
    """torchrun makes a folder for its processes' errors, and leaves it: its empty parts are removed when this process ends.

    Only this rank's own part; all parts if this rank has failed, since torchrun then ends the others before they come to it.
    """
    own = Path(os.environ.get(ERROR_FILE, "")).parent
    root = next((folder for folder in (own, *own.parents) if folder.name.startswith("torchelastic_")), None)
    if root is not None:
        atexit.unregister(remove_empty)
        atexit.register(remove_empty, root if failed else own, root)


def remove_empty(within: Path, root: Path) -> None:
    """Removes the empty folders inside `within`, itself, and those above it up to `root`."""
    inner = [Path(place) for place, _, _ in os.walk(within, topdown=False)]
    for folder in (*inner, *(above for above in within.parents if root in (above, *above.parents))):
        with suppress(OSError):  # not empty, or gone
            folder.rmdir()
