"""The softmax of a tile's scores, in a loop that becomes vectors."""

import math
from typing import Any, no_type_check

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from resfu.ops.compiled.kernel import kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.tile import PIXELS

_LOG2_E, _LN_2_HIGH, _LN_2_LOW = 1.4426950408889634, 0.693359375, -2.12194440e-4
_LEAST = -87.0  # below it an exponential counts as 0


@intrinsic
def _power_of_two(typingctx, n):
    """2^n as fp32, for n of int32 from -126 to 127, from its bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.add(args[0], ir.Constant(ir.IntType(32), 127)), ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def _nearest(typingctx, x):
    """The whole number nearest to x of fp32, as int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = builder.fadd(args[0], ir.Constant(ir.FloatType(), -0.5))
        return builder.fptosi(half, ir.IntType(32))  # towards 0, and x is at most 0

    return types.int32(types.float32), generate


@no_type_check
@kernel
def exponential(x):
    """e^x of fp32 x <= 0, to 2 units in the last place; NaN stays."""
    float32 = types.float32
    n = _nearest(max(x, float32(_LEAST)) * float32(_LOG2_E))
    part = float32(n)
    r = x - part * float32(_LN_2_HIGH) - part * float32(_LN_2_LOW)
    value = float32(1.9875691500e-4)
    value = value * r + float32(1.3981999507e-3)
    value = value * r + float32(8.3334519073e-3)
    value = value * r + float32(4.1665795894e-2)
    value = value * r + float32(1.6666665459e-1)
    value = value * r + float32(5.0000001201e-1)
    value = (value * r * r + r + float32(1.0)) * _power_of_two(n)
    return float32(0.0) if x < float32(_LEAST) else value


@no_type_check
@kernel
def softmax(scores, s, stride, count, inside, i, top, out, o):
    """out [count, 32]: the softmax of scores [count, stride], over those neighbours that lie inside the image.

    inside [kx, 32] says so of the columns, the bits of `top` of the rows; there are kx columns where count = kx kx.
    """
    zero = types.float32(0.0)
    side = 3 if count == 9 else 5 if count == 25 else 7
    for p in range(PIXELS):
        put(out, o + count * PIXELS + p, types.float32(-math.inf))
    for n in range(count):
        if top >> (n // side) & 1:
            for p in range(PIXELS):
                value = get(scores, s + n * stride + p) + get(inside, i + n % side * PIXELS + p)
                greatest = get(out, o + count * PIXELS + p)
                put(out, o + count * PIXELS + p, greatest if value <= greatest else value)
    for p in range(PIXELS):
        put(out, o + (count + 1) * PIXELS + p, zero)
    for n in range(count):
        if top >> (n // side) & 1:
            for p in range(PIXELS):
                value = get(scores, s + n * stride + p) + get(inside, i + n % side * PIXELS + p)
                value = exponential(value - get(out, o + count * PIXELS + p))
                put(out, o + n * PIXELS + p, value)
                put(out, o + (count + 1) * PIXELS + p, get(out, o + (count + 1) * PIXELS + p) + value)
        else:
            for p in range(PIXELS):
                put(out, o + n * PIXELS + p, zero)
    for p in range(PIXELS):
        put(out, o + (count + 1) * PIXELS + p, types.float32(1.0) / get(out, o + (count + 1) * PIXELS + p))
    for n in range(count):
        for p in range(PIXELS):
            put(out, o + n * PIXELS + p, get(out, o + n * PIXELS + p) * get(out, o + (count + 1) * PIXELS + p))
