"""The neurons of the library: each is a definition of its own equations over the one step of `equations.py`.

All take the current x, in the units of v, once per time step; time constants count time steps. Nothing here knows of
tensors, kernels or gradients: a new neuron is a class like these, and everything else follows from it.
"""

from __future__ import annotations

from typing import ClassVar

from sympy import exp

from tfexplore.neurons.neuron import Decay, Neuron, Positive, TimeConstant, Value
from tfexplore.neurons.surrogates import Rectangle, Surrogate


class IF(Neuron):
    """Integrate-and-fire, h = v + x: no leak."""

    v_threshold: float = 1.0
    v_reset: float = 0.0

    def charge(self, v: Value, x: Value) -> Value:
        return v + x


class LIF(Neuron):
    """Leaky integrate-and-fire, the forward Euler step of tau dv/dt = -(v - v_reset) + x (Lapicque, 1907).

    decay_input=False: h = v - (v - v_reset) / tau + x;  True: h = v + (x - (v - v_reset)) / tau.

    >>> LIF(tau=2.0).charge(1.0, 0.5)
    1.0
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
    """LIF whose tau is learned, as 1 + exp(w), so that it stays above one step (Fang et al., ICCV 2021)."""

    learn: tuple[str, ...] = ("tau",)


class ALIF(LIF):
    """LIF with an adaptive threshold, v_threshold + beta b; b follows the spikes with tau_b (Bellec et al., 2018)."""

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
    """Current-based LIF: the input feeds a synaptic current i that decays with tau_syn and drives v."""

    states: ClassVar[tuple[str, ...]] = ("v", "i")
    tau: TimeConstant = 10.0
    tau_syn: TimeConstant = 5.0

    def charge(self, v: Value, i: Value, x: Value) -> tuple[Value, ...]:  # type: ignore[override]
        i = i - i / self.tau_syn + x
        return super().charge(v, i), i


class LI(Neuron):
    """Leaky integrator, the readout that does not spike: the layer returns its potential v."""

    spiking: ClassVar[bool] = False
    resets: ClassVar[tuple[str, ...]] = ("none",)
    reset: str = "none"
    tau: TimeConstant = 2.0
    v_reset: float = 0.0
    decay_input: bool = True

    def charge(self, v: Value, x: Value) -> Value:
        return LIF.charge(self, v, x)  # type: ignore[arg-type]  # the same leak, without the spike


class QIF(Neuron):
    """Quadratic integrate-and-fire, tau dv/dt = a (v - v_rest) (v - v_c) + x (Gerstner et al., Neuronal Dynamics, 5.3)."""

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

    d is the sharpness of the upswing and v_t the rheobase threshold.
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
    """dv/dt = 0.04 v^2 + 5 v + 140 - w + x, dw/dt = a (b v - w); at a spike v = c, w += d (Izhikevich, 2003).

    In mV and ms: dt is the step in ms, c is v_reset and the peak of 30 mV is v_threshold. Both lines are forward Euler
    steps from the same (v, w). w is the recovery, u in the paper.
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

    The decay belongs to its hard reset: the state that leaves a step is decay h (1 - s) + v_reset s. Its surrogate is a
    rectangle of width 1 and its reset is not detached; the gradient here is exact, also for v_reset != 0.
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
