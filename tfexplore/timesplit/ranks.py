"""The ranks of a `torch.distributed` process group: point-to-point messages, collectives, and what happens when one fails.

No rank may wait for one that is gone. A rank that fails writes the reason into the group's store and closes its connections; a
rank that waits for it notices within milliseconds, reads the reason, raises it, and closes its own. A killed process closes its
connections without a reason. One that hangs is noticed after the group's timeout. This holds for gloo. With NCCL (untested) the
GPU waits, not the process, and NCCL's own watchdog ends the other ranks.
"""

from __future__ import annotations

import json
import os
import re
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tfexplore.timesplit.start import StartError, remove_torchrun_folders_at_exit, start

TIMEOUT = 60.0
"""The default timeout of `ranks`: seconds after which a rank that hangs is given up."""
FAILURE_KEY = "tfexplore/failed"
CLOSING_TAG = 2**30
"""A tag that no message has."""
INSTANCES: weakref.WeakSet[Ranks] = weakref.WeakSet()
"""Every `Ranks` of this process."""
PASS_COUNTS: weakref.WeakKeyDictionary[dist.ProcessGroup, int] = weakref.WeakKeyDictionary()
GLOO, LOOPBACK = "GLOO_SOCKET_IFNAME", {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
"""The environment variable that names gloo's network interface, and this machine's loopback interface. Without it gloo looks up
the machine's host name, which may not resolve where there is no network."""


class RankError(RuntimeError):
    """Another rank failed, so this one cannot go on.

    Args:
        message: which rank failed, and why.
        rank: the rank that failed, or None where that is unknown; also an attribute.
    """

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank


@contextmanager
def ranks(timeout: float = TIMEOUT, backend: str | None = None, store: dist.Store | None = None) -> Iterator[Ranks]:
    """Joins the process group of `torchrun` for the length of a `with` block, and leaves it.

    Without `torchrun` the group is this process alone. An exception that leaves the block reaches every rank: each of the others
    raises `RankError` with its text, and none keeps waiting.

    Args:
        timeout: seconds that a rank waits for another one, from the start on, before all give up.
        backend: as for `torch.distributed.init_process_group`. By default "gloo"; with a GPU for every process of the machine
            "cpu:gloo,cuda:nccl".
        store: a `torch.distributed.Store` instead of the one that `torchrun` names in the environment.

    Returns:
        A context manager that gives the `Ranks` of the group.

    Raises:
        RuntimeError: this build of torch has no `torch.distributed`.
        ValueError: `timeout` is not greater than 0.
        RankError: the group did not start, or another rank failed.

    Example:
        >>> with ranks() as group:
        ...     group.rank, group.size
        (0, 1)
    """
    if not dist.is_available():
        raise RuntimeError("this build of torch has no torch.distributed; install torch from PyPI to split time.")
    if not timeout > 0:
        raise ValueError(f"timeout must be seconds greater than 0, but got {timeout!r}.")
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    a_gpu_each = gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    backend = backend or ("cpu:gloo,cuda:nccl" if gpus and a_gpu_each and dist.is_nccl_available() else "gloo")
    hook = sys.excepthook
    if "RANK" in os.environ:
        remove_torchrun_folders_at_exit()
        try:
            start(backend, timeout, store, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        except StartError as error:
            sys.excepthook = hook
            remove_torchrun_folders_at_exit(failed=True)
            raise RankError(f"{error}; all ranks stop.", error.rank) from error
    else:
        with default_variable(GLOO, LOOPBACK):
            dist.init_process_group(
                backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=timeout)
            )
    group = Ranks(timeout=timeout)
    try:
        yield group
        for each in list(INSTANCES):  # messages under way must arrive before the group is gone
            each.wait_sent()
    except BaseException as error:
        group.fail(error)
        raise
    finally:
        sys.excepthook = hook  # torch's own puts the rank before every line of later errors
        with suppress(Exception):  # after a failure it may refuse
            dist.destroy_process_group()


@contextmanager
def default_variable(name: str, value: str | None) -> Iterator[None]:
    """Sets an environment variable for the length of the block, unless it is set already."""
    given = name in os.environ or value is None
    if not given:
        os.environ[name] = str(value)
    try:
        yield
    finally:
        if not given:
            del os.environ[name]


class Ranks:
    """This process as one rank of a process group, in the order of time: rank 0 has the first time steps.

    Args:
        group: a `torch.distributed` process group that contains this process, or None for the default group.
        timeout: seconds to wait for another rank; by default that of the enclosing `ranks`.

    Attributes:
        rank: the number of this process within the group, from 0.
        size: the number of processes in the group.

    Raises:
        RuntimeError: no process group was started.
        ValueError: this process is not in `group`.

    Example:
        >>> with ranks() as group:
        ...     group.first, group.last, group.all_gather([7])
        (True, True, [[7]])
    """

    def __init__(self, group: dist.ProcessGroup | None = None, *, timeout: float | None = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "there is no group of processes yet: start the script with torchrun, and work within "
                "`with timesplit.ranks():` (or call torch.distributed.init_process_group)."
            )
        world = dist.group.WORLD
        assert world is not None
        self.group = world if group is None else group
        self.rank, self.size = dist.get_rank(self.group), dist.get_world_size(self.group)
        if self.rank < 0:
            raise ValueError("group must contain this process; make one for every row of processes (see DeviceMesh).")
        self.recorder: Any = None  # an `events.Recorder`, notified of every wait
        self._under_way: list[tuple[Any, Tensor]] = []
        self.timeout: float | None = timeout or next((each.timeout for each in INSTANCES if each.group is world), None)
        if self.timeout is not None and self.group is not world:  # the groups of a DeviceMesh have torch's 30 minutes
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=self.timeout), self.group)
        INSTANCES.add(self)
        backends = dict(pair.split(":") for pair in dist.get_backend_config(self.group).split(","))
        self._gloo = {device for device, backend in backends.items() if backend == "gloo"}
        self.control = torch.device("cpu") if "cpu" in backends else torch.device("cuda", torch.cuda.current_device())

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which has the first time steps."""
        return self.rank == 0

    @property
    def last(self) -> bool:
        """Whether this is the rank with the last time steps."""
        return self.rank == self.size - 1

    @property
    def device(self) -> torch.device:
        """Where this rank computes: its GPU, or the CPU."""
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    def posts_early(self, device: torch.device) -> bool:
        """Whether receives may be posted ahead of time: gloo matches them by tag, NCCL in the order in which they are posted."""
        return device.type in self._gloo

    def next_pass(self) -> int:
        """The number of a new pass, counted over the whole group, so that no two passes use the same tags."""
        PASS_COUNTS[self.group] = PASS_COUNTS.get(self.group, 0) + 1
        return PASS_COUNTS[self.group]

    # Point-to-point messages; a tag identifies each.

    def isend(self, tensor: Tensor, to: int, tag: int) -> None:
        """Sends without waiting for the arrival; the tensor must not change before `wait_sent`."""
        with self._translated(f"rank {to} to take a message"):
            tensor = tensor.detach().to(self._transport(tensor.device)).contiguous()
            work = self.group.send([tensor], to, tag % CLOSING_TAG)
            self._under_way.append((work, tensor))  # keeps the memory alive until it is sent

    def irecv(self, source: int, tag: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Receive:
        """Posts a receive, and returns its work handle. gloo transfers nothing before it is posted: the earlier the better."""
        with self._translated(f"a message of rank {source}"):
            buffer = torch.empty(tuple(shape), dtype=dtype, device=self._transport(device))
            work = self.group.recv([buffer], source, tag % CLOSING_TAG)
            return Receive(self, work, buffer, device)

    def wait_sent(self) -> None:
        """Waits until all messages of this rank have arrived."""
        with self._translated("its messages to arrive"):
            for work, _ in self._under_way:
                self.wait(work)
        self._under_way.clear()

    def wait(self, work: Any) -> None:
        """Waits for one work handle. Without an explicit timeout gloo would wait as long as its start was allowed to take."""
        work.wait(*([] if self.timeout is None else [timedelta(seconds=self.timeout)]))

    def _transport(self, device: torch.device) -> torch.device:
        """Where a message must lie: gloo sends from the host's memory only."""
        return torch.device("cpu") if device.type in self._gloo else device

    # Collectives.

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        """The sum over all ranks, the same bits on each of them. `what` names the wait in errors and events."""
        with self._translated(what), self._recorded(what):
            total = tensor.detach().to(self._transport(tensor.device), copy=True, memory_format=torch.contiguous_format)
            dist.all_reduce(total, group=self.group)
            return total.to(tensor.device)

    def all_gather(self, numbers: Sequence[int]) -> list[list[int]]:
        """The whole numbers of every rank, in the order of the ranks; each must give equally many."""
        with self._translated("the other ranks to begin"), self._recorded("the other ranks to begin"):
            own = torch.tensor(numbers, dtype=torch.int64, device=self.control)
            gathered = [torch.empty_like(own) for _ in range(self.size)]
            dist.all_gather(gathered, own, group=self.group)
            return [each.tolist() for each in gathered]

    def all_gather_object(self, value: Any) -> list[Any]:
        """The (picklable) value of every rank, in the order of the ranks."""
        with self._translated("the other ranks to begin"):
            values: list[Any] = [None] * self.size
            dist.all_gather_object(values, value, group=self.group)
            return values

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites these tensors on every rank with the values that rank 0 has."""
        with self._translated("rank 0's weights"):
            for tensor in tensors:
                moved = tensor.detach().to(self._transport(tensor.device)).contiguous()
                dist.broadcast(moved, dist.get_global_rank(self.group, 0), group=self.group)
                tensor.copy_(moved)

    # Failures.

    def fail(self, error: BaseException) -> None:
        """Publishes this rank's error to all ranks, and closes its connections."""
        if not isinstance(error, RankError):  # that one has been published already
            text = str(error).strip().splitlines() or [""]
            self._publish(dist.get_rank(), f"{type(error).__name__}: {text[0]}".rstrip(": "))
        close_connections()
        remove_torchrun_folders_at_exit(failed=True)

    def _recorded(self, what: str) -> Any:
        return nullcontext() if self.recorder is None else self.recorder.waiting(what)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turns the error of a broken connection into a `RankError` with the reason, and closes this rank's connections too."""
        try:
            yield
        except RankError:
            raise
        except (RuntimeError, ValueError) as error:  # torch raises ValueError for a group that is gone
            here, text = dist.get_rank() if dist.is_initialized() else self.rank, str(error)
            if late := re.search(r"Timed out waiting (\d+)ms", text) or re.search(r"timeout: (\d+)", text):
                reason = f"rank {here} waited {int(late[1]) / 1000:g} s for {what}"
            elif "onnection" in text or "Broken pipe" in text or "closed" in text:
                reason = f"a rank ended without giving a reason (was it killed?) while rank {here} waited for {what}"
            else:
                self.fail(error)
                raise
            published, culprit = self._publish(None, reason)
            close_connections()
            raise RankError(f"{published.rstrip('.')}; all ranks stop.", culprit) from error

    def _publish(self, rank: int | None, reason: str) -> tuple[str, int | None]:
        """Stores why the group fails, unless another rank has; returns the reason that is stored, and the rank that failed."""
        stored: dict[str, Any] = {"rank": rank, "reason": reason}
        with suppress(Exception):  # the store may be gone with the process that kept it
            store = dist.distributed_c10d._get_default_store()
            stored = json.loads(store.compare_set(FAILURE_KEY, "", json.dumps(stored)).decode())
        rank = stored["rank"]
        return str(stored["reason"]) if rank is None else f"rank {rank} failed: {stored['reason']}", rank


class Receive:
    """The work handle of a posted receive; `wait` returns the tensor."""

    def __init__(self, ranks: Ranks, work: Any, buffer: Tensor, device: torch.device) -> None:
        self.ranks, self.work, self.buffer, self.device = ranks, work, buffer, device

    def wait(self, what: str) -> Tensor:
        with self.ranks._translated(what), self.ranks._recorded(what):
            self.ranks.wait(self.work)
            return self.buffer.to(self.device)


def close_connections() -> None:
    """Closes the connections of this process, so that no rank waits for it.

    A group that is still referenced stays open after `destroy_process_group`. But gloo closes all connections of a group when
    one wait of it times out: so this waits a millisecond for a message that no rank sends. NCCL has `abort`.
    """
    for each in list(INSTANCES):
        each._under_way.clear()  # no rank takes them any more
    if not dist.is_initialized():
        return
    for group in list(dist.distributed_c10d._world.pg_map):
        me, size = dist.get_rank(group), dist.get_world_size(group)
        if me < 0 or size < 2:
            continue
        config = dist.get_backend_config(group)
        if "gloo" in config:
            for other in set(range(size)) - {me}:  # all of them: waiting for one that is gone already closes nothing
                with suppress(Exception):
                    group.recv([torch.zeros(1)], other, CLOSING_TAG).wait(timedelta(milliseconds=1))
        if "nccl" in config and hasattr(group, "abort"):
            with suppress(Exception):
                group.abort()
