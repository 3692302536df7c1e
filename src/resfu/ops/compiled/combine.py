"""Linear combinations of a few vectors for the compiled kernels, with coefficients that are known beforehand."""

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from resfu.ops.compiled.tile import LANES

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
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
            )

            def row(base: Any, offset: Any, stride: Any, i: int) -> Any:
                place = builder.add(offset, builder.mul(stride, ir.Constant(_INT, i)))
                return builder.bitcast(builder.gep(base, [place]), _VECTOR.as_pointer())

            values = []
            for i in range(len(matrix[0])):
                value = builder.load(row(x, begin, sx, i))
                value.align = 4
                values.append(value)
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
                builder.store(total, row(out, o, so, j)).align = 4
            return context.get_dummy_value()

        return signature, generate

    return run
