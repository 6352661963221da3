"""BatchNorm into the layer behind it: `fuse` finds the pairs in a network's chains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tfexplore.machine.torch_private import convolved, has_hooks
from tfexplore.nn.layers import Layer
from tfexplore.nn.normalise import active, is_torchs_own, normalised
from tfexplore.nn.wrappers import FoldTime


class FusedSequential(nn.Sequential):
    """A chain in which a BatchNorm directly before a layer of neurons is part of the layer's kernel.

    The modules, and so the names in `state_dict`, are those of the `nn.Sequential` that it was made of (see `fuse`).
    """

    def forward(self, input: Tensor) -> Tensor:
        x, modules = input, list(self)
        pairs = dict(pairs_of(modules))
        asked: dict[str, _BatchNorm] = {}  # of the layer that comes next
        for place, module in enumerate(modules):
            if place in pairs and isinstance(module, FoldTime):
                front, norm = pairs[place]
                folded = in_weights(front, norm)
                x = module.over_time(x, folded or front) if front else x
                asked = {} if folded else {"batch_norm": norm}
            else:
                x, asked = module(x, **asked), {}
        return x


def pairs_of(modules: list[nn.Module]) -> Iterator[tuple[int, tuple[list[nn.Module], _BatchNorm]]]:
    """The places of `FoldTime` modules that end in a BatchNorm and stand before a layer: what is before the BatchNorm, and it."""
    for place, (module, behind) in enumerate(itertools.pairwise(modules)):
        # a subclass with a forward of its own may do more
        folds, fires = (getattr(type(each), "forward", None) for each in (module, behind))
        if folds is FoldTime.forward and fires is Layer.forward and isinstance(module, FoldTime) and len(module):
            *front, last = module
            if isinstance(last, _BatchNorm) and is_torchs_own(last) and not has_hooks(module) and not has_hooks(last):
                yield place, (front, last)


def in_weights(front: list[nn.Module], norm: _BatchNorm) -> list[nn.Module]:
    """The modules with the BatchNorm in the weights of the last, in evaluation and where that has some; else none."""
    if active(norm) or not front:
        return []
    *others, last = front
    linear = type(last) is nn.Linear or (isinstance(last, _ConvNd) and not isinstance(last, _ConvTransposeNd))
    return [*others, Folded(last, norm)] if linear and not has_hooks(last) else []


class Folded(nn.Module):
    """A linear module followed by a BatchNorm in evaluation, as one: weight scale x + (bias scale + shift)."""

    deterministic = True

    def __init__(self, linear: nn.Module, norm: _BatchNorm) -> None:
        super().__init__()
        self.parts = linear, norm  # a tuple: they belong to another module

    def forward(self, x: Tensor) -> Tensor:
        linear, norm = self.parts
        weight, bias = linear.weight, linear.bias
        assert isinstance(weight, Tensor)
        assert bias is None or isinstance(bias, Tensor)
        if x.ndim != weight.ndim:  # a linear module's channels are then along another axis than the BatchNorm's
            apart: Tensor = norm(linear(x))
            return apart
        _, centre, scale, shift = normalised(norm, weight, axis=0)  # in evaluation only the size of that axis counts
        weight = weight * scale.view(-1, *(1,) * (weight.ndim - 1)).to(weight.dtype)
        bias = shift - centre * scale if bias is None else (bias - centre) * scale + shift
        return convolved(linear, x, weight, bias.to(weight.dtype))


def fuse(net: nn.Module) -> nn.Module:
    """BatchNorms become part of the layers behind them, forward and backward.

    In every `nn.Sequential` of the network, a `FoldTime(..., BatchNorm)` directly before a layer of neurons is fused with it: in
    training mode x is read once for the statistics, and normalised as the neuron's kernel reads it; in evaluation the BatchNorm
    is in the weights of the convolution or linear module before it. The result is that of the modules apart, to rounding. A
    module with a `forward` of its own says the same by `layer(x, batch_norm=self.norm)`.

    Args:
        net: changed in place; names and parameters stay (as `nn.SyncBatchNorm.convert_sync_batchnorm` does it).

    Returns:
        The network: `net` itself, or where it is an `nn.Sequential` what takes its place.

    Raises:
        ValueError: where no BatchNorm stands directly before a layer.

    Example:
        >>> import torch
        >>> from tfexplore import LIF, FoldTime, fuse
        >>> net = torch.nn.Sequential(FoldTime(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)), LIF())
        >>> fuse(net)(torch.rand(5, 2, 1, 8, 8)).shape
        torch.Size([5, 2, 4, 6, 6])
    """
    made: dict[nn.Module, nn.Module] = {}
    fused = converted(net, made)
    if not any(isinstance(module, FusedSequential) for module in fused.modules()):
        raise ValueError(
            "no BatchNorm stands directly before a layer in a Sequential of this network: write FoldTime(..., BatchNorm) and "
            "then the layer, or call layer(x, batch_norm=norm)."
        )
    return fused


def converted(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in made:
        made[module] = module
        for name, child in module.named_children():
            setattr(module, name, converted(child, made))
        if type(module) is nn.Sequential and any(pairs_of(list(module))):
            chain = FusedSequential()
            chain.__dict__.update(module.__dict__)
            made[module] = chain
    return made[module]
