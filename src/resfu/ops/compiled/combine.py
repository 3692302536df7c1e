"""Arithmetic on a few vectors of 16 numbers for the compiled kernels, written in LLVM's instructions."""

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from resfu.ops.compiled.tile import LANES, store_vector

_INT = ir.IntType(64)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def combination(matrix: Sequence[Sequence[float]]) -> Callable[..., Any]:
    """A function for kernels: out[o + so j + p] = sum over i of matrix[j][i] x[b + sx i + p], p < 16.

    The arrays are flat and fp32. All of x is read before anything is written.
    """

    @intrinsic
    def run(typingctx, out, o, so, x, b, sx):  # pyright: ignore
        integer = types.intp
        signature = types.void(out, integer, integer, x, integer, integer)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, x = (cgutils.create_struct_proxy(signature.args[i])(context, builder, args[i]).data for i in (0, 3))
            _, o, so, _, begin, sx = args
            fma = _fma(builder)

            def row(base: Any, offset: Any, stride: Any, i: int) -> Any:
                place = builder.add(offset, builder.mul(stride, ir.Constant(_INT, i)))
                return builder.gep(base, [place])

            values = [_load(builder, row(x, begin, sx, i)) for i in range(len(matrix[0]))]
            for j, coefficients in enumerate(matrix):
                total = None
                for value, coefficient in zip(values, coefficients, strict=True):
                    if not coefficient:
                        continue
                    factor = ir.Constant(_VECTOR, [float(coefficient)] * LANES)
                    if total is None:
                        total = value if coefficient == 1 else builder.fmul(factor, value)
                    else:
                        total = builder.call(fma, [factor, value, total])
                store_vector(builder, total, row(out, o, so, j))
            return context.get_dummy_value()

        return signature, generate

    return run


@intrinsic
def product_past_the_cache(typingctx, out, o, x, a, y, b):
    """For kernels: out[o + p] = x[a + p] y[b + p], p < 16, stored past the cache.

    out + o lies at a multiple of 64 bytes, and `memory.fence` has to follow.
    """
    integer = types.intp
    signature = types.void(out, integer, x, integer, y, integer)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, x, y = (_place(context, builder, signature, args, i) for i in (0, 2, 4))
        store_vector(builder, builder.fmul(_load(builder, x), _load(builder, y)), out, streaming=True)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def sum_with_moments(typingctx, out, o, x, a, y, b, sums, s, further):
    """For kernels: out[o + p] = x[a + p] + y[b + p], p < 16, which is added to sums[s + p], its square `further` on."""
    integer = types.intp
    signature = types.void(out, integer, x, integer, y, integer, sums, integer, integer)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, x, y, sums = (_place(context, builder, signature, args, i) for i in (0, 2, 4, 6))
        squares = builder.gep(sums, [args[8]])
        value = builder.fadd(_load(builder, x), _load(builder, y))
        total = builder.fadd(_load(builder, sums), value)
        square = builder.call(_fma(builder), [value, value, _load(builder, squares)])
        for result, place in ((value, out), (total, sums), (square, squares)):
            store_vector(builder, result, place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def turn(typingctx, x, a, b, cos, c, sin, s):
    """For kernels: turn the pairs (x[a + p], x[b + p]) by angles with cosine cos[c + p] and sine sin[s + p], p < 16."""
    integer = types.intp
    signature = types.void(x, integer, integer, cos, integer, sin, integer)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, cos, sin = (_place(context, builder, signature, args, i) for i in (0, 3, 5))
        second = builder.gep(first, [builder.sub(args[2], args[1])])
        u, v, c, s = (_load(builder, place) for place in (first, second, cos, sin))
        minus = builder.fsub(ir.Constant(_VECTOR, [-0.0] * LANES), v)
        store_vector(builder, builder.call(_fma(builder), [minus, s, builder.fmul(u, c)]), first)
        store_vector(builder, builder.call(_fma(builder), [u, s, builder.fmul(v, c)]), second)
        return context.get_dummy_value()

    return signature, generate


def _place(context: Any, builder: Any, signature: Any, args: Any, i: int) -> Any:
    """Of argument i, an array, and of the next one, a number: the pointer to that element."""
    data = cgutils.create_struct_proxy(signature.args[i])(context, builder, args[i]).data
    return builder.gep(data, [args[i + 1]])


def _load(builder: Any, place: Any) -> Any:
    value = builder.load(builder.bitcast(place, _VECTOR.as_pointer()))
    value.align = 4
    return value


def _fma(builder: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
