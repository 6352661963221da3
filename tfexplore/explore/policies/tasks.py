"""What is trained under each policy: two networks of layers and one of reversible levels on digits, or a network of one's own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfexplore import neurons, surrogates
from tfexplore.data import Split, currents
from tfexplore.explore.policies.policies import Policy, Task, layers, reversible
from tfexplore.nn import networks
from tfexplore.nn.checks import check_input
from tfexplore.nn.wrappers import FoldTime
from tfexplore.reversible import Level, ReversibleTime

NETWORKS = {
    "levels": "reversible levels",
    "conv": "two convolutions",
    "mlp": "two dense layers",
}
CHANNELS, ALPHA, RATE = (16, 32, 64), 0.9, 5e-3


def levels(seed: int = 0, alpha: float = ALPHA) -> nn.Sequential:
    """Images of 8 x 8 -> levels of 16, 32 and 64 channels on 8 x 8, 4 x 4 and 2 x 2 -> 10 digits.

    Each level sees the one below through a convolution, and the one above, a step earlier, through one of a pixel.

    >>> levels()(torch.rand(5, 2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = []
        for k, (below, channels) in enumerate(zip((1, *CHANNELS), CHANNELS, strict=False)):
            down = nn.Conv2d(below, channels, 3, padding=1, stride=2 if k else 1)
            networks.strong(down, 1)
            up = [nn.Conv2d(CHANNELS[k + 1], channels, 1), nn.Upsample(scale_factor=2)] if k + 1 < len(CHANNELS) else []
            parts.append(Level(FoldTime(down), FoldTime(*up) if up else None))
        made = ReversibleTime(parts, CHANNELS, alpha=alpha, out="mean")
        return nn.Sequential(made, nn.Flatten(), nn.Linear(4 * CHANNELS[-1], 10))


def network(name: str, seed: int = 0) -> tuple[nn.Module, Split]:
    """The network of this name, whose neurons have a rectangle as surrogate, so that bits are exact, and its digits."""
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(map(repr, NETWORKS))}, but got {name!r}.")
    if name == "levels":
        return levels(seed), networks.images()
    net, data = networks.built_in(name, seed)
    for layer in layers(net):
        layer.neuron = neurons.LIF(surrogate=surrogates.Rectangle())
    return net, data


def on_digits(net: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Task:
    """Each image is held for all time steps; the loss is the cross-entropy at each step, or of the mean output."""

    def loss(out: Tensor) -> Tensor:
        return cross_entropy(out.flatten(0, -2), labels.repeat(out.shape[0] if out.ndim > 2 else 1))

    return Task(net, currents(images, steps), loss)


def task(name: str, steps: int, batch: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Task:
    """A training step of a built-in network."""
    net, data = network(name)
    images, labels = (part[:batch].to(device) for part in data[:2])
    return on_digits(net.to(device, dtype), images.to(dtype), labels, steps)


def own(net: nn.Module, x: Tensor) -> Task:
    """A training step of a copy of a network of one's own, on the mean square of its outputs."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, but got {type(net).__name__}.")
    check_input(x)
    if len(x) == 0:
        raise ValueError(f"x must have at least one time step, but got shape {tuple(x.shape)}.")
    for part in reversible(net):
        if part.own or part.out not in ("all", "mean"):
            raise ValueError(
                "a ReversibleTime in net must have the same weights at every time step and out='all' or 'mean', so that T can "
                f"change, but it has {f'weights for each of {len(x)} steps' if part.own else f'out={part.out!r}'}."
            )
    return Task(copy.deepcopy(net), x, lambda out: out.square().mean())


def training(
    name: str, policy: Policy, steps: int, updates: int, seed: int = 0, device: str = "cpu"
) -> Iterator[float]:
    """Trains a built-in network under a policy (Adam); yields the loss of every update, then the accuracy on the test images."""
    net, data = network(name, seed)
    net, data = net.to(device), Split(*(part.to(device) for part in data))
    optimiser = torch.optim.Adam(net.parameters(), lr=networks.RATES.get(name, RATE))
    draw = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        chosen = torch.randint(len(data.train_labels), (networks.BATCH,), generator=draw)
        at_hand = on_digits(net, data.train_images[chosen], data.train_labels[chosen], steps)
        yield policy.step(at_hand).item()
        optimiser.step()
    yield accuracy(net, data, steps)


def accuracy(net: nn.Module, data: Split, steps: int) -> float:
    with torch.no_grad():
        out: Any = net(currents(data.test_images, steps))
    out = out.mean(0) if out.ndim > 2 else out
    return (out.argmax(1) == data.test_labels).float().mean().item()
