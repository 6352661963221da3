"""The stand-in for a GPU's stream: it hands work over, does it in order, and two clocks tell what they tell."""

from __future__ import annotations

import threading

import pytest

from tfexplore.measure import stream as measured
from tfexplore.measure.stream import Stream


def test_work_runs_in_another_thread_in_the_order_in_which_it_was_launched() -> None:
    ran: list[int] = []
    threads: set[str] = set()
    with Stream() as stream:
        for k in range(50):
            stream.launch(lambda k=k: (ran.append(k), threads.add(threading.current_thread().name)))
        stream.synchronise()
        assert ran == list(range(50))
        assert (stream.launched, stream.done) == (50, 50)
    assert threads == {"tfexplore-stream"}
    assert threading.current_thread().name not in threads


def test_nothing_begins_while_it_is_held() -> None:
    with Stream() as stream:
        with stream.held():
            stream.launch(lambda: None)
            assert (stream.launched, stream.done) == (1, 0)
            with pytest.raises(RuntimeError, match="would wait for ever"):
                stream.synchronise()
        stream.synchronise()
        assert stream.done == 1


def test_the_first_clock_stops_before_the_work_and_the_second_behind_it(monkeypatch) -> None:
    """By a clock that only the work moves: 5 seconds."""
    now = [0.0]
    monkeypatch.setattr(measured.time, "perf_counter", lambda: now[0])
    with Stream() as stream:
        launched, ran = stream.seconds(lambda: now.__setitem__(0, now[0] + 5.0))
    assert (launched, ran) == (0.0, 5.0)


def test_an_error_is_raised_where_somebody_waits_and_once() -> None:
    with Stream() as stream:
        stream.launch(lambda: 1 / 0)
        stream.launch(lambda: None)
        with pytest.raises(ZeroDivisionError):
            stream.synchronise()
        stream.synchronise()
        assert stream.done == 2


def test_it_ends_with_its_block() -> None:
    before = threading.active_count()
    with Stream() as stream:
        stream.launch(lambda: None)
    assert threading.active_count() == before
    assert stream.done == 1
    for late in (stream.synchronise, lambda: stream.launch(lambda: None)):
        with pytest.raises(RuntimeError, match="the stream has ended with its block"):
            late()
    assert stream.launched == 1
