"""The loaders from folder to packed samples: every data set in its own layout, and the cache: resumed, renewed, checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.recorded_files import (
    Event,
    aedat2_bytes,
    aedat3_packet,
    counted,
    nmnist_bytes,
    some_events,
    write_gestures,
    write_shd,
)
from tfexplore import data
from tfexplore.data import recordings
from tfexplore.data.bits import unpack
from tfexplore.data.packed import PackedDataset
from tfexplore.data.recordings import BrokenFile, cache, formats, sources

pytest.importorskip("h5py", reason="SHD and SSC are HDF5")
pytest.importorskip("tonic", reason="reads the formats of event cameras")


def dense(found: PackedDataset) -> np.ndarray:
    return unpack(found.spikes).numpy()


def write_nmnist(root: Path, split: str = "Train", each: int = 1, last: int = 300_000) -> list[list[Event]]:
    """Recordings of the digits 0 to 9, some of each, in the archive's folders."""
    samples = [some_events(number, 30, 34, last) for number in range(10 * each)]
    for number, events in enumerate(samples):
        folder = root / split / str(number // each)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}.bin").write_bytes(nmnist_bytes(events))
    return samples


# -- every data set ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "SHD/"])
def test_shd(tmp_path: Path, inside: str) -> None:
    spoken = [([0.0, 0.25, 0.75], [0, 699, 5]), ([], []), ([0.5, 0.5], [7, 8])]
    write_shd(tmp_path / f"{inside}shd_test.h5", spoken, [1, 0, 2])
    found = data.shd(tmp_path, "test", steps=10, duration=1.0)
    wanted = np.zeros((3, 10, 700))
    for sample, step, unit in [(0, 0, 0), (0, 2, 699), (0, 7, 5), (2, 5, 7), (2, 5, 8)]:
        wanted[sample, step, unit] = 1
    np.testing.assert_array_equal(dense(found), wanted)
    assert found.labels.tolist() == [1, 0, 2]
    assert found.lengths is not None
    assert found.lengths.tolist() == [8, 0, 6]
    assert found.names == ("zero", "one", "fünf")
    assert (found.spikes.dim, found.spikes.bits) == (1, 1)


def test_ssc_has_a_third_part(tmp_path: Path) -> None:
    write_shd(tmp_path / "ssc_valid.h5", [([0.1], [3])], [34])
    assert data.ssc(tmp_path, "valid", steps=5, dt=0.1).labels.tolist() == [34]
    with pytest.raises(ValueError, match=r"split must be one of 'train', 'test', but got 'valid'\."):
        data.shd(tmp_path, "valid", steps=5, dt=0.1)


@pytest.mark.parametrize("inside", ["", "NMNIST"])
def test_nmnist(tmp_path: Path, inside: str) -> None:
    samples = write_nmnist(tmp_path / inside, "Test", each=2)
    found = data.nmnist(tmp_path, "test", steps=6, duration=0.3001, bits=4)
    np.testing.assert_array_equal(dense(found), [counted(events, 6, 300_100, 34) for events in samples])
    assert found.labels.tolist() == [number // 2 for number in range(20)]


def test_dvs128_gesture_of_its_archive(tmp_path: Path) -> None:
    folder = tmp_path / "DvsGesture"
    events = some_events(0, 200, 128, 2_000)
    write_gestures(folder, "user02_led", aedat3_packet(events), [(2, 0, 1_000), (11, 1_500, 2_001)])
    write_gestures(folder, "user03_lab", aedat3_packet(events), [(1, 10, 20)])
    (folder / "trials_to_train.txt").write_text("user02_led.aedat\n\n")
    (folder / "trials_to_test.txt").write_text("user03_lab.aedat\n")
    found = data.dvs128_gesture(tmp_path, steps=5, dt=2e-4, counts="any")
    trials = [
        [(t - begin, *place) for t, *place in events if begin <= t < end] for begin, end in [(0, 1_000), (1_500, 2_001)]
    ]
    np.testing.assert_array_equal(dense(found), [counted(trial, 5, 1_000, 128) > 0 for trial in trials])
    assert found.labels.tolist() == [1, 10]
    assert found.names[1] == "right hand wave"
    assert data.dvs128_gesture(folder, "test", steps=5, dt=2e-4).labels.tolist() == [0]
    (folder / "user03_lab_labels.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^DVS128-Gesture needs user03_lab_labels\.csv in .*, where it is not\. It is at"
    ):
        data.dvs128_gesture(folder, "test", steps=5, dt=2e-4)


def test_dvs128_gesture_of_tonic(tmp_path: Path) -> None:
    person = tmp_path / "DVSGesture" / "ibmGestureTest" / "user24_fluorescent"
    person.mkdir(parents=True)
    for label in (10, 2):
        np.save(person / f"{label}.npy", np.array([[5, 6, 1, 40], [7, 8, 0, 41 + label]]))  # x, y, p, ms
    found = data.dvs128_gesture(tmp_path, "test", steps=12, dt=1e-3)
    assert found.labels.tolist() == [2, 10]
    assert np.argwhere(dense(found)).tolist() == [[0, 0, 1, 6, 5], [0, 3, 0, 8, 7], [1, 0, 1, 6, 5], [1, 11, 0, 8, 7]]


def test_cifar10_dvs(tmp_path: Path) -> None:
    samples = {}
    for label, name in enumerate(sources.OBJECTS):
        (tmp_path / name).mkdir()
        for number in range(10 if label < 1 else 1):
            samples[label, number] = some_events(label + 10 * number, 20, 128, 900)
            (tmp_path / name / f"cifar10_{name}_{number}.aedat").write_bytes(aedat2_bytes(samples[label, number]))
    found = data.cifar10_dvs(tmp_path, "all", steps=3, dt=0.001)
    np.testing.assert_array_equal(dense(found), [counted(events, 3, 3_000, 128) for events in samples.values()])
    assert found.labels.tolist() == [0] * 10 + list(range(1, 10))
    train, test = (data.cifar10_dvs(tmp_path, split, steps=3, dt=0.001) for split in ("train", "test"))
    assert (len(train.labels), len(test.labels)) == (18, 1)
    np.testing.assert_array_equal(dense(test)[0], dense(found)[9])


MISSING: dict[str, tuple[Callable[..., PackedDataset], str, str]] = {
    "shd": (data.shd, r"shd_train\.h5", r"compneuro\.net"),
    "ssc": (data.ssc, r"ssc_train\.h5", r"compneuro\.net"),
    "nmnist": (data.nmnist, "Train or NMNIST/Train", r"garrickorchard\.com"),
    "gesture": (data.dvs128_gesture, r"trials_to_train\.txt or DvsGesture/", r"DvsGesture\.tar\.gz"),
    "cifar10": (data.cifar10_dvs, "airplane or CIFAR10DVS/airplane", "figshare"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_says_which_and_from_where(tmp_path: Path, name: str) -> None:
    loader, file, origin = MISSING[name]
    with pytest.raises(
        FileNotFoundError, match=rf"needs {file}.*, where it is not\. .*{origin}.*nothing is downloaded here\.$"
    ):
        loader(tmp_path, steps=3, dt=0.1)
    assert list(tmp_path.iterdir()) == []


def test_an_incomplete_archive(tmp_path: Path) -> None:
    write_nmnist(tmp_path)
    for path in (tmp_path / "Train" / "7").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^N-MNIST needs files \*\.bin in .*7, where there are none\."):
        data.nmnist(tmp_path, steps=3, dt=0.2)


@pytest.mark.parametrize(("module", "loader"), [("h5py", data.shd), ("tonic", data.nmnist)])
def test_without_a_reader_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, loader: Callable[..., PackedDataset]
) -> None:
    write_shd(tmp_path / "shd_train.h5", [([0.1], [3])], [0])
    write_nmnist(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install {module}\.$"):
        loader(tmp_path, steps=3, dt=0.2)


# -- what does not fit -------------------------------------------------------------------------------------------------------


def test_counts_are_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    write_shd(tmp_path / "shd_train.h5", [([0.125], [3]), ([0.125] * 3, [3] * 3)], [0, 1])
    with pytest.raises(
        ValueError, match=r"shd_train\.h5, sample 1: x must have only 0 and 1, .*the largest 3; keep the counts"
    ):
        data.shd(tmp_path, steps=2, dt=0.1)
    assert dense(data.shd(tmp_path, steps=2, dt=0.1, bits=2))[1, 1, 3] == 3
    assert dense(data.shd(tmp_path, steps=2, dt=0.1, counts="any"))[1, 1, 3] == 1


def test_late_events_are_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    write_shd(tmp_path / "shd_train.h5", [([0.1, 0.5, 0.75], [3, 4, 5])], [0])
    with pytest.raises(
        ValueError, match=r"shd_train\.h5, sample 0: 2 of 3 events are not within the 0\.5 s of the 5 steps"
    ):
        data.shd(tmp_path, steps=5, dt=0.1)
    assert np.argwhere(dense(data.shd(tmp_path, steps=5, dt=0.1, late="drop"))).tolist() == [[0, 0, 3]]


def test_an_empty_data_set(tmp_path: Path) -> None:
    write_shd(tmp_path / "shd_train.h5", [], [])
    with pytest.raises(ValueError, match=r"^SHD has no sample in .*compneuro"):
        data.shd(tmp_path, steps=5, dt=0.1)


def test_a_truncated_recording_is_one_error(tmp_path: Path) -> None:
    write_nmnist(tmp_path)
    path = tmp_path / "Train" / "4" / "00004.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BrokenFile, match=r"00004\.bin has 149 bytes"):
        data.nmnist(tmp_path, steps=3, dt=0.2, bits=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"late": "keep"}, "late must be 'refuse' or 'drop', but got 'keep'"),
        ({"bits": 3}, "bits must be 1, 2, 4 or 8"),
        ({"counts": "all"}, "counts must be 'refuse' or 'any'"),
        ({"duration": 2.0}, "give either dt or duration"),
    ],
)
def test_options_are_checked_before_the_disk(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.shd(tmp_path / "nowhere", steps=3, dt=0.1, **options)


# -- the cache ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recordings of N-MNIST that were read, in pieces of three."""
    names: list[str] = []
    original = formats.nmnist_bin

    def counting(path: Path) -> formats.Events:
        names.append(path.stem)
        return original(path)

    monkeypatch.setattr(formats, "nmnist_bin", counting)
    monkeypatch.setattr(cache, "PIECE", 3)
    return names


BINS: dict[str, Any] = {"steps": 4, "dt": 0.1, "bits": 4}


def test_the_second_call_reads_one_file(tmp_path: Path, read: list[str]) -> None:
    samples = write_nmnist(tmp_path)
    first = data.nmnist(tmp_path, **BINS)
    assert len(read) == 10
    second = data.nmnist(str(tmp_path), **BINS)
    assert len(read) == 10
    for found in (first, second):
        np.testing.assert_array_equal(dense(found), [counted(events, 4, 400_000, 34) for events in samples])
        assert found.lengths is not None
        assert found.lengths.tolist() == [4] * 10
    assert [path.suffix for path in (tmp_path / "tfexplore-packed").iterdir()] == [".npz"]


def test_an_interruption_costs_one_piece(tmp_path: Path, read: list[str]) -> None:
    samples = write_nmnist(tmp_path)

    def stop(done: int, total: int) -> None:
        assert total == 10
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.nmnist(tmp_path, **BINS, progress=stop)
    assert read == [f"{number:05}" for number in range(6)]
    seen: list[tuple[int, int]] = []
    found = data.nmnist(tmp_path, **BINS, progress=lambda *progress: seen.append(progress))
    assert read[6:] == [f"{number:05}" for number in range(6, 10)]
    assert seen == [(9, 10), (10, 10)]
    np.testing.assert_array_equal(dense(found), [counted(events, 4, 400_000, 34) for events in samples])


def test_another_process_finishes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PIECE", 4)
    write_nmnist(tmp_path)
    options: dict[str, Any] = {"steps": 3, "duration": 0.4, "counts": "any"}
    others = []

    def meanwhile(done: int, total: int) -> None:
        if not others:
            others.append(data.nmnist(tmp_path, **options))

    found = data.nmnist(tmp_path, **options, progress=meanwhile)
    np.testing.assert_array_equal(dense(found), dense(others[0]))
    assert [path.suffix for path in (tmp_path / "tfexplore-packed").iterdir()] == [".npz"]


def test_an_error_in_the_middle_of_a_piece(tmp_path: Path, read: list[str]) -> None:
    samples = write_nmnist(tmp_path)
    path = tmp_path / "Train" / "4" / "00004.bin"
    whole, stamp = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(bytes([0, 200, *whole[2:]]))  # y = 200, outside of the sensor
    os.utime(path, ns=(stamp, stamp))
    with pytest.raises(ValueError, match=r"00004\.bin, sample 0: events lie from .* to 200 on axis 1"):
        data.nmnist(tmp_path, **BINS)
    path.write_bytes(whole)
    os.utime(path, ns=(stamp, stamp))
    del read[:]
    found = data.nmnist(tmp_path, **BINS)
    assert read == [f"{number:05}" for number in range(3, 10)]
    np.testing.assert_array_equal(dense(found), [counted(events, 4, 400_000, 34) for events in samples])


def test_resuming_within_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PIECE", 2)
    write_shd(tmp_path / "shd_train.h5", [([0.125], [unit]) for unit in range(5)], list(range(5)))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.shd(tmp_path, steps=2, dt=0.1, progress=stop)
    found = data.shd(tmp_path, steps=2, dt=0.1)
    assert np.argwhere(dense(found)).tolist() == [[unit, 1, unit] for unit in range(5)]
    assert found.labels.tolist() == list(range(5))


def test_a_changed_recording_or_another_option_is_binned_anew(tmp_path: Path, read: list[str]) -> None:
    write_nmnist(tmp_path)
    data.nmnist(tmp_path, **BINS)
    for options in ({"steps": 8, "dt": 0.05}, {"steps": 4, "dt": 0.2}, {"bits": 8}, {"late": "drop"}):
        del read[:]
        data.nmnist(tmp_path, **(BINS | options))
        assert len(read) == 10, options
    path = tmp_path / "Train" / "4" / "00004.bin"
    stamp = path.stat().st_mtime_ns
    for events, now in (
        ([(5, 1, 2, 3)], stamp),
        ([(5, 1, 4, 3)], stamp + 1_000_000_000),
    ):  # another size, then another time
        path.write_bytes(nmnist_bytes(events))
        os.utime(path, ns=(now, now))
        del read[:]
        found = data.nmnist(tmp_path, **BINS)
        assert len(read) == 10
        assert np.argwhere(dense(found)[4]).tolist() == [[0, *events[0][1:]]]


def test_the_cache_moves_with_the_data(tmp_path: Path, read: list[str]) -> None:
    write_nmnist(tmp_path / "here")
    data.nmnist(tmp_path / "here", **BINS)
    (tmp_path / "here").rename(tmp_path / "there")
    data.nmnist(tmp_path / "there", **BINS)
    assert len(read) == 10


def test_a_broken_cache_is_refused(tmp_path: Path, read: list[str]) -> None:
    write_nmnist(tmp_path)
    data.nmnist(tmp_path, **BINS, cache=tmp_path / "elsewhere")
    assert not (tmp_path / "tfexplore-packed").exists()
    (packed,) = (tmp_path / "elsewhere").iterdir()
    whole = bytearray(packed.read_bytes())
    whole[len(whole) // 2] ^= 1
    packed.write_bytes(whole)
    with pytest.raises(ValueError, match=packed.name):
        data.nmnist(tmp_path, **BINS, cache=tmp_path / "elsewhere")
    assert len(read) == 10


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write_nmnist(tmp_path)
    (tmp_path / "tfexplore-packed").write_text("a file in its place")
    with pytest.raises(PermissionError, match=r"cannot write to .*tfexplore-packed .*; give a folder .*cache="):
        data.nmnist(tmp_path, **BINS)


def test_progress_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    recordings.line(256, 8156)
    recordings.line(8156, 8156)
    assert capsys.readouterr().err == "\r256 of 8,156 samples\r8,156 of 8,156 samples\n"


def test_raw_events(tmp_path: Path) -> None:
    write_shd(tmp_path / "shd_train.h5", [([0.0, 0.25], [3, 4]), ([0.5], [699])], [7, 9])
    found = [
        (label, events.t.tolist(), events.at[0].tolist()) for label, events in sources.SHD.events(tmp_path, "train")
    ]
    assert found == [(7, [0, 250_000], [3, 4]), (9, [500_000], [699])]
    assert torch.equal(data.shd(tmp_path, steps=6, dt=0.1).labels, torch.tensor([7, 9]))
