"""The compiled kernels of a GroupNorm and the 1 x 1 convolution behind it. All arrays are flat, maps planar."""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.moments import moments
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.vector import fma, load, splat, store

BLOCK = 4 * PIXELS  # of an image, normalised in the cache

_product = product(start="bias")


@no_type_check
@shared_kernel
def group_moments(first, last, thread, x, length, eps, mean, inverse):
    """mean and inverse deviation of groups of `length` numbers each."""
    for group in range(first, last):
        middle, scale = moments(x, group * length, length, eps)
        put(mean, group, middle)
        put(inverse, group, scale)


@no_type_check
@shared_kernel
def normalised_product(
    first, last, thread, x, C, pixels, groups, mean, inverse, gamma, beta, weight, bias, D, out, table, scratch, size,
):  # fmt: skip
    """out [images, D, pixels]: weight [D, C] times normalised x [images, C, pixels]. A task is a block of pixels."""
    blocks = (pixels + BLOCK - 1) // BLOCK
    begin = thread * size
    edge = begin + C * BLOCK
    for task in range(first, last):
        b, start = task // blocks, task % blocks * BLOCK
        count = min(BLOCK, pixels - start)
        whole = count // LANES * LANES
        for c in range(C):
            group = b * groups + c // (C // groups)
            middle, scale, shift = get(mean, group), get(inverse, group) * get(gamma, c), get(beta, c)
            source, target = (b * C + c) * pixels + start, begin + c * BLOCK
            for p in range(0, whole, LANES):
                value = load(x, source + p) - splat(middle)
                store(scratch, target + p, fma(value, splat(scale), splat(shift)))
            for p in range(whole, count):
                put(scratch, target + p, (get(x, source + p) - middle) * scale + shift)
            for p in range(count, (count + PIXELS - 1) // PIXELS * PIXELS):
                put(scratch, target + p, types.float32(0.0))
        for p in range(0, count, PIXELS):
            for i in range(0, D, ROWS):
                target = (b * D + i) * pixels + start + p
                if p + PIXELS <= count:
                    _product(out, target, pixels, weight, i * C, C, 1, scratch, begin + p, BLOCK, C, bias, i, table, 0)
                else:
                    _product(
                        scratch, edge, PIXELS, weight, i * C, C, 1, scratch, begin + p, BLOCK, C, bias, i, table, 0
                    )
                    for row in range(ROWS):
                        for q in range(count - p):
                            put(out, target + row * pixels + q, get(scratch, edge + row * PIXELS + q))
