"""The cut in time: a state provider that receives each layer's state from the rank before, and sends it to the next rank.

In the backward pass the gradient of the state crosses the cut in the other direction. Both are autograd functions around a
message: the state that comes in is the output of `ReceiveState`, whose backward sends its gradient; the state that goes out is
an input of `AttachStates`, an identity on the layer's output, whose backward waits for its gradient just before the layer needs
it.

Why it cannot deadlock: a send never waits, every wait is for a neighbour on one side only (in the forward pass for the rank
before, in the backward pass for the next one), and PyTorch's engine runs a graph in the reverse order in which it was built,
the same on all ranks.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tfexplore.machine.torch_private import backward_pass
from tfexplore.nn.checks import DTYPES, State
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.states import Passes
from tfexplore.timesplit.ranks import Ranks, Receive

HEADER = 16
"""Whole numbers in the message that describes the next one: layer, dtype, differentiable, dimensions, shape."""

MAX_CALLS = 2**13
"""Messages of one pass that tags can tell apart."""
END = "the end of the pass"


@dataclass(frozen=True)
class StateSpec:
    """What a message holds: a layer's state ("name", or "name, call 2"), its shape [STATES, B, *features], dtype and gradient."""

    layer: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    differentiable: bool

    def encode(self) -> Tensor:
        numbers = [zlib.crc32(self.layer.encode()), DTYPES.index(self.dtype), self.differentiable, len(self.shape)]
        if len(self.shape) > HEADER - len(numbers):
            raise ValueError(
                f"x must have at most {HEADER - len(numbers)} axes in a time split, but got {len(self.shape)}; flatten features."
            )
        return torch.tensor([*numbers, *self.shape] + [0] * (HEADER - len(numbers) - len(self.shape)))

    @classmethod
    def decode(cls, header: Tensor, layer: str, here: int) -> StateSpec:
        """RuntimeError if the header is of another layer than the one that this rank is at."""
        name, dtype, differentiable, axes, *shape = header.tolist()
        if name != zlib.crc32(layer.encode()):
            raise RuntimeError(
                f"rank {here} is at {layer!r}, but the rank before is elsewhere: the network must call its layers in the same "
                "order on every rank, whatever the data."
            )
        return cls(layer, tuple(shape[:axes]), DTYPES[dtype], bool(differentiable))


class Cut(Passes):
    """The state provider of one rank.

    In the first pass with inputs of a kind (shape, dtype, ...) every state is preceded by a header that describes it; the
    descriptions are kept. From the second pass on, all receives of a pass are posted at its beginning, so that messages travel
    while this rank computes.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks
        self._known: dict[Any, tuple[list[StateSpec], list[StateSpec]]] = {}  # received and sent, by the kind of input
        self._pass = 0
        self._received: Tensor | None = None  # of the layer at hand

    def begin(self, kind: Any, anchor: Tensor) -> None:
        """Before all micro-batches of a pass. anchor: makes what is received part of autograd's graph."""
        self.anchor, self._kind = anchor, kind
        self._pass = self.ranks.next_pass()
        self._first_of_kind = kind not in self._known
        self._incoming, self._outgoing = self._known.get(kind, ([], []))
        self._taken = self._sent = 0
        early = self.ranks.posts_early(anchor.device)
        self._posted = [self._post(k) for k in range(len(self._incoming))] if early else []
        self._last_gradient: GradientReceive | None = None

    def _post(self, place: int) -> Receive:
        spec = self._incoming[place]
        return self.ranks.irecv(self.ranks.rank - 1, self._tag(place), spec.shape, spec.dtype, self.anchor.device)

    def end(self) -> None:
        """After all micro-batches of a pass."""
        for specs, done in ((self._incoming, self._taken), (self._outgoing, self._sent)):
            if done < len(specs):
                raise RuntimeError(self._unlike_before(f"left out {specs[done].layer!r}"))
        if self._first_of_kind:  # the rank before has no more to send either, and the next one must not wait for more
            if not self.ranks.last:
                self._send_header(StateSpec(END, (), torch.float32, False), self._tag(self._sent))
            if not self.ranks.first:
                self._receive_header(END, self._taken)
        self._known[self._kind] = self._incoming, self._outgoing

    def _tag(self, place: int) -> int:
        return self._pass * MAX_CALLS + place

    def _send_header(self, spec: StateSpec, tag: int) -> None:
        self.ranks.isend(spec.encode().to(self.ranks.control), self.ranks.rank + 1, tag)

    def _receive_header(self, layer: str, place: int) -> StateSpec:
        header = self.ranks.irecv(self.ranks.rank - 1, self._tag(place), (HEADER,), torch.int64, self.ranks.control)
        return StateSpec.decode(header.wait(state_of(layer)), layer, self.ranks.rank)

    def name(self, layer: Stateful) -> str:
        name, call = self.key(layer)
        return name + (f", call {call + 1}" if call else "")

    def take(self, layer: Stateful) -> State | None:
        if self.ranks.first or not layer.state_names:
            return None
        name, place = self.name(layer), self._taken
        if self._first_of_kind:
            self._incoming.append(self._receive_header(name, place))
        spec = self._expected(self._incoming, place, name)
        self._taken += 1
        receive = self._posted[place] if place < len(self._posted) else self._post(place)
        if spec.differentiable:
            received: Tensor = ReceiveState.apply(self.anchor, receive, spec, self._tag(place))
            self._received = received
        else:
            received = receive.wait(state_of(name))
        return received.unbind(0)

    def leave(self, layer: Stateful, state: State, out: Tensor) -> Tensor:
        name, place = self.name(layer), self._sent
        self.called(layer)
        if not state:  # a layer without memory: nothing crosses the cut
            return out
        received, self._received = self._received, None
        if self.ranks.last:
            return out if received is None else AttachStates.apply(out, None, received, None)
        whole, tag = torch.stack(state), self._tag(place)
        spec = StateSpec(name, tuple(whole.shape), whole.dtype, whole.requires_grad and torch.is_grad_enabled())
        if self._first_of_kind:
            self._send_header(spec, tag)
            self._outgoing.append(spec)
        if spec != (expected := self._expected(self._outgoing, place, name)):
            raise RuntimeError(
                f"rank {self.ranks.rank} has a state of {name!r} of shape {spec.shape}, {spec.dtype}, gradient "
                f"{spec.differentiable}; in the first pass it was {expected.shape}, {expected.dtype}, gradient "
                f"{expected.differentiable}. Inputs of the same kind must give states of the same kind."
            )
        self._sent += 1
        self.ranks.isend(whole, self.ranks.rank + 1, tag)
        if not spec.differentiable:
            return out
        self._last_gradient = GradientReceive(self.ranks, self._last_gradient, spec, tag, whole.device)
        attached: Tensor = AttachStates.apply(out, whole, received, self._last_gradient)
        return attached

    def _expected(self, specs: list[StateSpec], place: int, name: str) -> StateSpec:
        if place >= MAX_CALLS:
            raise ValueError(
                f"net calls layers {place + 1} times in a pass, micro-batches included; at most {MAX_CALLS} can be told apart."
            )
        if place >= len(specs) or specs[place].layer != name:
            raise RuntimeError(self._unlike_before(f"called {name!r}"))
        return specs[place]

    def _unlike_before(self, what: str) -> str:
        return (
            f"rank {self.ranks.rank} {what}, unlike in the first pass: the network must call its layers in the same order "
            "every time, whatever the data."
        )


def state_of(layer: str, gradient: bool = False) -> str:
    """What a wait is for, in words."""
    return f"the {'gradient of the ' if gradient else ''}state of {layer!r}"


class RefuseRecomputation(Passes):
    """The state provider in the backward pass: activation checkpointing would run layers again, from states that are gone."""

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


class ReceiveState(torch.autograd.Function):
    """The state that the rank before has sent; its backward sends the state's gradient there."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, receive: Receive, spec: StateSpec, tag: int) -> Tensor:
        ctx.ranks, ctx.tag = receive.ranks, tag
        return receive.wait(state_of(spec.layer))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        ctx.ranks.isend(gradient, ctx.ranks.rank - 1, ctx.tag)
        return None, None, None, None


class AttachStates(torch.autograd.Function):
    """The layer's output, unchanged, with both of its states as inputs of the same node.

    Its backward waits for the gradient of the state that was sent, and gives the one that was received a gradient, if only
    zero, where the layer did not use it.
    """

    @staticmethod
    def forward(
        ctx: Any, out: Tensor, sent: Tensor | None, received: Tensor | None, gradient: GradientReceive | None
    ) -> Tensor:
        ctx.gradient, ctx.received = gradient, received
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        sent = None if ctx.gradient is None else ctx.gradient.wait()
        return g_out, sent, None if ctx.received is None else torch.zeros_like(ctx.received), None


@dataclass(eq=False)
class GradientReceive:
    """The gradient of a state that this rank has sent; while it is used, the following one is under way."""

    ranks: Ranks
    following: GradientReceive | None  # of the state sent before: backward goes from the last state to the first
    spec: StateSpec
    tag: int
    device: torch.device
    posted: Receive | None = None

    def post(self) -> Receive:
        return self.ranks.irecv(self.ranks.rank + 1, self.tag, self.spec.shape, self.spec.dtype, self.device)

    def wait(self) -> Tensor:
        receive, self.posted = self.posted or self.post(), None
        if self.following is not None and self.ranks.posts_early(self.device):
            self.following.posted = self.following.posted or self.following.post()
        return receive.wait(state_of(self.spec.layer, gradient=True))
