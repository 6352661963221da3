"""The small networks of the course, the digits in the shape of their input, and their training."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfexplore.data import Split, currents, digits
from tfexplore.nn.library import LIF
from tfexplore.nn.wrappers import FoldTime

Walk = Callable[[nn.Module, Tensor], Tensor]

BATCH = 64
"""Images in a training step."""
RATES = {"mlp": 2e-3, "conv": 5e-3}
"""Adam's learning rate for each network."""


def mlp(hidden: int = 128, seed: int = 0) -> nn.Sequential:
    """64 pixels -> hidden spiking neurons -> hidden spiking neurons -> 10 digits; the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear1, linear2 = nn.Linear(64, hidden), nn.Linear(hidden, hidden)
        strong(linear1, 2)
        strong(linear2, 2)
        last = nn.Linear(hidden, 10)
    parts = {"linear1": linear1, "lif1": LIF(), "linear2": linear2, "lif2": LIF(), "linear3": last}
    return nn.Sequential(OrderedDict(parts))


def conv(channels: int = 16, seed: int = 0, batch_norm: bool = False) -> nn.Sequential:
    """Images of 8 x 8 -> channels spiking maps of 8 x 8 -> 2 channels spiking maps of 4 x 4 -> 10 digits.

    batch_norm: one behind each convolution.

    >>> conv()(torch.rand(5, 2, 1, 8, 8)).shape
    torch.Size([5, 2, 10])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        conv1, conv2 = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, 2 * channels, 3, padding=1)
        strong(conv1, 3)
        strong(conv2, 3)
        last = nn.Linear(2 * channels * 4 * 4, 10)
    norms = [[nn.BatchNorm2d(c)] if batch_norm else [] for c in (channels, 2 * channels)]
    parts: dict[str, nn.Module] = {
        "conv1": FoldTime(conv1, *norms[0]),
        "lif1": LIF(),
        "conv2": FoldTime(nn.AvgPool2d(2), conv2, *norms[1]),
        "lif2": LIF(),
        "linear": FoldTime(nn.Flatten(), last),
    }
    return nn.Sequential(OrderedDict(parts))


def vgg(channels: int = 8, seed: int = 0) -> nn.Sequential:
    """A small VGG: two convolutions with BatchNorm and spiking maps of 8 x 8, then two of 4 x 4 -> 10 digits.

    A plain chain of layers, where `tfexplore.nn.residual` has shortcuts. After Simonyan and Zisserman, "Very Deep Convolutional
    Networks for Large-Scale Image Recognition", ICLR 2015.

    Args:
        channels: maps of the first two layers of neurons; the other two have twice as many.
        seed: of the weights.

    Shape:
        - x: [T, B, 1, 8, 8]
        - output: [T, B, 10]

    Example:
        >>> vgg(channels=4)(torch.rand(5, 2, 1, 8, 8)).shape
        torch.Size([5, 2, 10])
    """
    parts, inputs, pool = OrderedDict[str, nn.Module](), 1, list[nn.Module]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for k, outputs in enumerate((channels, channels, 2 * channels, 2 * channels), 1):
            folded = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            parts[f"conv{k}"] = FoldTime(*pool, folded, nn.BatchNorm2d(outputs))
            parts[f"lif{k}"] = LIF()
            inputs, pool = outputs, [nn.AvgPool2d(2)] * (k == 2)
        parts["linear"] = FoldTime(nn.Flatten(), nn.Linear(2 * channels * 4 * 4, 10))
    return nn.Sequential(parts)


def strong(module: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Weights in ±gain/sqrt(inputs), `gain` times PyTorch's own: strong enough that the neurons behind them fire."""
    inputs = module.weight[0].numel()
    nn.init.uniform_(module.weight, -gain / inputs**0.5, gain / inputs**0.5)


def built_in(network: str, seed: int = 0, hidden: int = 128) -> tuple[nn.Sequential, Split]:
    """The network of this name, and the digits in the shape of its input."""
    if network not in RATES:
        allowed = ", ".join(map(repr, RATES))
        raise ValueError(f"network must be one of {allowed}, or a module of your own, but got {network!r}.")
    return (mlp(hidden, seed), digits()) if network == "mlp" else (conv(seed=seed), images())


def images(data: Split | None = None) -> Split:
    """The digits, or other square pictures, as images with one channel, [n, 1, 8, 8].

    >>> images().train_images.shape
    torch.Size([1438, 1, 8, 8])
    """
    data = data or digits()
    side = math.isqrt(data.train_images.shape[1])
    shape = (-1, 1, side, side)
    return data._replace(train_images=data.train_images.view(shape), test_images=data.test_images.view(shape))


def fit(net: nn.Module, data: Split, walk: Walk, steps: int, rate: float = 2e-3, seed: int = 0) -> Iterator[float]:
    """Trains until the caller stops, a batch at a time (Adam, cross-entropy of the mean output over time); yields the losses."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    order = torch.Generator().manual_seed(seed)
    while True:
        for batch in torch.randperm(len(data.train_labels), generator=order).split(BATCH):
            optimiser.zero_grad()
            loss = cross_entropy(walk(net, currents(data.train_images[batch], steps)).mean(0), data.train_labels[batch])
            loss.backward()
            optimiser.step()
            yield loss.item()
