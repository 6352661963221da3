"""Small networks of levels for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore import FoldTime
from tfexplore.reversible import Level, ReversibleTime, turned_off

CHANNELS = (4, 6, 8)
SIZE = 8


def conv(before: int, after: int, *, stride: int = 1, up: bool = False, norm: bool = True) -> FoldTime:
    parts: list[nn.Module] = [nn.Conv2d(before, after, 3, stride, 1, bias=not norm)]
    parts += [nn.BatchNorm2d(after)] if norm else []
    parts += [nn.Upsample(scale_factor=2)] if up else []
    return FoldTime(*parts)


def three_levels(norm: bool = True) -> list[nn.Module]:
    """Images of 3 channels, 8 x 8 -> 4 maps of 8 x 8, 6 of 4 x 4, 8 of 2 x 2."""
    a, b, c = CHANNELS
    return [
        Level(conv(3, a, norm=norm), conv(b, a, up=True, norm=norm), turned_off(), conv(a, a, norm=norm)),
        Level(conv(a, b, stride=2, norm=norm), conv(c, b, up=True, norm=norm), turned_off(), conv(b, b, norm=norm)),
        Level(conv(b, c, stride=2, norm=norm), None, turned_off(), conv(c, c, norm=norm)),
    ]


def net_of(steps: int | None = None, *, norm: bool = True, seed: int = 0, **options: Any) -> ReversibleTime:
    """Three convolutional levels; steps: with weights of their own for so many."""
    torch.manual_seed(seed)
    levels: Any = three_levels(norm) if steps is None else [three_levels(norm) for _ in range(steps)]
    return ReversibleTime(levels, CHANNELS, **options)


def dense(read: nn.Module | None = None, *, seed: int = 0, **options: Any) -> ReversibleTime:
    """Two levels of linear maps: 5 -> 8 -> 6 features."""
    torch.manual_seed(seed)
    levels = [Level(nn.Linear(5, 8), nn.Linear(6, 8), nn.Tanh()), Level(nn.Linear(8, 6), None, nn.Tanh())]
    return ReversibleTime(levels, (8, 6), read=read, **options)


def images(steps: int, batch: int = 2, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, 3, SIZE, SIZE, generator=generator).to(dtype)


def rows_of(net: ReversibleTime) -> list[list[nn.Module]]:
    steps: Any = net.steps
    return [list(row) for row in steps]


def gradients(net: nn.Module, of: str = "") -> dict[str, Tensor]:
    """By name, of the parameters whose name contains `of`."""
    return {name: p.grad.clone() for name, p in net.named_parameters() if of in name and p.grad is not None}


def projected(out: Tensor, seed: int = 2) -> Tensor:
    """A loss that gives every output a gradient of its own."""
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(out)
    return (out * weights).sum()


def far(a: Sequence[Tensor] | Tensor, b: Sequence[Tensor] | Tensor) -> float:
    """The largest difference, relative to the largest value of b."""
    pairs = zip([a] if isinstance(a, Tensor) else a, [b] if isinstance(b, Tensor) else b, strict=True)
    return max(((p - q).abs().max() / q.abs().max().clamp(min=1e-30)).item() for p, q in pairs)
