"""PSN, MaskedPSN, SlidingPSN against SpikingJelly's own with the same weights, and against a plain loop over rows."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tfexplore
from tests import oracle
from tfexplore import surrogates
from tfexplore.scan import PSN, MaskedPSN, Relaxation, SlidingPSN, WorkDepth
from tfexplore.scan.relaxations import Spike, decays

T, B, N, K = 9, 3, 5, 4
KINDS = {"psn": lambda: PSN(T), "masked": lambda: MaskedPSN(T, K), "sliding": lambda: SlidingPSN(K)}


@pytest.fixture(scope="module")
def theirs() -> Any:
    reason = "compares with SpikingJelly: pip install --no-deps spikingjelly"
    return pytest.importorskip("spikingjelly.activation_based.neuron", reason=reason)


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def made(kind: str, dtype: torch.dtype = torch.float64, seed: int = 1) -> Relaxation:
    """Such a layer with random weights, that fires at about a third of the steps."""
    layer = KINDS[kind]().to(dtype)
    with torch.no_grad():
        layer.weight.copy_(noise(*layer.weight.shape, seed=seed) / 2)
        layer.bias.copy_(noise(*layer.bias.shape, seed=seed + 1) / 4 - 0.4)
    return layer


def by_rows(layer: Relaxation, x: Tensor) -> Tensor:
    """s[t] from one weighted sum after the other, in the published equations; x [T, ...]."""
    spikes = []
    for t in range(len(x)):
        if isinstance(layer, SlidingPSN):
            weights = {t - ago: layer.weight[layer.k - 1 - ago] for ago in range(layer.k) if ago <= t}
        elif isinstance(layer, MaskedPSN):
            share = layer.lambda_
            inside = range(t - layer.k + 1, t + 1)
            weights = {j: layer.weight[t, j] * (1 if j in inside else 1 - share) for j in range(len(x))}
        else:
            weights = {j: layer.weight[t, j] for j in range(len(x))}
        h = sum(weight * x[j] for j, weight in weights.items())
        bias = layer.bias if layer.bias.ndim == 0 else layer.bias[t]
        spikes.append(oracle.Spike.apply(h + bias, oracle.atan(2.0)))
    return torch.stack(spikes)


def gradients(layer: nn.Module, out: Tensor, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(out, [x, *layer.parameters()], noise(*out.shape, seed=7).to(out.dtype)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_over_rows(kind: str) -> None:
    layer, x = made(kind), noise(T, B, N).requires_grad_()
    if isinstance(layer, MaskedPSN):
        layer.lambda_ = 0.75
    ours, plain = layer(x), by_rows(layer, x)
    assert torch.equal(ours, plain)
    assert 0.1 < ours.mean() < 0.9
    for a, b in zip(gradients(layer, ours, x), gradients(layer, plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "share"), [("psn", 0.0), ("masked", 0.0), ("masked", 0.5), ("masked", 1.0), ("sliding", 0.0)]
)
def test_spikingjelly(theirs: Any, kind: str, share: float) -> None:
    layer = made(kind)
    peer = {
        "psn": lambda: theirs.PSN(T),
        "masked": lambda: theirs.MaskedPSN(K, T, lambda_init=share, step_mode="m"),
        "sliding": lambda: theirs.SlidingPSN(K, step_mode="m"),
    }[kind]().double()
    if isinstance(layer, MaskedPSN):
        layer.lambda_ = share
    peer.load_state_dict(layer.state_dict(), strict=kind != "masked")  # theirs has the masks in it
    x = noise(T, B, N).requires_grad_()
    ours, other = layer(x), peer(x)
    assert torch.equal(ours, other)
    for a, b in zip(gradients(layer, ours, x), gradients(peer, other, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_spikingjellys_weights_are_taken_over(theirs: Any) -> None:
    for layer, peer in (
        (PSN(T), theirs.PSN(T)),
        (MaskedPSN(T, K), theirs.MaskedPSN(K, T, lambda_init=0.25, step_mode="m")),
        (SlidingPSN(K), theirs.SlidingPSN(K, step_mode="m")),
    ):
        missing, _ = layer.load_state_dict(peer.state_dict(), strict=False)
        assert missing == []
        x = noise(T, B, N, dtype=torch.float32) * 2
        away = (layer(x, trace="h")[1] + layer.bias.unsqueeze(-1)).abs() > 1e-5
        assert torch.equal(layer(x)[away], peer(x)[away])
    assert layer.weight.tolist() == [0.125, 0.25, 0.5, 1.0]  # the same start


def test_a_lif_without_reset_is_a_psn() -> None:
    x = torch.randint(0, 8, (T, B, N), generator=torch.Generator().manual_seed(0)) / 8  # sums of T of these are exact
    expected, *_ = oracle.lif(x, torch.zeros(B, N), 2.0, reset="none")
    layer = PSN(T)
    layer.weight.data = decays(T, 0.5, x)
    assert torch.equal(layer(x), expected)
    sliding = SlidingPSN(T)
    assert torch.equal(sliding(x), expected)
    assert 0.1 < expected.mean() < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_causal(kind: str) -> None:
    layer, x = made(kind), noise(T, B, N)
    before = layer(x, trace="h")[1]
    for t in range(T - 1):
        later = x.clone()
        later[t + 1 :] += 1
        same = torch.equal(layer(later, trace="h")[1][: t + 1], before[: t + 1])
        assert same == (kind != "psn")
    if isinstance(layer, MaskedPSN):  # as long as there is less than the whole mask, the future counts
        layer.lambda_ = 0.99
        a, b = (layer(each, trace="h")[1] for each in (x, later))
        assert not torch.equal(a[: T - 1], b[: T - 1])


def test_the_mask() -> None:
    layer = MaskedPSN(5, k=2, lambda_=0.5)
    layer.weight.data.fill_(2.0)
    expected = [[2.0 if t - 2 < j <= t else 1.0 for j in range(5)] for t in range(5)]
    assert layer.effective().tolist() == expected
    loaded = MaskedPSN(5, k=2)
    loaded.load_state_dict(layer.state_dict())
    assert loaded.lambda_ == 0.5


@pytest.mark.parametrize("kind", ["psn", "masked"])
def test_another_number_of_steps_is_refused(kind: str) -> None:
    layer = KINDS[kind]()
    for steps in (0, T - 1, T + 1):
        with pytest.raises(ValueError, match=rf"x must have T = {T} time steps, .* but got T = {steps}; make a "):
            layer(torch.zeros(steps, B, N))


@pytest.mark.parametrize("kind", ["psn", "masked"])
def test_there_is_no_state(kind: str) -> None:
    layer, x = KINDS[kind](), torch.zeros(T, B, N)
    why = "has no state to go on from: its output needs all its steps at once"
    with pytest.raises(ValueError, match=why):
        layer(x, return_state=True)
    with pytest.raises(ValueError, match=why), tfexplore.carry(layer):
        layer(x)
    with pytest.raises(ValueError, match=why):
        tfexplore.step_by_step(nn.Sequential(layer), x)


def test_the_sliding_psn_goes_on_from_its_state() -> None:
    layer, x = made("sliding"), noise(T, B, N).requires_grad_()
    whole = layer(x)
    for cut in range(T + 1):  # also chunks shorter than the state
        with tfexplore.carry(layer) as states:
            parts = torch.cat([layer(x[:cut]), layer(x[cut:])])
        assert torch.equal(parts, whole)
        for a, b in zip(gradients(layer, parts, x), gradients(layer, layer(x), x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert torch.equal(torch.stack(states["", 0]), x[T - K + 1 :])
    assert torch.equal(tfexplore.step_by_step(layer, x), whole)
    with pytest.raises(ValueError, match="state 'x_3' must have x's shape without time"):
        layer(x, (x[0, :1],) * 3)


@pytest.mark.parametrize("steps", [63, 64, 65, 128, 200])
@pytest.mark.parametrize("k", [1, 5, 70])
def test_many_steps_of_the_sliding_psn(steps: int, k: int) -> None:
    layer, x = SlidingPSN(k).double(), noise(steps, 2).requires_grad_()
    layer.weight.data = noise(k) / k**0.5
    _, h = layer(x, trace="h")
    kernel = layer.weight.view(1, 1, k)  # torch's convolution is a correlation, as this is
    expected = torch.nn.functional.conv1d(torch.nn.functional.pad(x.T.unsqueeze(1), (k - 1, 0)), kernel).squeeze(1).T
    torch.testing.assert_close(h, expected, rtol=1e-12, atol=1e-12)
    g, inputs = noise(steps, 2, seed=3), [x, layer.weight]
    for a, b in zip(*(torch.autograd.grad(each, inputs, g) for each in (h, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_one_weight_has_no_state() -> None:
    layer, x = SlidingPSN(1), noise(T, B, N)
    out, state = layer(x, return_state=True)
    assert state == ()
    assert torch.equal(out, (x >= 1).double())


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_different_length(kind: str) -> None:
    layer, lengths = made(kind), torch.tensor([T, 4, 0])
    x = noise(T, B, N)
    filled = torch.where((torch.arange(T).unsqueeze(1) < lengths).unsqueeze(2), x, torch.nan).requires_grad_()
    with tfexplore.padded(layer, lengths):
        out = layer(filled)
    for b, steps in enumerate(lengths.tolist()):
        alone = x[:, b : b + 1].clone()
        alone[steps:] = 0
        assert torch.equal(out[:steps, b : b + 1], layer(alone)[:steps])
        assert not out[steps:, b].any()
    (g,) = torch.autograd.grad(out.sum(), filled)
    assert g.isfinite().all()
    assert not g[4:, 1].any()
    if isinstance(layer, SlidingPSN):
        _, state = layer(filled.detach(), lengths=lengths, return_state=True)
        assert torch.equal(torch.stack(state)[:, 1], x[1:4, 1])
        assert torch.equal(torch.stack(state)[:, 0], x[T - K + 1 :, 0])
        assert not torch.stack(state)[:, 2].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_strides(kind: str, dtype: torch.dtype) -> None:
    layer = made(kind, torch.float32)
    narrow = noise(T, B, N, 2).to(dtype)
    x = narrow.permute(1, 3, 0, 2).contiguous().permute(2, 0, 3, 1)  # the same values, in another order in memory
    assert not x.is_contiguous()
    out, h = layer(x.requires_grad_(), trace="h")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert (out.dtype, h.dtype) == (dtype, wide)
    exact = copy.deepcopy(layer).double()
    expected, potential = exact(narrow.double(), trace="h")
    away = (potential + exact.bias.view(-1, *(1,) * (3 if exact.bias.ndim else 0))).abs() > 1e-5
    assert torch.equal(out.double()[away], expected[away])
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_changes_nothing(kind: str) -> None:
    layer, x = made(kind, torch.float32), noise(T, B, N, dtype=torch.float32)
    expected = layer(x, trace="h")
    with torch.autocast("cpu", torch.bfloat16):
        for a, b in zip(layer(x, trace="h"), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(T, 0, N), (T, B, 0), (T, B)])
def test_small_shapes(kind: str, shape: tuple[int, ...]) -> None:
    layer, x = made(kind), noise(*shape).requires_grad_()
    out = layer(x)
    assert out.shape == shape
    out.sum().backward()
    assert x.grad is not None
    if not x.numel():
        assert layer.weight.grad is not None
        assert not layer.weight.grad.any()


def test_no_step_for_the_sliding_psn() -> None:
    out, state = SlidingPSN(3)(torch.zeros(0, B, N), return_state=True)
    assert out.shape == (0, B, N)
    assert [z.shape for z in state] == [(B, N)] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_surrogate_is_the_one_named(kind: str) -> None:
    layer, x = made(kind), noise(T, B, N).requires_grad_()
    layer.spike = Spike(surrogates.Rectangle(width=0.5))
    out, h = layer(x, trace="h")
    u = h.detach() + (layer.bias if layer.bias.ndim == 0 else layer.bias.unsqueeze(-1))
    (g,) = torch.autograd.grad(out, layer.bias, torch.ones_like(out))
    slope = torch.where(u.abs() < 0.25, 2.0, 0.0).double()
    torch.testing.assert_close(g.flatten(), slope.sum().view(1) if layer.bias.ndim == 0 else slope.sum((1, 2)))


def test_work_is_what_torch_counts() -> None:
    for layer in (PSN(T), MaskedPSN(T, K)):
        with FlopCounterMode(display=False) as counter:
            layer(torch.zeros(T, B, N))
        assert layer.work(T, B * N) == WorkDepth(counter.get_total_flops() // 2, 1 + math.ceil(math.log2(T)))
    with pytest.raises(ValueError, match=f"steps must be {T}, those of the layer's matrix, but got {T + 1}"):
        PSN(T).work(T + 1, B * N)
    assert SlidingPSN(K).work(100, 10) == WorkDepth(K * 1000, 3)
    assert SlidingPSN(1).work(100, 10) == WorkDepth(1000, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_and_a_repr(kind: str) -> None:
    layer, x = made(kind), noise(T, B, N)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))
    again = eval(repr(layer), {"ATan": surrogates.ATan, **{c.__name__: c for c in (PSN, MaskedPSN, SlidingPSN)}})
    assert again.double().load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    """To fire where the sum of the last two currents is above 1, which each of them can."""
    torch.manual_seed(0)
    x = torch.rand(T, 64, 4)
    wanted = (x + torch.cat([torch.zeros(1, 64, 4), x[:-1]]) >= 1).float()
    layer = KINDS[kind]()
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = (layer(x) - wanted).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: PSN(0), ValueError, "steps must be a whole number from 1 on, but got 0"),
        (lambda: PSN(True), ValueError, "steps must be a whole number"),
        (lambda: MaskedPSN(4, 5), ValueError, "k must be a whole number from 1 to 4, but got 5"),
        (lambda: MaskedPSN(4, 2, 1.5), ValueError, "lambda_ must be a finite number from 0 to 1, but got 1.5"),
        (lambda: SlidingPSN(2.0), ValueError, "k must be a whole number from 1 on, but got 2.0"),  # type: ignore[arg-type]
        (lambda: PSN(4, surrogate="atan"), TypeError, "surrogate must be like surrogates.ATan"),  # type: ignore[arg-type]
        (lambda: PSN(4)(torch.zeros(4, 2, dtype=torch.int64)), TypeError, "x must be one of float32"),
        (lambda: PSN(4)(torch.zeros(4)), ValueError, r"x must be \[T, B, \*features\]"),
        (lambda: PSN(4)(torch.zeros(4, 2), trace="v"), ValueError, "a trace must be one of 'h', but got 'v'"),
        (lambda: PSN(4)(torch.zeros(4, 2, device="meta")), ValueError, "x is on meta, but the layer's weight is on cpu"),
    ],
)  # fmt: skip
def test_bad_input(build: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        build()
