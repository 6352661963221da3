"""BatchNorm over all time steps, when every rank has some of them: mean and variance are all-reduced.

That is a barrier: no rank passes such a layer before all have reached it, so the wavefront is gone. It is here because
networks have it, and the plan shows its cost. (torch's own SyncBatchNorm needs a GPU.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore.nn.schedules import active_batch_norms
from tfexplore.timesplit.collectives import all_reduce
from tfexplore.timesplit.ranks import Ranks

OWN = (_BatchNorm.forward, nn.SyncBatchNorm.forward)
"""The forward methods whose meaning is known; a subclass (tdBN, say) may do more."""


@contextmanager
def synchronised(net: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Within this block, the BatchNorms of `net` take their statistics over all ranks."""
    found = active_batch_norms(net)
    for name, module in found.items():
        if type(module).forward not in OWN or "forward" in vars(module):
            raise ValueError(
                f"{name!r} is a {type(module).__name__} with a forward of its own, which cannot be taken over all ranks; use "
                "torch's BatchNorm, or net.eval()."
            )
    try:
        for name, module in found.items():
            module.forward = functools.partial(normalise, module, ranks, name)  # type: ignore[method-assign]
        yield
    finally:
        for module in found.values():
            del module.forward  # uncovers the class's own


def normalise(module: _BatchNorm, ranks: Ranks, name: str, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance per channel over all ranks."""
    module._check_input_dim(x)
    kind = x.dtype
    x = x if kind == torch.float64 else x.float()  # a long sum, or a count, may not fit half precision
    what = f"the statistics of {name!r}"
    over, spread = [0, *range(2, x.ndim)], (1, -1) + (1,) * (x.ndim - 2)
    count = x.new_full((1,), x.numel() // x.shape[1])
    summed = all_reduce(ranks, torch.cat([x.sum(over), count]), what)
    count = summed[-1].detach()
    if x.numel() == x.shape[1] and count == 1:
        raise ValueError(
            f"{name!r} has one value per channel over all ranks, so no variance; give it more, or use net.eval()."
        )
    mean = summed[:-1] / count
    centred = x - mean.view(spread)
    variance = all_reduce(ranks, centred.square().sum(over), what) / count
    out = centred * torch.rsqrt(variance + module.eps).view(spread)
    if module.training and module.running_mean is not None and module.running_var is not None:
        assert module.num_batches_tracked is not None
        with torch.no_grad():
            module.num_batches_tracked += 1
            rate = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
            module.running_mean.lerp_(mean.to(module.running_mean.dtype), rate)
            module.running_var.lerp_((variance * count / (count - 1)).to(module.running_var.dtype), rate)
    if module.affine:
        out = out * module.weight.view(spread) + module.bias.view(spread)
    return out.to(kind)
