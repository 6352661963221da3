"""One cell of the map, measured: the ways that can do it, checked against the serial kernel, timed in turn, and counted.

Both `tfexplore bench scan` and the explorer's Start make their rows here.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from tfexplore.explore.scan_map import ways
from tfexplore.explore.scan_map.cells import Cells, Row
from tfexplore.explore.scan_map.ways import BOTH, EXACT, NEURONS, RATE, SERIAL, WAYS
from tfexplore.measure import clock
from tfexplore.nn.layers import Layer

LEAST, MOST, ENOUGH = 3, 25, 0.4
"""Runs of every way, and seconds after which no other round begins."""
SHORT = 1e-3
"""Seconds: shorter work is run several times between two looks at the clock."""
LONG = 0.3
"""Seconds: longer work is timed once."""
LIMIT = 2.0**25
"""Element-steps of one run of a way that goes through all of them many times."""
APART, GRADIENT = 1e-3, 1e-4
"""The share of spikes that may be flipped, and how far a gradient may be from the serial kernel's, of its largest."""
DRAWN = 2**22
"""Random numbers of an input, at most."""
PLANE = [(4**k, 10**j) for k in range(2, 9) for j in range(7) if 4**k * 10**j <= 2**25]
"""T and N of the cells that are predicted where none are recorded."""


@functools.cache
def gain(neuron: str, rate: float = RATE) -> float:
    """By what `current` is multiplied so that this neuron fires at the rate, found by halving; 1 for one that never fires."""
    layer, x = Layer(NEURONS[neuron]), current(1024, 64)
    if not layer.neuron.spiking:
        return 1.0
    low, high = 0.0, 8.0
    for _ in range(12):
        middle = (low + high) / 2
        with torch.no_grad():
            fires = float(layer(x * middle).mean())
        low, high = (low, middle) if fires > rate else (middle, high)
    return high


def current(steps: int, neurons: int) -> Tensor:
    """Normal random numbers around one: a steady drive in noise."""
    return 1 + noise(steps, neurons)


def noise(steps: int, neurons: int, seed: int = 0) -> Tensor:
    """Normal random numbers [T, 1, N]; of many neurons, those of the first ones again and again: drawing them takes longest."""
    drawn = min(neurons, max(1, DRAWN // steps))
    first = torch.randn(steps, 1, drawn, generator=torch.Generator().manual_seed(seed))
    return first.repeat(1, 1, -(-neurons // drawn))[..., :neurons].contiguous()


class Case:
    """The ways at one T and N, prepared.

    Args:
        neuron: a name in `ways.NEURONS`.
        passes: one of `ways.PASSES`.
        steps: time steps T.
        neurons: N.
        limit: element-steps that a way may take in one run; more is a reason not to run it.
        without: ways that are not run, with the reason.
        device: where all of it runs.

    Attributes:
        x: the input current [T, 1, N].
        ways: those that are run, by name.
        reasons: by name, why the others are not.
        work: after `check`, what is timed in turn; each runs its way `repeats` times.
        once: after `check`, the seconds of those that take so long that they are timed once.
        apart: after `check`, of each exact way: the share of flipped spikes, and the error of the gradient.
        rate: spikes of a neuron per time step.
    """

    def __init__(
        self, neuron: str, passes: str, steps: int, neurons: int, limit: float = LIMIT,
        without: Mapping[str, str] = MappingProxyType({}), device: str = "cpu",
    ) -> None:  # fmt: skip
        self.neuron, self.passes, self.steps, self.neurons, self.device = neuron, passes, steps, neurons, device
        self.x = x = (current(steps, neurons) * gain(neuron)).to(device)
        gradient = noise(steps, neurons, 1).to(device) if passes == BOTH else None
        why = {name: ways.why_not(name, neuron, passes, steps, neurons, limit) for name in WAYS}
        self.reasons = {name: reason for name, reason in why.items() if reason} | dict(without)
        self.ways = {name: ways.made(name, neuron, x, gradient, limit) for name in WAYS if name not in self.reasons}
        self.apart: dict[str, dict[str, float]] = {}
        self.repeats: dict[str, int] = {}
        self.once: dict[str, float] = {}
        self.work: dict[str, Callable[[], object]] = {}
        self.rate = 0.0

    def check(self) -> None:
        """Correct before fast: exact ways must give the serial kernel's result. Then says how often each runs for one time."""
        first, spikes = self.ways[SERIAL].run(), NEURONS[self.neuron].spiking
        self.rate = float(first[0].mean()) if spikes else 0.0
        for name, way in self.ways.items():
            try:
                found = way.run()
            except RuntimeError as error:  # a fixed point that needs too many rounds
                self.reasons[name] = str(error)
                continue
            if name in EXACT and name != SERIAL:
                self.apart[name] = apart(found, first, spikes)
                if wrong := too_far(self.apart[name]):
                    self.reasons[name] = wrong
                    continue
            del found
            taken = clock.seconds(way.run, self.device)
            self.repeats[name] = max(1, min(50, int(SHORT / max(taken, 1e-9))))
            if taken > LONG and name != SERIAL:
                self.once[name] = taken
            else:
                self.work[name] = functools.partial(again, way.run, self.repeats[name])
        self.ways = {name: self.ways[name] for name in self.repeats}

    def row(self, taken: dict[str, list[float]]) -> Row:
        """The seconds of each way's runs, with what was counted."""
        cuts = {
            name: [
                digits(1e3 * cut / self.repeats[name]) for cut in statistics.quantiles(two(each), method="inclusive")
            ]
            for name, each in (taken | {name: [seconds] for name, seconds in self.once.items()}).items()
        }
        costs = {name: way.counts() for name, way in self.ways.items()}
        return {
            "neuron": self.neuron, "passes": self.passes, "T": self.steps, "N": self.neurons, "dtype": "float32",
            "rate": digits(self.rate), "runs": max(map(len, taken.values()), default=1),
            "median_ms": {name: cut[1] for name, cut in cuts.items()},
            "quartiles_ms": {name: [cut[0], cut[2]] for name, cut in cuts.items()},
            **{what: {name: getattr(cost, what) for name, cost in costs.items()} for what in ("work", "depth", "words")},
            "rounds": {name: cost.rounds for name, cost in costs.items() if cost.rounds > 1},
            "chunk": {name: cost.chunk for name, cost in costs.items() if cost.chunk},
            "predicted": ways.predicted(self.neuron, self.passes, self.steps, self.neurons),
            "apart": {name: found for name, found in self.apart.items() if any(found.values())},
            "equation": {name: text for name in self.ways if (text := ways.equation(name))},
            "reasons": self.reasons,
        }  # fmt: skip


def now(
    neuron: str, passes: str, steps: int, neurons: int, limit: float = LIMIT,
    without: Mapping[str, str] = MappingProxyType({}), enough: float = ENOUGH, device: str = "cpu",
) -> Row:  # fmt: skip
    """A cell's row, measured at once: `LEAST` rounds of all ways, and more until `enough` seconds are over."""
    case = Case(neuron, passes, steps, neurons, limit, without, device)
    case.check()
    began = time.perf_counter()
    samples, taken = clock.samples(case.work, MOST, device), dict[str, list[float]]()
    for k in range(MOST + 1):
        for _ in case.work:
            taken = next(samples)
        if k >= LEAST and time.perf_counter() - began > enough:
            break
    return case.row(taken)


def predictions(neuron: str, passes: str) -> Cells:
    """The cells of the plane with what is predicted for this machine, where there is a prediction."""
    found = {at: ways.predicted(neuron, passes, *at) for at in PLANE}
    return {at: {"median_ms": {}, "predicted": ratios, "reasons": {}} for at, ratios in found.items() if ratios}


def again(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()


def two(values: Sequence[float]) -> Sequence[float]:
    """At least two of them, as quartiles need."""
    return values if len(values) > 1 else [*values, *values]


def digits(value: float) -> float:
    """Four digits: a file of many cells stays small.

    >>> digits(123.456), digits(0.000123456)
    (123.5, 0.0001235)
    """
    return float(f"{value:.4g}")


def apart(found: Sequence[Tensor], first: Sequence[Tensor], spikes: bool) -> dict[str, float]:
    """How far a way's result is from the serial kernel's: spikes flipped (a share), the rest relative to the largest."""
    out = float((found[0] != first[0]).double().mean()) if spikes else error(found[0], first[0])
    names = ("spikes" if spikes else "out", "gradient")
    errors = [out, *(error(mine, other) for mine, other in zip(found[1:], first[1:], strict=True))]
    return {name: digits(value) for name, value in zip(names, errors, strict=False)}


def error(found: Tensor, first: Tensor) -> float:
    return float((found - first).abs().max() / first.abs().max().clamp_min(1e-30))


def too_far(found: Mapping[str, float]) -> str:
    for what, value in found.items():
        if not value <= (APART if what == "spikes" else GRADIENT):
            return f"wrong result: its {what} differ by {value:.1e}, so it is not timed"
    return ""
