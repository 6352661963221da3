"""The puzzles: solutions pass, stubs do not, waste is separated from right, and bad answers are answered helpfully."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib.image", reason="pictures need matplotlib")

from tests import oracle
from tests.pictures import spread
from tfexplore import puzzles
from tfexplore.puzzles import ALL, sandbox
from tfexplore.puzzles.counted_memory import Memory
from tfexplore.puzzles.puzzle import digits

BUDGETED = [name for name, puzzle in ALL.items() if any(case.budget is not None for case in puzzle.cases())]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of its own for each test."""
    monkeypatch.setattr(puzzles, "_verdicts", {})
    monkeypatch.setattr(puzzles, "_hints", {})


# -- every puzzle ------------------------------------------------------------------------------------------------------


def test_there_are_puzzles_for_every_notebook() -> None:
    assert len({puzzle.notebook for puzzle in ALL.values()}) == 10
    assert len({puzzle.title for puzzle in ALL.values()}) == len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_solution_passes_within_its_budget(name: str) -> None:
    verdict = puzzles.check(name, ALL[name].answer())
    assert verdict.outcome == "right", verdict
    assert puzzles.passed(name)
    assert ("budget" in verdict.sentence) == (name in BUDGETED)
    if name in BUDGETED:
        assert sum(verdict.traffic.values()) == verdict.case.budget, "the budget is what is needed, and no more"
    assert spread(verdict.picture()) > 0.05


@pytest.mark.parametrize("name", ALL)
def test_a_stub_counts_as_not_written(name: str) -> None:
    def stub(*_: Any, **__: Any) -> None:
        raise NotImplementedError  # your turn

    verdict = puzzles.check(name, stub)
    assert verdict.outcome == "not yet"
    assert f"`{name}` is not written yet" in str(verdict)
    assert not puzzles.passed(name)
    assert spread(verdict.picture()) > 0.05
    assert "what is expected" in verdict.describe()


@pytest.mark.parametrize(("name", "remark"), [(name, remark) for name in ALL for remark in ALL[name].slips])
def test_common_mistakes_are_recognised(name: str, remark: str) -> None:
    verdict = puzzles.check(name, ALL[name].slips[remark])
    assert verdict.outcome == "wrong"
    assert remark in verdict.sentence
    assert verdict.differs is not None
    assert verdict.differs.any()
    assert spread(verdict.picture()) > 0.05


@pytest.mark.parametrize("name", ALL)
def test_texts_are_whole(name: str) -> None:
    puzzle = ALL[name]
    assert puzzle.source.count("### BEGIN SOLUTION") == puzzle.source.count("### END SOLUTION") == 1
    assert puzzle.solution.__doc__
    assert 2 <= len(puzzle.hints) <= 4
    for argument in inspect.signature(puzzle.solution).parameters:
        words = puzzle.text + (puzzle.solution.__doc__ or "")
        assert f"`{argument}`" in words or f"{argument} " in words or argument in ("v_threshold", "tau"), argument
    for text in (puzzle.text, *puzzle.hints, *puzzle.slips):
        assert "parallel" not in text
        assert text.count("`") % 2 == 0
    assert ("**Traffic budget:**" in puzzle.markdown()) == (name in BUDGETED)
    assert "###" not in puzzles.solution(name)


# -- what is expected, by another method -----------------------------------------------------------------------------------


def through(x: np.ndarray, tau: float, threshold: float, g: np.ndarray | None = None) -> list[np.ndarray]:
    """Spikes, potentials, and the gradient of x for g at the spikes: the plain loop of tests/oracle.py, by autograd."""
    current = torch.from_numpy(x).double().requires_grad_()
    s, _, h, _ = oracle.lif(
        current, torch.zeros(x.shape[1:], dtype=torch.float64), tau, v_threshold=threshold, alpha=2.0
    )
    s.backward(torch.zeros_like(s) if g is None else torch.from_numpy(g).double())
    assert current.grad is not None
    return [s.detach().numpy(), h.detach().numpy(), current.grad.numpy()]


@pytest.mark.parametrize("name", ["one_thread", "fuse_the_loop"])
def test_expected_spikes_are_those_of_a_plain_loop(name: str) -> None:
    for case in ALL[name].cases():
        s, h, _ = through(case.given["x"], case.given["tau"], case.given["v_threshold"])
        np.testing.assert_array_equal(case.expected, s)
        assert 0.1 < s.mean() < 0.9
        assert np.abs(h - case.given["v_threshold"]).min() > 1e-4, "no rounding may decide whether a neuron fires"


def test_expected_spikes_of_the_whole_recording() -> None:
    for case in ALL["carry_the_state"].cases():
        s, h, _ = through(case.given["x"], 4.0, 1.0)
        np.testing.assert_array_equal(case.expected, s)
        assert np.abs(h - 1).min() > 1e-6


@pytest.mark.parametrize("name", ["recompute"])
def test_expected_gradients_are_those_of_a_plain_loop(name: str) -> None:
    for case in ALL[name].cases():
        _, h, g_x = through(case.given["x"], case.given["tau"], case.given["v_threshold"], case.given["g_s"])
        np.testing.assert_allclose(case.expected, g_x, rtol=1e-6, atol=1e-9)
        assert np.abs(h - case.given["v_threshold"]).min() > 1e-5
    for case in ALL["whole_backward"].cases():  # the gradient of h, by a hand-written backward pass
        given, g_v = case.given, 0.0
        for t in reversed(range(len(given["h"]))):
            u = given["h"][t].astype(float) - given["v_threshold"]
            g_h = given["g_s"][t] / (1 + (np.pi * u) ** 2) + g_v
            np.testing.assert_allclose(case.expected[t], g_h, rtol=1e-4, atol=1e-6)
            g_v = g_h * (1 - 1 / given["tau"])


def test_bits_decide_nothing_by_rounding() -> None:
    for case in ALL["keep_bits"].cases():
        u, width = case.given["u"], case.given["width"]
        assert np.abs(np.abs(u) - width / 2).min() > 1e-5
        np.testing.assert_allclose(case.expected, case.given["g_s"] * (np.abs(u) < width / 2) / width, rtol=1e-6)


def test_budgets_follow_from_the_equations() -> None:
    budgets = {name: float(ALL[name].cases()[-1].budget or 0) for name in BUDGETED}
    assert budgets == {
        "walk_the_grid": 2.25,  # x, spikes, and the states of 3 launches of 8 steps, read and written
        "carry_the_state": 2.25,  # x, spikes, and the state of every 8 steps, read and written
        "one_thread": 2,
        "fuse_the_loop": 2,
        "whole_backward": 3,  # h and g_s read, g_x written
        "recompute": 3 + 1 / 32,  # x and g_s read, g_x written, a state for 32 steps
        "keep_two_bits": 4 + 4 / 32,  # c and g_s read, s and g_c written, two bits of each state written and read
        "keep_bits": 3 + 2 / 32,  # u and g_s read, g_u written, a bit written and read
        "pack_eight": 1 + 1 / 32,  # spikes read, a bit of each written
        "read_bit": 1 / 4,  # a byte of each neuron
    }


# -- right, but too much traffic -----------------------------------------------------------------------------------------


def step_by_step(layers, steps, feedback, cell):
    for t in range(steps):
        for layer in range(layers):
            cell(layer, t)


def from_the_start_each_time(layer, chunks):
    parts = []
    for k, x in enumerate(chunks):
        spikes, _ = layer(np.concatenate(chunks[: k + 1]), None)
        parts.append(spikes[-len(x) :])
    return np.concatenate(parts)


def reads_twice(i, T, N, x, out, tau, v_threshold):
    v = 0.0
    for t in range(T):
        out[t * N + i] = float(v - v / tau + x[t * N + i] >= v_threshold)
        v = v - v / tau + x[t * N + i] - out[t * N + i] * v_threshold


def potential_in_memory(x, h, out, tau, v_threshold):
    v = np.zeros(x.shape[1])
    for t in range(len(x)):
        h[t] = v - v / tau + x[t]
        out[t] = np.where(h[t] >= v_threshold, 1.0, 0.0)
        v = h[t] - out[t] * v_threshold


def two_passes(x, h, out, tau, v_threshold):
    charged, v = [], np.zeros(x.shape[1])
    for row in x:
        charged.append(v - v / tau + row)
        v = charged[-1] - (charged[-1] >= v_threshold) * v_threshold
    for t in range(len(x)):
        out[t] = charged[t] >= v_threshold


def reads_its_gradient_back(h, g_s, g_x, tau, v_threshold, slope):
    for t in reversed(range(len(h))):
        later = g_x[t + 1] * (1 - 1 / tau) if t + 1 < len(h) else 0.0
        g_x[t] = g_s[t] * slope(h[t] - v_threshold) + later


def stores_potentials(x, v, g_s, g_x, g_v, tau, v_threshold, slope):
    v = v + 0.0
    for t in range(len(x)):
        h = v - v / tau + x[t]
        g_x[t] = h
        v = np.where(h >= v_threshold, h - v_threshold, h)
    for t in reversed(range(len(x))):
        g_h = g_s[t] * slope(g_x[t] - v_threshold) + g_v
        g_x[t] = g_h
        g_v = g_h * (1 - 1 / tau)
    return g_v


def walks_anew_for_every_step(x, v, g_s, g_x, g_v, tau, v_threshold, slope):
    for last in reversed(range(len(x))):
        now = v + 0.0
        for t in range(last + 1):
            h = now - now / tau + x[t]
            now = np.where(h >= v_threshold, h - v_threshold, h)
        g_h = g_s[last] * slope(h - v_threshold) + g_v
        g_x[last] = g_h
        g_v = g_h * (1 - 1 / tau)
    return g_v


def a_byte_for_a_bit(u, kept, g_s, g_u, width):
    for t in range(len(u)):
        kept[t] = np.abs(u[t]) < width / 2
    for t in range(len(u)):
        g_u[t] = g_s[t] * kept[t] / width


def deletes_in_the_end(x, h, out, tau, v_threshold):
    currents, v = [row + 0.0 for row in x], np.zeros(x.shape[1])
    for t in range(len(x)):
        v = v - v / tau + currents[t]
        out[t] = v >= v_threshold
        v = v - (v >= v_threshold) * v_threshold
    del currents


def deletes_without_a_call_between(x, h, out, tau, v_threshold):
    charged, v, t = np.zeros(x.shape), np.zeros(x.shape[1]), 0
    for row in x:
        charged[t] = v - v / tau + row
        v = charged[t] - (charged[t] >= v_threshold) * v_threshold
        t += 1
    while t:
        t -= 1
        out[t] = charged[t] >= v_threshold
    del charged


def two_passes_by_pop(x, h, out, tau, v_threshold):
    c, v = [], np.zeros(x.shape[1])
    for row in x:
        c.append(v - v / tau + row)
        v = c[-1] - (c[-1] >= v_threshold) * v_threshold
    t = x.shape[0]
    while c:
        t -= 1
        out[t] = c.pop() >= v_threshold


def reads_the_state_twice(c, kept, s, g_s, g_c):
    size = c.shape[1] // 8
    for t in range(len(c)):
        kept[t, :size] = np.packbits(c[t] >= 0.5)
        row = c[t]
        kept[t, size : 2 * size] = np.packbits((row >= 0) & (row <= 1))
    for t in range(len(c)):
        s[t] = np.unpackbits(kept[t, :size])
        g_c[t] = g_s[t] * np.unpackbits(kept[t, size : 2 * size])


def adds_to_the_byte(s, packed):
    for t in range(8):
        packed[:] = packed[:] * 2 + s[t].astype(np.uint8)


def unpacks_everything(packed, t):
    return np.unpackbits(packed[:], axis=0)[t]


WASTEFUL = [
    ("walk_the_grid", step_by_step, 4, "state read 1"),
    ("carry_the_state", from_the_start_each_time, 5.25, "x read 2.5"),
    ("one_thread", reads_twice, 4, "x read 2"),
    ("fuse_the_loop", potential_in_memory, 6, "h read 2"),
    ("fuse_the_loop", two_passes, 4, "Your own `charged` holds 768 words"),
    ("whole_backward", reads_its_gradient_back, 3 + 31 / 32, "g_x read 0.96875"),
    ("recompute", stores_potentials, 5 + 1 / 32, "g_x written 2"),
    ("recompute", walks_anew_for_every_step, 2 + 33 / 2 + 1 / 32, "x read 16.5"),
    ("keep_bits", a_byte_for_a_bit, 3.5, "kept written 0.25"),
    ("keep_two_bits", reads_the_state_twice, 5 + 4 / 32, "c read 2"),
    ("pack_eight", adds_to_the_byte, 1.5, "packed read 0.25"),
    ("read_bit", unpacks_everything, 0.75, "packed read 0.75"),
    ("fuse_the_loop", deletes_in_the_end, 4, "Your own `currents` holds 768 words"),
    ("fuse_the_loop", deletes_without_a_call_between, 4, "Your own `charged` holds 768 words"),
    ("fuse_the_loop", two_passes_by_pop, 4, "Your own `c` holds 768 words"),
]


@pytest.mark.parametrize(("name", "answer", "words", "excerpt"), WASTEFUL)
def test_right_but_too_much_traffic(name: str, answer: Any, words: float, excerpt: str) -> None:
    verdict = puzzles.check(name, answer)
    assert verdict.outcome == "too much traffic", verdict
    assert float(sum(verdict.traffic.values())) == pytest.approx(words)
    assert excerpt in verdict.sentence
    assert not puzzles.passed(name)
    assert spread(verdict.picture()) > 0.05


def test_a_row_that_is_given_is_loaded_once() -> None:
    """The natural way to write it: v is named twice before the loop gives it another value."""

    def natural(x, v, g_s, g_x, g_v, tau, v_threshold, slope):
        distance = []
        for t in range(len(x)):
            h = v - v / tau + x[t]
            distance.append(h - v_threshold)
            v = h - (h >= v_threshold) * v_threshold
        for t in reversed(range(len(x))):
            g_h = g_s[t] * slope(distance[t]) + g_v
            g_x[t] = g_h
            g_v = g_h * (1 - 1 / tau)
        return g_v

    verdict = puzzles.check("recompute", natural)
    assert verdict.right, verdict.sentence
    assert float(sum(verdict.traffic.values())) == 3 + 1 / 32


def at_once(u, kept, g_s, g_u, width):
    g_u[:] = np.where(np.abs(u) < width / 2, g_s / width, 0)


def keeps_it_to_itself(u, kept, g_s, g_u, width):
    inside = [np.abs(row) < width / 2 for row in u]
    for t in range(len(u)):
        g_u[t] = g_s[t] * inside[t] / width


def never_reads_it(u, kept, g_s, g_u, width):
    for t in range(len(u)):
        inside = np.abs(u[t]) < width / 2
        kept[t, : u.shape[1] // 8] = np.packbits(inside)
        g_u[t] = g_s[t] * inside / width


@pytest.mark.parametrize("answer", [at_once, keeps_it_to_itself, never_reads_it])
def test_the_bits_must_go_through_what_is_kept(answer: Any) -> None:
    verdict = puzzles.check("keep_bits", answer)
    assert verdict.outcome == "wrong"
    assert "the answers did not go through `kept`. In the backward pass `u` is gone" in verdict.sentence


def test_the_two_bits_must_go_through_what_is_kept() -> None:
    def at_once(c, kept, s, g_s, g_c):
        row = np.array(c)
        s[:] = row >= 0.5
        g_c[:] = np.where((row >= 0) & (row <= 1), g_s, 0)

    verdict = puzzles.check("keep_two_bits", at_once)
    assert verdict.outcome == "wrong"
    assert "the answers did not go through `kept`. In the backward pass `c` is gone" in verdict.sentence


def test_the_states_of_all_steps_are_not_there_for_alphas_gradient() -> None:
    def stores(backwards, alpha):
        c, total, before = 0.0, 0.0, None
        for f, g in reversed(list(backwards)):
            total = total + (0.0 if before is None else np.sum(g * before))
            before = c = f + alpha * c
        return total

    verdict = puzzles.check("alpha_gradient", stores)
    assert verdict.outcome == "wrong"
    assert "was used when the walk had gone on" in verdict.sentence


def test_the_chunks_are_not_there_all_at_once() -> None:
    verdict = puzzles.check("carry_the_state", lambda layer, chunks: layer(np.concatenate(chunks), None)[0])
    assert verdict.outcome == "wrong"
    assert (
        "layer was given 32 time steps at first, but the first chunk has 1: the others are not there yet"
        in verdict.sentence
    )


def test_every_budget_has_a_wasteful_answer() -> None:
    assert {name for name, *_ in WASTEFUL} == set(BUDGETED)


def test_scalar_loops_are_welcome() -> None:
    def scalars(x, h, out, tau, v_threshold):
        for i in range(x.shape[1]):
            v = 0.0
            for t in range(x.shape[0]):
                v = v - v / tau + x[t, i]
                s = 1.0 if v >= v_threshold else 0.0
                out[t, i] = s
                v -= s * v_threshold

    assert puzzles.check("fuse_the_loop", scalars).right

    def bit_by_bit(u, kept, g_s, g_u, width):
        for t in range(u.shape[0]):
            for first in range(0, u.shape[1], 8):
                bits = 0
                for k in range(8):
                    bits |= int(abs(u[t, first + k]) < width / 2) << k
                kept[t, first // 8] = bits
        for t in range(u.shape[0]):
            for first in range(0, u.shape[1], 8):
                bits = int(kept[t, first // 8])
                for k in range(8):
                    g_u[t, first + k] = g_s[t, first + k] * ((bits >> k) & 1) / width

    assert puzzles.check("keep_bits", bit_by_bit).right


# -- wrong, crashed, not finished ----------------------------------------------------------------------------------------


def test_a_wrong_answer_names_the_place() -> None:
    verdict = puzzles.check("fire", lambda h, v_threshold: np.where(h > v_threshold, 1, 0))
    assert verdict.sentence.startswith(
        "Wrong, with eight neurons at once, one exactly at the threshold: 1 of 8 values differs, at i = 4: "
        "spike s should be 1, but got 0."
    )
    assert verdict.differs is not None
    assert np.argwhere(verdict.differs).tolist() == [[4]]

    def backwards(h, g_s, g_x, tau, v_threshold, slope):
        for t in range(len(h)):
            g_x[t] = 0

    assert "the first in the backward pass at t = 3, i = 0" in str(puzzles.check("whole_backward", backwards))

    def lazy(x, h, out, tau, v_threshold):
        out[0] = 0

    assert "at t = 1, i = 0: spike s should be 1, but it was never written" in str(puzzles.check("fuse_the_loop", lazy))


def forgot(v, x, tau):
    h = v - v / tau + x  # noqa: F841


def not_numbers(v, x, tau):
    return "h"


def tuple_of_two(v, x, tau):
    return v, x


def one_for_all(v, x, tau):
    return float(np.mean(v - v / tau + x))


@pytest.mark.parametrize(
    ("name", "answer", "outcome", "excerpt"),
    [
        ("charge", forgot, "wrong", "`charge` returned None. Did you forget `return`?"),
        ("charge", not_numbers, "wrong", "returned a str that cannot be read as one number"),
        ("charge", tuple_of_two, "wrong", "should return one number, but returned a tuple of 2 values; is there a comma"),
        ("charge", one_for_all, "wrong", "should return an array of shape (9,), but returned one number"),
        ("charge", lambda v, x: v, "crashed", "must take (v, x, tau), as in the line it began with, but takes (v, x)"),
        ("charge", 3, "crashed", 'wants the function itself, as in `puzzles.check("charge", charge)`, but got int'),
        ("backward_step", lambda g_s, g_v, slope, tau: g_s, "wrong", "return two values, separated by a comma"),
        ("carry_the_state", lambda layer, chunks: layer(chunks), "wrong", "current of shape (1, 32, 6)"),
        ("carry_the_state", lambda layer, chunks: [layer(x)[0] for x in chunks], "wrong", "shape (1, 32, 6)"),
        ("walk_the_grid", lambda layers, steps, feedback, cell: cell(layers, 0), "wrong", "no cell (layer 2, t 0)"),
        ("walk_the_grid", lambda layers, steps, feedback, cell: cell(0, 0), "wrong", "5 of 6 cells were never run, (layer 1"),
        ("walk_the_grid", lambda layers, steps, feedback, cell: cell(1, 0), "wrong", "before (layer 0, t 0), whose spikes"),
        ("walk_the_grid", lambda layers, steps, feedback, cell: [cell(0, 0), cell(0, 0)], "wrong", "was run twice"),
    ],
)  # fmt: skip
def test_answers_of_the_wrong_kind(name: str, answer: Any, outcome: str, excerpt: str) -> None:
    verdict = puzzles.check(name, answer)
    assert verdict.outcome == outcome
    assert excerpt in verdict.sentence
    assert spread(verdict.picture()) > 0.02


def test_the_layers_feedback_forbids_layer_by_layer() -> None:
    def layer_by_layer(layers, steps, feedback, cell):
        for layer in range(layers):
            for t in range(steps):
                cell(layer, t)

    verdict = puzzles.check("walk_the_grid", layer_by_layer)
    assert verdict.outcome == "wrong"
    assert "(layer 0, t 1) was run before (layer 1, t 0), whose fed-back spikes it needs" in str(verdict)


def divides_by_zero(h, v_threshold):
    return h / (v_threshold - v_threshold)


def decides_once(h, v_threshold):
    if h >= v_threshold:
        return 1
    return 0


def in_place(h, v_threshold):
    h -= v_threshold
    return h >= 0


def misspelt(h, v_threshold):
    return h >= threshold  # noqa: F821


def leaves(h, v_threshold):
    sys.exit(3)


def never_stops_calling(h, v_threshold):
    return never_stops_calling(h, v_threshold)


def too_far(h, v_threshold):
    return [h[k] for k in range(100)]


def raises_nothing_we_know(h, v_threshold):
    raise BaseException("even this")


@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (divides_by_zero, "ZeroDivisionError, at the line `return h / (v_threshold - v_threshold)`: float division by zero"),
        (decides_once, "`if`, `and` and `max()` decide for one number"),
        (in_place, "make a new value, as in `v = v - ...`"),
        (misspelt, "name 'threshold' is not defined. Is the name spelt as in the first line"),
        (leaves, "SystemExit, at the line `sys.exit(3)`"),
        (never_stops_calling, "The function calls itself without an end"),
        (too_far, "TypeError"),
        (raises_nothing_we_know, "even this"),
    ],
)  # fmt: skip
def test_crashes_are_reported_and_never_get_out(answer: Any, excerpt: str) -> None:
    verdict = puzzles.check("fire", answer)
    assert verdict.outcome == "crashed"
    assert verdict.sentence.startswith("Crashed, with ")
    assert excerpt in verdict.sentence
    assert spread(verdict.picture()) > 0.02


def test_inputs_in_memory_may_not_be_written() -> None:
    def overwrites(x, h, out, tau, v_threshold):
        x[0] = 0

    verdict = puzzles.check("fuse_the_loop", overwrites)
    assert verdict.outcome == "crashed"
    assert "at the line `x[0] = 0`: x is an input and must stay as it is" in verdict.sentence


def endless(v, x, tau):
    while True:
        pass


def endless_and_deaf(v, x, tau):
    while True:
        try:  # noqa: SIM105
            v = v - v / tau
        except Exception:  # noqa: BLE001
            pass


def endless_and_stone_deaf(v, x, tau):
    while True:
        try:
            while True:
                v = v - v / tau
        except:  # noqa: E722
            pass


def deaf_at_the_end(v, x, tau):
    try:
        while True:
            v = v - v / tau
    except:  # noqa: E722
        return v


def counts_on(v, x, tau):
    return [v for _ in itertools.count()] if v < 0 else sum(v for _ in itertools.count())


def sleeps(v, x, tau):
    while True:
        time.sleep(0.01)


def asleep(v, x, tau):
    while True:
        try:  # noqa: SIM105
            time.sleep(0.02)
        except:  # noqa: E722
            pass


def deletes(v, x, tau):
    """To delete one takes so long that it is stopped in the middle, where Python ignores the error and prints that."""

    class SlowToGo:
        def __del__(self) -> None:
            for _ in range(20_000):
                pass

    while True:
        SlowToGo()


ENDLESS = [endless, endless_and_deaf, endless_and_stone_deaf, deaf_at_the_end, counts_on, sleeps, asleep, deletes]


@pytest.mark.parametrize("answer", ENDLESS)
def test_what_does_not_end_is_ended(answer: Any) -> None:
    before, begin = set(threading.enumerate()), time.monotonic()
    verdict = puzzles.check("charge", answer, seconds=0.2)
    assert time.monotonic() - begin < 5
    assert verdict.outcome == "not finished"
    assert "still running when time was up, at the line `" in verdict.sentence
    assert verdict.sentence.split("at the line `")[1].split("`")[0] in inspect.getsource(answer)
    limit = time.monotonic() + 10
    while busy := [thread for thread in set(threading.enumerate()) - before if not waits_for_ever(thread)]:
        assert time.monotonic() < limit, f"{busy} goes on in the background"
        time.sleep(0.01)


def waits_for_ever(thread: threading.Thread) -> bool:
    """A thread that caught every error that should have ended it."""
    frame, seen = sys._current_frames().get(thread.ident or 0), []
    while frame is not None:
        seen.append(frame.f_code)
        frame = frame.f_back
    return sandbox.Asleep.__init__.__code__ in seen


def test_memory_is_not_touched_for_ever() -> None:
    def on_and_on(i, T, N, x, out, tau, v_threshold):
        while True:
            out[i] = x[i]

    verdict = puzzles.check("one_thread", on_and_on, seconds=60)
    assert verdict.outcome == "not finished"
    assert "it reads and writes memory on and on, at the line `out[i] = x[i]`" in verdict.sentence


def test_a_bad_answer_leaves_no_trace() -> None:
    profile, trace, switch = sys.getprofile(), sys.gettrace(), sys.getswitchinterval()

    def vandal(v, x, tau):
        sys.settrace(lambda *_: None)
        np.seterr(all="raise")
        while True:
            pass

    errors = np.geterr()
    puzzles.check("charge", vandal, seconds=0.1)
    assert (sys.getprofile(), sys.gettrace(), sys.getswitchinterval()) == (profile, trace, switch)
    assert np.geterr() == errors
    assert puzzles.check("charge", ALL["charge"].answer()).right


def test_warnings_of_an_answer_are_no_errors() -> None:
    def warned(v, x, tau):
        np.log(np.zeros(3) - 1)
        return v - v / tau + x

    assert puzzles.check("charge", warned).right


class Uncooperative:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("value", "excerpt"),
    [
        (10**400, "returned an int that cannot be read as one number"),
        ([10**400], "returned a list that cannot be read as one number"),
        (torch.ones((), requires_grad=True), "returned a Tensor that cannot be read as one number"),
        (Uncooperative(RuntimeError("no")), "returned an Uncooperative that cannot be read as one number"),
    ],
    ids=["too large", "a list", "needs its gradient", "raises"],
)
def test_no_error_of_reading_an_answer_gets_out(value: Any, excerpt: str) -> None:
    verdict = puzzles.check("charge", lambda v, x, tau: value)
    assert verdict.outcome == "wrong"
    assert excerpt in verdict.sentence


def test_an_answer_is_read_inside_the_sandbox() -> None:
    assert puzzles.check("charge", lambda v, x, tau: Uncooperative(SystemExit())).outcome == "crashed"
    memory = Memory(limit=3)
    row = memory.input("x", np.ones(4))
    verdict = puzzles.check("charge", lambda v, x, tau: row)  # TooManyAccesses when it is read
    assert verdict.outcome == "not finished"


def test_budgets_are_printed_exactly() -> None:
    for name in BUDGETED:
        for case in ALL[name].cases():
            assert float(digits(case.budget)) == case.budget


def test_tensors_and_lists_are_answers_too() -> None:
    assert puzzles.check("soft_reset", lambda h, s, v_threshold: torch.as_tensor(np.array(h - s * v_threshold))).right
    assert puzzles.check("spike_count", lambda s: np.argmax(s.sum(0), 1).tolist()).right


# -- hints, score, display -----------------------------------------------------------------------------------------------


def test_hints_come_one_by_one() -> None:
    hints = [puzzles.hint("charge") for _ in range(4)]
    assert [hint[:11] for hint in hints] == ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "Hint 3 of 3"]
    assert 'print(puzzles.solution("charge"))' in hints[-1]
    assert repr(hints[0]) == hints[0]._repr_markdown_() == str(hints[0])


def test_names_are_checked() -> None:
    for call in (lambda: puzzles.check("chrge", None), lambda: puzzles.hint("chrge"), lambda: puzzles.passed("chrge")):
        with pytest.raises(ValueError, match=r"no puzzle 'chrge'; there are charge, .* Did you mean 'charge'\?"):
            call()


def test_the_score() -> None:
    assert str(puzzles.progress()).startswith(f"0 of {len(ALL)} puzzles solved.\n01_the_neuron: charge (not yet), ")
    empty = puzzles.progress().picture()
    puzzles.check("charge", ALL["charge"].answer())
    puzzles.check("fuse_the_loop", potential_in_memory)
    score = puzzles.progress()
    assert score.solved == 1
    assert score.sentence() == f"1 of {len(ALL)} puzzles solved. Right, but with too much traffic: fuse_the_loop."
    assert spread(empty) > 0.05
    assert score.picture() != empty


def test_a_notebook_shows_a_sentence_and_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("IPython")
    shown: list[tuple[dict[str, Any], dict[str, Any]]] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw, metadata=None: shown.append((data, metadata or {}))
    )
    verdict = puzzles.check("fire", lambda h, v_threshold: h < v_threshold)
    verdict._ipython_display_()
    (text, _), (picture, about) = shown
    assert text["text/plain"] == verdict.sentence == repr(verdict)
    assert 'role="status"' in text["text/html"]
    assert "<script" not in text["text/html"]
    assert spread(picture["image/png"]) > 0.02
    assert about["image/png"]["alt"] == picture["text/plain"]
    puzzles.progress()._ipython_display_()
    assert f"0 of {len(ALL)}" in shown[2][0]["text/plain"]


def test_the_look_is_that_of_the_explorers() -> None:
    source = inspect.getsource(sys.modules["tfexplore.puzzles.verdict"])
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b|\b(?:black|white|gr[ae]y)\b", source), "colours are those of style.py"


def test_memory_counts_bytes_as_parts_of_a_word() -> None:
    memory = Memory()
    kept, x = memory.output("kept", (4, 8), np.uint8), memory.input("x", np.ones((4, 8), np.float32))
    kept[0] = x[0] > 0
    assert {what: float(words) for what, words in memory.traffic().items()} == {"x read": 8, "kept written": 2}
