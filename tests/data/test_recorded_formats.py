"""Files in the true formats, written here: the events that went in come out, and a truncated or wrong file is one error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.recorded_files import (
    AEDAT3_HEADER,
    Event,
    aedat2_bytes,
    aedat3_packet,
    counted,
    nmnist_bytes,
    some_events,
    write_gestures,
    write_shd,
)  # fmt: skip
from tfexplore.data.recordings import BrokenFile, binning, formats
from tfexplore.data.recordings.binning import Window, binned, window
from tfexplore.data.recordings.formats import Events

GESTURE = [(1, 100, 500), (11, 700, 1200)]


def as_list(events: Events) -> list[Event]:
    return [tuple(map(int, event)) for event in zip(events.t, *events.at, strict=True)]  # type: ignore[misc]


def test_bins_are_those_of_a_plain_loop() -> None:
    events = some_events(0, 300, 5, 9_999)
    columns = np.array(events).T
    counts, length = binned(Events(columns[0], tuple(columns[1:])), (2, 5, 5), Window(7, 10_000), "refuse")
    np.testing.assert_array_equal(counts, counted(events, 7, 10_000, 5))
    assert length == 7
    assert counts.sum() == 300


def test_an_event_on_a_border_belongs_to_the_step_that_begins_there() -> None:
    t = np.array([0, 99, 100, 199, 200, 299])
    counts, length = binned(Events(t, (np.zeros(6, int),)), (1,), window(4, dt=1e-4), "refuse")
    assert counts[:, 0].tolist() == [2, 2, 2, 0]
    assert length == 3


def test_a_sample_without_events() -> None:
    counts, length = binned(Events(np.empty(0, int), (np.empty(0, int),)), (3,), Window(4, 100), "refuse")
    assert counts.shape == (4, 3)
    assert (counts.sum(), length) == (0, 0)


def test_late_events_are_counted_and_refused_or_dropped() -> None:
    events = Events(np.array([0, 999, 1000, 2500]), (np.zeros(4, int),))
    with pytest.raises(
        ValueError, match=r"^2 of 4 events are not within the 0\.001 s of the 10 steps, the last is at 0\.0025 s"
    ):
        binned(events, (1,), Window(10, 1000), "refuse")
    counts, length = binned(events, (1,), Window(10, 1000), "drop")
    assert (counts.sum(), length) == (2, 10)


@pytest.mark.parametrize("place", [-1, 4])
def test_a_place_outside_of_the_sensor(place: int) -> None:
    with pytest.raises(ValueError, match=r"on axis 0 of a sensor of \(4,\)"):
        binned(Events(np.array([0]), (np.array([place]),)), (4,), Window(1, 10), "refuse")


def test_before_the_beginning() -> None:
    with pytest.raises(ValueError, match="3 microseconds before"):
        binned(Events(np.array([-3]), (np.array([0]),)), (1,), Window(1, 10), "drop")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0, "dt": 1.0}, "steps must be a whole number from 1 on, but got 0"),
        ({"steps": 3}, r"give either dt or duration, in seconds, but got dt=None and duration=None\."),
        ({"steps": 3, "dt": 1.0, "duration": 3.0}, "give either dt or duration"),
        ({"steps": 3, "dt": -1.0}, "dt must be a finite number above 0"),
        ({"steps": 3, "duration": float("nan")}, "duration must be a finite number above 0"),
        (
            {"steps": 1000, "duration": 1e-5},
            "a bin must have one microsecond or more, but 1000 of them have 10 together",
        ),
    ],
)
def test_windows_are_checked(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binning.window(**arguments)  # type: ignore[arg-type]


# -- SHD and SSC -------------------------------------------------------------------------------------------------------------

SPOKEN = [([0.0, 0.25, 0.25, 1.0009765625], [0, 699, 5, 5]), ([], []), ([0.5], [7])]


def test_shd(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="SHD is HDF5")
    path = tmp_path / "shd_train.h5"
    write_shd(path, SPOKEN, [1, 0, 2])
    recording = formats.hdf5(path)
    assert recording.labels == (1, 0, 2)
    assert formats.class_names(path) == ("zero", "one", "fünf")
    came = list(recording.read(0))
    for events, (seconds, units) in zip(came, SPOKEN, strict=True):
        assert events.t.tolist() == [round(t * 1e6) for t in seconds]
        assert events.at[0].tolist() == units
    assert [events.t.tolist() for events in recording.read(2)] == [[500_000]]


def test_shd_broken(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="SHD is HDF5")
    path = tmp_path / "shd_train.h5"
    write_shd(path, SPOKEN, [1, 0, 2])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenFile, match=r"shd_train\.h5 is not a whole HDF5 file of SHD's form .*; copy it"):
        formats.hdf5(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(BrokenFile, match="is not a whole HDF5 file"):
        formats.hdf5(path)
    with h5py.File(path, "w") as file:
        file["labels"] = [1]
    with pytest.raises(BrokenFile, match=r"has no spikes/times and no spikes/units"):
        formats.hdf5(path)
    write_shd(path, SPOKEN, [1, 0])
    with pytest.raises(BrokenFile, match="has 2 labels, but 3 samples of times and 3 of units"):
        formats.hdf5(path)
    write_shd(path, [([0.1, 0.2], [3])], [0])
    with pytest.raises(BrokenFile, match="has in sample 0 no finite time for each unit"):
        list(formats.hdf5(path).read(0))


# -- event cameras -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tonic() -> None:
    pytest.importorskip("tonic", reason="reads the formats of event cameras")


def test_nmnist(tmp_path: Path, tonic: None) -> None:
    events = some_events(1, 50, 34, 305_000)
    path = tmp_path / "00002.bin"
    path.write_bytes(nmnist_bytes(events))
    assert as_list(formats.nmnist_bin(path)) == events


def test_an_nmnist_overflow_moves_later_times(tmp_path: Path, tonic: None) -> None:
    path = tmp_path / "00002.bin"
    path.write_bytes(nmnist_bytes([(10, 1, 3, 4), (0, 0, 240, 0), (20, 0, 5, 6)]))
    assert as_list(formats.nmnist_bin(path)) == [(10, 1, 3, 4), (20 + 2**13, 0, 5, 6)]


def test_aedat2(tmp_path: Path, tonic: None) -> None:
    events = some_events(2, 50, 128, 1_290_000)
    path = tmp_path / "cifar10_cat_0.aedat"
    path.write_bytes(aedat2_bytes(events))
    assert as_list(formats.aedat2(path)) == events


def test_gestures(tmp_path: Path) -> None:
    first, second = some_events(3, 60, 128, 600), [(650, 1, 2, 3), (700, 0, 4, 5), (1199, 1, 6, 7), (1200, 1, 8, 9)]
    special = aedat3_packet([(750, 1, 127, 127)], kind=0)
    other = aedat3_packet([(710, 1, 1, 1), (720, 0, 2, 2)], valid=[False, True])
    write_gestures(tmp_path, "user01_led", aedat3_packet(first) + special + aedat3_packet(second) + other, GESTURE)
    recording = formats.gestures(tmp_path / "user01_led.aedat", tmp_path / "user01_led_labels.csv")
    assert recording.labels == (0, 10)
    clap, rest = recording.read(0)
    assert as_list(clap) == [(t - 100, p, y, x) for t, p, y, x in first if 100 <= t < 500]
    assert as_list(rest) == [(0, 0, 4, 5), (499, 1, 6, 7), (20, 0, 2, 2)]
    assert [as_list(events) for events in recording.read(1)] == [as_list(rest)]


def test_tonic_reads_the_same_aedat3(tmp_path: Path, tonic: None) -> None:
    from tonic.io import get_aer_events_from_file

    events = some_events(4, 40, 128, 5_000)
    path = tmp_path / "user02_lab.aedat"
    path.write_bytes(AEDAT3_HEADER + aedat3_packet(events[:15]) + aedat3_packet(events[15:]))
    theirs = get_aer_events_from_file(str(path), 3.1, len(AEDAT3_HEADER))
    t, word = formats.aedat3(path)
    assert t.tolist() == theirs["timeStamp"].tolist()
    assert word.tolist() == theirs["address"].tolist()


def test_gestures_of_tonic(tmp_path: Path) -> None:
    events = np.array([[5, 6, 1, 40], [7, 8, 0, 42]])  # x, y, p, ms
    np.save(tmp_path / "0.npy", events)
    assert as_list(formats.gesture_npy(tmp_path / "0.npy")) == [(0, 1, 6, 5), (2000, 0, 8, 7)]


FILES: dict[str, tuple[bytes, Callable[[Path], object], str]] = {
    "n-mnist": (nmnist_bytes([(1, 1, 2, 3)] * 3)[:-2], formats.nmnist_bin, "has 13 bytes, which is not a whole number of events"),
    "n-mnist, empty": (b"", formats.nmnist_bin, "has 0 bytes"),
    "aedat 2": (aedat2_bytes([(1, 1, 2, 3)] * 3)[:-3], formats.aedat2, "has 21 bytes of events, which is not a whole number"),
    "aedat 2, another version": (AEDAT3_HEADER, formats.aedat2, r"begins with b'#!AER-DAT3\.1', not with b'#!AER-DAT2\.0'"),
    "aedat 2, no text": (b"\0\1\2\3", formats.aedat2, "begins with"),
    "aedat 2, no events": (aedat2_bytes([]), formats.aedat2, "has 1 bytes of events"),
    "aedat 3, in a packet": (AEDAT3_HEADER + aedat3_packet([(1, 1, 2, 3)] * 3)[:-4], formats.aedat3, "ends within a packet of 3"),
    "aedat 3, in a header": (AEDAT3_HEADER + aedat3_packet([])[:20], formats.aedat3, "ends within the header of a packet"),
    "aedat 3, no end": (AEDAT3_HEADER[:-8], formats.aedat3, "has no end of its header"),
    "aedat 3, noise": (AEDAT3_HEADER + b"\xff" * 40, formats.aedat3, "has at byte 95 no header of a packet"),
    "aedat 3, validity": (
        AEDAT3_HEADER + aedat3_packet([(1, 1, 2, 3)], valid=[True])[:24] + b"\5\0\0\0" + bytes(8), formats.aedat3,
        "has a packet of 0 valid events, but 5 in its header",
    ),
    "npy": (b"\x93NUMPY\1\0", formats.gesture_npy, "is not a whole array of x, y, p and t"),
    "npy, empty": (b"", formats.gesture_npy, "is not a whole array"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_truncated_and_wrong_files(tmp_path: Path, tonic: None, case: str) -> None:
    whole, read, message = FILES[case]
    path = tmp_path / "recording"
    path.write_bytes(whole)
    with pytest.raises(BrokenFile, match=rf"recording {message}.*; copy it, or extract its archive, again\.$"):
        read(path)


def test_a_table_of_gestures_that_is_none(tmp_path: Path) -> None:
    write_gestures(tmp_path, "user01_led", aedat3_packet([]), GESTURE)
    (tmp_path / "user01_led_labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BrokenFile, match=r"user01_led_labels\.csv is no table with class"):
        formats.gestures(tmp_path / "user01_led.aedat", tmp_path / "user01_led_labels.csv")
