"""What the neuron explorer shows, from numbers alone: a current, one neuron's traces under it, and its rates."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy
import torch

import tfexplore
from tfexplore import neurons
from tfexplore.explore.neuron import rates
from tfexplore.explore.neuron.ranges import nice
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step, initial_of, scalars_of
from tfexplore.nn.layers import Layer

KINDS = ("constant", "step", "noise", "drawn by hand", "spikes at a rate")
CURRENTS = 81  # neurons run at once for the measured rate
STARTS: dict[type[Neuron], tuple[Neuron, float, float, float]] = {  # with a first current, and the range of currents
    neurons.IF: (neurons.IF(), 0.08, -0.2, 1.2),
    neurons.LIF: (neurons.LIF(tau=10.0), 0.15, -0.2, 1.2),
    neurons.ParametricLIF: (neurons.ParametricLIF(tau=10.0, learn=()), 0.15, -0.2, 1.2),
    neurons.ALIF: (neurons.ALIF(), 0.2, -0.2, 1.2),
    neurons.CubaLIF: (neurons.CubaLIF(), 0.035, -0.05, 0.3),
    neurons.LI: (neurons.LI(tau=10.0), 1.0, -1.0, 2.0),
    neurons.QIF: (neurons.QIF(), 0.2, -0.2, 1.2),
    neurons.EIF: (neurons.EIF(), -0.15, -0.5, 1.0),
    neurons.Izhikevich: (neurons.Izhikevich(), 10.0, -10.0, 40.0),
    neurons.PaperLIF: (neurons.PaperLIF(), 0.245, -0.1, 0.4),
}
Array = np.ndarray


@dataclass(frozen=True)
class Stimulus:
    """The input current over time. `kind` is one of `KINDS`; strength: its size, its mean, or the weight of one spike."""

    kind: str
    strength: float
    on: tuple[int, int] = (1, 1)  # step: the first and the last time step with current
    sigma: float = 0.0  # noise: standard deviation
    rate: float = 0.0  # spikes: their mean number per time step
    levels: tuple[float, ...] = ()  # drawn by hand: each for one part of the time axis
    seed: int = 0

    def current(self, steps: int) -> Array:
        t, random = np.arange(1, steps + 1), np.random.default_rng(self.seed)
        if self.kind == "step":
            x = self.strength * ((self.on[0] <= t) & (t <= self.on[1]))
        elif self.kind == "noise":
            x = self.strength + self.sigma * random.standard_normal(steps)
        elif self.kind == "drawn by hand":
            x = np.asarray(self.levels)[(t - 1) * len(self.levels) // steps]
        elif self.kind == "spikes at a rate":
            x = self.strength * random.poisson(self.rate, steps)
        else:
            x = np.full(steps, self.strength)
        return x.astype(np.float32)


def zigzag(h: Array, v: Array) -> tuple[Array, Array]:
    """The potential as a line: at every step up to h, then, after the reset, at v."""
    return np.repeat(np.arange(1, len(h) + 1), 2), np.stack([h, v], axis=1).ravel()


@dataclass(frozen=True)
class Curve:
    """Spikes per step at constant currents: measured, and where there is a formula also `exact` and `textbook` over `x`."""

    currents: Array
    measured: Array
    x: Array
    exact: Array | None = None
    textbook: Array | None = None
    threshold_current: float | None = None


@dataclass(frozen=True)
class Recording:
    """A neuron under one current.

    Args:
        neuron: its equations and parameters.
        x: `[T]`, the current.
        h: `[T]`, the potential after the charge.
        v: `[T]`, the potential after the reset.
        s: `[T]`, the spikes, 0 or 1.
        threshold: `[T]`, what h is compared with.
        curve: its f-I curve; None for a neuron that does not fire.
    """

    neuron: Neuron
    x: Array
    h: Array
    v: Array
    s: Array
    threshold: Array
    curve: Curve | None

    @property
    def times(self) -> Array:
        """The time steps of the spikes; the first step is 1."""
        return np.flatnonzero(self.s) + 1 if self.neuron.spiking else np.array([], int)

    @property
    def rate(self) -> float:
        return len(self.times) / len(self.x)

    @property
    def bound(self) -> float:
        """How far a potential is drawn: to the end of it, unless it overflows."""
        if np.isfinite(self.h).all():
            return math.inf
        steady = self.neuron.parameters
        scale = max(1.0, *(abs(steady.get(name, 0.0)) for name in ("v_threshold", "v_reset")))
        return 50 * max(scale, float(np.abs(self.x).max()))

    def drawn(self) -> tuple[Array, Array]:
        x, y = zigzag(self.h, self.v)
        return x, np.where(np.abs(y) <= self.bound, y, np.nan)

    def sentence(self) -> str:
        neuron, curve, steps = self.neuron, self.curve, len(self.x)
        if len(away := np.flatnonzero(~(np.abs(self.h) <= self.bound))):
            return (
                f"The potential runs away at step {away[0] + 1}: nothing brings it back with reset={neuron.reset!r}. "
                "Try a hard reset, or a weaker current."
            )
        if curve is None:
            return f"{type(neuron).__name__} does not fire: its output is its potential, {self.v[-1]:.3g} after {steps} steps."
        count = len(self.times)
        fired = f"{count} spike{'' if count == 1 else 's'} in {steps} steps (rate {self.rate:.3g} per step)"
        if curve.threshold_current is not None:
            return f"{fired}; threshold current {curve.threshold_current:.3g}: a constant current above it makes the neuron fire."
        firing = curve.currents[curve.measured > 0]
        least = (
            f"the smallest with which it goes on firing is {firing[0]:.3g}"
            if len(firing)
            else "none makes it go on firing"
        )
        return (
            f"{fired}. Of the {CURRENTS} constant currents tried, {least}; no exact rate is known here for this neuron."
        )


def trace(layer: Layer, x: Array) -> dict[str, Array]:
    """h, s, the threshold and every state over time, [T], of one neuron: from the layer's own kernel, by `record`."""
    names = ("h", *layer.neuron.states)
    with torch.no_grad(), tfexplore.record(layer, *names, "s") as traces:
        layer(torch.from_numpy(x)[:, None])
    found = {name: values[:, 0].numpy() for name, values in traces[""].items()}
    before = [
        np.append(start, found[name][:-1]) for name, start in zip(names[1:], initial_of(layer.neuron), strict=True)
    ]
    level = threshold_of(layer.step)
    if level is not None:  # it may depend on the other states, as ALIF's does
        with np.errstate(all="ignore"):
            found["threshold"] = np.broadcast_to(level(*before, x, *scalars_of(layer.neuron).values()), x.shape)
    return found


@functools.lru_cache(maxsize=64)
def threshold_of(step: Step) -> Callable[..., Array] | None:
    """The threshold at a step, as a function of the states before it, x and the parameters."""
    if step.fire is None:
        return None
    level = sympy.expand(step.charged[0] - step.fire).subs(dict(zip(step.charged, step.charge, strict=True)))
    return sympy.lambdify((*step.before, step.x, *step.scalars), level, modules="numpy")


def curve(layer: Layer, low: float, high: float) -> Curve | None:
    if not layer.neuron.spiking:
        return None
    currents = np.linspace(low, high, CURRENTS)
    found = Curve(currents, rates.measured(layer, currents), np.linspace(low, high, 10 * (CURRENTS - 1) + 1))
    if (affine := rates.affine(layer.neuron)) is None:
        return found
    return dataclasses.replace(
        found,
        exact=affine.rate(found.x),
        textbook=affine.textbook(found.x),
        threshold_current=affine.threshold_current,
    )


def lively(layer: Layer) -> tuple[float, float, float]:
    """A first current for a neuron that is not in `STARTS`, and a range: where it fires every dozen steps, and where it must."""
    if not layer.neuron.spiking:
        return 1.0, -1.0, 2.0
    tried = np.geomspace(1e-3, 1e3, 241)
    found = rates.measured(layer, tried)
    some = np.flatnonzero((found > 0.01) & (found < 0.5))
    some = some if len(some) else np.flatnonzero(found > 0)
    if not len(some):
        return 1.0, -1.0, 10.0
    start = tried[some[np.abs(found[some] - 0.08).argmin()]]
    full = tried[found > 0.9]
    high = min(full[0] if len(full) else math.inf, 10 * start)
    return float(f"{start:.2g}"), -nice(start), float(nice(1.2 * high))
