"""What packs values into bits and unpacks them: the loops of `kernels/bits` on a CPU and on a GPU, elsewhere torch's operators.

Along the middle axis of [outer, length, inner]: a word has `per` values of `bits` bits each. Names, checks and messages are in
`tfexplore/data/bits.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tfexplore import backends
from tfexplore.codegen.builds import THREADS
from tfexplore.codegen.cuda_source import DATA
from tfexplore.machine.torch_private import is_recorded

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8)
"""Those of values."""
WORDS = {8: torch.uint8, 32: torch.int32}
"""The dtype of a word, by its bits."""


class Layout(NamedTuple):
    """How values lie in words.

    Args:
        bits: of a value: 1, 2, 4 or 8.
        big: whether the first value of a word is in its highest bits.
        word: bits of a word: 8 or 32.
    """

    bits: int = 1
    big: bool = True
    word: int = 8

    @property
    def per(self) -> int:
        """Values in a word."""
        return self.word // self.bits

    @property
    def order(self) -> Literal["big", "little"]:
        """As NumPy calls it."""
        return "big" if self.big else "little"

    def count(self, length: int) -> int:
        """Words for so many values."""
        return -(-length // self.per)


def pack(x: Tensor, layout: Layout, nonzero: bool) -> tuple[Tensor, Tensor]:
    """Values [outer, length, inner] -> words [outer, count, inner]; and whether any was wrong, one value on x's device.

    nonzero: any value but 0 is a 1, and only NaN is wrong; else what is no whole number from 0 to 2^bits - 1.
    """
    if along_memory(x.dtype, x, layout):
        return torch.from_numpy(np.packbits(x.numpy(), 1, layout.order)), NOTHING
    outer, length, inner = x.shape
    shape = outer, layout.count(length), inner
    if not x.numel():
        return x.new_empty(shape, dtype=WORDS[layout.word]), x.new_zeros((), dtype=torch.bool)
    if inner == 1 and not length % layout.per:
        x = x.reshape(1, -1, 1)  # one long line
    route = {"numba": pack_numba, "cuda": pack_cuda}.get(executor(x.device), pack_torch)
    words, wrong = route(x, layout, nonzero)
    return words.view(shape), wrong


def unpack(words: Tensor, length: int, layout: Layout, dtype: torch.dtype) -> Tensor:
    """Words [outer, count, inner] -> values [outer, length, inner] of this dtype."""
    if along_memory(dtype, words, layout):
        return torch.from_numpy(np.unpackbits(words.numpy(), 1, length, layout.order)).view(torch.bool)
    outer, _, inner = shape = words.shape[0], length, words.shape[2]
    if not outer * length * inner:
        return words.new_empty(shape, dtype=dtype)
    if inner == 1 and not length % layout.per:
        words, length = words.reshape(1, -1, 1), outer * length
    route = {"numba": unpack_numba, "cuda": unpack_cuda}.get(executor(words.device), unpack_torch)
    return route(words, length, layout, dtype).view(shape)


def executor(device: torch.device) -> str:
    """Which backend packs there. What is replayed from a list of PyTorch's operators must be made of these."""
    name = backends.choose("auto", device).name
    return "torch" if name == "numba" and is_recorded() else name


NOTHING = torch.zeros((), dtype=torch.bool, device="cpu")


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, as a graph break where torch.compile traces; a decorator would load Dynamo at import."""
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function


def along_memory(dtype: torch.dtype, tensor: Tensor, layout: Layout) -> bool:
    """Booleans that are neighbours, on a CPU: NumPy has less around its own loop (8 instead of 45 µs for few)."""
    few = dtype == torch.bool and tensor.shape[2] == 1 and layout[::2] == (1, 8) and tensor.device.type == "cpu"
    return few and not is_recorded()


# -- Numba -----------------------------------------------------------------------------------------------------------

ROW = 4096
"""Bytes of neighbouring values from which on stores past the cache pay."""


def pack_numba(x: Tensor, layout: Layout, nonzero: bool) -> tuple[Tensor, Tensor]:
    """Half precision is converted to float32 first, as the layers do on a CPU."""
    numba = backends.module("numba")
    kind = {torch.float64: "float64", torch.bool: "bool", torch.uint8: "uint8"}.get(x.dtype, "float32")
    outer, length, inner = x.shape
    words, held = numba.made((outer, layout.count(length), inner), f"int{layout.word}")
    call, parts = prepared("pack", layout, held.size, 0, torch.get_num_threads())
    wrong, values = np.zeros(parts, np.uint8), numba.array(x, kind).reshape(-1, inner)
    call(
        values.view(np.uint8) if kind == "bool" else values, *numbers(length, layout), np.uint64(nonzero),
        held.view(f"u{layout.word // 8}").reshape(-1, inner), wrong,
    )  # fmt: skip
    return words.view(WORDS[layout.word]), torch.from_numpy(wrong).any()


def unpack_numba(words: Tensor, length: int, layout: Layout, dtype: torch.dtype) -> Tensor:
    outer, _, inner = words.shape
    numba = backends.module("numba")
    half = dtype in (torch.float16, torch.bfloat16)
    if half and layout.bits > 1:
        return numba.converted(unpack_numba(words, length, layout, torch.float32), dtype)
    # NumPy knows no bfloat16: of half precision, the 16 bits of 1.0 are multiplied with 0 or 1
    kind = torch.int16 if half else torch.uint8 if dtype == torch.bool else dtype
    out, values = numba.made((outer, length, inner), backends.name_of(kind))
    in_row = (length if inner == 1 else inner) * kind.itemsize
    call, _ = prepared("unpack", layout, words.numel(), out.nbytes if in_row >= ROW else 0, torch.get_num_threads())
    held = words.contiguous().numpy().view(f"u{layout.word // 8}").reshape(-1, inner)
    call(held, *numbers(length, layout), torch.ones(1, dtype=dtype).view(kind).numpy(), values.reshape(-1, inner))
    return out.view(dtype)


@functools.lru_cache(maxsize=1024)
def prepared(name: str, layout: Layout, words: int, written: int, threads: int) -> tuple[Callable[..., None], int]:
    """What calls the kernel for so many words, and its number of parts."""
    numba = backends.module("numba")
    parts = numba.parts_of(layout.per, words)
    return numba.caller(numba.load("", "bits", name), written, parts), len(parts)


def numbers(length: int, layout: Layout) -> tuple[np.uint64, ...]:
    return np.uint64(length), np.uint64(layout.bits), np.uint64(layout.big)


# -- CUDA ------------------------------------------------------------------------------------------------------------


def pack_cuda(x: Tensor, layout: Layout, nonzero: bool) -> tuple[Tensor, Tensor]:
    outer, length, inner = x.shape
    words = x.new_empty((outer, layout.count(length), inner), dtype=WORDS[layout.word])
    x, wrong = x.contiguous(), x.new_zeros((), dtype=torch.uint8)
    launch("pack", (x, words, wrong), words, length, layout, x.dtype, nonzero)
    return words, wrong


def unpack_cuda(words: Tensor, length: int, layout: Layout, dtype: torch.dtype) -> Tensor:
    words = words.contiguous()
    out = words.new_empty((len(words), length, words.shape[2]), dtype=dtype)
    launch("unpack", (words, out), words, length, layout, dtype)
    return out


def launch(
    name: str, tensors: tuple[Tensor, ...], words: Tensor, length: int, layout: Layout, dtype: torch.dtype, nonzero: bool = False
) -> None:  # fmt: skip
    """Launches the kernel `pack` or `unpack` of values of this dtype on torch's current stream of the device."""
    import cupy

    cuda = backends.module("cuda")
    device, inner, total = words.device.index or 0, words.shape[-1], words.numel()
    kernel = cuda.load("", "bits", options(dtype, layout.word), device, name)
    numbers = (length, layout.count(length), inner, total, layout.per, layout.bits, layout.big, nonzero)
    arguments = (*(np.int64(tensor.data_ptr()) for tensor in tensors), cuda.packed(numbers, "int64"))
    stream = SimpleNamespace(ptr=torch.cuda.current_stream(device).cuda_stream)
    with cupy.cuda.Device(device):
        kernel((-(-total // THREADS),), (THREADS,), arguments, stream=stream)


def options(dtype: torch.dtype, word: int) -> tuple[str, ...]:
    """The types of values and words, for the compiler."""
    value = {torch.bool: "bool", torch.uint8: "unsigned char"} | {
        getattr(torch, name): text for name, text in DATA.items()
    }
    chosen = {
        "VALUE": value[dtype],
        "REAL": "double" if dtype == torch.float64 else "float",
        "WORD": {8: "unsigned char", 32: "unsigned"}[word],
        "HEADER": {torch.float16: 1, torch.bfloat16: 2}.get(dtype, 0),
    }
    return tuple(f"-D{key}={text}" for key, text in chosen.items())


# -- torch -----------------------------------------------------------------------------------------------------------


def pack_torch(x: Tensor, layout: Layout, nonzero: bool) -> tuple[Tensor, Tensor]:
    outer, length, inner = x.shape
    code = (x != 0) if nonzero or layout.bits == 1 else torch.where((x >= 0) & (x <= (1 << layout.bits) - 1), x, 0)
    code = code.to(torch.int32)
    wrong = (x != x if nonzero else code != x).any()
    columns = torch.nn.functional.pad(code, (0, 0, 0, -length % layout.per)).view(outer, -1, layout.per, inner)
    words = (columns << shifts(layout, x.device)).sum(2, dtype=torch.int32)  # bits apart: their sum is their union
    return words.to(WORDS[layout.word]), wrong


def unpack_torch(words: Tensor, length: int, layout: Layout, dtype: torch.dtype) -> Tensor:
    outer, _, inner = words.shape
    values = words.to(torch.int32).unsqueeze(2) >> shifts(layout, words.device) & (1 << layout.bits) - 1
    return values.reshape(outer, -1, inner)[:, :length].to(dtype).contiguous()


def shifts(layout: Layout, device: torch.device) -> Tensor:
    """The lowest bit of each value of a word, [per, 1]."""
    places = torch.arange(layout.per, dtype=torch.int32, device=device) * layout.bits
    return (places.flip(0) if layout.big else places).unsqueeze(1)
