"""An ordinary network, split in time: each rank runs its piece of the time steps, and states cross the cuts."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.func import functional_call

from tfexplore.neurons.parameters import checked_count
from tfexplore.nn.layers import DTYPES, Layer, Stateful, check_input
from tfexplore.nn.states import attached, stateful
from tfexplore.nn.torch_private import after_backward
from tfexplore.timesplit import batchnorm
from tfexplore.timesplit.cut import Cut, NoSecondRun
from tfexplore.timesplit.ranks import RankError, Ranks
from tfexplore.timesplit.sums import share, total

AXES = 8
"""Axes of x that the ranks compare."""


class TimeSplit(nn.Module):
    """Runs `net` with the time steps cut into pieces, one for each rank: this rank's piece in, this rank's piece out.

    net:            any network x [T, B, ...] -> [T, B, ...] that this library's layers give their memory of the past, and that
                    mixes time steps nowhere else. It starts with rank 0's weights on every rank.
    micro_batches:  the batch is cut into so many, which follow each other: the more, the less the ranks wait for each other at
                    the beginning and at the end (bubble).
    ranks:          `Ranks(group)`, a one-dimensional DeviceMesh (`mesh["time"]`), or None for all processes.

    Of T time steps in all, `piece(x)` is what this rank has to run. The losses see all of time: `whole(out)` [T, B, ...],
    `mean(out)` and `last(out)` [B, ...], `total(part of a loss)`. All ranks must compute the same loss from them and call
    `backward`; then every rank has the gradients of one process, those of the weights summed over the ranks. BatchNorm in
    training mode takes its statistics over all ranks. Dropout draws other numbers on each rank, while their own generators
    stay in step. A gradient for x is that of this rank's piece.

    Checkpoints are those of one process: `split.net.state_dict()`, the same on all ranks, loads with any number of them.

    >>> from tfexplore import LIF, timesplit
    >>> with timesplit.ranks():                    # torchrun --nproc-per-node 4 starts four of this script
    ...     split = TimeSplit(nn.Sequential(nn.Linear(8, 5), LIF()))
    ...     x = torch.rand(12, 2, 8)               # the same on every rank
    ...     rate = split.mean(split(split.piece(x)))
    ...     rate.sum().backward()
    >>> rate.shape, split.net[0].weight.grad.shape
    (torch.Size([2, 5]), torch.Size([5, 8]))

    Raises ValueError for what cannot be split, and `RankError` when another rank failed; then no rank waits on.
    """

    def __init__(self, net: nn.Module, *, micro_batches: int = 1, ranks: Ranks | DeviceMesh | None = None) -> None:
        super().__init__()
        checked_count("micro_batches", micro_batches)
        if isinstance(ranks, DeviceMesh):
            if ranks.ndim != 1:
                raise ValueError(
                    f"ranks must be a mesh of one dimension, but got {ranks.ndim}; name the one of time, like mesh['time']."
                )
            ranks = Ranks(ranks.get_group())
        self.net, self.micro_batches = net, micro_batches
        self.ranks = Ranks() if ranks is None else ranks
        self.steps: tuple[int, ...] = ()
        """The time steps of each rank in the last pass."""
        self.cut, self._again = Cut(self.ranks), NoSecondRun(self.ranks)
        self._guarded: list[Stateful] = []  # the layers that have `_again` for a provider
        self._same_network()
        with torch.no_grad():
            self.ranks.take_from_first([*net.parameters(), *net.buffers()])

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a TimeSplit belongs to its group of processes; copy or save its network instead: split.net.")

    def piece(self, x: Tensor) -> Tensor:
        """Of the whole x [T, B, ...], the time steps of this rank; where T does not divide, the first ranks have one more."""
        check_input(x)
        if len(x) < self.ranks.size:
            raise ValueError(
                f"x must have at least one time step for each of the {self.ranks.size} ranks, but has {len(x)} in all; start "
                "fewer ranks."
            )
        return x.tensor_split(self.ranks.size)[self.ranks.rank]

    def forward(self, x: Tensor) -> Tensor:
        self._arrived()  # of a way back that did not end
        self.steps, kind, seed = self._agree(x)
        try:
            with self._random(x, seed):
                return self._run(x, kind)
        except BaseException as error:  # whatever it is: the others must not wait for this rank
            self.ranks.fail(error)
            raise

    def _run(self, x: Tensor, kind: Any) -> Tensor:
        named = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        layers, outs = stateful(self.net), []
        with ExitStack() as undo:
            undo.enter_context(attached(self.net, "provider", self.cut, layers, [self.cut]))
            undo.enter_context(no_state_by_hand(layers))
            undo.enter_context(batchnorm.synchronised(self.net, self.ranks))
            self.ranks.sent()  # of a pass without a way back
            self.cut.know(self.net)
            anchor, x, shared = share(self.ranks, x, list(named.values()), self._arrived)
            self.cut.begin(kind, anchor if anchor.device == x.device else anchor.to(x.device))
            for k, part in enumerate(x.tensor_split(self.micro_batches, 1)):
                if self.ranks.watch is not None:
                    self.ranks.watch.part = k
                out = functional_call(self.net, dict(zip(named, shared, strict=True)), (part,))
                if not isinstance(out, Tensor) or out.shape[:2] != part.shape[:2]:
                    raise ValueError(
                        "net must return a tensor with time first, [T, B, ...]; reduce over time with split.mean or split.last."
                    )
                outs.append(out)
            self.cut.end()
        out = outs[0] if len(outs) == 1 else torch.cat(outs, 1)
        if out.requires_grad:
            out.register_hook(self._on_the_way_back)
        return out

    def _on_the_way_back(self, _: Tensor) -> None:
        for layer in stateful(self.net):
            if layer.provider is None:
                layer.provider = self._again
                self._guarded.append(layer)
        # at the end of the way, wherever that is: a gradient may be asked for in the middle
        after_backward(self._arrived)

    @contextmanager
    def _random(self, x: Tensor, seed: int) -> Iterator[None]:
        """Other random numbers on each rank (Dropout), while their generators stay in step: the data may be drawn from them."""
        if self.ranks.size == 1:
            yield
            return
        with torch.random.fork_rng([x.device.index] if x.is_cuda else []):
            torch.manual_seed(seed + self.ranks.rank)
            yield

    def _arrived(self) -> None:
        if self.ranks.watch is not None:
            self.ranks.watch.switch(None, "")
        for layer in self._guarded:
            layer.provider = None
        self._guarded = []

    # What a loss looks at: the same on every rank.

    def whole(self, out: Tensor) -> Tensor:
        """All time steps [T, B, ...], on every rank."""
        before, after = self._places(out)
        parts = [out.new_zeros((before, *out.shape[1:])), out, out.new_zeros((after, *out.shape[1:]))]
        return total(self.ranks, torch.cat(parts))

    def mean(self, out: Tensor) -> Tensor:
        """The mean over all time steps [B, ...]: the rate, for spikes."""
        self._places(out)
        return total(self.ranks, out.sum(0)) / sum(self.steps)

    def last(self, out: Tensor) -> Tensor:
        """The last of all time steps [B, ...]."""
        self._places(out)
        return total(self.ranks, out[-1] if self.ranks.last else out[-1] * 0)

    def total(self, part: Tensor) -> Tensor:
        """The sum over the ranks, of counts, or of parts of a loss: each made from this rank's `out`, if only as `out.sum() * 0`,
        so that every rank has a way back."""
        return total(self.ranks, part)

    def _places(self, out: Tensor) -> tuple[int, int]:
        """The time steps of the ranks before and behind."""
        before, own = sum(self.steps[: self.ranks.rank]), self.steps[self.ranks.rank] if self.steps else None
        if own is None or len(out) != own:
            raise ValueError(
                f"out must be what this rank's last pass gave, with {own} time steps, but got shape {tuple(out.shape)}."
            )
        return before, sum(self.steps) - before - own

    # Before anything is sent, all ranks look whether they are about to do the same.

    def _same_network(self) -> None:
        lines = [f"{name!r}, {type(module).__name__}" for name, module in self.net.named_modules()]
        lines += [
            f"the layer {name!r}, {module!r}" for name, module in self.net.named_modules() if isinstance(module, Layer)
        ]
        tensors = [*self.net.named_parameters(), *self.net.named_buffers()]
        lines += [f"{name!r}, {tuple(p.shape)} of {p.dtype}, gradient {p.requires_grad}" for name, p in tensors]
        lines.append(f"{self.micro_batches} micro-batches")
        for rank, others in enumerate(self.ranks.gather_objects(lines)):
            if others != lines:
                pairs = zip([*lines, "nothing"], [*others, "nothing"], strict=False)
                mine, its = next(pair for pair in pairs if pair[0] != pair[1])
                raise ValueError(
                    f"all ranks must have the same network, but rank {self.ranks.rank} has {mine}, and rank {rank} has {its}."
                )

    def _check(self, x: Tensor) -> None:
        check_input(x)
        if len(x) == 0:
            raise ValueError("x must have at least one time step on every rank; start fewer ranks, or see split.piece.")
        if x.ndim > AXES:
            raise ValueError(f"x must have at most {AXES} axes in a time split, but got {x.ndim}; flatten some.")
        if x.shape[1] < self.micro_batches:
            raise ValueError(
                f"x has a batch of {x.shape[1]}, fewer than the {self.micro_batches} micro-batches; ask for fewer."
            )
        norms = batchnorm.active(self.net)
        if norms and self.micro_batches > 1:
            raise ValueError(
                f"{next(iter(norms))!r} is a BatchNorm in training mode: its mean and variance couple the whole batch, so "
                "micro-batches would compute something else; use micro_batches=1, or net.eval()."
            )
        for name, module in self.net.named_modules():
            if isinstance(module, nn.RNNBase):
                raise ValueError(
                    f"{name!r} is torch's {type(module).__name__}, whose memory of the past would not cross the cuts; only this "
                    "library's layers have theirs carried over."
                )
            if not isinstance(module, Stateful):
                continue
            if not isinstance(module.provider, NoSecondRun | None):
                raise ValueError(
                    f"{name!r} is within a `carry`, which holds its states; time splitting needs them: leave the carry first."
                )
            if module.sink is not None and self.micro_batches > 1:
                raise ValueError(f"{name!r} is being recorded, which takes one pass at a time; use micro_batches=1.")

    def _agree(self, x: Tensor) -> tuple[tuple[int, ...], Any, int]:
        """The steps of each rank, the kind of input, and a random seed; ValueError on all ranks if they differ otherwise."""
        error: Exception | None = None
        row = [0] * (8 + AXES)
        try:
            self._check(x)
            trained = zlib.crc32(bytes(p.requires_grad for p in self.net.parameters()))
            modes = torch.is_grad_enabled(), x.requires_grad, self.net.training
            facts = [DTYPES.index(x.dtype), *modes, trained, x.ndim]
            seed = int(torch.randint(2**31, ())) if self.ranks.size > 1 else 0
            row = [len(x), *map(int, facts), *x.shape[1:], *[0] * (AXES - x.ndim + 1), seed]
        except (TypeError, ValueError) as wrong:
            error = wrong
        rows = self.ranks.gather(row)
        if not all(r[0] for r in rows):
            said = self.ranks.gather_objects(None if error is None else f"{type(error).__name__}: {error}")
            if error is not None:
                raise error
            bad = next(k for k, text in enumerate(said) if text is not None)
            raise RankError(f"rank {bad} failed: {said[bad]}", bad)
        for rank, other in enumerate(rows):
            if other[1:-1] != rows[0][1:-1]:
                raise ValueError(
                    f"the pieces of all ranks must differ in their time steps only, but rank 0 has {_told(rows[0])}, "
                    f"and rank {rank} has {_told(other)}."
                )
        return tuple(r[0] for r in rows), tuple(rows[0][1:-1]), rows[0][-1]


def _told(row: list[int]) -> str:
    _, dtype, enabled, requires, training, trained, axes, *rest = row
    kind = str(DTYPES[dtype]).removeprefix("torch.")
    words = [f"{kind} of shape [T, {', '.join(map(str, rest[: axes - 1]))}]"]
    words += ["without gradients"] * (not enabled) + ["x with gradient"] * requires
    mode = "in training mode" if training else "in eval mode"
    return ", ".join([*words, mode, f"trained parameters {trained:08x}"])


@contextmanager
def no_state_by_hand(layers: list[Stateful]) -> Iterator[None]:
    """A state given by hand would begin anew at every cut."""

    def refuse(module: nn.Module, args: Any, kwargs: Any) -> None:
        if kwargs.get("state") is not None or (len(args) > 1 and args[1] is not None):
            raise ValueError(
                f"net gives a {type(module).__name__} its state by hand; in a time split it comes from the rank before: call the "
                "layer without one."
            )

    with ExitStack() as undo:
        for layer in layers:
            undo.callback(layer.register_forward_pre_hook(refuse, with_kwargs=True).remove)
        yield
