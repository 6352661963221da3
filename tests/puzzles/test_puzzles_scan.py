"""The puzzles of notebook 10: what is expected, by another method; the fixed point's bound; neurons that only look bent."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib.image", reason="pictures need matplotlib")

from tests import oracle
from tests.pictures import spread
from tfexplore import puzzles
from tfexplore.neurons.affine import why_not
from tfexplore.neurons.library import ALL as NEURONS
from tfexplore.neurons.step import step_of
from tfexplore.puzzles import ALL
from tfexplore.puzzles.puzzle import written
from tfexplore.puzzles.scan import bent, iterated


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of its own for each test."""
    monkeypatch.setattr(puzzles, "_verdicts", {})
    monkeypatch.setattr(puzzles, "_hints", {})


# -- two steps into one --------------------------------------------------------------------------------------------------


def test_expected_potentials_are_those_of_the_states_one_by_one() -> None:
    *_, many, two = ALL["combine"].cases()
    v = Fraction(1)
    for t, (a, b) in enumerate(many.given["steps"]):
        v = Fraction(a) * v + Fraction(b)
        assert float(v) == pytest.approx(many.expected[t])
    current, v = (Fraction(float(z)) for z in two.given["v"])
    for t, ((own, leak), b) in enumerate(two.given["steps"]):
        current = Fraction(own[0]) * current + Fraction(b[0])
        v = Fraction(leak[1]) * v + current
        assert float(v) == pytest.approx(two.expected[t])


def test_the_solution_is_associative_and_does_not_commute() -> None:
    combine, rng = ALL["combine"].answer(), np.random.default_rng(0)
    one, two, three = ((rng.integers(-4, 5, (2, 2)), rng.integers(-4, 5, 2)) for _ in range(3))
    left, right = combine(combine(one, two), three), combine(one, combine(two, three))
    assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(combine(one, two), combine(two, one), strict=True))


def star(first: Any, second: Any) -> Any:
    return second[0] * first[0], second[0] * first[1] + second[1]


def numbers_written_out(first: Any, second: Any) -> Any:
    (a1, b1), (a2, b2) = first, second
    if np.ndim(a1) == 0:
        return a2 * a1, a2 * b1 + b2
    return a2 @ a1, a2 @ b1 + b2


def test_numbers_and_matrices_may_be_told_apart() -> None:
    assert puzzles.check("combine", numbers_written_out).right


@pytest.mark.parametrize(
    ("answer", "outcome", "excerpt"),
    [
        (star, "wrong", "with 24 steps of two states: b has the shape (2, 2); that of a step has (2,). `*` multiplies place"),
        (lambda first, second: second[0] * first[0], "wrong", "return two values, a and b, separated by a comma"),
        (lambda first, second: second[0] @ first[0], "crashed", "`@` multiplies arrays only; `np.dot` multiplies numbers, too"),
        (lambda first, second: None, "wrong", "return two values, a and b"),
        (lambda first, second: first, "wrong", "4 of 4 values differ, the first at v before -1"),
        (lambda first, second: (star(first, second)[0], star(second, first)[1]), "wrong", "v after should be 3.125, but got"),
    ],
)  # fmt: skip
def test_what_is_no_combined_step(answer: Any, outcome: str, excerpt: str) -> None:
    verdict = puzzles.check("combine", answer)
    assert verdict.outcome == outcome
    assert excerpt in verdict.sentence, verdict
    assert spread(verdict.picture()) > 0.02


# -- the rounds of a fixed point -----------------------------------------------------------------------------------------


def history(x: list[Fraction], keep: Fraction) -> list[list[bool]]:
    """The guesses after every round, in closed form and exactly: a spike k steps ago has taken off keep^k."""
    guesses = [[False] * len(x)]
    while len(guesses) < 2 or guesses[-1] != guesses[-2]:
        spikes = guesses[-1]
        guesses.append([
            sum((keep ** (t - k) * (x[k] - (spikes[k] if k < t else 0)) for k in range(t + 1)), Fraction(0)) >= 1
            for t in range(len(x))
        ])  # fmt: skip
    return guesses[:-1]


def near_the_threshold(rng: np.random.Generator, steps: int, tau: int) -> list[float]:
    """A current whose true potential comes near the threshold again and again: what makes rounds."""
    x, v = [], 0.0
    for _ in range(steps):
        h = rng.integers(-4, 15) / 8
        x.append(float(h - v * (1 - 1 / tau)))
        v = h - (h >= 1)
    return x


def test_rounds_and_spikes_are_those_of_exact_arithmetic_and_of_the_plain_loop() -> None:
    rng, most = np.random.default_rng(1), 0
    for tau in (2, 4):
        for _ in range(60):
            x = near_the_threshold(rng, 9, tau)
            guesses = history([Fraction(each) for each in x], 1 - Fraction(1, tau))
            last = iterated(np.array(x), float(tau))
            assert last.tolist() == [
                max((r for r in range(1, len(guesses)) if guesses[r][t] != guesses[r - 1][t]), default=0)
                for t in range(len(x))
            ]
            assert (last <= np.arange(1, len(x) + 1)).all(), "no step changes after the round that settles it"
            s, *_ = oracle.lif(torch.tensor(x, dtype=torch.float64), torch.zeros((), dtype=torch.float64), tau)
            assert guesses[-1] == s.bool().tolist()
            most = max(most, int(last.max()))
    assert most > 5


def test_every_step_needs_a_round_exactly_where_each_spike_decides_the_next_step() -> None:
    """From 1 to below 1 + keep without the spike before it, at every step: nothing else needs a round for each."""
    rng = np.random.default_rng(2)
    for tau in (2, 4):
        keep = 1 - 1 / tau
        for _ in range(100):
            inside = rng.random() < 0.5
            at = 1 + keep * rng.integers(0, 8, 8) / 8
            if not inside:
                place = int(rng.integers(8))
                at[place] += keep * (
                    rng.choice([-1, 1]) if place else -1
                )  # no spike is before step 0: any that fires will do
            x, h, s = [], 0.0, 0.0
            for t in range(8):
                x.append(at[t] - keep * h)
                h = at[t] - keep * s
                s = float(h >= 1)
            assert (iterated(np.array(x), tau).max() == 8) == inside


def test_a_constant_current_is_one_round_short_at_best() -> None:
    most = {}
    for current in (0.3, 0.6, 0.9, 1.0, *np.linspace(0.05, 2.0, 79)):
        most[current] = int(iterated(np.full(32, current), 4.0).max())
    assert max(most.values()) == 31
    assert [most[current] for current in (0.3, 0.6, 0.9, 1.0)] == [8, 31, 13, 1]  # the notebook's prediction


def test_the_number_of_rounds_is_said() -> None:
    assert str(puzzles.check("most_rounds", ALL["most_rounds"].answer())).endswith("needs 64 of 64 rounds.")
    verdict = puzzles.check("most_rounds", lambda steps, tau: [0.5, 1.5] * (steps // 2))
    assert "Your current needs 2 of 8 rounds." in str(verdict)
    assert spread(verdict.picture()) > 0.05


def test_many_currents_are_right() -> None:
    def without_a_loop(steps, tau):
        keep = 1 - 1 / tau
        x = np.where(np.arange(steps) % 2, 1 - keep, 1 - keep * (1 - keep))
        x[0] = 1
        return x

    assert puzzles.check("most_rounds", without_a_loop).right


@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (lambda steps, tau: [1.0], "return a current of 8 finite numbers, one for each time step"),
        (lambda steps, tau: [np.nan] * steps, "return a current of 8 finite numbers"),
        (lambda steps, tau: None, "`most_rounds` returned None. Did you forget `return`?"),
    ],
)
def test_what_is_no_current(answer: Any, excerpt: str) -> None:
    verdict = puzzles.check("most_rounds", answer)
    assert verdict.outcome == "wrong"
    assert excerpt in verdict.sentence


# -- a neuron that no scan can do ----------------------------------------------------------------------------------------


def neuron(charge: str, reason: str = "state", more: str = "") -> Any:
    """An answer, as it would be typed into a cell."""
    lines = [
        "def no_scan(Neuron):",
        "    class Mine(Neuron):",
        "        tau: float = 4.0",
        "        v_threshold: float = 1.0",
        "        def charge(self, v, x):",
        f"            return {charge}",
        *(f"        {line}" for line in more.splitlines()),
        f"    return Mine, {reason!r}",
    ]
    return written("\n".join(lines), "no_scan")


LEAK = "v - v / self.tau + x"
ADAPTS = neuron(LEAK, "threshold", """\
states = ("v", "a")
def charge(self, v, a, x):
    return v - v / self.tau + x, 0.9 * a
def threshold(self, v, a):
    return self.v_threshold + a
def after(self, s, v, a):
    return (a + s,)""")  # fmt: skip
SYNAPSE = neuron(LEAK, "state", """\
states = ("v", "i")
def charge(self, v, i, x):
    return v - v / self.tau + 0.9 * i + x, 0.9 * i + x""")  # fmt: skip
NO_CHARGE = "def no_scan(Neuron):\n    class Mine(Neuron):\n        v_threshold: float = 1.0\n    return Mine, 'state'"


@pytest.mark.parametrize("charge", [
    "v - v / self.tau + v * v / 8 + x", "abs(v) + x", "v * (v - 1) * x", "1 / (1 + v * v) + x", "v ** 0.5 + x",
])  # fmt: skip
def test_neurons_that_no_scan_can_do(charge: str) -> None:
    verdict = puzzles.check("no_scan", neuron(charge))
    assert verdict.right, verdict
    assert "Mine: its step is not affine in v: dv[t]/dv[t-1] = " in str(verdict)


@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (neuron(LEAK, "reset"), "as a v + b with a = 1 - 1/tau and b = -s*v_threshold + x. The reset is no obstacle"),
        (neuron("v - v / self.tau + x * 2"), "as a v + b with a = 1 - 1/tau and b = -s*v_threshold + 2*x."),
        (neuron("v * v - (v - 1) * (v + 1) + x"), "with a = 0 and b = -s*v_threshold + x + 1."),
        (neuron("v - v / self.tau + x * x"), "The current may be bent as you like: it is known"),
        (neuron("v - v * x / self.tau", "input"), "What is kept of v depends on the current, but that is known"),
        (neuron(LEAK, more='reset: str = "none"'), "What is kept of v must depend on v itself"),
        (ADAPTS, "A threshold that adapts is one more state"),
        (SYNAPSE, "With more states, `a` is a matrix"),
        (neuron("(v * v - 1) / (v - 1) + x"), "the step of Mine is a straight line: only its equation looks bent"),
        (neuron("v + x + 1e-20 * v * v"), "the step of Mine is a straight line"),
        (neuron("v * v + x", "reset"), "`reset` is not the reason: with the spikes known, it takes off a number"),
        (neuron("v * v + x", "threshold"), "`threshold` is not the reason: a threshold only decides"),
        (neuron("v * v + x", "input"), "`input` is not the reason: the current is known"),
        (neuron("v * v + x", "chaos"), "the reason must be reset, threshold, input or state, but is 'chaos'"),
        (neuron("v if v > 0 else x"), "cannot determine truth value of Relational: v > 0. Plain arithmetic on `v`"),
        (neuron("np.exp(v) + x"), "no callable exp method. Plain arithmetic"),
        (written(NO_CHARGE, "no_scan"), "must be a class, of `class Mine(Neuron):`, that has a method `charge`"),
        (lambda Neuron: (3, "state"), "the first value must be a class"),
        (lambda Neuron: Neuron, "return the class and the reason, separated by a comma"),
    ],
)  # fmt: skip
def test_neurons_that_only_look_so(answer: Any, excerpt: str) -> None:
    verdict = puzzles.check("no_scan", answer)
    assert verdict.outcome == "wrong"
    assert excerpt in verdict.sentence, verdict
    assert spread(verdict.picture()) > 0.02


def test_a_threshold_that_a_reset_takes_off_may_bend_the_step() -> None:
    """Then the spike is known and the potential is not: equation and numbers agree that no scan can do it."""
    bends = neuron(LEAK, "state", "def threshold(self, v):\n    return self.v_threshold + v * v")
    assert puzzles.check("no_scan", bends).right


@pytest.mark.parametrize("kind", NEURONS)
def test_equation_and_numbers_agree_about_the_librarys_neurons(kind: Any) -> None:
    for reset in kind.resets:
        made = kind(reset=reset)
        assert bent(made) == bool(why_not(step_of(made), given_spikes=True))
