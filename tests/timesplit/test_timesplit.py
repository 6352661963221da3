"""Time splitting on real processes (gloo): the outputs, losses and gradients of one process, whatever the ranks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests import split_jobs as jobs
from tests.cases import CASES
from tfexplore import timesplit

EXACT, SINGLE = 1e-12, 1e-5  # float64, float32; relative to the greatest value


@pytest.fixture(params=[2, 3, 4])
def crew(request, crews):
    return crews(request.param, 30)


@pytest.fixture
def three(crews):
    return crews(3, 30)


def like_one_process(found: list[dict[str, float]], close: float = EXACT) -> None:
    for own in found:  # every rank's
        assert own["spikes"] > 0
        assert own["live"] > 1e-6, "a gradient that is nothing but rounding shows nothing"
        for what in ("loss", "out", "gradients", "input", "buffers"):
            assert own[what] < close, what


def compared(crew: timesplit.Crew, net: Callable[..., nn.Module], **how: Any) -> None:
    with timesplit.ranks() as alone:  # compiles: all ranks would compile the same kernels, at the same time
        like_one_process([jobs.compare(alone, net, **how)], SINGLE if "dtype" in how else EXACT)
    like_one_process(crew.run(jobs.compare, net, **how), SINGLE if "dtype" in how else EXACT)


NETWORKS = [jobs.mlp, jobs.residual, jobs.learned, jobs.recurrent, jobs.memoryless, jobs.conv]
NORMED = [jobs.normed, jobs.cumulative, jobs.without_statistics]


@pytest.mark.parametrize("net", [*NETWORKS, *NORMED], ids=lambda make: make.__name__)
def test_like_one_process(crew, net) -> None:
    compared(crew, net)


@pytest.mark.parametrize("loss", jobs.LOSSES)
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_whatever_the_loss_looks_at(crew, loss, micro_batches) -> None:
    compared(crew, jobs.residual, loss=loss, micro_batches=micro_batches)


def test_in_single_precision(crew) -> None:
    for net, micro_batches in ((jobs.mlp, 1), (jobs.conv, 3), (jobs.residual, 2), (jobs.normed, 1)):
        compared(crew, net, dtype="float32", micro_batches=micro_batches)


def test_time_that_does_not_divide_and_steps_that_just_suffice(crew) -> None:
    for steps in (crew.size, crew.size + 1, 29):
        compared(crew, jobs.mlp, steps=steps, loss="every_step")


def test_the_eager_backend_too(crew) -> None:
    compared(crew, jobs.residual, given=("torch",))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_neuron_and_every_reset(three, case) -> None:
    compared(three, jobs.only_neurons, given=(case,), steps=22)


def test_kinds_of_input_in_turn_with_and_without_gradients(crew) -> None:
    for found in crew.run(jobs.forward_only):
        assert max(found) < EXACT


def test_gradients_add_up_and_weight_decay_counts_once(crew) -> None:
    assert max(crew.run(jobs.accumulated)) < EXACT


def test_a_head_that_the_loss_does_not_look_at(crew) -> None:
    for worst, none in crew.run(jobs.unused_head):
        assert worst < EXACT
        assert all(none)


def test_gradients_asked_for_by_name(crew) -> None:
    assert max(crew.run(jobs.asked_for)) < EXACT


def test_traces_are_those_of_this_rank(crew) -> None:
    assert max(crew.run(jobs.traced)) < EXACT


def test_data_times_time_with_distributed_data_parallel(crews) -> None:
    for replicas in (2, 4, 1):
        assert max(crews(4, 30).run(jobs.given_mesh, replicas)) < EXACT


def test_a_checkpoint_goes_on_with_any_number_of_ranks(crews, tmp_path) -> None:
    first, second, whole = (str(tmp_path / name) for name in ("first.pt", "second.pt", "whole.pt"))
    with timesplit.ranks() as alone:
        expected = jobs.trained(alone, 9, whole, None)
    got = crews(3, 30).run(jobs.trained, 9, first, None)
    assert got[0] == got[1] == got[2]
    assert got[0] == pytest.approx(expected, rel=1e-9)
    on_two = crews(2, 30).run(jobs.trained, 4, second, first)[0]
    with timesplit.ranks() as alone:
        on_one = jobs.trained(alone, 4, None, second)
        expected = [*jobs.trained(alone, 4, whole, whole), *jobs.trained(alone, 4, None, whole)]
    assert [*on_two, *on_one] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_record_of_a_real_run(three, micro_batches) -> None:
    of_ranks = three.run(jobs.recorded, micro_batches)
    events = of_ranks[0]
    assert all(other == events for other in of_ranks), "every rank has the events of all"
    layers = {"0", "1", "2", "3", "4", "5"}
    for rank, steps in enumerate([(0, 5), (5, 9), (9, 13)]):
        own = [event for event in events if event.device == f"rank {rank}"]
        assert {(e.first, e.last) for e in own} == {steps}
        assert all(e.end > e.begin for e in own)
        assert all(a.end <= b.begin for a, b in itertools.pairwise(own)), "one thing at a time"
        for kind in ("forward", "backward"):
            done = [(e.layer, e.part) for e in own if e.kind == kind]
            assert set(done) == {(layer, part) for layer in layers for part in range(micro_batches)}
            order = list(dict.fromkeys(done))
            assert order == sorted(order, key=lambda w: (w[1], w[0]), reverse=kind == "backward")
        waits = {event.layer for event in own if event.kind == "wait"}
        assert ("the state of '3'" in waits) == (rank > 0)
        assert ("the gradient of the state of '3'" in waits) == (rank < 2)
        assert "the weights' gradients" in waits
    # the wavefront: a rank has waited for the state of a layer until the rank before was at that layer, or beyond
    for layer in ("1", "3", "5"):
        for rank in (1, 2):
            work = [e for e in events if (e.device, e.kind, e.layer) == (f"rank {rank - 1}", "forward", layer)]
            wait = [e for e in events if (e.device, e.layer) == (f"rank {rank}", f"the state of {layer!r}")]
            for part in range(micro_batches):
                begin = min(e.begin for e in work if e.part == part)
                assert max(e.end for e in wait if e.part == part) > begin


def test_alone_it_is_the_network_itself() -> None:
    with timesplit.ranks() as group:
        like_one_process([jobs.compare(group, jobs.residual, micro_batches=2)])


@pytest.mark.parametrize("parts", [1, 2, 3, 13])
@pytest.mark.parametrize("net", NETWORKS, ids=lambda make: make.__name__)
def test_in_one_process_over_several_devices(net, parts) -> None:
    x, y = jobs.data(13)
    one, many = jobs.seeded(net), jobs.seeded(net)
    expected, found = one(x), timesplit.on_devices(many, x, ["cpu"] * parts)
    jobs.rate(expected, y).backward()
    jobs.rate(found, y).backward()
    assert jobs.apart(found, expected) < EXACT
    assert max(jobs.apart(p.grad, q.grad) for p, q in zip(many.parameters(), one.parameters(), strict=True)) < EXACT


def test_what_cannot_run_on_several_devices() -> None:
    x, _ = jobs.data(3)
    with pytest.raises(ValueError, match=r"between 1 and the 3 time steps of x, but got 4\.$"):
        timesplit.on_devices(jobs.seeded(jobs.mlp), x, ["cpu"] * 4)
    with pytest.raises(ValueError, match=r"'0\.2' is a BatchNorm in training mode"):
        timesplit.on_devices(jobs.seeded(jobs.normed), x, ["cpu"])


def test_without_a_group_it_says_how_to_get_one() -> None:
    with pytest.raises(
        RuntimeError, match=r"start the script with torchrun, and work within `with timesplit\.ranks\(\):`"
    ):
        timesplit.TimeSplit(nn.Linear(2, 2))


@pytest.mark.slow
def test_hundreds_of_steps_of_random_sizes(three) -> None:
    of_ranks = three.run(jobs.soak, 300)
    for found in of_ranks:
        differences, memory = zip(*found, strict=True)
        assert len(found) == 300
        assert max(differences) < EXACT
        assert memory[-1] - memory[100] < 8, "megabytes that 200 steps have added to the highest use"


@pytest.mark.gpu
def test_on_a_gpu_that_several_processes_share(three) -> None:
    """gloo: CUDA tensors go over the host's memory."""
    for net in (jobs.mlp, jobs.conv, jobs.normed):
        like_one_process(three.run(jobs.compare, net, given=("auto",), device="cuda"), 1e-9)


@pytest.mark.gpu
def test_over_all_gpus_with_nccl() -> None:
    if (count := torch.cuda.device_count()) < 2:
        pytest.skip(f"needs two GPUs; here: {count}. Time splitting over NCCL is untested until it has run")
    with timesplit.Crew(count, timeout=60) as crew:
        like_one_process(
            crew.run(jobs.compare, jobs.conv, steps=16, dtype="float32", given=("auto",), device="cuda"), 1e-4
        )
    net, (x, _) = jobs.seeded(jobs.mlp, "auto").cuda(), jobs.data(16)
    places = [f"cuda:{k}" for k in range(count)]
    assert jobs.apart(timesplit.on_devices(net, x.cuda(), places), net(x.cuda())) < 1e-9
