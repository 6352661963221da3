"""Four ways to walk a recurrence of affine pairs, against plain loops, torch's own associative_scan, and counted closed forms."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._higher_order_ops import associative_scan

from tests.cases import distance, noise
from tfexplore.scan import Count, associative, chunked, combine, doubling, odd_even, sequential

WAYS = {"sequential": sequential, "chunked": chunked, "associative": associative, "doubling": doubling}


def loop(a: np.ndarray, b: np.ndarray, start: np.ndarray) -> np.ndarray:
    """z = A z + b in numpy, one step and one neuron after the other; A [T, S, S, N]."""
    made = np.empty_like(b)
    for n in range(b.shape[2]):
        z = start[:, n]
        for t in range(len(b)):
            z = a[t, :, :, n] @ z + b[t, :, n]
            made[t, :, n] = z
    return made


def recurrence(steps: int, states: int, neurons: int, form: str, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """a, b, start, and A in full."""
    b, start = noise(steps, states, neurons, seed=seed, dtype=dtype), noise(states, neurons, seed=seed + 1, dtype=dtype)
    own = 1 if form == "shared" else neurons
    if form == "diagonal":
        a = noise(steps, states, own, seed=seed + 2, dtype=dtype).tanh()
        full = a.unsqueeze(2) * torch.eye(states, dtype=dtype)[None, :, :, None]
    else:
        a = noise(steps, states, states, own, seed=seed + 2, dtype=dtype).tanh() / states
        full = a
    return a, b, start, full.expand(steps, states, states, neurons)


@settings(max_examples=40)
@given(
    steps=st.integers(0, 70),
    states=st.sampled_from([1, 2, 3]),
    neurons=st.integers(0, 3),
    form=st.sampled_from(["matrix", "diagonal", "shared"]),
    chunk=st.integers(1, 80),
    begins=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_all_ways_are_the_loop(steps, states, neurons, form, chunk, begins, seed):
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        a, b, start, full = recurrence(steps, states, neurons, form, seed, dtype)
        expected = torch.from_numpy(loop(*(v.double().numpy() for v in (full, b, start if begins else start * 0))))
        for name, way in WAYS.items():
            way = partial(way, chunk=chunk) if name == "chunked" else way
            made = way(a, b, start if begins else None)
            assert made.dtype == dtype
            assert distance(made.double(), expected) < bound, name


@pytest.mark.parametrize("chunk", [1, 7, 64, 4096, 5000])
@pytest.mark.parametrize("steps", [4095, 4096])
def test_long_recurrences(steps, chunk):
    """Against cumulative sums: with A = 1 the states are those, and whole numbers have no rounding."""
    b = torch.arange(steps, dtype=torch.float64)[:, None, None] % 7 - 3
    expected = torch.from_numpy(np.cumsum(b.numpy(), 0))
    one = torch.ones(steps, 1, 1, dtype=torch.float64)
    assert torch.equal(chunked(one, b, chunk=chunk), expected)
    if chunk == 7:
        assert torch.equal(associative(one, b), expected)
        assert torch.equal(doubling(one, b), expected)


@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("way", ["chunked", "associative", "doubling"])
def test_forward_and_backward_are_those_of_torchs_own_scan(way, states):
    """torch's associative_scan, told our rule: its values, and its gradients by autograd."""
    leaves = [leaf.requires_grad_() for leaf in recurrence(37, states, 3, "matrix", 5, torch.float64)[:2]]

    def rule(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return (
            torch.einsum("...ijn,...jkn->...ikn", two[0], one[0]),
            torch.einsum("...ijn,...jn->...in", two[0], one[1]) + two[1],
        )

    expected = associative_scan(rule, tuple(leaves), 0, combine_mode="generic")[1]
    made = WAYS[way](*leaves)
    assert distance(made, expected) < 1e-12
    g = noise(*made.shape, seed=9, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(made, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True
    ):
        assert distance(ours, theirs) < 1e-12


@pytest.mark.parametrize("way", WAYS)
def test_gradcheck(way):
    leaves = [leaf.requires_grad_() for leaf in recurrence(9, 2, 2, "shared", 3, torch.float64)[:3]]
    options = {"chunk": 4} if way == "chunked" else {}
    assert torch.autograd.gradcheck(lambda *given: WAYS[way](*given, **options), leaves)


def test_combining_is_associative_and_ordered():
    one, two, three = ((a, b) for a, b, *_ in (recurrence(4, 2, 3, "matrix", k, torch.float64) for k in (1, 2, 3)))
    for left, right in zip(combine(combine(one, two), three), combine(one, combine(two, three)), strict=True):
        assert distance(left, right) < 1e-12
    assert distance(combine(one, two)[1], combine(two, one)[1]) > 0.1  # not commutative


def counted(way: str, steps: int, chunk: int = 8, neurons: int = 1) -> Count:
    count = Count()
    one = torch.ones(steps, 1, neurons)
    WAYS[way](one, one, one[0], *([chunk] if way == "chunked" else []), count=count)
    return count


@pytest.mark.parametrize("power", range(3, 11))
def test_counted_work_and_depth_are_the_closed_forms(power):
    steps, chunk = 2**power, 4
    chunks = steps // chunk
    assert (count := counted("sequential", steps)).work == count.depth == steps
    count = counted("chunked", steps, chunk)
    assert (count.work, count.depth) == (steps + chunks * chunk - chunk - 1, 2 * chunk + chunks - 2)
    count = counted("associative", steps)
    assert (count.work, count.depth) == (2 * steps - 1 - power, 2 * power - 1)
    count = counted("doubling", steps)
    assert (count.work, count.depth) == (steps * power - steps + 2, power + 1)


@given(steps=st.integers(1, 300), chunk=st.integers(1, 300))
def test_counts_of_any_length(steps, chunk):
    """The tree: never more than twice the loop's work, never deeper than 2 log2 T; the chunks' last one may be short."""
    tree, chunks = counted("associative", steps), -(-steps // chunk)
    assert steps <= tree.work <= 2 * steps
    assert tree.depth <= max(1, 2 * math.ceil(math.log2(steps)))
    work = steps + max(0, (chunks - 1) * (chunk - 1) + chunks - 2)
    assert counted("chunked", steps, chunk).work == work


def test_words_and_operations():
    """One step of two states, not diagonal: 2 x 2 matrix times vector, plus vector; a combine of pairs the product besides."""
    a, b = torch.ones(1, 2, 2, 5), torch.ones(1, 2, 5)
    sequential(a, b, b[0], count=(one := Count()))
    assert one == Count(work=5, depth=1, words=5 * (4 + 2 + 2 + 2), operations=5 * 2 * 4)
    associative(torch.cat([a, a]), torch.cat([b, b]), count=(pair := Count()))
    assert pair == Count(work=5, depth=1, words=5 * 3 * (4 + 2), operations=5 * (4 * 3 + 2 * 4))
    assert counted("associative", 16, neurons=3).work == 3 * counted("associative", 16).work


def test_the_tree_combines_neighbours_only():
    """Any associative operator: of strings, one after the other."""
    words: list[tuple[int, int]] = []

    def spans(earlier: tuple[Tensor, Tensor], later: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        assert torch.equal(earlier[1] + 1, later[0])
        words.extend(zip(earlier[0].tolist(), later[1].tolist(), strict=True))
        return earlier[0], later[1]

    for steps in range(1, 40):
        words.clear()
        first, last = odd_even(spans, (torch.arange(steps), torch.arange(steps)))
        assert first.tolist() == [0] * steps
        assert last.tolist() == list(range(steps))
        assert len(words) == len(set(words))  # nothing is done twice


@pytest.mark.parametrize(
    ("a", "b", "start", "match"),
    [
        (torch.ones(3, 1, 2), [1.0], None, "b must be a tensor of floats, but got list"),
        (
            torch.ones(3, 1, dtype=torch.int64),
            torch.ones(3, 1),
            None,
            "a must be a tensor of floats, but got torch.int64",
        ),
        (
            torch.ones(3, 1).double(),
            torch.ones(3, 1),
            None,
            "a must be torch.float32 on cpu, as b is, but got torch.float64",
        ),
        (torch.ones(3), torch.ones(3), None, r"b must be \[T, S, ...\].*but got shape \(3,\)"),
        (torch.ones(2, 1, 4), torch.ones(3, 1, 4), None, r"a must be \[3, 1, 1, ...\].*but got shape \(2, 1, 4\)"),
        (torch.ones(3, 2, 1, 4), torch.ones(3, 2, 4), None, r"a must be \[3, 2, 2, ...\] or, diagonal, \[3, 2, ...\]"),
        (torch.ones(3, 1, 3), torch.ones(3, 1, 4), None, "a must be"),
        (
            torch.ones(3, 1, 4),
            torch.ones(3, 1, 4),
            torch.ones(1, 3),
            r"start must be b without time, \(1, 4\), but got",
        ),
    ],
)
def test_errors(a, b, start, match):
    with pytest.raises((TypeError, ValueError), match=match):
        associative(a, b, start)


def test_chunk_is_a_count():
    with pytest.raises(ValueError, match="chunk must be a whole number from 1 on, but got 0"):
        chunked(torch.ones(3, 1), torch.ones(3, 1), chunk=0)
