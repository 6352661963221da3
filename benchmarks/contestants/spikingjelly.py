"""SpikingJelly 2: the operator behind its multi-step LIFNode (on a GPU CUDA or Triton, on a CPU a loop of torch's).

The operator brings its own backward pass, and keeps the state in float32 for half precision too; LIFNode itself would take a
state in half precision, and fall back to a slower loop for it. Which kernel a GPU gets, SpikingJelly chooses by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from spikingjelly._ops.lif import _selection
from spikingjelly.activation_based import functional, surrogate
from spikingjelly.activation_based import layer as layers
from spikingjelly.activation_based import neuron as nodes
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.work import GRAPH, Case, Modes, graphed, linear_work, neuron_work, versions


def VERSIONS() -> dict[str, str]:
    return versions("spikingjelly", "torch", "triton")


def lif(case: Case) -> nodes.LIFNode:
    shape = {"ATan": surrogate.ATan(alpha=2.0), "Rectangle": surrogate.Rect(alpha=1.0)}[case["surrogate"]]
    return nodes.LIFNode(2.0, False, 1.0, None, shape, detach_reset=True, step_mode="m").to(case["device"])


def layer(case: Case) -> Callable[[Tensor], Tensor]:
    shape = lif(case).surrogate_function

    def run(x: Tensor) -> Tensor:
        v = torch.zeros_like(x[0], dtype=torch.float32)
        spikes: Tensor = functional.lif_multi_step(x, v, 2.0, False, 1.0, None, shape, True, False)[0]
        return spikes

    return run


def mode(case: Case) -> str:
    if case["device"] == "cpu":
        return "multi-step LIF operator, torch"
    layer(case)(torch.zeros(1, 1, 1, device=case["device"]))  # it chooses at the first call
    chosen = _selection._selections.get(torch.cuda.current_device())
    return f"multi-step LIF operator, {getattr(chosen, 'name', 'torch')}"


def neuron(case: Case) -> Modes:
    modes: Modes = {mode(case): lambda: neuron_work(layer(case), case)}
    if case.get("graphs"):
        modes[GRAPH + mode(case)] = lambda: graphed(modes[mode(case)])
    return modes


class Operator(nn.Module):
    """The operator as a module, which keeps the state in float32 under autocast too."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.run = layer(case)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def linear_lif(case: Case) -> Modes:
    return {mode(case): lambda: linear_work(layer(case), case)}


def training(case: Case) -> Modes:
    library = networks.Library(
        neuron=lambda: Operator(case) if "autocast" in case else lif(case),
        fold=layers.SeqToANNContainer,
        walk=lambda net, x: net(x),
        begin=lambda net: nullcontext(functional.reset_net(net)),
    )
    return networks.training(case, {mode(case): library})
