"""The explorers of time splitting, without a browser: the plan, and real runs. No test looks at how long anything took."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from typing import Any

import numpy as np
import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

from tests.pictures import spread
from tfexplore import explore
from tfexplore.explore.split import explorer, gantt
from tfexplore.explore.split.explorer import BATCH_NORM, NONE
from tfexplore.explore.split.prediction import blocks, recorded
from tfexplore.explore.split.runs import COMPUTING, PASSES, WAITING, network
from tfexplore.measure.timeline import Event
from tfexplore.timesplit import RankError
from tfexplore.timesplit.plan import Cost, Link, plan

BLOCK = [Cost("linear", 1e-4, 2e-4, weights=1e4), Cost("lif", 2e-4, 4e-4, state=1e4, kept=1e4)]


@pytest.fixture
def planned() -> Any:
    return explore.split_plan(devices=3, steps=8, layers=2, batch=8, costs=BLOCK, measured_batch=8, machine="a test")


def bars(made: Any, prefix: str = "") -> dict[str, list[tuple[int, float, float]]]:
    """What the live figure draws: rank, begin and length in ms, by kind."""
    traces = {kind: made.trace(prefix + kind) for kind in gantt.THICKNESS}
    return {kind: list(zip(t.y, t.base, t.x, strict=True)) for kind, t in traces.items()}


# -- the plan ----------------------------------------------------------------------------------------------------


def test_the_chart_is_the_plan(planned: Any) -> None:
    """Derived by hand: chunks of 3, 3 and 2 steps; linear 0.1, lif 0.2 ms a step forward."""
    drawn = bars(planned)
    forward = [(rank, round(begin, 6), round(length, 6)) for rank, begin, length in drawn["forward"]]
    assert sorted(forward)[:4] == [(0, 0.0, 0.3), (0, 0.3, 0.6), (0, 0.9, 0.3), (0, 1.2, 0.6)]
    state = 1e3 * planned.result.plan.link.message(1e4)
    assert sorted(forward)[5][1] == pytest.approx(0.9 + state, abs=1e-5), "rank 1 begins its lif when rank 0 has ended"
    assert len(drawn["forward"]) == len(drawn["backward"]) == 3 * 4
    assert len(set(planned.trace("forward").marker.color)) == 4, "a colour for each layer"
    assert set(planned.trace("backward").marker.pattern.shape) == {"/"}, (
        "and not by colour alone: the backward pass is hatched"
    )
    every = [row for kind in drawn.values() for row in kind]
    for rank in range(3):
        own = sorted((begin, begin + length) for r, begin, length in every if r == rank)
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(own))


def test_every_control_moves_the_plan(planned: Any) -> None:
    for name, value, place in (
        ("devices", 4, "ranks"),
        ("steps", 64, "steps"),
        ("batch", 4, "batch"),
        ("micro_batches", 2, "micro_batches"),
    ):
        before = planned.result.plan.seconds
        planned.controls[name].value = value
        assert getattr(planned.result.plan, place) == value
        assert planned.result.plan.seconds != before
    planned.controls["bandwidth"].value, planned.controls["latency"].value = 1e7, 1e-2
    assert planned.result.plan.link == Link(1e-2, 1e7)
    planned.controls["layers"].value = 5
    assert [cost.layer for cost in planned.result.plan.costs][-2:] == ["linear5", "lif5"]


def test_the_curves_are_those_of_single_plans(planned: Any) -> None:
    names = ("time splitting", "data parallel", "both together", "chosen P, time split", "fastest P, time split")
    split, parallel, both, chosen, fastest = ((np.array(t.x), np.array(t.y, float)) for t in map(planned.trace, names))
    costs, link = planned.result.plan.costs, planned.result.plan.link
    one = plan(costs, 8, 8, link).seconds
    for p in (1, 3, 8):
        assert split[1][split[0] == p] == pytest.approx(one / plan(costs, 8, 8, link, p).seconds)
        assert parallel[1][parallel[0] == p] == pytest.approx(one / plan(costs, 8, 8, link, replicas=p).seconds)
    assert (both[1] >= np.nan_to_num(np.fmax(split[1], parallel[1])) - 1e-9).all()
    assert chosen[0].tolist() == [3]
    assert fastest[1][0] == pytest.approx(np.nanmax(split[1]))


def test_what_cannot_be_cut_is_not_offered(planned: Any) -> None:
    planned.controls["batch"].value = 1
    assert planned.result.data_parallel is None
    assert "Data parallelism cannot use them: a batch of 1 for 3 devices." in planned._said
    assert planned.controls["micro_batches"].disabled
    planned.controls["batch"].value = 8
    planned.controls["micro_batches"].value = 4
    planned.controls["norm"].value = BATCH_NORM
    assert planned.controls["micro_batches"].disabled
    assert planned.result.plan.micro_batches == 1
    assert {event.layer for event in planned.result.plan.events() if event.kind == "sum"} >= {"linear1", "linear2"}
    assert "rule" not in planned._said, "which knows of no barriers"
    planned.controls["norm"].value = NONE
    assert not planned.controls["micro_batches"].disabled
    assert planned.controls["devices"].max == 8


def test_the_sentence(planned: Any) -> None:
    result = planned.result
    assert planned._said.startswith(
        f"3 devices: {1e3 * result.plan.seconds:.3g} ms a training step, {result.plan.speedup:.3g} times as fast as one"
    )
    assert "measured on a test." in planned._said
    planned.controls["devices"].value = 1
    assert planned._said.startswith(
        f"1 device: {1e3 * result.one.seconds:.3g} ms a training step, 1 times as fast as one; each waits 0%"
    )
    assert "Data parallel" not in planned._said
    planned.controls["devices"].value, planned.controls["steps"].value, planned.controls["batch"].value = 8, 8, 2
    costs, link = planned.result.plan.costs, planned.result.plan.link
    best = min((1, 2), key=lambda d: plan(costs, 8, 2, link, 8 // d, replicas=d).seconds)
    assert f"({best} part{'s' * (best > 1)} of the batch × {8 // best} of time)" in planned._said


def test_the_rule_is_near_the_best_of_the_plan() -> None:
    made = explore.split_plan(steps=1024, layers=24, costs=BLOCK, measured_batch=8)
    assert made.result.best == pytest.approx(made.result.rule, rel=0.25)


def test_recorded_costs_are_those_of_the_benchmark() -> None:
    costs, machine = recorded()
    assert [cost.layer for cost in costs] == ["linear", "lif"]
    assert "cores" in machine
    linear, lif = costs
    assert lif.state == 64 * 256 * 4
    assert linear.weights == 257 * 256 * 4
    grown = blocks(costs, 2, batch=32, measured_batch=64)
    assert grown[1].state == lif.state / 2
    assert grown[0].weights == linear.weights
    assert grown[2].forward_call == linear.forward_call


def test_many_bars_become_one_for_each_micro_batch() -> None:
    made = explore.split_plan(devices=16, steps=64, layers=24, batch=16, micro_batches=4, costs=BLOCK, measured_batch=8)
    events = made.result.plan.events()
    assert len(events) > gantt.MOST
    shown = gantt.merged(events)
    assert len(shown) < gantt.MOST
    assert {e.layer for e in shown if e.kind == "forward"} == {gantt.ALL}
    last = max(e.end for e in events if e.device == "rank 3" and e.kind == "backward")
    assert max(e.end for e in shown if e.device == "rank 3" and e.kind == "backward") == last
    assert len(set(made.trace("forward").marker.color)) == 4, "coloured by micro-batch"


def test_an_event_in_words() -> None:
    event = Event("lif2", 8, 16, "rank 1", 0.5, 0.5025, "forward", 0, 0, 0, part=1)
    assert gantt.about(event) == "rank 1: lif2 forward, steps 8 to 15, micro-batch 2<br>2.50 ms"
    event = Event("the state of 'lif2'", 8, 16, "rank 1", 0.0, 0.001, "wait", 0, 0, 0)
    assert gantt.about(event) == "rank 1: waits for the state of 'lif2', steps 8 to 15<br>1.00 ms"


def test_bad_numbers_of_the_plan() -> None:
    with pytest.raises(ValueError, match=r"^steps must be one of 8, 16, .*, but got 100\.$"):
        explore.split_plan(steps=100)


def test_pictures(planned: Any) -> None:
    assert spread(planned.picture()) > 0.1
    mime, about = planned._repr_mimebundle_()
    assert mime["text/plain"].startswith("SplitPlan(devices=3, steps=8, layers=2, batch=8, micro_batches=1, ")
    assert about["image/png"]["alt"].startswith(planned.caption)


# -- real runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran() -> Any:
    made = explore.split_run(processes=2, steps=8, layers=2, micro_batches=2)
    asyncio.run(made.run())
    yield made
    made.close()


def test_a_real_run_is_drawn_above_its_plan(ran: Any) -> None:
    result = ran.result
    assert len(result.seconds) == len(result.runs) == PASSES
    assert len(result.alone) == PASSES
    real, planned = bars(ran), bars(ran, "planned ")
    for drawn in (real, planned):
        assert {rank for rank, _, _ in drawn["forward"]} == {0, 1}
    assert len(planned["forward"]) == 2 * 2 * 2
    work = {(e.device, e.layer, e.part, e.kind) for e in result.events if e.kind != "wait"}
    layers, kinds = ("layer1", "layer2"), ("forward", "backward")
    assert work == {
        (f"rank {r}", layer, part, kind) for r in range(2) for layer in layers for part in range(2) for kind in kinds
    }
    assert min(begin for _, begin, _ in real["forward"]) == 0
    assert 0 < result.waiting() < 1
    assert result.plan.ranks == 2
    assert "2 processes: " in ran._said
    assert "of what was measured." in ran._said
    assert spread(ran.picture()) > 0.1


def test_again_with_the_same_processes_and_layers_that_compute(ran: Any) -> None:
    before = ran.crew.pids
    ran.controls["network"].value = COMPUTING
    assert ran.result.seconds == []
    assert bars(ran)["forward"] == []
    asyncio.run(ran.run())
    assert ran.crew.pids == before
    assert {e.layer for e in ran.result.events if e.kind == "forward"} == {"linear1", "lif1", "linear2", "lif2"}


def test_a_process_that_dies_is_reported_and_the_next_start_works(ran: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error stands above the figure; the kernel lives, and Start begins with new processes."""
    ran.controls["network"].value = WAITING

    def killed(group: Any, *_: Any) -> None:
        if group.rank == 1:  # by itself: from here, the signal might come between two jobs
            os.kill(os.getpid(), signal.SIGKILL)
        group.all_gather([0])

    with monkeypatch.context() as patch:
        patch.setattr(explorer, "one_pass", killed)
        with pytest.raises(RankError, match=r"^rank 1 was killed by SIGKILL in the middle of a job; all ranks stop\.$"):
            asyncio.run(ran.run())
    assert "rank 1 was killed by SIGKILL" in ran.message.value
    assert 'role="alert"' in ran.message.value
    assert not ran.running
    asyncio.run(ran.run())
    assert len(ran.result.seconds) == PASSES


def test_stop_ends_after_the_piece_at_hand(ran: Any) -> None:
    async def stopped() -> None:
        running = asyncio.create_task(ran.run())
        await asyncio.sleep(0)  # it begins, with a new result
        while not ran.result.seconds:
            await asyncio.sleep(0.01)
        ran.controls["stop"].click()
        await running

    asyncio.run(stopped())
    assert 1 <= len(ran.result.seconds) < PASSES


def test_processes_end_with_the_explorer(ran: Any) -> None:
    made = explore.split_run(processes=1, steps=8, layers=1)
    asyncio.run(made.run())
    (pid,) = made.crew.pids
    made.close()
    assert made.crew is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "1 process: " in made._said


def test_networks_are_the_same_every_time() -> None:
    for kind in (WAITING, COMPUTING):
        one, two = network(kind, 2), network(kind, 2)
        assert all((p == q).all() for p, q in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(
        ValueError, match=r"^network must be one of 'layers that only wait', 'linear and LIF layers', but got 'mlp'\.$"
    ):
        explore.split_run(network="mlp")
