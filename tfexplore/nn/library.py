"""The library's neurons as layers: `LIF(tau=2.0, keep="input")` is short for `Layer(neurons.LIF(tau=2.0), keep="input")`.

A layer's signature and docstring are put together from those of its neuron, of `Neuron` and of `Layer`, so that each argument
is described once. `library.pyi` holds the same for what reads a file without running it (mypy, editors); `python
tools/layer_stubs.py` writes it, and a test compares.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar

from tfexplore import neurons
from tfexplore.neurons.neuron import COMMON, Neuron
from tfexplore.neurons.parameters import parameters_of
from tfexplore.nn.layers import Layer


class NeuronLayer(Layer):
    """A layer that makes its own neuron: it takes the neuron's parameters and the options of `Layer` together."""

    kind: ClassVar[type[Neuron]]
    options: ClassVar[tuple[str, ...]] = (
        "backend",
        "keep",
        "channels",
        "smooth",
        "temporal",
        "temporal_gradient",
        "schedule",
    )

    def __init_subclass__(cls, kind: type[Neuron]) -> None:
        super().__init_subclass__()
        cls.kind, cls.__doc__ = kind, docstring(kind) if Layer.__doc__ else None  # python -OO has none
        own = sorted(inspect.signature(kind).parameters.values(), key=lambda p: p.name in COMMON)
        chosen = [p for name, p in inspect.signature(Layer).parameters.items() if name in cls.options]
        setattr(cls, "__signature__", inspect.Signature([*own, *chosen]))  # noqa: B010  (mypy knows no such field)

    def __init__(self, *unnamed: Any, **given: Any) -> None:
        if unnamed:
            first = next(iter(parameters_of(self.kind)))
            raise TypeError(
                f"{self.kind.__name__} takes its parameters by name: {self.kind.__name__}({first}={unnamed[0]!r})."
            )
        chosen = {name: given.pop(name) for name in self.options if name in given}
        known = inspect.signature(self.kind).parameters
        if unknown := [name for name in given if name not in known]:
            allowed = ", ".join((*known, *self.options))
            raise TypeError(f"{self.kind.__name__} has no parameter {unknown[0]!r}; it takes {allowed}.")
        super().__init__(self.kind(**given), **chosen)


def docstring(kind: type[Neuron]) -> str:
    """The neuron's sentence and equations, then the arguments of neuron, `Neuron` and `Layer`, and how the layer is called."""
    about = sections(kind)
    output = "spikes" if kind.spiking else "potentials"
    shape = sections(Layer)["Shape"].replace("in the order of `neuron.states`", f"for {' and '.join(kind.states)}")
    arguments = "\n".join([about["Args"], sections(Neuron)["Args"], without_neuron(sections(Layer)["Args"])])
    return f"""{about[""]}

A layer of `neurons.{kind.__name__}`: all T time steps in one fused kernel where `backend` has one, forward and backward. Each
of the neuron's numbers may be a tensor, with one value for each channel or neuron, or a distribution, from which one is drawn
for each of
`channels`.

Args:
{arguments}

Shape:
{shape}

Raises:
    TypeError, ValueError: naming the argument, what came and what is allowed.

Example:
    >>> import torch, tfexplore
    >>> layer = tfexplore.{kind.__name__}()
    >>> {output}, state = layer(torch.rand(5, 2, 3), return_state=True)     # [T, B, features]
    >>> {output}.shape, [z.shape for z in state]
    (torch.Size([5, 2, 3]), [{", ".join(["torch.Size([2, 3])"] * len(kind.states))}])
"""


def sections(documented: type) -> dict[str, str]:
    """A docstring in Google's style by its headings; "" is what stands above the first."""
    parts = re.split(r"^(\w+):\n", inspect.cleandoc(documented.__doc__ or ""), flags=re.MULTILINE)
    return {heading: text.rstrip() for heading, text in zip(["", *parts[1::2]], parts[::2], strict=True)}


def without_neuron(arguments: str) -> str:
    """The arguments of `Layer` but the neuron."""
    return re.sub(r"^    neuron: .*\n(?:     .*\n)*", "", arguments)


class IF(NeuronLayer, kind=neurons.IF): ...


class LIF(NeuronLayer, kind=neurons.LIF): ...


class ParametricLIF(NeuronLayer, kind=neurons.ParametricLIF): ...


class ALIF(NeuronLayer, kind=neurons.ALIF): ...


class CubaLIF(NeuronLayer, kind=neurons.CubaLIF): ...


class LI(NeuronLayer, kind=neurons.LI): ...


class QIF(NeuronLayer, kind=neurons.QIF): ...


class EIF(NeuronLayer, kind=neurons.EIF): ...


class Izhikevich(NeuronLayer, kind=neurons.Izhikevich): ...


class PaperLIF(NeuronLayer, kind=neurons.PaperLIF): ...
