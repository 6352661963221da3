"""How a compiled kernel runs in several threads without Python: each takes the next part of the neurons until none is left.

A Python function in those threads would have to hold Python's lock for every part it starts: 0.2 ms a kernel, as long as
a kernel takes for half a million element-steps. Here it is the entry of OpenMP and an addition: 2 µs.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_NONE, RETCODE_OK

from tfexplore.backends.streaming import intrinsic

BYTE, INT, LONG = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
START = ir.FunctionType(ir.VoidType(), [ir.FunctionType(ir.VoidType(), [BYTE]).as_pointer(), BYTE, INT, INT])
"""GOMP_parallel(body, what it is given, threads, flags)."""
LEADING = (types.uint64, types.uint64, types.int64, types.boolean, types.int64)
"""What every kernel is given before its arrays: first, last, steps, stream, part."""


@intrinsic
def in_threads(
    typingctx: Any, openmp: Any, threads: Any, kernel: Any, edges: Any, count: Any, stream: Any, arrays: Any
) -> Any:
    """kernel(first, last, steps, stream, part, *arrays) for each of `count` parts; False where a kernel failed.

    openmp, kernel: the addresses of GOMP_parallel, and of the kernel compiled for these arrays. edges: that of the parts' first,
    last and steps, as int64.
    """
    if not all(
        isinstance(each, types.Integer) or (isinstance(each, types.Array) and each.layout == "C") for each in arrays
    ):
        raise TypeError(f"A kernel is given whole numbers and contiguous arrays, not {arrays}.")
    given = (*LEADING, *arrays)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, threads, *shared = arguments
        # the number of the next part, and whether one failed
        kept = ir.LiteralStructType([LONG, LONG, *(value.type for value in shared)])
        whole = cgutils.alloca_once_value(builder, ir.Constant(kept, None))
        for place, value in enumerate(shared):
            builder.store(value, cgutils.gep_inbounds(builder, whole, 0, 2 + place))
        body = ir.Function(builder.module, START.args[0].pointee, builder.module.get_unique_name("parts"))
        body.linkage = "internal"
        take_parts(context, ir.IRBuilder(body.append_basic_block()), body.args[0], kept)
        entry = builder.inttoptr(start, START.as_pointer())
        none = ir.Constant(INT, 0)
        builder.call(entry, [body, builder.bitcast(whole, BYTE), builder.trunc(threads, INT), none])
        return builder.icmp_signed("==", builder.load(cgutils.gep_inbounds(builder, whole, 0, 1)), ir.Constant(LONG, 0))

    def take_parts(context: Any, builder: Any, address: Any, kept: Any) -> None:
        """What each thread runs."""
        whole = builder.bitcast(address, kept.as_pointer())
        following, failed, *shared = (cgutils.gep_inbounds(builder, whole, 0, k) for k in range(len(kept.elements)))
        kernel, edges, count, stream, arrays = map(builder.load, shared)
        edges = builder.inttoptr(edges, LONG.as_pointer())
        kind = context.call_conv.get_function_type(types.none, given)
        run = builder.inttoptr(kernel, kind.as_pointer())
        # a compiled function stores its result and its exception there
        unused = [cgutils.alloca_once(builder, pointer.pointee) for pointer in kind.args[:2]]
        check, work, end = (builder.append_basic_block(name) for name in ("check", "work", "end"))
        builder.branch(check)
        builder.position_at_end(check)
        part = builder.atomic_rmw("add", following, ir.Constant(LONG, 1), "monotonic")
        builder.cbranch(builder.icmp_signed("<", part, count), work, end)
        builder.position_at_end(work)
        row = builder.mul(part, ir.Constant(LONG, 3))
        bounds = [builder.load(builder.gep(edges, [builder.add(row, ir.Constant(LONG, k))])) for k in range(3)]
        values = [*bounds, stream, part, *cgutils.unpack_tuple(builder, arrays)]
        code = builder.call(run, [*unused, *context.get_arg_packer(given).as_arguments(builder, values)])
        fine = builder.or_(*(builder.icmp_signed("==", code, ok) for ok in (RETCODE_OK, RETCODE_NONE)))
        with builder.if_then(builder.not_(fine)):
            builder.store(ir.Constant(LONG, 1), failed)
        builder.branch(check)
        builder.position_at_end(end)
        builder.ret_void()

    integers = (types.uint64, types.int64, types.uint64, types.uint64, types.int64)
    return types.boolean(*integers, types.boolean, arrays), emit
