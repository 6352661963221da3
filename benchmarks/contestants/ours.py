"""tfexplore with each backend and `keep`, beside hand-written code: a plain loop, compiled or not, and the paper's kernel.

"copy" copies a tensor of x's size. "paper" is the design of the temporal-fusion paper (Li et al., ICANN 2024): one thread (on a
CPU, one turn of a parallel loop) for each neuron, scalar float32, spikes and potentials written in every pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import networks, reference
from benchmarks import step as steps
from benchmarks.contestants import paper
from benchmarks.work import (
    BACKWARD,
    BOTH,
    FORWARD,
    GRAPH,
    INFERENCE,
    Case,
    Modes,
    Work,
    copy_work,
    graphed,
    linear_inputs,
    linear_work,
    neuron_inputs,
    neuron_work,
    norm_inputs,
    norm_work,
    passes_work,
    recurrent_work,
    versions,
)
from tfexplore import neurons, surrogates
from tfexplore.codegen import traffic
from tfexplore.codegen.keep import KEEP
from tfexplore.measure.contestants import FUSED, LAYERED, STEPPED, why_not_compiled
from tfexplore.nn import layers
from tfexplore.nn.fusion import fuse
from tfexplore.nn.recurrent import Recurrent
from tfexplore.nn.schedules import layer_by_layer, step_by_step
from tfexplore.nn.states import carry
from tfexplore.nn.wrappers import FoldTime

COMPILED_STEPS = 64
"""torch.compile unrolls the loop: its time to compile grows with T, to minutes beyond this."""
APART = "BatchNorm2d apart, "
KERNEL = {FORWARD: "forward", BACKWARD: "backward", BOTH: None}


def VERSIONS() -> dict[str, str]:
    return versions("tfexplore", "torch", "numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "triton")


def fused(case: Case) -> str:
    return "numba" if case["device"] == "cpu" else "cuda"


def lif(case: Case) -> neurons.LIF:
    surrogate = {"ATan": surrogates.ATan(), "Rectangle": surrogates.Rectangle()}[case["surrogate"]]
    return neurons.LIF(tau=2.0, reset="soft", detach_reset=True, surrogate=surrogate)


def least(case: Case, keep: str) -> int:
    """Bytes that the fused kernels must move."""
    if case["passes"] == INFERENCE:
        accesses, kernel = traffic.traffic_of(lif(case), gradient=False), None
    else:
        accesses, kernel = traffic.traffic_of(lif(case), keep), KERNEL[case["passes"]]
    return round(traffic.nbytes(accesses, case["dtype"], kernel) * case["T"] * case["N"])


def plain(case: Case) -> Callable[[Tensor], Tensor]:
    return lambda x: reference.plain_loop(x, case["surrogate"], state=torch.float32)


def compiled(case: Case) -> Callable[[Tensor], Tensor]:
    if not case.get("compiled", True):
        raise ValueError("left out: it compiles for half a minute")
    if case["T"] > COMPILED_STEPS:
        raise ValueError(
            f"unrolled by the compiler, it takes minutes to compile from {COMPILED_STEPS} steps on: left out"
        )
    if reason := why_not_compiled(case["device"]):
        raise ValueError(reason)
    torch.compiler.reset()
    loop: Callable[[Tensor], Tensor] = torch.compile(plain(case), fullgraph=True, dynamic=False)
    return loop


def neuron(case: Case) -> Modes:
    def layer(backend: str, keep: str = "auto", moved: int | None = None) -> Work:
        return neuron_work(layers.Layer(lif(case), backend=backend, keep=keep), case, least=moved)

    def kept(keep: str) -> Callable[[], Work]:
        return lambda: layer(fused(case), keep, least(case, keep))

    modes: Modes = {"copy": lambda: copy_work(case, neuron_inputs(case)[0])}
    if case["passes"] == INFERENCE:
        modes[fused(case)] = kept("input")
    else:
        modes |= {f"{fused(case)}, keep={keep}": kept(keep) for keep in KEEP}

    def loop() -> Work:
        return neuron_work(plain(case), case)

    if case.get("graphs"):
        modes[GRAPH + f"{fused(case)}, keep=input"] = lambda: graphed(kept("input"))
        modes[GRAPH + "the plain loop"] = lambda: graphed(loop)
    if case.get("operations"):
        modes |= {
            "one operation": lambda: operation(case, square),
            "an empty function": lambda: operation(case, Same.apply),
        }
    return modes | {
        "eager torch": lambda: layer("torch"),
        "plain loop": loop,
        "torch.compile of the plain loop": lambda: neuron_work(compiled(case), case),
        "paper's design": lambda: neuron_work(paper.layer(case), case, least=paper.least(case)),
    }


class Same(torch.autograd.Function):
    """Nothing, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def square(x: Tensor) -> Tensor:
    return x * x


def same(net: nn.Module) -> nn.Module:
    return net


def operation(case: Case, function: Callable[[Tensor], Tensor]) -> Work:
    """Not a neuron: the least that autograd takes on x."""
    x, gradient = neuron_inputs(case)
    x = x.detach().requires_grad_()
    return passes_work(lambda: function(x), (x,), gradient, case["passes"], dict)


def growth(case: Case) -> Modes:
    return {mode: make for mode, make in neuron(case).items() if mode.startswith(fused(case)) or mode == "eager torch"}


def linear_lif(case: Case) -> Modes:
    def layer(backend: str) -> Work:
        return linear_work(layers.Layer(lif(case), backend=backend), case)

    return {
        "copy": lambda: copy_work(case, linear_inputs(case)[0]),
        fused(case): lambda: layer(fused(case)),
        "eager torch": lambda: layer("torch"),
        "plain loop": lambda: linear_work(plain(case), case),
    }


def recurrent(case: Case) -> Modes:
    def module(weight: torch.nn.Parameter, backend: str) -> Recurrent:
        return Recurrent(layers.Layer(lif(case), backend=backend), matrix(weight))

    return {
        "copy": lambda: copy_work(case, linear_inputs(case)[0]),
        "the products alone": lambda: products(case),
        fused(case): lambda: recurrent_work(lambda weight: module(weight, fused(case)), case),
        "step by step, autograd per step": lambda: recurrent_work(partial(stepped, case), case),
        "eager torch": lambda: recurrent_work(lambda weight: module(weight, "torch"), case),
        "plain loop": lambda: recurrent_work(
            lambda weight: lambda x: reference.plain_loop(x, feedback=lambda s: s @ weight.T), case
        ),
    }


def products(case: Case) -> Work:
    """Not a layer: a recurrent one's matrix products, which none can do without."""
    x, weight, gradient = linear_inputs(case)
    out = torch.empty_like(x[0])

    def run() -> None:
        for x_t in x:
            torch.mm(x_t, weight.t(), out=out)
        if case["passes"] == BOTH:
            for g_t in gradient:
                torch.mm(g_t, weight, out=out)
            torch.mm(gradient.flatten(0, 1).t(), x.flatten(0, 1))

    return Work(run=run, result=dict)


def matrix(weight: torch.nn.Parameter) -> torch.nn.Linear:
    made = torch.nn.Linear(len(weight), len(weight), bias=False, device="meta")
    made.weight = weight
    return made


def stepped(case: Case, weight: torch.nn.Parameter) -> Callable[[Tensor], Tensor]:
    """`Recurrent` as a loop of modules: a product, and all steps of a fused layer, which are one."""
    layer, feedback = layers.Layer(lif(case), backend=fused(case)), matrix(weight)

    def run(x: Tensor) -> Tensor:
        state, s, spikes = None, torch.zeros_like(x[:1]), []
        for x_t in x.split(1):
            s, state = layer(x_t + feedback(s), state, return_state=True)
            spikes.append(s)
        return torch.cat(spikes)

    return run


def batchnorm(case: Case) -> Modes:
    """Our two modules apart, and the BatchNorm in the kernel ("fused")."""

    def make(how: str, backend: str, keep: str = "auto") -> Work:
        norm = nn.BatchNorm2d(case["channels"]).to(case["device"])
        fold, layer = FoldTime(norm), layers.Layer(lif(case), backend=backend, keep=keep)
        moved = None
        if keep != "auto":
            accesses = traffic.traffic_of(lif(case), keep, batch_norm=how)
            moved = round(traffic.nbytes(accesses, case["dtype"]) * case["T"] * case["N"])
        pair = partial(layer, batch_norm=norm) if how == "fused" else lambda x: layer(fold(x))
        return norm_work(norm, pair, case, least=moved)

    modes: Modes = {"copy": lambda: copy_work(case, norm_inputs(case)[0])}
    for keep in ("input", "potential"):
        modes[f"{fused(case)}, keep={keep}"] = partial(make, "fused", fused(case), keep)
        modes[f"{APART}{fused(case)}, keep={keep}"] = partial(make, "apart", fused(case), keep)
    return modes | {f"{APART}eager torch": partial(make, "apart", "torch")}


def training(case: Case) -> Modes:
    def library(backend: str, walk: networks.Walk, **options: Any) -> networks.Library:
        return networks.Library(lambda: layers.Layer(lif(case), backend=backend), FoldTime, walk, **options)

    per_step = partial(step_by_step, batch_norm="per step")
    prepare = fuse if networks.NETWORKS[case["network"]].norm else same
    ways = {
        STEPPED: library("torch", per_step, begin=carry, stepped=True),
        LAYERED: library("torch", layer_by_layer),
        FUSED: library(fused(case), layer_by_layer, prepare=prepare),
    }
    return networks.training(case, ways)


def step(case: Case) -> Modes:
    library = networks.Library(lambda: layers.Layer(lif(case)), FoldTime, layer_by_layer)
    return steps.modes(case, library)
