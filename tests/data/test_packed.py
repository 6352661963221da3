# ruff: noqa: E501  (a table reads best with a line for each case)
"""A data set as bits, against the same one unpacked: plain torch, sample by sample; and its file, whole, changed or missing."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tfexplore.data import Crop, Flip, Packed, PackedDataset, Shift, pack, unpack

N, T, FEATURES = 21, 13, (2, 6, 5)


def spikes(most: int = 1, seed: int = 0) -> Tensor:
    return torch.randint(0, most + 1, (N, T, *FEATURES), generator=torch.Generator().manual_seed(seed)).float()


def made(most: int = 1, bits: int = 1, **given: Any) -> tuple[Tensor, PackedDataset]:
    x = spikes(most)
    return x, PackedDataset(pack(x, 1, bits=bits), torch.arange(N), **given)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_batches_are_the_samples_in_their_order_time_first() -> None:
    x, dataset = made()
    assert len(dataset) == N
    for size in (1, 4, 7, 21, 50):
        found = list(dataset.batches(size))
        assert [len(labels) for _, labels in found] == [len(part) for part in torch.arange(N).split(size)]
        assert torch.equal(torch.cat([batch for batch, _ in found], 1), x.transpose(0, 1))
        assert torch.equal(torch.cat([labels for _, labels in found]), torch.arange(N))
        assert all(batch.dtype == torch.float32 and batch.is_contiguous() for batch, _ in found)
    assert [len(labels) for _, labels in dataset.batches(4, drop_last=True)] == [4] * 5


def test_shuffled_batches_have_each_sample_once_and_are_repeated_by_the_seed() -> None:
    x, dataset = made(most=3, bits=2)
    found, again, other = (list(dataset.batches(4, shuffle=generator(seed))) for seed in (3, 3, 4))
    order = torch.cat([labels for _, labels in found])
    assert sorted(order.tolist()) == list(range(N))
    assert order.tolist() != list(range(N))
    assert torch.equal(torch.cat([batch for batch, _ in found], 1), x[order].transpose(0, 1))
    assert torch.equal(torch.cat([labels for _, labels in again]), order)
    assert not torch.equal(torch.cat([labels for _, labels in other]), order)
    drawn = generator()
    epochs = [torch.cat([labels for _, labels in dataset.batches(4, shuffle=drawn)]) for _ in range(2)]
    assert not torch.equal(*epochs)


def test_packed_batches_and_lengths() -> None:
    lengths = torch.arange(N) % (T + 1)
    x, dataset = made(lengths=lengths, names=("left", "right"))
    for batch, labels, steps in dataset.batches(6, packed=True, shuffle=generator()):
        assert isinstance(batch, Packed)
        assert (batch.dim, batch.dtype) == (0, torch.float32)
        assert torch.equal(unpack(batch), x[labels].transpose(0, 1))
        assert torch.equal(steps, lengths[labels])
    assert dataset.names == ("left", "right")


# -- augmentation ----------------------------------------------------------------------------------------------------


def shifted(sample: Tensor, down: int, right: int) -> Tensor:
    """One sample [T, C, H, W] by slices."""
    found = torch.zeros_like(sample)
    height, width = sample.shape[-2:]
    found[..., max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = sample[
        ..., max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return found


def choices(sample: Tensor, change: Any) -> dict[Any, Tensor]:
    """Whatever the augmentation may make of it."""
    if isinstance(change, Flip):
        return {False: sample, True: sample.flip(change.axis)}
    if isinstance(change, Shift):
        reach = range(-change.most, change.most + 1)
        return {(d, r): shifted(sample, d, r) for d in reach for r in reach}
    height, width = change.size
    places = [(i, j) for i in range(FEATURES[1] - height + 1) for j in range(FEATURES[2] - width + 1)]
    return {(i, j): sample[..., i : i + height, j : j + width] for i, j in places}


@pytest.mark.parametrize("change", [Shift(1), Shift(2), Flip(), Flip(-2), Crop((4, 3)), Crop((6, 5))], ids=str)
@pytest.mark.parametrize(("most", "bits"), [(1, 1), (15, 4)])
def test_augmented_samples_are_what_torch_makes_of_them_unpacked(change: Any, most: int, bits: int) -> None:
    x, dataset = made(most, bits)
    found = []
    for _ in range(3):
        for batch, labels in dataset.batches(8, shuffle=generator(len(found)), augment=[change]):
            for b, label in enumerate(labels):
                (drawn,) = [
                    key for key, sample in choices(x[label], change).items() if torch.equal(sample, batch[:, b])
                ]
                found.append(drawn)
    possible = set(choices(x[0], change))
    assert set(found) == possible if len(possible) < 20 else len(set(found)) > 10


def test_augmentations_one_after_the_other_and_by_the_generator() -> None:
    x, dataset = made()
    several = (Shift(1), Flip(p=1.0), Crop((4, 3)))
    one, two = (list(dataset.batches(8, shuffle=generator(), augment=several)) for _ in range(2))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(one, two, strict=True))
    assert one[0][0].shape == (T, 8, 2, 4, 3)
    for batch, labels in one:
        for b, label in enumerate(labels):
            ways = [
                crop
                for moved in choices(x[label], Shift(1)).values()
                for crop in choices(moved.flip(-1), Crop((4, 3))).values()
            ]
            assert any(torch.equal(way, batch[:, b]) for way in ways)
    (packed, *_), *_ = dataset.batches(8, shuffle=generator(), augment=several, packed=True)
    assert torch.equal(unpack(packed), one[0][0])


def test_features_of_one_axis() -> None:
    x = (torch.rand(9, T, 40, generator=generator()) < 0.3).float()
    dataset = PackedDataset(pack(x, 1), torch.arange(9))
    for batch, labels in dataset.batches(4, shuffle=generator(), augment=[Shift(3, axes=(-1,))]):
        for b, label in enumerate(labels):
            padded = torch.nn.functional.pad(x[label], (3, 3))
            assert any(torch.equal(batch[:, b], padded[:, k : k + 40]) for k in range(7))


# -- as a value ------------------------------------------------------------------------------------------------------


def test_parts_of_it() -> None:
    x, dataset = made(lengths=torch.full((N,), 5), names=["a"])
    for index in (slice(3, 9), [5, 1, 1], torch.tensor([20, 0]), torch.arange(N) % 2 == 0):
        part = dataset[index]
        assert torch.equal(unpack(part.spikes), x[index])
        assert torch.equal(part.labels, torch.arange(N)[index])
        assert part.lengths is not None
        assert (len(part.lengths), part.names) == (len(part), ("a",))
    assert dataset.nbytes == N * 2 * 60 + 2 * N * 8
    assert repr(dataset).startswith("<PackedDataset of 21 samples, 1 classes: <Packed [21, 13, 2, 6, 5] float32")
    assert dataset.to("meta").device.type == dataset.to("meta").labels.device.type == "meta"


def test_a_thirty_second_of_float32() -> None:
    x = torch.zeros(10, 64, 700)
    assert pack(x, 1).nbytes * 32 == x.nbytes


BAD = {
    "time first": (lambda: PackedDataset(pack(spikes(), 0), torch.arange(N)), r"spikes must be packed along T, .* but got <Packed .*"),
    "labels": (lambda: PackedDataset(pack(spikes(), 1), torch.arange(3)), r"labels must have one for each of 21 samples, but got shape \(3,\)\."),
    "lengths": (lambda: made(lengths=torch.full((N,), T + 1)), r"lengths must be from 0 to T = 13, but got 14 to 14\."),
    "no generator": (lambda: made()[1].batches(4, augment=[Flip()]), r"augment draws from the generator of shuffle; .*"),
    "size": (lambda: made()[1].batches(0), r"size must be a whole number from 1 on, but got 0\."),
    "shift": (lambda: Shift(0), r"most must be a whole number from 1 on, but got 0\."),
    "p": (lambda: Flip(p=2.0), r"p must be a finite number from 0 to 1, but got 2\.0\."),
    "crop": (lambda: list(made()[1].batches(4, shuffle=generator(), augment=[Crop((7, 5))])), r"every size of Crop must be .* from 1 to 6, but got 7\."),
    "axis": (lambda: list(made()[1].batches(4, shuffle=generator(), augment=[Flip(-4)])), r"Flip\(axis=-4, p=0\.5\) acts on axis -4 of the features, .* \(2, 6, 5\)\."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError) as caught:
        call()  # type: ignore[no-untyped-call]
    assert re.fullmatch(message, str(caught.value)), str(caught.value)


# -- its file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_lengths", [True, False])
@pytest.mark.parametrize("word", [8, 32])
def test_saved_and_loaded(tmp_path: Path, with_lengths: bool, word: int) -> None:
    x = spikes(3).to(torch.bfloat16)
    lengths = torch.arange(N) % T if with_lengths else None
    dataset = PackedDataset(pack(x, 1, bits=2, order="little", word=word), torch.arange(N).int(), lengths, ["α", "b"])
    path = tmp_path / "new" / "data.npz"
    for _ in range(2):  # the second replaces the first
        dataset.save(path)
    found = PackedDataset.load(path)
    assert torch.equal(unpack(found.spikes), x)
    assert (found.spikes.order, found.spikes.bits, found.spikes.words.dtype) == (
        "little",
        2,
        dataset.spikes.words.dtype,
    )
    assert torch.equal(found.labels, dataset.labels)
    assert found.labels.dtype == torch.int32
    assert found.names == ("α", "b")
    assert (found.lengths is None) is (lengths is None)
    assert lengths is None or torch.equal(found.lengths, lengths)  # type: ignore[arg-type]
    assert [each.name for each in path.parent.iterdir()] == ["data.npz"]
    with np.load(path, allow_pickle=False) as file:  # anybody can read it
        assert json.loads(str(file["about"]))["T"] == T
        assert file["words"].shape == dataset.spikes.words.shape


def test_no_samples_are_no_batch() -> None:
    _, dataset = made()
    assert list(dataset[:0].batches(4)) == []
    assert list(dataset[:0].batches(4, drop_last=True)) == []


@pytest.mark.parametrize("number", [1, np.int64(1), torch.tensor(1)], ids=["Python", "NumPy", "torch"])
def test_one_sample_is_a_slice(number: Any) -> None:
    with pytest.raises(TypeError, match=r"\[k:k \+ 1\]"):
        made()[1][number]


def test_a_device_that_is_not_there_is_no_damage_to_the_file(tmp_path: Path) -> None:
    made()[1].save(tmp_path / "some.npz")
    with pytest.raises(RuntimeError) as caught:
        PackedDataset.load(tmp_path / "some.npz", "no such device")
    assert "delete" not in str(caught.value)


def test_a_changed_file_is_one_clear_error(tmp_path: Path) -> None:
    _, dataset = made()
    path = tmp_path / "data.npz"
    dataset.save(path)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 211):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        found = None
        with contextlib.suppress(ValueError):
            found = PackedDataset.load(path)
        if found is None:
            refused += 1
        else:  # a byte that nothing reads, such as a date
            assert torch.equal(found.spikes.words, dataset.spikes.words)
            assert torch.equal(found.labels, dataset.labels)
    assert refused > 10
    for text in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(text)
        with pytest.raises(
            ValueError, match=r"is not a data set as PackedDataset\.save wrote it .*; delete it and make it again\."
        ):
            PackedDataset.load(path)


def test_changed_words_that_the_archive_does_not_notice(tmp_path: Path) -> None:
    _, dataset = made()
    path = tmp_path / "data.npz"
    for name, change in (("words", lambda a: a ^ 1), ("labels", lambda a: a + 1), ("about", None)):
        dataset.save(path)
        with np.load(path) as file:
            arrays = dict(file)
        about = json.loads(str(arrays["about"]))
        arrays[name] = np.array(json.dumps(about | {"T": T - 1})) if change is None else change(arrays[name])
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match="its content is another than its SHA-256"):
            PackedDataset.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        PackedDataset.load(tmp_path / "none.npz")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, dataset = made()
    path = tmp_path / "data.npz"
    dataset.save(path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        dataset[:3].save(path)
    assert len(PackedDataset.load(path)) == N
    assert [each.name for each in tmp_path.iterdir()] == ["data.npz"]
