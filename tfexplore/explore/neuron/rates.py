r"""Firing rate against constant current (the f-I curve): measured, and exact where a formula exists.

A neuron has an exact rate here if its step is affine: one potential, a charge linear in v and x, a fixed threshold. From
one charged potential to the next, while it does not fire,

    h[t+1] = A h[t] + B(x),   fixed point h* = B / (1 - A);        LIF: A = 1 - 1/tau, B = x;   IF: A = 1

It fires at a constant current if h* > threshold. Each reset has its own long-run rate, for 0 <= A <= 1:

none    1: the potential stays above the threshold.

hard    After a spike, h_1 = charge(v_reset, x) and h_k = h* + A^(k-1) (h_1 - h*). The interval between two spikes is the
        first k with h_k >= threshold, a whole number of steps, and the same every time:

            k = 1 + ceil( ln((h* - threshold) / (h* - h_1)) / ln A )      (A = 1:  1 + ceil((threshold - h_1) / B))

        For LIF with v_reset = 0: k = ceil(ln(1 - threshold / (tau x)) / ln(1 - 1/tau)).

soft    h[t+1] = A h[t] - K s[t] + B: a spike takes K = A threshold off the next potential, and what is above the threshold
        is kept. Intervals differ by one step at most, in a regular order, and the rate is a "devil's staircase" in x
        (Nagumo and Sato, Biological Cybernetics 10, 1972): it rests at every rational p/q. The stair of p/q begins where its
        periodic orbit touches the threshold, h[0] = threshold, with the spikes s[-k] = ceil((k+1) p/q) - ceil(k p/q) before:

            B = (1 - A) threshold + K sum_{k=1..q} A^(k-1) s[-k] / sum_{j=0..q-1} A^j      (IF: B = threshold p/q)

        and it ends at the same with s[-k] = floor((k+1) p/q) - floor(k p/q), where the orbit touches it from below.

In continuous time (tau dv/dt = -v + tau x; Gerstner and Kistler, Spiking Neuron Models, 2002, section 4.1) the interval is
tau ln((h* - v_after) / (h* - threshold)), for both resets: `textbook`, a smooth curve that knows no shortest interval.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy
import torch

from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step, scalars_of, step_of
from tfexplore.nn.layers import Layer

STEPS = 1000  # of the measured rate; its second half counts, when the neuron has settled
FINE = 64  # the stairs p/q that are computed: q up to this, and 1/q and 1 - 1/q up to four times this

Array = np.ndarray


def measured(layer: Layer, currents: Array) -> Array:
    """Spikes per step of many neurons with different constant currents, all run in one batch through the real layer."""
    x = np.tile(np.asarray(currents, np.float32), (STEPS, 1))
    with torch.no_grad():
        out = layer(torch.from_numpy(x))
    assert isinstance(out, torch.Tensor)
    spikes = out.numpy()[STEPS // 2 :]
    count, first, last = spikes.sum(0, dtype=np.float64), spikes.argmax(0), len(spikes) - 1 - spikes[::-1].argmax(0)
    # from the first spike to the last one: whole intervals, so that a regular train has its exact rate
    return np.where(count > 1, (count - 1) / np.maximum(last - first, 1), count / len(spikes))


@dataclass(frozen=True)
class Affine:
    """h[t+1] = A h[t] + B while silent, with B = offset + gain x; after a spike as the reset says."""

    reset: str
    A: float
    gain: float
    offset: float
    threshold: float
    first: tuple[float, float]  # hard: h_1 = first[0] + first[1] x
    K: float  # soft: taken off the next potential

    @property
    def threshold_current(self) -> float:
        """The constant current above which the neuron fires: its fixed point is the threshold."""
        return ((1 - self.A) * self.threshold - self.offset) / self.gain

    def rate(self, currents: Array) -> Array:
        """Spikes per step in the long run: exact (soft: on every stair computed, and straight between two)."""
        x = np.asarray(currents, np.float64)
        B = self.offset + self.gain * x
        if self.reset == "soft":
            return np.interp(B, *stairs(self.A, self.K, self.threshold), left=0.0)
        A, least = self.A, self.threshold_current
        above = (
            x >= least if A == 0 else x > least
        )  # without memory (A = 0) the potential is at its fixed point at once
        if self.reset == "none":
            return above.astype(float)
        h1 = self.first[0] + self.first[1] * x
        with np.errstate(divide="ignore", invalid="ignore"):
            if A == 1:
                k = 1 + np.ceil((self.threshold - h1) / B)
            elif A == 0:
                k = np.full_like(x, 2.0)
            else:
                fixed = B / (1 - A)
                k = 1 + np.ceil(np.log((fixed - self.threshold) / (fixed - h1)) / np.log(A))
            return np.where(h1 >= self.threshold, 1.0, np.where(above, 1 / k, 0.0))

    def textbook(self, currents: Array) -> Array | None:
        """The rate in continuous time, for the same leak, threshold and reset; none without a reset."""
        x = np.asarray(currents, np.float64)
        if self.reset == "none" or self.A == 0:
            return None
        B, leak = self.offset + self.gain * x, 1 - self.A
        after = self.threshold - self.K / self.A if self.reset == "soft" else self.after
        with np.errstate(divide="ignore", invalid="ignore"):
            if leak == 0:
                interval = (self.threshold - after) / B
            else:
                interval = np.log((B - leak * after) / (B - leak * self.threshold)) / leak
            return np.where(x > self.threshold_current, 1 / interval, 0.0)

    @property
    def after(self) -> float:
        """The potential after a hard reset."""
        return (self.first[0] - self.offset) / self.A


@functools.lru_cache(maxsize=64)
def stairs(A: float, K: float, threshold: float) -> tuple[Array, Array]:
    """Where the stairs begin and end (B, rising), and the rates there; `np.interp` draws straight between two stairs."""
    rates, q, first, last = _stairs()
    powers = A ** np.arange(first.shape[1])
    ends = [(1 - A) * threshold + K * (spikes @ powers) / np.cumsum(powers)[q - 1] for spikes in (first, last)]
    begins = np.append((1 - A) * threshold, np.stack(ends, 1).ravel())
    return begins, np.append(0.0, np.repeat(rates, 2))


@functools.cache
def _stairs() -> tuple[Array, Array, Array, Array]:
    """The rates p/q, rising; q; and the spikes s[-k] of one period where a stair begins, and where it ends (floor)."""
    found = {(p, q) for q in range(1, FINE + 1) for p in range(1, q + 1) if np.gcd(p, q) == 1}
    found |= {(p, q) for q in range(FINE, 4 * FINE) for p in (1, q - 1)}
    p, q = np.array(sorted(found, key=lambda f: f[0] / f[1])).T
    multiples = np.arange(1, q.max() + 2) * p[:, None]
    within = np.arange(1, q.max() + 1) <= q[:, None]
    begin, end = -(-multiples // q[:, None]), multiples // q[:, None]
    return p / q, q, np.diff(begin, axis=1) * within * 1.0, np.diff(end, axis=1) * within * 1.0


def affine(neuron: Neuron) -> Affine | None:
    """The neuron's step as h[t+1] = A h[t] + B(x), or None where it is not of this kind.

    >>> from tfexplore.neurons.library import LIF
    >>> lif = affine(LIF(tau=2.0, reset="hard"))
    >>> lif.threshold_current, lif.rate([0.5, 0.6, 0.8, 1.0])  # at 0.6: h = 0.6, 0.9, 1.05, so a spike every 3 steps
    (0.5, array([0.        , 0.33333333, 0.5       , 1.        ]))
    """
    neuron = dataclasses.replace(neuron, learn=())
    step = step_of(neuron)
    numbers = _affine(step)
    if numbers is None:
        return None
    values = numbers(*scalars_of(neuron).values())
    A, gain, offset, threshold, first, slope, K = (float(value) for value in values)
    if not 0 <= A <= 1 or gain <= 0 or K < 0:
        return None
    return Affine(_kind(step) or "none", A, gain, offset, threshold, (first, slope), K)


@functools.lru_cache(maxsize=64)
def _affine(step: Step) -> Callable[..., tuple[float, ...]] | None:
    """A, gain, offset, threshold, first (two numbers) and K as a function of the parameters; derived once per step."""
    kind = _kind(step)
    if kind is None or step.fire is None:
        return None
    (v,), (h,), x, s = step.before, step.charged, step.x, step.s
    (charge,), (reset,) = step.charge, step.reset
    leak, gain = charge.diff(v), charge.diff(x)
    keeps, threshold = reset.subs(s, 0).diff(h), sympy.expand(h - step.fire)
    if any(slope.has(v, x, h, s) for slope in (leak, gain, keeps, threshold)):
        return None
    rest, silent, fired = charge.subs({v: 0, x: 0}), reset.subs({s: 0, h: 0}), reset.subs({s: 1, h: 0})
    offset = leak * silent + rest
    first = leak * fired + rest
    return sympy.lambdify(
        step.scalars, (leak * keeps, gain, offset, threshold, first, gain, leak * (silent - fired)), modules="math"
    )


@functools.lru_cache(maxsize=64)
def _kind(step: Step) -> str | None:
    """What a spike does to an affine potential: "soft" takes a constant off, "hard" forgets it, "none" nothing."""
    if len(step.before) != 1 or step.fire is None:
        return None
    (h,), (reset,), s = step.charged, step.reset, step.s
    if not reset.has(s):
        return "none"
    silent, fired = reset.subs(s, 0), reset.subs(s, 1)
    if not fired.has(h):
        return "hard"
    return "soft" if not sympy.expand(silent - fired).has(h) else None
