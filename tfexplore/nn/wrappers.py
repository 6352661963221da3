"""Modules around layers and networks: stateless modules over all time steps at once, and feedback from step to step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from tfexplore.backends.torch_reference import one_by_one
from tfexplore.nn.checks import State, check_input, check_state
from tfexplore.nn.constant import once, repeated
from tfexplore.nn.layers import Layer
from tfexplore.nn.routes import state_dtype
from tfexplore.nn.stateful import Stateful


def refuse_state(module: nn.Module, owner: str) -> None:
    """Raises ValueError if the module, or one within it, has a hidden state."""
    for name, part in module.named_modules():
        if isinstance(part, Stateful):
            what = f"{name!r} is" if name else "this is"
            raise ValueError(f"{owner} takes stateless modules, but {what} a {type(part).__name__} with a state.")


class FoldTime(nn.Sequential):
    """Runs stateless modules over all time steps at once, folded into the batch: [T, B, ...] -> [T*B, ...] -> [T, B, ...].

    For modules such as `nn.Conv2d` that admit one batch dimension only. A `BatchNorm` in training mode then takes its statistics
    over time and batch. An input that is the same at every step, `image.expand(T, B, ...)`, goes through torch's own modules once,
    up to the first that is random or moves statistics.

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
        return self.over_time(input, list(self))

    def over_time(self, x: Tensor, modules: Sequence[nn.Module]) -> Tensor:
        """These modules over all time steps; those that would compute the same at every step, once."""
        check_input(x)
        single, steps = once(x), x.shape[0]
        if single is not None:
            same = list(itertools.takewhile(is_function, modules))
            if same:
                x = repeated(folded(same, single), steps)
            modules = modules[len(same) :]
        return folded(modules, x) if modules else x


def folded(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    y = x.flatten(0, 1)
    for module in modules:
        y = module(y)
    return y.unflatten(0, x.shape[:2])


RANDOM = (_DropoutNd, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


def is_function(module: nn.Module) -> bool:
    """Whether the module is known to give the same output for the same input, and to leave nothing behind: one of torch's own,
    but for random ones, and normalisations that keep statistics. A module of the user's may be anything, unless it says so itself:
    `deterministic = True`."""
    if type(module) in (nn.Sequential, FoldTime):
        return all(map(is_function, module))  # type: ignore[arg-type]
    if getattr(module, "deterministic", False):
        return True
    known = type(module).__module__.startswith("torch.nn.modules.") and not any(module.children())
    return known and not isinstance(module, RANDOM) and not (isinstance(module, _NormBase) and module.training)


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
