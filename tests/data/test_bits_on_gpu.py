"""Bits on a GPU: `pytest -m gpu`. The same words as on a CPU, and what is wrong is seen."""

from __future__ import annotations

import itertools

import pytest
import torch

from tfexplore.backends import cuda
from tfexplore.data import pack, unpack

pytestmark = pytest.mark.gpu
if problem := cuda.why_not():
    pytest.skip(f"needs an NVIDIA GPU, a CUDA build of torch, and CuPy: {problem}", allow_module_level=True)

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_words_are_those_of_a_cpu(dtype: torch.dtype) -> None:
    for bits, word, order in itertools.product((1,) if dtype == torch.bool else (1, 2, 8), (8, 32), ("big", "little")):
        x = torch.randint(0, 1 << bits, (37, 70, 129), generator=torch.Generator().manual_seed(bits)).to(dtype)
        for dim in range(3):
            there, here = (
                pack(x.cuda(), dim, bits=bits, word=word, order=order),
                pack(x, dim, bits=bits, word=word, order=order),
            )
            assert there.words.is_cuda
            assert torch.equal(there.words.cpu(), here.words)
            assert torch.equal(unpack(there).cpu(), x)


@pytest.mark.parametrize("dim", [0, 1])
def test_what_is_not_binary_is_refused(dim: int) -> None:
    x = torch.zeros(300, 1000, device="cuda")
    x[299, 999] = 2
    with pytest.raises(ValueError, match=r"1 of 300,000 values are others, the largest 2"):
        pack(x, dim)
    assert unpack(pack(x, dim, counts="any"))[299, 999] == 1
