"""Booleans packed eight to a byte, along memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def pack(bits: Tensor) -> Tensor:
    """Booleans of any shape -> bytes [ceil(n / 8)], the first in the lowest bit; those that fill the last byte are 0.

    >>> pack(torch.tensor([[True, False], [True, True]])).tolist()
    [13]
    """
    flat = bits.reshape(-1)
    if on_cpu(flat):
        return torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
    rows = torch.nn.functional.pad(flat.view(torch.uint8), (0, -len(flat) % 8)).view(-1, 8)
    return (rows << torch.arange(8, dtype=torch.uint8, device=flat.device)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """The booleans of that shape again.

    >>> unpack(torch.tensor([13], dtype=torch.uint8), torch.Size([2, 2])).tolist()
    [[True, False], [True, True]]
    """
    count = math.prod(shape)
    if on_cpu(packed):
        return (
            torch.from_numpy(np.unpackbits(packed.numpy(), count=count, bitorder="little")).view(torch.bool).view(shape)
        )
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(1) >> places & 1).view(-1)[:count].bool().view(shape)
