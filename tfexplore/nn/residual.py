"""Small spiking residual networks of four stages, with the two shortcuts of the literature::

    ms     y = x + BN(conv(LIF(BN(conv(LIF(x))))))     currents are added
    sew    y = x + LIF(BN(conv(LIF(BN(conv(x))))))     spikes are added

"ms": Hu, Deng, Wu, Yao and Li, "Advancing Spiking Neural Networks Toward Deep Residual Learning", IEEE TNNLS, 2024. "sew": Fang
et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021. From the second stage on, the first block halves height
and width and doubles the channels; its shortcut is then a 1 x 1 convolution with BatchNorm, in "sew" with neurons behind it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from tfexplore.neurons.parameters import checked_count
from tfexplore.nn.library import LIF
from tfexplore.nn.wrappers import FoldTime

STAGES, CLASSES = 4, 10


def conv(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> FoldTime:
    """A convolution and its BatchNorm over all time steps at once."""
    folded = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return FoldTime(folded, nn.BatchNorm2d(outputs))


class MSBlock(nn.Module):
    """Membrane shortcut: the currents of the two ways are added.

    Shape:
        - x: [T, B, inputs, height, width]
        - output: [T, B, outputs, height / stride, width / stride], rounded up
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Identity() if (inputs, stride) == (outputs, 1) else conv(inputs, outputs, stride, 1)
        self.lif1, self.conv1 = LIF(), conv(inputs, outputs, stride)
        self.lif2, self.conv2 = LIF(), conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.conv2(self.lif2(self.conv1(self.lif1(x))))
        return y


class SEWBlock(nn.Module):
    """Spike-element-wise: the spikes of the two ways are added, so that 2 means that both fired.

    Shape:
        - x: [T, B, inputs, height, width]
        - output: [T, B, outputs, height / stride, width / stride], rounded up
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential()  # the identity
        if (inputs, stride) != (outputs, 1):
            self.shortcut = nn.Sequential(OrderedDict(conv=conv(inputs, outputs, stride, 1), lif=LIF()))
        self.conv1, self.lif1 = conv(inputs, outputs, stride), LIF()
        self.conv2, self.lif2 = conv(outputs, outputs), LIF()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.lif2(self.conv2(self.lif1(self.conv1(x))))
        return y


BLOCKS: dict[str, type[nn.Module]] = {"ms": MSBlock, "sew": SEWBlock}


class Residual(nn.Sequential):
    """A convolution, four stages of blocks, the mean over each map, and a linear readout; see `residual`."""

    def __init__(self, kind: str, channels: int, blocks: int) -> None:
        widths = [channels, *(channels * 2**k for k in range(STAGES))]
        parts: dict[str, nn.Module] = {"stem": conv(1, channels)}
        if kind == "sew":
            parts["lif"] = LIF()
        for k, (inputs, outputs) in enumerate(pairwise(widths)):
            first = BLOCKS[kind](inputs, outputs, 1 + (k > 0))
            parts[f"stage{k + 1}"] = nn.Sequential(
                first, *(BLOCKS[kind](outputs, outputs, 1) for _ in range(blocks - 1))
            )
        if kind == "ms":
            parts["lif"] = LIF()
        parts["readout"] = FoldTime(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES))
        super().__init__(OrderedDict(parts))
        self.blocks = blocks

    @property
    def stage_ends(self) -> tuple[str, ...]:
        """The names of the layers of neurons at the end of each stage: the last one within its last block."""
        return tuple(f"stage{k + 1}.{self.blocks - 1}.lif2" for k in range(STAGES))


def residual(kind: str = "ms", *, channels: int = 8, blocks: int = 2, seed: int = 0) -> Residual:
    """A small spiking residual network; the same weights for the same seed.

    With two blocks in each stage, "ms" has 17 layers of neurons, as a ResNet-18, and "sew" 20: three are in shortcuts.

    Args:
        kind: "ms" adds currents, "sew" adds spikes.
        channels: maps in the first stage; each later one has twice as many.
        blocks: in each stage.
        seed: of the weights.

    Shape:
        - x: [T, B, 1, height, width]; 9 x 9 or more leave 2 x 2 in the last stage
        - output: [T, B, 10]

    Raises:
        ValueError: for another kind, or a count below one.

    Example:
        >>> net = residual("ms", channels=4)
        >>> net(torch.rand(3, 2, 1, 14, 14)).shape, net.stage_ends[0]
        (torch.Size([3, 2, 10]), 'stage1.1.lif2')
    """
    if kind not in BLOCKS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, BLOCKS))}, but got {kind!r}.")
    checked_count("channels", channels)
    checked_count("blocks", blocks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Residual(kind, channels, blocks)
