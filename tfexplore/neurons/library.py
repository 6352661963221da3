"""The neurons of the library: each is a definition of its own equations over the one step of `neuron.py`.

All take the current x, in the units of v, once per time step; time constants count time steps. Nothing here knows of
tensors, kernels or gradients: a new neuron is a class like these, and everything else follows from it. What all neurons
take besides (reset, detach_reset, surrogate, learn) is documented in `Neuron`.
"""

from __future__ import annotations

from typing import ClassVar

from sympy import exp

from tfexplore.neurons.neuron import Decay, Neuron, Positive, TimeConstant, Value
from tfexplore.neurons.surrogates import Rectangle, Surrogate


class IF(Neuron):
    """Integrate-and-fire: no leak.

    The charge of one step::

        h = v + x

    Args:
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.IF().charge(0.25, 0.5)
        0.75
    """

    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + x


class LIF(Neuron):
    """Leaky integrate-and-fire, the forward Euler step of tau dv/dt = -(v - v_reset) + x (Lapicque, 1907).

    The charge of one step::

        h = v - (v - v_reset) / tau + x       decay_input=False
        h = v + (x - (v - v_reset)) / tau     decay_input=True

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the input by tau too, as in the differential equation.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.LIF(tau=2.0).charge(1.0, 0.5), neurons.LIF(tau=2.0, decay_input=True).charge(1.0, 0.5)
        (1.0, 0.75)
    """

    tau: TimeConstant = 2.0
    v_threshold: float = 1.0
    v_reset: float = 0.0
    decay_input: bool = False

    def charge(self, v: Value, x: Value) -> Value:
        if self.decay_input:
            return v + (x - (v - self.v_reset)) / self.tau
        return v - (v - self.v_reset) / self.tau + x


class ParametricLIF(LIF):
    """LIF with a learned time constant (Fang et al., ICCV 2021).

    The charge of one step is that of `LIF`; a layer trains w, and tau = 1 + exp(w) stays above one step.

    Args:
        tau: membrane time constant before training, in time steps; above 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the input by tau too, as in the differential equation.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.ParametricLIF(tau=2.0).learn
        ('tau',)
    """

    learn: tuple[str, ...] = ("tau",)


class ALIF(LIF):
    """LIF with an adaptive threshold (Bellec et al., NeurIPS 2018).

    The charge of v is that of `LIF`; the threshold rises with every spike, and decays::

        threshold  v_threshold + beta b
        after      b' = b - (b - s) / tau_b

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the threshold at b = 0.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the input by tau too, as in the differential equation.
        tau_b: time constant of the adaptation b, in time steps; at least 1.
        beta: how far the threshold rises per unit of b.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.ALIF(beta=2.0).threshold(0.0, 0.5), neurons.ALIF(tau_b=2.0).after(1.0, 0.0, 0.5)
        (2.0, (0.75,))
    """

    states: ClassVar[tuple[str, ...]] = ("v", "b")
    tau: TimeConstant = 20.0
    tau_b: TimeConstant = 200.0
    beta: float = 1.8

    def charge(self, v: Value, b: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]  # one state more
        return super().charge(v, x), b

    def threshold(self, v: Value, b: Value) -> Value:
        return self.v_threshold + self.beta * b

    def after(self, s: Value, v: Value, b: Value) -> tuple[Value, ...]:
        return (b - (b - s) / self.tau_b,)


class CubaLIF(LIF):
    """Current-based LIF: the input feeds a synaptic current i, which drives v.

    The charge of one step::

        h_i = i - i / tau_syn + x
        h_v = charge of LIF(v, h_i)

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.
        decay_input: divide the current by tau too, as in the differential equation.
        tau_syn: time constant of the synaptic current, in time steps; at least 1.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.CubaLIF(tau=2.0, tau_syn=2.0).charge(0.0, 1.0, 0.5)
        (1.0, 1.0)
    """

    states: ClassVar[tuple[str, ...]] = ("v", "i")
    tau: TimeConstant = 10.0
    tau_syn: TimeConstant = 5.0

    def charge(self, v: Value, i: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]
        i = i - i / self.tau_syn + x
        return super().charge(v, i), i


class LI(Neuron):
    """Leaky integrator, a readout that does not spike: its layer returns the potential v.

    One step is the charge of `LIF`::

        v' = v - (v - v_reset) / tau + x       decay_input=False
        v' = v + (x - (v - v_reset)) / tau     decay_input=True

    Args:
        tau: membrane time constant, in time steps; at least 1.
        v_reset: the potential at rest, and before the first step.
        decay_input: divide the input by tau too: with a constant input x, v then approaches v_reset + x.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.LI(tau=2.0).charge(1.0, 0.5)
        0.75
    """

    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"
    tau: TimeConstant = 2.0
    v_reset: float = 0.0
    decay_input: bool = True

    def charge(self, v: Value, x: Value) -> Value:
        return LIF.charge(self, v, x)  # type: ignore[arg-type]  # the same leak, without the spike


class QIF(Neuron):
    """Quadratic integrate-and-fire, tau dv/dt = a (v - v_rest) (v - v_c) + x (Gerstner et al., Neuronal Dynamics, 5.3).

    The charge of one step::

        h = v + (x + a (v - v_rest) (v - v_c)) / tau

    Args:
        tau: membrane time constant, in time steps; at least 1.
        a: the sharpness of the parabola; above 0.
        v_rest: the resting potential.
        v_c: the critical potential, above which v grows by itself.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.QIF(tau=2.0, v_c=0.5).charge(1.0, 0.5)
        1.5
    """

    tau: TimeConstant = 2.0
    a: Positive = 1.0
    v_rest: float = 0.0
    v_c: float = 0.8
    v_threshold: float = 1.0
    v_reset: float = -0.1
    reset: str = "hard"

    def charge(self, v: Value, x: Value) -> Value:
        return v + (x + self.a * (v - self.v_rest) * (v - self.v_c)) / self.tau


class EIF(Neuron):
    """Exponential integrate-and-fire, tau dv/dt = -(v - v_rest) + d exp((v - v_t) / d) + x (Fourcaud-Trocme et al., 2003).

    The charge of one step::

        h = v + (x - (v - v_rest) + d exp((v - v_t) / d)) / tau

    Args:
        tau: membrane time constant, in time steps; at least 1.
        d: the sharpness of the upswing; above 0.
        v_t: the rheobase threshold, from which v grows by itself.
        v_rest: the resting potential.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a hard reset, and before the first step.

    Example:
        >>> from tfexplore import neurons
        >>> float(neurons.EIF(tau=2.0, v_t=0.5).charge(0.5, 0.5))
        1.0
    """

    tau: TimeConstant = 2.0
    d: Positive = 1.0
    v_t: float = 0.8
    v_rest: float = 0.0
    v_threshold: float = 1.0
    v_reset: float = -0.1
    reset: str = "hard"

    def charge(self, v: Value, x: Value) -> Value:
        return v + (x - (v - self.v_rest) + self.d * exp((v - self.v_t) / self.d)) / self.tau


class Izhikevich(Neuron):
    """Izhikevich's neuron: dv/dt = 0.04 v^2 + 5 v + 140 - w + x, dw/dt = a (b v - w) (Izhikevich, 2003).

    In mV and ms. One step, whose charge is two forward Euler steps from the same (v, w); w is the paper's u::

        charge     h_v = v + dt (0.04 v^2 + 5 v + 140 - w + x)
                   h_w = w + dt a (b v - w)
        reset      v = (1 - s) h_v + s v_reset
        after      w = h_w + d s

    Args:
        dt: the length of a time step, in ms; above 0.
        a: the rate of the recovery w, per ms; above 0.
        b: how strongly w follows v.
        d: how far w jumps with a spike.
        v_threshold: the peak of a spike, in mV.
        v_reset: the potential after a spike (the paper's c), and before the first step, in mV.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.Izhikevich().after(1.0, 30.0, -13.0)
        (-5.0,)
    """

    states: ClassVar[tuple[str, ...]] = ("v", "w")
    resets: ClassVar[tuple[str, ...]] = ("hard",)
    reset: str = "hard"
    dt: Positive = 0.5
    a: Positive = 0.02
    b: float = 0.2
    d: float = 8.0
    v_threshold: float = 30.0
    v_reset: float = -65.0

    def charge(self, v: Value, w: Value, x: Value) -> tuple[Value, ...]:
        return v + self.dt * (0.04 * v**2 + 5 * v + 140 - w + x), w + self.dt * self.a * (self.b * v - w)

    def after(self, s: Value, v: Value, w: Value) -> tuple[Value, ...]:
        return (w + self.d * s,)

    def initial(self) -> tuple[Value, ...]:
        return (self.v_reset, self.b * self.v_reset)


class PaperLIF(Neuron):
    """The temporal-fusion paper's LIF, v[t] = decay v[t-1] (1 - s[t-1]) + v_reset s[t-1] + x[t] (Li et al., 2024).

    The decay belongs to its hard reset::

        charge     h = v + x
        reset      v = decay h (1 - s) + v_reset s

    Its surrogate is a rectangle of width 1 and its reset is not detached; the gradient here is exact, also for v_reset != 0.

    Args:
        decay: the part of the potential that remains after a step; between 0 and 1.
        v_threshold: the potential from which the neuron fires.
        v_reset: the potential after a spike, and before the first step.

    Example:
        >>> from tfexplore import neurons
        >>> neurons.PaperLIF(decay=0.5).hard(0.0, 0.25), neurons.PaperLIF(v_reset=0.125).hard(1.0, 0.5)
        (0.125, 0.125)
    """

    resets: ClassVar[tuple[str, ...]] = ("hard",)
    reset: str = "hard"
    detach_reset: bool = False
    surrogate: Surrogate = Rectangle(1.0)
    decay: Decay = 0.2
    v_threshold: float = 0.3
    v_reset: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + x

    def hard(self, s: Value, v: Value) -> Value:
        return self.decay * v * (1 - s) + self.v_reset * s


ALL: tuple[type[Neuron], ...] = (IF, LIF, ParametricLIF, ALIF, CubaLIF, LI, QIF, EIF, Izhikevich, PaperLIF)
BY_NAME = {kind.__name__: kind for kind in ALL}
