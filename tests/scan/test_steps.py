"""The forward pass of affine neurons as a scan over time: against hand-written loops, and the serial kernel of a layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import CASES, Case, distance, noise, same_bits
from tests.oracle import walked
from tfexplore import Layer, neurons
from tfexplore.neurons import step_of
from tfexplore.neurons.affine import why_not
from tfexplore.scan import HOW, Count, pairs_of, run, walk

AFFINE = [case for case in CASES if not why_not(step_of(case()))]
GIVEN = [case for case in CASES if not why_not(step_of(case()), given_spikes=True)]


def test_which_neurons_are_scans():
    assert {str(case) for case in AFFINE} == {"IF-none", "LIF-none", "ParametricLIF-none", "CubaLIF-none", "LI-none"}
    assert {case.cls.__name__ for case in CASES if case not in GIVEN} == {"QIF", "EIF", "Izhikevich"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_walk_is_the_serial_kernel_bit_for_bit(case: Case):
    x = case.input(50, (2, 5))
    with torch.no_grad():
        made, (out, state) = walk(case(), x), Layer(case(), backend="numba")(x, return_state=True)
    if case.cls is not neurons.EIF:  # torch's exp and the C library's may differ in their last digit
        assert same_bits(made.out, out)
        for ours, theirs in zip(made.states, state, strict=True):
            assert same_bits(ours[-1], theirs)
    for dtype in (torch.float32, torch.float64):
        x = case.input(50, (2, 5), dtype=dtype)
        assert torch.equal(walk(case(), x).out, Layer(case(), backend="torch")(x))


@settings(max_examples=25)
@given(
    case=st.sampled_from(AFFINE),
    steps=st.sampled_from([0, 1, 2, 33, 200]),
    chunk=st.integers(1, 70),
    how=st.sampled_from(HOW),
    seed=st.integers(0, 1000),
)
def test_forward_and_backward_are_those_of_a_hand_written_loop(case, steps, chunk, how, seed):
    x = noise(steps, 2, 3, seed=seed, dtype=torch.float64).requires_grad_()
    neuron = case(surrogate=neurons.surrogates.ATan(2.0))
    start = tuple(
        noise(2, 3, seed=seed + k + 1, dtype=torch.float64).requires_grad_() for k in range(len(neuron.states))
    )
    made = run(neuron, x, start, how, chunk)
    assert made.out.shape == x.shape
    if not steps:
        return
    out, last, _ = walked(case.cls.__name__, neuron.parameters, x, start, reset="none")
    assert torch.equal(made.out, out) or case.cls is neurons.LI
    for ours, theirs in zip(made.states, last, strict=True):
        assert distance(ours[-1], theirs) < 1e-12
    g = noise(*x.shape, seed=seed + 9, dtype=torch.float64)
    goals = [(out, g), *((z, z.detach().cos()) for z in last)]
    ours = [made.out, *(z[-1] for z in made.states)]
    by_loop = torch.autograd.grad([o for o, _ in goals], (x, *start), [g for _, g in goals])
    by_scan = torch.autograd.grad(ours, (x, *start), [g for _, g in goals])
    for one, two in zip(by_scan, by_loop, strict=True):
        assert distance(one, two) < 1e-10


@pytest.mark.parametrize(("cls", "dtype"), [(neurons.IF, torch.float32), (neurons.CubaLIF, torch.float64)])
@settings(max_examples=4)
@given(
    steps=st.integers(2049, 4096), chunk=st.integers(8, 300), how=st.sampled_from(HOW[1:]), seed=st.integers(0, 1000)
)
def test_long_ones_beside_the_serial_kernel(cls, dtype, steps, chunk, how, seed):
    """Up to 4,096 steps, forward and backward, in both dtypes; what rounds grows with T where nothing is forgotten."""
    case = next(case for case in AFFINE if case.cls is cls)
    x = noise(steps, 1, 2, seed=seed, dtype=dtype).requires_grad_()
    made, (out, state) = run(case(), x, how=how, chunk=chunk), Layer(case(), backend="numba")(x, return_state=True)
    near = 1e-12 if dtype == torch.float64 else 1e-4
    for ours, theirs in zip(made.states, state, strict=True):
        assert distance(ours[-1], theirs) < near * (1 + made.states[0].abs().max().item())
    assert (made.out != out).float().mean() < 1e-3
    g = noise(steps, 1, 2, seed=seed + 1, dtype=dtype)
    with_sum = [(o * g).sum() + z[-1].sum() for o, z in ((made.out, made.states[0]), (out, state[0].unsqueeze(0)))]
    ours, theirs = (torch.autograd.grad(each, x)[0] for each in with_sum)
    assert distance(ours, theirs) < max(near, 1e-10)


@pytest.mark.parametrize("how", HOW)
def test_dyadic_inputs_have_the_kernels_bits_in_any_order(how):
    """k / 8 and a leak of a half: every sum is exact for 12 steps, and without a leak for all 4,096."""
    for neuron, steps in ((neurons.LIF(tau=2.0, reset="none"), 12), (neurons.IF(reset="none"), 4096)):
        x = torch.randint(-8, 9, (steps, 1, 4), generator=torch.Generator().manual_seed(1)) / 8
        made, (out, state) = run(neuron, x, how=how), Layer(neuron, backend="numba")(x, return_state=True)
        assert torch.equal(made.out, out)
        assert torch.equal(made.states[0][-1], state[0])


@pytest.mark.parametrize("case", GIVEN, ids=str)
def test_given_its_own_spikes_every_such_neuron_is_affine(case: Case):
    x = case.input(60, (1, 4), dtype=torch.float64)
    truth = walk(case(), x)
    for how in HOW:
        made = run(case(), x, how=how, chunk=7, spikes=truth.spikes)
        for one, two in zip(made.states, truth.states, strict=True):
            assert distance(one, two) < 1e-11
        assert case.cls is neurons.LI or torch.equal(made.out, truth.out)


def test_parameters_by_channel_and_their_gradients():
    """tau of each channel, learned: the gradient is that of the layer, up to the layer's own tau = 1 + exp(raw)."""
    tau = torch.tensor([2.0, 5.0, 20.0], dtype=torch.float64)
    x = noise(40, 2, 3, seed=3, dtype=torch.float64)
    layer = Layer(neurons.LI(tau=tau, learn="tau"), backend="torch").double()
    layer(x).sin().sum().backward()
    ours = tau.clone().requires_grad_()
    run(neurons.LI(tau=2.0), x, how="associative", parameters={"tau": ours}).out.sin().sum().backward()
    assert distance(ours.grad * (tau - 1), layer.raw["tau"].grad) < 1e-7  # a layer begins in float32
    fixed = Layer(neurons.LI(tau=tau), backend="torch").double()
    assert distance(run(neurons.LI(tau=tau), x, how="chunked").out, fixed(x)) < 1e-12


def test_pairs_are_lean_where_they_can_be():
    x = torch.zeros(6, 2, 3)
    assert pairs_of(neurons.LIF(reset="none"), x).a.shape == (6, 1, 1, 1)  # the same for all neurons
    assert pairs_of(neurons.CubaLIF(reset="none"), x).a.shape == (6, 2, 2, 1, 1)
    assert pairs_of(neurons.ALIF(reset="hard"), x, spikes=x).a.shape == (6, 2, 2, 3)  # diagonal; of its spikes
    assert pairs_of(neurons.LIF(), x, spikes=x).a.shape == (6, 1, 1, 1)  # a soft reset leaves A as it is


def test_no_neurons_and_half_precision():
    for how in HOW:
        assert run(neurons.LI(), torch.zeros(5, 2, 0), how=how).out.shape == (5, 2, 0)
    assert run(neurons.LI(), torch.ones(5, 2, 1).bfloat16()).out.dtype == torch.float32  # the state's dtype


def test_spikes_may_be_bits_and_parameters_in_another_dtype():
    x = noise(20, 1, 3, seed=1)
    truth = walk(neurons.LIF(), x)
    assert torch.equal(run(neurons.LIF(), x, how="associative", spikes=truth.out.bool()).out, truth.out)
    tau = torch.tensor(2.0, dtype=torch.float64)
    assert same_bits(run(neurons.LI(tau=9.0), x, parameters={"tau": tau}).out, run(neurons.LI(tau=2.0), x).out)


def test_an_infinite_current_stays_with_its_state():
    """ALIF's adaptation knows of spikes only: an infinite current is no business of it."""
    x = torch.zeros(3, 1, 1)
    x[1] = torch.inf
    b = pairs_of(neurons.ALIF(tau_b=2.0), x, spikes=torch.ones_like(x)).b
    assert b[:, 1].flatten().tolist() == [0.5, 0.5, 0.5]


def test_a_count_of_the_scan():
    x = torch.zeros(8, 1, 5)
    for how, work in (("sequential", 8), ("associative", 12)):
        run(neurons.LI(), x, how=how, count=(count := Count()))
        assert count.work == 5 * work


def test_errors():
    x = torch.ones(3, 1, 1)
    with pytest.raises(ValueError, match=r"QIF is no scan over time: its step is not affine in v"):
        run(neurons.QIF(), x, spikes=x)
    with pytest.raises(ValueError, match=r"how must be one of 'sequential', .*, but got 'tree'"):
        run(neurons.LI(), x, how="tree")
    with pytest.raises(ValueError, match=r"spikes must have x's shape, \(3, 1, 1\), but got \(2, 1, 1\)"):
        run(neurons.LIF(), x, spikes=x[:2])
    with pytest.raises(TypeError, match="spikes must be a tensor of x's shape, but got bool"):
        pairs_of(neurons.LIF(), x, spikes=True)
    with pytest.raises(ValueError, match="LI has no parameter 'beta'; it has tau, v_reset"):
        run(neurons.LI(), x, parameters={"beta": x})
    with pytest.raises(TypeError, match=r"neuron must be like neurons\.LIF"):
        run("LIF", x)
    with pytest.raises(TypeError, match="state must be a tuple of tensors, one for each of v, but got Tensor"):
        walk(neurons.LIF(), x, x[0])
    with pytest.raises(
        ValueError, match=r"state must have x's shape without time, \(1, 1\), .* but got \(1, 1\) in torch.float64"
    ):
        walk(neurons.LIF(), x, (x[0].double(),))
