"""SpikingJelly 2.0: its neurons' equations, and `from_spikingjelly`. It fires at h >= v_threshold, as we do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from sympy import exp
from torch import Tensor, nn

from tfexplore.exchange import slopes, walk
from tfexplore.exchange.layers import Found, SharedMask, SigmoidRate, found
from tfexplore.exchange.slopes import by_autograd, matching
from tfexplore.neurons import library as neurons
from tfexplore.neurons import surrogates
from tfexplore.neurons.neuron import Neuron, Positive, Value
from tfexplore.neurons.order import first
from tfexplore.neurons.surrogates import Surrogate


class LIF(neurons.LIF):
    """`LIFNode`: h = v + (x - (v - v_reset)) / tau, or h = v - (v - v_reset) / tau + x; of a soft reset, v_reset is 0."""

    def charge(self, v: Value, x: Value) -> Value:
        if self.decay_input:
            return v + (x - first(v - self.v_reset)) / self.tau
        return first(v - first(v - self.v_reset) / self.tau) + x


class ParametricLIF(Neuron):
    """`ParametricLIFNode`: the same with q = sigmoid(w) in place of 1 / tau, trained as w (Fang et al., ICCV 2021)."""

    q: SigmoidRate = 0.5
    v_threshold: float = 1.0
    v_reset: float = 0.0
    decay_input: bool = True

    def charge(self, v: Value, x: Value) -> Value:
        if self.decay_input:
            return v + first(x - first(v - self.v_reset)) * self.q
        return first(v - first(v - self.v_reset) * self.q) + x


class QIF(neurons.QIF):
    """`QIFNode`: h = v + (x + a (v - v_rest) (v - v_c)) / tau."""

    def charge(self, v: Value, x: Value) -> Value:
        return v + (x + first(self.a * first(v - self.v_rest)) * first(v - self.v_c)) / self.tau


class EIF(neurons.EIF):
    """`EIFNode`: h = v + (x + v_rest - v + d exp((v - v_t) / d)) / tau."""

    def charge(self, v: Value, x: Value) -> Value:
        return v + (first(x + self.v_rest - v) + self.d * exp((v - self.v_t) / self.d)) / self.tau


class Izhikevich(Neuron):
    """`IzhikevichNode`, a QIF with a recovery w.

    One step::

        h_v = v + (x + a0 (v - v_rest) (v - v_c) - w) / tau
        h_w = w + (a (h_v - v_rest) - w) / tau_w,  after firing w = h_w + b s
    """

    states = ("v", "w")
    tau: Positive = 1.0
    a0: float = 0.02
    v_rest: float = 0.0
    v_c: float = 0.8
    tau_w: Positive = 1.0
    a: float = 0.0
    b: float = 0.0
    v_threshold: float = 1.0
    v_reset: float = -0.1

    def charge(self, v: Value, w: Value, x: Value) -> tuple[Value, ...]:
        h = v + (x + first(self.a0 * first(v - self.v_rest)) * first(v - self.v_c) - w) / self.tau
        return h, w + (self.a * first(first(h) - self.v_rest) - w) / self.tau_w

    def after(self, s: Value, v: Value, w: Value) -> tuple[Value, ...]:
        return (w + self.b * s,)


class CubaLIF(Neuron):
    """`CUBALIFNode`: h_c = c c_decay + x, h_v = v v_decay + h_c."""

    states = ("v", "c")
    c_decay: float = 0.5
    v_decay: float = 0.75
    v_threshold: float = 0.5
    v_reset: float = 0.0

    def charge(self, v: Value, c: Value, x: Value) -> tuple[Value, ...]:
        c = first(c * self.c_decay + x)
        return v * self.v_decay + c, c


def surrogate_of(function: Any) -> Surrogate:
    """What stands in for an object of `spikingjelly.activation_based.surrogate`."""
    name, alpha = type(function).__name__, float(getattr(function, "alpha", 1.0))
    if not getattr(function, "spiking", False):
        raise ValueError(f"its surrogate {name} has spiking=False, or is a function, so that it may give no spikes.")
    known: dict[str, Callable[[float], Surrogate]] = {
        "Sigmoid": surrogates.Sigmoid,
        "ATan": surrogates.ATan,
        "PiecewiseQuadratic": lambda alpha: surrogates.Triangle(1 / alpha),
        "PiecewiseExp": lambda alpha: slopes.Exponential(1 / alpha, alpha / 2),
        "SoftSign": lambda alpha: slopes.FastSigmoid(alpha, alpha / 2),
        "SuperSpike": lambda alpha: slopes.FastSigmoid(1.0, alpha),
        "Erf": lambda alpha: surrogates.Gaussian(1 / (math.sqrt(2) * alpha)),
        "Rect": lambda alpha: surrogates.Rectangle(1 / alpha),
        "NonzeroSignLogAbs": slopes.LogSlope,
        "QPseudoSpike": slopes.Power,
    }
    if name not in known:
        raise ValueError(f"its surrogate {name} has no counterpart here; take one of {', '.join(known)}.")
    return matching([known[name](alpha)], by_autograd(function), name)


def node(kind: type[Neuron], node: Any, numbers: dict[str, Any], **options: Any) -> Found:
    """What all of its nodes have."""
    soft = node.v_reset is None
    numbers = numbers | {"v_threshold": node.v_threshold, "v_reset": 0.0 if soft else node.v_reset}
    options = options | {
        "reset": "soft" if soft else "hard",
        "detach_reset": node.detach_reset,
        "surrogate": surrogate_of(node.surrogate_function),
    }
    notes = ("v_seq is not stored; with tfexplore.record(net, 'v') as traces: ... has it.",) if node.store_v_seq else ()
    return found(kind, numbers, options, notes=notes)


NODES = {
    "IFNode": lambda n: node(neurons.IF, n, {}),
    "LIFNode": lambda n: node(LIF, n, {"tau": n.tau}, decay_input=n.decay_input),
    "ParametricLIFNode": lambda n: node(ParametricLIF, n, {"q": n.w}, decay_input=n.decay_input),
    "QIFNode": lambda n: node(QIF, n, {"tau": n.tau, "a": n.a0, "v_rest": n.v_rest, "v_c": n.v_c}),
    "EIFNode": lambda n: node(EIF, n, {"tau": n.tau, "d": n.delta_T, "v_t": n.theta_rh, "v_rest": n.v_rest}),
    "IzhikevichNode": lambda n: node(
        Izhikevich, n, {key: getattr(n, key) for key in ("tau", "a0", "v_rest", "v_c", "tau_w", "a", "b")}
    ),
    "CUBALIFNode": lambda n: node(CubaLIF, n, {"c_decay": n.c_decay, "v_decay": n.v_decay}),
}


def run(net: nn.Module, x: Tensor) -> Tensor:
    """The network from its initial states over x [T, B, ...]: all at once where its neurons take that, else step by step."""
    from spikingjelly.activation_based import functional

    functional.reset_net(net)
    several = [m.step_mode == "m" for m in net.modules() if type(m).__name__ in NODES]
    looped = [m for m in net.modules() if type(m).__name__ in ("MultiStepContainer", "StepModeContainer")]
    if all(several) or looped:
        out: Tensor = net(x)
        return out
    return torch.stack([net(x_t) for x_t in x])


LIBRARY = walk.Library(
    package="spikingjelly",
    neurons=NODES,
    stepwise=lambda node: bool(node.step_mode == "s"),
    containers={"MultiStepContainer": True, "StepModeContainer": True, "SeqToANNContainer": True},
    stateless={
        "Dropout": lambda module: SharedMask(module.p, whole=False),
        "Dropout2d": lambda module: SharedMask(module.p, whole=True),
    },
    folds=("SeqToANNContainer",),
    kept=("VotingLayer",),
    own_forward="has a forward of its own, unchanged: a loop over time in it must go, since its neurons take all time steps, "
    "[T, B, ...]; in multi-step mode there is none.",
)


def from_spikingjelly(net: nn.Module, *, share: bool = True) -> nn.Module:
    """A network of SpikingJelly's with its neurons as fused layers; everything else is as it was.

    In multi-step mode only the neurons are replaced. In single-step mode, and within a `MultiStepContainer`, what is between
    them is folded over time (`FoldTime`). The result takes x `[T, B, *features]` and begins each call from the initial state:
    there is nothing to reset.

    Args:
        net: a module with neurons of `spikingjelly.activation_based.neuron`: IFNode, LIFNode, ParametricLIFNode, QIFNode,
            EIFNode, IzhikevichNode or CUBALIFNode.
        share: the result has the parameters of `net` themselves; False copies them.

    Returns:
        The converted network; `print(result.conversion)` says what was done.

    Raises:
        TypeError, ValueError: for what has no counterpart, with its name in the network.

    Example:
        >>> from tfexplore.exchange import from_spikingjelly
        >>> import torch
        >>> from_spikingjelly(torch.nn.Linear(2, 2))
        Traceback (most recent call last):
        ValueError: net has no neurons of spikingjelly, so there is nothing to convert.
    """
    return walk.converted(net, LIBRARY, share)
