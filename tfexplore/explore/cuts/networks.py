"""What the cuts explorer trains: a small residual network on the digits, or a network of one's own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn
from torch.nn.functional import pad

from tfexplore.data import Split
from tfexplore.explore.cuts.experiment import cut_sets, weights_of
from tfexplore.explore.training.networks import own, try_out
from tfexplore.explore.training.observe import spiking
from tfexplore.nn.networks import images
from tfexplore.nn.residual import residual

NAMES = {"ms": "MS-ResNet", "sew": "SEW-ResNet"}
PICTURES = ("train_images", "test_images")


class Subject(NamedTuple):
    """What is trained: a network of one's own with the ends of its stages, or None for a built-in one; and the data."""

    own: nn.Module | None
    ends: tuple[str, ...]
    data: Split


def subject(network: str | nn.Module, ends: Sequence[str] | None, data: Sequence[object] | None, steps: int) -> Subject:
    """One of the residual networks, by its name, or a network of one's own, tried out on its data."""
    if not isinstance(network, nn.Module):
        if network not in NAMES:
            allowed = ", ".join(map(repr, NAMES))
            raise ValueError(f"network must be one of {allowed}, or a module of your own, but got {network!r}.")
        if ends is not None:
            raise ValueError(f"network={network!r} has ends of its own; give ends with a network of your own.")
        if data is None:
            return Subject(None, (), bordered())
        split = own(net := residual(network, channels=1), data)
        try_out(net, split, "fused", steps)
        return Subject(None, (), split)
    split = own(network, data)
    named: Any = getattr(network, "stage_ends", None) if ends is None else ends
    if named is None:
        raise ValueError("ends must name the layers of neurons at the ends of your network's stages, but got None.")
    cut_sets(list(spiking(network)), named)  # raises what is wrong with them
    weights_of(network)
    try_out(copy.deepcopy(network), split, "fused", steps)
    return Subject(network, tuple(named), split)


def bordered(data: Split | None = None) -> Split:
    """The digits as images [n, 1, 10, 10], with a border of zeros: so the last of four stages has 2 x 2 pixels, not one.

    >>> bordered().test_images.shape
    torch.Size([359, 1, 10, 10])
    """
    data = data or images()
    return data._replace(**{key: pad(getattr(data, key), (1, 1, 1, 1)) for key in PICTURES})
