"""The puzzles of notebook 06: what is expected, by another method, and the verdicts on answers that wait, send or end wrongly."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib.image", reason="pictures need matplotlib")

from tests import oracle
from tests.pictures import spread
from tfexplore import puzzles
from tfexplore.puzzles import ALL
from tfexplore.puzzles.split import weights


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of its own for each test."""
    monkeypatch.setattr(puzzles, "_verdicts", {})
    monkeypatch.setattr(puzzles, "_hints", {})


# -- pass the state over the cut -----------------------------------------------------------------------------------------


def layer_by_layer(x: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    """The spikes of every layer over all time steps, by the plain loop; no rounding decides whether a neuron fires."""
    found = []
    for weight in (None, *weights(widths)):
        current = torch.from_numpy(x if weight is None else x @ weight)
        s, _, h, _ = oracle.lif(current, torch.zeros(current.shape[1:], dtype=torch.float64), 4.0)
        assert (h - 1).abs().min() > 1e-6
        x = s.numpy()
        found.append(x)
    return found


def test_the_expected_spikes_are_those_of_a_plain_loop_in_one_piece() -> None:
    for case in ALL["split_forward"].cases():
        spikes = layer_by_layer(case.given["x"], case.given["widths"])
        np.testing.assert_array_equal(case.given["spikes"], spikes[-1])
        assert all(0.1 < s.mean() < 0.9 for s in spikes)
        assert all(len(part) for part in np.split(spikes[-1], np.cumsum(case.given["lengths"])[:-1]))


@pytest.mark.parametrize("forgotten", range(4))
@pytest.mark.parametrize("at", [1, 2])
def test_the_state_of_every_layer_at_every_cut_matters(forgotten: int, at: int) -> None:
    def forgets_one(rank, ranks, x, layers, send, receive):
        for k, layer in enumerate(layers):
            state = receive(rank - 1) if rank else None
            if len(layers) == 4 and k == forgotten and rank == at:
                state = np.zeros_like(state)
            x, state = layer(x, state)
            if rank + 1 < ranks:
                send(rank + 1, state)
        return x

    verdict = puzzles.check("split_forward", forgets_one)
    assert verdict.outcome == "wrong"
    assert f"spikes of rank {at} are not those of a run in one piece, the first at its t = " in verdict.sentence


def forward(before: Callable[..., Any], after: Callable[..., Any]) -> Callable[..., Any]:
    """An answer that is right but for how it gets a state, before a layer, and what it does with it after."""

    def answer(rank, ranks, x, layers, send, receive):
        for layer in layers:
            x, state = layer(x, before(rank, receive))
            after(rank, ranks, send, state)
        return x

    return answer


def takes(rank, receive):
    return receive(rank - 1) if rank else None


def passes(rank, ranks, send, state):
    if rank + 1 < ranks:
        send(rank + 1, state)


def only_one_layer(rank, ranks, x, layers, send, receive):
    x, state = layers[0](x, takes(rank, receive))
    passes(rank, ranks, send, state)
    return x


def both_at_once(rank, ranks, x, layers, send, receive):
    spikes = layers[0](x, None)
    passes(rank, ranks, send, spikes)
    return spikes


def step_by_step(rank, ranks, x, layers, send, receive):
    return np.concatenate([layers[0](x[t : t + 1], None)[0] for t in range(len(x))])


def another_layers_state(rank, ranks, x, layers, send, receive):
    state = None
    for layer in layers:
        x, state = layer(x, state)
    return x


def in_a_circle(rank, ranks, x, layers, send, receive):
    for layer in layers:
        state = receive((rank - 1) % ranks) if ranks > 1 else None
        x, state = layer(x, state)
        if ranks > 1:
            send((rank + 1) % ranks, state)
    return x


def sends_to_the_rank_before(rank, ranks, send, state):
    if rank:
        send(rank - 1, state)


def sends_on_and_on(rank, ranks, send, state):
    while rank + 1 < ranks:
        send(rank + 1, state)


@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (forward(lambda rank, receive: None, passes), "layer 0 on rank 1 began at rest; it must"),
        (forward(lambda rank, receive: receive(rank - 1), passes), "rank 0 receives from rank -1, but ranks run from 0 to 0."),
        (forward(lambda rank, receive: receive(rank), passes), "rank 0 receives from itself"),
        (forward(lambda rank, receive: receive(), passes), ""),
        (forward(takes, lambda rank, ranks, send, state: send(rank, state)), "rank 0 sends to itself; the state goes from each"),
        (forward(takes, lambda rank, ranks, send, state: send(rank + 1, state)), "rank 0 sends to rank 1, but ranks"),
        (forward(takes, lambda rank, ranks, send, state: send(state, rank + 1)), "rank 0 sends to 'ndarray'; give"),
        (forward(takes, lambda *_: None), "deadlock, nobody can go on: rank 1 waits for rank 0, which has ended."),
        (forward(takes, sends_to_the_rank_before), "deadlock, nobody can go on: rank 1 waits for rank 0, which has ended."),
        (forward(takes, lambda *given: (passes(*given), passes(*given))), "never received: messages from rank 0 to rank 1."),
        (forward(takes, sends_on_and_on), "rank 0 sends rank 1 more than 100 messages"),
        (in_a_circle, "deadlock, nobody can go on: rank 0 waits for rank 1, and rank 1 waits for rank 0."),
        (only_one_layer, "rank 0 should return spikes of shape (8, 4), but returned an array of shape (8, 6)."),
        (both_at_once, "rank 0 should return spikes of shape (8, 4), but returned a tuple."),
        (step_by_step, "layer 0 on rank 0 was given an x of shape (1, 6); it takes (8, 6), the whole segment."),
        (
            lambda rank, ranks, x, layers, send, receive: (layers[0](x, None), layers[0](x, None)),
            "layer 0 on rank 0 was run twice",
        ),
        (another_layers_state, "layer 1 on rank 0 was given a state of shape (6,); its own has shape (4,)."),
        (lambda rank, ranks, x, layers, send, receive: None, "`split_forward` returned None. Did you forget `return`?"),
    ],
)  # fmt: skip
def test_what_goes_wrong_between_ranks_is_reported(answer: Any, excerpt: str) -> None:
    verdict = puzzles.check("split_forward", answer)
    assert verdict.outcome == ("wrong" if excerpt else "crashed"), verdict
    assert excerpt in verdict.sentence
    assert spread(verdict.picture()) > 0.02


def test_a_deadlock_lists_messages_never_received() -> None:
    def skips_a_rank(rank, ranks, send, state):
        if rank + 1 < ranks:
            send((rank + 2) if rank + 2 < ranks else rank + 1, state)

    text = puzzles.check("split_forward", forward(takes, skips_a_rank)).sentence
    assert "rank 1 waits for rank 0, which has ended, and rank 2 waits for rank 1. " in text
    assert text.endswith("Never received: messages from rank 0 to rank 2.")


def test_the_serial_answer_has_right_spikes_and_late_slots() -> None:
    """L × P slots: each rank begins when the one before has ended; the other way to be serial takes as long."""

    def receives_first(rank, ranks, x, layers, send, receive):
        states = [takes(rank, receive) for _ in layers]
        for layer, state in zip(layers, states, strict=True):
            x, state = layer(x, state)
            passes(rank, ranks, send, state)
        return x

    ((remark, sends_last),) = ALL["split_forward"].slips.items()
    for answer in (sends_last, receives_first):
        verdict = puzzles.check("split_forward", answer)
        assert verdict.outcome == "wrong"
        assert verdict.case is not None
        assert verdict.case.name.startswith("3 ranks")
        np.testing.assert_array_equal(verdict.yours, np.arange(12).reshape(3, 4))
        np.testing.assert_array_equal(verdict.expected, [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]])
        text = str(verdict)
        assert "8 of 12 values differ, the first at rank = 1, layer = 0: time slot should be 1, but got 4." in text
        assert remark in text


def test_a_state_that_leaves_one_layer_late_costs_a_slot_per_rank() -> None:
    def one_late(rank, ranks, x, layers, send, receive):
        state = None
        for layer in layers:
            had = state
            x, state = layer(x, takes(rank, receive))
            if had is not None:
                passes(rank, ranks, send, had)
        passes(rank, ranks, send, state)
        return x

    verdict = puzzles.check("split_forward", one_late)
    assert verdict.outcome == "wrong"
    np.testing.assert_array_equal(verdict.yours, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]])


def test_ranks_may_talk_in_both_directions() -> None:
    """A rank that waits for a later one is started again; nothing is sent twice, and the times are those of one run."""
    runs: list[int] = []

    def with_thanks(rank, ranks, x, layers, send, receive):
        runs.append(rank)
        for layer in layers:
            state = takes(rank, receive)
            if rank:
                send(rank - 1, "thanks")
            x, state = layer(x, state)
            passes(rank, ranks, send, state)
            if rank + 1 < ranks:
                assert receive(rank + 1) == "thanks"
        return x

    verdict = puzzles.check("split_forward", with_thanks)
    assert verdict.right, verdict
    assert len(runs) > 1 + 2 + 3
    runs.clear()

    def right(rank, ranks, x, layers, send, receive):
        runs.append(rank)
        return crosses(rank, ranks, x, layers, send, receive)

    assert puzzles.check("split_forward", right).right
    assert runs == [0, 0, 1, 0, 1, 2], "without such messages every rank runs once, so that what it prints is seen once"


def test_what_was_sent_or_received_may_be_changed_afterwards() -> None:
    def overwrites(rank, ranks, x, layers, send, receive):
        for layer in layers:
            state = takes(rank, receive)
            x, left = layer(x, state)
            passes(rank, ranks, send, left)
            left += 7
            if state is not None:
                state += 7
        return x

    assert puzzles.check("split_forward", overwrites).right


def test_a_rank_that_catches_everything_still_waits() -> None:
    def catches(rank, ranks, x, layers, send, receive):
        if ranks == 1:
            return crosses(rank, ranks, x, layers, send, receive)
        try:
            if rank + 1 < ranks:
                receive(rank + 1)
        except:  # noqa: E722
            try:  # noqa: SIM105
                layers[0](x, None)
            except:  # noqa: E722
                pass
        return x

    text = str(puzzles.check("split_forward", catches))
    assert "deadlock, nobody can go on: rank 0 waits for rank 1, which has ended." in text


def crashes_on_the_last(rank, ranks, x, layers, send, receive):
    for layer in layers:
        x, state = layer(x, takes(rank, receive))
        passes(rank, ranks, send, state / (ranks - rank - 1 or "nobody"))
    return x


def loops_on_the_last(rank, ranks, x, layers, send, receive):
    while rank == 1:
        pass
    return crosses(rank, ranks, x, layers, send, receive)


crosses = forward(takes, passes)


def test_errors_and_endless_loops_of_any_rank_are_quoted() -> None:
    verdict = puzzles.check("split_forward", crashes_on_the_last)
    assert verdict.outcome == "crashed"
    assert 'at the line `passes(rank, ranks, send, state / (ranks - rank - 1 or "nobody"))`' in str(verdict)
    verdict = puzzles.check("split_forward", loops_on_the_last, seconds=1.0)
    assert verdict.outcome == "not finished"
    assert "with 2 ranks and 1 layer" in str(verdict)
    assert any(f"at the line `{line}`" in str(verdict) for line in ("while rank == 1:", "pass"))


# -- the best number of devices ------------------------------------------------------------------------------------------


def exact_time(serial: float, communication: float, ranks: int) -> Fraction:
    return Fraction(serial) / ranks + (ranks - 1) * Fraction(communication)


def test_the_best_number_is_that_of_all_numbers_tried_exactly() -> None:
    for case in ALL["best_ranks"].cases():
        serial, most = case.given["serial"], case.given["most"]
        for communication, best in zip(case.given["communication"], case.expected, strict=True):
            times = sorted((exact_time(serial, communication, ranks), ranks) for ranks in range(1, most + 1))
            assert times[0][1] == best
            assert times[1][0] > times[0][0] * (1 + Fraction(1, 10**5)), "no rounding may decide which is less"
    clipped = ALL["best_ranks"].cases()[-1]
    assert {1, clipped.given["most"]} <= set(clipped.expected)


def test_the_rule_is_as_good_as_trying_all() -> None:
    rng = np.random.default_rng(8)
    answer = ALL["best_ranks"].answer()
    for most in rng.integers(1, 60, 300).tolist():
        serial, communication = (float(10 ** rng.uniform(*ends)) for ends in ((-1, 3), (-3, 2)))
        least = min(exact_time(serial, communication, ranks) for ranks in range(1, most + 1))
        best = answer(serial, communication, most)
        assert float(exact_time(serial, communication, best)) == pytest.approx(float(least), rel=1e-12)


def test_trying_all_numbers_is_an_answer_too() -> None:
    def tries(serial, communication, most):
        return min(range(1, most + 1), key=lambda ranks: serial / ranks + (ranks - 1) * communication)

    assert puzzles.check("best_ranks", tries).right


# -- spot the deadlock ---------------------------------------------------------------------------------------------------


def endings(programs: list[list[tuple[str, int]]]) -> set[tuple[bool, ...]]:
    """The ranks that may be stuck in the end, for every order in which messages can go over: all of them are walked."""
    seen, found = set(), set()

    def walk(at: tuple[int, ...]) -> None:
        if at in seen:
            return
        seen.add(at)
        now = [program[k] if k < len(program) else None for program, k in zip(programs, at, strict=True)]
        both = permutations(range(len(now)), 2)
        pairs = [(a, b) for a, b in both if (now[a], now[b]) == (("send", b), ("receive", a))]
        for pair in pairs:
            walk(tuple(k + (rank in pair) for rank, k in enumerate(at)))
        if not pairs:
            found.add(tuple(step is not None for step in now))

    walk((0,) * len(programs))
    return found


def test_the_same_ranks_are_stuck_in_whatever_order_messages_go_over() -> None:
    cases = ALL["stuck_ranks"].cases()
    for case in cases:
        assert endings(case.given["programs"]) == {tuple(map(bool, case.expected))}, case.name
    assert {sum(case.expected) == len(case.expected) for case in cases} == {True, False}
    assert any(0 < sum(case.expected) < len(case.expected) for case in cases)


def test_the_solution_agrees_with_every_order_on_random_programs() -> None:
    draw, answer, kinds = random.Random(3), ALL["stuck_ranks"].answer(), set()
    for _ in range(300):
        ranks = draw.randint(1, 5)
        programs: list[list[tuple[str, int]]] = [[] for _ in range(ranks)]
        for _ in range(draw.randint(0, 6)):  # messages; most are sent and received in an order that works
            a, b = draw.randrange(ranks), draw.randrange(ranks)
            programs[a].append(("send", b))
            programs[b].append(("receive", a))
        if draw.random() < 0.6:
            draw.shuffle(programs[draw.randrange(ranks)])
        found = tuple(answer(programs))
        assert endings(programs) == {found}
        kinds.add((any(found), all(found)))
    assert kinds == {(False, False), (True, False), (True, True)}


def test_programs_may_be_used_up() -> None:
    """Each case gives the lists anew, so that an answer may take steps off them."""

    def eats(programs):
        for _ in range(20):
            for rank, steps in enumerate(programs):
                if steps and steps[0][0] == "send" and programs[steps[0][1]][:1] == [("receive", rank)]:
                    programs[steps.pop(0)[1]].pop(0)
        return [bool(steps) for steps in programs]

    assert puzzles.check("stuck_ranks", eats).right
    assert puzzles.check("stuck_ranks", eats).right
