"""sinabs 3.1: its neurons' equations, and `from_sinabs`. Exact leak, alpha = exp(-1 / tau) with tau in time steps.

Its default fires trunc(v / threshold) times in a step, which no step function does; with `SingleSpike` it fires at
v >= threshold.
Its axes are `[B, T, ...]`, or `[B * T, ...]` in the layers named `Squeeze`.
"""

from __future__ import annotations

from typing import Any

import torch
from sympy import Piecewise
from torch import Tensor, nn

from tfexplore.exchange import slopes, walk
from tfexplore.exchange.layers import ExponentialFactor, Found, found
from tfexplore.exchange.slopes import matching
from tfexplore.neurons.neuron import Neuron, Value
from tfexplore.neurons.order import detached, first
from tfexplore.neurons.surrogates import Surrogate


class LIF(Neuron):
    """`LIF`: h = alpha v + (1 - alpha) x (`norm_input`), or h = alpha v + x; after the reset v is at least `floor`.

    Args:
        normed: the input is scaled by 1 - alpha.
        floored: whether there is a `floor`, sinabs' min_v_mem.
        subtracted: what a soft reset takes off.
        added: added to v at every step behind a hard reset, spike or not: sinabs' `MembraneReset(reset_value)`.
    """

    detach_reset: bool = False
    alpha: ExponentialFactor = 0.9
    v_threshold: float = 1.0
    subtracted: float = 1.0
    added: float = 0.0
    floor: float = 0.0
    normed: bool = True
    floored: bool = False

    def charge(self, v: Value, x: Value) -> Value:
        return self.alpha * v + ((1 - self.alpha) * x if self.normed else x)

    def soft(self, s: Value, v: Value, *others: Value) -> Value:
        return self.above(v - s * self.subtracted)

    def hard(self, s: Value, v: Value, *others: Value) -> Value:
        return self.above(v * (1 - s) + self.added)

    def none(self, s: Value, v: Value, *others: Value) -> Value:
        return self.above(v)

    def above(self, v: Value) -> Value:
        higher = first(first(v) - self.floor)
        return Piecewise((higher, higher > 0), (0, True)) + self.floor if self.floored else v


class AlphaLIF(LIF):
    """`LIF(train_alphas=True)`: alpha is trained itself."""

    alpha: float = 0.9


class SynapticLIF(LIF):
    """`LIF` with `tau_syn`: i' = alpha_syn (i + x) takes the place of x."""

    states = ("v", "i")
    alpha_syn: ExponentialFactor = 0.8

    def charge(self, v: Value, i: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]  # one state more
        i = first(self.alpha_syn * (i + x))
        return super().charge(v, i), i


class AlphaSynapticLIF(SynapticLIF):
    """The same with `train_alphas=True`."""

    alpha: float = 0.9
    alpha_syn: float = 0.8


class Leak(LIF):
    """`ExpLeak`: v' = alpha v + x; its layer returns v, before the floor."""

    spiking = False
    resets = ("none",)
    reset: str = "none"
    normed: bool = False


class AlphaLeak(Leak):
    """The same with `train_alphas=True`."""

    alpha: float = 0.9


class ALIF(LIF):
    """`ALIF`: `LIF` whose threshold is v_threshold + scale b, with b' = alpha_b b + (1 - alpha_b) s (Bellec et al., 2018)."""

    states = ("v", "b")
    alpha_b: ExponentialFactor = 0.9
    scale: float = 1.8

    def charge(self, v: Value, b: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]
        return super().charge(v, x), b

    def threshold(self, v: Value, b: Value) -> Value:
        return detached(self.adapted(b))  # sinabs' spike has no gradient for its threshold

    def adapted(self, b: Value) -> Value:
        return self.v_threshold + self.scale * b

    def soft(self, s: Value, v: Value, *others: Value) -> Value:
        return self.above(v - s * first(self.adapted(others[0])))

    def after(self, s: Value, v: Value, b: Value) -> tuple[Value, ...]:
        return (self.alpha_b * b + (1 - self.alpha_b) * s,)


class AlphaALIF(ALIF):
    """The same with `train_alphas=True`."""

    alpha: float = 0.9
    alpha_b: float = 0.9


def surrogate_of(function: Any, threshold: Any) -> Surrogate:
    """What stands in for a function of v and the threshold."""
    if isinstance(threshold, Tensor) and threshold.numel() > 1:
        raise ValueError("its spike_threshold has several values, and its surrogate several widths; give it one value.")
    name, get, at = type(function).__name__, getattr(function, "__dict__", {}).get, float(threshold)
    sigma, scale, width = get("sigma", 1.0), get("grad_scale", 1.0), at * get("grad_width", 1.0)
    known: dict[str, Surrogate] = {
        "SingleExponential": slopes.Exponential(width, scale / width),
        "Gaussian": slopes.ScaledGaussian(sigma, scale),
        "MultiGaussian": slopes.MultiGaussian(sigma, get("h", 1.0), get("s", 1.0), scale),
        "Heaviside": slopes.Above(get("window", 1.0), 1 / at),
    }
    return matching([known[name]] if name in known else [], lambda u: function(u + at, at), name)


SEVERAL = (
    "fires several spikes in a step (its spike_fn is {}), and a spike here is 0 or 1; give it "
    "spike_fn=sinabs.activation.SingleSpike, or convert with several='one': then it fires at most one, which is another network."
)
BIAS = "the first step has the feedback of no spikes, its bias, in its current; sinabs has none there."
WIDTH = (
    "the spikes are those of sinabs, the gradient is not: there the surrogate's width follows the adaptive threshold, here it "
    "stays that of v_threshold. With surrogate_grad_fn=Gaussian() both are the same."
)


def lif(module: Any, several: str) -> Found:
    """`LIF` and `IAF`, recurrent and squeezed ones too."""
    trains, synapse = module.train_alphas, module.tau_syn_calculated is not None
    kind = {(False, False): LIF, (True, False): AlphaLIF, (False, True): SynapticLIF, (True, True): AlphaSynapticLIF}
    if module.spike_threshold.requires_grad:
        raise ValueError(
            "it trains spike_threshold, whose gradient does not come from the spike; set requires_grad_(False)."
        )
    numbers = {"alpha": factor(module)} | (
        {"alpha_syn": module.alpha_syn if trains else module.tau_syn} if synapse else {}
    )
    return spiking(module, kind[trains, synapse], numbers, module.spike_threshold, several)


def alif(module: Any, several: str) -> Found:
    """`ALIF`, recurrent and squeezed ones too."""
    trains = module.train_alphas
    if (module.alpha_syn if trains else module.tau_syn) is not None:
        raise ValueError("it has tau_syn, with which sinabs scales the current it keeps once a step; leave it out.")
    if getattr(module.reset_fn, "subtract_value", 0) is not None:
        raise ValueError("its reset_fn must be MembraneSubtract().")
    numbers = {"alpha_b": module.alpha_adapt if trains else module.tau_adapt, "scale": module.adapt_scale}
    notes = (WIDTH,) if type(module.surrogate_grad_fn).__name__ in ("SingleExponential", "Heaviside") else ()
    return spiking(
        module, AlphaALIF if trains else ALIF, {"alpha": factor(module)} | numbers, module.b0, several, notes
    )


def leak(module: Any, several: str) -> Found:
    """`ExpLeak`, a squeezed one too."""
    if module.min_v_mem is not None:
        raise ValueError("it has min_v_mem, and returns v before that; leave it out.")
    return found(AlphaLeak if module.train_alphas else Leak, {"alpha": factor(module)}, {"normed": module.norm_input})


def factor(module: Any) -> Tensor:
    """What alpha is computed from; the tau of an `IAF` is infinite."""
    trained = module.alpha_mem if module.train_alphas else module.tau_mem
    return torch.tensor(torch.inf) if trained is None else trained


def spiking(
    module: Any, kind: type[Neuron], numbers: dict[str, Any], threshold: Any, several: str, notes: tuple[str, ...] = ()
) -> Found:
    """What all that fire have: how often, how they reset, how low they get, what is fed back."""
    function, reset, floor = module.spike_fn, module.reset_fn, module.min_v_mem
    name = getattr(function, "__name__", type(function).__name__)
    if name != "SingleSpike" and getattr(function, "max_num_spikes_per_bin", None) != 1:
        if name not in ("MultiSpike", "MaxSpike") or several == "refuse":
            raise ValueError(SEVERAL.format(name))
        notes = (*notes, f"fires at most one spike in a step here; its {name} fired several.")
    numbers = numbers | {"v_threshold": threshold} | ({} if floor is None else {"floor": floor})
    options = {
        "surrogate": surrogate_of(module.surrogate_grad_fn, threshold), "normed": module.norm_input, "floored": floor is not None,
    }  # fmt: skip
    if type(reset).__name__ == "MembraneSubtract":
        options["reset"] = "soft"
        numbers["subtracted"] = threshold if reset.subtract_value is None else reset.subtract_value
    elif type(reset).__name__ == "MembraneReset":
        options |= {"reset": "hard", "detach_reset": True}
        numbers["added"] = reset.reset_value
    else:
        raise ValueError(f"its reset_fn {type(reset).__name__} is neither MembraneSubtract nor MembraneReset.")
    feedback = getattr(module, "rec_connect", None)
    if feedback is not None and any(name.split(".")[-1] == "bias" for name, _ in feedback.named_parameters()):
        notes = (*notes, BIAS)
    return found(kind, numbers, options, feedback=feedback, notes=notes)


def run(net: nn.Module, x: Tensor) -> Tensor:
    """The network over x [T, B, ...] from its initial states, in sinabs' own order of axes."""
    for module in net.modules():  # sinabs.reset_states leaves out layers with children, as recurrent ones
        if hasattr(module, "reset_states"):
            module.reset_states()  # type: ignore[operator]
    kinds = {type(module).__name__ for module in net.modules()}
    given = x.transpose(0, 1)
    flat = any(kind.endswith("Squeeze") for kind in kinds) and "FlattenTime" not in kinds
    out = net(given.flatten(0, 1) if flat else given)
    return (out if out.shape[:2] == given.shape[:2] else out.unflatten(0, given.shape[:2])).transpose(0, 1)


KINDS = {"IAF": lif, "LIF": lif, "ExpLeak": leak, "ALIF": alif}


def library(several: str) -> walk.Library:
    """sinabs as the walker sees it; several: what is done with neurons that fire several spikes in a step."""

    def made(way: Any) -> Any:
        return lambda module: way(module, several)

    return walk.Library(
        package="sinabs",
        neurons={f"{kind}{more}": made(way) for kind, way in KINDS.items() for more in ("", "Squeeze", "Recurrent")},
        stepwise=lambda module: type(module).__name__.endswith("Squeeze"),
        containers={"Repeat": True},
        stateless=dict.fromkeys(("Merge", "NeuromorphicReLU", "QuantizeLayer"), lambda module: module),
        own_forward="has a forward of its own, unchanged, but its neurons now take time first, [T, B, ...], and what stands "
        "between flattened batch and time, as a convolution, belongs into tfexplore.FoldTime.",
        norm_per_step=False,
        turns={"FlattenTime": True, "UnflattenTime": False},
    )


def from_sinabs(net: nn.Module, *, share: bool = True, several: str = "refuse") -> nn.Module:
    """A network of sinabs' with its neurons as fused layers; everything else is as it was.

    The result takes time first, x `[T, B, *features]`, whether `net` takes `[B, T, ...]` or, with `Squeeze` layers,
    `[B * T, ...]`; each call begins from the initial state. Between `Squeeze` layers, and within `Repeat`, modules are folded
    over time (`FoldTime`).

    Args:
        net: a module with `IAF`, `LIF`, `ExpLeak` or `ALIF`, or their recurrent and squeezed kinds; or a
            `sinabs.network.Network`, of which the spiking part is taken.
        share: the result has the parameters of `net` themselves; False copies them.
        several: what to do with neurons that may fire several spikes in a step, as sinabs' do by default: `"refuse"`, or `"one"`,
            at most one spike in a step, which is another network.

    Returns:
        The converted network; `print(result.conversion)` says what was done.

    Raises:
        TypeError, ValueError: for what has no counterpart, with its name in the network.

    Example:
        >>> from tfexplore.exchange import from_sinabs
        >>> import torch
        >>> from_sinabs(torch.nn.Linear(2, 2))
        Traceback (most recent call last):
        ValueError: net has no neurons of sinabs, so there is nothing to convert.
    """
    if several not in ("refuse", "one"):
        raise ValueError(f"several must be 'refuse' or 'one', but got {several!r}.")
    known = library(several)
    part: Any = net.spiking_model if known.of(net) == "Network" else net
    return walk.converted(part, known, share)
