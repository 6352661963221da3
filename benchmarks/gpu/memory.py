"""The peak of the device's memory over a training step, for each `keep`; the surrogate is the rectangle, which admits all."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import growth, networks
from tfexplore import LIF, FoldTime, layer_by_layer, surrogates


def measure(device: str, out: str, network: str, keep: str, T: int, B: int) -> dict[str, Any]:
    case = {"network": network, "T": T, "B": B, "dtype": "float32", "autocast": "bfloat16", "seed": 0, "device": device}
    library = networks.Library(
        lambda: LIF(tau=2.0, reset="soft", detach_reset=True, surrogate=surrogates.Rectangle(), keep=keep),
        FoldTime,
        layer_by_layer,
    )
    made = networks.Training(case, library)
    made.step()  # compiles, and makes the optimiser's memory
    before = growth.memory(device, reset=True)
    loss = made.step()
    peak = growth.memory(device) - before
    if not torch.isfinite(loss):
        raise RuntimeError(f"the loss is {loss.item()}")
    kept = networks.kept_bytes(made.loss)
    return {"network": network, "keep": keep, "T": T, "B": B, "peak_bytes": peak, "kept_bytes": kept}
