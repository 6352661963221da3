r"""How the levels see each other: through `read`, by default the spikes of neurons that are turned off.

Such a neuron has no memory: it fires where its input is 0.5 or more, with the straight-through gradient of clamping and
rounding, 1 within [0, 1] (T-RevSNN, Hu et al., ICML 2024). Both are outcomes of comparisons. So is all that the backward pass
needs to know of a level, and it is two bits, whatever the level's state is as a number::

    c < 0    spike 0, gradient 0        0.5 <= c <= 1    spike 1, gradient 1
    c < 0.5  spike 0, gradient 1        1 < c            spike 1, gradient 0
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from sympy import Abs, Piecewise
from torch import Tensor, nn

from tfexplore.backends import bits
from tfexplore.backends.torch_reference import numbers, on_tensors
from tfexplore.codegen import keep as keeping
from tfexplore.codegen.functions import functions_of
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.step import Step
from tfexplore.neurons.surrogates import Surrogate, Value
from tfexplore.nn.layers import Layer
from tfexplore.nn.library import IF


class StraightThrough(Surrogate):
    r"""The slope of clamping to [0, 1] behind a rounding: a box that has its edges.

    .. math:: \Theta'(u) = \begin{cases} 1 / w & |u| \le w / 2 \\ 0 & \text{else} \end{cases}

    Args:
        width: w.

    Example:
        >>> [float(StraightThrough().derivative(u)) for u in (-0.5, 0.5, 0.6)]
        [1.0, 1.0, 0.0]
    """

    width: float = 1.0

    def derivative(self, u: Value) -> Value:
        return Piecewise((1 / self.width, Abs(u) <= self.width / 2), (0, True))


def turned_off(**options: Any) -> Layer:
    """Spikes without memory: 1 where x >= 0.5, else 0, with the gradient of clamping to [0, 1].

    The same in training and in evaluation, also at 0.5.

    Args:
        options: of the layer, such as `backend`.

    Example:
        >>> x = torch.tensor([[[-0.2, 0.4, 0.5, 1.2]]], requires_grad=True)
        >>> spikes = turned_off()(x)
        >>> spikes.sum().backward()
        >>> spikes.flatten().tolist(), x.grad.flatten().tolist()
        ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0])
    """
    return IF(v_threshold=0.5, reset="none", surrogate=StraightThrough(), temporal="off", **options)


class Seen(NamedTuple):
    """What the other levels see of one at a time step, and its adjoint: the state's gradient, from that of what is seen."""

    values: Tensor
    back: Callable[[Tensor], Tensor]


def seen(see: Callable[[Tensor], Tensor], state: Tensor) -> Seen:
    """From the level's state."""
    state = state.detach().requires_grad_()
    with torch.enable_grad():
        values = see(state)
    return Seen(values.detach(), lambda g: torch.autograd.grad(values, state, g)[0])


def why_not_bits(read: nn.Module) -> str:
    """Why bits do not say what the backward pass needs of a level, or ""."""
    if not isinstance(read, Layer):
        return f"the levels see each other through {type(read).__name__}, which is no layer of neurons"
    if read.step.fire is None:
        return f"the {read.step.name} that they are read by does not spike"
    if type(read).forward is not Layer.forward:
        return f"the {read.step.name} that they are read by has a forward of its own"
    if read.step.per_neuron:
        return f"the {read.step.name} that they are read by has parameters of its own for channels, or learns them"
    reason = keeping.why_not(read.step, read.smooth)
    return f"the levels are read by {read.step.name}: {reason}" if reason else ""


@functools.cache
def compiled(step: Step) -> dict[str, Callable[..., Any]]:
    """The neuron's equations on tensors, its comparisons and its adjoint among them."""
    return on_tensors(functions_of(Variant(step, keep="bits")), f"{step.name} in bits")


class InBits:
    """A level of one time step as the outcomes of comparisons: the spike's, then those that the adjoint of `read` mentions."""

    def __init__(self, read: Layer) -> None:
        self.step, self.by_value = read.step, tuple(read.by_value)
        self.do = compiled(read.step)

    def kept(self, state: Tensor) -> list[Tensor]:
        """A plane of bits for each comparison."""
        p, z = self._numbers(state)
        h = self.do["charge"](z, state, p)
        u = self.do["fire"](h, p)
        outcomes = (u >= 0, *self.do["remember"](z, state, h, u, p))
        return [bits.pack(outcome.reshape(1, -1, 1), bits.Layout(), True)[0] for outcome in outcomes]

    def seen(self, kept: list[Tensor], shape: torch.Size, dtype: torch.dtype, data: torch.dtype) -> Seen:
        """What `reading.seen` of a state of this shape and dtype gives, to the bit; data: the dtype of what is seen."""
        count, layout = math.prod(shape), bits.Layout()
        fired, *outcomes = (bits.unpack(plane, count, layout, torch.bool).view(shape) for plane in kept)

        def back(g: Tensor) -> Tensor:
            g = g.to(dtype)
            p, z = self._numbers(g)
            found: Tensor = self.do["adjoint"](g, (torch.zeros_like(g),) * len(z), outcomes, p)[0]
            return found

        return Seen(fired.to(data), back)

    def _numbers(self, like: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The parameters, and the states that the neuron starts from."""
        both = numbers(self.by_value, like)
        return both[: len(self.step.scalars)], both[len(self.step.scalars) :]
