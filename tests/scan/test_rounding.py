"""Sums in another order: how far they are apart, bounded and measured; each neuron's first flip within the bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import noise
from tfexplore import Layer, neurons
from tfexplore.scan import Flips, flips, rounding_bound, run, solve, walk

KINDS = [
    neurons.IF(), neurons.LIF(tau=2.0), neurons.LIF(tau=20.0, v_reset=-0.3), neurons.ALIF(tau=5.0), neurons.CubaLIF(),
    neurons.LIF(tau=7.0, reset="hard", v_reset=0.2), neurons.CubaLIF(reset="none"), neurons.PaperLIF(decay=0.9),
]  # fmt: skip


@settings(max_examples=40)
@given(
    neuron=st.sampled_from(KINDS), how=st.sampled_from(["chunked", "associative", "doubling"]), seed=st.integers(0, 1000),
    steps=st.sampled_from([1, 2, 33, 400]), scale=st.sampled_from([1e-3, 0.3, 1.0, 1e4]),
)  # fmt: skip
def test_no_scan_is_further_from_the_loop_than_the_bound(neuron, how, seed, steps, scale):
    for dtype in (torch.float32, torch.float64):
        x = scale * (noise(steps, 1, 16, seed=seed, dtype=dtype) + 0.2)
        loop = walk(neuron, x)
        scan = run(neuron, x, how=how, chunk=11, spikes=loop.spikes)
        bound = rounding_bound(neuron, x, loop.spikes)
        apart = (scan.u.double() - loop.u.double()).abs()
        assert bound.shape == x.shape
        assert (apart <= bound).all()
        assert bool((scan.out == loop.out)[bound < loop.u.abs()].all())


def test_the_bound_says_something():
    """It is within a hundred times of what is seen, and no looser after 4,000 steps than after 40 where the neuron forgets."""
    neuron, x = neurons.LIF(tau=4.0, reset="none"), torch.rand(4096, 1, 64, generator=torch.Generator().manual_seed(1))
    loop = walk(neuron, x)
    scan = run(neuron, x, how="associative")
    bound = rounding_bound(neuron, x, 0 * x)
    assert (scan.u.double() - loop.u.double()).abs().max() > bound.max() / 100
    assert bound[-1].max() < 1.5 * bound[40:80].max()
    assert bound.max() < 1e-4


@pytest.mark.parametrize(
    "neuron", [neurons.LIF(tau=20.0), neurons.ALIF(), neurons.CubaLIF()], ids=lambda n: type(n).__name__
)
def test_generic_floats_flip_only_within_the_bound(neuron):
    """Thousands of neurons, their fixed point by trees beside the serial kernel: few flips, the first of each explained."""
    x = 0.3 * torch.rand(100, 4, 1024, generator=torch.Generator().manual_seed(2))
    reference = Layer(neuron, backend="numba")(x)
    solved = solve(neuron, x, how="associative")
    found = flips(solved.out, reference, solved.forward.u, rounding_bound(neuron, x, solved.out))
    assert found.explained == found.neurons
    assert found.neurons < 40  # of 4,096
    assert found.largest <= 1


def test_flips_do_happen_and_each_is_within_the_bound():
    """Given the loop's own spikes each step is asked by itself: 1.6 million, of which a tree takes a few the other way."""
    neuron, x = neurons.ALIF(), 0.3 * torch.rand(400, 8, 512, generator=torch.Generator().manual_seed(1))
    loop = walk(neuron, x)
    scan = run(neuron, x, how="associative", spikes=loop.spikes)
    bound = rounding_bound(neuron, x, loop.spikes)
    differs = scan.out != loop.out
    assert 1 <= int(differs.sum()) <= 20
    assert (scan.u.double().abs() <= bound)[differs].all()
    assert flips(scan.out, loop.out, scan.u, bound).explained >= 1


def test_a_flip_out_of_the_bound_is_not_explained():
    one, other = torch.zeros(4, 3), torch.zeros(4, 3)
    other[1, 0] = other[3, 0] = other[2, 2] = 1  # neuron 0 twice, neuron 2 once
    u = torch.full((4, 3), -0.5)
    u[2, 2] = -1e-9
    bound = torch.full((4, 3), 1e-6, dtype=torch.float64)
    assert flips(one, other, u, bound) == Flips(total=3, neurons=2, explained=1, largest=500000.0)
    assert flips(one, one, u, bound) == Flips(0, 0, 0, 0.0)


def test_no_steps_and_refusals():
    none = torch.zeros(0, 2, 3)
    assert rounding_bound(neurons.LIF(), none, none).shape == (0, 2, 3)
    assert flips(none, none, none, none) == Flips(0, 0, 0, 0.0)
    with pytest.raises(ValueError, match="EIF is no scan over time"):
        rounding_bound(neurons.EIF(), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match="spikes must have x's shape"):
        rounding_bound(neurons.LIF(), torch.zeros(2, 1, 1), torch.zeros(1, 1, 1))
