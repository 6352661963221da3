"""A hard reset cuts the past: scans up to the first spike, exactly the serial kernel's spikes; rounds by their closed form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.cases import noise, same_bits
from tfexplore import Layer, neurons
from tfexplore.scan import HOW, Count, cut, gradient, rounds_of, solve

HARD = [
    neurons.IF(reset="hard"),
    neurons.LIF(tau=3.0, reset="hard", v_reset=-0.25),
    neurons.PaperLIF(decay=0.7),
    neurons.IF(reset="hard", strict=True),
]


def stretches(spikes: Tensor) -> list[list[int]]:
    """Of each neuron, the lengths up to and including each spike, then what is left: by walking along."""
    found = []
    for train in spikes.flatten(1).T.tolist():
        lengths = [0]
        for s in train:
            lengths[-1] += 1
            if s:
                lengths.append(0)
        found.append(lengths)
    return found


@settings(max_examples=30)
@given(
    neuron=st.sampled_from(HARD), steps=st.integers(1, 80), chunk=st.integers(1, 100), seed=st.integers(0, 1000),
    drive=st.sampled_from([-0.5, 0.2, 1.0]),
)  # fmt: skip
def test_sequential_inside_has_the_serial_kernels_bits(neuron, steps, chunk, seed, drive):
    x = noise(steps, 2, 3, seed=seed) + drive
    out, (v,) = Layer(neuron, backend="numba")(x, return_state=True)
    found = cut(neuron, x, chunk=chunk)
    assert same_bits(found.out, out)
    assert same_bits(found.forward.states[0][-1], v)
    expected = max(sum(-(-length // chunk) for length in lengths) for lengths in stretches(out))
    assert found.rounds == expected == rounds_of(out, chunk)
    busiest = int(out.sum(0).max())
    assert busiest <= found.rounds <= max(int(n) + -(-(steps - int(n)) // chunk) for n in out.sum(0).flatten())
    assert (found.committed.sum(0) == steps).all()
    assert torch.equal(found.final[-1], found.committed.sum(0))
    lanes = found.rounds * chunk * 6
    assert lanes == steps * 6 + sum(found.wasted) + sum(found.idle)  # every lane: committed, thrown away, or idle


@settings(max_examples=20)
@given(how=st.sampled_from(HOW), chunk=st.integers(1, 70), seed=st.integers(0, 1000))
def test_any_scan_inside_has_the_kernels_bits_where_sums_are_exact(how, chunk, seed):
    neuron = neurons.IF(reset="hard")
    x = torch.randint(-3, 9, (128, 1, 4), generator=torch.Generator().manual_seed(seed)) / 8
    found = cut(neuron, x, how=how, chunk=chunk)
    out, (v,) = Layer(neuron, backend="numba")(x, return_state=True)
    assert torch.equal(found.out, out)
    assert torch.equal(found.forward.states[0][-1], v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_long_one_from_a_given_state(dtype):
    neuron, x = neurons.LIF(tau=20.0, reset="hard"), noise(4096, 1, 3, seed=1, dtype=dtype) / 4
    start = (torch.tensor([[0.5, 0.75, -3.0]], dtype=dtype),)
    found = cut(neuron, x, start, chunk=128)
    assert same_bits(found.out, Layer(neuron, backend="numba")(x, state=start))
    assert found.out.sum() > 50


def test_where_the_fixed_point_needs_t_rounds_this_needs_two():
    """One spike, then a current far below: see test_fixed_point.py."""
    x = torch.ones(40, 1, 1)
    x[0], x[1] = 2000, -1000
    neuron = neurons.IF(reset="hard")
    assert solve(neuron, x).rounds == 40
    assert cut(neuron, x, chunk=40).rounds == 2


def test_forward_and_backward():
    neuron, x = (
        neurons.LIF(reset="hard", detach_reset=False),
        (noise(60, 1, 4, seed=3, dtype=torch.float64) + 0.3).requires_grad_(),
    )
    g = noise(60, 1, 4, seed=4, dtype=torch.float64)
    (expected,) = torch.autograd.grad(Layer(neuron, backend="torch")(x), x, g)
    made = gradient(neuron, x.detach(), g, forward=cut(neuron, x, chunk=16).forward)
    assert torch.allclose(made.x, expected, rtol=1e-10, atol=1e-12)


def test_nothing_to_do_and_a_count():
    for shape in ((0, 2, 3), (5, 2, 0)):
        found = cut(neurons.LIF(reset="hard"), torch.zeros(shape))
        assert (found.out.shape, found.rounds, found.committed.shape) == (shape, 0, (0, *shape[1:]))
        assert rounds_of(found.out, 8) == 0
    count = Count()
    found = cut(neurons.LIF(reset="hard"), torch.full((16, 1, 2), 0.8), how="associative", chunk=8, count=count)
    assert count.work == found.rounds * 2 * 12


@pytest.mark.parametrize(
    ("neuron", "match"),
    [
        (neurons.LIF(), r"A spike of LIF with reset='soft' does not cut the past: .* Use reset='hard'"),
        (neurons.ALIF(reset="hard"), "A spike of ALIF with reset='hard' does not cut the past"),
        (neurons.QIF(), "QIF is no scan over time: its step is not affine in v"),
        (neurons.LI(), "A spike of LI with reset='none' does not cut the past"),
    ],
)
def test_refusals(neuron, match):
    with pytest.raises(ValueError, match=match):
        cut(neuron, torch.ones(3, 1, 1))
    with pytest.raises(ValueError, match="chunk must be a whole number from 1 on"):
        cut(neurons.LIF(reset="hard"), torch.ones(3, 1, 1), chunk=0)
