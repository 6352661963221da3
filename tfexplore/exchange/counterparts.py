"""What a neuron of NIR is here, and ours there: rates from time constants in seconds, and back.

NIR's equations have no time step. A step of dt seconds takes a leak towards its target by the part `rate_of(tau, dt, leak)` of
the way, and an integrator by r dt. Every other number keeps its value, its name and its units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfexplore import neurons
from tfexplore.exchange.graph import Node
from tfexplore.exchange.neurons import NirCubaLI, NirCubaLIF, NirI, NirIF, NirLI, NirLIF, NirThreshold
from tfexplore.neurons.neuron import Neuron

Arrays = Mapping[str, np.ndarray]

NIR: dict[str, type[Neuron]] = {
    "I": NirI, "IF": NirIF, "LI": NirLI, "LIF": NirLIF, "CubaLI": NirCubaLI, "CubaLIF": NirCubaLIF, "Threshold": NirThreshold,
}  # fmt: skip
KIND = {cls: kind for kind, cls in NIR.items()}
OURS: dict[type[Neuron], str] = {
    neurons.IF: "IF", neurons.LIF: "LIF", neurons.ParametricLIF: "LIF", neurons.LI: "LI", neurons.CubaLIF: "CubaLIF",
}  # fmt: skip
RATES = {"tau": "rate", "tau_mem": "rate", "tau_syn": "rate_syn"}
LEAKS = ("euler", "exact")
OWN = "tfexplore"
"""The metadata under which `to_nir` writes a neuron of ours as it is, so that `from_nir` gives it back to the bit."""


def rate_of(tau: np.ndarray, dt: float, leak: str) -> np.ndarray:
    """The part of the way to its target that a leak goes in a step: dt / tau, or 1 - exp(-dt / tau) where it is exact.

    >>> rate_of(np.array([0.002, 0.001]), 0.001, "euler").tolist()
    [0.5, 1.0]
    """
    # dt in the precision of tau: a float32 of the same number as dt gives a rate of 1, not of 1.000000003
    ratio = np.asarray(dt, tau.dtype if tau.dtype.kind == "f" else float).astype(float) / tau.astype(float)
    return ratio if leak == "euler" else -np.expm1(-ratio)


def tau_of(rate: np.ndarray, dt: float, leak: str) -> np.ndarray:
    """The time constant in seconds with this rate; the inverse of `rate_of`.

    >>> tau_of(np.array([0.5, 1.0]), 0.001, "euler").tolist()
    [0.002, 0.001]
    """
    if leak == "euler":
        return dt / rate
    if (rate >= 1).any():
        raise ValueError("a rate of 1 is the tau 0 of an exact leak, which NIR does not have; give leak='euler'")
    return np.asarray(-dt / np.log1p(-rate))


def neuron_of(node: Node, dt: float, leak: str) -> Neuron:
    """The neuron of a node, with a number where all values are alike; its surrogate is the usual one."""
    if (own := own_neuron(node, dt, leak)) is not None:
        return own
    given: dict[str, Any] = {}
    for name, value in node.parameters.items():
        if name in RATES:
            given[RATES[name]] = rate_of(value, dt, leak)
        elif name == "r" and node.kind in ("I", "IF"):
            given["gain"] = value.astype(float) * dt
        else:
            given["v_threshold" if name == "threshold" else name] = value
    return NIR[node.kind](**{name: alike(value) for name, value in given.items()})


def alike(values: np.ndarray) -> Any:
    """The one number that all of these are, else the values as they are."""
    return float(values.flat[0]) if (values == values.flat[0]).all() else values


def parameters_of(neuron: Neuron, values: Arrays, dt: float, leak: str) -> dict[str, np.ndarray]:
    """The NIR parameters of a neuron with these values; without its shape, times in seconds."""
    if type(neuron) in KIND:
        found = {}
        for name, value in values.items():
            taus = [tau for tau, rate in RATES.items() if rate == name and (tau == "tau") == (type(neuron) in (NirLI, NirLIF))]
            if name == "rate" or name == "rate_syn":
                found["tau" if False else taus[0]] = tau_of(value, dt, leak)
        return found
    return {}
