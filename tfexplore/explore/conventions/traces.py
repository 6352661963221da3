"""The same leaky neuron as each library computes it: potentials and spikes of one current, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tfexplore.exchange.conventions import LIBRARIES, convention
from tfexplore.nn import Layer, record

NAMES = {
    "exact": "exact", "norse": "Norse", "snntorch": "snnTorch", "spikingjelly": "SpikingJelly", "sinabs": "sinabs",
    "spyx": "Spyx",
}  # fmt: skip
RULES = {
    "exact": "solves the equation; fires above the threshold, and resets to 0",
    "norse": "forward Euler; fires above the threshold, and resets to 0",
    "snntorch": "adds the whole input, not dt/τ of it; takes the threshold off one step after the spike",
    "spikingjelly": "forward Euler; fires at the threshold too, and resets to 0",
    "sinabs": "exact leak; fires at the threshold too, and takes the threshold off",
    "spyx": "adds the whole input, not dt/τ of it; fires on the potential before the input, and takes the threshold off",
}
"""What each does, in a few words; `convention` has the equations."""
DURATION = 0.1
"""Seconds that are shown."""


@dataclass(frozen=True)
class Trace:
    """What one library computes: the potential that is compared with the threshold, and the spikes, of every step."""

    h: np.ndarray
    s: np.ndarray

    @property
    def fired(self) -> np.ndarray:
        """The steps with a spike, from 1 on."""
        found: np.ndarray = np.flatnonzero(self.s > 0.5) + 1
        return found


@dataclass(frozen=True)
class Traces:
    """All libraries on the same current.

    Args:
        x: the current, [T].
        dt: seconds of a step.
        v_threshold: the threshold.
        by_library: the traces.
        scaled: whether those that add the whole input were given dt/tau of it.
    """

    x: np.ndarray
    dt: float
    v_threshold: float
    by_library: dict[str, Trace]
    scaled: bool

    def apart(self, library: str, other: str) -> int | None:
        """The first step, from 1 on, in which two libraries' spikes differ; None if none does."""
        differ = np.flatnonzero(self.by_library[library].s != self.by_library[other].s)
        return int(differ[0]) + 1 if len(differ) else None

    def sentence(self, library: str, other: str) -> str:
        counts = {name: len(self.by_library[name].fired) for name in (library, other)}
        first = self.apart(library, other)
        same = "the same spikes" if first is None else f"other spikes from step {first} on"
        return (
            f"{NAMES[library]}: {RULES[library]}. {counts[library]} spikes; {NAMES[other]} has {counts[other]}: {same}."
        )


def current(steps: int, kind: str, strength: float, seed: int = 1) -> np.ndarray:
    """A current [T] around `strength`: constant, "pulses" that come and go, or drawn "spikes"."""
    if kind == "constant":
        return np.full(steps, strength)
    if kind == "pulses":
        return strength * (np.arange(steps) * 5 // steps % 2 == 0)
    return strength * 4 * (np.random.default_rng(seed).random(steps) < 0.25)


KINDS = ("constant", "pulses", "spikes")
WHOLE_INPUT = ("snntorch", "spyx")
"""Those that add the input as it is, where the equation has dt/tau of it."""


def look(tau: float, dt: float, v_threshold: float, kind: str, strength: float, scaled: bool) -> Traces:
    """Runs all libraries' neurons; times in seconds. scaled: give dt/tau of the current to those that do not divide it."""
    x = current(round(DURATION / dt), kind, strength)
    found = {}
    for library in LIBRARIES:
        given = x * dt / tau if scaled and library in WHOLE_INPUT else x
        neuron = convention(library, tau=tau, dt=dt, v_threshold=v_threshold)
        layer = Layer(neuron, backend="torch")  # so few steps of one neuron need no kernel compiled
        with torch.no_grad(), record(layer, "h", "s") as traces:
            layer(torch.from_numpy(given.astype(np.float32)).reshape(-1, 1, 1))
        found[library] = Trace(*(traces[""][name].flatten().numpy() for name in ("h", "s")))
    return Traces(x, dt, v_threshold, found, scaled)
