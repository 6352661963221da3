"""DelayedReset against a plain loop over time, and, at a delay of one step, against the LIF layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tfexplore
from tests import oracle
from tfexplore import LIF, surrogates
from tfexplore.scan import DelayedReset, WorkDepth

T, B, N = 23, 3, 4
DELAYS = [1, 2, 3, 8, 23, 40]


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) / 2 + 0.4


def loop(
    x: Tensor, delay: int, tau: float = 2.0, threshold: float = 1.0, detach: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """h[t] = d (h[t-1] - threshold s[t-D]) + x[t], one step after the other: spikes, h, v."""
    decay, h, v = 1 - 1 / tau, [], [torch.zeros_like(x[0])]
    spikes = [torch.zeros_like(x[0])] * delay
    for x_t in x:
        h.append(decay * v[-1] + x_t)
        spikes.append(oracle.Spike.apply(h[-1] - threshold, oracle.atan(2.0)))
        late = spikes[-delay]
        v.append(h[-1] - threshold * (late.detach() if detach else late))
    return torch.stack(spikes[delay:]), torch.stack(h), torch.stack(v[1:])


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("detach", [True, False])
def test_a_loop_over_time(delay: int, detach: bool) -> None:
    x = noise(T, B, N).requires_grad_()
    layer = DelayedReset(delay, tau=3.0, v_threshold=0.75, detach_reset=detach)
    ours, expected = layer(x, trace=("h", "v")), loop(x, delay, 3.0, 0.75, detach)
    assert torch.equal(ours[0], expected[0])
    assert 0.1 < ours[0].mean() < 0.9
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
    g = [noise(T, B, N, seed=k) for k in (1, 2, 3)]
    (a,), (b,) = (torch.autograd.grad(list(each), x, g) for each in (ours, expected))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("delay", DELAYS)
def test_dyadic_currents_bit_for_bit(delay: int) -> None:
    """Sums of these are exact in float32 in any order, at tau = 2 over so few steps."""
    x = torch.randint(0, 12, (16, B, N), generator=torch.Generator().manual_seed(3)) / 8
    ours, expected = DelayedReset(delay)(x, trace=("h", "v")), loop(x, delay)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_delay_of_one_step_is_lif_bit_for_bit_where_sums_are_exact(backend: str) -> None:
    x = (torch.randint(0, 12, (16, B, N), generator=torch.Generator().manual_seed(3)) / 8).requires_grad_()
    lif, ours = LIF(backend=backend), DelayedReset(1)
    (s, (v,)), (other, (w,)) = lif(x, return_state=True), ours(x, return_state=True)
    assert torch.equal(s, other)
    assert torch.equal(v, w)
    g = torch.rand(16, B, N, generator=torch.Generator().manual_seed(4))
    (a,), (b,) = (torch.autograd.grad(each, x, g) for each in (s, other))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tau", [1.0, 3.0, 20.0])
def test_a_delay_of_one_step_is_lif_but_for_rounding(tau: float) -> None:
    x = noise(500, B, N)
    s, _, h, _ = oracle.lif(x, torch.zeros(B, N, dtype=x.dtype), tau)
    ours, other = DelayedReset(1, tau)(x, trace="h")
    assert (h - 1).abs().min() > 1e-9  # so far from the threshold no rounding matters
    assert torch.equal(s, ours)
    torch.testing.assert_close(h, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("delay", [1, 3, 40])
def test_it_goes_on_from_its_state(delay: int) -> None:
    x = noise(T, B, N).requires_grad_()
    layer = DelayedReset(delay)
    whole, (v, *spikes) = layer(x, return_state=True)
    for cut in (0, 1, 2, 7, T):
        with tfexplore.carry(layer) as states:
            parts = torch.cat([layer(x[:cut]), layer(x[cut:])])
        assert torch.equal(parts, whole)
        torch.testing.assert_close(states["", 0][0], v, rtol=1e-13, atol=1e-13)
        assert all(torch.equal(a, b) for a, b in zip(states["", 0][1:], spikes, strict=True))
        g = noise(T, B, N, seed=5)
        (a,), (b,) = (torch.autograd.grad(each, x, g) for each in (parts, layer(x)))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert torch.equal(tfexplore.step_by_step(nn.Sequential(layer), x), whole)


@pytest.mark.parametrize("delay", [1, 3, 40])
def test_samples_of_different_length(delay: int) -> None:
    layer, lengths = DelayedReset(delay), torch.tensor([T, 5, 0])
    x = noise(T, B, N)
    filled = torch.where((torch.arange(T).unsqueeze(1) < lengths).unsqueeze(2), x, torch.nan).requires_grad_()
    out, state, v = layer(filled, return_state=True, trace="v", lengths=lengths)
    for b, steps in enumerate(lengths.tolist()):
        alone, after = layer(x[:steps, b : b + 1], return_state=True)
        assert torch.equal(out[:steps, b : b + 1], alone)
        assert not out[steps:, b].any()
        assert not v[steps:, b].any()
        torch.testing.assert_close(torch.stack(state)[:, b], torch.stack(after)[:, 0], rtol=1e-13, atol=1e-13)
    (g,) = torch.autograd.grad(out.sum() + state[0].sum(), filled)
    assert g.isfinite().all()
    assert not g[5:, 1].any()


def test_causal() -> None:
    x = noise(T, B, N)
    later = x.clone()
    later[10:] += 1
    a, b = (DelayedReset(4)(each) for each in (x, later))
    assert torch.equal(a[:10], b[:10])
    assert not torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_strides_and_autocast(dtype: torch.dtype) -> None:
    narrow = (torch.randint(0, 12, (16, B, N), generator=torch.Generator().manual_seed(3)) / 8).to(dtype)
    x = narrow.transpose(0, 2).contiguous().transpose(0, 2)
    with torch.autocast("cpu", torch.bfloat16):
        out, state = DelayedReset(4)(x, return_state=True)
    assert out.dtype == dtype
    assert {z.dtype for z in state} == {torch.float64 if dtype == torch.float64 else torch.float32}
    assert torch.equal(out.double(), loop(narrow.double(), 4)[0])


@pytest.mark.parametrize("shape", [(0, B, N), (T, 0, N), (T, B, 0), (T, B)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    x = noise(*shape).requires_grad_()
    out, state = DelayedReset(3)(x, return_state=True)
    assert out.shape == shape
    assert [z.shape for z in state] == [shape[1:]] * 3
    (out.sum() + state[0].sum()).backward()
    assert x.grad is not None


def test_another_surrogate() -> None:
    x = noise(T, B, N).requires_grad_()
    layer = DelayedReset(T, surrogate=surrogates.Rectangle(width=0.5))  # no reset within T: u depends on x alone
    out, h = layer(x, trace="h")
    (g,) = torch.autograd.grad(out[-1].sum(), x)
    torch.testing.assert_close(g[-1], torch.where((h[-1] - 1).abs() < 0.25, 2.0, 0.0).double())


def test_work_is_what_torch_counts() -> None:
    layer = DelayedReset(4)
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(24, B, N))
    assert counter.get_total_flops() // 2 == 4 * 24 * B * N
    assert layer.work(24, B * N) == WorkDepth((4 + 2) * 24 * B * N, 6 * (1 + math.ceil(math.log2(4)) + 3))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: DelayedReset(0), "delay must be a whole number from 1 on, but got 0"),
        (lambda: DelayedReset(2, tau=0.5), "tau"),
        (lambda: DelayedReset(2)(torch.zeros(3, 2), (torch.zeros(3), torch.zeros(2))), "state 'v' must have x's shape"),
    ],
)
def test_bad_input(build: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build()
