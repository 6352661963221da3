"""How the CPU kernels access memory: software prefetching, and non-temporal stores, which bypass the cache.

An ordinary store reads the line it writes to into the cache first, so writing a word costs two words of memory traffic.
A non-temporal store does not; it pays where the tensor is larger than the cache, and costs where it is not. LLVM's
vectoriser cannot make them out of a loop (it knows nothing of alignment there), so a loop fills a short `row` that stays in
the cache, and `write` stores it.

The hardware prefetches along a row of time by itself, but only within a page, of 4 KiB for most tensors; the row of the next
time step is far away. `prefetch` loads a piece of it while the same piece of this one is computed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

intrinsic: Any = extending.intrinsic  # called in compiled code without its first argument, which no type can express
LINE = np.uint64(64)
"""Bytes of a cache line, and of the vectors that are stored: a whole line at a time leaves nothing to be read."""


def cache_size() -> int:
    """Bytes of the last-level cache, where the system reports them; else 16 MiB."""
    name = "SC_LEVEL3_CACHE_SIZE"
    return (os.sysconf(name) if name in getattr(os, "sysconf_names", ()) else 0) or 16 << 20


CACHE = cache_size()


@intrinsic
def cut(typingctx: Any, array: Any, row: Any, begin: Any, end: Any) -> Any:
    """array[row, begin:end] of a contiguous array [rows, n], unchecked: a slice takes ten times as long to compile."""
    view = types.Array(array.dtype, 1, "C")

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = make_array(signature.args[0])(context, builder, arguments[0])
        _, row, begin, end = arguments
        first = builder.add(builder.mul(row, cgutils.unpack_tuple(builder, whole.shape)[1]), begin)
        made = make_array(view)(context, builder)
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
        populate_array(
            made, builder.gep(whole.data, [first]), [builder.sub(end, begin)], [size], size, meminfo=None
        )  # fmt: skip
        return made._getvalue()

    return view(array, types.uint64, types.uint64, types.uint64), emit


@intrinsic
def store_lines(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """Copies `count` lines between two addresses, the target's a multiple of `LINE`, with non-temporal stores."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, at, lines = arguments
        vector = ir.VectorType(ir.IntType(64), 8)
        to, at = (builder.inttoptr(address, vector.as_pointer()) for address in (to, at))
        past_the_cache = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        with cgutils.for_range(builder, lines, intp=lines.type) as loop:
            value = builder.load(builder.gep(at, [loop.index]), align=1)
            stored = builder.store(value, builder.gep(to, [loop.index]), align=64)
            stored.set_metadata("nontemporal", past_the_cache)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), emit


@intrinsic
def copy_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """C's memcpy between two addresses."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, at, count = arguments
        byte = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(to, byte), builder.inttoptr(at, byte), count, 1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), emit


@njit(nogil=True)
def square(size: Any) -> Any:
    """Rows and columns of what `transpose_lines` moves: a row of float32 or float64 is a line."""
    return 8 if size >= 8 else 16


@intrinsic
def transpose_lines(typingctx: Any, target: Any, target_row: Any, source: Any, source_row: Any, item: Any) -> Any:
    """Transposes `square` numbers each way, between two addresses whose rows lie so many bytes apart.

    item: one of the numbers, which says how large they are. In registers: halves of rows change places, then quarters, and so on.
    """
    wide = square.py_func(item.bitwidth // 8) if item != types.complex128 else 1

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, to_row, at, at_row, _ = arguments
        vector = ir.VectorType(ir.IntType(item.bitwidth), wide)

        def row(address: Any, stride: Any, k: int) -> Any:
            place = builder.add(address, builder.mul(stride, ir.Constant(stride.type, k)))
            return builder.inttoptr(place, vector.as_pointer())

        rows = [builder.load(row(at, at_row, k), align=1) for k in range(wide)]
        block = wide // 2
        while block:
            kept = [j if not j & block else wide + j - block for j in range(wide)]
            moved = [j + block if not j & block else wide + j for j in range(wide)]
            for k in range(wide):
                if not k & block:
                    a, b = rows[k], rows[k + block]
                    for place, mask in ((k, kept), (k + block, moved)):
                        rows[place] = builder.shuffle_vector(
                            a, b, ir.Constant(ir.VectorType(ir.IntType(32), wide), mask)
                        )
            block //= 2
        for k in range(wide):
            builder.store(rows[k], row(to, to_row, k), align=1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64, types.uint64, item), emit


@intrinsic
def copy_items(
    typingctx: Any, target: Any, target_step: Any, source: Any, source_step: Any, count: Any, item: Any
) -> Any:
    """Copies `count` numbers as large as `item` between two addresses, from where they lie so many bytes apart to so many."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, to_step, at, at_step, items, _ = arguments
        number = ir.VectorType(ir.IntType(8), item.bitwidth // 8)
        with cgutils.for_range(builder, items, intp=items.type) as loop:
            here, there = (
                builder.inttoptr(builder.add(address, builder.mul(loop.index, step)), number.as_pointer())
                for address, step in ((at, at_step), (to, to_step))
            )
            builder.store(builder.load(here, align=1), there, align=1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64, types.uint64, types.uint64, item), emit


@intrinsic
def load_lines(typingctx: Any, source: Any, count: Any) -> Any:
    """Prefetches `count` lines from an address on."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at, lines = arguments
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetched = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        how = [ir.Constant(number, value) for value in (0, 2, 1)]  # to read it; into the second cache; it is data
        with cgutils.for_range(builder, lines, intp=lines.type) as loop:
            place = builder.add(at, builder.mul(loop.index, ir.Constant(lines.type, int(LINE))))
            builder.call(prefetched, [builder.inttoptr(place, byte), *how])
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), emit


@intrinsic
def fence(typingctx: Any) -> Any:
    """Stores before it are visible to every thread before those after it; non-temporal ones have no order of their own."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


@njit(nogil=True)
def write(row: Any, target: Any, stream: Any) -> None:
    """target[:] = row[:n] of n values of the same dtype; with non-temporal stores if `stream`."""
    to, source = np.uint64(target.ctypes.data), np.uint64(row.ctypes.data)
    left = np.uint64(target.size) * np.uint64(target.itemsize)
    if stream:
        before = min(left, (LINE - to % LINE) % LINE)  # up to the target's first whole line
        copy_bytes(to, source, before)
        lines = (left - before) // LINE
        store_lines(to + before, source + before, lines)
        done = before + lines * LINE
        to, source, left = to + done, source + done, left - done
    copy_bytes(to, source, left)


@njit(nogil=True)
def add(row: Any, target: Any) -> None:
    """target[:] += row[:n] of n values."""
    for i in range(target.size):
        target[i] += row[i]


@njit(nogil=True)
def prefetch(piece: Any, stream: Any) -> None:
    """Prefetches the piece, if `stream`: else it is in the cache already."""
    if stream:
        load_lines(np.uint64(piece.ctypes.data), np.uint64(piece.size) * np.uint64(piece.itemsize) // LINE)
