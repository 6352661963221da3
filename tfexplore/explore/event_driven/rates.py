"""What the event-driven explorer compares: a trained network's firing rates, and what they cost dense and event-driven."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from tfexplore.data import currents
from tfexplore.measure.event_driven import (
    COUNTED,
    DENSE,
    EVENTS_FAR,
    EVENTS_NEAR,
    HOW,
    Sparsity,
    cost,
    crossing,
    sparsity,
)
from tfexplore.nn.networks import built_in, fit
from tfexplore.nn.schedules import layer_by_layer

STEPS, BATCHES, IMAGES = 8, 60, 128
UNITS = {"operations": "operations", "words from far": "words", "energy, 45 nm": "pJ"}
NOUNS = {"operations": "operations", "words from far": "words from far", "energy, 45 nm": "energy"}


@dataclass(frozen=True)
class Trained:
    """The course's network on the digits after some training.

    Args:
        layers: what is not zero in each of its layers of neurons.
        accuracy: on the test images.
    """

    layers: dict[str, Sparsity]
    accuracy: float


@functools.lru_cache(maxsize=1)
def trained() -> Trained:
    """Two layers of 128 LIF neurons, trained on the digits for some three epochs; its spikes on test images."""
    net, data = built_in("mlp")
    for _ in itertools.islice(fit(net, data, layer_by_layer, STEPS), BATCHES):
        pass
    images, labels = data.test_images, data.test_labels
    with torch.no_grad():
        right = (net(currents(images, STEPS)).mean(0).argmax(-1) == labels).float().mean()
    x, y = currents(images[:IMAGES], STEPS), labels[:IMAGES]
    return Trained(sparsity(net, lambda: cross_entropy(net(x).mean(0), y)), float(right))


@dataclass(frozen=True)
class EventCosts:
    """A layer of `width` x `width` weights behind spikes, dense and event-driven.

    Args:
        counted: what is compared: "operations", "words from far" or "energy, 45 nm".
        rows: time steps times samples that share a weight.
        width: neurons before and behind the weight.
        trained: whose firing rates are marked.
    """

    counted: str
    rows: int
    width: int
    trained: Trained

    def each(self, how: str, rate: float) -> float:
        """The cost of one synapse-step."""
        made = cost(how, rate, self.rows, self.width, self.width)
        return COUNTED[self.counted](made) / (self.rows * self.width**2)

    def crossing(self, how: str) -> float:
        """The firing rate below which the event-driven way costs less; above 1: always."""
        return crossing(self.counted, how, self.rows, self.width, self.width)

    @property
    def rates(self) -> dict[str, float]:
        """The firing rates of the trained network's layers."""
        return {name: layer.spikes for name, layer in self.trained.layers.items()}

    def ratio(self, how: str, rate: float) -> float:
        """How many times the dense cost."""
        return self.each(how, rate) / self.each(DENSE, rate)

    def sentence(self) -> str:
        rate = max(self.rates.values())
        said = []
        for how in (EVENTS_FAR, EVENTS_NEAR):
            ratio, cross = self.ratio(how, rate), self.crossing(how)
            where = "fewer" if cross > 1 else f"fewer below a rate of {cross:.1%}"
            where = where.replace("fewer", "less" if NOUNS[self.counted] == "energy" else "fewer")
            said.append(f"{ratio:.2g} with {how.split(', ')[1]} ({where if cross <= 1 else f'{where} at any rate'})")
        return (
            f"At {rate:.0%}, the trained network's highest firing rate, events need so many times the dense "
            f"{NOUNS[self.counted]}: {', '.join(said)}."
        )


def look(counted: str, rows: int, width: int) -> EventCosts:
    return EventCosts(counted, rows, width, trained())


__all__ = ["COUNTED", "HOW", "UNITS", "EventCosts", "Trained", "look", "trained"]
