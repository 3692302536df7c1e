"""Transposition of blocks for the compiled kernels, in registers."""

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from resfu.ops.compiled.tile import LANES

_INT = ir.IntType(64)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


@intrinsic
def transpose(typingctx, out, o, so, x, b, sx):
    """For kernels: out[o + so p + i] = x[b + sx i + p] for i, p < 16, of flat fp32 arrays."""
    integer = types.intp
    return types.void(out, integer, integer, x, integer, integer), _generate


def _generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    out, x = (cgutils.create_struct_proxy(signature.args[i])(context, builder, args[i]).data for i in (0, 3))
    _, o, so, _, begin, sx = args

    def row(base: Any, offset: Any, stride: Any, i: int) -> Any:
        place = builder.add(offset, builder.mul(stride, ir.Constant(_INT, i)))
        return builder.bitcast(builder.gep(base, [place]), _VECTOR.as_pointer())

    rows = []
    for i in range(LANES):
        value = builder.load(row(x, begin, sx, i))
        value.align = 4
        rows.append(value)
    half = LANES // 2
    while half:  # swap the blocks beside the diagonal, of half the size each time
        upper = [lane - half + LANES if lane & half else lane for lane in range(LANES)]
        lower = [lane + LANES if lane & half else lane + half for lane in range(LANES)]
        for i in range(LANES):
            if not i & half:
                first, second = rows[i], rows[i + half]
                rows[i] = builder.shuffle_vector(first, second, _lanes(upper))
                rows[i + half] = builder.shuffle_vector(first, second, _lanes(lower))
        half //= 2
    for i, value in enumerate(rows):
        builder.store(value, row(out, o, so, i)).align = 4
    return context.get_dummy_value()


def _lanes(indices: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), indices)
