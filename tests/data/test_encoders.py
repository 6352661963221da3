"""Encoders against plain loops and formulas, number by number, and against other libraries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tfexplore import data
from tfexplore.data import encoders


def numbers(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_direct_encoding_is_a_view():
    x = numbers(4, 3).requires_grad_()
    out = encoders.currents(x, 6)
    assert data.currents is encoders.currents
    assert out.shape == (6, 4, 3)
    assert out.stride() == (0, *x.stride())
    assert out.data_ptr() == x.data_ptr()
    out.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 6))


def test_rate_draws_each_step_with_the_probability_asked_for():
    x = torch.tensor([[0.0, 0.1, 0.5], [0.9, 1.0, 0.25]])
    spikes = encoders.rate(x, 20_000, generator=torch.Generator().manual_seed(1))
    assert set(spikes.unique().tolist()) == {0, 1}
    deviation = (x * (1 - x) / len(spikes)).sqrt()
    assert ((spikes.mean(0) - x).abs() <= 5 * deviation).all()
    a, b = spikes[:-1, 0, 2], spikes[1:, 0, 2]  # a spike says nothing about the next step
    assert (a * b).mean().item() == pytest.approx(0.25, abs=5 * math.sqrt(0.1875 / len(a)))


def test_rate_follows_its_generator_and_leaves_the_global_one():
    x, state = numbers(8, 3), torch.get_rng_state()
    first, second = (encoders.rate(x, 10, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    assert not torch.equal(encoders.rate(x, 10), encoders.rate(x, 10))


@pytest.mark.parametrize("steps", [1, 2, 9, 3000])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_linear_latency_by_its_formula(steps, threshold):
    x = torch.cat([numbers(50), torch.tensor([0.0, 0.3, 1.0])])
    spikes = encoders.latency(x, steps, threshold=threshold)
    for k, value in enumerate(x):
        expected = [0.0] * steps
        if value >= threshold:
            expected[round(((steps - 1) * (1 - value)).item())] = 1.0
        assert spikes[:, k].tolist() == expected


def test_logarithmic_latency_is_the_time_a_leaky_integrator_takes():
    """Of dv/dt = (x - v) / tau, in small steps, to the threshold; what takes longer than T does not fire."""
    x, steps, threshold, tau, dt = numbers(40).double(), 12, 0.2, 4.0, 2e-3
    spikes = encoders.latency(x, steps, form="log", threshold=threshold, tau=tau)
    v, time = torch.zeros_like(x), torch.full_like(x, math.inf)
    for step in range(int(20 * tau / dt)):
        v += dt / tau * (x - v)
        time = time.where((v < threshold) | time.isfinite(), (step + 1) * dt)
    clear = ((time % 1 - 0.5).abs() > 0.01) | time.isinf()  # the small steps do not decide a tie
    assert clear.sum() > 35
    assert 0 < spikes.sum() < len(x)
    for k in clear.nonzero().flatten().tolist():
        t = time[k].item()
        expected = [float(t < math.inf and round(t) == step) for step in range(steps)]
        assert spikes[:, k].tolist() == expected, x[k]


def test_latency_at_the_threshold_and_in_half_precision():
    edge = torch.tensor([0.0, 0.25, 1.0])
    assert encoders.latency(edge, 8, form="log", threshold=0.25).sum(0).tolist() == [0, 0, 1]  # at it, never
    assert encoders.latency(edge, 8, threshold=0.25).sum(0).tolist() == [0, 1, 1]
    for dtype in (torch.float16, torch.bfloat16):
        half = encoders.latency(edge.to(dtype), 5000, threshold=0)
        assert half.dtype == dtype
        assert half.argmax(0).tolist() == [4999, 3749, 0]


@pytest.mark.parametrize("off_spikes", [False, True])
def test_delta_compares_with_the_step_before(off_spikes):
    x, threshold = 4 * numbers(30, 2, 3), 1.0
    x[5] = x[4] + threshold  # exactly
    found = encoders.delta(x, threshold, off_spikes=off_spikes)
    for t in range(30):
        for k in range(6):
            now, before = (x[at].flatten()[k].item() for at in (t, max(t - 1, 0)))
            change = float(torch.tensor(now) - torch.tensor(before))
            expected = 1 if change >= threshold else -1 if off_spikes and change <= -threshold else 0
            assert found[t].flatten()[k] == expected


def test_population_by_its_formula_with_a_gradient():
    x = (3 * numbers(4, 2) - 1).double()
    for sigma in (None, 0.25):
        out = encoders.population(x, 5, low=-1, high=2, sigma=sigma)
        assert out.shape == (4, 2, 5)
        width = 0.75 if sigma is None else sigma
        for at, value in enumerate(x.flatten().tolist()):
            expected = [math.exp(-((value - (-1 + 0.75 * k)) ** 2) / (2 * width**2)) for k in range(5)]
            assert out.flatten(0, 1)[at].tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: encoders.population(x, 5, low=-1, high=2), x.requires_grad_())


def test_angle_marks_the_interval():
    x = torch.cat([3 * numbers(60) - 1, torch.tensor([-1.0, -0.25, 0.5, 2.0])])
    out = encoders.angle(x.view(2, 32), 5, low=-1, high=2).view(64, 5)
    for value, row in zip(x.tolist(), out.tolist(), strict=True):
        begins = [-1 + 0.75 * k for k in range(5)]
        assert row == [float(k == sum(begin <= value for begin in begins) - 1) for k in range(5)]


@pytest.mark.parametrize("name", ["rate", "latency", "delta", "angle"])
def test_spikes_have_no_gradient_and_the_dtype_of_the_numbers(name):
    more = {"delta": 0.5, "angle": 4}.get(name, 6)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        out = getattr(encoders, name)(numbers(5, 3).to(dtype).requires_grad_(), more)
        assert out.dtype == dtype
        assert not out.requires_grad


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)], ids=str)
def test_no_numbers_give_no_spikes(shape):
    x = torch.rand(shape)
    assert encoders.rate(x, 4).shape == encoders.latency(x, 4).shape == (4, *shape)
    assert encoders.delta(x, 0.5).shape == shape
    assert encoders.population(x, 3).shape == encoders.angle(x, 3).shape == (*shape, 3)


# -- other libraries, where they are installed (`make peers`)


def test_the_encoders_of_snntorch():
    """Compared with version 1.0.0, which by default fires below the threshold too, and takes a signal before step 0 for 0."""
    theirs = pytest.importorskip("snntorch.spikegen", reason="compares with snnTorch: make peers")
    x = numbers(40, 3)
    ours = encoders.latency(x, 9, threshold=0.1)
    assert torch.equal(ours, theirs.latency(x, num_steps=9, threshold=0.1, normalize=True, linear=True, clip=True))
    ours = encoders.latency(x, 9, form="log", threshold=0.1, tau=5.0)
    assert torch.equal(ours, theirs.latency(x, num_steps=9, threshold=0.1, tau=5.0, clip=True, bypass=True))
    for off in (False, True):
        assert torch.equal(encoders.delta(x, 0.3, off_spikes=off), theirs.delta(x, 0.3, padding=True, off_spike=off))
    torch.manual_seed(0)
    ours = encoders.rate(x, 9)
    torch.manual_seed(0)
    assert torch.equal(ours, theirs.rate(x, num_steps=9))


def test_the_encoders_of_spikingjelly():
    """Compared with version 2.0.0, whose logarithmic latency is another function, and which has no delta encoder."""
    theirs = pytest.importorskip(
        "spikingjelly.activation_based.encoding", reason="compares with SpikingJelly: make peers"
    )
    x = numbers(40, 3)
    encoder = theirs.LatencyEncoder(9)
    expected = torch.stack([encoder(x) for _ in range(9)])
    assert torch.equal(encoders.latency(x, 9, threshold=0), expected)
    fields = theirs.PopEncoder(obs_dim=3, pop_dim=5, spike_ts=4, mean_range=(0.0, 1.0), std=0.2)
    ours = encoders.currents(encoders.population(x, 5, sigma=0.2), 4).flatten(2)
    assert torch.allclose(ours, fields(x), rtol=1e-5)


def test_the_encoders_of_spyx():
    """Compared with version 1.0.0 on JAX, which clips numbers out of range and draws rates with a key of its own."""
    theirs = pytest.importorskip("spyx.data", reason="compares with Spyx: make peers")
    x = numbers(40, 3)
    ours = encoders.latency(x, 9, threshold=0.1)
    assert ours.tolist() == theirs.latency_code(9, threshold=0.1)(x.numpy()).tolist()
    ours = encoders.angle(x, 6)
    assert ours.tolist() == theirs.angle_code(6, 0.0, 1.0)(x.numpy()).tolist()
