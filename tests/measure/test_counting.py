"""Arrays that count, against manual counts; what they compute, against NumPy itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfexplore.measure.counting import Access, Counted, Log


@pytest.fixture
def log() -> Log:
    return Log(events=True)


def counted(log: Log, shape: tuple[int, ...] = (3, 4), name: str = "x") -> Counted:
    return Counted(name, np.arange(float(np.prod(shape))).reshape(shape), log)


# (what a learner writes, words read of x, words written to x); x is [3, 4]
CASES: list[tuple[str, int, int]] = [
    ("x[1, 2]", 1, 0),
    ("x[1][2]", 1, 0),
    ("x[-1, -1] + x[-1, -1]", 2, 0),
    ("x[1]", 0, 0),  # not used yet
    ("x[1] + 1", 4, 0),
    ("1 - x[1]", 4, 0),
    ("-x[1]", 4, 0),
    ("x[1] + x[1]", 8, 0),
    ("row = x[1]; row * row + row[2] + row", 4, 0),  # loaded once
    ("row = x[1]; row[2] + row[2]", 1, 0),
    ("row = x[1]; part = row[:2]; part + 1; row + 1", 4, 0),
    ("x[:, 1] * 2", 3, 0),
    ("x[1:, :2].sum()", 4, 0),
    ("x.T[1] + 0", 3, 0),
    ("x + 1", 12, 0),
    ("np.asarray(x)", 12, 0),
    ("np.array(x[0])", 4, 0),
    ("x[0].copy()", 4, 0),
    ("np.where(x[0] >= 1, x[1], 0.0)", 8, 0),
    ("np.maximum(x[0], 0)", 4, 0),
    ("np.stack([x[0], x[1]])", 8, 0),
    ("np.sum(x, axis=0)", 12, 0),
    ("(x[0] >= 1).astype(float)", 4, 0),
    ("x[0].astype(float)", 4, 0),
    ("float(x[0, 1])", 1, 0),
    ("x[[0, 2]]", 8, 0),
    ("x[x[:, 0] > 3]", 3 + 8, 0),
    ("[row.max() for row in x]", 12, 0),
    ("sum(x[0])", 4, 0),
    ("len(x), x.shape, x.ndim, x.size, x.dtype, repr(x)", 0, 0),
    ("np.zeros_like(x), np.empty_like(x[0]), np.shape(x)", 0, 0),
    ("x[1, 2] = 7", 0, 1),
    ("x[1] = 7", 0, 4),
    ("x[1][2] = 7", 0, 1),
    ("x[:] = 7", 0, 12),
    ("x[:, 1] = np.ones(3)", 0, 3),
    ("x[1] = x[0]", 4, 4),
    ("x[1, 2] += 1", 1, 1),
    ("x[1] += 1", 4, 4),
    ("x[1] *= x[0]", 8, 4),
    ("x += 1", 12, 12),
    ("row = x[1]; row -= 1", 4, 4),
    ("row = x[1]; row[0] = 5; row[0] + 1", 0, 1),  # what was just stored is at hand
    ("np.add(x[0], 1, out=x[1])", 4, 4),
    ("np.copyto(x[1], x[0])", 4, 4),
    ("np.cumsum(x[0], out=x[1])", 4, 4),
    ("x.reshape(-1)[0] = 7", 0, 1),
    ("x.ravel()[5:7] = 7", 0, 2),
    ("np.reshape(x, (4, 3))[1] = 7", 0, 3),
    ("x[1].reshape(2, 2)[1] += 1", 2, 2),
    ("x.transpose()[1] = 7", 0, 3),
    ("x.swapaxes(0, 1)[1, 2] = 7", 0, 1),
    ("np.flip(x)[0, 0] = 7", 0, 1),
    ("x.reshape(-1, 2) + 1", 12, 0),
    ("row = x[1].reshape(2, 2); row + row[0]", 4, 0),
    ("x.T.reshape(-1)[0] = 7", 12, 0),  # a copy for NumPy too
    ("np.copyto(x[0], 5., where=[True, False, False, False])", 0, 1),
    ("np.copyto(x, x[0], where=x[1] > 5)", 8, 6),
    ("np.copyto(x, 5., 'same_kind', True)", 0, 12),
    ("np.add(x[0], 1, out=x[1], where=[True, False, True, False])", 4, 2),
    ("np.add(x[0], 1, out=x[1], where=True)", 4, 4),
    ("np.add(x[0], 1, out=x, where=x[1] > 6)", 8, 3),
    ("np.divide(1, x[0], out=x[1], where=x[0] > 0)", 8, 3),  # x[0] taken out twice; no division by zero
    ("np.add.reduce(x, axis=0, out=x[1], where=[True, False, True, False])", 12, 4),
    ("a = np.ones(3); np.add.at(a, [0, 0], x[0, :2])", 2, 0),
    ("a = np.ones(4); np.copyto(a, x[0]); np.put(a, [0, 1], x[1, :2])", 6, 0),
    ("a = np.ones(4); a += x[0]; np.add(x[0], 1, out=a, where=x[1] > 0)", 12, 0),
    ("np.add(x[0], 1, x[1])", 4, 4),
]


@pytest.mark.parametrize(("code", "reads", "writes"), CASES, ids=[case[0] for case in CASES])
def test_words_are_those_counted_by_hand_and_values_are_numpys(log: Log, code: str, reads: int, writes: int) -> None:
    x, twin = counted(log), counted(Log()).array
    exec(code, {"x": x, "np": np})
    exec(code, {"x": twin, "np": np})
    np.testing.assert_array_equal(x.array, twin)
    assert (log.reads["x"], log.writes["x"]) == (reads, writes)
    assert log.words() == log.words("x") == reads + writes == len(log.events)


@pytest.mark.parametrize(
    "code", [code for code, _, writes in CASES if not writes and " = " not in code and "repr" not in code]
)
def test_expressions_give_what_numpy_gives(log: Log, code: str) -> None:
    def value(x: Any) -> Any:
        return eval(code, {"x": x, "np": np})

    found, expected = value(counted(log)), value(counted(Log()).array)
    if "_like" not in code and "len" not in code:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_events_say_what_and_where_in_the_whole_array(log: Log) -> None:
    x = counted(log)
    x[1:][0, 2] = x[:, 3][2]
    assert log.events == [Access("x", "read", (2, 3)), Access("x", "write", (1, 2))]
    log.clear()
    assert log.words() == 0
    assert not log.events


def test_events_are_kept_on_request_only() -> None:
    log = Log()
    assert (counted(log) + 1).shape == (3, 4)
    assert log.reads["x"] == 12
    assert not log.events


def test_a_lif_layer_with_rows_of_time(log: Log) -> None:
    x, out = counted(log, (5, 6)), counted(log, (5, 6), "out")
    v = np.zeros(6)
    for t in range(len(x)):
        h = v / 2 + x[t]
        s = (h >= 1.0).astype(float)
        out[t] = s
        v = h - s
    assert log.words("x") == log.words("out") == 30
    assert log.words("x", "out") == log.words() == 60
    assert set(np.unique(out.array)) <= {0.0, 1.0}


def test_reading_copies_so_that_no_write_goes_uncounted(log: Log) -> None:
    x = counted(log)
    np.asarray(x)[0, 0] = 99.0
    np.array(x[0])[0] = 99.0
    x[0].copy()[0] = 99.0
    assert x.array[0, 0] == 0.0


@pytest.mark.parametrize(
    "code",
    [
        "x.fill(1)",
        "x[0].put(0, 1)",
        "x[0].sort()",
        "x[0].partition(1)",
        "x.resize(2, 2)",
        "np.put(x, [0], [5])",
        "np.putmask(x, [True], [5])",
        "np.place(x, x > 1, [5])",
        "np.put_along_axis(x, np.zeros((3, 1), int), 5, 1)",
        "np.fill_diagonal(x, 5)",
        "np.add.at(x, [0], 5)",
        "np.cumsum(x, 1, None, x)",
        "np.clip(x[0], 0, 1, x[1])",
    ],
)
def test_writes_that_cannot_be_counted_are_refused(log: Log, code: str) -> None:
    x = counted(log)
    with pytest.raises((AttributeError, TypeError), match=r"writes into x uncounted; write with x\[\.\.\.\] = "):
        exec(code, {"x": x, "np": np})
    np.testing.assert_array_equal(x.array, counted(Log()).array)


@pytest.mark.parametrize("code", ["x.flat[0] = 1", "x.flat = 1", "x.view()[0] = 1", "np.split(x, 3)[0][0, 0] = 1"])
def test_no_write_is_lost(log: Log, code: str) -> None:
    with pytest.raises((AttributeError, ValueError), match=r"read-only|no attribute"):
        exec(code, {"x": counted(log), "np": np})


def test_a_word_without_an_index(log: Log) -> None:
    total = Counted("total", np.array(1.0), log)
    total[()] = total[()] + 1
    assert (log.reads["total"], log.writes["total"], float(total)) == (1, 1, 2.0)


def test_an_unknown_attribute_is_an_error(log: Log) -> None:
    with pytest.raises(AttributeError, match="Counted has no attribute 'sums'"):
        counted(log).sums  # noqa: B018
    with pytest.raises(IndexError):
        counted(log)[7, 0]
