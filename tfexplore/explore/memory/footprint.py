"""What the memory explorer finds out about a network: its footprint in every way to run it. And the network it begins with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from tfexplore.explore.memory.kept import INPUT, WAYS, Cells, Way, cells_of
from tfexplore.neurons import surrogates
from tfexplore.neurons.library import BY_NAME as NEURONS
from tfexplore.nn.layers import Layer

DEFAULT, SURROGATES = "the default", {kind.__name__: kind for kind in surrogates.ALL}
BATCH, INPUTS, OUTPUTS = 4, 64, 10
LENGTHS = 4  # numbers of time steps at which memory is counted
BY_NAME = {way.name: way for way in WAYS}


def network(neuron: str = "LIF", neurons: int = 200, surrogate: str = DEFAULT, seed: int = 0) -> nn.Sequential:
    """64 inputs -> neurons -> the same number of neurons again -> 10 outputs."""
    kind = NEURONS[neuron] if surrogate == DEFAULT else partial(NEURONS[neuron], surrogate=SURROGATES[surrogate]())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[tuple[str, nn.Module]] = [
            ("linear1", nn.Linear(INPUTS, neurons)), ("neurons1", Layer(kind())), ("linear2", nn.Linear(neurons, neurons)),
            ("neurons2", Layer(kind())), ("linear3", nn.Linear(neurons, OUTPUTS)),
        ]  # fmt: skip
    return nn.Sequential(OrderedDict(parts))


@lru_cache(maxsize=4)
def noise(steps: int) -> Tensor:
    """Input for `network`, [T, B, features]."""
    return torch.rand(steps, BATCH, INPUTS, generator=torch.Generator().manual_seed(0))


@dataclass
class Footprint:
    """What is predicted for a network, and what has been counted so far, for the ways to run it.

    A way is given by its name, such as "fused, keep input", or as a `Way`.

    Args:
        cells: its layers of neurons, by name.
        modules: the names of all its modules, in order; "" is the network itself.
        steps: time steps `T`.
        kept: bytes saved for backward, by way and module.
        moved: bytes moved per element-step, by way and layer of neurons.
        lines: pairs (T, bytes that the neurons save for backward), by way.
    """

    cells: dict[str, Cells]
    modules: list[str]
    steps: int
    kept: dict[str, dict[str, int]] = field(default_factory=dict)
    moved: dict[str, dict[str, float]] = field(default_factory=dict)
    lines: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, net: nn.Module, x: Tensor) -> Footprint:
        """The predictions alone."""
        return cls(cells_of(net, x), [name for name, _ in net.named_modules()], len(x))

    @property
    def lengths(self) -> list[int]:
        """The numbers of time steps at which memory is counted."""
        return sorted({max(1, self.steps * k // LENGTHS) for k in range(1, LENGTHS + 1)})

    @property
    def neurons(self) -> int:
        """Of all layers, batch included."""
        return sum(cells.neurons for cells in self.cells.values())

    @property
    def ways(self) -> list[Way]:
        """The ways in which this network can be run."""
        return [way for way in WAYS if not self.why_not(way)]

    def why_not(self, way: Way | str) -> str:
        """Why this network cannot be run this way, or ""."""
        for name, cells in self.cells.items():
            if reason := cells.why_not(way_of(way)):
                return f"not exact for the {type(cells.neuron).__name__} of {name!r}: {reason}"
        return ""

    def predicted_kept(self, way: Way | str) -> float | None:
        """Bytes per neuron and time step that the neurons save for backward; None where there is no prediction."""
        return self._mean(lambda _, cells: cells.kept(way_of(way), self.steps))

    def predicted_moved(self, way: Way | str) -> float | None:
        """Bytes per neuron and time step that the neurons move, forward and backward; None where there is no prediction."""
        return self._mean(lambda _, cells: cells.moved(way_of(way)))

    def counted_kept(self, way: Way | str) -> float | None:
        """As `predicted_kept`, counted; None before."""
        found = self.kept.get(way_of(way).name)
        return (
            sum(found.get(name, 0) for name in self.cells) / (self.steps * self.neurons) if found is not None else None
        )

    def counted_moved(self, way: Way | str) -> float | None:
        """As `predicted_moved`, counted; None before."""
        found = self.moved.get(way_of(way).name)
        return self._mean(lambda name, _: found.get(name)) if found is not None else None

    def _mean(self, value: Callable[[str, Cells], float | None]) -> float | None:
        """Over all layers of neurons; None if it is not known of one."""
        values = [(value(name, cells), cells.neurons) for name, cells in self.cells.items()]
        known = [part * count for part, count in values if part is not None]
        return sum(known) / self.neurons if len(known) == len(values) else None

    def by_module(self, way: Way | str) -> dict[str, tuple[float | None, int | None]]:
        """Bytes that each module saves for backward, predicted (for layers of neurons) and counted."""
        way, found = way_of(way), dict[str, tuple[float | None, int | None]]()
        counted = self.kept.get(way.name)
        for name in self.modules:
            if name in self.cells or name in (counted or {}):
                each = self.cells[name].kept(way, self.steps) if name in self.cells else None
                predicted = None if each is None else each * self.cells[name].neurons * self.steps
                found[name] = predicted, None if counted is None else counted.get(name, 0)
        return found

    def sentence(self, way: Way | str = INPUT) -> str:
        """About one way, in bytes per neuron and time step."""
        way = way_of(way)
        if reason := self.why_not(way):
            return f"{way.name}: {reason}."
        what = f"{way.name}, T = {self.steps}, {self.neurons:,} neurons"
        counted, moves = self.counted_kept(way), self.counted_moved(way)
        if counted is None or moves is None:
            known, moves = self.predicted_kept(way), self.predicted_moved(way)
            if known is None or moves is None:
                return f"{what}: only counting shows what an eager way keeps. Press Start."
            return f"{what}: predicted to keep {known:.4g} and move {moves:.4g} bytes per neuron and step. Press Start."
        rest = sum(size for name, size in self.kept[way.name].items() if name not in self.cells)
        return (
            f"{what}: the neurons keep {counted:.4g} and move {moves:.4g} bytes per neuron and step, "
            f"{megabytes(counted * self.steps * self.neurons)} in total; the rest of the network keeps {megabytes(rest)}."
        )


def way_of(way: Way | str) -> Way:
    """The way of this name."""
    if not isinstance(way, str):
        return way
    if way not in BY_NAME:
        raise ValueError(f"way must be one of {', '.join(map(repr, BY_NAME))}, but got {way!r}.")
    return BY_NAME[way]


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"
