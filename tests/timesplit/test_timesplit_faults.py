"""What goes wrong in one rank ends on every rank, with one clear sentence and within a stated time; nothing stays behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests import split_faults as faults
from tests import split_jobs as jobs
from tfexplore.timesplit import Crew, RankError, Ranks, TimeSplit, ranks
from tfexplore.timesplit.crew import GRACE

TIMEOUT = 4.0
AT_ONCE = 10.0  # seconds on a busy machine (some hundredths on a quiet one); the group that must not wait has a minute


@pytest.fixture(scope="session")
def compiled(crews) -> None:
    """No time is measured while a compiler runs."""
    with ranks() as alone:  # all ranks would compile the same kernels, at the same time
        jobs.compare(alone, jobs.mlp)
    crews(3, 60).run(jobs.compare, jobs.mlp)


@pytest.fixture
def crew(crews, compiled):
    """For errors that must be raised at once, not by the timeout."""
    return crews(3, 60)


@pytest.fixture
def hasty(crews, compiled):
    crews(3, 60).run(jobs.compare, jobs.mlp)  # loads the kernels, if these processes are new
    return crews(3, TIMEOUT)


def all_raised(found, kind: str, sentence: str) -> None:
    """Every rank has raised this, and soon."""
    for name, text, seconds in found:
        assert name == kind
        assert text == sentence
        assert seconds < AT_ONCE


def others_raised(found, kind: str, sentence: str, by: int = 1, end: str = "; all ranks stop.") -> None:
    """The rank that failed has raised its own error, all others that it failed."""
    all_raised(found[by : by + 1], kind, sentence)
    others = [own for rank, own in enumerate(found) if rank != by]
    all_raised(others, "RankError", f"rank {by} failed: {kind}: {sentence.rstrip('.') if end else sentence}{end}")


def test_an_exception_in_the_network(crew) -> None:
    for rank in range(3):
        found = crew.run(faults.step_with, "forward", rank)
        others_raised(found, "ArithmeticError", "a mistake in the network", rank)


@pytest.mark.parametrize(
    ("job", "mistake"), [("backward", "a mistake in the backward pass"), ("outside", "a mistake in the loss")]
)
def test_an_exception_that_leaves_the_group(crew, job, mistake) -> None:
    begin = time.monotonic()
    with pytest.raises(RankError) as caught:
        crew.run(*((faults.step_with, "backward") if job == "backward" else (faults.fails_outside,)))
    assert time.monotonic() - begin < AT_ONCE
    assert (caught.value.rank, str(caught.value)) == (1, f"rank 1 failed: ArithmeticError: {mistake}")
    assert "split_faults.py" in caught.value.__notes__[0], "where it happened"


def test_a_rank_that_is_killed(crew) -> None:
    """The caller learns which one; no process stays, and the next job starts new ones."""
    before = crew.pids
    begin = time.monotonic()
    with pytest.raises(RankError, match=r"^rank 1 was killed by SIGKILL in the middle of a job; all ranks stop\.$"):
        crew.run(faults.step_with, "killed")
    assert time.monotonic() - begin < AT_ONCE
    assert not any(alive(pid) for pid in before)
    assert len(set(crew.run(faults.pid)) - set(before)) == 3


def test_a_rank_that_hangs(hasty) -> None:
    before = hasty.pids
    begin = time.monotonic()
    with pytest.raises(RankError, match=r"^rank \d waited 4 s for .*; all ranks stop\.\n") as caught:
        hasty.run(faults.step_with, "hangs")
    assert TIMEOUT < time.monotonic() - begin < TIMEOUT + GRACE + AT_ONCE
    # on a busy machine another one may not have come to its answer either
    assert re.fullmatch(r"(rank 0 and )?rank 1( and rank 2)? did not respond\.", caught.value.__notes__[-1])
    assert caught.value.rank != 1
    assert not any(alive(pid) for pid in before)
    assert len(hasty.run(faults.pid)) == 3


def test_a_process_that_ends_before_it_has_begun(monkeypatch) -> None:
    crew = Crew(2)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(
        RankError,
        match=r"^the process that starts the ranks ended itself with exit status 1 before its first job; all ranks stop\.$",
    ):
        crew.start()
    assert crew.pids == []


@pytest.mark.parametrize(
    ("what", "odd"), [("batch", "float64 of shape [T, 4, 12]"), ("dtype", "float32 of shape [T, 6, 12]")]
)
def test_inputs_that_do_not_fit_together(crew, what, odd) -> None:
    how = "in training mode, trained parameters [0-9a-f]{8}"
    has = rf"rank 0 has float64 of shape \[T, 6, 12\], {how}, and rank 1 has {re.escape(odd)}, {how}"
    for name, text, seconds in crew.run(faults.other_inputs, what):
        assert (name, seconds < AT_ONCE) == ("ValueError", True)
        assert re.fullmatch(rf"the inputs of all ranks must differ in their time steps only, but {has}\.", text)


@pytest.mark.parametrize(
    ("what", "kind", "sentence"),
    [
        (
            "no steps",
            "ValueError",
            "x must have at least one time step on every rank; start fewer ranks, or see split.segment.",
        ),
        ("no tensor", "TypeError", "x must be a tensor [T, B, *features], but got list."),
        ("one axis", "ValueError", "x must be [T, B, *features], with time first, but got shape (4,)."),
    ],
)
def test_an_input_that_is_wrong_by_itself(crew, what, kind, sentence) -> None:
    others_raised(crew.run(faults.other_inputs, what), kind, sentence, end="")


@pytest.mark.parametrize(
    ("what", "usual", "odd"),
    [
        (
            "width",
            "'0.weight', (9, 12) of torch.float32, gradient True",
            "'0.weight', (11, 12) of torch.float32, gradient True",
        ),
        ("tau", "the layer '1', LIF(tau=2.0, ", "the layer '1', LIF(tau=3.0, "),
        ("neuron", "the layer '1', LIF(", "the layer '1', ALIF("),
        ("micro-batches", "1 micro-batches", "2 micro-batches"),
    ],
)
def test_networks_that_differ(crew, what, usual, odd) -> None:
    for rank, (name, text, seconds) in enumerate(crew.run(faults.other_networks, what)):
        own, other, place = (odd, usual, 0) if rank == 1 else (usual, odd, 1)
        assert (name, seconds < AT_ONCE) == ("ValueError", True)
        assert text.startswith(f"all ranks must have the same network, but rank {rank} has {own}")
        assert f", and rank {place} has {other}" in text


def test_more_ranks_than_time_steps(crew) -> None:
    sentence = "x must have at least one time step for each of the 3 ranks, but has 2; start fewer ranks."
    all_raised(crew.run(faults.too_few_steps), "ValueError", sentence)


ORDER = "the network must call its layers in the same order"
DATA = "whatever the data"
STATE = "of shape (1, 6, 24), torch.float64, gradient True; in the first pass it was (1, 6, 12), torch.float64, gradient True"


@pytest.mark.parametrize(
    ("before", "mood", "by", "sentence"),
    [
        (None, "turned", 1, f"is at 'b', but the rank before is elsewhere: {ORDER} on every rank, whatever the data."),
        (
            None,
            "one only",
            2,
            f"is at 'the end of the pass', but the rank before is elsewhere: {ORDER} on every rank, {DATA}.",
        ),
        ("usual", "turned", 0, f"called 'b', unlike in the first pass: {ORDER} every time, whatever the data."),
        (
            "usual",
            "one only",
            1,
            f"left out 'b', unlike in the first pass: {ORDER} every time, whatever the data.",
        ),
        (
            "usual",
            "wider",
            0,
            f"has a state of 'a' {STATE}. Inputs of the same kind must give states of the same kind.",
        ),
    ],
)
def test_states_that_do_not_match(crew, before, mood, by, sentence) -> None:
    others_raised(crew.run(faults.moods, before, mood, (by,)), "RuntimeError", f"rank {by} {sentence}", by)


def test_a_state_of_another_shape_in_the_first_pass(crew) -> None:
    """The layer itself refuses it: the state does not fit its current."""
    found = crew.run(faults.moods, None, "wider", (0,))
    sentence = "state 'v' must have x's shape without time, (6, 12), but got (6, 24)"
    sentence += "; begin anew with state=None (or a new carry) when the batch changes."
    others_raised(found, "ValueError", sentence)


@pytest.mark.parametrize(
    ("mood", "sentence"),
    [
        (
            "given a state",
            "net passes a LIF its state; in a time split the state comes from the rank before: call the layer without one.",
        ),
        (
            "mean",
            "net must return a tensor with time first, [T, B, ...]; reduce over time with split.mean or split.last.",
        ),
    ],
)
def test_networks_that_cannot_be_split(crew, mood, sentence) -> None:
    all_raised(crew.run(faults.moods, None, mood), "ValueError", sentence)


REFUSED = {
    "batch norm": "'0.2' is a BatchNorm in training mode: its mean and variance couple the whole batch, so micro-batches would "
    "compute something else; use micro_batches=1, or net.eval().",
    "norm of its own": "'0.0' is a Quarter with a forward of its own, which cannot be taken over all ranks; use torch's "
    "BatchNorm, or net.eval().",
    "few": "x has a batch of 4, fewer than the 5 micro-batches; use fewer.",
    "memory of its own": "'0' is torch's GRU, whose memory of the past would not cross the cuts; only this library's layers have "
    "theirs carried over.",
    "carry": "'1' is within a `carry`, which holds its states; time splitting needs them: leave the carry first.",
    "recorded": "'1' is being recorded, which takes one pass at a time; use micro_batches=1.",
    "many axes": "x must have at most 8 axes in a time split, but got 9; flatten some.",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_before_anything_is_sent(crew, what) -> None:
    """On all ranks alike; the group is as it was (the job goes on with it)."""
    all_raised(crew.run(faults.refused, what), "ValueError", REFUSED[what])


def test_an_output_of_another_pass(crew) -> None:
    for rank, (name, text, _) in enumerate(crew.run(faults.refused, "other length")):
        assert name == "ValueError"
        assert text.startswith(
            f"out must be what this rank's last pass gave, with {5 if rank == 0 else 4} time steps, but got "
        )


def test_activation_checkpointing_is_refused(crew) -> None:
    """It would run a layer again from a state that is gone: silently something else."""
    found = crew.run(faults.checkpointing)
    sentence = (
        "a layer runs again during the backward pass (activation checkpointing), when its state is gone; time splitting"
    )
    sentence += " saves memory itself: use more ranks, or keep='bits'."
    others_raised(found, "RuntimeError", sentence, by=2)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"^size must be a whole number from 1 on, but got 0\.$"):
        Crew(0)
    with pytest.raises(ValueError, match=r"^timeout must be seconds greater than 0, but got 0\.$"), ranks(timeout=0):
        pass
    with pytest.raises(RuntimeError, match=r"^there is no group of processes yet: start the script with torchrun"):
        Ranks()
    with ranks() as alone:
        with pytest.raises(ValueError, match=r"^micro_batches must be a whole number from 1 on, but got 0\.$"):
            TimeSplit(torch.nn.Linear(2, 2), micro_batches=0)
        mesh = torch.distributed.init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "time"))
        with pytest.raises(
            ValueError,
            match=r"^ranks must be a mesh of one dimension, but got 2; name the one of time, like mesh\['time'\]\.$",
        ):
            TimeSplit(torch.nn.Linear(2, 2), ranks=mesh)
        assert (alone.first, alone.last) == (True, True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def soon(true) -> bool:
    until = time.monotonic() + AT_ONCE
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


OWNER = """
import time
from tests import split_faults as faults
from tfexplore.timesplit import Crew
crew = Crew(2)
print(*crew.run(faults.pid), flush=True)
{then}
"""


@pytest.mark.parametrize(
    "then", ["time.sleep(600)", "crew.run(faults.sleep, 600)", "pass"], ids=["idle", "at work", "forgotten"]
)
def test_no_process_outlives_the_one_that_started_it(python, then) -> None:
    """However it ends: killed while the processes are idle or at work, or by itself without a word to them."""
    script = OWNER.format(then=then)
    with subprocess.Popen([python, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        pids: list[int] = []
        try:
            assert owner.stdout is not None
            pids += map(int, owner.stdout.readline().split())
            assert len(pids) == 2
            if then != "pass":
                assert all(alive(pid) for pid in pids)
                owner.send_signal(signal.SIGKILL)
            owner.wait(60)
            assert soon(lambda: not any(alive(pid) for pid in pids))
        finally:  # what fails here must not live on in the next test
            owner.kill()
            for pid in filter(alive, pids):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every rank imports torch by itself")
def test_ranks_are_copies_of_one_process_and_draw_their_own_numbers(crew) -> None:
    parents, *drawn = zip(*crew.run(faults.copied), strict=True)
    assert set(parents) == {crew._workers.process.pid}
    assert all(len(set(numbers)) == 3 for numbers in drawn)


def test_large_jobs_and_results() -> None:
    with Crew(2, threads=1) as crew:
        for _ in range(3):  # what was sent does not stay in the store
            found = crew.run(lambda ranks, x: x + ranks.rank, torch.zeros(5_000_000))
            assert [float(x.max()) for x in found] == [0.0, 1.0]
        assert crew._workers is not None
        assert crew._workers.store.num_keys() < 40


def test_functions_of_a_script_and_what_they_print(capsys) -> None:
    here = sys.platform

    def cell(ranks, word):
        print(f"{word} from {ranks.rank} on {here}")
        return ranks.rank

    with Crew(2, threads=1) as crew:
        assert crew.run(cell, "hello") == [0, 1]
        pids = crew.pids
    assert capsys.readouterr().out == "".join(f"[rank {rank}] hello from {rank} on {here}\n" for rank in range(2))
    assert not any(alive(pid) for pid in pids)
    assert crew.pids == []
