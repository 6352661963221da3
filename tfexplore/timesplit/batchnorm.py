"""BatchNorm over all time steps, when every rank has some of them: mean and variance are all-reduced.

That is a barrier: no rank passes such a layer before all have reached it, so the wavefront is gone. It is here because
networks have it, and the plan shows its cost. (torch's own SyncBatchNorm needs a GPU.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfexplore.nn.normalise import is_torchs_own, normalised
from tfexplore.nn.schedules import active_batch_norms
from tfexplore.timesplit.collectives import all_reduce
from tfexplore.timesplit.ranks import Ranks


@contextmanager
def synchronised(net: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Within this block, the BatchNorms of `net` take their statistics over all ranks, also those within a layer's kernel."""
    found = active_batch_norms(net)
    for name, module in found.items():
        if not is_torchs_own(module):
            raise ValueError(
                f"{name!r} is a {type(module).__name__} with a forward of its own, which cannot be taken over all ranks; use "
                "torch's BatchNorm, or net.eval()."
            )
    try:
        for name, module in found.items():
            module.all_reduce = OverRanks(ranks, repr(name))  # type: ignore[assignment]
            module.forward = functools.partial(normalise, module)  # type: ignore[method-assign]
        yield
    finally:
        for module in found.values():
            del module.all_reduce, module.forward  # the latter uncovers the class's own


@dataclass(frozen=True)
class OverRanks:
    """The sum of statistics over the ranks, for the BatchNorm of this name."""

    ranks: Ranks
    owner: str

    def __call__(self, statistics: Tensor) -> Tensor:
        return all_reduce(self.ranks, statistics, f"the statistics of {self.owner}")


def normalise(module: _BatchNorm, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance per channel over all ranks."""
    module._check_input_dim(x)
    x, *numbers = normalised(module, x, axis=1)
    centre, scale, shift = (each.view(-1, *(1,) * (x.ndim - 2)) for each in numbers)
    return ((x - centre) * scale + shift).to(x.dtype)
