"""Modules around layers and networks: stateless modules over all time steps at once, and feedback from step to step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfexplore.backends.torch_reference import one_by_one
from tfexplore.nn.layers import Layer, State, Stateful, check_input, check_state, state_dtype


def refuse_state(module: nn.Module, who: str) -> None:
    for name, part in module.named_modules():
        if isinstance(part, Stateful):
            what = f"{name!r} is" if name else "this is"
            raise ValueError(f"{who} takes stateless modules, but {what} a {type(part).__name__} with a state.")


class FoldTime(nn.Sequential):
    """Runs stateless modules over T*B: x [T, B, ...] -> fold -> modules -> [T, B, ...].

    >>> FoldTime(nn.Conv2d(1, 4, 3))(torch.zeros(5, 2, 1, 8, 8)).shape
    torch.Size([5, 2, 4, 6, 6])
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        refuse_state(self, "FoldTime")

    def forward(self, input: Tensor) -> Tensor:
        check_input(input)
        folded = super().forward(input.flatten(0, 1))
        return folded.unflatten(0, input.shape[:2])


class Recurrent(Stateful):
    """A layer whose spikes come back as input one step later: x[t] + feedback(s[t-1]).

    It can only be walked step by step, whatever the schedule: s[t-1] must be known before step t begins. Its state is
    the layer's, then the last spikes.

    >>> from tfexplore.nn.layers import LIF
    >>> net = Recurrent(LIF(), nn.Linear(4, 4))
    >>> net(torch.zeros(3, 2, 4)).shape
    torch.Size([3, 2, 4])
    """

    feeds_back = True  # no schedule may walk it layer by layer

    def __init__(self, layer: Layer, feedback: nn.Module) -> None:
        super().__init__()
        if not isinstance(layer, Layer):
            raise TypeError(f"Recurrent takes a spiking layer first, but got {type(layer).__name__}.")
        refuse_state(feedback, "Recurrent's feedback")
        self.layer, self.feedback = layer, feedback

    @property
    def state_names(self) -> tuple[str, ...]:
        return (*self.layer.state_names, "last spikes")

    def run(self, x: Tensor, state: State | None, want_state: bool = True) -> tuple[Tensor, State]:
        if state is None:
            inner, s = None, x.new_zeros(x.shape[1:])
        else:
            check_state(state[-1:], ("last spikes",), x, state_dtype(x.dtype))
            inner, s = state[:-1], state[-1]
        if len(x) == 0:
            out, inner = self.layer.run(x, inner)
            return out, (*inner, s)
        outs = []
        for x_t in one_by_one(x.split(1)):
            # `run` and not a call: the layer's state is this module's business, not the provider's
            out, inner = self.layer.run(x_t + self.feedback(s.to(x.dtype).unsqueeze(0)), inner)
            s = out[0].to(inner[0].dtype)
            outs.append(out)
        assert inner is not None
        return torch.cat(outs), (*inner, s)
