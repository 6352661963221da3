"""The course's networks: a small VGG against a plain loop."""

from __future__ import annotations

import torch
from torch import nn

from tfexplore import LIF
from tfexplore.nn.networks import vgg


def test_vgg_is_a_chain_of_convolutions_batchnorm_and_neurons() -> None:
    """Its output in float64, with a plain loop over time for every layer of neurons."""

    def neurons(x: torch.Tensor) -> torch.Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            h = v + current - v / 2.0
            s = (h >= 1.0).to(h.dtype)
            v = h - s
            spikes.append(s)
        return torch.stack(spikes)

    net = vgg(channels=3, seed=5).double()
    x = torch.rand(6, 4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out, pooled = x, 0
    for module in vgg(channels=3, seed=5).double():
        if isinstance(module, LIF):
            out = neurons(out)
        else:
            pooled += any(isinstance(part, nn.AvgPool2d) for part in module)
            folded = nn.Sequential(*module)(out.flatten(0, 1))
            out = folded.unflatten(0, x.shape[:2])
    assert pooled == 1
    torch.testing.assert_close(net(x), out, rtol=0, atol=1e-10)
    assert out.shape == (6, 4, 10)
    assert not torch.equal(vgg(3, seed=5).linear[1].weight, vgg(3, seed=6).linear[1].weight)
