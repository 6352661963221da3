"""Norse 1.1: its neurons' equations, and `from_norse`. It fires at v > v_th; forward Euler with its dt.

Its rates dt / tau are computed here as there, in the parameters' own dtype, so that the potentials round alike. v begins at
v_leak.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tfexplore.exchange import slopes, walk
from tfexplore.exchange.layers import Found, found
from tfexplore.exchange.slopes import by_autograd, matching
from tfexplore.neurons import surrogates
from tfexplore.neurons.neuron import Neuron, Value
from tfexplore.neurons.order import first
from tfexplore.neurons.surrogates import Surrogate


class Box(Neuron):
    """`LIFBoxCell`: h = v + rate (x + v_leak - v), rate = dt tau_mem_inv."""

    strict: bool = True
    detach_reset: bool = False
    rate: float = 0.1
    v_leak: float = 0.0
    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + self.rate * (first(x + self.v_leak) - v)

    def initial(self) -> tuple[Value, ...]:
        return (self.v_leak, *(0.0 for _ in self.states[1:]))


class LIF(Box):
    """`LIF`, `LIFCell`, `LIFRecurrent`: the input jumps the current, which drives v in the same step, and decays after it.

    One step::

        j = i + x
        h_v = v + rate (v_leak - v + j)
        h_i = j - rate_syn j,  rate_syn = dt tau_syn_inv
    """

    states = ("v", "i")
    rate_syn: float = 0.2

    def charge(self, v: Value, i: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]  # one state more
        return self.driven(v, first(i + x)), first(i + x) - self.rate_syn * first(i + x)

    def driven(self, v: Value, current: Value) -> Value:
        return v + self.rate * (first(self.v_leak - v) + current)


class LI(LIF):
    """`LI`, `LICell`: `LIF` without a spike; its layer returns v."""

    spiking = False
    resets = ("none",)
    reset: str = "none"


class LIBox(Neuron):
    """`LIBoxCell`: v' = v + rate (v_leak - v + x)."""

    spiking = False
    resets = ("none",)
    reset: str = "none"
    rate: float = 0.1
    v_leak: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + self.rate * (first(self.v_leak - v) + x)

    def initial(self) -> tuple[Value, ...]:
        return (self.v_leak,)


class IAF(Neuron):
    """`IAF`, `IAFCell`: h = v + x; v begins at v_reset."""

    strict: bool = True
    detach_reset: bool = False
    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + x


def surrogate_of(p: Any) -> Surrogate:
    """What stands in for a method of `norse.torch.functional.threshold`."""
    from norse.torch.functional.threshold import threshold

    alpha = float(p.alpha)
    if p.method not in ("super", "triangle", "tanh", "circ", "heavi_erfc"):
        raise ValueError(
            f"its method {p.method!r} has no counterpart here; take 'super', 'triangle', 'tanh', 'circ' or 'heavi_erfc'."
        )
    candidates: dict[str, list[Surrogate]] = {
        "super": [surrogates.SuperSpike(alpha), surrogates.SuperSpike(1.0)],  # Norse 1.1 does not use alpha
        "triangle": [slopes.Tent(alpha)],
        "tanh": [slopes.Tanh(alpha)],
        "circ": [slopes.Circle(alpha)],
        "heavi_erfc": [slopes.ScaledGaussian(2**-0.5 / alpha, 2 / alpha)],
    }
    return matching(
        candidates[p.method], by_autograd(lambda u: threshold(u, p.method, torch.as_tensor(alpha))), p.method
    )


def membrane(module: Any) -> dict[str, Any]:
    return {"rate": module.dt * module.p.tau_mem_inv, "v_leak": module.p.v_leak.detach()}


def synapse(module: Any) -> dict[str, Any]:
    return membrane(module) | {"rate_syn": module.dt * module.p.tau_syn_inv}


def trained(module: Any) -> None:
    """Raises ValueError where a parameter is trained.

    Norse's IAF begins at v_reset itself and asks for the gradient of that state, so that v_reset has one too from then on.
    """
    own = {key for key in ("v_reset", "v_leak") if not isinstance(getattr(module.p, key, None), nn.Parameter)}
    tensors = {key: value for key, value in module.p._asdict().items() if isinstance(value, Tensor) and key not in own}
    if names := [key for key, value in tensors.items() if value.requires_grad]:
        raise ValueError(f"it trains {names[0]}, which has no counterpart here; give it a plain tensor.")


def integrator(kind: type[Neuron], module: Any, numbers: dict[str, Any]) -> Found:
    trained(module)
    return found(kind, numbers, {})


def spiking(kind: type[Neuron], module: Any, numbers: dict[str, Any], **more: Any) -> Found:
    p = module.p
    trained(module)
    reset = getattr(getattr(p, "reset_method", None), "__name__", "reset_value")
    if reset not in ("reset_value", "reset_subtract"):
        raise ValueError(f"its reset_method {reset} is none of Norse's, reset_value or reset_subtract.")
    options = {"reset": "hard" if reset == "reset_value" else "soft", "surrogate": surrogate_of(p)}
    return found(
        kind,
        numbers | {"v_threshold": p.v_th, "v_reset": p.v_reset.detach()},
        options | more.pop("options", {}),
        **more,
    )


ORDER = (
    "adds the recurrent current to that of the input before it adds i, where Norse adds it last: a potential may differ in "
    "its last digit, and a spike on that."
)


def recurrent(module: Any) -> Found:
    """W x, then the neurons with R s[t-1] as feedback; there the reset is detached."""
    pair = [linear(weights) for weights in (module.input_weights, module.recurrent_weights)]
    return spiking(
        LIF, module, synapse(module), options={"detach_reset": True}, before=pair[0], feedback=pair[1], notes=(ORDER,)
    )


def linear(weight: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device)
    made.weight = (
        weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=weight.requires_grad)
    )
    return made


def run(net: nn.Module, x: Tensor) -> Tensor:
    """The network over x [T, B, ...] from its initial states: all at once where its neurons take that, else step by step."""
    kinds = {type(module).__name__ for module in net.modules()} & NEURONS.keys()
    if "Lift" in {type(module).__name__ for module in net.modules()} or not any(
        kind.endswith("Cell") for kind in kinds
    ):
        return first_of(net(x))
    state, outs = None, []
    for x_t in x:
        out, state = net(x_t, state)
        outs.append(out)
    return torch.stack(outs)


def first_of(out: Any) -> Tensor:
    found: Tensor = out[0] if isinstance(out, tuple) else out
    return found


NEURONS = {
    "LIFBoxCell": lambda m: spiking(Box, m, membrane(m)),
    "LIFCell": lambda m: spiking(LIF, m, synapse(m)),
    "LIF": lambda m: spiking(LIF, m, synapse(m)),
    "LIFRecurrentCell": recurrent,
    "LIFRecurrent": recurrent,
    "LICell": lambda m: integrator(LI, m, synapse(m)),
    "LI": lambda m: integrator(LI, m, synapse(m)),
    "LIBoxCell": lambda m: integrator(LIBox, m, membrane(m)),
    "IAFCell": lambda m: spiking(IAF, m, {}),
    "IAF": lambda m: spiking(IAF, m, {}),
}

LIBRARY = walk.Library(
    package="norse",
    neurons=NEURONS,
    stepwise=lambda module: type(module).__name__.endswith("Cell"),
    containers={"SequentialState": None, "Lift": True},
    stateless={},
    own_forward="has a forward of its own, unchanged, but its neurons now take all time steps [T, B, ...] and return their "
    "spikes alone, without a state: take its loop over time and its states away, and wrap what takes one batch axis, as a "
    "convolution, in tfexplore.FoldTime.",
)


def from_norse(net: nn.Module, *, share: bool = True) -> nn.Module:
    """A network of Norse's with its neurons as fused layers; everything else is as it was.

    The result takes x `[T, B, *features]` and returns the spikes alone; each call begins from the initial state. In a
    `SequentialState` of cells, and within `Lift`, what is between them is folded over time (`FoldTime`).

    Args:
        net: a module with `LIFBoxCell`, `LIF(Cell)`, `LIFRecurrent(Cell)`, `LI(Cell)`, `LIBoxCell` or `IAF(Cell)`.
        share: the result has the parameters of `net` themselves; False copies them.

    Returns:
        The converted network; `print(result.conversion)` says what was done.

    Raises:
        TypeError, ValueError: for what has no counterpart, with its name in the network.

    Example:
        >>> from tfexplore.exchange import from_norse
        >>> import torch
        >>> from_norse(torch.nn.Linear(2, 2))
        Traceback (most recent call last):
        ValueError: net has no neurons of norse, so there is nothing to convert.
    """
    return walk.converted(net, LIBRARY, share)
