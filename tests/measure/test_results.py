"""Recorded measurements: read, labelled, and cut into curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tfexplore.measure import results

ROOT = Path(__file__).resolve().parents[2]


def row(steps: int, neurons: int, dtype: str = "float32", passes: str = "forward", ms: float = 1.0) -> dict[str, Any]:
    return {"T": steps, "N": neurons, "dtype": dtype, "passes": passes, "median_ms": {"fused": ms}}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with one recorded file, of a GPU that does not exist."""
    rows = [
        row(8, 100, ms=3.0), row(2, 100, ms=2.0),  # N = 100, out of order
        row(2, 9000, ms=20.0), row(8, 9000, ms=30.0),
        row(4, 500, ms=7.0),  # alone: no curve over T
        row(2, 100, "float64", ms=4.0),
        row(2, 100, passes="forward + backward", ms=5.0),
    ]  # fmt: skip
    about = {
        "benchmark": "torch_compile",
        "machine": "Imaginary GPU",
        "device": "cuda",
        "torch": "9.9",
        "what": "a test",
    }
    (tmp_path / "imaginary.json").write_text(json.dumps(about | {"date": "2031-02-03", "results": rows}))
    return tmp_path


def test_the_projects_own_records_are_read_and_say_where_they_come_from() -> None:
    found = results.records()
    assert len(found) >= len(list((ROOT / "benchmarks" / "results").glob("*.json"))) > 0
    for record in found:
        assert record.machine in record.label
        assert f"torch {record.torch}" in record.label
        assert record.rows
        assert record.device in ("cpu", "cuda")
    assert {record.benchmark for record in results.records(benchmark="neuron")} == {"neuron"}


def test_a_file_of_one_machine_holds_a_record_for_each_benchmark(place: Path) -> None:
    part = {
        "what": "a test",
        "torch": "9.9",
        "date": "2031-02-03",
        "versions": {"ours": {"numba": "1.0"}},
        "results": [],
    }
    data = {"machine": "Imaginary CPU", "device": "cpu", "cores": 3, "parts": {"neuron": part, "training": part}}
    (place / "a.json").write_text(json.dumps(data))
    (first, second, old) = results.records(place)
    assert [first.benchmark, second.benchmark, old.benchmark] == ["neuron", "training", "torch_compile"]
    assert (first.machine, first.cores, first.versions) == ("Imaginary CPU", 3, {"ours": {"numba": "1.0"}})
    assert results.records(place, "training")[0].label == "Imaginary CPU, torch 9.9, 2031-02-03"


def test_a_label_names_machine_version_and_day(place: Path) -> None:
    (record,) = results.records(place)
    assert record.label == "Imaginary GPU, torch 9.9, 2031-02-03"
    assert results.records(place, benchmark="neuron") == []


@pytest.mark.parametrize(("wanted", "fixed", "seconds"), [(150, 100, (0.002, 0.003)), (5000, 9000, (0.020, 0.030))])
def test_a_curve_is_the_one_whose_fixed_number_is_nearest(
    place: Path, wanted: int, fixed: int, seconds: tuple[float, ...]
) -> None:
    (record,) = results.records(place)
    found = results.curve(record, "fused", "T", "forward", {"T": None, "N": wanted, "dtype": "float32"})
    assert found is not None
    assert found.values == (2, 8)
    assert found.seconds == pytest.approx(seconds)
    assert found.fixed == {"N": fixed, "dtype": "float32"}


def test_a_curve_over_dtype(place: Path) -> None:
    (record,) = results.records(place)
    found = results.curve(record, "fused", "dtype", "forward", {"T": 2, "N": 120, "dtype": None})
    assert found is not None
    assert dict(zip(found.values, found.seconds, strict=True)) == {"float32": 0.002, "float64": 0.004}
    assert found.fixed == {"T": 2, "N": 100}


@pytest.mark.parametrize(
    ("contestant", "passes", "dtype"),
    [
        ("torch.compile", "forward", "float32"),  # no contestant of that name
        ("fused", "forward + backward", "float32"),  # one point only
        ("fused", "forward", "float16"),  # another dtype is not taken instead
    ],
)
def test_what_was_not_recorded_is_none(place: Path, contestant: str, passes: str, dtype: str) -> None:
    (record,) = results.records(place)
    assert results.curve(record, contestant, "T", passes, {"T": 4, "N": 100, "dtype": dtype}) is None


def test_rows_without_dtype_or_passes_make_no_curve(place: Path) -> None:
    old = {"T": 4, "N": 1000, "median_ms": {"eager": 1.0}}
    about = {"machine": "Imaginary CPU", "torch": "9.9", "what": "a test", "results": [old, old | {"T": 8}]}
    (place / "imaginary.json").write_text(json.dumps(about))
    (record,) = results.records(place, benchmark="neuron")
    assert results.curve(record, "eager", "T", "forward + backward", {"T": 4, "N": 1000, "dtype": "float32"}) is None


def test_errors_name_the_file_or_the_argument(place: Path) -> None:
    (record,) = results.records(place)
    with pytest.raises(ValueError, match="axis must be one of 'T', 'N', 'dtype', but got 'B'"):
        results.curve(record, "fused", "B", "forward", {})
    with pytest.raises(FileNotFoundError, match="place must be a folder of recorded measurements"):
        results.records(place / "nowhere")
    (place / "imaginary.json").write_text('{"machine": "Imaginary GPU"}')
    with pytest.raises(ValueError, match=r"imaginary\.json is not a recorded measurement \(KeyError: 'torch'\)"):
        results.records(place)
    (place / "imaginary.json").write_text("{")
    with pytest.raises(ValueError, match=r"imaginary\.json is not a recorded measurement \(JSONDecodeError"):
        results.records(place)


def test_nothing_recorded_is_an_empty_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "FOLDERS", (tmp_path, tmp_path / "nowhere"))
    assert results.folder() is None
    assert results.records() == []


def test_one_case_by_contestant(place: Path) -> None:
    (record,) = results.records(place)
    row = record.rows[0]
    case = {name: row[name] for name in ("T", "N", "dtype", "passes")}
    assert results.milliseconds(record.benchmark, record.machine[:5], place, **case) == row["median_ms"]
    with pytest.raises(ValueError, match=r"^case must say which recorded row of .*, but 0 match {'T': 3}\.$"):
        results.milliseconds(record.benchmark, record.machine, place, T=3)
    several = sum(other["dtype"] == "float32" for other in record.rows)
    with pytest.raises(ValueError, match=f"but {several} match {{'dtype': 'float32'}}.$"):
        results.milliseconds(record.benchmark, record.machine, place, dtype="float32")
