"""The cut in time: a state provider that receives each layer's state from the rank before, and sends it to the rank behind.

On the way back the gradient of the state takes the same way in the other direction. Both are autograd functions around a
message: the state that comes in is the output of `Receive`, whose backward sends its gradient; the state that goes out is
an input of `Hang`, an identity on the layer's output, whose backward waits for its gradient just before the layer needs it.

Why it cannot deadlock: a send never waits, every wait is for a neighbour on one side only (forward for the rank before,
backward for the rank behind), and PyTorch's engine runs a graph in the reverse order of its making, the same on all ranks.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tfexplore.nn.layers import DTYPES, State, Stateful
from tfexplore.nn.states import Passes
from tfexplore.nn.torch_private import backward_pass
from tfexplore.timesplit.ranks import Coming, Ranks

HEAD = 16
"""Whole numbers in the message that says what the next one is: layer, dtype, differentiable, dimensions, shape."""

MOST = 2**13
"""Messages of one pass that tags tell apart."""
END = "the end of the pass"


@dataclass(frozen=True)
class Parcel:
    """What a state is: of which layer ("name", or "name, call 2"), its shape [STATES, B, *features], dtype and gradient."""

    layer: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    differentiable: bool

    def head(self) -> Tensor:
        numbers = [zlib.crc32(self.layer.encode()), DTYPES.index(self.dtype), self.differentiable, len(self.shape)]
        if len(self.shape) > HEAD - len(numbers):
            raise ValueError(
                f"x must have at most {HEAD - len(numbers)} axes in a time split, but got {len(self.shape)}; flatten features."
            )
        return torch.tensor([*numbers, *self.shape] + [0] * (HEAD - len(numbers) - len(self.shape)))

    @classmethod
    def of(cls, head: Tensor, layer: str, here: int) -> Parcel:
        name, dtype, differentiable, axes, *shape = head.tolist()
        if name != zlib.crc32(layer.encode()):
            raise RuntimeError(
                f"rank {here} is at {layer!r}, but the rank before is elsewhere: the network must call its layers in the same "
                "order on every rank, whatever the data."
            )
        return cls(layer, tuple(shape[:axes]), DTYPES[dtype], bool(differentiable))


class Cut(Passes):
    """The state provider of one rank.

    What a message holds is sent ahead of it in the first pass with inputs of a kind (shape, dtype, ...), and remembered; from
    then on all doors of a pass are opened at its beginning, so that messages travel while this rank computes.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks
        self._known: dict[Any, tuple[list[Parcel], list[Parcel]]] = {}  # received and sent, by the kind of input
        self._pass = 0
        self._received: Tensor | None = None  # of the layer at hand

    def begin(self, kind: Any, anchor: Tensor) -> None:
        """Before all micro-batches of a pass. anchor: makes what is received part of autograd's graph."""
        self.anchor, self._kind = anchor, kind
        self._pass = self.ranks.next_pass()
        self._news = kind not in self._known
        self._incoming, self._outgoing = self._known.get(kind, ([], []))
        self._taken = self._left = 0
        self._coming = [self._open(k) for k in range(len(self._incoming))] if self.ranks.early(anchor.device) else []
        self._returns = Returns(self.ranks)

    def _open(self, place: int) -> Coming:
        parcel = self._incoming[place]
        return self.ranks.await_from(
            self.ranks.rank - 1, self._tag(place), parcel.shape, parcel.dtype, self.anchor.device
        )

    def end(self) -> None:
        """After all micro-batches of a pass."""
        for parcels, done in ((self._incoming, self._taken), (self._outgoing, self._left)):
            if done < len(parcels):
                raise RuntimeError(self._otherwise(f"left out {parcels[done].layer!r}"))
        if self._news:  # the rank before has no more to send, either, and the one behind must not wait for more
            if not self.ranks.last:
                self.ranks.send(
                    Parcel(END, (), torch.float32, False).head().to(self.ranks.control),
                    self.ranks.rank + 1,
                    self._tag(self._left),
                )
            if not self.ranks.first:
                self._head(END, self._taken)
        self._known[self._kind] = self._incoming, self._outgoing

    def _tag(self, place: int) -> int:
        return self._pass * MOST + place

    def _head(self, layer: str, place: int) -> Parcel:
        coming = self.ranks.await_from(self.ranks.rank - 1, self._tag(place), (HEAD,), torch.int64, self.ranks.control)
        return Parcel.of(coming.wait(waiting(layer)), layer, self.ranks.rank)

    def name(self, layer: Stateful) -> str:
        name, call = self.key(layer)
        return name + (f", call {call + 1}" if call else "")

    def take(self, layer: Stateful) -> State | None:
        if self.ranks.first:
            return None
        name, place = self.name(layer), self._taken
        if self._news:
            self._incoming.append(self._head(name, place))
        parcel = self._next(self._incoming, place, name)
        self._taken += 1
        coming = self._coming[place] if place < len(self._coming) else self._open(place)
        if parcel.differentiable:
            received: Tensor = Receive.apply(self.anchor, coming, parcel, self._tag(place))
            self._received = received
        else:
            received = coming.wait(waiting(name))
        return received.unbind(0)

    def leave(self, layer: Stateful, state: State, out: Tensor) -> Tensor:
        name, place = self.name(layer), self._left
        self.called(layer)
        received, self._received = self._received, None
        if self.ranks.last:
            return out if received is None else Hang.apply(out, None, received, None)
        whole, tag = torch.stack(state), self._tag(place)
        parcel = Parcel(name, tuple(whole.shape), whole.dtype, whole.requires_grad and torch.is_grad_enabled())
        if self._news:
            self.ranks.send(parcel.head().to(self.ranks.control), self.ranks.rank + 1, tag)
            self._outgoing.append(parcel)
        if parcel != (expected := self._next(self._outgoing, place, name)):
            raise RuntimeError(
                f"rank {self.ranks.rank} has a state of {name!r} of shape {parcel.shape}, {parcel.dtype}, gradient "
                f"{parcel.differentiable}; in the first pass it was {expected.shape}, {expected.dtype}, gradient "
                f"{expected.differentiable}. Inputs of the same kind must give states of the same kind."
            )
        self._left += 1
        self.ranks.send(whole, self.ranks.rank + 1, tag)
        if not parcel.differentiable:
            return out
        hung: Tensor = Hang.apply(out, whole, received, self._returns.add(parcel, tag, whole.device))
        return hung

    def _next(self, parcels: list[Parcel], place: int, name: str) -> Parcel:
        if place >= MOST:
            raise ValueError(
                f"net calls layers {place + 1} times in a pass, micro-batches included; at most {MOST} can be told apart."
            )
        if place >= len(parcels) or parcels[place].layer != name:
            raise RuntimeError(self._otherwise(f"called {name!r}"))
        return parcels[place]

    def _otherwise(self, what: str) -> str:
        return (
            f"rank {self.ranks.rank} {what} otherwise than in the first pass: the network must call its layers in the same order "
            "every time, whatever the data."
        )


def waiting(layer: str, gradient: bool = False) -> str:
    return f"the {'gradient of the ' if gradient else ''}state of {layer!r}"


class NoSecondRun(Passes):
    """The provider during the way back: activation checkpointing would run layers again, with states that are gone."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def take(self, layer: Stateful) -> None:
        if backward_pass() is not None:
            error = RuntimeError(
                "a layer runs again during the backward pass (activation checkpointing), when its state is gone; time splitting "
                "saves memory itself: use more ranks, or keep='bits'."
            )
            self.ranks.fail(error)
            raise error

    def leave(self, layer: Stateful, state: State, out: Tensor) -> Tensor:
        return out


class Receive(torch.autograd.Function):
    """The state that the rank before has sent; its backward sends the state's gradient there."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, coming: Coming, parcel: Parcel, tag: int) -> Tensor:
        ctx.ranks, ctx.tag = coming.ranks, tag
        return coming.wait(waiting(parcel.layer))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        ctx.ranks.send(gradient, ctx.ranks.rank - 1, ctx.tag)
        return None, None, None, None


class Hang(torch.autograd.Function):
    """The layer's output, unchanged, with the states hung on it: its backward waits for the gradient of the state that was sent,
    and sees to it that the one that was received gets a gradient, if only zero, where the layer did not use it."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, sent: Tensor | None, received: Tensor | None, gradient: Return | None) -> Tensor:
        ctx.gradient, ctx.received = gradient, received
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        sent = None if ctx.gradient is None else ctx.gradient.wait()
        return g_out, sent, None if ctx.received is None else torch.zeros_like(ctx.received), None


class Returns:
    """The gradients that come back to a pass, from the last to the first: while one is used, the door for the next is open."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.all: list[Return] = []

    def add(self, parcel: Parcel, tag: int, device: torch.device) -> Return:
        self.all.append(Return(self, len(self.all), parcel, tag, device))
        return self.all[-1]


@dataclass(eq=False)
class Return:
    """One of them."""

    of: Returns
    place: int
    parcel: Parcel
    tag: int
    device: torch.device
    coming: Coming | None = None

    def open(self) -> Coming:
        ranks = self.of.ranks
        return ranks.await_from(ranks.rank + 1, self.tag, self.parcel.shape, self.parcel.dtype, self.device)

    def wait(self) -> Tensor:
        coming, self.coming = self.coming or self.open(), None
        if self.place and self.of.ranks.early(self.device):
            before = self.of.all[self.place - 1]
            before.coming = before.coming or before.open()
        return coming.wait(waiting(self.parcel.layer, gradient=True))
