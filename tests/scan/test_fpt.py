"""FPT against a loop over rounds and steps (no matrix), and its error against one LIF step after the other."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tfexplore
from tests import oracle
from tfexplore.scan import FPT, WorkDepth, fpt_error

T, B, N = 11, 3, 4


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) / 2 + 0.5


def soft(u: Tensor, alpha: float) -> Tensor:
    """sigmoid(alpha u), with the slope of sigmoid(max(1, alpha / 3) u)."""
    flat = torch.sigmoid(max(1.0, alpha / 3) * u)
    return torch.sigmoid(alpha * u).detach() + (flat - flat.detach())


def loop(x: Tensor, tau: float, threshold: float, alphas: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """The last round's potential and probability: each round walks through time, with the spikes of the round before."""
    decay, p = 1 - 1 / tau, torch.zeros_like(x)
    for alpha in alphas:
        hs, v = list[Tensor](), torch.zeros_like(x[0])
        for x_t, p_t in zip(x, p, strict=True):
            hs.append(decay * v + x_t)
            v = hs[-1] - threshold * p_t
        h = torch.stack(hs)
        p = soft(h - threshold, alpha)
    return h, p


@pytest.mark.parametrize("alphas", [(2.0, 6.0, 12.0), (1.0, 3.0, 12.0), (4.0,), (4.0,) * 5])
@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 1.0), (3.0, 0.75), (1.0, 1.0)])
def test_a_loop_over_rounds_and_steps(alphas: tuple[float, ...], tau: float, threshold: float) -> None:
    x = noise(T, B, N).requires_grad_()
    layer = FPT(tau, v_threshold=threshold, alphas=alphas)
    _, *ours = layer(x, trace=("h", "p"))
    expected = loop(x, tau, threshold, alphas)
    g = [noise(T, B, N, seed=k) for k in (1, 2)]
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
    (a,), (b,) = (torch.autograd.grad(list(each), x, g) for each in (ours, expected))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_spikes_are_drawn_with_that_probability() -> None:
    x = noise(T, 1, 1).expand(T, 20_000, 1)
    layer = FPT(generator=torch.Generator().manual_seed(0))
    out, p = layer(x, trace="p")
    assert set(out.unique().tolist()) == {0.0, 1.0}
    wanted = p[:, 0, 0]
    deviations = (out.mean((1, 2)) - wanted) / (wanted * (1 - wanted) / 20_000).sqrt()
    assert deviations.abs().max() < 4


def test_the_gradient_passes_through_the_drawing_as_if_it_were_p() -> None:
    x, g = noise(T, B, N).requires_grad_(), noise(T, B, N, seed=1)
    (a,), (b,) = (torch.autograd.grad(each, x, g) for each in (FPT()(x), FPT().probabilities(x)))
    assert torch.equal(a, b)


def test_two_calls_are_two_results() -> None:
    x = noise(T, B, N)
    layer = FPT(generator=torch.Generator().manual_seed(1))
    again = copy.deepcopy(layer)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    assert torch.equal(again(x), first)
    torch.manual_seed(3)
    free = FPT()(x)
    torch.manual_seed(3)
    assert torch.equal(FPT()(x), free)


def test_steep_and_with_t_rounds_it_is_lif() -> None:
    """Then a round is the comparison, and the fixed point is there after T of them: what the abstract speaks of."""
    x = (
        torch.randint(0, 6, (T, B, N), generator=torch.Generator().manual_seed(2)) / 4 + 1 / 16384
    )  # never at the threshold
    x = x.double()
    expected, *_ = oracle.lif(x, torch.zeros(B, N, dtype=x.dtype), 2.0)
    steep = FPT(alphas=(1e9,) * T)
    assert torch.equal(steep(x), expected)
    assert 0.1 < expected.mean() < 0.9
    assert not torch.equal(FPT(alphas=(1e9,) * 3)(x), expected)  # after three rounds it is not
    found = fpt_error(steep, x)
    assert (found.drawn, found.spread, found.rounded) == (0, 0, 0)
    assert found.fpt_rate == found.lif_rate == pytest.approx(expected.mean().item())


def test_its_error_counted_one_spike_after_the_other() -> None:
    x, layer = noise(40, 6, 5), FPT(3.0, v_threshold=0.75)
    lif, *_ = oracle.lif(x, torch.zeros(6, 5, dtype=x.dtype), 3.0, v_threshold=0.75)
    h, p = loop(x, 3.0, 0.75, layer.alphas)
    found = fpt_error(layer, x, seeds=[4, 9])
    shares, rates = [], []
    for seed in (4, 9):
        s = torch.bernoulli(p, generator=torch.Generator().manual_seed(seed))
        shares.append(
            sum(a != b for a, b in zip(s.flatten().tolist(), lif.flatten().tolist(), strict=True)) / s.numel()
        )
        rates.append(s.mean().item())
    assert found.drawn == pytest.approx(sum(shares) / 2)
    assert found.spread == pytest.approx(abs(shares[0] - shares[1]) / math.sqrt(2))
    assert found.rounded == pytest.approx(((h >= 0.75).double() != lif).double().mean().item())
    assert (found.lif_rate, found.fpt_rate) == pytest.approx((lif.mean().item(), sum(rates) / 2))
    assert found.drawn > 0.1  # approximate: not a matter of rounding


def test_its_error_counts_no_step_behind_a_samples_end() -> None:
    x, layer, lengths = noise(T, B, N), FPT(), torch.tensor([T, 4, 0])
    found = fpt_error(layer, x, seeds=[0], lengths=lengths)
    first, second = fpt_error(layer, x[:, :1]), fpt_error(layer, x[:4, 1:2])
    for key in ("lif_rate", "rounded"):
        expected = (T * getattr(first, key) + 4 * getattr(second, key)) / (T + 4)
        assert getattr(found, key) == pytest.approx(expected)
    lif, *_ = oracle.lif(x, torch.zeros(B, N, dtype=x.dtype), 2.0)
    drawn = torch.bernoulli(layer(x, trace="p", lengths=lengths)[1], generator=torch.Generator().manual_seed(0))
    differ = (drawn != lif).double()
    assert found.drawn == pytest.approx((differ[:, 0].mean().item() * T + differ[:4, 1].mean().item() * 4) / (T + 4))


def test_it_is_no_lif_however_many_rounds() -> None:
    """The sigmoid and the drawing remain: at a given steepness more rounds do not help beyond some share of wrong spikes."""
    x = noise(64, 8, 16, seed=5)
    assert min(fpt_error(FPT(alphas=(12.0,) * rounds), x).drawn for rounds in (1, 3, 8, 64)) > 0.02


def test_causal() -> None:
    x = noise(T, B, N)
    later = x.clone()
    later[6:] += 1
    a, b = (FPT().probabilities(each) for each in (x, later))
    assert torch.equal(a[:6], b[:6])
    assert not torch.equal(a[6:], b[6:])


def test_there_is_no_state() -> None:
    x = noise(T, B, N)
    for call in (lambda: FPT()(x, return_state=True), lambda: tfexplore.step_by_step(nn.Sequential(FPT()), x)):
        with pytest.raises(ValueError, match="FPT has no state to go on from: its rounds run over all steps"):
            call()


def test_samples_of_different_length() -> None:
    lengths, x = torch.tensor([T, 4, 0]), noise(T, B, N)
    filled = torch.where((torch.arange(T).unsqueeze(1) < lengths).unsqueeze(2), x, torch.nan).requires_grad_()
    out, p = FPT()(filled, trace="p", lengths=lengths)
    for b, steps in enumerate(lengths.tolist()):
        torch.testing.assert_close(p[:steps, b : b + 1], FPT().probabilities(x[:steps, b : b + 1]))
        assert not out[steps:, b].any()
    (g,) = torch.autograd.grad(out.sum(), filled)
    assert g.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_strides_and_autocast(dtype: torch.dtype) -> None:
    narrow = noise(T, B, N).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        out, p = FPT()(narrow.transpose(0, 2).contiguous().transpose(0, 2), trace="p")
    assert (out.dtype, p.dtype) == (dtype, torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(p.double(), loop(narrow.double(), 2.0, 1.0, FPT().alphas)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, B, N), (T, 0, N), (T, B, 0), (T, B)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    x = noise(*shape).requires_grad_()
    out = FPT()(x)
    assert out.shape == shape
    out.sum().backward()
    assert x.grad is not None


def test_work_is_what_torch_counts() -> None:
    with FlopCounterMode(display=False) as counter:
        FPT()(torch.zeros(T, B, N))
    assert FPT().work(T, B * N) == WorkDepth(counter.get_total_flops() // 2, 3 * (2 + math.ceil(math.log2(T))))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: FPT(0.5), "tau"),
        (lambda: FPT(alphas=()), "alphas must have one number for each round"),
        (lambda: FPT(alphas=(1.0, 0.0)), "each of alphas must be a finite number above 0, but got 0.0"),
        (lambda: FPT(alphas=3.0), "alphas must have one number for each round, .*, but got 3.0"),  # type: ignore[arg-type]
        (lambda: FPT(generator=0), "generator must be a torch.Generator or None, but got int"),  # type: ignore[arg-type]
        (lambda: fpt_error(FPT(), torch.zeros(2, 2), seeds=()), "seeds must have one number or more"),
        (
            lambda: fpt_error(FPT(), torch.zeros(0, 2)),
            r"x must have at least one neuron and one step, but got shape \(0, 2\)",
        ),
        (lambda: fpt_error(torch.nn.ReLU(), torch.zeros(2, 2)), "layer must be an FPT, but got ReLU"),  # type: ignore[arg-type]
    ],
)
def test_bad_input(build: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        build()
