"""Mean and deviation for the compiled kernels, and sums as exact as those need."""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel
from resfu.ops.compiled.memory import get
from resfu.ops.compiled.tile import LANES
from resfu.ops.compiled.vector import fma, load, splat, total

_PAIR = 2 * LANES
_CHUNK = 8 * _PAIR  # numbers that are summed up in fp32; the sums of chunks in fp64


@no_type_check
@kernel
def moments(x, begin, length, eps):
    """The mean of `length` numbers from x[begin] on, and 1 / their deviation."""
    whole = length // _PAIR * _PAIR
    middle, square = 0.0, 0.0
    for chunk in range(0, whole, _CHUNK):
        one, other = splat(types.float32(0.0)), splat(types.float32(0.0))
        for p in range(begin + chunk, begin + min(chunk + _CHUNK, whole), _PAIR):
            one, other = one + load(x, p), other + load(x, p + LANES)
        middle += total(one + other)
    for p in range(begin + whole, begin + length):
        middle += get(x, p)
    mean = types.float32(middle / length)
    for chunk in range(0, whole, _CHUNK):
        one, other = splat(types.float32(0.0)), splat(types.float32(0.0))
        for p in range(begin + chunk, begin + min(chunk + _CHUNK, whole), _PAIR):
            left, right = load(x, p) - splat(mean), load(x, p + LANES) - splat(mean)
            one, other = fma(left, left, one), fma(right, right, other)
        square += total(one + other)
    for p in range(begin + whole, begin + length):
        square += (get(x, p) - mean) * (get(x, p) - mean)
    return mean, types.float32(1.0 / (square / length + eps) ** 0.5)


@no_type_check
@kernel
def sums_with(grad, begin, x, a, length, mean):
    """The sum of `length` numbers from grad[begin] on, and that of their products with x[a ..] - mean, in fp64."""
    whole = length // LANES * LANES
    plain, times = 0.0, 0.0
    for chunk in range(0, whole, _CHUNK):
        lanes, products = splat(types.float32(0.0)), splat(types.float32(0.0))
        for p in range(chunk, min(chunk + _CHUNK, whole), LANES):
            change = load(grad, begin + p)
            lanes, products = lanes + change, fma(change, load(x, a + p) - splat(mean), products)
        plain += total(lanes)
        times += total(products)
    for p in range(whole, length):
        plain += get(grad, begin + p)
        times += get(grad, begin + p) * (get(x, a + p) - mean)
    return plain, times
