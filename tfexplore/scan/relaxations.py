"""What relaxations share: layers that are parallel in time because they compute something else than a LIF.

A LIF cannot compute all its steps at once, as each spike resets the potential of the next step. Relaxations change
the equation until that is gone. They take part in `carry` and `padded` as far as they can, and refuse the rest.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from tfexplore.backends import torch_reference
from tfexplore.backends.torch_reference import Sloped
from tfexplore.codegen.variant import Variant
from tfexplore.neurons import IF
from tfexplore.neurons.step import by_value, step_of
from tfexplore.neurons.surrogates import Surrogate
from tfexplore.nn.checks import State, checked_lengths
from tfexplore.nn.memoryless import valid
from tfexplore.nn.routes import state_dtype
from tfexplore.nn.stateful import Stateful


class WorkDepth(NamedTuple):
    """What a forward pass costs.

    work: multiplications with an addition, of all neurons and steps; comparisons and surrogates are not counted.
    depth: how many operations of the longest chain must follow each other, however many processors there are.
    """

    work: int
    depth: int


def depth_of_sum(terms: int) -> int:
    """The depth of a sum of products: one multiplication, then a tree of additions.

    >>> depth_of_sum(8)
    4
    """
    return 1 + math.ceil(math.log2(max(terms, 1)))


class Relaxation(Stateful):
    """Base of the relaxations: x in the state's dtype within, no autocast, what is behind a sample's end counts as no current.

    A subclass defines `compute`. The state is float32 (float64 for float64 input) whatever x is, as in every layer; the
    parameters are taken in that dtype.
    """

    why_no_state: ClassVar[str] = ""
    """Of a layer that cannot go on from a state: the reason, and what to do."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ()

    @property
    def trace_names(self) -> tuple[str, ...]:
        return ("h",)

    def work(self, steps: int, neurons: int) -> WorkDepth:
        """Work and depth of a forward pass over so many steps and neurons."""
        raise NotImplementedError

    def compute(self, x: Tensor, state: State | None, ends: Tensor | None) -> tuple[Tensor, dict[str, Tensor], State]:
        """The output of x [T, B, *features], its traces, and the state after the last step.

        ends: where the state is to be taken, the number of steps of each sample [B]; None for T each.
        """
        raise NotImplementedError

    def run(
        self,
        x: Tensor,
        state: State | None,
        want_state: bool = True,
        *,
        lengths: Tensor | None = None,
        trace: tuple[str, ...] = (),
        traces: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        if self.why_no_state and (want_state or state is not None):
            raise ValueError(f"{type(self).__name__} has no state to go on from: {self.why_no_state}")
        for name, parameter in self.named_parameters():
            if parameter.device != x.device:
                raise ValueError(
                    f"x is on {x.device}, but the layer's {name} is on {parameter.device}; move it: layer.to({str(x.device)!r})."
                )
        ends = checked_lengths(lengths, x)
        own = None if ends is None else valid(ends, x)
        wide = x.to(state_dtype(x.dtype))
        if own is not None:  # what is behind the end may be anything
            wide = torch.where(own, wide, 0)
        with torch.autocast(x.device.type, enabled=False):
            out, found, after = self.compute(wide, state, ends)
        if own is not None:
            out, found = torch.where(own, out, 0), {name: torch.where(own, each, 0) for name, each in found.items()}
        if traces is not None:
            traces |= {name: found[name] for name in trace}
        return out.to(x.dtype), after


class Spike:
    """1 where u >= 0, else 0; the surrogate's slope in the backward pass, from the same text as the eager backend's.

    Derived here once, so that a call is torch's operations only.

    >>> from tfexplore import surrogates
    >>> u = torch.tensor([-1.0, 0.0], requires_grad=True)
    >>> s = Spike(surrogates.ATan())(u)
    >>> s.sum().backward()
    >>> s.tolist(), u.grad[1].item()
    ([0.0, 1.0], 1.0)
    """

    def __init__(self, surrogate: Surrogate) -> None:
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"surrogate must be like surrogates.ATan(), but got {surrogate!r}.")
        neuron = IF(surrogate=surrogate)
        step = step_of(neuron)
        self.surrogate, self.p = surrogate, tuple(by_value(neuron)[: len(step.scalars)])
        self.slope = torch_reference.compiled(Variant(step))["slope"]

    def __call__(self, u: Tensor) -> Tensor:
        with torch.no_grad():
            slope = self.slope(u, self.p)
        out: Tensor = Sloped.apply(u, slope, False)
        return out

    def __reduce__(self) -> Any:  # generated functions do not pickle
        return Spike, (self.surrogate,)


def decays(steps: int, decay: float, like: Tensor) -> Tensor:
    """The steps x steps matrix that leaks: decay^(t - j) where j <= t, else 0, in the dtype of `like`.

    With it, a LIF without reset is one product: h = decays x, with decay = 1 - 1/tau.

    >>> decays(3, 0.5, torch.zeros(1)).tolist()
    [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]]
    """
    t = torch.arange(steps, dtype=like.dtype, device=like.device)
    ago = t.unsqueeze(1) - t
    return torch.where(ago >= 0, decay ** ago.clamp(min=0), 0)


def at(rows: Tensor, starts: Tensor | None, count: int) -> State:
    """`count` rows of [T', B, ...] from each sample's own start on (None: the last ones), one by one."""
    if starts is None:
        return tuple(rows[len(rows) - count :].unbind(0))
    samples = torch.arange(rows.shape[1], device=rows.device)
    return tuple(rows[starts + k, samples] for k in range(count))
