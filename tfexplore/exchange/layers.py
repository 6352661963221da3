"""What stands in for another library's neurons: a layer that is trained by that library's own parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import Bound, parameters_of
from tfexplore.nn.checks import State
from tfexplore.nn.layers import Layer
from tfexplore.nn.recurrent import Recurrent
from tfexplore.nn.wrappers import FoldTime


class Trained(Bound):
    """A number that a library computes from what it trains: `from_free` is its own formula, so that training goes on as there."""


class Clamped(Trained):
    """A factor that is trained as it is, and clamped to [0, 1] where it is used (snnTorch)."""

    def to_free(self, name: str, value: float) -> float:
        return value

    def from_free(self, raw: Any) -> Any:
        return raw.clamp(0, 1)


class Sigmoid(Trained):
    """1 / tau, trained as w with 1 / tau = sigmoid(w) (SpikingJelly)."""

    def to_free(self, name: str, value: float) -> float:
        return math.log(value / (1 - value))

    def from_free(self, raw: Any) -> Any:
        return raw.sigmoid()


class ExpLeak(Trained):
    """A factor exp(-1 / tau), trained as tau (sinabs)."""

    def to_free(self, name: str, value: float) -> float:
        return -1 / math.log(value)

    def from_free(self, raw: Any) -> Any:
        return torch.exp(-1.0 / raw)


ClampedFactor = Annotated[float, Clamped()]
SigmoidRate = Annotated[float, Sigmoid()]
ExponentialFactor = Annotated[float, ExpLeak()]


@dataclass(frozen=True)
class Found:
    """What stands in for a module of neurons.

    Args:
        neuron: the equations and their numbers.
        trained: the library's own parameters, by the names of the numbers that follow from them.
        returns: states that are returned behind the spikes, because the library's module returns them.
        feedback: a module from the spikes to a current of the next step.
        before: a module that the input passes first.
        notes: what a user must know.
    """

    neuron: Neuron
    trained: Mapping[str, nn.Parameter] = field(default_factory=dict)
    returns: tuple[str, ...] = ()
    feedback: nn.Module | None = None
    before: nn.Module | None = None
    notes: tuple[str, ...] = ()


def found(kind: type[Neuron], numbers: Mapping[str, Any], options: Mapping[str, Any], **more: Any) -> Found:
    """The neuron of this kind, and what of it is trained.

    Args:
        kind: the class of the neuron.
        numbers: by name, as the library holds them: a float, a tensor, or a parameter that it trains.
        options: what else `kind` takes.
        more: what else `Found` takes.
    """
    bounds = parameters_of(kind)
    trained: dict[str, nn.Parameter] = {}
    for key, value in numbers.items():
        if isinstance(value, nn.Parameter) and value.requires_grad:
            trained[key] = value
        elif isinstance(value, Tensor) and value.requires_grad:
            raise ValueError(f"its {key} is computed from a trained tensor; only a parameter itself can be trained on.")
    plain = {key: number(value, bounds[key]) for key, value in numbers.items()}
    return Found(kind(**plain, **options, learn=tuple(trained)), trained, **more)


def number(value: Any, bound: Bound) -> Any:
    """A float, or a tensor where there are several."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    value = bound.from_free(value) if isinstance(bound, Trained) else value
    return float(value) if value.numel() == 1 else value


class Converted(Layer):
    """A layer in place of a module of another library; it may return states behind its spikes, as that module does.

    Values of several neurons are those of the last axes of x, as torch broadcasts them; here they must be those of all axes.
    """

    def __init__(self, neuron: Neuron, returns: tuple[str, ...] = ()) -> None:
        super().__init__(neuron)
        self.returns = returns

    def forward(self, *arguments: Any, **named: Any) -> Any:
        if self.returns and "trace" not in named:
            named["trace"] = self.returns
        return super().forward(*arguments, **named)

    def run(self, x: Tensor, *arguments: Any, **named: Any) -> tuple[Tensor, State]:
        if x.ndim < 3:
            raise ValueError(
                f"x must be [T, B, *features], all time steps at once, but got shape {tuple(x.shape)}: take away the loop over "
                "time. Neurons without an axis of features take x.unsqueeze(-1)."
            )
        if self.step.per_neuron:
            for key, values in (*self.raw.items(), *self.fixed.named_buffers()):
                if values.numel() > 1 and values.ndim != x.ndim - 2:
                    raise ValueError(
                        f"{key} has shape {tuple(values.shape)}, which broadcasts over the last axes of x; so x must be [T, B] "
                        f"and {values.ndim} axes, but got shape {tuple(x.shape)}. Give {key} {x.ndim - 2} axes, with ones."
                    )
        return super().run(x, *arguments, **named)


class SharedMask(nn.Module):
    """Dropout with one mask for all time steps of a call: SpikingJelly's, which draws another after `reset_net`.

    Args:
        p: the part of the values that become 0.
        whole: whole channels at once.
    """

    def __init__(self, p: float, whole: bool) -> None:
        super().__init__()
        self.p, self.drop = p, functional.dropout2d if whole else functional.dropout

    def forward(self, x: Tensor) -> Tensor:
        return x * self.drop(torch.ones_like(x[0]), self.p, True) if self.training else x


def layer_of(given: Found, like: nn.Module, copied: Any) -> nn.Module:
    """The module that stands in for `like`; copied: of a parameter or a module, what is used here."""
    layer = Converted(given.neuron, given.returns)
    for key, parameter in given.trained.items():
        layer.raw[key] = copied(parameter)
    tensors = [*like.parameters(), *like.buffers()]
    layer.to(tensors[0].device if tensors else None).train(like.training)
    made: nn.Module = layer
    if given.feedback is not None:
        feedback = copied(given.feedback)
        made = Recurrent(layer, feedback if isinstance(feedback, nn.Linear) else FoldTime(feedback))
    return made if given.before is None else nn.Sequential(copied(given.before), made)
