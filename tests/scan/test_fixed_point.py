"""The fixed point of the spikes, exactly the serial kernel's; what is proved from the left; rounds against spikes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.cases import CASES, Case, same_bits
from tfexplore import Layer, neurons
from tfexplore.neurons import step_of
from tfexplore.neurons.affine import why_not
from tfexplore.scan import HOW, Count, gradient, solve, walk

RESETS = [case for case in CASES if case.reset != "none" and not why_not(step_of(case()), given_spikes=True)]


def eighths(*shape: int, seed: int, low: int = -4, high: int = 8) -> Tensor:
    """Multiples of 1/8: sums without a leak are exact."""
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)) / 8


def test_which_neurons_it_is_for():
    assert {case.cls.__name__ for case in RESETS} == {"IF", "LIF", "ParametricLIF", "ALIF", "CubaLIF", "PaperLIF"}
    with pytest.raises(ValueError, match="QIF is no scan over time: its step is not affine in v"):
        solve(neurons.QIF(), torch.ones(3, 1, 1))


@settings(max_examples=30)
@given(case=st.sampled_from(RESETS), steps=st.integers(1, 60), seed=st.integers(0, 1000), guessed=st.booleans())
def test_sequential_inside_has_the_serial_kernels_bits(case: Case, steps, seed, guessed):
    x = case.input(steps, (2, 3), seed=seed)
    guess = (case.input(steps, (2, 3), seed=seed + 1) > 0.5).float() if guessed else None
    out, state = Layer(case(), backend="numba")(x, return_state=True)
    solved = solve(case(), x, guess=guess, record=True)
    assert same_bits(solved.out, out)
    for ours, theirs in zip(solved.forward.states, state, strict=True):
        assert same_bits(ours[-1], theirs)
    # the proofs are true, from the left, and at least a step longer in each round
    assert solved.rounds <= steps
    assert len(solved.changed) == len(solved.wasted) == len(solved.final) == solved.rounds
    before = torch.zeros_like(solved.final[0])
    for k, final in enumerate(solved.final):
        assert ((final > before) | (final == steps)).all()
        assert (solved.agree[k] >= final).all()
        assert solved.wasted[k] == int(before.sum())
        for place in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
            proved = slice(0, int(final[*place]))
            assert torch.equal(solved.history[k][proved, *place].float(), out[proved, *place])
        before = final


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    how=st.sampled_from(HOW),
    chunk=st.integers(1, 200),
    reset=st.sampled_from(["soft", "hard"]),
)
def test_any_scan_inside_has_the_kernels_bits_where_sums_are_exact(seed, how, chunk, reset):
    neuron, x = neurons.IF(reset=reset), eighths(128, 1, 4, seed=seed)
    solved = solve(neuron, x, how=how, chunk=chunk)
    out, (v,) = Layer(neuron, backend="numba")(x, return_state=True)
    assert torch.equal(solved.out, out)
    assert torch.equal(solved.forward.states[0][-1], v)


def test_a_long_one():
    """T = 4,096 without a leak, 1 spike in 16 steps: hundreds of rounds, each a tree."""
    x = torch.full((4096, 1, 2), 1 / 16)
    x[0, :, 1] = 0.5
    solved = solve(neurons.IF(), x, how="associative")
    assert torch.equal(solved.out, Layer(neurons.IF(), backend="numba")(x))
    assert 256 <= solved.rounds <= 2 * 256 + 1


MONOTONE = [
    neurons.IF(), neurons.LIF(tau=2.0), neurons.LIF(tau=16.0), neurons.ALIF(tau=4.0, tau_b=8.0),
    neurons.CubaLIF(tau=4.0, tau_syn=2.0),
]  # fmt: skip


@settings(max_examples=30)
@given(neuron=st.sampled_from(MONOTONE), seed=st.integers(0, 1000), steps=st.integers(1, 48))
def test_two_rounds_for_each_spike_of_the_busiest_neuron(neuron, seed, steps):
    """Soft resets: the iterates enclose the answer, and 2 n + 1 rounds are enough."""
    x = eighths(steps, 2, 4, seed=seed).double()
    solved = solve(neuron, x, record=True)
    assert solved.rounds <= 2 * int(solved.out.sum(0).max()) + 1
    truth = solved.out.bool()
    for k, spikes in enumerate(solved.history, start=1):
        inside = truth <= spikes if k % 2 else spikes <= truth
        assert inside.all()


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_so_it_is_with_a_hard_reset_and_no_negative_currents(seed):
    for neuron in (neurons.IF(reset="hard"), neurons.LIF(reset="hard", tau=4.0), neurons.PaperLIF(decay=0.5)):
        solved = solve(neuron, eighths(40, 1, 4, seed=seed, low=0).double())
        assert solved.rounds <= 2 * int(solved.out.sum(0).max()) + 1


def test_the_bound_is_reached_and_rounds_are_no_constant():
    """IF with a quarter at every step: a spike every 4 steps, and the rounds grow with T as the spikes do."""
    rounds = {steps: solve(neurons.IF(), torch.full((steps, 1, 1), 0.25)).rounds for steps in (16, 32, 64)}
    assert rounds[32] >= 1.8 * rounds[16]
    assert rounds[64] >= 1.8 * rounds[32]
    burst = torch.tensor([4.0, -4, 4, -4, 4, -4]).view(-1, 1, 1)  # each spike leaves 3 too many, until the next step
    solved = solve(neurons.IF(), burst)
    assert solved.rounds <= 2 * int(solved.out.sum()) + 1


@pytest.mark.parametrize("steps", [20, 40])
def test_a_hard_reset_may_need_a_round_for_each_step_with_a_single_spike(steps):
    """A large current, then one far below: each false spike lifts the potential to v_reset, and makes the next."""
    x = torch.ones(steps, 1, 1)
    x[0], x[1] = 2000, -1000
    solved = solve(neurons.IF(reset="hard"), x)
    assert solved.out.sum() == 1
    assert solved.rounds == steps


def test_a_true_guess_is_proved_in_one_round_and_a_false_one_costs_no_more_than_t():
    neuron, x = neurons.LIF(), eighths(40, 2, 3, seed=1)
    truth = walk(neuron, x).out
    assert solve(neuron, x, guess=truth).rounds == 1
    opposite = solve(neuron, x, guess=1 - truth)
    assert torch.equal(opposite.out, truth)
    assert opposite.rounds <= 40


@pytest.mark.parametrize("how", ["sequential", "associative"])
def test_forward_and_backward_are_two_solved_scans(how):
    """The gradient of the layer, by one scan more over the solved values; state and last state included."""
    neuron, x = neurons.LIF(tau=3.0, detach_reset=False), eighths(50, 2, 3, seed=2).double().requires_grad_()
    start = torch.full((2, 3), 0.25, dtype=torch.float64, requires_grad=True)
    out, (v,) = Layer(neuron, backend="torch")(x, state=(start,), return_state=True)
    g, g_v = torch.ones_like(out), torch.full_like(v, 0.5)
    expected = torch.autograd.grad([out, v], [x, start], [g, g_v])
    solved = solve(neuron, x.detach(), (start.detach(),), how)
    made = gradient(neuron, x.detach(), g, (start.detach(),), (g_v,), how, forward=solved.forward)
    assert torch.allclose(made.x, expected[0], rtol=1e-10, atol=1e-12)
    assert torch.allclose(made.start[0], expected[1], rtol=1e-10, atol=1e-12)


def test_nothing_to_do():
    for shape in ((0, 2, 3), (5, 2, 0)):
        solved = solve(neurons.LIF(), torch.zeros(shape))
        assert solved.out.shape == shape
        assert (solved.rounds, solved.changed) == (0, ())
    one = solve(neurons.LIF(), torch.full((1, 1, 1), 2.0))
    assert (one.rounds, one.changed, one.out.item()) == (1, (1,), 1.0)
    assert solve(neurons.LI(), torch.ones(5, 1, 1)).rounds == 1  # it does not fire: its first scan is the answer


def test_counts_and_refusals():
    x = torch.full((8, 1, 1), 0.8)
    solved = solve(neurons.LIF(), x, how="associative", count=(count := Count()))
    assert count.work == solved.rounds * 12
    with pytest.raises(
        RuntimeError, match=r"after 2 rounds 5 element-steps are not proved; allow more \(most=\), at most T = 8"
    ):
        solve(neurons.LIF(), x, most=2)
    with pytest.raises(ValueError, match=r"history was not recorded: solve\(..., record=True\)"):
        _ = solved.agree
    with pytest.raises(ValueError, match="spikes must have x's shape"):
        solve(neurons.LIF(), x, guess=x[1:])
