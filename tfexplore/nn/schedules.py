"""Two orders in which the same network walks its (layer, time) grid::

    step by step      for every time step: all layers         one column of the grid after the other
    layer by layer    for every layer: all time steps         one row after the other; a fused kernel runs a row at once

Both give the same result as long as no layer needs a later layer's past, no layer mixes time steps, and none draws random
numbers (Dropout in training mode draws other masks in another order).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore.nn.checks import check_input
from tfexplore.nn.normalise import active
from tfexplore.nn.states import carry_on


def active_batch_norms(net: nn.Module) -> dict[str, _BatchNorm]:
    """The modules that normalise by the statistics of their input."""
    return {name: module for name, module in net.named_modules() if isinstance(module, _BatchNorm) and active(module)}


def step_by_step(net: nn.Module, x: Tensor, *, batch_norm: str = "refuse") -> Tensor:
    """Runs the network one time step at a time, every layer going on from its hidden state.

    Args:
        net: any module that maps [T, B, ...] to [T, B, ...].
        x: its input, time first.
        batch_norm: BatchNorm in training mode takes its statistics over all time steps at once, which a walk step by step
            cannot; `"refuse"` raises ValueError, `"per step"` normalises each step with its own statistics.

    Shape:
        - x: `[T, B, *features]`
        - output: [T, B, ...], as from `net(x)`

    Raises:
        ValueError: for a BatchNorm in training mode (see `batch_norm`), or a network whose output has no time axis.

    Example:
        >>> import torch, tfexplore
        >>> net, x = torch.nn.Sequential(torch.nn.Linear(4, 3), tfexplore.LIF()), torch.rand(5, 2, 4)
        >>> torch.equal(tfexplore.step_by_step(net, x), tfexplore.layer_by_layer(net, x))
        True
    """
    check_input(x)
    if batch_norm not in ("refuse", "per step"):
        raise ValueError(f"batch_norm must be 'refuse' or 'per step', but got {batch_norm!r}.")
    if batch_norm == "refuse" and (norms := active_batch_norms(net)):
        raise ValueError(
            f"{next(iter(norms))!r} is a BatchNorm in training mode: its mean and variance couple all time steps, so step by "
            "step is another computation; call net.eval(), or pass batch_norm='per step' to normalise each step by itself."
        )
    if len(x) == 0:
        return net(x)
    outs = []
    with carry_on(net):
        for x_t in x.split(1):
            out = net(x_t)
            if not isinstance(out, Tensor) or out.shape[:2] != x_t.shape[:2]:
                raise ValueError(
                    "net must return a tensor with time first, [T, B, ...]; reduce over time outside of it."
                )
            outs.append(out)
    return torch.cat(outs)


def layer_by_layer(net: nn.Module, x: Tensor) -> Tensor:
    """Runs the network one layer at a time, each over all time steps: `net(x)`, where that is possible.

    Args:
        net: any module that maps [T, B, ...] to [T, B, ...].
        x: its input, time first.

    Shape:
        - x: `[T, B, *features]`
        - output: [T, B, ...]

    Raises:
        ValueError: for a network with a `Recurrent` layer, whose step t needs the spikes of t - 1.

    Example:
        >>> import torch, tfexplore
        >>> tfexplore.layer_by_layer(torch.nn.Sequential(torch.nn.Linear(4, 3), tfexplore.LIF()), torch.rand(5, 2, 4)).shape
        torch.Size([5, 2, 3])
    """
    check_input(x)
    if name := _recurrent(net):
        raise ValueError(
            f"{name!r} feeds its spikes back to itself: step t needs the spikes of t-1, so it can only be walked step by step; "
            "use step_by_step(net, x)."
        )
    out: Tensor = net(x)
    return out


def _recurrent(net: nn.Module) -> str:
    feeds_back = (name or "the network" for name, module in net.named_modules() if getattr(module, "feeds_back", False))
    return next(feeds_back, "")
