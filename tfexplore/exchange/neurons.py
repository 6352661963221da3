"""NIR's neurons, one time step of each: definitions like those of the library, over the equations of the NIR paper.

NIR's equations are continuous (Pedersen et al., Nature Communications 15, 8122, 2024)::

    I, IF            dv/dt = r x
    LI, LIF      tau dv/dt = (v_leak - v) + r x
    CubaLI, CubaLIF  tau_syn di/dt = -i + w_in x,    tau_mem dv/dt = (v_leak - v) + r i
    IF, LIF, CubaLIF fire where v > v_threshold, then v = v_reset

A step of length dt takes v a part of the way to where it is drawn, `rate`: dt / tau in a forward Euler step, or
1 - exp(-dt / tau), which is exact while the input stays. A rate, not tau in steps, since a product rounds as Norse rounds:
the same bits. The synaptic current moves first, and v sees it in the same step, as in Norse and snnTorch.

Neurons start at rest, v = v_leak (Norse; with v_leak = 0, as in the paper's traces, all frameworks agree); those without a
leak at v_reset.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from tfexplore.neurons.neuron import Neuron, Value
from tfexplore.neurons.parameters import Bound

Rate = Annotated[float, Bound(low=0.0, high=math.nextafter(1.0, 2.0), open=True)]
"""A part of the way per time step: above 0, and up to 1, the whole way."""


def moved(z: Value, rate: Value, target: Value) -> Value:
    """z after one step towards its target."""
    return z + rate * (target - z)


class NirI(Neuron):
    """NIR's integrator: its layer returns the potential v.

    One step::

        v' = v + gain x

    Args:
        gain: r dt, by which an input of 1 moves v in one step.

    Example:
        >>> NirI(gain=0.5).charge(1.0, 0.5)
        1.25
    """

    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"
    gain: float = 1.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + self.gain * x


class NirIF(Neuron):
    """NIR's integrate-and-fire: no leak.

    The charge of one step::

        h = v + gain x

    Args:
        gain: r dt, by which an input of 1 moves v in one step.
        v_threshold: the potential above which the neuron fires.
        v_reset: the potential after a spike, and before the first step.

    Example:
        >>> NirIF(gain=0.5).charge(1.0, 0.5)
        1.25
    """

    reset: str = "hard"
    strict: bool = True
    gain: float = 1.0
    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + self.gain * x


class NirLI(Neuron):
    """NIR's leaky integrator: its layer returns the potential v.

    One step::

        v' = v + rate (v_leak - v + r x)

    Args:
        rate: dt / tau, or 1 - exp(-dt / tau).
        r: resistance.
        v_leak: the potential at rest, and before the first step.

    Example:
        >>> NirLI(rate=0.5).charge(1.0, 0.5)
        0.75
    """

    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"
    rate: Rate = 0.1
    r: float = 1.0
    v_leak: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return moved(v, self.rate, self.v_leak + self.r * x)

    def initial(self) -> tuple[Value, ...]:
        return (self.v_leak,)


class NirLIF(Neuron):
    """NIR's leaky integrate-and-fire.

    The charge of one step::

        h = v + rate (v_leak - v + r x)

    Args:
        rate: dt / tau, or 1 - exp(-dt / tau).
        r: resistance.
        v_leak: the potential at rest, and before the first step.
        v_threshold: the potential above which the neuron fires.
        v_reset: the potential after a spike.

    Example:
        >>> NirLIF(rate=0.5, r=2.0).charge(1.0, 0.5)
        1.0
    """

    reset: str = "hard"
    strict: bool = True
    rate: Rate = 0.1
    r: float = 1.0
    v_leak: float = 0.0
    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return moved(v, self.rate, self.v_leak + self.r * x)

    def initial(self) -> tuple[Value, ...]:
        return (self.v_leak,)


class NirCubaLI(NirLI):
    """NIR's current-based leaky integrator: the input feeds a synaptic current i, which drives v; returns v.

    One step::

        i' = i + rate_syn (w_in x - i)
        v' = v + rate (v_leak - v + r i')

    Args:
        rate: dt / tau_mem, or 1 - exp(-dt / tau_mem).
        r: resistance.
        v_leak: the potential at rest, and before the first step.
        rate_syn: dt / tau_syn, or 1 - exp(-dt / tau_syn).
        w_in: weight of the input.

    Example:
        >>> NirCubaLI(rate=0.5, rate_syn=0.5).charge(0.0, 1.0, 3.0)
        (1.0, 2.0)
    """

    states: ClassVar[tuple[str, ...]] = ("v", "i")
    rate_syn: Rate = 0.2
    w_in: float = 1.0

    def charge(self, v: Value, i: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]  # one state more
        i = moved(i, self.rate_syn, self.w_in * x)
        return super().charge(v, i), i

    def initial(self) -> tuple[Value, ...]:
        return (self.v_leak, 0.0)


class NirCubaLIF(NirLIF):
    """NIR's current-based leaky integrate-and-fire: the input feeds a synaptic current i, which drives v.

    The charge of one step::

        h_i = i + rate_syn (w_in x - i)
        h_v = v + rate (v_leak - v + r h_i)

    Args:
        rate: dt / tau_mem, or 1 - exp(-dt / tau_mem).
        r: resistance.
        v_leak: the potential at rest, and before the first step.
        v_threshold: the potential above which the neuron fires.
        v_reset: the potential after a spike.
        rate_syn: dt / tau_syn, or 1 - exp(-dt / tau_syn).
        w_in: weight of the input.

    Example:
        >>> NirCubaLIF(rate=0.5, rate_syn=0.5).charge(0.0, 1.0, 3.0)
        (1.0, 2.0)
    """

    states: ClassVar[tuple[str, ...]] = ("v", "i")
    rate_syn: Rate = 0.2
    w_in: float = 1.0

    def charge(self, v: Value, i: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]
        i = moved(i, self.rate_syn, self.w_in * x)
        return super().charge(v, i), i

    def initial(self) -> tuple[Value, ...]:
        return (self.v_leak, 0.0)


class NirThreshold(Neuron):
    """NIR's threshold, a step function without memory: s = 1 where x > v_threshold.

    The charge of one step::

        h = x

    Args:
        v_threshold: what the input is compared with.

    Example:
        >>> NirThreshold().charge(0.25, 0.5)
        0.5
    """

    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"
    strict: bool = True
    v_threshold: float = 1.0

    def charge(self, v: Value, x: Value) -> Value:
        return x
