"""Runs another library's network and its conversion on the same input, and compares spikes and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfexplore.nn.layers import Layer

GRADIENTS = 1e-5
"""Of the largest: float32 sums over T = 64 steps, in another order."""


def currents(*shape: int, seed: int = 0, mean: float = 0.4, scale: float = 0.7) -> Tensor:
    """Currents [T, B, ...], of which one sample in four is a multiple of 1/4, so that potentials meet thresholds exactly."""
    x = mean + scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x[:, ::4] = (4 * x[:, ::4]).round() / 4
    return x


def same(
    theirs: Callable[[Tensor], Tensor], ours: nn.Module, x: Tensor, backend: str = "torch", gradients: float = GRADIENTS,
) -> Tensor:  # fmt: skip
    """Asserts that spikes are equal, bit for bit, and the gradients of x and of all shared parameters close; the output."""
    for layer in ours.modules():
        if isinstance(layer, Layer):
            layer.backend = backend
    parameters = [parameter for parameter in ours.parameters() if parameter.requires_grad]
    found = []
    for run in (theirs, ours):
        given = x.clone().requires_grad_()
        out = run(given)
        out = out[0] if isinstance(out, tuple) else out
        loss = (out * torch.linspace(0.1, 1, out.numel()).view_as(out)).sum()
        found.append((out.detach(), torch.autograd.grad(loss, [given, *parameters])))
    (a, theirs_gradients), (b, ours_gradients) = found
    assert torch.equal(a, b), f"{int((a != b).sum())} of {a.numel()} differ"
    for theirs_gradient, ours_gradient in zip(theirs_gradients, ours_gradients, strict=True):
        largest = theirs_gradient.abs().max()
        assert largest > 0
        assert (theirs_gradient - ours_gradient).abs().max() <= gradients * largest
    return a


def same_potentials(run: Callable[[], Tensor], ours: nn.Module, x: Tensor) -> None:
    """Asserts that the potentials after the last step are equal, bit for bit; run: the other library's, v [B, ...]."""
    with torch.no_grad():
        _, state = ours(x, return_state=True)[:2]
        assert torch.equal(run(), state[0])


def fires(spikes: Tensor) -> bool:
    """Whether it is a fair sample of spikes: neither silent nor always on."""
    return 0.02 < float(spikes.mean()) < 0.98


def dyadic(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that are multiples of 1/16: products with spikes or such inputs add up exactly, in any order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(torch.randint(-6, 10, parameter.shape, generator=generator) / 16)
    return net
