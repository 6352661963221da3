"""Stateless modules over all time steps at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from tfexplore.nn.checks import check_input
from tfexplore.nn.constant import once, repeated
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
    over time and batch. An input that is the same at every step, `image.expand(T, B, ...)`, goes through torch's own modules
    once, up to the first that is random or moves statistics.

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
    """Whether the module is known to give the same output for the same input, and to leave nothing behind.

    One of torch's own is, but for random ones, and those that mix samples or keep statistics; a module of the user's may be
    anything, unless it says so itself: `deterministic = True`.
    """
    if type(module) in (nn.Sequential, FoldTime):
        return all(map(is_function, module.children()))
    if getattr(module, "deterministic", False):
        return True
    known = type(module).__module__.startswith("torch.nn.modules.") and not any(module.children())
    keeps = isinstance(module, _NormBase) and (module.training or module.running_mean is None)
    mixes = 0 in (
        getattr(module, "dim", None),
        getattr(module, "start_dim", None),
    )  # samples, as nn.Softmax(dim=0) does
    return known and not (isinstance(module, RANDOM) or keeps or mixes)
