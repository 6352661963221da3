"""Time splitting in one process that sees several GPUs: no messages, the state is copied from device to device.

Each device holds what its own time steps save for the backward pass, so a sequence fits that is too long for one device. It is
not faster: in the forward pass, a copy waits for all work that its device was given before, so the segments run one after the
other. For speed there are processes, `TimeSplit`. (On several GPUs it is untested.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tfexplore.nn.checks import State, check_input
from tfexplore.nn.schedules import active_batch_norms
from tfexplore.nn.stateful import Stateful
from tfexplore.nn.states import States, carry


def on_devices(net: nn.Module, x: Tensor, devices: Sequence[torch.device | str]) -> Tensor:
    """Computes `net(x)` with one segment of the time steps per device, to save memory on each.

    Outputs and gradients are those of `net(x)`. The weights stay where they are, and are copied to each device in every pass.

    Args:
        net: a network whose only memory of the past is in this library's layers. BatchNorm must be in eval mode.
        x: the input of all time steps.
        devices: one for each segment of consecutive time steps, in order. Where T does not divide, the first have one step more.

    Shape:
        - Input: `[T, B, *features]`
        - Output: `[T, B, *]`, on the device of x

    Raises:
        TypeError: `x` is not a tensor.
        ValueError: `x` has no time axis, there are no devices or more than time steps, or a BatchNorm is in training mode.

    Example:
        >>> from tfexplore import LIF
        >>> net, x = nn.Sequential(nn.Linear(8, 5), LIF()), torch.rand(12, 2, 8)
        >>> torch.equal(on_devices(net, x, ["cpu", "cpu"]), net(x))      # with GPUs: ["cuda:0", "cuda:1"]
        True
    """
    check_input(x)
    places = [torch.device(device) for device in devices]
    if not 1 <= len(places) <= len(x):
        raise ValueError(f"devices must be between 1 and the {len(x)} time steps of x, but got {len(places)}.")
    if norms := active_batch_norms(net):
        raise ValueError(
            f"{next(iter(norms))!r} is a BatchNorm in training mode, which needs all of time at once; use net.eval(), or "
            "TimeSplit."
        )
    outs, states = [], MovingStates()
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with carry(net, states):
        for segment, states.place in zip(x.tensor_split(len(places)), places, strict=True):
            there = {name: tensor.to(states.place) for name, tensor in named.items()}
            outs.append(functional_call(net, there, (segment.to(states.place),)).to(x.device))
    return torch.cat(outs)


class MovingStates(States):
    """States that are copied to the current device when their layer takes them."""

    place: torch.device
    handed_over = False

    def take(self, layer: Stateful) -> State | None:
        state = super().take(layer)
        return None if state is None else tuple(z.to(self.place) for z in state)
