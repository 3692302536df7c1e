"""The compiled kernels that make the planes which scores are computed from, and their gradients.

A map is smoothed, normalised and given its border one group of channels after the other, in the cache. All arrays are
flat, planes H W long. Sums run in fp64 down the columns.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put


@no_type_check
@kernel
def _smoothed(x, a, H, W, gaussian, out, o, line):
    """The 3 x 3 Gaussian of a plane with its border repeated, which is its own adjoint. Takes 2 lines of W + 2.

    gaussian [3]: the weights of the centre, of what lies beside it and of the corners.
    """
    centre, beside, corner = get(gaussian, 0), get(gaussian, 1), get(gaussian, 2)
    other = line + W + 2
    for y in range(H):
        above, here, below = a + max(y - 1, 0) * W, a + y * W, a + min(y + 1, H - 1) * W
        for p in range(W):
            both = get(x, above + p) + get(x, below + p)
            put(out, line + 1 + p, centre * get(x, here + p) + beside * both)
            put(out, other + 1 + p, beside * get(x, here + p) + corner * both)
        put(out, other, get(out, other + 1))
        put(out, other + W + 1, get(out, other + W))
        for p in range(W):
            sides = get(out, other + p) + get(out, other + p + 2)
            put(out, o + y * W + p, get(out, line + 1 + p) + sides)


@no_type_check
@kernel
def _total(wide, w, W):
    total = 0.0
    for p in range(W):
        total += get(wide, w + p)
    return total


@no_type_check
@kernel
def _statistics(x, a, rows, W, eps, wide, w):
    """Mean and inverse deviation of some rows."""
    for p in range(W):
        put(wide, w + p, 0.0)
    for y in range(rows):
        for p in range(W):
            put(wide, w + p, get(wide, w + p) + types.float64(get(x, a + y * W + p)))
    mean = _total(wide, w, W) / (rows * W)
    for p in range(W):
        put(wide, w + p, 0.0)
    for y in range(rows):
        for p in range(W):
            difference = types.float64(get(x, a + y * W + p)) - mean
            put(wide, w + p, get(wide, w + p) + difference * difference)
    variance = _total(wide, w, W) / (rows * W)
    return types.float32(mean), types.float32(1.0 / (variance + eps) ** 0.5)


@no_type_check
@shared_kernel
def padded_planes(
    first, last, thread, x, D, H, W, groups, norm, weight, bias, eps, smooth, gaussian, rows, columns, out, begin,
    planes, S, statistics, scratch, size, wide,
):  # fmt: skip
    """Maps [images, D, H, W] with their border repeated, as planes `begin` and on of each image's: [H + 2 rows, S].

    A task is a group of channels of an image. `columns` are repeated on the left and the rest on the right. With `norm`
    each group is normalised, and statistics [images, groups, 2] are its mean and inverse deviation.
    """
    o, w = thread * size, thread * 2 * W
    width, area, height = D // groups, H * W, H + 2 * rows
    for task in range(first, last):
        b, c = task // groups, task % groups * width
        source, a = x, (b * D + c) * area
        if smooth:
            for i in range(width):
                _smoothed(x, a + i * area, H, W, gaussian, scratch, o + i * area, o + width * area)
            source, a = scratch, o
        mean, inverse = types.float32(0.0), types.float32(1.0)
        if norm:
            mean, inverse = _statistics(source, a, width * H, W, eps, wide, w)
            put(statistics, 2 * task, mean)
            put(statistics, 2 * task + 1, inverse)
        for i in range(width):
            scale, shift = types.float32(1.0), types.float32(0.0)
            if norm:
                scale, shift = inverse * get(weight, c + i), get(bias, c + i)
            for y in range(height):
                row = a + (i * H + min(max(y - rows, 0), H - 1)) * W
                target = (((b * planes + begin + c + i) * height) + y) * S + columns
                for p in range(W):
                    put(out, target + p, (get(source, row + p) - mean) * scale + shift)
                for p in range(columns):
                    put(out, target - columns + p, get(out, target))
                for p in range(W, S - columns):
                    put(out, target + p, get(out, target + W - 1))


@no_type_check
@kernel
def _gathered(parts, place, apart, chunks, H, W, rows, columns, S, out, o):
    """The gradient of a plane from those of its chunks of padded rows, which overlap: the adjoint of a border."""
    for i in range(H * W):
        put(out, o + i, types.float32(0.0))
    for n in range(chunks):
        top, bottom = H * n // chunks, H * (n + 1) // chunks
        for y in range(bottom - top + 2 * rows):
            row = o + min(max(top + y - rows, 0), H - 1) * W
            source = place + n * apart + y * S + columns
            for p in range(W):
                put(out, row + p, get(out, row + p) + get(parts, source + p))
            left, right = types.float32(0.0), types.float32(0.0)
            for p in range(columns):
                left += get(parts, source - columns + p)
            for p in range(W, W + columns):
                right += get(parts, source + p)
            put(out, row, get(out, row) + left)
            put(out, row + W - 1, get(out, row + W - 1) + right)


@no_type_check
@kernel
def _through_norm(s, grad, x, a, width, H, W, weight, c, mean, inverse, d_weight, d_bias, at, wide, w):
    """From the gradient of normalised planes to that of the planes, in its place; and to the norm's parameters."""
    plain, times = 0.0, 0.0
    for i in range(width):
        for p in range(2 * W):
            put(wide, w + p, 0.0)
        for y in range(H):
            place = (i * H + y) * W
            for p in range(W):
                change = types.float64(get(s, grad + place + p))
                value = types.float64((get(x, a + place + p) - mean) * inverse)
                put(wide, w + p, get(wide, w + p) + change)
                put(wide, w + W + p, get(wide, w + W + p) + change * value)
        one, other = _total(wide, w, W), _total(wide, w + W, W)
        put(d_bias, at + i, types.float32(one))
        put(d_weight, at + i, types.float32(other))
        plain += get(weight, c + i) * one
        times += get(weight, c + i) * other
    shift = types.float32(plain / (width * H * W))
    slope = types.float32(times / (width * H * W))
    for i in range(width):
        scale = get(weight, c + i)
        for p in range(i * H * W, (i + 1) * H * W):
            value = (get(x, a + p) - mean) * inverse
            put(s, grad + p, inverse * (scale * get(s, grad + p) - shift - value * slope))


@no_type_check
@shared_kernel
def plane_gradients(
    first, last, thread, parts, chunks, height, x, D, H, W, groups, norm, weight, statistics, smooth, gaussian, rows,
    columns, begin, planes, S, add, d_x, d_weight, d_bias, scratch, size, wide,
):  # fmt: skip
    """The gradients of `padded_planes`, from chunks of rows: parts [images, chunks, planes, height, S].

    d_weight and d_bias [images, D]. Where `add` is set, d_x [images, D, H, W] holds another share already.
    """
    o, w = thread * size, thread * 2 * W
    width, area = D // groups, H * W
    for task in range(first, last):
        b, c = task // groups, task % groups * width
        grad, spare, lines = o, o + width * area, o + 2 * width * area
        for i in range(width):
            place = (b * chunks * planes + begin + c + i) * height * S
            _gathered(parts, place, planes * height * S, chunks, H, W, rows, columns, S, scratch, grad + i * area)
        origin = (b * D + c) * area
        if norm:
            source, a = x, origin
            if smooth:
                for i in range(width):
                    _smoothed(x, origin + i * area, H, W, gaussian, scratch, spare + i * area, lines)
                source, a = scratch, spare
            mean, inverse = get(statistics, 2 * task), get(statistics, 2 * task + 1)
            _through_norm(
                scratch, grad, source, a, width, H, W, weight, c, mean, inverse, d_weight, d_bias, task * width, wide,
                w,
            )  # fmt: skip
        if smooth:
            for i in range(width):
                _smoothed(scratch, grad + i * area, H, W, gaussian, scratch, spare + i * area, lines)
            grad = spare
        if add:
            for i in range(width * area):
                put(d_x, origin + i, get(d_x, origin + i) + get(scratch, grad + i))
        else:
            for i in range(width * area):
                put(d_x, origin + i, get(scratch, grad + i))
