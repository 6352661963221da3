"""A layer that only sleeps: a stand-in for a device of its own, where a laptop has fewer cores than ranks.

Processes that share cores slow each other down; layers that sleep do not. So the schedule, the messages and the plan can be
studied with more ranks than cores. It computes nothing: the current passes through it.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from tfexplore.nn.checks import State
from tfexplore.nn.routes import state_dtype
from tfexplore.nn.stateful import Stateful


class StandIn(Stateful):
    """Returns its input after T * B * `seconds`; the backward pass takes twice as long. Its hidden state is the current's sum.

    Args:
        seconds: per sample and time step.

    Shape:
        - Input: [T, B, *features]
        - Output: as the input

    Raises:
        ValueError: `seconds` is negative or not finite.

    Example:
        >>> StandIn(seconds=0.0)(torch.ones(3, 1, 2)).shape
        torch.Size([3, 1, 2])
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be finite, from 0 on, but got {seconds!r}.")
        self.seconds = seconds
        self.gain = torch.nn.Parameter(torch.ones(()))  # something to train, so that there is a backward pass

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("sum",)

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        before = x.new_zeros(x.shape[1:], dtype=state_dtype(x.dtype)) if state is None else state[0]
        out: Tensor = Sleep.apply(x * self.gain, len(x) * x.shape[1] * self.seconds)
        return out, (before + out.sum(0),)

    def extra_repr(self) -> str:
        return f"seconds={self.seconds}"


class Sleep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seconds: float) -> Tensor:
        ctx.seconds = seconds
        time.sleep(seconds)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        time.sleep(2 * ctx.seconds)
        return gradient, None
