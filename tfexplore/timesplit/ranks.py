"""Who takes part: the processes ("ranks") of a torch.distributed group, what they send each other, and what is said when
one of them fails.

Nobody may wait for a rank that is gone. A rank that fails writes why into the group's store and hangs up; whoever waits for
it notices within milliseconds, reads the reason, says it, and hangs up too. A process that was killed hangs up without a
word. One that hangs is noticed after the group's timeout. So it is with gloo. With NCCL (untested) a wait is the GPU's and not
the process's, and it is NCCL's own watchdog that ends the others.
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

from tfexplore.timesplit.start import StartError, leave_no_folder, start

TIMEOUT = 60.0
"""Seconds after which a rank that hangs is given up, unless `ranks` is told otherwise."""
REASON = "tfexplore/failed"
HANG_UP = 2**30
"""A tag that no message has."""
HERE: weakref.WeakSet[Ranks] = weakref.WeakSet()
"""All of this process."""
PASSES: weakref.WeakKeyDictionary[dist.ProcessGroup, int] = weakref.WeakKeyDictionary()
GLOO, LOOPBACK = "GLOO_SOCKET_IFNAME", {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
"""The variable that tells gloo its network, and this machine's own: without it gloo looks for the machine's name, which may
not be known where there is no network."""


class RankError(RuntimeError):
    """Another rank failed, so this one cannot go on; `rank` is which, where that is known."""

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank


@contextmanager
def ranks(timeout: float = TIMEOUT, backend: str | None = None, store: Any = None) -> Iterator[Ranks]:
    """Joins the group of processes that `torchrun` started (without torchrun: a group of this process alone), and leaves it.

    timeout: seconds that any rank waits for another one before all give up, from the start on. backend: as for
    `init_process_group`; default "gloo", with a GPU for every process of the machine "cpu:gloo,cuda:nccl". store: other than
    torchrun's.

    An exception within the block is told to all ranks: each of them raises `RankError` with its text, and none waits on.

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
        leave_no_folder()
        try:
            start(backend, timeout, store, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        except StartError as error:
            sys.excepthook = hook
            leave_no_folder(failed=True)
            raise RankError(f"{error}; all ranks stop.", error.rank) from error
    else:
        with patched(GLOO, LOOPBACK):
            dist.init_process_group(
                backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=timeout)
            )
    group = Ranks(timeout=timeout)
    try:
        yield group
        for each in list(HERE):  # what is under way must arrive
            each.sent()
    except BaseException as error:
        group.fail(error)
        raise
    finally:
        sys.excepthook = hook  # torch has put the rank before every line of later errors
        with suppress(Exception):  # after a failure it may refuse
            dist.destroy_process_group()


@contextmanager
def patched(name: str, value: str | None) -> Iterator[None]:
    """Within this block the environment has this variable, unless it has it already."""
    given = name in os.environ or value is None
    if not given:
        os.environ[name] = str(value)
    try:
        yield
    finally:
        if not given:
            del os.environ[name]


class Ranks:
    """This process among the ranks of a group: `rank` of `size`, in the order of time.

    group: a torch.distributed group, or None for all processes. timeout: of `ranks`, unless another is given here.
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
        self.watch: Any = None  # a record of what ran (`record.py`), told of every wait
        self._under_way: list[tuple[Any, Tensor]] = []
        self.timeout: float | None = timeout or next((each.timeout for each in HERE if each.group is world), None)
        if self.timeout is not None and self.group is not world:  # the groups of a DeviceMesh have torch's 30 minutes
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=self.timeout), self.group)
        HERE.add(self)
        backends = dict(pair.split(":") for pair in dist.get_backend_config(self.group).split(","))
        self._gloo = {device for device, backend in backends.items() if backend == "gloo"}
        self.control = torch.device("cpu") if "cpu" in backends else torch.device("cuda", torch.cuda.current_device())

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def last(self) -> bool:
        return self.rank == self.size - 1

    def early(self, device: torch.device) -> bool:
        """Whether doors may be opened early. NCCL takes messages in the order in which they are asked for, gloo in any."""
        return device.type in self._gloo

    def next_pass(self) -> int:
        """The number of this pass among all of this group, so that no two use the same tags."""
        PASSES[self.group] = PASSES.get(self.group, 0) + 1
        return PASSES[self.group]

    @property
    def device(self) -> torch.device:
        """Where this rank computes: its GPU, or the CPU."""
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    # Messages from one rank to another; a tag says which it is.

    def send(self, tensor: Tensor, to: int, tag: int) -> None:
        """Sends without waiting for the arrival; the tensor must not change until `sent`."""
        with self._explained(f"rank {to} to take a message"):
            tensor = tensor.detach().to(self._transit(tensor.device)).contiguous()
            work = self.group.send([tensor], to, tag % HANG_UP)
            self._under_way.append((work, tensor))  # the memory must stay until it is gone

    def await_from(
        self, source: int, tag: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> Coming:
        """Opens the door for a message: gloo transfers nothing before, so the earlier the better."""
        with self._explained(f"a message of rank {source}"):
            memory = torch.empty(tuple(shape), dtype=dtype, device=self._transit(device))
            work = self.group.recv([memory], source, tag % HANG_UP)
            return Coming(self, work, memory, device)

    def sent(self) -> None:
        """Waits until all messages have arrived."""
        with self._explained("its messages to arrive"):
            for work, _ in self._under_way:
                self.wait(work)
        self._under_way.clear()

    def wait(self, work: Any) -> None:
        """For the arrival of one message. Told how long: else gloo waits as long as its start was allowed to take."""
        work.wait(*([] if self.timeout is None else [timedelta(seconds=self.timeout)]))

    def _transit(self, device: torch.device) -> torch.device:
        """gloo sends from the host's memory only."""
        return torch.device("cpu") if device.type in self._gloo else device

    # What all ranks do together.

    def sum(self, tensor: Tensor, what: str) -> Tensor:
        """The sum over all ranks, the same bits on each of them."""
        with self._explained(what), self._watched(what):
            total = tensor.detach().to(self._transit(tensor.device), copy=True, memory_format=torch.contiguous_format)
            dist.all_reduce(total, group=self.group)
            return total.to(tensor.device)

    def gather(self, row: Sequence[int]) -> list[list[int]]:
        """Everybody's row of whole numbers, in the order of the ranks."""
        with self._explained("the other ranks to begin"), self._watched("the other ranks to begin"):
            own = torch.tensor(row, dtype=torch.int64, device=self.control)
            rows = [torch.empty_like(own) for _ in range(self.size)]
            dist.all_gather(rows, own, group=self.group)
            return [r.tolist() for r in rows]

    def gather_objects(self, value: Any) -> list[Any]:
        """Everybody's value, in the order of the ranks."""
        with self._explained("the other ranks to begin"):
            values: list[Any] = [None] * self.size
            dist.all_gather_object(values, value, group=self.group)
            return values

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Gives every rank the values that rank 0 has."""
        with self._explained("rank 0's weights"):
            for tensor in tensors:
                moved = tensor.detach().to(self._transit(tensor.device)).contiguous()
                dist.broadcast(moved, dist.get_global_rank(self.group, 0), group=self.group)
                tensor.copy_(moved)

    # When something goes wrong.

    def fail(self, error: BaseException) -> None:
        """Tells all ranks what went wrong here, and hangs up."""
        if not isinstance(error, RankError):  # that one has been told already
            text = str(error).strip().splitlines() or [""]
            self._tell(dist.get_rank(), f"{type(error).__name__}: {text[0]}".rstrip(": "))
        hang_up()
        leave_no_folder(failed=True)

    def _watched(self, what: str) -> Any:
        return nullcontext() if self.watch is None else self.watch.waiting(what)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turns the error of a broken connection into what happened, and passes the news on by hanging up."""
        try:
            yield
        except RankError:
            raise
        except (RuntimeError, ValueError) as error:  # torch says ValueError of a group that is gone
            here, text = dist.get_rank() if dist.is_initialized() else self.rank, str(error)
            if late := re.search(r"Timed out waiting (\d+)ms", text) or re.search(r"timeout: (\d+)", text):
                reason = f"rank {here} waited {int(late[1]) / 1000:g} s for {what}"
            elif "onnection" in text or "Broken pipe" in text or "closed" in text:
                reason = f"a rank ended without a word (was it killed?), when rank {here} waited for {what}"
            else:
                self.fail(error)
                raise
            told, culprit = self._tell(None, reason)
            hang_up()
            raise RankError(f"{told.rstrip('.')}; all ranks stop.", culprit) from error

    def _tell(self, rank: int | None, reason: str) -> tuple[str, int | None]:
        """Writes down why the group fails, unless that has been done; says what is written there, and which rank it was."""
        said: dict[str, Any] = {"rank": rank, "reason": reason}
        with suppress(Exception):  # the store may be gone with the process that kept it
            store = dist.distributed_c10d._get_default_store()
            said = json.loads(store.compare_set(REASON, "", json.dumps(said)).decode())
        rank = said["rank"]
        return str(said["reason"]) if rank is None else f"rank {rank} failed: {said['reason']}", rank


class Coming:
    """A message that will come; `wait` gives it."""

    def __init__(self, ranks: Ranks, work: Any, memory: Tensor, device: torch.device) -> None:
        self.ranks, self.work, self.memory, self.device = ranks, work, memory, device

    def wait(self, what: str) -> Tensor:
        with self.ranks._explained(what), self.ranks._watched(what):
            self.ranks.wait(self.work)
            return self.memory.to(self.device)


def hang_up() -> None:
    """Closes the connections of this process, so that nobody waits for it.

    A group that is still referred to stays open after `destroy_process_group`. But gloo closes all connections of a group
    when one wait of it runs out of time: so we wait a millisecond for a message that nobody sends. NCCL has `abort`.
    """
    for each in list(HERE):
        each._under_way.clear()  # nobody takes them any more
    if not dist.is_initialized():
        return
    for group in list(dist.distributed_c10d._world.pg_map):
        me, size = dist.get_rank(group), dist.get_world_size(group)
        if me < 0 or size < 2:
            continue
        config = dist.get_backend_config(group)
        if "gloo" in config:
            for other in set(range(size)) - {me}:  # all of them: asking one that is gone already closes nothing
                with suppress(Exception):
                    group.recv([torch.zeros(1)], other, HANG_UP).wait(timedelta(milliseconds=1))
        if "nccl" in config and hasattr(group, "abort"):
            with suppress(Exception):
                group.abort()
