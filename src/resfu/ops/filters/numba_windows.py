"""Sums over windows of planes for the compiled guided filter, some rows at a time, in vectors.

Planes lie in scratch with rows of P numbers, P a multiple of 16, and zeros behind the pixels. A window is cut into the
rows down to a seam and those below it: sums up to the seam and sums from it on need no subtraction, so that no digits
are lost and what is not finite stays in the windows that hold it. Along the rows, sums of four pixels and of sixteen
are added up.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.tile import LANES
from resfu.ops.compiled.vector import beside, load, splat, store, total

_one_on = beside(1)
_two_on = beside(2)
_four_on = beside(4)
_eight_on = beside(8)

SUMS = 6  # kinds of sums over windows at once


@no_type_check
@kernel
def column_sums(s, a, b, product, first, count, H, P, radius, seam, out, line):
    """Sums of rows y - radius .. y + radius, for `count` rows from `first` on, at most 2 radius + 1.

    Of plane a into out [count, line], from the first multiple of 16 on that is not less than the radius (vectors across
    a multiple take a store twice the time), and of plane b, or of a times b, into as many lines behind 2 radius + 1 of
    these. seam: room for twice 16 (2 radius + 1) numbers.
    """
    K, lead = 2 * radius + 1, radius + -radius % LANES
    other, behind = seam + K * LANES, out + K * line
    above, below = max(0, radius - first), min(count, H - first - radius)  # rows that reach beyond the image
    for p in range(0, P, LANES):
        one, two = splat(types.float32(0.0)), splat(types.float32(0.0))
        for i in range(min(K, H - first + radius) - 1, above - 1, -1):
            place = (first - radius + i) * P + p
            value, partner = load(s, a + place), load(s, b + place)
            one, two = one + value, two + (value * partner if product else partner)
            if i < count:
                store(s, seam + i * LANES, one)
                store(s, other + i * LANES, two)
        for i in range(min(above, count)):
            store(s, seam + i * LANES, one)
            store(s, other + i * LANES, two)
        one, two = splat(types.float32(0.0)), splat(types.float32(0.0))
        for i in range(count):
            if 0 < i < below:
                place = (first + radius + i) * P + p
                value, partner = load(s, a + place), load(s, b + place)
                one, two = one + value, two + (value * partner if product else partner)
            target = i * line + lead + p
            store(s, out + target, load(s, seam + i * LANES) + one)
            store(s, behind + target, load(s, other + i * LANES) + two)


@no_type_check
@kernel
def sums_beside(s, a, line, fours):
    """fours[i] = a[i] + ... + a[i + 3], and as many sums of sixteen `SUMS` lines behind, with zeros behind a line."""
    nothing = splat(types.float32(0.0))
    following, pairs, quads, eights = nothing, nothing, nothing, nothing
    for p in range(line - LANES, -1, -LANES):
        value = load(s, a + p)
        pair = value + _one_on(value, following)
        quad = pair + _two_on(pair, pairs)
        eight = quad + _four_on(quad, quads)
        store(s, fours + p, quad)
        store(s, fours + SUMS * line + p, eight + _eight_on(eight, eights))
        following, pairs, quads, eights = value, pair, quad, eight


@no_type_check
@kernel
def window_sum(s, a, fours, line, p, length):
    """a[p + i] + ... + a[p + i + length - 1] for 16 numbers i, given what `sums_beside` left."""
    whole, single = length - length % LANES, length - length % 4
    sums = load(s, a + p + single)
    for j in range(single + 1, length):
        sums = sums + load(s, a + p + j)
    for j in range(whole, single, 4):
        sums = sums + load(s, fours + p + j)
    for j in range(0, whole, LANES):
        sums = sums + load(s, fours + SUMS * line + p + j)
    return sums


@no_type_check
@kernel
def mean(x, start, n):
    """About the mean of n numbers; 0 where it is not finite."""
    sums, rest = splat(types.float32(0.0)), types.float32(0.0)
    other = sums
    whole = n - n % (2 * LANES)
    for i in range(start, start + whole, 2 * LANES):
        sums, other = sums + load(x, i), other + load(x, i + LANES)
    for i in range(start + whole, start + n):
        rest += get(x, i)
    middle = (rest + total(sums + other)) / types.float32(n)
    return middle if middle - middle == types.float32(0.0) else types.float32(0.0)


@no_type_check
@kernel
def into_plane(x, start, origin, H, W, P, s, out):
    """A plane [H, W] less its origin, into scratch, with zeros behind its rows."""
    middle = splat(origin)
    whole = W - W % LANES
    for y in range(H):
        for p in range(0, whole, LANES):
            store(s, out + y * P + p, load(x, start + y * W + p) - middle)
        for p in range(whole, W):
            put(s, out + y * P + p, get(x, start + y * W + p) - origin)
        for p in range(W, P):
            put(s, out + y * P + p, types.float32(0.0))


@no_type_check
@kernel
def out_of_line(s, a, W, out, start):
    """W numbers of a line of scratch, into a map."""
    whole = W - W % LANES
    for p in range(0, whole, LANES):
        store(out, start + p, load(s, a + p))
    for p in range(whole, W):
        put(out, start + p, get(s, a + p))
