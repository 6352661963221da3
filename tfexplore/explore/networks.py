"""What the training explorers train: the course's two networks or one's own, in each walk, and looks inside."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfexplore.data import Split, currents, digits
from tfexplore.nn import layers
from tfexplore.nn.networks import BATCH, RATES, Walk, built_in, fit, images
from tfexplore.nn.schedules import layer_by_layer, step_by_step
from tfexplore.nn.states import record

WALKS: dict[str, tuple[Walk, str]] = {
    "fused": (layer_by_layer, "auto"),
    "layer by layer": (layer_by_layer, "torch"),
    "step by step": (step_by_step, "torch"),
}
"""Each way to train, as a schedule and a backend."""

TESTED = 256
"""Images in a piece of the test."""


def spiking(net: nn.Module) -> dict[str, layers.Layer]:
    """The layers that fire, by module name."""
    return {n: m for n, m in net.named_modules() if isinstance(m, layers.Layer) and m.neuron.spiking}


def shared(net: nn.Module, parameter: str) -> float | None:
    """The value of a parameter that all spiking layers have in common and none learns; otherwise None."""
    neurons = [layer.neuron for layer in spiking(net).values()]
    values = {None if parameter in neuron.learn else neuron.parameters.get(parameter) for neuron in neurons}
    return values.pop() if len(values) == 1 else None


def tuned(net: nn.Module, walk: str = "fused", **parameters: Any) -> nn.Module:
    """A copy of the network whose spiking layers have these parameters, and whose layers all have the walk's backend."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, layers.Layer):
            module.backend = WALKS[walk][1]
            if module.neuron.spiking and parameters:
                module.neuron = dataclasses.replace(module.neuron, **parameters)
    return net


def own(net: nn.Module, data: Sequence[object] | None) -> Split:
    """The data for a network of one's own, checked: (x_train, y_train, x_test, y_test), by default the digits.

    x [n, *features] become constant currents [T, B, *features]; y [n] are the numbers of the classes, from 0 on.
    """
    if not spiking(net):
        raise ValueError("net has no layer that spikes, such as tfexplore.LIF(), so there is nothing to watch.")
    if not any(p.requires_grad for p in net.parameters()):
        raise ValueError("net has no parameter to train; give it a layer with weights, such as torch.nn.Linear.")
    if data is None:
        takes_images = any(isinstance(module, nn.Conv2d) for module in net.modules())
        return images() if takes_images else digits()
    if not isinstance(data, tuple | list) or len(data) != 4:
        came = f"{len(data)} values" if isinstance(data, tuple | list) else type(data).__name__
        raise TypeError(f"data must be (x_train, y_train, x_test, y_test), but got {came}.")
    x_train, y_train, x_test, y_test = (torch.as_tensor(part) for part in data)
    for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if not x.is_floating_point():
            raise TypeError(f"x_{name} must hold real numbers, but got {x.dtype}; convert it with x.float().")
        if y.is_floating_point() or y.ndim != 1 or len(x) != len(y) or not len(y) or y.min() < 0:
            raise ValueError(
                f"y_{name} must be {len(x)} class numbers from 0 on, one per row of x_{name}, but got {y.dtype} of shape "
                f"{tuple(y.shape)}" + (f" with smallest value {int(y.min())}." if y.numel() else ".")
            )
    return Split(x_train, y_train.long(), x_test, y_test.long())


def try_out(net: nn.Module, data: Split, walk: str, steps: int) -> None:
    """Runs two test examples, and says what is wrong with the network if it cannot be trained on this data."""
    x = currents(data.test_images[:2], steps)
    schedule, _ = WALKS[walk]
    try:
        with as_tested(net):
            out = schedule(net, x)
    except RuntimeError as error:
        raise ValueError(f"net does not take currents [T, B, *features] of shape {tuple(x.shape)}: {error}") from error
    classes = 1 + int(max(data.train_labels.max(), data.test_labels.max()))
    came = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    if not isinstance(out, Tensor) or out.ndim != 3 or out.shape[:2] != x.shape[:2] or out.shape[2] < classes:
        raise ValueError(
            f"net must return [T, B, classes] = [{len(x)}, {x.shape[1]}, {classes} or more], but got {came}; "
            "the loss takes the mean over time itself."
        )


def accuracy(net: nn.Module, data: Split, walk: Walk, steps: int) -> float:
    """The part of the test images that the network reads rightly; some at a time, as all may not fit into memory."""
    right = 0
    with as_tested(net):
        for images, labels in zip(data.test_images.split(TESTED), data.test_labels.split(TESTED), strict=True):
            out = walk(net, currents(images, steps)).mean(0)
            right += int((out.argmax(1) == labels).sum())
    return right / len(data.test_labels)


def losses(
    walk: str, batches: int, *, network: str = "mlp", steps: int = 16, hidden: int = 128,
    dtype: torch.dtype = torch.float32,
) -> list[float]:  # fmt: skip
    """The first losses of one training, from the same weights and data whatever the walk."""
    net, data = built_in(network, hidden=hidden)
    data = data._replace(train_images=data.train_images.to(dtype))
    run = fit(tuned(net, walk).to(dtype), data, WALKS[walk][0], steps, RATES[network])
    return [next(run) for _ in range(batches)]


@contextmanager
def as_tested(net: nn.Module) -> Iterator[None]:
    """Without gradients, and in eval mode: a look at a network must not change how it trains."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def firing_rates(net: nn.Module, data: Split, steps: int) -> dict[str, float]:
    """Spikes per neuron and time step, by layer, over the first 64 test images."""
    with as_tested(net), record(net, "s") as traces:
        net(currents(data.test_images[:BATCH], steps))
    return {name: traces[name]["s"].mean().item() for name in spiking(net)}


@dataclass(frozen=True)
class Traces:
    """One test image through one layer: h, v and s are [T, neurons]; shape is that of the layer's features."""

    label: int
    guess: int
    image: np.ndarray
    shape: tuple[int, ...]
    h: np.ndarray
    v: np.ndarray
    s: np.ndarray

    def address(self, neuron: int) -> str:
        """Where a neuron is in its layer."""
        place = np.unravel_index(neuron, self.shape)
        names = ("channel", "row", "column") if len(place) == 3 else ()
        return ", ".join(f"{name} {k}" for name, k in zip(names, place, strict=False))


def look(net: nn.Module, data: Split, digit: int, steps: int, layer: str = "lif2") -> Traces:
    with as_tested(net), record(net, "h", "v", "s") as traces:
        out = net(currents(data.test_images[digit : digit + 1], steps)).mean(0)
    seen = {name: trace[:, 0].cpu() for name, trace in traces[layer].items()}
    flat = {name: trace.flatten(1).numpy() for name, trace in seen.items()}
    picture = as_picture(data.test_images[digit])
    return Traces(int(data.test_labels[digit]), int(out.argmax()), picture, tuple(seen["s"].shape[1:]), **flat)


def as_picture(x: Tensor) -> np.ndarray:
    """One example as a matrix to look at: its first channel; a vector as a square where it fills one, else as one row."""
    while x.ndim > 2:
        x = x[0]
    if x.ndim < 2:
        side = math.isqrt(x.numel())
        x = x.reshape((side, side) if side**2 == x.numel() else (1, -1))
    return x.cpu().numpy()
