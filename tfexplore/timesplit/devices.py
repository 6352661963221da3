"""Time splitting in one process that sees several GPUs: no messages, the state is copied from device to device.

Each device holds what its own time steps must keep for the way back, so that a sequence fits that is too long for one. It is
not a way to be faster: on the way there, a copy waits for all that its device was given before, so the pieces run one after
the other. For speed there are processes, `TimeSplit`. (On several GPUs it is untested.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tfexplore.nn.layers import State, Stateful, check_input
from tfexplore.nn.states import States, carry
from tfexplore.timesplit import batchnorm


def on_devices(net: nn.Module, x: Tensor, devices: Sequence[torch.device | str]) -> Tensor:
    """Runs x [T, B, ...] with its time steps cut into one piece per device; the result is whole, where x is.

    Like `net(x)`, forward and backward; the weights stay where they are, and are copied to each device in every pass.

    >>> from tfexplore import LIF
    >>> net, x = nn.Sequential(nn.Linear(8, 5), LIF()), torch.rand(12, 2, 8)
    >>> torch.equal(on_devices(net, x, ["cpu", "cpu"]), net(x))      # with GPUs: ["cuda:0", "cuda:1"]
    True
    """
    check_input(x)
    places = [torch.device(device) for device in devices]
    if not 1 <= len(places) <= len(x):
        raise ValueError(f"devices must be between 1 and the {len(x)} time steps of x, but got {len(places)}.")
    if norms := batchnorm.active(net):
        raise ValueError(
            f"{next(iter(norms))!r} is a BatchNorm in training mode, which needs all of time at once; use net.eval(), or "
            "TimeSplit."
        )
    outs, states = [], Following()
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with carry(net, states):
        for piece, states.place in zip(x.tensor_split(len(places)), places, strict=True):
            there = {name: tensor.to(states.place) for name, tensor in named.items()}
            outs.append(functional_call(net, there, (piece.to(states.place),)).to(x.device))
    return torch.cat(outs)


class Following(States):
    """States that come along to the next device when their layer asks for them."""

    place: torch.device
    handed_over = False

    def take(self, layer: Stateful) -> State | None:
        state = super().take(layer)
        return None if state is None else tuple(z.to(self.place) for z in state)
