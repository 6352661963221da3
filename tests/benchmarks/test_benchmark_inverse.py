"""The benchmark of the inverse, in small: what it finds grows as it should, and the table says it."""

from __future__ import annotations

import json

import pytest

from benchmarks import inverse


def test_errors_grow_with_t_and_end_in_flips() -> None:
    near = inverse.row("as spikes", "float32", 0.3, (4, 32), 2)
    assert near["flips"][4][0] == 0
    assert near["gradient"][4][0] == 0
    assert near["error"][4][0] <= 4 * near["bound"][4][0]
    assert near["flips"][32][0] > 100
    assert near["error"][32][0] > 1e3 * near["error"][4][0]
    assert near["cosine"][32][0] < 0.99
    double = inverse.row("as spikes", "float64", 0.3, (16,), 1)
    assert double["flips"][16] == [0, 0, 0]
    json.dumps(near, allow_nan=False)
    assert [*inverse.lines(near)][2].split()[0] == "4"


def test_what_is_no_number_is_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    found = inverse.row("as numbers", "float32", 0.1, (64,), 1)
    assert found["error"][64][2] == inverse.HUGE
    assert -1 <= found["cosine"][64][0] <= 1
