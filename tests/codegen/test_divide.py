"""kernels/divide.cuh, run as C++: its short division is the division of the hardware, to the bit, and reports where it is not."""

import ctypes
import itertools
import math
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from tests.cuda_text import FLAGS, FOLDER
from tfexplore.machine.paths import kernels_dir

# All of one kind of x, in the program itself: eight million mantissas are slow in Python. `flush` does what -ftz=true does to
# every operand and result on a GPU: a denormal becomes a zero of its sign.
PROGRAM = """
#include <string.h>
#include "cuda_on_cpu.h"
#include "divide.cuh"

static float flush(float a) { return FTZ && fabsf(a) < 0x1p-126f ? copysignf(0.0f, a) : a; }
static bool same(float a, float b) { return memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b); }
static float from(unsigned bits) { float a; memcpy(&a, &bits, sizeof a); return a; }

#if FTZ  // the same three operations, each flushed as on a GPU
static float ours(float x, float y) {
    x = flush(x), y = flush(y);
    const float r = flush(reciprocal(y)), q = flush(x * r), e = flush(fmaf(q, y, -x)), exact = flush(fmaf(-e, r, q));
    return fabsf(exact) >= 0x1p-62f || x == flush(r * 0.0f) ? exact : flush(x / y);
}
#else
static float ours(float x, float y) { return divide(x, y, reciprocal(y)); }
#endif

// how many of `count` floats from these bits on differ, for each of the divisors; the first that does
extern "C" long long differ(const float *ys, int divisors, unsigned first, long long count, unsigned stride, float *worst) {
    long long found = 0;
    for (int k = 0; k < divisors; ++k)
        for (long long n = 0; n < count; ++n) {
            const float x = from(first + unsigned(n) * stride);
            if (!same(ours(x, ys[k]), flush(flush(x) / flush(ys[k]))) && !found++) worst[0] = x, worst[1] = ys[k];
        }
    return found;
}

extern "C" long long differ_double(const double *x, const double *y, long long count) {
    long long found = 0;
    for (long long n = 0; n < count; ++n) {
        const double a = divide(x[n], y[n], reciprocal(y[n])), b = x[n] / y[n];
        found += memcmp(&a, &b, sizeof a) != 0 && (a == a || b == b);
    }
    return found;
}

extern "C" int short_way(float x, float y) {  // is it taken?
    const float r = reciprocal(y), q = x * r, e = fmaf(q, y, -x), exact = fmaf(-e, r, q);
    return fabsf(exact) >= 0x1p-62f || x == r * 0.0f;
}
"""
MANTISSAS = 1 << 23
TAUS = np.array([2, 1.5, 3, 10, 20, 1 + 2**-23, 2 - 2**-23, 7.3, 100 / 3, 1e4, 1e-3, math.pi], np.float32)


@pytest.fixture(scope="module", params=[False, True], ids=["denormals kept", "denormals flushed"])
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, require: Callable[..., str]
) -> ctypes.CDLL:
    compiler = require("g++", "clang++", why="to run divide.cuh as C++")
    folder = tmp_path_factory.mktemp("divide")
    made = folder / "divide.so"
    command = [compiler, "-x", "c++", "-", *FLAGS]
    command += [f"-DFTZ={int(request.param)}", f"-I{FOLDER}", f"-I{kernels_dir()}", "-o", str(made)]
    done = subprocess.run(command, input=PROGRAM, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found = ctypes.CDLL(str(made))
    found.differ.restype = found.differ_double.restype = ctypes.c_longlong
    found.short_way.argtypes = [ctypes.c_float, ctypes.c_float]
    return found


def differing(library: ctypes.CDLL, ys: np.ndarray, first: int, count: int, stride: int = 1) -> tuple[int, list[float]]:
    worst = (ctypes.c_float * 2)()
    ys = np.ascontiguousarray(ys, np.float32)
    pointer = ys.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    count = library.differ(
        pointer, len(ys), ctypes.c_uint(first), ctypes.c_longlong(count), ctypes.c_uint(stride), worst
    )
    return count, list(worst)


def test_every_mantissa(library: ctypes.CDLL) -> None:
    """Within the range of normal numbers a quotient's rounding depends on mantissas alone: all of x's, for a dozen divisors."""
    ones = int(np.float32(1).view(np.uint32))
    assert differing(library, TAUS, ones, MANTISSAS) == (0, [0.0, 0.0])
    assert all(library.short_way(x, y) for x in (1.0, -1.75, 3e-15, 1e30) for y in TAUS), "else it shows nothing"


def test_every_exponent_infinities_nan_zeros_and_denormals(library: ctypes.CDLL) -> None:
    """All 2^32 floats in steps of a prime, hence all their kinds, for divisors of every kind, those with no short way too."""
    awkward = [0.0, -0.0, -2.0, 1e-30, 1e30, 1e-40, math.inf, -math.inf, math.nan, 2.0**-16, 2.0**16, 2.0**-17, 2.0**17]
    stride = 10_007
    ys = np.array([*TAUS, *awkward], np.float32)
    assert differing(library, ys, 0, (1 << 32) // stride, stride) == (0, [0.0, 0.0])
    edges = [0, 1, 2, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000]
    for bits, sign in itertools.product(edges, (0, 1 << 31)):
        assert differing(library, ys, bits | sign, 1) == (0, [0.0, 0.0]), hex(bits | sign)


def test_random_divisors(library: ctypes.CDLL) -> None:
    ys = np.random.default_rng(0).uniform(1, 4, 2_000).astype(np.float32)
    # from 2^-70, around the end of the short way, to 2^70
    assert differing(library, ys, int(np.float32(2**-70).view(np.uint32)), 14_000, 83_891) == (0, [0.0, 0.0])


def test_double_precision(library: ctypes.CDLL) -> None:
    make = np.random.default_rng(0)
    count = 2_000_000
    x = make.standard_normal(count) * 10.0 ** make.integers(-320, 300, count)
    y = np.where(make.random(count) < 0.9, make.uniform(1, 100, count), make.standard_normal(count))
    x[:8], y[:8] = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e308, -0.0], [2, 2, 2, 2, 2, 2, 2, -2]
    pointers = (a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in (x, y))
    assert library.differ_double(*pointers, ctypes.c_longlong(count)) == 0
