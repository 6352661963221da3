# ruff: noqa: E501  (a table reads best with a line for each case)
"""Spikes as bits: against NumPy's packbits where it packs the same, else against sums written out; nothing is made binary."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tfexplore import backends
from tfexplore.backends import bits as executed
from tfexplore.data import Packed, pack, unpack
from tfexplore.machine.paths import kernels_dir

if TYPE_CHECKING:
    from tests.cuda_text import FakeCupy

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8)
SHAPES = [(1,), (8,), (9,), (3, 5), (17, 2, 3), (2, 64, 4), (3, 1, 33), (5, 1100), (1100, 2)]


def values(shape: tuple[int, ...], most: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randint(0, most + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_hand(x: Tensor, dim: int, bits: int, order: str, word: int) -> np.ndarray[Any, Any]:
    """The sum of the docstring, in Python's integers."""
    columns = np.moveaxis(x.double().numpy().astype(int), dim, -1)
    per = word // bits
    made = np.zeros((*columns.shape[:-1], -(-columns.shape[-1] // per)), object)
    for place in np.ndindex(columns.shape):
        w, j = divmod(place[-1], per)
        made[(*place[:-1], w)] += int(columns[place]) << bits * (per - 1 - j if order == "big" else j)
    kind = np.uint8 if word == 8 else np.uint32
    return np.moveaxis(made.astype(kind), -1, dim)


@pytest.fixture(params=["numba", "torch", "cuda"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of what can execute it, on the CPU; the CUDA text as C++."""
    if request.param == "cuda":
        request.getfixturevalue("fake_cupy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "choose", lambda name, device: backends.Choice(request.param, "by the test"))
        yield request.param


# -- what is packed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numpy_packs_the_same(backend: str, shape: tuple[int, ...], order: str) -> None:
    for dim, dtype in zip(range(len(shape)), itertools.cycle(DTYPES)):
        x = values(shape, dtype=dtype)
        packed = pack(x, dim, order=order)
        wanted = np.packbits(x.bool().numpy(), axis=dim, bitorder=order)  # type: ignore[call-overload]
        np.testing.assert_array_equal(packed.words.numpy(), wanted)
        assert (packed.shape, packed.dim, packed.dtype, packed.nbytes) == (x.shape, dim, dtype, wanted.nbytes)
        found = unpack(packed)
        assert found.dtype == dtype
        theirs = np.unpackbits(wanted, axis=dim, count=shape[dim], bitorder=order)  # type: ignore[call-overload]
        np.testing.assert_array_equal(found.float().numpy(), theirs.astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(backend: str, dtype: torch.dtype) -> None:
    for bits in (1,) if dtype == torch.bool else (1, 8):
        x = values((19, 3), (1 << bits) - 1, dtype)
        for dim, word in ((0, 8), (1, 32)):
            packed = pack(x, dim, bits=bits, word=word)
            np.testing.assert_array_equal(
                packed.words.numpy().view(f"u{word // 8}"), by_hand(x, dim, bits, "big", word)
            )
            assert torch.equal(unpack(packed), x)
        for other in DTYPES:
            if bits == 1 or other != torch.bool:
                assert torch.equal(unpack(packed, other), x.to(other))


@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3), where=st.integers(0, 2), bits=st.sampled_from([1, 2, 4, 8]),
    order=st.sampled_from(["big", "little"]), word=st.sampled_from([8, 32]), seed=st.integers(0, 99), name=st.sampled_from(["numba", "torch"]),
)  # fmt: skip
@settings(max_examples=120)
def test_any_shape_axis_and_number_of_bits(
    shape: list[int], where: int, bits: int, order: str, word: int, seed: int, name: str
) -> None:
    x, dim = values(tuple(shape), (1 << bits) - 1, seed=seed), where % len(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "choose", lambda backend, device: backends.Choice(name, "by the test"))
        packed = pack(x, dim - len(shape), bits=bits, order=order, word=word)
        np.testing.assert_array_equal(packed.words.numpy().view(f"u{word // 8}"), by_hand(x, dim, bits, order, word))
        assert torch.equal(unpack(packed), x)


def test_the_cuda_text_for_every_number_of_bits(fake_cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "choose", lambda name, device: backends.Choice("cuda", "by the test"))
    for bits, order, word in itertools.product((1, 2, 4, 8), ("big", "little"), (8, 32)):
        x = values((37, 300), (1 << bits) - 1)
        for dim in (0, 1):
            packed = pack(x, dim, bits=bits, order=order, word=word)
            np.testing.assert_array_equal(
                packed.words.numpy().view(f"u{word // 8}"), by_hand(x, dim, bits, order, word)
            )
            assert torch.equal(unpack(packed), x)
    assert {name for name, _ in fake_cupy.launches} == {"pack", "unpack"}


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("word", [8, 32])
def test_several_threads(dim: int, word: int) -> None:
    """More than a part of the work, and results larger than half a cache."""
    threads, x = torch.get_num_threads(), values((70, 33, 1500))
    try:
        torch.set_num_threads(3)
        packed = pack(x, dim, word=word)
        found = unpack(packed)
        x[69, 32, 1499] = 2
        with pytest.raises(ValueError, match=r"but 1 of 3,465,000 values are others, the largest 2"):
            pack(x, dim, word=word)
    finally:
        torch.set_num_threads(threads)
    x[69, 32, 1499] = found[69, 32, 1499]
    assert torch.equal(found, x)
    if word == 8:
        np.testing.assert_array_equal(packed.words.numpy(), np.packbits(x.bool().numpy(), axis=dim))


def test_any_strides_and_no_values(backend: str) -> None:
    x = values((6, 4, 10))
    for strange in (x.transpose(0, 2), x[::2, :, 1:7:3], x[:1].expand(9, 4, 10)):
        assert torch.equal(unpack(pack(strange, 1)), strange)
    for shape, dim in (((0, 3), 0), ((3, 0), 0), ((3, 0, 2), 2), ((0,), 0)):
        packed = pack(torch.zeros(shape), dim)
        assert packed.shape == unpack(packed).shape == shape


def test_it_has_no_gradient() -> None:
    x = values((9, 2)).requires_grad_()
    assert not pack(x).words.requires_grad
    assert not unpack(pack(x)).requires_grad


# -- what is not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, float("nan"), float("inf"), float("-inf"), 1e-3])
def test_nothing_is_silently_made_binary(backend: str, value: float, dtype: torch.dtype, dim: int) -> None:
    """One value among many, in a whole word and in the last one."""
    for place in ((3, 2), (18, 16)):
        x = values((19, 17), dtype=dtype)
        x[place] = value
        for bits in (1, 4):
            if bits == 4 and value == 2:
                assert torch.equal(unpack(pack(x, dim, bits=bits)), x)
                continue
            with pytest.raises(ValueError, match=r"but 1 of 323 values are others"):
                pack(x, dim, bits=bits)
        if value == value:
            assert torch.equal(unpack(pack(x, dim, counts="any")), (x != 0).to(dtype))
        else:
            with pytest.raises(ValueError, match=r"x must have numbers, but 1 of 323 values are NaN\."):
                pack(x, dim, counts="any")


def test_minus_zero_is_zero(backend: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert not unpack(pack(torch.full((9,), -0.0, dtype=dtype))).any()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_counts_up_to_what_the_bits_hold(backend: str, bits: int) -> None:
    x = values((9, 3), (1 << bits) - 1)
    x[4, 1] = 1 << bits
    with pytest.raises(
        ValueError, match=rf"whole numbers from 0 to {(1 << bits) - 1}, but 1 of 27 .* largest {1 << bits};"
    ):
        pack(x, bits=bits)


X = torch.tensor([0.0, 3, 1, 7])
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "counts": (lambda: pack(X), ValueError, r"x must have only 0 and 1, but 2 of 4 values are others, the largest 7; keep the counts with bits=4, or make each a 1 with counts='any'\."),
    "larger counts": (lambda: pack(X * 1000, bits=8), ValueError, r"x must have only whole numbers from 0 to 255, but 3 of 4 values are others, the largest 7000; make each a 1 with counts='any'\."),
    "numbers": (lambda: pack(X / 2), ValueError, r"x must have .*, but 3 of 4 values are others, the largest 3\.5; make spikes of it first, such as \(x > 0\.5\)\."),
    "a list": (lambda: pack([0, 1]), TypeError, r"x must be a dense tensor, but got list\."),  # type: ignore[arg-type]
    "sparse": (lambda: pack(X.to_sparse()), TypeError, r"x must be a dense tensor, but got layout torch\.sparse_coo\."),
    "integers": (lambda: pack(X.long()), TypeError, r"x must be one of float32, float64, float16, bfloat16, bool, uint8, but got int64\."),
    "axis": (lambda: pack(X, 1), ValueError, r"dim must be an axis of x, from -1 to 0, but got 1\."),
    "no axis": (lambda: pack(X[0]), ValueError, r"dim must be an axis, but a single number has none, but got 0\."),
    "bits": (lambda: pack(X, bits=3), ValueError, r"bits must be 1, 2, 4 or 8, but got 3\."),
    "word": (lambda: pack(X, word=64), ValueError, r"word must be 8 or 32 bits, but got 64\."),
    "order": (lambda: pack(X, order="middle"), ValueError, r"order must be 'big' or 'little', but got 'middle'\."),
    "counts in words": (lambda: pack(X, counts="keep"), ValueError, r"counts must be 'refuse' or 'any', but got 'keep'; .*"),
    "any of two bits": (lambda: pack(X, bits=2, counts="any"), ValueError, r"counts='any' makes every count a single bit, but got bits=2; .*"),
    "counts as bool": (lambda: unpack(pack(X, bits=4), torch.bool), TypeError, r"dtype must be one of float32, .*, uint8 for counts, but got bool\."),
    "packed axis": (lambda: pack(X, bits=4)[1:], IndexError, r"axis 0 is packed, and its index must be :, but got slice\(1, None, None\); unpack it first\."),
    "words": (lambda: Packed(X, 4), ValueError, r"words must be uint8 or int32, but got float32\."),
    "length": (lambda: Packed(X.byte(), 9), ValueError, r"9 values of 1 bits are 2 words of 8 bits, but axis 0 of words has 4: \(4,\)\."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, kind, message = BAD[name]
    with pytest.raises(kind) as caught:
        call()
    assert re.fullmatch(message, str(caught.value)), str(caught.value)


# -- the value -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index",
    [0, slice(1, 4), [4, 0, 4], torch.tensor([1, 3]), torch.tensor([True, False, True, False, True]), torch.tensor([[0, 1], [2, 3]]),
     (slice(None), slice(None), 2), (slice(0, 2), slice(None), slice(1, 3)), (1, slice(None), -1), (slice(None), slice(None), [2, 0])],
    ids=str,
)  # fmt: skip
def test_other_axes_are_indexed_as_the_tensor_is(index: Any) -> None:
    x = values((5, 19, 3))
    part = pack(x, 1)[index]
    assert torch.equal(unpack(part), x[index])
    assert part.shape == x[index].shape


def test_it_is_a_value() -> None:
    packed = pack(values((30, 2, 7)), bits=2)
    assert repr(packed) == "<Packed [30, 2, 7] float32: 2 bits along axis 0, 112 bytes>"
    assert packed.device.type == "cpu"
    assert "meta" in repr(packed.to("meta"))
    with pytest.raises(AttributeError):
        packed.length = 3  # type: ignore[misc]
    assert torch.equal(unpack(copy.deepcopy(packed)), unpack(packed))


def test_a_thirty_second_of_float32() -> None:
    x = values((64, 8, 100))
    assert (pack(x).nbytes, pack(x, word=32).nbytes, pack(x, 2).nbytes) == (x.nbytes // 32, x.nbytes // 32, 64 * 8 * 13)


# -- compiled for GPUs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_it_for_every_architecture(arch: str) -> None:
    core = pytest.importorskip(
        "cuda.core", reason="compiles without a GPU through cuda-core; .[test] installs it on Linux"
    )
    from tests.cuda_text import header_folders

    text = (kernels_dir() / "bits.cu").read_text(encoding="utf-8")
    for dtype, word in zip(DTYPES, itertools.cycle((8, 32) if arch < "sm_90" else (32, 8))):
        defined = [tuple(each.removeprefix("-D").split("=")) for each in executed.options(dtype, word)]
        options = core.ProgramOptions(
            name="bits.cu", arch=arch, std="c++17", fma=False, ftz=True, define_macro=defined, include_path=header_folders(),
            device_as_default_execution_space=True,
        )  # fmt: skip
        assert len(core.Program(text, "c++", options).compile("cubin").code) > 0
