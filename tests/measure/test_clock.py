"""measure and data."""

from __future__ import annotations

import pytest
import torch

from tfexplore.data import currents, digits
from tfexplore.measure import clock


def test_rounds_run_the_contestants_in_turn_and_give_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    taken = iter([9.0, 9.0, 1.0, 4.0, 5.0, 2.0, 3.0, 3.0])  # a warm-up round, then three rounds
    monkeypatch.setattr(clock, "seconds", lambda work, device: (work(), next(taken))[1])
    *_, last = clock.rounds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, count=3)
    assert calls == ["a", "b"] * 4
    assert last == {"a": 3.0, "b": 3.0}


def test_seconds_is_the_wall_clock() -> None:
    import time

    assert clock.seconds(lambda: time.sleep(0.02)) >= 0.02


def test_machine_names_the_cores() -> None:
    assert f"{torch.get_num_threads()} of" in clock.machine("cpu")


def test_digits_are_the_whole_set_split_without_overlap() -> None:
    data = digits()
    assert len(data.train_labels) + len(data.test_labels) == 1797
    assert data.train_images.shape == (1438, 64)
    assert data.train_images.min() == 0
    assert data.train_images.max() == 1
    everything = torch.cat([data.train_images, data.test_images])
    from sklearn.datasets import load_digits

    expected = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, expected.tolist()))


def test_digits_depend_on_the_seed_only() -> None:
    assert torch.equal(digits(seed=1).test_labels, digits(seed=1).test_labels)
    assert not torch.equal(digits(seed=1).test_labels, digits(seed=2).test_labels)
    with pytest.raises(ValueError, match="test_fraction must be between 0 and 1, but got 2"):
        digits(2)


def test_currents_are_constant_in_time() -> None:
    x = currents(torch.rand(3, 64), 5)
    assert x.shape == (5, 3, 64)
    assert all(torch.equal(x[0], x_t) for x_t in x)
