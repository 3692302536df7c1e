"""The compiled kernels that make the planes which scores are computed from, and their gradients.

A map is smoothed, normalised and given its border one group of channels after the other, in the cache. All arrays are
flat, planes H W long.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.moments import moments, sums_with
from resfu.ops.compiled.tile import LANES
from resfu.ops.compiled.vector import fma, load, splat, store


def room_of_lines(W: int) -> int:
    """How many numbers of scratch it takes to smooth planes W wide."""
    return 2 * (W // LANES + 2) * LANES


@no_type_check
@kernel
def _smoothed(x, a, H, W, gaussian, add, out, o, s, line):
    """The 3 x 3 Gaussian of a plane with its border repeated, which is its own adjoint, to or in place of out.

    gaussian [3]: the weights of the centre, of what lies beside it and of the corners. Lines of s hold a row.
    """
    centre, beside, corner = get(gaussian, 0), get(gaussian, 1), get(gaussian, 2)
    whole, other = W // LANES * LANES, line + (W // LANES + 2) * LANES
    for y in range(H):
        above, here, below = a + max(y - 1, 0) * W, a + y * W, a + min(y + 1, H - 1) * W
        for p in range(0, whole, LANES):
            value, both = load(x, here + p), load(x, above + p) + load(x, below + p)
            store(s, line + p, fma(splat(centre), value, splat(beside) * both))
            store(s, other + p, fma(splat(beside), value, splat(corner) * both))
        for p in range(whole, W):
            both = get(x, above + p) + get(x, below + p)
            put(s, line + p, centre * get(x, here + p) + beside * both)
            put(s, other + p, beside * get(x, here + p) + corner * both)
        put(s, other - 1, get(s, other))
        put(s, other + W, get(s, other + W - 1))
        for p in range(0, whole, LANES):
            value = load(s, line + p) + (load(s, other + p - 1) + load(s, other + p + 1))
            store(out, o + y * W + p, load(out, o + y * W + p) + value if add else value)
        for p in range(whole, W):
            value = get(s, line + p) + (get(s, other + p - 1) + get(s, other + p + 1))
            put(out, o + y * W + p, get(out, o + y * W + p) + value if add else value)


@no_type_check
@kernel
def _padded_row(x, a, W, mean, scale, shift, columns, out, o, S):
    """(x - mean) scale + shift, W numbers, as a row of S: the first is repeated before them, the last behind."""
    first, last = (get(x, a) - mean) * scale + shift, (get(x, a + W - 1) - mean) * scale + shift
    for p in range(o, o + columns):
        put(out, p, first)
    start, whole = o + columns, W // LANES * LANES
    for p in range(0, whole, LANES):
        store(out, start + p, fma(load(x, a + p) - splat(mean), splat(scale), splat(shift)))
    for p in range(whole, W):
        put(out, start + p, (get(x, a + p) - mean) * scale + shift)
    for p in range(start + W, o + S):
        put(out, p, last)


@no_type_check
@shared_kernel
def padded_planes(
    first, last, thread, x, D, H, W, groups, norm, weight, bias, eps, maps, gaussian, rows, columns, out, begin, planes,
    S, statistics, scratch, size,
):  # fmt: skip
    """Maps [images, D, H, W] with their border repeated, as planes `begin` and on of each image's: [H + 2 rows, S].

    Of two `maps` the first is x smoothed, and the second, in the planes behind it, x itself. A task is a group of
    channels of an image. `columns` are repeated on the left and the rest on the right. With `norm` each group is
    normalised, and statistics [images, maps, groups, 2] are its mean and inverse deviation.
    """
    o = thread * size
    width, area, height = D // groups, H * W, H + 2 * rows
    for task in range(first, last):
        b, c = task // groups, task % groups * width
        for n in range(maps):
            source, a = x, (b * D + c) * area
            if n + 1 < maps:
                for i in range(width):
                    _smoothed(x, a + i * area, H, W, gaussian, False, scratch, o + i * area, scratch, o + width * area)
                source, a = scratch, o
            mean, inverse = types.float32(0.0), types.float32(1.0)
            if norm:
                mean, inverse = moments(source, a, width * area, eps)
                place = 2 * ((b * maps + n) * groups + task % groups)
                put(statistics, place, mean)
                put(statistics, place + 1, inverse)
            for i in range(width):
                scale, shift = types.float32(1.0), types.float32(0.0)
                if norm:
                    scale, shift = inverse * get(weight, c + i), get(bias, c + i)
                for y in range(height):
                    row = a + (i * H + min(max(y - rows, 0), H - 1)) * W
                    target = (((b * planes + begin + n * D + c + i) * height) + y) * S
                    _padded_row(source, row, W, mean, scale, shift, columns, out, target, S)


@no_type_check
@kernel
def _gathered_row(parts, source, W, columns, add, out, row):
    """A row of W numbers with what lies up to `columns` beside them, to or in place of what is there."""
    whole = W // LANES * LANES
    for p in range(0, whole, LANES):
        value = load(parts, source + p)
        store(out, row + p, load(out, row + p) + value if add else value)
    for p in range(whole, W):
        put(out, row + p, get(parts, source + p) + (get(out, row + p) if add else types.float32(0.0)))
    left, right = types.float32(0.0), types.float32(0.0)
    for p in range(columns):
        left += get(parts, source - columns + p)
        right += get(parts, source + W + p)
    put(out, row, get(out, row) + left)
    put(out, row + W - 1, get(out, row + W - 1) + right)


@no_type_check
@kernel
def _gathered(parts, place, apart, chunks, H, W, rows, columns, S, out, o):
    """The gradient of a plane from those of its chunks of padded rows, which overlap: the adjoint of a border."""
    for n in range(chunks):
        top, bottom, begin = H * n // chunks, H * (n + 1) // chunks, place + n * apart + columns
        for y in range(top, bottom):
            _gathered_row(parts, begin + (y - top + rows) * S, W, columns, False, out, o + y * W)
    for n in range(chunks):
        top, bottom, begin = H * n // chunks, H * (n + 1) // chunks, place + n * apart + columns
        for i in range(rows):
            _gathered_row(parts, begin + i * S, W, columns, True, out, o + max(top - rows + i, 0) * W)
            below = begin + (bottom - top + rows + i) * S
            _gathered_row(parts, below, W, columns, True, out, o + min(bottom + i, H - 1) * W)


@no_type_check
@kernel
def _through_norm(s, grad, x, a, area, scale, mean, inverse, shift, slope, out, o):
    """From the gradient of a normalised plane to that of the plane."""
    for p in range(area):
        value = (get(x, a + p) - mean) * inverse
        put(out, o + p, inverse * (scale * get(s, grad + p) - shift - value * slope))


@no_type_check
@shared_kernel
def plane_gradients(
    first, last, thread, parts, chunks, height, x, D, H, W, groups, norm, weight, statistics, maps, gaussian, rows,
    columns, begin, planes, S, d_x, d_affine, scratch, size,
):  # fmt: skip
    """The gradients of `padded_planes`, from chunks of rows: parts [images, chunks, planes, height, S].

    d_x [images, D, H, W]; d_affine [images, maps, 2, D], of the norm's weight and bias.
    """
    width, area = D // groups, H * W
    grad = thread * size
    spare, lines = grad + width * area, grad + 2 * width * area
    for task in range(first, last):
        b, c = task // groups, task % groups * width
        origin = (b * D + c) * area
        for n in range(maps - 1, -1, -1):  # the map itself first
            smooth = n + 1 < maps
            place = 2 * ((b * maps + n) * groups + task % groups)
            mean, inverse = types.float32(0.0), types.float32(1.0)
            if norm:
                mean, inverse = get(statistics, place), get(statistics, place + 1)
            plain, times = 0.0, 0.0
            for i in range(width):
                part = (b * chunks * planes + begin + n * D + c + i) * height * S
                own = grad + i * area
                _gathered(parts, part, planes * height * S, chunks, H, W, rows, columns, S, scratch, own)
                if norm:
                    if smooth:
                        _smoothed(
                            x, origin + i * area, H, W, gaussian, False, scratch, spare + i * area, scratch, lines
                        )
                        one, other = sums_with(scratch, own, scratch, spare + i * area, area, mean)
                    else:
                        one, other = sums_with(scratch, own, x, origin + i * area, area, mean)
                    at = (b * maps + n) * 2 * D + c + i
                    put(d_affine, at, types.float32(other * inverse))
                    put(d_affine, at + D, types.float32(one))
                    plain += get(weight, c + i) * one
                    times += get(weight, c + i) * other * inverse
            shift, slope = types.float32(plain / (width * area)), types.float32(times / (width * area))
            for i in range(width):
                own, target = grad + i * area, origin + i * area
                scale = get(weight, c + i) if norm else types.float32(1.0)
                if norm and smooth:
                    _through_norm(
                        scratch, own, scratch, spare + i * area, area, scale, mean, inverse, shift, slope, scratch, own
                    )
                elif norm:
                    _through_norm(scratch, own, x, target, area, scale, mean, inverse, shift, slope, d_x, target)
                if smooth:
                    _smoothed(scratch, own, H, W, gaussian, True, d_x, target, scratch, lines)
                elif not norm:
                    for p in range(area):
                        put(d_x, target + p, get(scratch, own + p))
