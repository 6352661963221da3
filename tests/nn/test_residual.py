"""The small residual networks: against their equations written with torch alone, their shapes, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tfexplore import Layer
from tfexplore.nn.residual import residual


def fired(x: Tensor) -> Tensor:
    """LIF with tau = 2, threshold 1 and soft reset, step by step."""
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        h = v - v / 2 + x_t
        spikes.append((h >= 1).to(x.dtype))
        v = h - spikes[-1]
    return torch.stack(spikes)


def normalised(x: Tensor, folded: Any) -> Tensor:
    """Convolution, then BatchNorm by the statistics over time and batch."""
    conv, norm = folded
    y = nn.functional.conv2d(x.flatten(0, 1), conv.weight, None, conv.stride, conv.padding)
    centred = y - y.mean((0, 2, 3), keepdim=True)
    y = centred / (centred.square().mean((0, 2, 3), keepdim=True) + norm.eps).sqrt()
    return (y * norm.weight[:, None, None] + norm.bias[:, None, None]).unflatten(0, x.shape[:2])


def by_hand(kind: str, net: Any, x: Tensor) -> Tensor:
    x = normalised(x, net.stem)
    x = fired(x) if kind == "sew" else x
    for block in (block for stage in (net.stage1, net.stage2, net.stage3, net.stage4) for block in stage):
        projected = any(True for _ in block.shortcut.parameters())
        if kind == "ms":
            across = normalised(x, block.shortcut) if projected else x
            x = across + normalised(fired(normalised(fired(x), block.conv1)), block.conv2)
        else:
            across = fired(normalised(x, block.shortcut.conv)) if projected else x
            x = across + fired(normalised(fired(normalised(x, block.conv1)), block.conv2))
    x = fired(x) if kind == "ms" else x
    return nn.functional.linear(x.mean((3, 4)), net.readout[-1].weight, net.readout[-1].bias)


@pytest.mark.parametrize("kind", ["ms", "sew"])
def test_the_networks_are_their_equations(kind: str) -> None:
    net = residual(kind, channels=3).double()
    x = torch.rand(3, 4, 1, 14, 14, generator=torch.Generator().manual_seed(1)).double()
    out = net(x)
    torch.testing.assert_close(out, by_hand(kind, net, x))
    assert out.std() > 0.01, "spikes arrive at the end"


@pytest.mark.parametrize(("kind", "count"), [("ms", 17), ("sew", 20)])
def test_layers_and_stage_ends(kind: str, count: int) -> None:
    net = residual(kind, channels=2)
    layers = [name for name, module in net.named_modules() if isinstance(module, Layer)]
    assert len(layers) == count
    assert net.stage_ends == tuple(f"stage{k}.1.lif2" for k in (1, 2, 3, 4))
    assert set(net.stage_ends) < set(layers)
    assert residual(kind, channels=2, blocks=1).stage_ends[-1] == "stage4.0.lif2"
    assert [net.get_submodule(f"stage{k}.1.conv2.0").weight.shape[0] for k in (1, 2, 3, 4)] == [2, 4, 8, 16]


def test_a_seed_gives_the_same_weights_and_moves_no_random_numbers() -> None:
    state = torch.get_rng_state()
    one, same, other = (residual("sew", channels=2, seed=seed).stem[0].weight for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of 'ms', 'sew', but got 'plain'"):
        residual("plain")
    with pytest.raises(ValueError, match="blocks must be a whole number from 1 on, but got 0"):
        residual(blocks=0)
    with pytest.raises(ValueError, match=r"channels must be a whole number from 1 on, but got 2\.5"):
        residual(channels=2.5)  # type: ignore[arg-type]
