"""What a neuron of NIR is here, and ours there: rates from time constants in seconds, and the other way round.

NIR's equations have no time step. One of dt seconds takes a leak the part `rate_of(tau, dt, leak)` of the way to its target,
and an integrator r dt far for an input of 1. Every other number keeps its value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfexplore import neurons
from tfexplore.exchange import norse, spikingjelly
from tfexplore.exchange.graph import Node
from tfexplore.exchange.kinds import KINDS
from tfexplore.exchange.neurons import NirCubaLI, NirCubaLIF, NirI, NirIF, NirLI, NirLIF, NirThreshold
from tfexplore.neurons.neuron import Neuron

Values = Mapping[str, np.ndarray]
"""The parameters of a neuron by name: arrays of one number, or of one for each neuron."""

NIR: dict[str, type[Neuron]] = {
    "I": NirI, "IF": NirIF, "LI": NirLI, "LIF": NirLIF, "CubaLI": NirCubaLI, "CubaLIF": NirCubaLIF, "Threshold": NirThreshold,
}  # fmt: skip
OURS: dict[type[Neuron], str] = {
    neurons.IF: "IF", neurons.LIF: "LIF", neurons.ParametricLIF: "LIF", neurons.LI: "LI", neurons.CubaLIF: "CubaLIF",
}  # fmt: skip
THEIRS: dict[type[Neuron], str] = {
    norse.Box: "LIF", norse.LIF: "CubaLIF", norse.LI: "CubaLI", norse.LIBox: "LI", norse.IAF: "IF",
    spikingjelly.LIF: "LIF", spikingjelly.ParametricLIF: "LIF",
}  # fmt: skip
"""Of converted networks: the same equations in another order of operations, which a file does not have."""
KIND = OURS | THEIRS | {cls: kind for kind, cls in NIR.items()}
LEAKS = ("euler", "exact")
OWN = "tfexplore"
"""The metadata under which a neuron of ours is written as it is, so that it comes back to the bit."""


def rate_of(tau: np.ndarray, dt: float, leak: str) -> np.ndarray:
    """The part of the way to its target that a leak goes in a step: dt / tau, or 1 - exp(-dt / tau) where it is exact.

    >>> rate_of(np.array([0.002, 0.001]), 0.001, "euler").tolist()
    [0.5, 1.0]
    """
    # dt in the precision of tau: where both are the same float32, the rate is 1 and not 1.000000003
    step = np.asarray(dt, tau.dtype if tau.dtype.kind == "f" else float)
    ratio = step.astype(float) / tau.astype(float)
    return ratio if leak == "euler" else -np.expm1(-ratio)


def tau_of(rate: np.ndarray, dt: float, leak: str) -> np.ndarray:
    """The time constant with this rate, in seconds: the inverse of `rate_of`.

    >>> tau_of(np.array([0.5, 1.0]), 0.001, "euler").tolist()
    [0.002, 0.001]
    """
    if leak == "euler":
        return dt / rate
    if (rate >= 1).any():
        raise ValueError("a leak that goes the whole way in a step has no tau with leak='exact'; give leak='euler'")
    return np.asarray(-dt / np.log1p(-rate))


def spelled(kind: str, name: str) -> str:
    """The name here of a parameter of NIR."""
    names = {"tau": "rate", "tau_mem": "rate", "tau_syn": "rate_syn", "threshold": "v_threshold"}
    return "gain" if name == "r" and kind in ("I", "IF") else names.get(name, name)


def neuron_of(node: Node, dt: float, leak: str) -> Neuron:
    """The neuron of a node, with a single number where all values are alike."""
    given = {}
    for name, value in node.parameters.items():
        key = spelled(node.kind, name)
        if name.startswith("tau"):
            value = rate_of(value, dt, leak)
        elif key == "gain":
            value = value.astype(float) * dt
        given[key] = number_or_array(value)
    return NIR[node.kind](**given)


def number_or_array(values: np.ndarray) -> Any:
    """The one number that all of these are, else all of them."""
    return float(values.flat[0]) if (values == values.flat[0]).all() else values


def parameters_of(neuron: Neuron, values: Values, dt: float, leak: str) -> dict[str, np.ndarray]:
    """The parameters in NIR of a neuron with these values, times in seconds."""
    kind, found = KIND[type(neuron)], {}
    values = values if type(neuron) is NIR[kind] else continuous(neuron, values)
    for name in KINDS[kind]:
        value = values[spelled(kind, name)]
        if name.startswith("tau"):
            value = tau_of(value, dt, leak)
        elif spelled(kind, name) == "gain":
            value = value / dt
        found[name] = value
    return found


def continuous(neuron: Neuron, values: Values) -> dict[str, np.ndarray]:
    """The values of a neuron of the library, or of a converted network, as those of NIR's of the same kind.

    A leak of 1 / tau a step towards v_reset. Where tau does not divide the input, r = tau makes up for it; where a jump of the
    current is not divided, w_in does.
    """
    one = np.ones(())
    found = dict(values)
    if isinstance(neuron, neurons.IF | norse.IAF):
        return found | {"gain": one}
    if isinstance(neuron, norse.Box | norse.LIBox):
        return found | {"r": one} | ({"w_in": 1 / values["rate_syn"]} if "rate_syn" in values else {})
    if isinstance(neuron, spikingjelly.ParametricLIF):
        q = values["q"]
        return found | {"rate": q, "v_leak": values["v_reset"], "r": one if neuron.decay_input else 1 / q}
    found |= {"rate": 1 / values["tau"], "v_leak": values["v_reset"]}
    found["r"] = one if neuron.decay_input else values["tau"]  # type: ignore[attr-defined]  # LIF, LI, CubaLIF
    if isinstance(neuron, neurons.CubaLIF):
        found |= {"rate_syn": 1 / values["tau_syn"], "w_in": values["tau_syn"]}
    return found


def node_of(neuron: Neuron, values: Values, shape: tuple[int, ...], dt: float, leak: str) -> Node:
    """The node of a layer with these values whose neurons have this shape.

    A neuron of the library is written under `OWN` too: NIR's equations, discretised, round otherwise, and its spike is strict.
    """
    parameters = {name: spread(value, shape) for name, value in parameters_of(neuron, values, dt, leak).items()}
    if type(neuron) not in OURS:
        return Node(KIND[type(neuron)], parameters)
    numbers = {name: float(value) if value.ndim == 0 else value for name, value in values.items()}
    return Node(KIND[type(neuron)], parameters, {OWN: numbers | options_of(neuron)})


def options_of(neuron: Neuron) -> dict[str, bool]:
    """What chooses between its equations, and has no parameter in NIR."""
    return {name: getattr(neuron, name) for name in ("strict", "decay_input") if hasattr(neuron, name)}


def own_neuron(node: Node, dt: float, leak: str) -> Neuron | None:
    """The neuron of the library that the node was written from, if its NIR parameters still say the same."""
    written, classes = (
        node.metadata.get(OWN),
        {kind: cls for cls, kind in OURS.items() if cls is not neurons.ParametricLIF},
    )
    if not isinstance(written, Mapping) or node.kind not in classes:
        return None
    cls = classes[node.kind]
    usual = cls(reset="hard") if "v_reset" in node.parameters else cls()
    try:  # what a file says there may be anything
        values = {name: np.asarray(written[name], float) for name in usual.parameters}
        given: dict[str, Any] = {name: [False, True].index(written[name]) == 1 for name in options_of(usual)}
        neuron = dataclasses.replace(usual, **given, **{name: written[name] for name in values})
        said = parameters_of(neuron, values, dt, leak)
        same = all(
            np.array_equal(node.parameters[name], spread(v, node.parameters[name].shape)) for name, v in said.items()
        )
    except (TypeError, ValueError, KeyError):
        return None
    return neuron if same else None


def spread(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values of channels `[C, ...]` as one for each neuron."""
    return np.broadcast_to(value.reshape(*value.shape, *(1,) * (len(shape) - value.ndim)), shape).copy()
