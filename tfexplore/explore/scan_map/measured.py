"""One cell of the map, measured: the ways that can do it, checked against the serial kernel, timed in turn, and counted.

Both `tfexplore bench scan` and the explorer's Start make their rows here.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tfexplore.explore.scan_map.cells import Cells, Row
from tfexplore.explore.scan_map.ways import (
    EXACT,
    NEURONS,
    PASSES,
    RATE,
    SERIAL,
    WAYS,
    Way,
    equation,
    made,
    predicted as predictions_of,
    why_not,
)
from tfexplore.measure import clock
from tfexplore.nn.layers import Layer

LEAST, MOST, ENOUGH = 5, 25, 0.4
"""Runs of every way, and seconds after which no other round begins."""
SHORT = 1e-3
"""Seconds: shorter work is run several times between two looks at the clock."""
APART, GRADIENT = 1e-3, 1e-4
"""The share of spikes that may be flipped, and how far a gradient may be from the serial kernel's, of its largest."""


@functools.cache
def gain(neuron: str, rate: float = RATE) -> float:
    """By what normal random numbers are multiplied so that this neuron fires at the rate, found by halving; 1 where none fires."""
    layer = Layer(NEURONS[neuron])
    if not layer.neuron.spiking:
        return 1.0
    x = noise(1024, 64)
    low, high = 0.0, 8.0
    for _ in range(12):
        middle = (low + high) / 2
        with torch.no_grad():
            fires = float(layer(x * middle).mean())
        low, high = (low, middle) if fires > rate else (middle, high)
    return high


def noise(steps: int, neurons: int, seed: int = 0) -> Tensor:
    return torch.randn(steps, 1, neurons, generator=torch.Generator().manual_seed(seed))


class Case:
    """The ways at one T and N, prepared.

    Args:
        neuron: a name in `NEURONS`.
        passes: one of `PASSES`.
        steps: time steps T.
        neurons: N.
        limit: element-steps that a way may take in one run; more is a reason not to run it.

    Attributes:
        work: what to time, by way; each runs `repeats` times.
        reasons: by way, why it is not timed.
        apart: by exact way, what `check` found: the share of flipped spikes, and the error of the gradient.
    """

    def __init__(self, neuron: str, passes: str, steps: int, neurons: int, limit: float = 2**28) -> None:
        self.neuron, self.passes, self.steps, self.neurons = neuron, passes, steps, neurons
        self.x = noise(steps, neurons) * gain(neuron)
        self.gradient = noise(steps, neurons, 1) if passes == PASSES[1] else None
        self.reasons: dict[str, str] = {}
        self.ways: dict[str, Way] = {}
        self.apart: dict[str, dict[str, float]] = {}
        self.rate, self.rounds = 0.0, MOST
        self.work: dict[str, Callable[[], object]] = {}
        for name in WAYS:
            if reason := why_not(name, neuron, passes, steps, neurons, limit):
                self.reasons[name] = reason
            else:
                self.ways[name] = made(name, neuron, self.x, self.gradient)

    def check(self) -> None:
        """Runs every way once: exact ones must give the serial kernel's result; then says how often each is timed."""
        first, repeats = self.ways[SERIAL].run(), {}
        spikes = NEURONS[self.neuron].spiking
        self.rate = float(first[0].mean()) if spikes else 0.0
        for name, way in list(self.ways.items()):
            found = way.run()
            if name in EXACT and name != SERIAL:
                self.apart[name] = apart(found, first, spikes)
                if wrong := too_far(self.apart[name]):
                    self.reasons[name] = wrong
                    del self.ways[name]
                    continue
            del found
            seconds = clock.seconds(way.run)
            repeats[name] = max(1, min(50, int(SHORT / max(seconds, 1e-9))))
        self.repeats = repeats
        self.work = {name: functools.partial(again, way.run, repeats[name]) for name, way in self.ways.items()}

    def row(self, taken: Mapping[str, Sequence[float]]) -> Row:
        """The seconds of each way's runs, with what was counted."""
        cuts = {name: statistics.quantiles([*each] * (1 + (len(each) < 2)), n=4) for name, each in taken.items()}
        milliseconds = {name: [1e3 * cut / self.repeats[name] for cut in cuts[name]] for name in self.ways}
        counts = {name: way.counts() for name, way in self.ways.items()}
        return {
            "neuron": self.neuron, "passes": self.passes, "T": self.steps, "N": self.neurons, "dtype": "float32",
            "rate": round(self.rate, 4), "runs": max(map(len, taken.values())),
            "median_ms": {name: digits(cut[1]) for name, cut in milliseconds.items()},
            "quartiles_ms": {name: [digits(cut[0]), digits(cut[2])] for name, cut in milliseconds.items()},
            **{what: {name: getattr(each, what) for name, each in counts.items()} for what in ("work", "depth", "words")},
            "rounds": {name: each.rounds for name, each in counts.items() if each.rounds > 1},
            "predicted": predictions_of(self.neuron, self.passes, self.steps, self.neurons),
            "apart": {name: each for name, each in self.apart.items() if any(each.values())},
            "equation": {name: equation(name) for name in self.ways if equation(name)},
            "reasons": self.reasons,
        }  # fmt: skip


def again(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()


def digits(value: float) -> float:
    """Four digits: a file of cells stays small.

    >>> digits(123.456), digits(0.000123456)
    (123.5, 0.0001235)
    """
    return float(f"{value:.4g}")


def apart(found: Sequence[Tensor], first: Sequence[Tensor], spikes: bool) -> dict[str, float]:
    """How far a way's result is from the serial kernel's: spikes flipped (a share), the rest relative to the largest."""
    out = float((found[0] != first[0]).double().mean()) if spikes else error(found[0], first[0])
    return {"spikes" if spikes else "out": digits(out)} | (
        {"gradient": digits(error(found[1], first[1]))} if len(first) > 1 else {}
    )


def error(found: Tensor, first: Tensor) -> float:
    return float((found - first).abs().max() / first.abs().max().clamp_min(1e-30))


def too_far(found: Mapping[str, float]) -> str:
    for what, value in found.items():
        if not value <= (APART if what == "spikes" else GRADIENT):
            return f"wrong result: its {what} differ by {value:.1e}, so it is not timed"
    return ""


def now(neuron: str, passes: str, steps: int, neurons: int, limit: float = 2**28) -> Row:
    """A row, measured at once."""
    case = Case(neuron, passes, steps, neurons, limit)
    case.check()
    taken: dict[str, list[float]] = {}
    began: float | None = None
    import time

    for k, taken in enumerate(clock.samples(case.work, case.rounds)):
        began = began or time.perf_counter()
        whole = (k + 1) % len(case.work) == 0
        if whole and k >= LEAST * len(case.work) and time.perf_counter() - began > ENOUGH:
            break
    return case.row(taken)
