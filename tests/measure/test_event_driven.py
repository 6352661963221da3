"""Dense and event-driven costs: against loops that count what they do, and torch's own count of operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tfexplore.measure.event_driven import (
    COUNTED,
    DENSE,
    EVENTS_FAR,
    EVENTS_NEAR,
    HOW,
    cost,
    crossing,
    sparsity,
)
from tfexplore.neurons import surrogates
from tfexplore.nn.library import LIF

ROWS, INPUTS, OUTPUTS = 6, 5, 4


def spikes(rate: float = 0.3) -> Tensor:
    return (torch.rand(ROWS, INPUTS, generator=torch.Generator().manual_seed(0)) < rate).float()


def by_events(s: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, int]]:
    """Spike by spike: for each, its column of weights is fetched and added to the sums."""
    count = {"additions": 0, "weights": 0, "sums": 0}
    out = torch.zeros(ROWS, OUTPUTS)
    for row, neuron in s.nonzero().tolist():
        for k in range(OUTPUTS):
            count["weights"] += 1
            count["sums"] += 2  # read and written
            count["additions"] += 1
            out[row, k] += weight[k, neuron]
    return out, count


def test_events_are_counted_as_a_loop_over_them_counts() -> None:
    s, weight = spikes(), torch.randn(OUTPUTS, INPUTS)
    out, count = by_events(s, weight)
    torch.testing.assert_close(out, s @ weight.T)
    rate = float(s.mean())
    near, far = (cost(how, rate, ROWS, INPUTS, OUTPUTS) for how in (EVENTS_NEAR, EVENTS_FAR))
    assert near.additions == far.additions == pytest.approx(count["additions"])
    assert near.multiplications == far.multiplications == near.far == 0
    assert near.near == pytest.approx(count["weights"] + count["sums"])
    assert far.far == pytest.approx(count["weights"])
    assert far.near == pytest.approx(count["sums"])


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_product_does_the_same_whatever_is_zero(rate: float) -> None:
    layer, s = nn.Linear(INPUTS, OUTPUTS, bias=False), spikes(rate)
    with FlopCounterMode(display=False) as counter:
        layer(s)
    made = cost(DENSE, rate, ROWS, INPUTS, OUTPUTS)
    assert made.operations == counter.get_total_flops()
    assert made.far == s.numel() + layer.weight.numel() + ROWS * OUTPUTS


@pytest.mark.parametrize("counted", COUNTED)
@pytest.mark.parametrize("how", [EVENTS_FAR, EVENTS_NEAR])
def test_at_the_crossing_both_cost_the_same(counted: str, how: str) -> None:
    size = (512, 128, 64)
    rate = crossing(counted, how, *size)
    if rate <= 1:
        assert COUNTED[counted](cost(how, rate, *size)) == pytest.approx(COUNTED[counted](cost(DENSE, rate, *size)))
    else:
        assert COUNTED[counted](cost(how, 1.0, *size)) < COUNTED[counted](cost(DENSE, 1.0, *size))


def test_energy_is_the_sum_of_published_numbers() -> None:
    made = cost(EVENTS_FAR, 0.5, 2, 4, 8)  # 32 additions, 32 words of DRAM, 64 of SRAM
    assert made.energy == pytest.approx(32 * 0.9 + 32 * 1300 / 2 + 64 * 10 / 2)


@pytest.mark.parametrize(("width", "dense"), [(1e-9, False), (1e9, True)])
def test_a_surrogate_without_tails_makes_gradients_sparse(width: float, dense: bool) -> None:
    torch.manual_seed(0)
    lif = LIF(surrogate=surrogates.Rectangle(width=width), detach_reset=True)
    net = nn.Sequential(nn.Linear(8, 16), lif, nn.Linear(16, 2))
    x = torch.rand(5, 3, 8)
    (name, found), *others = sparsity(net, lambda: net(x).square().sum()).items()
    assert (name, others) == ("1", [])
    with torch.no_grad():
        assert found.spikes == pytest.approx(float(net[1](net[0](x)).mean()))
    assert found.gradient == (1.0 if dense else 0.0)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=f"^how must be one of {', '.join(map(repr, HOW))}, but got 'sparse'.$"):
        cost("sparse", 0.1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"^rate, .* must be a finite number from 0 to 1, but got 10\.$"):
        cost(DENSE, 10, 1, 1, 1)
    with pytest.raises(ValueError, match=r"^inputs must be a whole number from 1 on, but got 0\.$"):
        cost(DENSE, 0.1, 1, 0, 1)
    with pytest.raises(ValueError, match=r"^counted must be one of 'operations', .*, but got 'joules'\.$"):
        crossing("joules", EVENTS_FAR, 1, 1, 1)
