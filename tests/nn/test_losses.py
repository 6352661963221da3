"""Readouts, losses and penalties against plain loops and closed forms, sample by sample, and against other libraries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import tfexplore
from tfexplore import losses, penalties
from tfexplore.nn import readout
from tfexplore.nn.readouts import READOUTS

T, B, C = 7, 5, 4
LENGTHS = torch.tensor([7, 1, 4, 6, 2])
TARGET = torch.tensor([3, 0, 1, 1, 2])


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return torch.bernoulli(torch.full(shape, 0.4, dtype=torch.float64), generator=torch.Generator().manual_seed(seed))


def potentials(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cross_entropy(logits: list[float], label: int, smoothing: float = 0.0) -> float:
    """Of one sample, by the definition."""
    parts = [math.exp(z) for z in logits]
    logs = [math.log(part / sum(parts)) for part in parts]
    weights = [smoothing / len(logits) + (1 - smoothing) * (c == label) for c in range(len(logits))]
    return -sum(w * log for w, log in zip(weights, logs, strict=True))


def column(out: Tensor, b: int, c: int, length: int) -> list[float]:
    """One neuron's valid steps."""
    return [out[t, b, c].item() for t in range(length)]


BY_HAND = {"mean": lambda v: sum(v) / len(v), "sum": sum, "last": lambda v: v[-1], "max": max}
SMOOTHED = {  # each takes label_smoothing
    "rate": losses.rate_cross_entropy,
    "count": losses.count_cross_entropy,
    **{over: lambda v, y, over=over, **more: losses.potential_cross_entropy(v, y, over, **more) for over in READOUTS},
    "per step": losses.per_step_cross_entropy,
}
OF_CLASSES = SMOOTHED | {
    "TET": lambda v, y, **more: losses.per_step_cross_entropy(v, y, lam=0.3, phi=0.5, **more),
    "smoothed": lambda v, y, **more: losses.per_step_cross_entropy(v, y, label_smoothing=0.3, **more),
    "rate mse": lambda v, y, **more: losses.rate_mse(v, y, correct=0.8, incorrect=0.1, **more),
    "count mse": lambda v, y, **more: losses.count_mse(v, y, correct=5, incorrect=1, **more),
}
OF_SPIKES = {
    "van Rossum": lambda s, **more: losses.van_rossum_distance(s, torch.zeros_like(s), 3.0, **more),
    "silent samples": lambda s, **more: penalties.silence(s, at_least=8, per="sample", **more),
}


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("over", READOUTS)
def test_a_readout_is_that_of_the_valid_steps(over, lengths):
    out = potentials(T, B, C)
    found = readout(out, over, lengths)
    steps = [T] * B if lengths is None else lengths.tolist()
    expected = [[BY_HAND[over](column(out, b, c, steps[b])) for c in range(C)] for b in range(B)]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(T, B), (T, B, 2, 3)], ids=str)
@pytest.mark.parametrize("over", READOUTS)
def test_a_readout_takes_any_features(shape, over):
    out = potentials(*shape)
    found = readout(out, over, LENGTHS)
    assert found.shape == shape[1:]
    for b, length in enumerate(LENGTHS):
        assert torch.allclose(found[b], readout(out[:length, b : b + 1], over)[0])


@pytest.mark.parametrize("over", READOUTS)
def test_a_readout_of_half_precision_is_float32(over):
    out = torch.ones(700, 2, 3, dtype=torch.bfloat16)  # which cannot count to 257
    found = readout(out, over, torch.tensor([700, 257]))
    assert found.dtype == torch.float32
    assert found[1, 0] == {"sum": 257}.get(over, 1)


def test_the_highest_potential_shares_its_gradient_and_padded_steps_get_none():
    out = torch.tensor([1.0, 2.0, 2.0, 5.0]).view(4, 1, 1).requires_grad_()
    readout(out, "max", torch.tensor([3])).sum().backward()
    assert out.grad.flatten().tolist() == [0, 0.5, 0.5, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("name", SMOOTHED)
def test_cross_entropies_by_their_definition(name, lengths, smoothing):
    out = spikes(T, B, C) if name in ("rate", "count") else potentials(T, B, C)
    found = SMOOTHED[name](out, TARGET, lengths=lengths, label_smoothing=smoothing)
    steps = [T] * B if lengths is None else lengths.tolist()
    each = []
    for b, label in enumerate(TARGET.tolist()):
        columns = [column(out, b, c, steps[b]) for c in range(C)]
        if name == "per step":
            at = [cross_entropy([v[t] for v in columns], label, smoothing) for t in range(steps[b])]
            each.append(sum(at) / len(at))
        else:
            over = BY_HAND[{"rate": "mean", "count": "sum"}.get(name, name)]
            each.append(cross_entropy([over(v) for v in columns], label, smoothing))
    assert found.item() == pytest.approx(sum(each) / B, rel=1e-12)


def test_tet_pulls_every_output_towards_phi():
    out = potentials(T, B, C)
    found = losses.per_step_cross_entropy(out, TARGET, lam=0.05, phi=1.5)
    squares = [(out[t, b, c].item() - 1.5) ** 2 for t in range(T) for b in range(B) for c in range(C)]
    plain = losses.per_step_cross_entropy(out, TARGET).item()
    assert found.item() == pytest.approx(0.95 * plain + 0.05 * sum(squares) / len(squares), rel=1e-12)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
def test_squared_errors_of_rates_and_counts_by_their_definition(lengths):
    out, steps = spikes(T, B, C), [T] * B if lengths is None else lengths.tolist()
    rates, counts = [], []
    for b, label in enumerate(TARGET.tolist()):
        for c in range(C):
            count = sum(column(out, b, c, steps[b]))
            counts.append((count - (3.5 if c == label else 1)) ** 2)
            rates.append((count / steps[b] - (0.75 if c == label else 0.1)) ** 2)
    rate = losses.rate_mse(out, TARGET, correct=0.75, incorrect=0.1, lengths=lengths)
    count = losses.count_mse(out, TARGET, correct=3.5, incorrect=1, lengths=lengths)
    assert rate.item() == pytest.approx(sum(rates) / len(rates), rel=1e-12)
    assert count.item() == pytest.approx(sum(counts) / len(counts), rel=1e-12)


def van_rossum(a: list[int], b: list[int], tau: float) -> float:
    """By the closed form of van Rossum's integral, from spike times."""

    def inner(first: list[int], second: list[int]) -> float:
        return sum(math.exp(-abs(i - j) / tau) for i in first for j in second)

    return (inner(a, a) + inner(b, b) - 2 * inner(a, b)) / 2


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("tau", [1e-3, 0.5, 1.0, 3.7, 1e6])
def test_van_rossum_is_the_closed_form_of_the_integral(tau, lengths):
    steps = [T] * B if lengths is None else lengths.tolist()
    trains = [spikes(T, B, C, seed=seed) for seed in (0, 1)]
    times = [
        [[t for t, s in enumerate(column(train, b, c, steps[b])) if s] for c in range(C) for b in range(B)]
        for train in trains
    ]
    found = losses.van_rossum_distance(*trains, tau, lengths=lengths)
    expected = [van_rossum(a, b, tau) for a, b in zip(*times, strict=True)]
    assert found.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)


@pytest.mark.parametrize("tau", [0.5, 2.0, 10.0])
def test_van_rossum_is_the_integral_of_squared_traces(tau):
    """Numerically, over continuous time: the exponentials of spikes at 1 and 4, and of one at 2."""
    grid = torch.linspace(0, 4 + 40 * tau, 400_001, dtype=torch.float64)

    def trace(*times: int) -> Tensor:
        return sum(torch.where(grid >= t, torch.exp(-(grid - t) / tau), 0.0) for t in times)

    integral = torch.trapezoid((trace(1, 4) - trace(2)).square(), grid).item() / tau
    one, other = torch.zeros(2, 6, 1, 1, dtype=torch.float64)
    one[[1, 4]] = other[2] = 1
    assert losses.van_rossum_distance(one, other, tau).item() == pytest.approx(integral, abs=1e-3)


def test_what_one_spike_costs():
    one, other = torch.zeros(2, 9, 1, 1)
    one[3] = 1
    assert losses.van_rossum_distance(one, other, 4.0).item() == pytest.approx(0.5)
    assert losses.van_rossum_distance(one, one, 4.0).item() == 0
    other[8] = 1
    assert losses.van_rossum_distance(one, other, 4.0).item() == pytest.approx(1 - math.exp(-5 / 4))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 0.3), (0.45, 1.0), (0.4, 0.45), (0.35, 0.35)])
def test_the_firing_rate_penalty_by_its_definition(lower, upper, lengths):
    out, steps = spikes(T, B, 2, 3), [T] * B if lengths is None else lengths.tolist()
    expected = []
    for n in range(6):
        rates = [sum(column(out.flatten(2), b, n, steps[b])) / steps[b] for b in range(B)]
        rate = sum(rates) / B
        expected.append((rate - upper) ** 2 if rate > upper else (lower - rate) ** 2 if rate < lower else 0)
    found = penalties.firing_rate(out, lower=lower, upper=upper, lengths=lengths)
    assert found.item() == pytest.approx(sum(expected) / 6, rel=1e-12)
    assert found > 0


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
def test_the_silence_penalty_by_its_definition(lengths):
    out, steps = spikes(T, B, 2, 3), [T] * B if lengths is None else lengths.tolist()
    counts = [[sum(column(out.flatten(2), b, n, steps[b])) for n in range(6)] for b in range(B)]
    neurons = [max(0, 2.5 - sum(counts[b][n] for b in range(B)) / B) ** 2 for n in range(6)]
    samples = [max(0, 14 - sum(counts[b])) ** 2 for b in range(B)]
    found = penalties.silence(out, at_least=2.5, lengths=lengths)
    assert found.item() == pytest.approx(sum(neurons) / 6, rel=1e-12)
    found = penalties.silence(out, at_least=14, per="sample", lengths=lengths)
    assert found.item() == pytest.approx(sum(samples) / B, rel=1e-12)


@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_SPIKES])
def test_padded_samples_have_the_loss_and_the_gradient_of_each_alone(name):
    out = potentials(T, B, C).requires_grad_()
    padded = torch.where(torch.arange(T).view(T, 1, 1) < LENGTHS.view(1, B, 1), out, math.nan)

    def loss(out: Tensor, target: Tensor, **more: Tensor) -> Tensor:
        return OF_SPIKES[name](out, **more) if name in OF_SPIKES else OF_CLASSES[name](out, target, **more)

    together = loss(padded, TARGET, lengths=LENGTHS)
    alone = [loss(out[:n, b : b + 1], TARGET[b : b + 1]) for b, n in enumerate(LENGTHS.tolist())]
    assert together.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-12)
    (found,) = torch.autograd.grad(together, out)
    (expected,) = torch.autograd.grad(torch.stack(alone).mean(), out)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-15)
    same = loss(padded, TARGET, lengths=LENGTHS.int())
    assert torch.equal(same, together)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_SPIKES, "firing rate", "silent neurons"])
def test_gradients(name, lengths):
    out = potentials(T, B, C).requires_grad_()
    functions = {
        **{key: lambda out, loss=loss: loss(out, TARGET, lengths=lengths) for key, loss in OF_CLASSES.items()},
        **{key: lambda out, loss=loss: loss(out, lengths=lengths) for key, loss in OF_SPIKES.items()},
        "firing rate": lambda out: penalties.firing_rate(out, lower=0.2, upper=0.3, lengths=lengths),
        "silent neurons": lambda out: penalties.silence(out, at_least=3, lengths=lengths),
    }
    assert torch.autograd.gradcheck(functions[name], out)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_SPIKES])
def test_the_loss_of_half_precision_is_float32(name, dtype):
    out = spikes(T, B, C).to(dtype).requires_grad_()
    loss = OF_SPIKES[name](out) if name in OF_SPIKES else OF_CLASSES[name](out, TARGET)
    assert loss.dtype == torch.float32
    loss.backward()
    assert out.grad.dtype == dtype
    double = out.detach().double()
    exact = OF_SPIKES[name](double) if name in OF_SPIKES else OF_CLASSES[name](double, TARGET)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_losses_of_whole_sequences_compile_without_a_graph_break():
    def total(out: Tensor) -> Tensor:
        every = [loss(out, TARGET) for loss in OF_CLASSES.values()]
        return torch.stack([*every, penalties.silence(out), penalties.firing_rate(out, upper=0.2)]).sum()

    out = potentials(T, B, C)
    compiled = torch.compile(total, backend="eager", fullgraph=True)
    assert torch.equal(compiled(out), total(out))


def test_a_silent_layer_learns_to_fire():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), tfexplore.LIF())
    x = torch.rand(20, 16, 4)
    with torch.no_grad():
        net[0].bias.fill_(-1.0)
    assert not net(x).any()
    optimiser = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(100):
        optimiser.zero_grad()
        penalties.silence(net(x)).backward()
        optimiser.step()
    assert (readout(net(x), "sum").mean(0) > 0.9).all()


def test_a_loss_of_padded_sequences_trains_a_network():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 16), tfexplore.LIF(), torch.nn.Linear(16, 3), tfexplore.LI(tau=4.0))
    target = torch.arange(3).repeat(8)
    lengths = torch.randint(4, 12, (24,))
    x = torch.nn.functional.one_hot(target, 3).float().expand(12, 24, 3) + 0.1 * torch.randn(12, 24, 3)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        out = net(x)
        losses.potential_cross_entropy(out, target, "last", lengths=lengths).backward()
        optimiser.step()
    assert (readout(out, "last", lengths).argmax(1) == target).float().mean() > 0.9


# -- other libraries, where they are installed (`make peers`)


def test_the_losses_of_snntorch():
    """Compared with version 1.0.0, which has no lengths and no label smoothing."""
    theirs = pytest.importorskip("snntorch.functional", reason="compares with snnTorch: make peers")
    s, v = spikes(T, B, C).float(), potentials(T, B, C).float()

    def same(ours: Tensor, loss: Tensor) -> bool:
        return ours.item() == pytest.approx(loss.item(), rel=1e-6)

    assert same(losses.count_cross_entropy(s, TARGET), theirs.ce_count_loss()(s, TARGET))
    assert same(losses.per_step_cross_entropy(s, TARGET), theirs.ce_rate_loss()(s, TARGET))  # "rate" is per step there
    assert same(losses.potential_cross_entropy(v, TARGET, "max"), theirs.ce_max_membrane_loss()(v, TARGET))
    counts = theirs.mse_count_loss(correct_rate=5 / T, incorrect_rate=1 / T)(s, TARGET)
    assert same(losses.count_mse(s, TARGET, correct=5, incorrect=1), T * counts)  # divided by T there


def test_the_tet_loss_of_spikingjelly():
    """Compared with version 2.0.0, which has the first term only."""
    theirs = pytest.importorskip(
        "spikingjelly.activation_based.functional", reason="compares with SpikingJelly: make peers"
    )
    v = potentials(T, B, C)
    expected = theirs.temporal_efficient_training_cross_entropy(v, TARGET)
    assert losses.per_step_cross_entropy(v, TARGET).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_losses_of_spyx():
    """Compared with version 1.0.0 on JAX, batch first; its mse_spikerate compares a rate with a count, and is not here."""
    theirs = pytest.importorskip("spyx.fn", reason="compares with Spyx: make peers")
    v, target = potentials(T, B, C).float(), TARGET.numpy()
    batch_first = v.transpose(0, 1).numpy()
    for smoothing in (0.0, 0.3):
        ours = losses.potential_cross_entropy(v, TARGET, "sum", label_smoothing=smoothing)
        assert ours.item() == pytest.approx(
            float(theirs.integral_crossentropy(smoothing)(batch_first, target)), rel=1e-5
        )
    counts = spikes(T, B, C).float().sum(0)
    expected = float(theirs.silence_reg(3.0)(counts.numpy()))  # summed over the neurons there
    assert penalties.silence(counts.unsqueeze(0), at_least=3).item() * C == pytest.approx(expected, rel=1e-5)
