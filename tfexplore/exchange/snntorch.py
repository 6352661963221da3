"""snnTorch 1.0: its neurons' equations, and `from_snntorch`.

It fires at mem > threshold. By default a spike resets one step later, and always as a number, without a gradient (`reset_delay`,
`mem_reset`); so its mem is the potential before the reset, and the reset belongs to the charge of the next step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from sympy import Piecewise
from torch import Tensor, nn

from tfexplore.exchange import slopes, walk
from tfexplore.exchange.layers import ClampedFactor, Found, found
from tfexplore.exchange.slopes import by_autograd, matching
from tfexplore.neurons import surrogates
from tfexplore.neurons.neuron import Neuron, Value
from tfexplore.neurons.order import first
from tfexplore.neurons.surrogates import Surrogate


class Delayed(Neuron):
    """A neuron whose reset comes with the next step, from the potential v that fired; it has no gradient.

    `reset` says which: `"soft"` subtracts the threshold, `"hard"` sets to 0.
    """

    strict: bool = True
    v_threshold: float = 1.0

    def fired(self, v: Value, then: Value, otherwise: Value) -> Value:
        return Piecewise((then, v > self.v_threshold), (otherwise, True))

    def subtracted(self, h: Value, v: Value) -> Value:
        """h after the reset of the last step, whose potential was v."""
        return h - self.fired(v, self.v_threshold, 0) if self.reset == "soft" else h

    def emptied(self, h: Value, v: Value) -> Value:
        """The same where "hard" sets all of h to 0, this step's input included."""
        return self.fired(v, 0, h) if self.reset == "hard" else self.subtracted(h, v)

    def soft(self, s: Value, v: Value, *others: Value) -> Value:
        return v

    hard = soft


class Leaky(Delayed):
    """`Leaky`: h = beta v + x - threshold where v fired ("soft"), or h = beta (0 where v fired, else v) + x ("hard")."""

    beta: ClampedFactor = 0.9

    def charge(self, v: Value, x: Value) -> Value:
        kept = self.fired(v, 0, v) if self.reset == "hard" else v
        return self.subtracted(self.beta * kept + x, v)


class RLeaky(Leaky):
    """`RLeaky`: as `Leaky`, but "hard" sets h to 0 after the input has been added; x holds the recurrent current."""

    def charge(self, v: Value, x: Value) -> Value:
        return self.emptied(self.beta * v + x, v)


class Synaptic(Delayed):
    """`Synaptic`: i' = alpha i + x, h = beta v + i', reset as in `RLeaky`; the current is not reset."""

    states = ("v", "i")
    alpha: ClampedFactor = 0.9
    beta: ClampedFactor = 0.8

    def charge(self, v: Value, i: Value, x: Value) -> tuple[Value, ...]:
        i = first(self.alpha * i + x)
        return self.emptied(self.beta * v + i, v), i


class Lapicque(Delayed):
    """`Lapicque`: h = x r rate dt + decay v, with rate = 1 / (R C) and decay = 1 - dt / (R C); reset as in `RLeaky`."""

    decay: float = 0.9
    rate: float = 0.1
    r: float = 1.0
    dt: float = 1.0

    def charge(self, v: Value, x: Value) -> Value:
        return self.emptied(first(first(x * self.r) * self.rate) * self.dt + self.decay * v, v)


class Alpha(Delayed):
    """`Alpha`, a difference of two exponentials: e' = alpha e + x, i' = beta i - x, h = gain (e' + i').

    A spike of the last step sets all three to 0 ("hard"), or ("soft") e' to e' - threshold, i' to 0 and h to h + i.
    """

    states = ("v", "e", "i")
    alpha: float = 0.9
    beta: float = 0.8
    gain: float = 1.0

    def charge(self, v: Value, e: Value, i: Value, x: Value) -> tuple[Value, ...]:
        e_next, i_next = first(self.alpha * e + x), first(self.beta * i - x)
        h = self.gain * (e_next + i_next)
        if self.reset == "hard":
            return tuple(self.fired(v, 0, value) for value in (h, e_next, i_next))
        if self.reset == "soft":
            return h + self.fired(v, i, 0), e_next - self.fired(v, self.v_threshold, 0), self.fired(v, 0, i_next)
        return h, e_next, i_next


class AtOnce(Delayed):
    """With `reset_delay=False`: a spike resets in its own step, with a gradient, but for what the last step's reset has taken.

    The state r, 1 where the potential before the step is above the threshold still, has no gradient. Last in `states`.
    """

    detach_reset: bool = False

    def soft(self, s: Value, v: Value, *others: Value) -> Value:
        return v - (s - others[-1]) * self.v_threshold

    def hard(self, s: Value, v: Value, *others: Value) -> Value:
        return v - (s - others[-1]) * v


class LeakyAtOnce(AtOnce, Leaky):
    """`Leaky(reset_delay=False)`, see `AtOnce`."""

    states = ("v", "r")

    def charge(self, v: Value, r: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]  # one state more
        return Leaky.charge(self, v, x), self.fired(v, 1, 0)


class RLeakyAtOnce(AtOnce, RLeaky):
    """`RLeaky(reset_delay=False)`, see `AtOnce`."""

    states = ("v", "r")

    def charge(self, v: Value, r: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]
        return RLeaky.charge(self, v, x), self.fired(v, 1, 0)


class SynapticAtOnce(AtOnce, Synaptic):
    """`Synaptic(reset_delay=False)`, see `AtOnce`."""

    states = ("v", "i", "r")  # type: ignore[assignment]

    def charge(self, v: Value, i: Value, r: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]
        return *Synaptic.charge(self, v, i, x), self.fired(v, 1, 0)


def surrogate_of(function: Any) -> Surrogate:
    """What stands in for a function that `snntorch.surrogate` made."""
    known: dict[str, Callable[..., Surrogate]] = {
        "atan": surrogates.ATan,
        "fast_sigmoid": surrogates.SuperSpike,
        "sigmoid": surrogates.Sigmoid,
        "triangular": slopes.Flip,
        "straight_through_estimator": slopes.Constant,
        "spike_rate_escape": slopes.Escape,
        "heaviside": slopes.Spike,
    }
    # atan(alpha=2.0) returns a function named atan.<locals>.inner, in which alpha is a variable
    name = getattr(function, "__qualname__", type(function).__name__).split(".")[0]
    if not inspect.isfunction(function) or name not in known:
        raise ValueError(f"its surrogate {name} has no counterpart here; take one of {', '.join(known)}.")
    scales = map(float, inspect.getclosurevars(function).nonlocals.values())  # in the order of their names
    return matching([known[name](*scales)], by_autograd(function), name)


MECHANISMS = {"subtract": ("_base_sub", "soft"), "zero": ("_base_zero", "hard"), "none": ("_base_int", "none")}
"""Its resets, in the order of their numbers there: the method that a step calls, and what it is here."""


def reset_of(module: Any) -> str:
    """Its reset. The method is chosen when it is made; a reset that is set or loaded later changes other parts alone."""
    method, reset = MECHANISMS[module.reset_mechanism]
    number = [*MECHANISMS].index(module.reset_mechanism)
    if module.state_function.__name__ != method or int(module.reset_mechanism_val) != number:
        raise ValueError(
            "its reset_mechanism was set or loaded after it was made, which snnTorch follows in a part of its equations alone; "
            "make it with the one that it is to have."
        )
    return reset


def neuron(
    kind: type[Neuron], module: Any, numbers: dict[str, Any], states: tuple[str, ...] = ("v",), **more: Any
) -> Found:
    """What all of its neurons have; states: in the order in which the module returns them."""
    graded = module.graded_spikes_factor
    for name, given in (
        ("inhibition", module.inhibition), ("state_quant", module.state_quant), ("surrogate_disable", module.surrogate_disable),
        ("graded_spikes_factor", graded.requires_grad or graded.numel() != 1 or float(graded) != 1),
    ):  # fmt: skip
        if given:
            raise ValueError(f"it has {name}, which has no counterpart here; leave it out.")
    options = {"reset": reset_of(module), "surrogate": surrogate_of(module.spike_grad)}
    given = numbers | {"v_threshold": module.threshold}
    return found(kind, given, options, returns=states if module.output else (), **more)


def leaky(module: Any) -> Found:
    return neuron(Leaky if module.reset_delay else LeakyAtOnce, module, {"beta": module.beta})


def synaptic(module: Any) -> Found:
    kind = Synaptic if module.reset_delay else SynapticAtOnce
    return neuron(kind, module, {"alpha": module.alpha, "beta": module.beta}, ("i", "v"))


def lapicque(module: Any) -> Found:
    if module.beta.requires_grad:
        raise ValueError(
            "it has learn_beta=True, but computes from R and C, so that beta would not be trained; leave it out."
        )
    rate = 1 / (module.R * module.C)
    decay = 1 - module.time_step / (module.R * module.C)
    return neuron(Lapicque, module, {"decay": decay, "rate": rate, "r": module.R, "dt": module.time_step})


def alpha(module: Any) -> Found:
    if module.alpha.requires_grad or module.beta.requires_grad:
        raise ValueError("it trains alpha or beta, from which its gain is computed at every step; train neither.")
    a, b = module.alpha.clamp(0, 1), module.beta.clamp(0, 1)
    gain = torch.log(a) / (torch.log(b) - torch.log(a)) + 1
    return neuron(Alpha, module, {"alpha": a, "beta": b, "gain": gain}, ("e", "i", "v"))


ORDER = (
    "adds the recurrent current to x before it adds beta v, where snnTorch adds it last: a potential may differ in its "
    "last digit, and a spike on that."
)


def rleaky(module: Any) -> Found:
    kind = RLeaky if module.reset_delay else RLeakyAtOnce
    return neuron(kind, module, {"beta": module.beta}, feedback=module.recurrent, notes=(ORDER,))


def rsynaptic(module: Any) -> Found:
    kind, numbers = Synaptic if module.reset_delay else SynapticAtOnce, {"alpha": module.alpha, "beta": module.beta}
    return neuron(kind, module, numbers, feedback=module.recurrent, notes=(ORDER,))


def run(net: nn.Module, x: Tensor) -> Tensor:
    """The network over x [T, B, ...], one time step after the other, from its initial states; the spikes of its last layer."""
    for module in net.modules():  # utils.reset looks at the first level of modules only
        if LIBRARY.of(module) in LIBRARY.neurons:
            module.reset_mem()  # type: ignore[operator]
    outs = [net(x_t) for x_t in x]
    return torch.stack([out[0] if isinstance(out, tuple) else out for out in outs])


LIBRARY = walk.Library(
    package="snntorch",
    neurons={
        "Leaky": leaky, "Lapicque": lapicque, "Synaptic": synaptic, "Alpha": alpha, "RLeaky": rleaky, "RSynaptic": rsynaptic,
    },
    stepwise=lambda module: True,
    containers={},
    stateless={},
    own_forward="has a forward of its own, unchanged, but its neurons now take all time steps [T, B, ...] and return their "
    "spikes alone: take its loop over time and its mem away (trace='v' returns it), and wrap what takes one batch axis, "
    "as a convolution, in tfexplore.FoldTime.",
)  # fmt: skip


def from_snntorch(net: nn.Module, *, share: bool = True) -> nn.Module:
    """A network of snnTorch's with its neurons as fused layers; everything else is as it was.

    The result takes x `[T, B, *features]`, all time steps at once, and begins each call from the initial state: no loop over
    time, no `utils.reset`. In an `nn.Sequential` of neurons with `init_hidden=True`, what is between them is folded over time
    (`FoldTime`). A neuron with `output=True` returns its states too, `[T, B, *features]`, in snnTorch's order.

    Args:
        net: a module with `Leaky`, `Lapicque`, `Synaptic`, `Alpha`, `RLeaky` or `RSynaptic`.
        share: the result has the parameters of `net` themselves; False copies them.

    Returns:
        The converted network; `print(result.conversion)` says what was done.

    Raises:
        TypeError, ValueError: for what has no counterpart, with its name in the network.

    Example:
        >>> from tfexplore.exchange import from_snntorch
        >>> import torch
        >>> from_snntorch(torch.nn.Linear(2, 2))
        Traceback (most recent call last):
        ValueError: net has no neurons of snntorch, so there is nothing to convert.
    """
    return walk.converted(net, LIBRARY, share)
