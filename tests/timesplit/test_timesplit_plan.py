"""The plan of a time split: against a plain simulation of ranks and messages, and against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfexplore.timesplit.plan import DEVICES, Cost, Link, best, plan, rule, sweep

FREE = Link(latency=0, bandwidth=math.inf)


def simulate(costs, steps, batch, link, ranks=1, micro_batches=1, replicas=1):
    """Every rank does the next thing on its list as soon as it can: (seconds, [(kind, layer, part, rank, begin, end)])."""
    samples = max(len(piece) for piece in torch.arange(batch).tensor_split(replicas))
    shares = [len(piece) / batch for piece in torch.arange(samples).tensor_split(micro_batches)]
    segments = [len(piece) for piece in torch.arange(steps).tensor_split(ranks)]
    clock, work = dict.fromkeys(range(ranks), 0.0), []

    def sum_up(nbytes, devices):
        rounds = 2 * (devices - 1)
        together = max(clock.values()) + rounds * link.latency + rounds * nbytes / devices / link.bandwidth
        clock.update(dict.fromkeys(clock, together))

    rows = [(part, cost) for part in range(micro_batches) for cost in costs]
    for kind, onward, todo in (("forward", 1, rows), ("backward", -1, rows[::-1])):
        at = dict.fromkeys(clock, 0)  # how far each rank is
        arrival, wire, blocked = {}, {}, set()
        while min(at.values()) < len(rows):
            before = dict(at)
            for rank in clock:
                if at[rank] == len(rows) or rank in blocked:
                    continue
                row = at[rank]
                part, cost = todo[row]
                per_step, call = (
                    (cost.forward, cost.forward_call) if kind == "forward" else (cost.backward, cost.backward_call)
                )
                if cost.state > 0 and rank - onward in clock:
                    if (rank, row) not in arrival:
                        continue
                    clock[rank] = max(clock[rank], arrival[rank, row])
                begin = clock[rank]
                clock[rank] += segments[rank] * per_step * shares[part] + call
                work.append((kind, cost.layer, part, rank, begin, clock[rank]))
                if cost.state > 0 and rank + onward in clock:
                    wire[rank] = max(clock[rank], wire.get(rank, 0.0)) + cost.state * shares[part] / link.bandwidth
                    arrival[rank + onward, row] = wire[rank] + link.latency
                at[rank] += 1
                if cost.barrier:
                    blocked.add(rank)
            if len(blocked) == ranks:
                sum_up(0, ranks * replicas)
                sum_up(0, ranks * replicas)
                blocked = set()
            assert at != before, "the schedule is stuck"
        sum_up(0, ranks) if kind == "forward" else sum_up(sum(c.weights for c in costs), ranks * replicas)
    return clock[0], work


SECONDS = st.floats(0, 3) | st.sampled_from([0, 0.5, 1])


@st.composite
def cases(draw):
    steps, batch = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    replicas = draw(st.integers(1, batch))
    micro_batches = draw(st.integers(1, batch // replicas))
    costs = []
    for k in range(draw(st.integers(1, 6))):
        state = draw(st.sampled_from([0, 0, 1, 3, 20]))
        barrier = micro_batches == 1 and draw(st.integers(0, 3)) == 0
        seconds = [draw(SECONDS) for _ in range(4)]
        costs.append(Cost(f"layer {k}", *seconds, state=state, kept=draw(SECONDS), weights=k, barrier=barrier))
    link = Link(draw(st.sampled_from([0, 0.01, 0.5, 4])), draw(st.sampled_from([0.5, 2, 30, math.inf])))
    return costs, steps, batch, link, draw(st.integers(1, steps)), micro_batches, replicas


@settings(deadline=None, max_examples=300)
@given(cases())
def test_plans_are_those_of_a_plain_simulation(case) -> None:
    costs, _, _, _, ranks, micro_batches, _ = case
    seconds, work = simulate(*case)
    found = plan(*case)
    assert found.seconds == pytest.approx(seconds, rel=1e-12, abs=1e-12)

    events = found.events()
    worked = {(e.kind, e.layer, e.part, e.device): e for e in events if e.kind in ("forward", "backward")}
    assert len(worked) == len(work) == 2 * len(costs) * ranks * micro_batches
    for kind, layer, part, rank, begin, end in work:
        event = worked[kind, layer, part, f"rank {rank}"]
        assert (event.begin, event.end) == pytest.approx((begin, end), rel=1e-12, abs=1e-11)
        assert (event.first, event.last) == found.segments[rank]

    assert events[-1].end == pytest.approx(found.seconds, rel=1e-12)
    for rank in range(ranks):
        own = [event for event in events if event.device == f"rank {rank}"]
        assert all(before.end <= after.begin for before, after in pairwise(own))
        lasting = sum(e.end - e.begin for e in own if e.kind in ("forward", "backward"))
        assert lasting == pytest.approx(found.busy[rank], rel=1e-9, abs=1e-9)
        assert sum(e.end - e.begin for e in own) == pytest.approx(found.seconds, rel=1e-9, abs=1e-9)  # no gaps
        assert all(e.end > e.begin for e in own if e.kind in ("wait", "sum"))
    if found.seconds:
        assert found.bubble == pytest.approx(1 - found.busy.sum() / ranks / seconds, abs=1e-12)
        assert found.speedup == pytest.approx(simulate(*case[:4])[0] / seconds, rel=1e-12)


def random_costs(layers: int, seed: int = 0, **other) -> list[Cost]:
    draw = np.random.default_rng(seed)
    return [Cost(f"{k}", *draw.random(4), state=draw.integers(3), weights=1.0, **other) for k in range(layers)]


@pytest.mark.parametrize(("latency", "bandwidth"), [(0, math.inf), (0.3, 2), (5, 0.02)])
def test_large_plan(latency, bandwidth) -> None:
    case = random_costs(20), 150, 37, Link(latency, bandwidth), 40, 8
    assert plan(*case).seconds == pytest.approx(simulate(*case)[0], rel=1e-12)


@pytest.mark.parametrize(("layers", "ranks", "micro_batches"), [(1, 1, 1), (5, 4, 1), (3, 8, 4), (1, 6, 6)])
def test_equal_layers_on_a_free_link(layers, ranks, micro_batches) -> None:
    """L * M + P - 1 turns each way, each a P-th and an M-th of a layer."""
    costs = [Cost(f"{k}", forward=1.0, backward=2.0, state=1) for k in range(layers)]
    found = plan(costs, 24, 12, FREE, ranks, micro_batches)
    turns = layers * micro_batches + ranks - 1
    assert found.seconds == pytest.approx(turns * 3.0 * 24 / ranks / micro_batches)
    assert found.speedup == pytest.approx(layers * micro_batches * ranks / turns)
    assert found.bubble == pytest.approx((ranks - 1) / turns)
    assert len([e for e in found.events() if e.kind == "wait"]) == 4 * (
        ranks - 1
    )  # each rank before and after, each way


def test_one_rank_has_no_bubble() -> None:
    found = plan(random_costs(7), 9, 6, Link(1, 1), micro_batches=3)
    assert found.bubble == pytest.approx(0, abs=1e-12)
    assert {event.kind for event in found.events()} == {"forward", "backward"}
    assert plan(random_costs(7), 9, 6, Link(1, 1)).speedup == 1


def test_data_parallelism_is_a_share_of_the_batch_and_one_sum() -> None:
    cost = Cost("fc", forward=3.0, backward=6.0, forward_call=0.5, backward_call=0.25, state=8, kept=7.0, weights=600.0)
    link = Link(latency=0.125, bandwidth=100.0)
    found = plan([cost], 10, 8, link, replicas=4)
    assert found.seconds == pytest.approx(10 * 9.0 / 4 + 0.75 + 2 * 3 * (0.125 + 600 / 4 / 100))
    assert plan([cost], 10, 7, link, replicas=4).seconds == pytest.approx(found.seconds + 90 * (2 / 7 - 2 / 8))
    assert found.memory().tolist() == [10 * 7 / 4 + 4 * 600]
    assert plan([cost], 10, 8, link, ranks=3).memory(copies=2).tolist() == [4 * 7 + 1200, 3 * 7 + 1200, 3 * 7 + 1200]


def test_messages_of_a_link_share_its_bandwidth_but_not_its_latency() -> None:
    """Two states leave at once: the second is on the wire behind the first, and both are under way for a while."""
    costs = [Cost("a", 0, 0, state=20), Cost("b", 0, 0, state=20)]
    link = Link(latency=3, bandwidth=10)
    waits = [e for e in plan(costs, 2, 1, link, ranks=2).events() if e.kind == "wait" and e.device == "rank 1"]
    assert [(e.layer, e.begin, e.end) for e in waits[:2]] == [("a", 0, 2 + 3), ("b", 5, 2 + 2 + 3)]
    assert link.message(20) == 5


def test_a_barrier_holds_all_ranks() -> None:
    costs = [Cost("lif", 1.0, 1.0, state=1), Cost("norm", 1.0, 1.0, barrier=True), Cost("last", 1.0, 1.0)]
    events = plan(costs, 2, 1, Link(0.25, math.inf), ranks=2).events()
    held = [e for e in events if e.layer == "norm" and e.kind == "sum"]
    assert [(e.begin, e.end) for e in held] == [(3.25, 4.25)] * 2 + [(7.75, 8.75)] * 2  # two sums of two rounds each
    assert [e.begin for e in events if e.layer == "last"] == [4.25, 4.25, 5.75, 5.75]
    assert next(e for e in events if e.layer == "norm" and e.kind == "wait").device == "rank 0"


@pytest.mark.parametrize(("latency", "layers"), [(1e-4, 200), (1e-3, 400)])
def test_best_number_of_ranks_is_near_the_rule(latency, layers) -> None:
    """Many equal layers: each rank more costs a message each way, a round of the loss's sum and one of the weights'."""
    costs = [Cost(f"{k}", forward=2e-5, backward=3e-5, state=1) for k in range(layers)]
    link = Link(latency, math.inf)
    serial = plan(costs, 1000, 1, link).seconds
    near = rule(serial, (2 + 2 * 2) * latency)
    assert best(costs, 1000, 1, link) == pytest.approx(near, rel=0.05)
    assert best(costs, 1000, 1, FREE) == 1000


def test_best_tries_every_number_up_to_64() -> None:
    for seed in range(8):
        case = random_costs(4, seed), 50, 6, Link(0.2 * seed, 5)
        seconds = [plan(*case, ranks=p, micro_batches=2).seconds for p in range(1, 51)]
        assert best(*case, micro_batches=2) == 1 + int(np.argmin(seconds))


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_sweep_is_many_plans(micro_batches) -> None:
    case = random_costs(5), 30, 8, Link(0.3, 4)
    found = sweep(*case, devices=[24, 1, 6, 8, 30, 40, 300], micro_batches=micro_batches)
    for k, n in enumerate(found.devices.tolist()):
        both = [(d, n // d) for d in range(1, 9) if n % d == 0 and n // d <= 30]
        split = {(d, p): plan(*case, p, micro_batches, d).seconds for d, p in both if 8 // d >= micro_batches}
        apart = {(d, p): plan(*case, p, 1, d).seconds for d, p in both if p == 1}
        assert found.time_splitting[k] == pytest.approx(split.get((1, n), math.nan), rel=1e-12, nan_ok=True)
        assert found.data_parallel[k] == pytest.approx(apart.get((n, 1), math.nan), rel=1e-12, nan_ok=True)
        fastest = min([*split.values(), *apart.values()], default=math.nan)
        assert found.combined[k] == pytest.approx(fastest, rel=1e-12, nan_ok=True)
        with_its_replicas = [s for way in (split, apart) for (d, _), s in way.items() if d == found.replicas[k]]
        assert min(with_its_replicas, default=math.nan) == pytest.approx(fastest, rel=1e-12, nan_ok=True)
    assert found.replicas[-1] == 0  # 300 devices are more than 30 * 8


def test_sweep_goes_up_to_the_time_steps() -> None:
    assert sweep([Cost("a", 1, 1)], 5, 2, FREE).devices.tolist() == [1, 2, 3, 4, 5]
    assert sweep([Cost("a", 1, 1)], 100, 2, FREE).devices.tolist()[-2:] == [96, 100]
    assert sweep([Cost("a", 1, 1)], 5000, 2, FREE).devices.tolist() == list(DEVICES)


def test_rule() -> None:
    assert rule(9, 1) == 3
    assert rule(1, 0) == math.inf
    with pytest.raises(ValueError, match="communication must be seconds from 0 on"):
        rule(1, -1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"ranks": 11}, "ranks must be at most 10, since each takes at least one of the 10 time steps, but got 11"),
        ({"ranks": 0}, "ranks must be a whole number from 1 on, but got 0"),
        ({"ranks": 2.0}, "ranks must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"batch": 0}, "batch must be a whole number"),
        ({"replicas": 5}, "replicas must be at most 4, since each takes at least one of the 4 samples, but got 5"),
        ({"micro_batches": 5}, "micro_batches must be at most 4, since"),
        ({"replicas": 2, "micro_batches": 3}, "micro_batches must be at most 2, since each takes .* every replica"),
        ({"costs": []}, "the number of costs must be a whole number from 1 on, but got 0"),
        (
            {"costs": [Cost("bn", 1, 1, barrier=True)], "micro_batches": 2},
            "'bn' takes its mean over the whole batch: use micro_batches=1, not 2",
        ),
    ],
)
def test_bad_plans(asked, message) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**{"costs": [Cost("a", 1, 1)], "steps": 10, "batch": 4, "link": FREE, **asked})


@pytest.mark.parametrize("many", [sweep, best])
def test_bad_sweeps(many) -> None:
    with pytest.raises(ValueError, match="'bn' takes its mean"):
        many([Cost("bn", 1, 1, barrier=True)], 10, 4, FREE, micro_batches=2)
    with pytest.raises(ValueError, match="micro_batches must be at most 4"):
        many([Cost("a", 1, 1)], 10, 4, FREE, micro_batches=5)


def test_bad_devices() -> None:
    with pytest.raises(ValueError, match="devices must be a whole number from 1 on, but got 0"):
        sweep([Cost("a", 1, 1)], 10, 4, FREE, devices=[1, 0])


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_costs_and_links(bad) -> None:
    with pytest.raises(ValueError, match="backward_call of 'fc' must be finite"):
        Cost("fc", 1, 1, backward_call=bad)
    with pytest.raises(ValueError, match="latency must be finite"):
        Link(bad, 1)
    if bad != math.inf:
        with pytest.raises(ValueError, match="bandwidth more than 0"):
            Link(0, bad)
