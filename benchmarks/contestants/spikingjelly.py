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
from torch.nn.functional import linear

from benchmarks import networks
from benchmarks.work import (
    GRAPH,
    Case,
    Modes,
    Work,
    graphed,
    linear_work,
    neuron_work,
    norm_work,
    recurrent_work,
    versions,
)


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


def recurrent(case: Case) -> Modes:
    """Its containers for recurrence: an element-wise function of the last output and x, which may be x[t] + W y[t-1]; and one
    matrix for x and the last output together, here [1 W]."""

    def node() -> nodes.LIFNode:
        made = lif(case)
        made.step_mode = "s"
        return made

    def element_wise(weight: nn.Parameter) -> Callable[[Tensor], Tensor]:
        container = layers.ElementWiseRecurrentContainer(node(), lambda y, x: x + linear(y, weight), step_mode="m")
        return lambda x: from_rest(container, x)

    def one_matrix(weight: nn.Parameter) -> Callable[[Tensor], Tensor]:
        n = case["n"]
        container, unit = layers.LinearRecurrentContainer(node(), n, n, False, "m"), torch.eye(n).to(weight)
        del container.rc.weight

        def run(x: Tensor) -> Tensor:
            container.rc.weight = torch.cat([unit, weight], 1)
            return from_rest(container, x)

        return run

    return {
        "ElementWiseRecurrentContainer": lambda: recurrent_work(element_wise, case),
        "LinearRecurrentContainer, matrix [1 W]": lambda: recurrent_work(one_matrix, case),
    }


def from_rest(net: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(net)
    spikes: Tensor = net(x)
    return spikes


def batchnorm(case: Case) -> Modes:
    def make() -> Work:
        norm, neurons = layers.BatchNorm2d(case["channels"], step_mode="m").to(case["device"]), layer(case)
        return norm_work(norm, lambda x: neurons(norm(x)), case)

    return {f"BatchNorm2d, {mode(case)}": make}


def walk(net: nn.Module, x: Tensor) -> Tensor:
    """The same image at every step: what stands before the first neurons runs once, as its tutorials do it."""
    first, *rest = net.children()
    y = first(x[:1]).expand(len(x), *(-1,) * (x.ndim - 1))
    for module in rest:
        y = module(y)
    return y


def training(case: Case) -> Modes:
    library = networks.Library(
        neuron=lambda: Operator(case) if "autocast" in case else lif(case),
        fold=layers.SeqToANNContainer,
        walk=walk,
        begin=lambda net: nullcontext(functional.reset_net(net)),
    )
    return networks.training(case, {mode(case): library})
