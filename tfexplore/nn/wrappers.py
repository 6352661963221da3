"""Modules around layers and networks: stateless modules over all time steps at once, and feedback from step to step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfexplore.backends.torch_reference import one_by_one
from tfexplore.nn.layers import Layer, State, Stateful, check_input, check_state, state_dtype


def refuse_state(module: nn.Module, owner: str) -> None:
    """Raises ValueError if the module, or one within it, has a hidden state."""
    for name, part in module.named_modules():
        if isinstance(part, Stateful):
            what = f"{name!r} is" if name else "this is"
            raise ValueError(f"{owner} takes stateless modules, but {what} a {type(part).__name__} with a state.")


class FoldTime(nn.Sequential):
    """Runs stateless modules over all time steps at once, folded into the batch: [T, B, ...] -> [T*B, ...] -> [T, B, ...].

    For modules such as `nn.Conv2d` that admit one batch dimension only. A `BatchNorm` in training mode then takes its statistics
    over time and batch.

    Args:
        modules: run one after the other, as in `nn.Sequential`.

    Shape:
        - x: [T, B, ...]
        - output: [T, B, ...], with the dimensions behind that the modules give

    Raises:
        ValueError: for a module with a hidden state, or an input with fewer than two dimensions.

    Example:
        >>> import torch
        >>> from tfexplore import FoldTime
        >>> FoldTime(torch.nn.Conv2d(1, 4, 3))(torch.zeros(5, 2, 1, 8, 8)).shape
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
    """A layer whose spikes return as input one step later: its current is x[t] + feedback(s[t-1]).

    It can only be walked step by step, whatever the schedule: s[t-1] must be known before step t begins. Its hidden state is
    the layer's, then the last spikes.

    Args:
        layer: a layer of neurons.
        feedback: a stateless module from the spikes to a current of the same shape, such as `nn.Linear(n, n)`.

    Shape:
        - x: `[T, B, *features]`
        - output: that of x

    Raises:
        TypeError: if `layer` is no layer of neurons.
        ValueError: if `feedback` has a hidden state.

    Example:
        >>> import torch
        >>> from tfexplore import LIF, Recurrent
        >>> net = Recurrent(LIF(), torch.nn.Linear(4, 4))
        >>> net(torch.zeros(3, 2, 4)).shape
        torch.Size([3, 2, 4])
    """

    feeds_back = True
    """No schedule may walk it layer by layer."""

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
            # `run` and not a call: this module keeps the layer's state, not the provider
            out, inner = self.layer.run(x_t + self.feedback(s.to(x.dtype).unsqueeze(0)), inner)
            s = out[0].to(inner[0].dtype)
            outs.append(out)
        assert inner is not None
        return torch.cat(outs), (*inner, s)
