"""What a way does for a shape: linear in the neurons, counted on the scan; against a direct run and closed forms."""

from __future__ import annotations

import pytest
import torch

from tfexplore import neurons
from tfexplore.scan import HOW, Count, counted, run


@pytest.mark.parametrize("neuron", [neurons.LI(), neurons.CubaLIF(reset="none")], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("how", HOW)
def test_it_is_what_a_run_counts(how, neuron):
    run(neuron, torch.zeros(50, 1, 7), how=how, chunk=8, count=(count := Count()))
    assert counted(how, neuron, 50, 7, chunk=8) == count


def test_closed_forms():
    """One state: a step applied is one product and one sum, and moves A (which all neurons share), z, b and the new z."""
    steps, many = 512, 1_000_000
    loop = counted("sequential", neurons.LIF(), steps, many)
    assert (loop.work, loop.depth, loop.operations) == (steps * many, steps, 2 * steps * many)
    assert loop.words == steps * (3 * many + 1)
    tree = counted("associative", neurons.LIF(), steps, many)
    assert (tree.work, tree.depth) == ((2 * steps - 1 - 9) * many, 2 * 9 - 1)


def test_rounds_multiply():
    one, ten = (counted("chunked", neurons.ALIF(), 64, 3, chunk=8, rounds=rounds) for rounds in (1, 10))
    assert ten == Count(10 * one.work, 10 * one.depth, 10 * one.words, 10 * one.operations)


def test_refusals():
    with pytest.raises(ValueError, match="how must be one of"):
        counted("psn", neurons.LI(), 8, 1)
    with pytest.raises(ValueError, match="steps must be a whole number from 1 on, but got 0"):
        counted("sequential", neurons.LI(), 0, 1)
    with pytest.raises(ValueError, match="QIF is no scan over time"):
        counted("sequential", neurons.QIF(), 8, 1)
