"""A small network and the plain step that trains it, which the tests of capture compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tfexplore
from tfexplore.nn import capturing

STEPS, BATCH = 6, 8
WARM = capturing.LOOKED_THROUGH[-1]


def batches(count: int = WARM + 5, batch: int = BATCH) -> list[tuple[Tensor, Tensor]]:
    make = torch.Generator().manual_seed(batch)
    return [
        (torch.rand(STEPS, batch, 12, generator=make) * 2, torch.randint(4, (batch,), generator=make))
        for _ in range(count)
    ]


def network(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), tfexplore.LIF(), *more, nn.Linear(16, 4))


def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x).mean(0), y)


def plain(net: nn.Module, optimiser: torch.optim.Optimizer | None = None, clip: float = 0.0) -> Callable[..., Tensor]:
    optimiser = optimiser or torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimiser.zero_grad()
        loss = loss_of(net, x, y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimiser.step()
        return loss

    return step


def train(step: Callable[..., Any], data: list[tuple[Tensor, ...]]) -> list[Any]:
    torch.manual_seed(1)
    return [step(*batch) for batch in data]
