"""The modules of an imported network that are not in `nn`: the network itself, and NIR's scale, sum and delay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tfexplore.exchange.graph import Graph
from tfexplore.nn.checks import State, checked_lengths
from tfexplore.nn.routes import state_dtype
from tfexplore.nn.stateful import Stateful

Shape: TypeAlias = tuple[int, ...]
"""The features of one step: `[T, B, *features]` without time and batch."""


def shape_after(module: nn.Module, shape: Shape, axes: int = 2) -> Shape:
    """The features that a module gives for these, behind so many axes; it runs without data, and raises what it raises for them.

    >>> shape_after(nn.Linear(3, 5), (3,))
    (5,)
    """
    if isinstance(module, Stateful):
        return shape
    without = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    dtype = next((value.dtype for value in without.values() if value.is_floating_point()), torch.float32)
    out: Tensor = torch.func.functional_call(
        module, without, torch.empty(*(1,) * axes, *shape, dtype=dtype, device="meta")
    )
    return tuple(out.shape[axes:])


class Imported(nn.Module):
    """What an imported network knows of where it comes from: `Chain` and `Network` have it.

    graph: as it was imported, without sub-graphs. dt: the length of a time step, in seconds. leak: the rule of its leaks, "euler"
    or "exact". places: for each node of the graph the name of its module, as in `net.get_submodule(net.places["lif"])`.
    """

    graph: Graph
    dt: float
    leak: str
    places: Mapping[str, str]

    @property
    def ends(self) -> tuple[str, str]:
        """The names of the graph's Input and Output."""
        (start,), (end,) = self.graph.named("Input"), self.graph.named("Output")
        return start, end


class Chain(nn.Sequential, Imported):
    """An imported network whose nodes follow each other: a `torch.nn.Sequential`."""


class Network(Imported):
    """An imported network whose nodes branch or meet: each module gets the sum of what the edges into it bring.

    Args:
        modules: by name, in the order in which they run.
        sources: for each module, and for the output under "", the names of the modules that it gets; "" is the input.
    """

    def __init__(self, modules: Mapping[str, nn.Module], sources: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.sources = dict(sources)

    def forward(self, input: Tensor) -> Tensor:
        made = {"": input}
        for name, module in self._modules.items():
            assert module is not None
            made[name] = module(self._sum(made, name))
        return self._sum(made, "")

    def _sum(self, made: Mapping[str, Tensor], name: str) -> Tensor:
        first, *others = (made[source] for source in self.sources[name])
        for other in others:
            first = first + other
        return first

    def extra_repr(self) -> str:
        lines = [f"{name or 'output'} = {' + '.join(s or 'input' for s in of)}" for name, of in self.sources.items()]
        return "\n".join(lines)


class Scale(nn.Module):
    """The input times a number for each feature, a parameter: x * scale.

    >>> Scale(torch.tensor([1.0, 2.0]))(torch.ones(1, 1, 2)).tolist()
    [[[1.0, 2.0]]]
    """

    deterministic = True

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def extra_repr(self) -> str:
        return f"{' x '.join(map(str, self.scale.shape))}"


class SumPool2d(nn.AvgPool2d):
    """The sum over each window: an average whose divisor is 1.

    >>> SumPool2d(2)(torch.ones(1, 1, 2, 2)).item()
    4.0
    """

    deterministic = True

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__(kernel_size, stride, padding, divisor_override=1)


class Delay(Stateful):
    """Each feature a number of steps late: y[t] = x[t - steps], and 0 before the first step.

    Its hidden state are the last inputs, `[most, B, *features]`, the oldest first.

    Args:
        steps: whole numbers from 0 on, one for each feature `[*features]`, or one for all: a tensor of int64.

    Example:
        >>> delay = Delay(torch.tensor([0, 1]))
        >>> delay(torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]])).tolist()
        [[[1.0, 0.0]], [[2.0, 1.0]]]
    """

    alike = False
    steps: Tensor

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)
        self.most = int(steps.max())

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("last inputs",)

    @property
    def trace_names(self) -> tuple[str, ...]:
        return ()

    def run(
        self, x: Tensor, state: State | None, want_state: bool = True, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        lengths = checked_lengths(lengths, x)
        if state is None:
            before = x.new_zeros(self.most, *x.shape[1:])
        else:
            before = state[0].to(x.dtype)
            if before.shape != (self.most, *x.shape[1:]):
                raise ValueError(
                    f"the last inputs must be {[self.most, *x.shape[1:]]}, but got {list(before.shape)}; begin anew with "
                    "state=None when the batch changes."
                )
        whole = torch.cat([before, x])
        times = torch.arange(len(x), device=x.device).view(-1, *(1,) * (x.ndim - 1))
        out = whole.gather(0, (self.most + times - self.steps).expand(x.shape))
        end = len(x) if lengths is None else lengths.view(1, -1, *(1,) * (x.ndim - 2))
        if lengths is not None:
            out = torch.where(times < end, out, 0)
        last = torch.arange(self.most, device=x.device).view(-1, *(1,) * (x.ndim - 1)) + end
        after = whole.gather(0, last.expand(before.shape)).to(state_dtype(x.dtype))
        return out, (after,) if want_state else ()

    def extra_repr(self) -> str:
        least = int(self.steps.min())
        return f"{self.most} steps" if least == self.most else f"{least} to {self.most} steps"
