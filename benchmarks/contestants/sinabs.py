"""sinabs: LIF on [B, T, features], a loop over time inside; surrogate and detached reset given as its callables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sinabs.activation import SingleSpike
from sinabs.layers import LIF
from torch import Tensor

from benchmarks.work import Case, Modes, linear_work, neuron_work, versions

MODE = "LIF, loop over time inside"


def VERSIONS() -> dict[str, str]:
    return versions("sinabs", "torch")


def atan(v: Tensor, threshold: Tensor) -> Tensor:
    return 1 / (1 + (math.pi * (v - threshold)).square())


def rectangle(v: Tensor, threshold: Tensor) -> Tensor:
    return ((v - threshold).abs() <= 0.5).to(v.dtype)


def detached(spikes: Tensor, state: dict[str, Any], threshold: Tensor) -> dict[str, Any]:
    return state | {"v_mem": state["v_mem"] - spikes.detach() * threshold}


def layer(case: Case) -> Callable[[Tensor], Tensor]:
    node = LIF(
        tau_mem=1 / math.log(2),  # it decays by exp(-1 / tau)
        spike_fn=SingleSpike,
        reset_fn=detached,
        surrogate_grad_fn={"ATan": atan, "Rectangle": rectangle}[case["surrogate"]],
        norm_input=False,
    ).to(case["device"])
    node.requires_grad_(False)

    def run(x: Tensor) -> Tensor:
        node.init_state_with_shape((x.shape[0], *x.shape[2:]))
        node.zero_grad()
        spikes: Tensor = node(x)
        return spikes

    return run


def neuron(case: Case) -> Modes:
    return {MODE: lambda: neuron_work(layer(case), case, batch_first=True)}


def linear_lif(case: Case) -> Modes:
    node = layer(case)
    return {MODE: lambda: linear_work(lambda x: node(x.transpose(0, 1)).transpose(0, 1), case)}
