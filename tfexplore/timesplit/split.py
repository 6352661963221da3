"""An ordinary network, split in time: each rank runs its own time steps, and hidden states cross the cuts."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.func import functional_call

from tfexplore.machine.torch_private import after_backward
from tfexplore.neurons.parameters import checked_count
from tfexplore.nn.checks import DTYPES, check_input
from tfexplore.nn.layers import Layer
from tfexplore.nn.schedules import active_batch_norms
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.states import attached, stateful
from tfexplore.timesplit import batchnorm
from tfexplore.timesplit.collectives import replicate, total
from tfexplore.timesplit.cut import Cut, RefuseRecomputation
from tfexplore.timesplit.ranks import RankError, Ranks

AXES = 8
"""The most axes of x, which the ranks compare."""


class TimeSplit(nn.Module):
    r"""Runs a network with its time steps split over ranks: each rank gives its own time steps, and gets theirs back.

    Rank p runs the steps :math:`t_p \le t < t_{p+1}` of every layer, from the hidden state at :math:`t_p` that rank p - 1
    sends; in the backward pass it sends the gradient of that state back. With :math:`L` layers the ranks work as a wavefront,
    :math:`L + P - 1` turns long.

    The loss sees all time steps: `whole(out)` [T, B, ...], `mean(out)` and `last(out)` [B, ...], `total(part of a loss)`. All
    ranks must compute the same loss from them and call `backward`; then every rank has the gradients of one process, those of
    the weights summed over the ranks. BatchNorm in training mode takes its statistics over all ranks. Dropout draws other
    numbers on each rank, while the ranks' generators stay in step. A gradient for x is that of this rank's time steps.

    Checkpoints are those of one process: `split.net.state_dict()`, the same on all ranks, loads with any number of them.

    Args:
        net: any network that remembers the past in this library's layers only, and mixes time steps nowhere else. It starts
            with rank 0's weights on every rank.
        micro_batches: the batch is cut into this many parts, which follow each other: the more there are, the less the ranks
            wait for each other at the beginning and at the end (the bubble).
        ranks: a `Ranks`, a one-dimensional `torch.distributed.device_mesh.DeviceMesh` (`mesh["time"]`), or None for the default
            group.

    Shape:
        - Input: `[T_p, B, *features]`, this rank's time steps: `split.segment(x)`
        - Output: `[T_p, B, *]`, of the same time steps

    Raises:
        ValueError: the network, the input or the ranks' agreement does not allow a split; the message names what to change.
        RankError: another rank failed; then no rank keeps waiting.
        RuntimeError: the layers are called in another order than in the first pass, or again in the backward pass.

    Example:
        >>> from tfexplore import LIF, timesplit
        >>> with timesplit.ranks():                    # torchrun --nproc-per-node 4 starts four of this script
        ...     split = TimeSplit(nn.Sequential(nn.Linear(8, 5), LIF()))
        ...     x = torch.rand(12, 2, 8)               # the same on every rank
        ...     rate = split.mean(split(split.segment(x)))
        ...     rate.sum().backward()
        >>> rate.shape, split.net[0].weight.grad.shape
        (torch.Size([2, 5]), torch.Size([5, 8]))
    """

    def __init__(self, net: nn.Module, *, micro_batches: int = 1, ranks: Ranks | DeviceMesh | None = None) -> None:
        super().__init__()
        checked_count("micro_batches", micro_batches)
        for layer in stateful(net):
            if not layer.alike:
                raise ValueError(
                    f"a time split sends the states of a layer as one tensor, but those of a {type(layer).__name__} have shapes "
                    "of their own; train it in one process, with keep='bits' or 'last'."
                )
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
        self.cut, self._refusing = Cut(self.ranks), RefuseRecomputation(self.ranks)
        self._guarded: list[Stateful] = []  # the layers whose provider is `_refusing`, in the backward pass
        self._check_same_network()
        with torch.no_grad():
            self.ranks.broadcast_([*net.parameters(), *net.buffers()])

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a TimeSplit belongs to its group of processes; copy or save its network instead: split.net.")

    def segment(self, x: Tensor) -> Tensor:
        """The time steps of this rank, from the whole x [T, B, ...]; where T does not divide, the first ranks have one more.

        Raises:
            ValueError: x has fewer time steps than there are ranks.
        """
        check_input(x)
        if len(x) < self.ranks.size:
            raise ValueError(
                f"x must have at least one time step for each of the {self.ranks.size} ranks, but has {len(x)}; start "
                "fewer ranks."
            )
        return x.tensor_split(self.ranks.size)[self.ranks.rank]

    def forward(self, x: Tensor) -> Tensor:
        self._end_backward()  # of a backward pass that was not finished
        self.steps, kind, seed = self._agree(x)
        try:
            with self._own_random_numbers(x, seed):
                return self._run(x, kind)
        except BaseException as error:  # whatever it is: the others must not wait for this rank
            self.ranks.fail(error)
            raise

    def _run(self, x: Tensor, kind: Any) -> Tensor:
        named = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        layers, outs = stateful(self.net), []
        with ExitStack() as undo:
            undo.enter_context(attached(self.net, "provider", self.cut, layers, [self.cut]))
            undo.enter_context(refuse_given_states(layers))
            undo.enter_context(batchnorm.synchronised(self.net, self.ranks))
            self.ranks.wait_sent()  # of a pass without a backward pass
            self.cut.know(self.net)
            anchor, x, parameters = replicate(self.ranks, x, list(named.values()), self._end_backward)
            self.cut.begin(kind, anchor if anchor.device == x.device else anchor.to(x.device))
            for k, part in enumerate(x.tensor_split(self.micro_batches, 1)):
                if self.ranks.recorder is not None:
                    self.ranks.recorder.part = k
                out = functional_call(self.net, dict(zip(named, parameters, strict=True)), (part,))
                if not isinstance(out, Tensor) or out.shape[:2] != part.shape[:2]:
                    raise ValueError(
                        "net must return a tensor with time first, [T, B, ...]; reduce over time with split.mean or split.last."
                    )
                outs.append(out)
            self.cut.end()
        out = outs[0] if len(outs) == 1 else torch.cat(outs, 1)
        if out.requires_grad:
            out.register_hook(self._begin_backward)
        return out

    def _begin_backward(self, _: Tensor) -> None:
        for layer in stateful(self.net):
            if layer.provider is None:
                layer.provider = self._refusing
                self._guarded.append(layer)
        # wherever the backward pass ends: autograd.grad may stop it in the middle of the network
        after_backward(self._end_backward)

    def _end_backward(self) -> None:
        if self.ranks.recorder is not None:
            self.ranks.recorder.switch(None, "")
        for layer in self._guarded:
            layer.provider = None
        self._guarded = []

    @contextmanager
    def _own_random_numbers(self, x: Tensor, seed: int) -> Iterator[None]:
        """Other random numbers on each rank (Dropout), while their generators stay in step: the data may be drawn from them."""
        if self.ranks.size == 1:
            yield
            return
        with torch.random.fork_rng([x.device.index] if x.is_cuda else []):
            torch.manual_seed(seed + self.ranks.rank)
            yield

    # What a loss is computed from: the same on every rank.

    def whole(self, out: Tensor) -> Tensor:
        """The outputs of all time steps [T, B, ...], on every rank; `out` is what this rank's last pass returned."""
        before, after = self._steps_around(out)
        parts = [out.new_zeros((before, *out.shape[1:])), out, out.new_zeros((after, *out.shape[1:]))]
        return total(self.ranks, torch.cat(parts))

    def mean(self, out: Tensor) -> Tensor:
        """The mean over all time steps [B, ...], on every rank: the firing rate, for spikes."""
        self._steps_around(out)
        return total(self.ranks, out.sum(0)) / sum(self.steps)

    def last(self, out: Tensor) -> Tensor:
        """The output of the last of all time steps [B, ...], on every rank."""
        self._steps_around(out)
        return total(self.ranks, out[-1] if self.ranks.last else out[-1] * 0)

    def total(self, part: Tensor) -> Tensor:
        """The sum over the ranks, of counts or of parts of a loss.

        Each part must be computed from this rank's `out`, if only as `out.sum() * 0`, so that every rank has a backward pass.
        """
        return total(self.ranks, part)

    def _steps_around(self, out: Tensor) -> tuple[int, int]:
        """How many time steps come before those of this rank, and after them."""
        before, own = sum(self.steps[: self.ranks.rank]), self.steps[self.ranks.rank] if self.steps else None
        if own is None or len(out) != own:
            raise ValueError(
                f"out must be what this rank's last pass gave, with {own} time steps, but got shape {tuple(out.shape)}."
            )
        return before, sum(self.steps) - before - own

    # Before anything is sent, all ranks check that they are about to do the same.

    def _check_same_network(self) -> None:
        lines = [f"{name!r}, {type(module).__name__}" for name, module in self.net.named_modules()]
        lines += [
            f"the layer {name!r}, {module!r}" for name, module in self.net.named_modules() if isinstance(module, Layer)
        ]
        tensors = [*self.net.named_parameters(), *self.net.named_buffers()]
        lines += [f"{name!r}, {tuple(p.shape)} of {p.dtype}, gradient {p.requires_grad}" for name, p in tensors]
        lines.append(f"{self.micro_batches} micro-batches")
        for rank, others in enumerate(self.ranks.all_gather_object(lines)):
            if others != lines:
                pairs = zip([*lines, "nothing"], [*others, "nothing"], strict=False)
                mine, its = next(pair for pair in pairs if pair[0] != pair[1])
                raise ValueError(
                    f"all ranks must have the same network, but rank {self.ranks.rank} has {mine}, and rank {rank} has {its}."
                )

    def _check(self, x: Tensor) -> None:
        check_input(x)
        if len(x) == 0:
            raise ValueError(
                "x must have at least one time step on every rank; start fewer ranks, or see split.segment."
            )
        if x.ndim > AXES:
            raise ValueError(f"x must have at most {AXES} axes in a time split, but got {x.ndim}; flatten some.")
        if x.shape[1] < self.micro_batches:
            raise ValueError(
                f"x has a batch of {x.shape[1]}, fewer than the {self.micro_batches} micro-batches; use fewer."
            )
        norms = active_batch_norms(self.net)
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
            if not isinstance(module.provider, RefuseRecomputation | None):
                raise ValueError(
                    f"{name!r} is within a `carry`, which holds its states; time splitting needs them: leave the carry first."
                )
            if module.padding is not None:
                raise ValueError(
                    f"{name!r} is within `padded`, whose lengths count from the first time step, which only one rank has; time "
                    "splitting takes samples of one length: leave `padded` first."
                )
            if module.sink is not None and self.micro_batches > 1:
                raise ValueError(f"{name!r} is being recorded, which takes one pass at a time; use micro_batches=1.")

    def _agree(self, x: Tensor) -> tuple[tuple[int, ...], Any, int]:
        """The steps of each rank, the kind of input, and a random seed; ValueError on all ranks if they differ otherwise."""
        error: Exception | None = None
        own = [0] * (8 + AXES)
        try:
            self._check(x)
            trained = zlib.crc32(bytes(p.requires_grad for p in self.net.parameters()))
            modes = torch.is_grad_enabled(), x.requires_grad, self.net.training
            facts = [DTYPES.index(x.dtype), *modes, trained, x.ndim]
            seed = int(torch.randint(2**31, ())) if self.ranks.size > 1 else 0
            own = [len(x), *map(int, facts), *x.shape[1:], *[0] * (AXES - x.ndim + 1), seed]
        except (TypeError, ValueError) as wrong:
            error = wrong
        every = self.ranks.all_gather(own)
        if not all(each[0] for each in every):
            reasons = self.ranks.all_gather_object(None if error is None else f"{type(error).__name__}: {error}")
            if error is not None:
                raise error
            bad = next(k for k, text in enumerate(reasons) if text is not None)
            raise RankError(f"rank {bad} failed: {reasons[bad]}", bad)
        for rank, other in enumerate(every):
            if other[1:-1] != every[0][1:-1]:
                raise ValueError(
                    f"the inputs of all ranks must differ in their time steps only, but rank 0 has {_in_words(every[0])}, "
                    f"and rank {rank} has {_in_words(other)}."
                )
        return tuple(each[0] for each in every), tuple(every[0][1:-1]), every[0][-1]


def _in_words(numbers: list[int]) -> str:
    """What `TimeSplit._agree` has gathered from one rank."""
    _, dtype, enabled, requires, training, trained, axes, *rest = numbers
    kind = str(DTYPES[dtype]).removeprefix("torch.")
    words = [f"{kind} of shape [T, {', '.join(map(str, rest[: axes - 1]))}]"]
    words += ["without gradients"] * (not enabled) + ["x with gradient"] * requires
    mode = "in training mode" if training else "in eval mode"
    return ", ".join([*words, mode, f"trained parameters {trained:08x}"])


@contextmanager
def refuse_given_states(layers: list[Stateful]) -> Iterator[None]:
    """ValueError for a layer that the network passes a state, or lengths: they would hold from the first step of every rank."""

    def refuse(module: nn.Module, args: Any, kwargs: Any) -> None:
        if kwargs.get("state") is not None or (len(args) > 1 and args[1] is not None):
            raise ValueError(
                f"net passes a {type(module).__name__} its state; in a time split the state comes from the rank before: call the "
                "layer without one."
            )
        if kwargs.get("lengths") is not None:
            raise ValueError(
                f"net passes a {type(module).__name__} lengths, which count from the first time step, which only one rank has; "
                "time splitting takes samples of one length."
            )

    with ExitStack() as undo:
        for layer in layers:
            undo.callback(layer.register_forward_pre_hook(refuse, with_kwargs=True).remove)
        yield
