"""Elements of flat arrays for the compiled kernels, without Python's rule for negative indices.

That rule is a choice for each index, and a loop with choices does not become vectors.
"""

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def get(typingctx, x, i):
    """For kernels: x[i]."""
    return x.dtype(x, types.intp), lambda *given: _load(*given)


@intrinsic
def put(typingctx, x, i, value):
    """For kernels: x[i] = value."""
    return types.void(x, types.intp, x.dtype), lambda *given: _store(*given)


@intrinsic
def fetch(typingctx, x, i):
    """For kernels: bring the line of memory that holds x[i] into the second cache, without waiting for it.

    i may lie behind the end of x: then nothing happens.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, second, data = (ir.Constant(number, n) for n in (0, 2, 1))
        begin = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
        builder.call(call, [builder.bitcast(builder.gep(begin, [args[1]]), byte), read, second, data])
        return context.get_dummy_value()

    return types.void(x, types.intp), generate


@intrinsic
def fence(typingctx):
    """For kernels: what was stored past the cache is there for the other threads."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]], inbounds=True)


def _load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.load(_place(context, builder, signature, args))


def _store(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    builder.store(args[2], _place(context, builder, signature, args))
    return context.get_dummy_value()
