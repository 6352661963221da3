"""How deep a kernel is: counted from its text, against counts by hand and a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfexplore import neurons
from tfexplore.explore.kernel import depth
from tfexplore.explore.kernel.depth import Deep, depth_of

BY_HAND = {
    # v + x - (v - v_reset) / tau: the last - waits for - and /; u; u >= 0; s * threshold; h - that
    neurons.LIF(): (7, 8),
    # v + x; u; u >= 0; s * threshold; h - that: nothing runs beside it
    neurons.IF(): (5, 5),
    # without reset the state waits for charging only, and the last spike for two operations more
    neurons.LIF(reset="none"): (3, 6),
}


@pytest.mark.parametrize("steps", [1, 2, 33])
@pytest.mark.parametrize("neuron", BY_HAND, ids=lambda neuron: f"{type(neuron).__name__}, {neuron.reset}")
def test_depth_and_work_are_those_counted_by_hand(neuron: Any, steps: int) -> None:
    chain, work = BY_HAND[neuron]
    behind = 2 if neuron.reset == "none" else 0
    assert depth_of(neuron, steps) == (chain * steps + behind, work * steps)


def test_the_numbers_that_count_are_those_of_a_plain_loop(monkeypatch) -> None:
    """Otherwise other spikes would be counted: the loop is run, not read."""
    seen: dict[str, np.ndarray] = {}
    data = depth.data

    def kept(*given: Any) -> dict[str, np.ndarray]:
        seen.update(data(*given))
        return dict(seen)

    def deep(array: np.ndarray) -> np.ndarray:
        made = plain(array)
        if array is seen["out"]:
            seen["counted"] = made
        return made

    plain = depth.deep
    monkeypatch.setattr(depth, "data", kept)
    monkeypatch.setattr(depth, "deep", deep)
    depth_of(neurons.LIF(tau=4.0), 40)
    v, spikes = 0.0, []
    for x in seen["x"][:, 0].tolist():
        h = v + x - v / 4.0
        spikes.append(float(h >= 1.0))
        v = h - spikes[-1]
    assert [each.value for each in seen["counted"][:, 0]] == spikes
    assert 0 < sum(spikes) < 40


def test_a_chain_is_the_longest_way_to_a_number() -> None:
    a, b = Deep(2.0), Deep(3.0)
    assert ((a + b) * a - 1.0).depth == 3
    assert ((a + b) * (a - b)).depth == 2
    assert ((a + b) * (a - b)).value == -5.0


def test_a_strict_threshold_is_one_comparison_too() -> None:
    assert depth_of(neurons.LIF(strict=True), 10) == depth_of(neurons.LIF(), 10)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"must step by \+, -, \*, / and one comparison alone, but EIF has another operation"
    ):
        depth_of(neurons.EIF(), 3)
    with pytest.raises(TypeError, match=r"neuron must be like neurons\.LIF\(tau=2\.0\), but got 'LIF'"):
        depth_of("LIF", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be"):
        depth_of(neurons.LIF(), 0)
