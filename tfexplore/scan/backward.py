r"""The backward pass as a scan over time: of every neuron, since the chain rule is linear in the gradient.

Once the forward values are known, the adjoint of step t takes the gradient of the states behind the step to that of the states
before it, and adds what comes in through the step's own output::

    g[t-1] = J[t]^T g[t] + c[t]            J = dz[t]/dz[t-1];  c = the part of g_out[t]

J and c are not written down anywhere: `adjoint_of` derives the step's backward pass, and since that is linear, what it makes
of the unit vectors *is* its matrix. So QIF, EIF and Izhikevich, whose forward pass no scan can do, have one backward, with or
without a detached reset.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tfexplore.backends import torch_reference
from tfexplore.codegen.functions import functions_of
from tfexplore.codegen.variant import Variant
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step
from tfexplore.scan.pairs import Count, Pairs
from tfexplore.scan.steps import Equations, Forward, States, check_how, scanned, walk


class Gradient(NamedTuple):
    """What the backward pass gives.

    Args:
        x: of the input current, `[T, B, *features]`.
        start: of the states before the first step.
        learned: of the parameters that the neuron learns, by name, at every step: `[T, B, *features]`; to be summed.
    """

    x: Tensor
    start: States
    learned: dict[str, Tensor]


class Adjoint:
    """A neuron's derived backward pass at all steps at once.

    Args:
        on: the neuron's equations, on x.
        forward: the values of the forward pass.
    """

    def __init__(self, on: Equations, forward: Forward) -> None:
        step = on.step
        values = {
            **dict(zip(step.before, forward.before, strict=True)),
            **dict(zip(step.charged, forward.charged, strict=True)),
            step.x: on.x,
        }
        self.on, self.states, self.like, self.p, self.step = on, len(step.before), on.x, on.p, step
        needs, self.function = _adjoint(step)
        self.needs = tuple(values[symbol] for symbol in needs)

    def __call__(self, g_out: Tensor, g: States) -> tuple[Tensor, States, States]:
        """The gradients of x, of the states before each step, and of the learned parameters."""
        g_x, before, learned = self.function(g_out, g, self.needs, self.p)
        full = torch.zeros_like(self.like)  # a gradient that is the same everywhere comes as one number
        return full + g_x, tuple(full + each for each in before), tuple(full + each for each in learned)

    def pairs(self, g_out: Tensor) -> Pairs:
        """J^T and c of every step, the first step first."""
        zero, one = torch.zeros_like(self.like), torch.ones_like(self.like)
        columns = []
        for j in range(self.states):
            unit = tuple(one if k == j else zero for k in range(self.states))
            columns.append(torch.stack(self(zero, unit)[1], 1))
        nothing = (zero,) * self.states
        transposed = torch.stack(columns, 2) if self.states > 1 else columns[0]  # [T, S, S, ...]
        return Pairs(transposed, torch.stack(self(g_out, nothing)[1], 1))


@functools.cache
def _adjoint(step: Step) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    """The forward values that the adjoint of a step needs, and itself as a function on tensors."""
    variant = Variant(step, keep="potential")
    function = next(function for function in functions_of(variant) if function.name == "adjoint")
    return variant.needs, torch_reference.on_tensors([function], step.name)["adjoint"]


def adjoint_pairs(
    neuron: Neuron, x: Tensor, g_out: Tensor, state: States | None = None, forward: Forward | None = None
) -> Pairs:
    """The recurrence of the backward pass as affine pairs, in its own order: the last step first.

    Args:
        neuron: any; it need not be affine.
        x: the input current, `[T, B, *features]`.
        g_out: the gradient of the output, of x's shape.
        state: the states before the first step.
        forward: the values of the forward pass, where they are known (of `walk`, `run` or `solve`).

    Returns:
        A = J^T, `[T, S, S, ...]` (`[T, 1, ...]` for one state), and b = c, `[T, S, ...]`. A scan of them from the gradient of the
        last states gives, at k, that of the states before step T - 1 - k.

    Example:
        A leak of a half, without reset: half of the gradient passes on, and a surrogate of slope 1 adds what arrives.

        >>> from tfexplore import neurons
        >>> neuron = neurons.LIF(tau=2.0, reset="none", surrogate=neurons.surrogates.Rectangle(1.0))
        >>> a, b = adjoint_pairs(neuron, torch.full((3, 1, 1), 0.8), torch.ones(3, 1, 1))
        >>> a.flatten().tolist(), b.flatten().tolist()
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    """
    adjoint, g_out = _of(neuron, x, g_out, state, forward)
    a, b = adjoint.pairs(g_out)
    return Pairs(a.flip(0), b.flip(0))


def gradient(
    neuron: Neuron,
    x: Tensor,
    g_out: Tensor,
    state: States | None = None,
    g_state: States | None = None,
    how: str = "associative",
    chunk: int = 32,
    *,
    forward: Forward | None = None,
    count: Count | None = None,
) -> Gradient:
    """The backward pass of any neuron as a scan over time.

    Args:
        neuron, x, g_out, state, forward: as for `adjoint_pairs`.
        g_state: the gradients of the last states, each `[B, *features]`; None for 0.
        how: `"sequential"`, `"chunked"`, `"associative"` or `"doubling"`.
        chunk: time steps of a chunk, for `"chunked"`.
        count: counts the combines.

    Example:
        >>> from tfexplore import neurons
        >>> x = torch.full((3, 1, 1), 0.6, dtype=torch.float64, requires_grad=True)
        >>> g = torch.ones_like(x)
        >>> torch.autograd.backward(walk(neurons.QIF(), x).out, g)           # the loop, by autograd
        >>> torch.allclose(gradient(neurons.QIF(), x.detach(), g).x, x.grad)  # a tree
        True
    """
    check_how(how)
    adjoint, g_out = _of(neuron, x, g_out, state, forward)
    nothing = adjoint.like.new_zeros(adjoint.states, *x.shape[1:])
    last = nothing if g_state is None else torch.stack(adjoint.on.checked("g_state", g_state))
    if not len(x):
        return Gradient(torch.zeros_like(adjoint.like), tuple(last), {})
    a, b = adjoint.pairs(g_out)
    before = scanned(how, Pairs(a.flip(0), b.flip(0)), last, chunk, count).flip(0)
    behind = torch.cat([before[1:], last[None]])
    g_x, _, learned = adjoint(g_out, behind.unbind(1))
    names = [symbol.name for symbol in adjoint.step.learned]
    return Gradient(g_x, before[0].unbind(0), dict(zip(names, learned, strict=True)))


def _of(
    neuron: Neuron, x: Tensor, g_out: Tensor, state: States | None, forward: Forward | None
) -> tuple[Adjoint, Tensor]:
    on = Equations(neuron, x)
    if not isinstance(g_out, Tensor) or g_out.shape != x.shape:
        came = tuple(g_out.shape) if isinstance(g_out, Tensor) else type(g_out).__name__
        raise ValueError(f"g_out must be a tensor of x's shape, {tuple(x.shape)}, but got {came}.")
    if forward is not None and (not isinstance(forward, Forward) or forward.u.shape != x.shape):
        came = tuple(forward.u.shape) if isinstance(forward, Forward) else type(forward).__name__
        raise ValueError(f"forward must be a Forward of x's shape, {tuple(x.shape)}, but got {came}.")
    with torch.no_grad():
        known = walk(neuron, x, state) if forward is None else forward
        return Adjoint(on, known), g_out.to(on.x.dtype)
