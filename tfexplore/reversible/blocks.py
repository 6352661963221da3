"""What T-RevSNN is built of: standardised convolutions, the block of two spikes, a level, the stem, the heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tfexplore.nn.wrappers import FoldTime
from tfexplore.reversible.levels import Level
from tfexplore.reversible.reading import turned_off

EPS = 1e-6
"""Keeps the standardisation of a constant weight finite; that of timm's `ScaledStdConv2d`."""


class StandardisedConv2d(nn.Conv2d):
    r"""A convolution whose weights have mean 0 and a fixed variance for each output channel, times a learned gain.

    .. math:: \hat W_c = \frac{g_c}{\sqrt n} \, \frac{W_c - \mathrm{mean}(W_c)}{\sqrt{\mathrm{var}(W_c) + 10^{-6}}}

    With n the inputs of an output, and the variance over all n (biased). So the size of the output depends on the gain and not
    on that of the weights, and no BatchNorm is needed. The sides are padded with kernel_size // 2 zeros.

    Args:
        in_channels, out_channels: how many.
        kernel_size: of its square kernel.
        stride: from one output to the next.

    Shape:
        - x: `[B, in_channels, h, w]`
        - output: `[B, out_channels, h', w']`

    Source: Qiao et al., Micro-Batch Training with Batch-Channel Normalization and Weight Standardization, 2019; with gain and
    scale: Brock et al., Characterizing signal propagation to close the performance gap in unnormalized ResNets, ICLR 2021.

    Example:
        >>> conv = StandardisedConv2d(8, 4)
        >>> [round(v, 3) for v in conv.standardised.var((1, 2, 3), correction=0).mul(8).tolist()]     # gain^2
        [1.0, 1.0, 1.0, 1.0]
    """

    deterministic = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        self.gain = nn.Parameter(torch.ones(out_channels, 1, 1, 1))

    @property
    def standardised(self) -> Tensor:
        """The weights that it convolves with."""
        inputs = self.weight.shape[1:]
        return nn.functional.layer_norm(self.weight, inputs, eps=EPS) * (self.gain * inputs.numel() ** -0.5)

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.standardised, self.bias, self.stride, self.padding)


def depthwise(channels: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)


def shrink(width: int, channels: int, kernel_size: int) -> FoldTime:
    """The second half of a block, from its width to the channels."""
    return FoldTime(StandardisedConv2d(width, channels), depthwise(channels, kernel_size))


class Block(nn.Module):
    r"""Two layers of spikes without memory, and a shortcut around them.

    .. math:: y = x + \gamma \, D_2 P_2 \, s(D_1'), \qquad D_1' = P_1 D_1 \, s(x)

    With D depth-wise convolutions, P point-wise standardised ones, to `width` channels and back.

    Args:
        channels: of x and y.
        kernel_size: of the depth-wise convolutions.
        width: channels in the middle.
        second: P_2 and D_2, which several blocks may share; None for its own, and a learned gamma for each channel, at first 1.

    Shape:
        - x: `[1, B, channels, h, w]`
        - output: the same

    Source: Hu et al., ICML 2024.

    Example:
        >>> Block(4, 3, 16)(torch.rand(1, 2, 4, 8, 8)).shape
        torch.Size([1, 2, 4, 8, 8])
    """

    def __init__(self, channels: int, kernel_size: int, width: int, second: FoldTime | None = None) -> None:
        super().__init__()
        self.spikes1, self.spikes2 = turned_off(), turned_off()
        self.first = FoldTime(depthwise(channels, kernel_size), StandardisedConv2d(channels, width))
        self.second = shrink(width, channels, kernel_size) if second is None else second
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1)) if second is None else None

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.second(self.spikes2(self.first(self.spikes1(x))))
        return x + (made if self.gamma is None else made * self.gamma)


def joined(come: int, leave: int, kernel_size: int, stride: int, *then: nn.Module) -> FoldTime:
    """From the channels of a neighbour to those of a level: convolution and BatchNorm."""
    conv = nn.Conv2d(come, leave, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return FoldTime(conv, nn.BatchNorm2d(leave), *then)


def level(number: int, channels: Sequence[int], kernel_size: int, width: int, first: bool, second: FoldTime) -> Level:
    """F of a level: neighbours, joined, then two blocks.

    Args:
        number: the level's, from 0.
        channels: of all levels.
        kernel_size, width: of its blocks, width as a multiple of its channels.
        first: whether it belongs to the first sub-network, which has nothing above.
        second: the half of the second block that all sub-networks share.
    """
    c, top = channels[number], len(channels) - 1
    down = joined(channels[number - 1], c, *((1, 1) if number == top else (3, 2))) if number else nn.Identity()
    larger = [nn.Upsample(scale_factor=2, mode="nearest")] if number < top - 1 else []
    up = None if first or number == top else joined(channels[number + 1], c, 1, 1, *larger)
    return Level(down, up, Block(c, kernel_size, width * c), Block(c, kernel_size, width * c, second))


def encoder(in_channels: int, channels: int, leave: int, stride: int) -> FoldTime:
    """The image's own features, `[T, B, leave, h, w]`: a 7 x 7 and a 3 x 3 convolution of stride 2, or one of 3 x 3.

    The published leaky ReLU between the two has slope 1, which is nothing.
    """
    if stride == 1:
        return FoldTime(StandardisedConv2d(in_channels, leave, 3))
    if stride == 4:
        return FoldTime(StandardisedConv2d(in_channels, channels, 7, 2), StandardisedConv2d(channels, leave, 3, 2))
    raise ValueError(f"stem_stride must be 1 (one 3 x 3 convolution) or 4 (7 x 7, then 3 x 3), but got {stride!r}.")


class Head(nn.Module):
    """From the top level behind a step to logits.

    Args:
        channels: of the top level.
        classes: how many.
        last: whether it is the last head, which sees spikes and has a second convolution (behind a leaky ReLU of slope 1).

    Shape:
        - top: `[B, channels, h, w]`
        - output: `[B, classes]`

    Example:
        >>> Head(8, 10, last=True)(torch.rand(2, 8, 4, 4)).shape
        torch.Size([2, 10])
    """

    def __init__(self, channels: int, classes: int, last: bool) -> None:
        super().__init__()
        self.spikes = turned_off() if last else None
        second = [StandardisedConv2d(classes, classes)] if last else []
        self.classify = nn.Sequential(StandardisedConv2d(channels, classes), *second)

    def forward(self, top: Tensor) -> Tensor:
        seen = top if self.spikes is None else self.spikes(top.unsqueeze(0)).squeeze(0)
        logits: Tensor = self.classify(seen.mean((-2, -1), keepdim=True))
        return logits.flatten(1)


@torch.no_grad()
def initialise(net: nn.Module) -> None:
    """As published: the weights of convolutions normal, of deviation 0.02, biases 0; BatchNorm 1 and 0, as torch has it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                module.bias.zero_()
