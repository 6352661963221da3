r"""How much of the gradient is left when the gradient through time is cut in some layers of neurons.

Cut in a layer, the states before every step are constants to the backward pass: in the neurons of that layer nothing flows from
step t to t - 1, while the spikes stay as they are. With :math:`g` the gradient of the convolutions' weights by backpropagation
through time and :math:`g_c` the one with cuts, of the same batch and weights, the cosine is
:math:`g \cdot g_c / (|g|\,|g_c|)`: 1 where the cuts change nothing, or only the length. A cut changes the gradients of weights
before the layer alone, so it tends to weigh more the later the layer is. What BatchNorm's statistics over all steps couple stays.

The question, and the first two sets of cuts, are of Hu et al., "High-Performance Temporal Reversible Spiking Neural Networks"
(T-RevSNN), ICML 2024. The random controls, with as many layers cut, are not in it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.conv import _ConvNd

from tfexplore.data import Split, currents
from tfexplore.explore.training.observe import accuracy, spiking
from tfexplore.neurons.parameters import checked_count
from tfexplore.nn.networks import BATCH, fit
from tfexplore.nn.schedules import layer_by_layer

KEPT, RANDOM_KEPT = "only stage ends kept", "as many random ones kept"
CUT, RANDOM_CUT = "only stage ends cut", "as many random ones cut"
ALL = "all cut"
CONTROLS = {KEPT: RANDOM_KEPT, CUT: RANDOM_CUT}
"""The random control of each of the two cases."""
SETS = (CUT, RANDOM_CUT, KEPT, RANDOM_KEPT, ALL)

Name = TypeVar("Name", bound=Hashable)


class Point(NamedTuple):
    """What was measured after some batches.

    cosines: by set of cuts, one for each of its draws.   accuracy: on the test images.   loss: of the last batch, nan before.
    """

    batches: int
    cosines: dict[str, list[float]]
    accuracy: float
    loss: float


def cut_sets(
    layers: Sequence[str], ends: Sequence[str], draws: int = 1, seed: int = 0
) -> dict[str, list[tuple[str, ...]]]:
    """The layers that each set cuts; a random control has several draws, of as many layers as its case cuts.

    >>> found = cut_sets(["a", "b", "c"], ["c"], draws=2)
    >>> found["only stage ends kept"], found["only stage ends cut"], [len(cut) for cut in found["as many random ones kept"]]
    ([('a', 'b')], [('c',)], [2, 2])
    """
    if unknown := [name for name in ends if name not in layers]:
        raise ValueError(f"ends must name layers of neurons, but got {unknown[0]!r}; there are {', '.join(layers)}.")
    if not 0 < len(set(ends)) < len(layers):
        raise ValueError(f"ends must name some of the {len(layers)} layers of neurons, not none or all of them.")
    checked_count("draws", draws)
    rng = np.random.default_rng(seed)
    inner = tuple(name for name in layers if name not in ends)

    def random(count: int) -> list[tuple[str, ...]]:
        chosen = (np.sort(rng.permutation(len(layers))[:count]) for _ in range(draws))
        return [tuple(layers[k] for k in each) for each in chosen]

    last = tuple(name for name in layers if name in ends)
    return {
        CUT: [last], RANDOM_CUT: random(len(last)), KEPT: [inner], RANDOM_KEPT: random(len(inner)), ALL: [tuple(layers)],
    }  # fmt: skip


def cosines(net: nn.Module, x: Tensor, labels: Tensor, cuts: Mapping[Name, Sequence[str]]) -> dict[Name, float]:
    """The cosine between the full gradient and the one with these layers cut, by the cuts' names; nan where one is zero.

    It is measured on a copy: neither the network's statistics and gradients nor torch's random numbers move.

    Args:
        net: maps currents to one output per class and step; in training mode, BatchNorm takes the batch's statistics.
        x: currents, `[T, B, *features]`.
        labels: `[B]`.
        cuts: by any name, the layers without a gradient through time.

    Example:
        >>> from tfexplore.nn.residual import residual
        >>> net = residual("sew", channels=2, blocks=1)
        >>> cosines(net, torch.rand(4, 8, 1, 14, 14), torch.arange(8), {"nothing": (), "end": net.stage_ends[-1:]})["nothing"]
        1.0
    """
    probe = copy.deepcopy(net)
    if unknown := {name for cut in cuts.values() for name in cut} - set(spiking(probe)):
        raise ValueError(
            f"cuts must name layers of neurons, but got {min(unknown)!r}; there are {', '.join(spiking(net))}."
        )
    full = gradient(probe, x, labels)
    return {name: cosine(gradient(probe, x, labels, cut), full) for name, cut in cuts.items()}


def gradient(net: nn.Module, x: Tensor, labels: Tensor, cut: Sequence[str] = ()) -> np.ndarray:
    """The gradient of all convolutions' weights as one vector, of the cross-entropy of the mean output over time.

    Of a network without convolutions, that of its linear layers.
    """
    for name, layer in spiking(net).items():
        layer.temporal_gradient = name not in cut
    weights = weights_of(net)
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices):  # what is random, such as Dropout, draws the same at every call
        loss = cross_entropy(net(x).mean(0), labels)
    found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found]).double().cpu().numpy()


def weights_of(net: nn.Module) -> list[Tensor]:
    """The convolutions' weights that are trained, or where there are none, those of linear layers."""
    for kind in (_ConvNd, nn.Linear):
        found = [module.weight for module in net.modules() if isinstance(module, kind) and module.weight.requires_grad]
        if found:
            return found
    raise ValueError(
        "net has no convolution and no linear layer with a weight to train, so there is no gradient to compare."
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = math.sqrt((a @ a) * (b @ b))
    return float(a @ b) / length if length > 0 else math.nan


def probe_batch(data: Split, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """The batch of training images on which gradients are compared, as currents, and its labels."""
    chosen = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(seed))[:BATCH]
    return currents(data.train_images[chosen], steps), data.train_labels[chosen]


def points(
    net: nn.Module, data: Split, sets: Mapping[str, Sequence[Sequence[str]]], *, steps: int = 4, batches: int = 60,
    every: int = 20, rate: float = 2e-3, seed: int = 0,
) -> Iterator[Point]:  # fmt: skip
    """Trains the network by full backpropagation through time, and measures before the first batch and after every few."""
    x, labels = probe_batch(data, steps, seed)
    named = {(name, k): cut for name, cuts in sets.items() for k, cut in enumerate(cuts)}
    training, loss = fit(net, data, layer_by_layer, steps, rate, seed), math.nan
    for batch in range(0, batches + 1, every):
        if batch:
            loss = [next(training) for _ in range(every)][-1]
        found = cosines(net, x, labels, named)
        by_set = {name: [found[name, k] for k in range(len(cuts))] for name, cuts in sets.items()}
        yield Point(batch, by_set, accuracy(net, data, layer_by_layer, steps), loss)


def alone(net: nn.Module, data: Split, *, steps: int = 4, seed: int = 0) -> dict[str, float]:
    """The cosine where one layer alone is cut, by its name, in the order of the network; on the batch of `points`."""
    return cosines(net, *probe_batch(data, steps, seed), {name: [name] for name in spiking(net)})
