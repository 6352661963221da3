"""snnTorch: Leaky, stepped in a Python loop, as its tutorials do. Its reset subtracts the threshold one step later."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import snntorch
import torch
from snntorch import surrogate
from torch import Tensor, nn

from benchmarks import networks, reference
from benchmarks.work import Case, Modes, Work, linear_work, neuron_work, norm_work, recurrent_work, versions

DELAYED = (
    "the reset subtracts the threshold in the next step, after the decay; compared with a reference that does so too"
)
MODE = "Leaky, loop over time"


def VERSIONS() -> dict[str, str]:
    return versions("snntorch", "torch")


def rectangle(u: Tensor, gradient: Tensor, _: Tensor) -> Tensor:
    return gradient * (u.abs() <= 0.5)


def lif(case: Case, **options: Any) -> snntorch.Leaky:
    grad = surrogate.atan(alpha=2.0) if case["surrogate"] == "ATan" else surrogate.custom_surrogate(rectangle)
    node = snntorch.Leaky(beta=0.5, threshold=1.0, spike_grad=grad, reset_mechanism="subtract", **options)
    return node.to(case["device"])


def layer(case: Case) -> Callable[[Tensor], Tensor]:
    node = lif(case)

    def run(x: Tensor) -> Tensor:
        membrane, spikes = node.reset_mem(), []
        for x_t in x:
            spike, membrane = node(x_t, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def neuron(case: Case) -> Modes:
    if case["dtype"] != "float32":
        return {MODE: not_half}
    names = {"spikes": "spikes (delayed reset)", "x.grad": "x.grad (delayed reset)"}
    return {MODE: lambda: neuron_work(layer(case), case, names=names, equation=DELAYED)}


def not_half() -> Work:
    raise ValueError("snnTorch's surrogates give float32 spikes for half precision")


def linear_lif(case: Case) -> Modes:
    names = {"spikes": "spikes (delayed reset)", "weight.grad": "weight.grad (delayed reset)"}
    return {MODE: lambda: linear_work(layer(case), case, DELAYED, names)}


def recurrent(case: Case) -> Modes:
    def layer(weight: nn.Parameter) -> Callable[[Tensor], Tensor]:
        grad = surrogate.atan(alpha=2.0)
        node = snntorch.RLeaky(beta=0.5, linear_features=case["n"], spike_grad=grad, reset_mechanism="subtract")
        node.recurrent = nn.Linear(case["n"], case["n"], bias=False, device="meta")
        node.recurrent.weight = weight
        node.to(case["device"])

        def run(x: Tensor) -> Tensor:
            spike, membrane, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
            for x_t in x:
                spike, membrane = node(x_t, spike, membrane)
                spikes.append(spike)
            return torch.stack(spikes)

        return run

    names = {name: f"{name} (delayed reset)" for name in ("spikes", "x.grad", "weight.grad")}
    return {"RLeaky, loop over time": lambda: recurrent_work(layer, case, DELAYED, names)}


def batchnorm(case: Case) -> Modes:
    """Step by step with a BatchNorm of each step, as its networks run; and behind a BatchNorm of all steps."""

    def make(stepped: bool) -> Work:
        norm = nn.BatchNorm2d(case["channels"]).to(case["device"])
        node = lif(case)

        def run(x: Tensor) -> Tensor:
            membrane, spikes = node.reset_mem(), []
            for x_t in x if stepped else norm(x.flatten(0, 1)).unflatten(0, x.shape[:2]):
                spike, membrane = node(norm(x_t) if stepped else x_t, membrane)
                spikes.append(spike)
            return torch.stack(spikes)

        which = reference.STEPPED if stepped else reference.DELAYED
        equation = "; ".join([networks.PER_STEP] * stepped + [networks.DELAYED])
        return norm_work(norm, run, case, which=which, equation=equation)

    return {"BatchNorm2d and Leaky, loop over time": lambda: make(True), f"BatchNorm2d, {MODE}": lambda: make(False)}


def walk(net: nn.Module, x: Tensor) -> Tensor:
    """Step by step; what stands before the first neurons once, for the image is the same at every step."""
    first, *rest = net.children()
    once, outs = first(x[0]), []
    for _ in x:
        y = once
        for module in rest:
            y = module(y)
        outs.append(y)
    return torch.stack(outs)


def training(case: Case) -> Modes:
    library = networks.Library(
        neuron=lambda: lif(case, init_hidden=True),
        fold=nn.Sequential,
        walk=walk,
        begin=begin,
        prepare=prepare,
        stepped=True,
        delayed=True,
    )
    return networks.training(case, {MODE: library})


def begin(net: nn.Module) -> nullcontext[None]:
    for module in net.modules():
        if isinstance(module, snntorch.Leaky):
            module.reset_mem()
    return nullcontext()


def prepare(net: nn.Sequential) -> nn.Sequential:
    """Its spikes are float32 whatever comes in; a network in float64, in which results are compared, needs them in float64."""
    if next(net.parameters()).dtype == torch.float64:
        for module in net.modules():
            if isinstance(module, snntorch.Leaky):
                module.register_forward_hook(lambda module, given, spikes: spikes.double())
    return net
