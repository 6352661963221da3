"""What each way does for a shape, counted on the scan itself: work, depth, words, operations.

The scan runs on the neuron's own pairs, for one neuron and for two; all of it is linear in the number of neurons, so that N may
be a million. Where a way takes rounds (`solve`, `cut`), their number comes from a run: it depends on the spikes.
"""

from __future__ import annotations

import functools

import torch

from tfexplore.neurons.affine import why_not
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.parameters import checked_count
from tfexplore.neurons.step import step_of
from tfexplore.scan.pairs import Count
from tfexplore.scan.steps import Equations, check_how, scanned


def counted(way: str, neuron: Neuron, steps: int, neurons: int, chunk: int = 32, rounds: int = 1) -> Count:
    """What a scan does for all neurons and in all rounds, by running it.

    Args:
        way: `"sequential"`, `"chunked"`, `"associative"` or `"doubling"`.
        neuron: one that is affine, at least given its spikes.
        steps: T; of `cut`, the K steps of a round.
        neurons: N.
        chunk: time steps of a chunk, for `"chunked"`.
        rounds: of `solve` or `cut`, as they found them.

    Example:
        The fixed point of a hundred neurons, by trees:

        >>> from tfexplore import neurons
        >>> counted("sequential", neurons.IF(), 1024, 100)
        Count(work=102400, depth=1024, words=308224, operations=204800)
        >>> counted("associative", neurons.IF(), 1024, 100, rounds=50).depth
        950
    """
    check_how(way)
    for name, given in (("steps", steps), ("neurons", neurons), ("chunk", chunk), ("rounds", rounds)):
        checked_count(name, given)
    one, two = (_counted(way, neuron, steps, n, chunk) for n in (1, 2))
    work, words, operations = (
        a + (neurons - 1) * (b - a)
        for a, b in ((one.work, two.work), (one.words, two.words), (one.operations, two.operations))
    )
    return Count(rounds * work, rounds * one.depth, rounds * words, rounds * operations)


@functools.lru_cache(maxsize=256)
def _counted(way: str, neuron: Neuron, steps: int, neurons: int, chunk: int) -> Count:
    count, x = Count(), torch.zeros(steps, 1, neurons)
    on = Equations(neuron, x)
    with torch.no_grad():
        pairs = on.pairs(x if why_not(step_of(neuron)) else None)
        scanned(way, pairs, torch.stack(on.start(None)), chunk, count)
    return count
