"""The networks of the training benchmark, each written once over a small `Library`, and a training step of them as `Work`.

    mlp       64 – 256 – 10, for digits
    conv      8 x 8: 16 maps, pooling, 32 maps, 10: the shapes of `networks.conv`
    resnet18  Spiking-ResNet18 at 32 x 32: the plain spiking residual, spike(BN(conv) + shortcut), a 3 x 3 stem without pooling
    vgg11     VGG-11 at 32 x 32: conv, BN, spike; max pooling; one linear layer

The images are normal noise, held as a constant current: what stands before the first neurons is computed once by every library
that can. They lie with channels first: with channels last the gradients of the large weights are copied into that order, which
takes longer than the layout saves (VGG-11, T = 4, one thread: 291 ms against 241).

The loss is the cross-entropy of the output's mean over time, the optimiser SGD with momentum; with "autocast" in the case,
forward pass and loss run under it. The weights are drawn once and copied in the order of the layers, so they are the same in
every library and process. BatchNorm takes its statistics over T*B where a library runs layer by layer, and over B at each step
where it runs step by step: those are two computations, each compared with its own reference.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks import reference
from benchmarks.work import GRAPH, Arrays, Case, Modes, Work, array, inputs, kept_bytes

LATER = 2
"""Training steps after the first whose losses are compared: they depend on the weights' update, and the momentum."""
RATE, MOMENTUM, CLASSES = 0.05, 0.9, 10
PER_STEP = "BatchNorm over the batch at each step, not over all steps"
DELAYED = "the reset subtracts the threshold in the next step, after the decay"
RESULTS = ("first loss", "its gradients' norms", "later losses")
EXACT = " in float64"
"""Ends the names of the same results of the same training in float64."""
REFERENCES = ("", ", BatchNorm per step", " (delayed reset)", ", BatchNorm per step (delayed reset)")
WEIGHTED = (nn.Conv2d, nn.Linear)

Walk: TypeAlias = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Library:
    """What a network needs of a library.

    neuron:  makes a layer of LIF neurons: tau = 2, soft detached reset, threshold 1, ATan.
    fold:    makes one module of stateless modules, for x as the library's neurons take it.
    walk:    runs the network from rest: x [T, B, *features] -> [T, B, classes].
    begin:   within this context, the modules of a network may be called individually, from rest, in the order of the steps.
    prepare: what the library makes of the finished network, for training.
    stepped, delayed:  whether it runs step by step; whether it resets a step late. Both change the equations, not the work.
    """

    neuron: Callable[[], nn.Module]
    fold: Callable[..., nn.Module]
    walk: Walk
    begin: Callable[[nn.Module], AbstractContextManager[object]] = lambda net: nullcontext()
    prepare: Callable[[nn.Sequential], nn.Module] = lambda net: net
    stepped: bool = False
    delayed: bool = False


# -- the networks ------------------------------------------------------------------------------------------------


def mlp(library: Library, width: int) -> nn.Sequential:
    fold = library.fold
    return nn.Sequential(fold(nn.Linear(64, width)), library.neuron(), fold(nn.Linear(width, CLASSES)))


def conv(library: Library, width: int) -> nn.Sequential:
    fold, neuron = library.fold, library.neuron
    return nn.Sequential(
        fold(nn.Conv2d(1, width, 3, padding=1)),
        neuron(),
        fold(nn.AvgPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1)),
        neuron(),
        fold(nn.Flatten(), nn.Linear(2 * width * 4 * 4, CLASSES)),
    )


def normalised(channels: int, outputs: int, size: int = 3, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)


class Residual(nn.Module):
    """The basic block: conv, BN, spike, conv, BN, plus the shortcut, spike."""

    def __init__(self, library: Library, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        fold, same = library.fold, stride == 1 and channels == outputs
        first, second = fold(*normalised(channels, outputs, 3, stride)), fold(*normalised(outputs, outputs))
        self.main = nn.Sequential(first, library.neuron(), second)
        self.shortcut = nn.Identity() if same else fold(*normalised(channels, outputs, 1, stride))
        self.neuron = library.neuron()

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.neuron(self.main(x) + self.shortcut(x))
        return spikes


def resnet18(library: Library, width: int) -> nn.Sequential:
    stages = [width, 2 * width, 4 * width, 8 * width]
    blocks: list[nn.Module] = []
    for channels, outputs in zip([width, *stages], stages, strict=False):
        blocks += [Residual(library, channels, outputs, outputs // channels), Residual(library, outputs, outputs, 1)]
    head = library.fold(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(stages[-1], CLASSES))
    return nn.Sequential(library.fold(*normalised(3, width)), library.neuron(), *blocks, head)


def vgg11(library: Library, width: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    before: list[nn.Module] = []
    channels = 3
    for outputs, pooled in ((1, True), (2, True), (4, False), (4, True), (8, False), (8, True), (8, False), (8, True)):
        parts += [library.fold(*before, *normalised(channels, outputs * width)), library.neuron()]
        channels, before = outputs * width, [nn.MaxPool2d(2)] * pooled
    return nn.Sequential(*parts, library.fold(*before, nn.Flatten(), nn.Linear(channels, CLASSES)))


@dataclass(frozen=True)
class Network:
    """make: of a library and a width. shape: of one image. width: that of the benchmark. largest: neurons in the largest layer.
    norm: whether it has BatchNorm."""

    make: Callable[[Library, int], nn.Sequential]
    shape: tuple[int, ...]
    width: int
    largest: int
    norm: bool


NETWORKS = {
    "mlp": Network(mlp, (64,), 256, 256, False),
    "conv": Network(conv, (1, 8, 8), 16, 16 * 8 * 8, False),
    "resnet18": Network(resnet18, (3, 32, 32), 64, 64 * 32 * 32, True),
    "vgg11": Network(vgg11, (3, 32, 32), 64, 64 * 32 * 32, True),
}


# -- training ----------------------------------------------------------------------------------------------------


class Training:
    """A network of the case in a library, with its batch and its optimiser; the same start for every library."""

    def __init__(self, case: Case, library: Library) -> None:
        network = NETWORKS[case["network"]]
        self.case = case
        self.library, self.norm = library, network.norm
        self.net: nn.Module = network.make(library, case.get("width", network.width))
        images = (case["B"], *network.shape)
        layers = [module for module in self.net.modules() if isinstance(module, WEIGHTED)]
        spread = [(tuple(layer.weight.shape), math.sqrt(2 / layer.weight[0].numel())) for layer in layers]
        real = getattr(torch, case["dtype"])
        x, *weights = inputs(
            case | {"dtype": "float32"}, (images, 1.0), *spread
        )  # the same, drawn once, in float64 too
        with torch.no_grad():
            for layer, weight in zip(layers, weights, strict=True):
                layer.weight.copy_(weight)
                if layer.bias is not None:
                    layer.bias.zero_()
        self.net.to(case["device"], real)
        self.net = library.prepare(self.net)
        self.x = x.to(real).expand(case["T"], *images)
        self.labels = torch.arange(case["B"], device=case["device"]) % CLASSES
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=RATE, momentum=MOMENTUM)
        self.autocast = getattr(torch, case.get("autocast", "float32"))

    @property
    def equation(self) -> str:
        """In words, where it is not that of a library that runs layer by layer."""
        return "; ".join([PER_STEP] * (self.norm and self.library.stepped) + [DELAYED] * self.library.delayed)

    def loss(self) -> Tensor:
        lower = self.autocast != torch.float32
        mixed = torch.autocast(self.x.device.type, self.autocast, lower, cache_enabled=False)  # no weight is used twice
        with mixed, self.library.begin(self.net):
            return cross_entropy(self.library.walk(self.net, self.x).mean(0), self.labels)

    def step(self) -> Tensor:
        self.optimiser.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def result(self) -> Arrays:
        """What is compared with the reference; the names identify which one."""
        first = self.step()
        norms = torch.stack([p.grad.norm() for p in self.net.parameters() if p.grad is not None])
        later = torch.stack([self.step() for _ in range(LATER)])
        which = (
            ", BatchNorm per step" * (self.norm and self.library.stepped) + " (delayed reset)" * self.library.delayed
        )
        found = dict(zip(RESULTS, (first, norms, later), strict=True))
        return {name + which: array(values) for name, values in found.items()}


class Captured(Training):
    """The whole step as a CUDA graph, from the same start."""

    def __init__(self, case: Case, library: Library) -> None:
        super().__init__(case, library)
        start = copy.deepcopy(self.net.state_dict())
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # as PyTorch requires: compiles, and fills its pools
                super().step()
        torch.cuda.current_stream().wait_stream(side)
        self.optimiser.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.last = super().step()
        self.net.load_state_dict(start)  # in place: the graph holds these tensors
        for state in self.optimiser.state.values():
            state["momentum_buffer"].zero_()

    def step(self) -> Tensor:
        self.graph.replay()
        return self.last.clone()


PARTS = NEURONS, WEIGHTS, NORM, OPTIMISER = ("neurons", "conv + linear", "batch norm", "optimiser")
"""Of a training step; each is timed by itself, on the inputs that it gets in the network, forward and backward."""


def parts_of(network: str) -> list[str]:
    return [part for part in PARTS if part != NORM or NETWORKS[network].norm]


def training(case: Case, libraries: dict[str, Library]) -> Modes:
    """By mode: the whole training step in each of these libraries (by its name) and, as "name: part", each of its parts.

    "graphs" in the case adds the whole step as a CUDA graph; "parts": False leaves the parts out.
    """
    modes: Modes = {}
    for mode, library in libraries.items():
        made = cache(partial(Training, case, library))  # one network for the whole and its parts
        modes[mode] = partial(whole, made)
        if case.get("graphs"):
            modes[f"{GRAPH}{mode}"] = partial(whole, partial(Captured, case, library))
        if case.get("parts", True):
            modes |= {f"{mode}: {part}": partial(alone, made, part) for part in parts_of(case["network"])}
    return modes


def exact(kind: type[Training], case: Case, library: Library) -> Arrays:
    """The results in float64, where sums in another order make no spike flip; none under autocast, which has no such products."""
    if "autocast" in case:
        return {}
    found = kind(case | {"dtype": "float64"}, library).result()
    return {name + EXACT: values for name, values in found.items()}


def whole(make: Callable[[], Training]) -> Work:
    made = make()

    def result() -> Arrays:
        return made.result() | exact(type(made), made.case, made.library)

    return Work(
        run=made.step,
        result=result,
        kept=lambda: kept_bytes(made.loss),
        equation=made.equation,
    )


def alone(make: Callable[[], Training], part: str) -> Work:
    run = optimise(make()) if part == OPTIMISER else forward_and_backward(make(), part)

    def result() -> Arrays:
        run()
        return {}

    return Work(run=run, result=result)


def forward_and_backward(made: Training, part: str) -> Callable[[], None]:
    """Forward and backward through each module of this part by itself, in all its calls of one training step.

    A BatchNorm that is part of a layer's kernel is one of its arguments, and counts with the neurons.
    """
    kinds: dict[str, Any] = {NEURONS: type(made.library.neuron()), WEIGHTS: WEIGHTED, NORM: _BatchNorm}
    calls = calls_of(made, kinds[part])
    if part == NORM:
        neurons = calls_of(made, kinds[NEURONS])
        within = [value for given in neurons.values() for _, named in given for value in named.values()]
        calls = {norm: given for norm, given in calls.items() if not any(norm is each for each in within)}
    called = {module: given for module, given in calls.items() if given}
    with made.library.begin(made.net), torch.no_grad():
        gradients = {
            module: [torch.randn_like(module(x, **named)) for x, named in given] for module, given in called.items()
        }

    def run() -> None:
        with made.library.begin(made.net):
            for module, given in called.items():
                owners = [
                    module,
                    *(value for _, named in given for value in named.values() if isinstance(value, nn.Module)),
                ]
                wanted = [x for x, _ in given if x.requires_grad] + [p for owner in owners for p in owner.parameters()]
                torch.autograd.grad([module(x, **named) for x, named in given], wanted, gradients[module])

    return run


def calls_of(made: Training, kind: Any) -> dict[nn.Module, list[tuple[Tensor, dict[str, Any]]]]:
    """What modules of this kind are given in one training step, in all their calls."""
    calls: dict[nn.Module, list[tuple[Tensor, dict[str, Any]]]] = {
        module: [] for module in made.net.modules() if isinstance(module, kind)
    }

    def listen(module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        calls[module].append((args[0].detach().requires_grad_(args[0].requires_grad), named))

    hooks = [module.register_forward_pre_hook(listen, with_kwargs=True) for module in calls]
    made.loss()
    for hook in hooks:
        hook.remove()
    return calls


def optimise(made: Training) -> Callable[[], None]:
    """One step of the optimiser, from gradients that are there, and setting them to zero; at rate 0, so that the weights stay."""
    optimiser = torch.optim.SGD(made.net.parameters(), lr=0.0, momentum=MOMENTUM)
    made.loss().backward()
    gradients = [p.grad for p in made.net.parameters()]

    def run() -> None:
        for p, gradient in zip(made.net.parameters(), gradients, strict=True):
            p.grad = gradient
        optimiser.step()
        optimiser.zero_grad()

    return run


# -- the reference: plain loops, layer by layer, by PyTorch's autograd; it shares nothing with tfexplore ------------


class Plain(nn.Module):
    def __init__(self, reset: str) -> None:
        super().__init__()
        self.reset = reset

    def forward(self, x: Tensor) -> Tensor:
        return reference.plain_loop(x, reset=self.reset)


class Folded(nn.Sequential):
    """Over T*B."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Stepped(nn.Sequential):
    """Over B, for each step by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(Stepped, self).forward(x_t) for x_t in x])


def plain(stepped: bool, delayed: bool) -> Library:
    """Runs layer by layer in any case; `stepped` normalises like a library that runs step by step."""
    neuron, fold = partial(Plain, "delayed" if delayed else "soft"), Stepped if stepped else Folded
    return Library(neuron, fold, lambda net, x: net(x), stepped=stepped, delayed=delayed)


def expected(case: Case) -> Arrays:
    """The results of all references, in the case's own dtype and in float64."""
    single = case | {"autocast": "float32"}
    found: Arrays = {}
    for library in (plain(False, False), plain(True, False), plain(True, True)):
        found |= Training(single, library).result() | exact(Training, case, library)
    return found
