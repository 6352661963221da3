"""The record of what ran: the cells in their order, and launches and words counted, against manual counts."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

import tfexplore
from tfexplore import FoldTime, Recurrent
from tfexplore.codegen.traffic import traffic_of, words
from tfexplore.measure.timeline import Event, Events, what_ran

pytestmark = pytest.mark.usefixtures("no_gradient")


@pytest.fixture
def no_gradient():
    with torch.no_grad():
        yield


def cells(events: Events, kind: str = "forward") -> list[tuple[str, int, int]]:
    return [(event.layer, event.first, event.last) for event in events if event.kind == kind]


def small(backend: str = "torch") -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 6), tfexplore.LIF(backend=backend), nn.Linear(6, 3), tfexplore.LIF(backend=backend)
    )


def test_step_by_step_walks_columns_and_layer_by_layer_rows():
    net, x = small(), torch.rand(3, 2, 8)
    with what_ran(net) as events:
        tfexplore.step_by_step(net, x)
    assert cells(events) == [(str(row), t, t + 1) for t in range(3) for row in range(4)]
    with what_ran(net) as events:
        tfexplore.layer_by_layer(net, x)
    first, second = ([(row, t, t + 1) for t in range(3)] for row in "13")
    assert cells(events) == [("0", 0, 3), *first, ("2", 0, 3), *second]
    assert cells(events, "gather") == [("1", 0, 3), ("3", 0, 3)]


def test_a_fused_layer_is_one_event():
    net = small("numba")
    with what_ran(net) as events:
        net(torch.rand(5, 2, 8))
    assert cells(events) == [(str(row), 0, 5) for row in range(4)]


def test_linear_against_a_count_by_hand():
    net, x = nn.Linear(8, 6), torch.rand(5, 2, 8)
    with what_ran(net) as events:
        net(x)
    (event,) = events
    assert (event.layer, event.first, event.last, event.device, event.kind) == ("Linear", 0, 5, "cpu", "forward")
    assert event.launches == 1
    assert event.words == 5 * 2 * 8 + 8 * 6 + 6 + 5 * 2 * 6  # current, weights, biases, result


def test_the_eager_lif_against_a_count_by_hand():
    steps, neurons = 4, 30
    layer = tfexplore.LIF(backend="torch")
    with what_ran(layer) as events:
        layer(torch.rand(steps, 3, 10))
    # h = v - (v - v_reset)/tau + x is 4 operations, u = h - v_threshold one, s = (u >= 0) as a number two,
    # v = h - s v_threshold two; each reads one neuron's word or two and writes one, and four of them read a parameter
    reads, writes, parameters = 2 + 1 + 1 + 2 + 1 + 1 + 1 + 1 + 2, 9, 4
    per_step = (reads + writes) * neurons + parameters
    assert [(event.launches, event.words) for event in events[1:4]] == [(9, per_step)] * 3
    # the first step reads one initial state for all neurons, twice
    assert (events[0].launches, events[0].words) == (9, per_step - 2 * (neurons - 1))
    # afterwards: the spikes of all steps are put together, and the state
    assert events[4].kind == "gather"
    assert (events[4].launches, events[4].words) == (2, 2 * steps * neurons + 2 * neurons)
    assert len(events) == 5


def test_the_fused_lif_moves_two_words_and_the_ends_that_are_asked_for():
    steps, neurons = 50, 40
    layer, x = tfexplore.LIF(backend="numba"), torch.rand(50, 4, 10)
    per = words(traffic_of(layer.neuron, gradient=False))
    assert per == 2
    with what_ran(layer) as events:
        layer(x)
        layer(x, (torch.rand(4, 10),), return_state=True)
    assert (events[0].launches, events[0].words) == (1, per * steps * neurons)
    # the states stacked: read, written; then read, and those after the last step written
    ends = 2 * neurons + 2 * neurons
    assert (events[1].launches, events[1].words) == (2, per * steps * neurons + ends)


def test_the_fused_lif_with_a_gradient_writes_what_it_keeps():
    steps, neurons = 64, 40
    with torch.enable_grad():
        for keep in ("potential", "input"):
            layer = tfexplore.LIF(backend="numba", keep=keep)
            with what_ran(layer) as events:
                layer(torch.rand(steps, 4, 10, requires_grad=True))
            per = words(traffic_of(layer.neuron, keep), "forward")
            first = neurons if keep == "input" else 0  # the states of the first of the two chunks are not saved
            assert events[0].words == per * steps * neurons - first


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a = x.t()  # a view
        b = a.contiguous()  # copies: 2 x 12
        b += 1  # reads and writes: 2 x 12
        c = torch.empty(4, 3).zero_()  # writes 12
        d = c.copy_(b)  # reads 12, writes 12
        e = d * d  # reads 12 once, writes 12
        f = e.new_empty(4, 3).expand(2, 4, 3)[0].view(12).view(4, 3)
        g = e + torch.ones(1, 1).expand(4, 3)  # ones: writes 1; reads 12 and 1, writes 12
        torch._foreach_mul_([g, c], 2.0)  # reads and writes 24
        del f
        return g[:, :0].sum(1)  # nothing to read; writes 4


def test_views_empty_memory_and_broadcast_words_are_free():
    net = Odd()
    with what_ran(net) as events:
        net(torch.rand(3, 4))
    (event,) = events
    assert event.launches == 9
    assert event.words == 24 + 24 + 12 + 24 + 24 + 1 + 25 + 48 + 4


def test_a_recurrent_layer_is_an_event_for_each_step():
    net = nn.Sequential(nn.Linear(8, 6), Recurrent(tfexplore.LIF(), nn.Linear(6, 6)))
    with what_ran(net) as events:
        net(torch.rand(4, 2, 8))
    assert cells(events) == [("0", 0, 4), *(("1", t, t + 1) for t in range(4))]
    assert [event.needs for event in events[1:5]] == [(0,), (0, 1), (0, 2), (0, 3)]


def test_needs_are_the_layer_below_and_the_own_last_step():
    net = small()
    with what_ran(net) as events:
        tfexplore.step_by_step(net, torch.rand(2, 2, 8))
    assert [event.needs for event in events] == [(), (0,), (1,), (2,), (), (1, 4), (5,), (3, 6)]


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = tfexplore.LIF(backend="numba"), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shared(x) + self.shared(2 * x))


def test_a_layer_called_twice_and_the_work_between_layers():
    net = Branches()
    x = torch.rand(3, 2, 4)
    with what_ran(net) as events:
        tfexplore.step_by_step(net, x)
    names = ("shared", "shared, call 2", "last")
    assert cells(events) == [(name, t, t + 1) for t in range(3) for name in names]
    assert [event.needs for event in events[:6]] == [(), (), (0, 1), (0,), (1,), (3, 4)]
    # per step 2 x and the sum; at the end the steps are put together
    assert events.outside.launches == 3 * 2 + 1
    assert events.outside.words == 3 * (8 + 8 + 8 + 8 + 8) + 2 * 3 * 2 * 2
    assert events.launches == sum(event.launches for event in events) + 7


def test_steps_go_on_counting_while_the_state_is_carried():
    net, x = small("numba"), torch.rand(7, 2, 8)
    with what_ran(net) as events:
        with tfexplore.carry(net):
            net(x[:3])
            tfexplore.step_by_step(net, x[3:5])
            net(x[5:])
        net(x)
    first = [(event.first, event.last) for event in events if event.layer == "1"]
    assert first == [(0, 3), (3, 4), (4, 5), (5, 7), (0, 7)]
    layer = tfexplore.LIF(backend="numba")
    with what_ran(nn.Sequential(layer)) as events:  # called by itself, outside of its network
        with tfexplore.carry(layer):
            layer(x[:3])
            layer(x[3:])
        layer(x)
    assert cells(events) == [("0", 0, 3), ("0", 3, 7), ("0", 0, 7)]


def test_time_folded_into_the_batch_is_still_all_steps():
    # a Flatten does no work, so it is no event
    folded = nn.Sequential(nn.Flatten(0, 1), nn.Linear(8, 6), nn.Unflatten(0, (3, 2)), tfexplore.LIF(backend="numba"))
    wrapped = nn.Sequential(FoldTime(nn.Linear(8, 6), nn.ReLU()), tfexplore.LIF(backend="numba"))
    for net, names in ((folded, "13"), (wrapped, "01")):
        with what_ran(net) as events:
            net(torch.rand(3, 2, 8))
        assert cells(events) == [(name, 0, 3) for name in names]


class BatchFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = tfexplore.LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


def test_a_layer_that_gets_more_steps_than_there_are_is_an_error():
    net = BatchFirst()
    with what_ran(net) as events, pytest.raises(ValueError, match=r"'inner' got 3 time steps .* keep time first"):
        net(torch.rand(2, 3, 8))
    assert events == []


def test_nobody_listens_afterwards_and_nested_records_agree():
    from tfexplore.backends.torch_reference import LISTENERS

    net, x = small(), torch.rand(3, 2, 8)
    with what_ran(net) as outer, what_ran(net[1]) as inner:
        out = net(x)
    assert cells(inner) == [("LIF", t, t + 1) for t in range(3)]
    assert [(e.launches, e.words) for e in inner] == [(e.launches, e.words) for e in outer if e.layer == "1"]
    assert LISTENERS == []
    assert not net._forward_hooks
    assert not net[0]._forward_pre_hooks
    length = len(outer)
    assert torch.equal(net(x), out)
    assert len(outer) == length


def test_an_error_in_a_layer_leaves_a_usable_record():
    net = small()
    with what_ran(net) as events:
        with pytest.raises(RuntimeError):
            net(torch.rand(3, 2, 7))
        net(torch.rand(3, 2, 8))
    assert cells(events)[:2] == [("0", 0, 3), ("1", 0, 1)]


def test_another_thread_is_not_in_this_record():
    net, other = small(), tfexplore.LIF(backend="torch")
    with what_ran(net) as events:
        thread = threading.Thread(target=lambda: other(torch.rand(5, 2, 8)))
        thread.start()
        thread.join()
    assert list(events) == []
    assert events.launches == 0


def test_times_follow_each_other_with_and_without_counting():
    net, x = small(), torch.rand(3, 2, 8)
    for count in (True, False):
        with what_ran(net, count=count) as events:
            net(x)
        times = [time for event in events for time in (event.begin, event.end)]
        assert times == sorted(times)
        assert all(isinstance(event, Event) for event in events)
        assert (events.launches > 0) is count
    assert len(cells(events)) == 8


def test_training_with_a_backward_pass_inside_is_recorded_apart():
    net = small("numba")
    with torch.enable_grad(), what_ran(net) as events:
        net(torch.rand(3, 2, 8)).sum().backward()
    assert cells(events) == [(str(row), 0, 3) for row in range(4)]
    assert events.outside.launches > 4  # the backward pass is no layer's forward work


def test_truth_values_count_one_byte_each():
    class Compare(nn.Module):
        def forward(self, x):
            return x >= 1

    net, x = Compare(), torch.rand(5, 2, 8, dtype=torch.float64)
    with what_ran(net) as events:
        net(x)
    assert (events.words, events.nbytes) == (2 * 80, 8 * 80 + 80)
