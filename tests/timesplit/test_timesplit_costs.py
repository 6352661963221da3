"""What a plan starts from: seconds and bytes of layers, and the link, against hand counts; the layer that only waits."""

from __future__ import annotations

import importlib
import math
import statistics
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import split_programs as programs
from tfexplore import LIF, FoldTime, ParametricLIF, carry
from tfexplore.timesplit import Crew, costs, link, ranks
from tfexplore.timesplit.standin import Sleep, StandIn

WORD = 4  # bytes of float32
measuring: Any = importlib.import_module("tfexplore.timesplit.costs")  # the package's `costs` is the function


@pytest.fixture(scope="module")
def crew():
    with Crew(2, threads=1, timeout=60) as crew:
        yield crew


# -- seconds of layers ---------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes by sleeping only: `times` as much in the sleeps whose numbers are in `slow`."""

    def __init__(self) -> None:
        self.now, self.slept, self.slow, self.times = 0.0, list[float](), range(0), 1

    def time(self) -> float:
        return self.now

    perf_counter = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds * (self.times if len(self.slept) in self.slow else 1)
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    for module in ("events", "standin", "costs"):
        monkeypatch.setattr(importlib.import_module(f"tfexplore.timesplit.{module}"), "time", clock)
    return clock


class Call(nn.Module):
    """Takes as long for any number of time steps; twice as long in the backward pass."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.gain = seconds, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Sleep.apply(x * self.gain, self.seconds)
        return out


@pytest.mark.parametrize("steps", [2, 3, 16, 50])
@pytest.mark.parametrize(
    "slow", [(), range(24), [*range(12), *range(36, 48)]], ids=["evenly", "the second", "the last"]
)
def test_seconds_per_step_and_per_call(clock, steps, slow) -> None:
    """A forward and backward pass sleeps 6 times, a run is two of them: the first does not count, one more may be slow."""
    clock.slow, clock.times = slow, 64
    net = nn.Sequential(StandIn(2**-10), Call(2**-5), StandIn(2**-8))
    found = costs(net, torch.rand(steps, 4, 3), runs=3)
    assert len(clock.slept) == 4 * 2 * 6 + 3  # and one more forward pass, for the bytes
    assert [cost.layer for cost in found] == ["0", "1", "2"]
    for cost, per_step, per_call in zip(found, (2**-8, 0, 2**-6), (0, 2**-5, 0), strict=True):
        assert cost.forward == pytest.approx(per_step, rel=1e-12, abs=1e-15)
        assert cost.backward == pytest.approx(2 * per_step, rel=1e-12, abs=1e-15)
        assert cost.forward_call == pytest.approx(per_call, rel=1e-12, abs=1e-12)
        assert cost.backward_call == pytest.approx(2 * per_call, rel=1e-12, abs=1e-12)


class Twice(nn.Module):
    """One layer called twice, and one within a `FoldTime`."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.folded = StandIn(2**-10), FoldTime(Call(2**-5))

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(self.folded(self.shared(x)))


def test_a_layer_that_is_called_twice_costs_both(clock) -> None:
    shared, folded = costs(Twice(), torch.rand(8, 2, 3), runs=1)
    assert (shared.layer, shared.forward, shared.backward, shared.state) == ("shared", 2**-8, 2**-7, 2 * 2 * 3 * WORD)
    assert (folded.layer, folded.forward, folded.forward_call, folded.backward_call) == ("folded", 0, 2**-5, 2**-4)


def test_where_nothing_is_trained_there_is_no_backward_pass(clock) -> None:
    for net in (nn.Sequential(StandIn(2**-10), LIF(), StandIn(2**-9)).requires_grad_(False), nn.Sequential(LIF())):
        for cost in costs(net, torch.rand(8, 2, 3), runs=1):
            assert (cost.backward, cost.backward_call, cost.kept, cost.weights) == (0, 0, 0, 0)
            assert cost.state == 2 * 3 * WORD
    with torch.no_grad():  # a plan is for training, wherever it is made
        (cost,) = costs(nn.Sequential(StandIn(2**-10)), torch.rand(8, 2, 3), runs=1)
    assert cost.backward == 2 * cost.forward == 2**-8


def test_mean_costs_of_several_ranks(clock) -> None:
    net = nn.Sequential(StandIn(2**-10), Call(2**-5))
    of_ranks = []
    for clock.times in (1, 3, 8):
        clock.slow = range(10**6)
        of_ranks.append(costs(net, torch.rand(4, 1, 3), runs=1))
    for mean, *each in zip(measuring.mean_costs(of_ranks), *of_ranks, strict=True):
        assert (mean.layer, mean.state, mean.weights) == (each[0].layer, each[0].state, each[0].weights)
        for kind in ("forward", "backward", "forward_call", "backward_call"):
            assert getattr(mean, kind) == statistics.mean(getattr(cost, kind) for cost in each)
            assert getattr(mean, kind) == pytest.approx(4 * getattr(each[0], kind), rel=1e-12, abs=1e-12)


# -- bytes of layers -----------------------------------------------------------------------------------------------------

T, B = 12, 2


def sizes(net: nn.Module, x: Tensor) -> list[tuple[str, float, float, float]]:
    """Of each layer: bytes of state, kept per time step, of weights."""
    return [(cost.layer, cost.state, pytest.approx(cost.kept), cost.weights) for cost in costs(net, x, runs=1)]


def test_bytes_of_linear_layers_and_neurons() -> None:
    lif = LIF(keep="potential", backend="numba")
    net = nn.Sequential(nn.Linear(8, 5), lif, nn.Linear(5, 3, bias=False))
    expected = [
        ("0", 0, B * 8 * WORD, (8 * 5 + 5) * WORD),  # keeps its input
        ("1", B * 5 * WORD, B * 5 * WORD, 0),  # the potential of every step
        ("2", 0, B * 5 * WORD, 5 * 3 * WORD),  # the spikes
    ]
    assert sizes(net, torch.rand(T, B, 8)) == expected
    doubled = [(name, 2 * state, 2 * kept, 2 * weights) for name, state, kept, weights in expected]
    assert sizes(net.double(), torch.rand(T, B, 8).double()) == doubled
    net[0].requires_grad_(False)
    assert sizes(net, torch.rand(T, B, 8).double())[0] == ("0", 0, 0, 0)


def test_bytes_of_folded_convolutions() -> None:
    first = FoldTime(nn.Conv2d(1, 4, 3, padding=1, bias=False))
    second = FoldTime(nn.AvgPool2d(2), nn.Conv2d(4, 6, 2))
    lif = ParametricLIF(keep="potential", backend="numba", channels=4)
    net = nn.Sequential(first, LIF(keep="potential", backend="numba"), second)
    spikes, pooled = 4 * 4 * 4, 4 * 2 * 2
    assert sizes(net, torch.rand(T, B, 1, 4, 4)) == [
        ("0", 0, B * 4 * 4 * WORD, 4 * 9 * WORD),
        ("1", B * spikes * WORD, B * spikes * WORD, 0),
        ("2", 0, B * (spikes + pooled) * WORD, (6 * 4 * 4 + 6) * WORD),  # both modules in it keep their input
    ]
    net[1] = lif
    assert sizes(net, torch.rand(T, B, 1, 4, 4))[1][3] == 4 * WORD, "a tau per channel"


class Branches(nn.Module):
    """Two layers that keep the same input, and neurons that are called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(8, 5), nn.Linear(8, 5)
        self.lif = LIF(keep="potential", backend="numba")

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.left(x)) + self.lif(self.right(x))


def test_memory_that_two_layers_keep_counts_once() -> None:
    left, right, lif = sizes(Branches(), torch.rand(T, B, 8))
    assert left == ("left", 0, B * 8 * WORD, 45 * WORD)
    assert right == ("right", 0, 0, 45 * WORD)
    assert lif == ("lif", 2 * B * 5 * WORD, 2 * B * 5 * WORD, 0)


def test_a_batch_norm_in_training_is_a_barrier() -> None:
    net = nn.Sequential(FoldTime(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), LIF(), FoldTime(nn.Conv2d(4, 2, 2)))
    x = torch.rand(4, 2, 1, 4, 4)
    assert [cost.barrier for cost in costs(net, x, runs=1)] == [True, False, False]
    assert [cost.barrier for cost in costs(net.eval(), x, runs=1)] == [False, False, False]


def test_the_network_stays_as_it_was() -> None:
    net = nn.Sequential(FoldTime(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), LIF())
    x = torch.rand(4, 2, 1, 4, 4)
    net(x).mean().backward()
    before = [t.clone() for t in (*net.state_dict().values(), *(p.grad for p in net.parameters()))]
    costs(net, x, runs=1)
    after = [*net.state_dict().values(), *(p.grad for p in net.parameters())]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_what_cannot_be_measured() -> None:
    net = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(
        ValueError, match=r"^x must have 2 time steps or more, as two lengths are compared, but got 1\.$"
    ):
        costs(net, torch.rand(1, 2, 3))
    with pytest.raises(TypeError, match=r"^x must be a tensor \[T, B, \*features\], but got list\.$"):
        costs(net, [1.0, 2.0])
    for runs in (0, True, 1.5):
        with pytest.raises(ValueError, match=rf"^runs must be a whole number from 1 on, but got {runs}\.$"):
            costs(net, torch.rand(2, 2, 3), runs=runs)


def test_costs_that_ranks_measure_at_once(crew) -> None:
    alone = costs(programs.net(), torch.rand(12, 2, 8), runs=1)
    assert alone[1].state == alone[1].kept == 2 * 5 * WORD
    for own in crew.run(programs.measured_together):
        for found in own:
            for cost, expected in zip(found, alone, strict=True):
                for what in ("layer", "state", "kept", "weights", "barrier"):
                    assert getattr(cost, what) == getattr(expected, what)
                assert cost.forward + cost.forward_call > 0
    message = "group must be given within a group of processes, whose ranks measure at once: costs(net, x, group)."
    assert crew.run(programs.measured_without_the_group) == [message, message]


# -- the link ------------------------------------------------------------------------------------------------------------


def test_the_link_between_two_processes(crew) -> None:
    first, second = crew.run(link)
    assert first == second, "what rank 0 has measured"
    assert 0 < first.latency < math.inf
    assert 0 < first.bandwidth < math.inf


def test_latency_and_bandwidth_from_two_sizes(clock, monkeypatch) -> None:
    def echo(group: Any, message: Tensor, tag: int) -> None:
        clock.sleep(2 * (2**-10 + message.numel() * message.element_size() / 2**30))

    monkeypatch.setattr(measuring, "round_trip", echo)
    group = SimpleNamespace(size=2, rank=0, device=torch.device("cpu"), all_gather_object=lambda value: [value, None])
    found = link(group, runs=3)
    assert found.latency == pytest.approx(2**-10, rel=1e-5)
    assert found.bandwidth == pytest.approx(2**30)


def test_a_link_needs_two() -> None:
    with (
        ranks() as alone,
        pytest.raises(ValueError, match=r"^a link needs two ranks or more, but the group has 1\.$"),
    ):
        link(alone)


# -- the layer that waits ------------------------------------------------------------------------------------------------


def test_a_stand_in_is_the_identity_times_its_gain(clock) -> None:
    layer, x, weights = StandIn(0.5).double(), torch.randn(5, 2, 3).double().requires_grad_(), torch.randn(5, 2, 3)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gain.fill_(1.5)
    out, (total,) = layer(x, return_state=True)
    assert torch.equal(out, 1.5 * x)
    assert torch.equal(total, out.sum(0))
    (out * weights).sum().backward()
    assert torch.allclose(x.grad, 1.5 * weights.double())
    assert layer.gain.grad.item() == pytest.approx((x * weights).sum().item())
    assert repr(layer) == "StandIn(seconds=0.5)"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_its_state_goes_on_over_chunks(clock, dtype) -> None:
    layer, x = StandIn(0.0), torch.randint(-8, 8, (7, 2, 3)).to(dtype)  # sums without rounding
    layer = layer.to(dtype)
    with carry(layer) as states:
        outs = [layer(part) for part in x.split([3, 4])]
    _, (whole,) = layer(x, return_state=True)
    assert torch.equal(torch.cat(outs), x)
    assert torch.equal(states["", 0][0], whole)
    assert whole.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(whole, x.to(whole.dtype).sum(0))


def test_its_seconds_are_proportional_to_time_and_batch(clock) -> None:
    for steps, batch in ((1, 1), (3, 1), (1, 5), (3, 5)):
        StandIn(0.25)(torch.rand(steps, batch, 3)).sum().backward()
        assert clock.slept == [steps * batch * 0.25, steps * batch * 0.5], "twice as many in the backward pass"
        clock.slept.clear()


@pytest.mark.parametrize("seconds", [-1e-3, math.nan, math.inf])
def test_seconds_that_cannot_be_waited(seconds) -> None:
    with pytest.raises(ValueError, match=rf"^seconds must be finite, from 0 on, but got {seconds!r}\.$"):
        StandIn(seconds)
