"""The parameters of a layer that channels or neurons have to themselves: drawn, learned, or fixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import Bound, Values, is_distribution
from tfexplore.nn.routes import state_dtype


class Fixed(nn.Module):
    """Buffers by name: parameters with a shape that are not learned. They are in the layer's `state_dict`, and move with it."""

    def __init__(self, values: Mapping[str, Values]) -> None:
        super().__init__()
        for key, given in values.items():
            self.register_buffer(key, tensor_of(given))

    def __getitem__(self, key: str) -> Tensor:
        return self.get_buffer(key)


def tensor_of(given: Values) -> Tensor:
    return torch.tensor(given.array, dtype=torch.get_default_dtype())


def distributions(neuron: Neuron) -> dict[str, Any]:
    """The parameters that are distributions still."""
    return {key: value for key, value in neuron.parameters.items() if is_distribution(value)}


def drawn(neuron: Neuron, channels: int | None) -> Neuron:
    """The neuron with one value per channel drawn from each distribution."""
    found = distributions(neuron)
    if found and channels is None:
        raise ValueError(
            f"{next(iter(found))} is drawn from a distribution, so the layer must know how many values: give it channels=64, or "
            "values of your own: distribution.sample((64,))."
        )
    return (
        dataclasses.replace(neuron, **{key: each.sample((channels,)) for key, each in found.items()})
        if found
        else neuron
    )


def learned_from(neuron: Neuron, bounds: Mapping[str, Bound], channels: int | None) -> dict[str, nn.Parameter]:
    """The unconstrained parameters that training moves, by name (see `Bound.to_free`)."""
    made = {}
    for key in neuron.learn:
        value, free = getattr(neuron, key), bounds[key].to_free
        if not isinstance(value, Values):
            made[key] = nn.Parameter(torch.full(() if channels is None else (channels,), free(key, value)))
        elif channels is not None and value.shape != (channels,):
            raise ValueError(
                f"{key} has shape {value.shape}, but channels={channels} wants ({channels},); leave channels out."
            )
        else:
            flat = torch.tensor([free(key, float(each)) for each in value.array.flat], dtype=torch.get_default_dtype())
            made[key] = nn.Parameter(flat.view(value.shape))
    return made


def check_shapes(values: Mapping[str, Tensor], x: Tensor) -> None:
    """Raises ValueError unless x [T, B, *features] has each value's sizes as its first features (a 1 fits any)."""
    for key, value in values.items():
        features = x.shape[2 : 2 + value.ndim]
        if len(features) < value.ndim or any(
            size not in (1, of) for size, of in zip(value.shape, features, strict=True)
        ):
            sizes = ", ".join(map(str, value.shape))
            raise ValueError(
                f"{key} has values for [{sizes}], so x must be [T, B, {sizes}, ...], but got shape {tuple(x.shape)}."
            )


def checked(values: Mapping[str, Tensor], x: Tensor) -> list[Tensor]:
    """The parameters of groups of neurons, where x is, in the state's dtype."""
    for key, value in values.items():
        if value.device != x.device:
            raise ValueError(
                f"x is on {x.device}, but the layer's {key} is on {value.device}; move it: layer.to({str(x.device)!r})."
            )
    check_shapes(values, x)
    return [value.to(state_dtype(x.dtype)) for value in values.values()]
