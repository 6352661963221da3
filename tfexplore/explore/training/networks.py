"""What the training explorers train: the course's two networks or one's own, in each walk."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tfexplore.data import Split, currents, digits
from tfexplore.explore.training.observe import as_tested, spiking
from tfexplore.nn import layers
from tfexplore.nn.networks import RATES, Walk, built_in, fit, images
from tfexplore.nn.schedules import layer_by_layer, step_by_step

WALKS: dict[str, tuple[Walk, str]] = {
    "fused": (layer_by_layer, "auto"),
    "layer by layer": (layer_by_layer, "torch"),
    "step by step": (step_by_step, "torch"),
}
"""Each way to train, as a schedule and a backend."""


class Subject(NamedTuple):
    """What is trained: a network, its data, Adam's learning rate, and a name."""

    net: nn.Module
    data: Split
    rate: float
    name: str


def subject(
    network: str | nn.Module, data: Sequence[object] | None, walk: str, steps: int, *, hidden: int = 128, seed: int = 0
) -> Subject:
    """One of the course's networks, by its name, or a network of one's own, tried out on its data."""
    if not isinstance(network, nn.Module):
        if data is not None:
            raise ValueError(f"network={network!r} has its own data; give data with a network of your own.")
        return Subject(*built_in(network, seed, hidden), RATES[network], network)
    split, device = own(network, data), next(network.parameters()).device
    split = Split(*(part.to(device) for part in split))
    try_out(tuned(network, walk), split, walk, steps)
    return Subject(network, split, 2e-3, "your network")


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

    x `[n, *features]` become constant currents `[T, B, *features]`; y `[n]` are the numbers of the classes, from 0 on.
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
    """Runs two test examples; raises what is wrong with the network if it cannot be trained on this data."""
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


def losses(
    walk: str, batches: int, *, network: str = "mlp", steps: int = 16, hidden: int = 128,
    dtype: torch.dtype = torch.float32,
) -> list[float]:  # fmt: skip
    """The first losses of one training, from the same weights and data whatever the walk.

    Args:
        walk: "fused", "layer by layer" or "step by step".
        batches: how many losses.
        network: "mlp" or "conv".
        steps: time steps `T`.
        hidden: neurons in each hidden layer of "mlp".
        dtype: of the weights and images.

    Returns:
        The loss of each batch, in order.

    Example:
        >>> losses("fused", 3, steps=4, hidden=16) == losses("layer by layer", 3, steps=4, hidden=16)
        True
    """
    net, data = built_in(network, hidden=hidden)
    data = data._replace(train_images=data.train_images.to(dtype))
    run = fit(tuned(net, walk).to(dtype), data, WALKS[walk][0], steps, RATES[network])
    return [next(run) for _ in range(batches)]
