"""The compiled kernels of sampling: sixteen pixels at a time, all channels of a group. All arrays are flat and fp32.

Both are given low [B, h, w, G N], positions [B, G, H, W], and C channels of N numbers in each group.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import fence, get, put
from resfu.ops.compiled.tile import LANES
from resfu.ops.compiled.transpose import transpose
from resfu.ops.compiled.vector import fma, load, splat, store, store_past_the_cache, total

_ONE = types.float32(1.0)
_ZERO = types.float32(0.0)


@no_type_check
@kernel
def _place(position, count):
    """The pixel at or before a position, the share of the next one, and whether there is one."""
    inside = position if position > _ZERO else _ZERO  # what is NaN as well
    last = types.float32(count - 1)
    inside = inside if inside < last else last
    before = int(inside)
    return before, types.float32(inside - types.float32(before)), before + 1 < count


@no_type_check
@shared_kernel
def sample(first, last, thread, low, h, w, columns, rows, G, H, W, C, N, out, planar, past, scratch, size):
    """out [B, G C, H, W], or [B, H, W, G C] where it is not planar. A task is a row of a group of an image."""
    values = thread * size
    tile = values + LANES * N
    step = G * N
    for task in range(first, last):
        y = task % H
        g = task // H % G
        b = task // H // G
        for t in range((W + LANES - 1) // LANES):
            column = min(t * LANES, W - LANES)
            for p in range(LANES):
                x_of, y_of = get(columns, task * W + column + p), get(rows, task * W + column + p)
                i, fx, right = _place(x_of, w)
                j, fy, below = _place(y_of, h)
                if x_of != x_of or y_of != y_of:
                    fx = fy = types.float32(float("nan"))
                place = ((b * h + j) * w + i) * step + g * N
                w00, w01 = splat((_ONE - fx) * (_ONE - fy)), splat(fx * (_ONE - fy))
                w10, w11 = splat((_ONE - fx) * fy), splat(fx * fy)
                target = values + p * N
                for c in range(0, N, LANES):
                    v = load(low, place + c) * w00
                    if right:
                        v = fma(load(low, place + step + c), w01, v)
                    if below:
                        v = fma(load(low, place + w * step + c), w10, v)
                        if right:
                            v = fma(load(low, place + (w + 1) * step + c), w11, v)
                    store(scratch, target + c, v)
            if planar:
                target = ((b * G + g) * C * H + y) * W + column
                for c in range(0, C, LANES):
                    transpose(scratch, tile, LANES, scratch, values + c, N)
                    for k in range(min(LANES, C - c)):
                        plane = target + (c + k) * H * W
                        if past:
                            store_past_the_cache(out, plane, load(scratch, tile + k * LANES))
                        else:
                            store(out, plane, load(scratch, tile + k * LANES))
            else:
                for p in range(LANES):
                    target = (((b * H + y) * W + column + p) * G + g) * C
                    for c in range(C):
                        put(out, target + c, get(scratch, values + p * N + c))
    if past:
        fence()


@no_type_check
@shared_kernel
def gradients(
    first, last, thread, low, h, w, columns, rows, G, H, W, C, N, grad, d_low, d_columns, d_rows, scratch, size
):
    """In low, to be added to, columns and rows, of grad [B, G C, H, W]. A task is a group of an image."""
    values = thread * size
    tile = values + LANES * N
    step = G * N
    for task in range(first, last):
        g = task % G
        b = task // G
        for n in range(LANES * N):
            put(scratch, values + n, _ZERO)
        for y in range(H):
            for t in range((W + LANES - 1) // LANES):
                column = min(t * LANES, W - LANES)
                begin = t * LANES - column  # pixels that the tile before has seen
                source = (task * C * H + y) * W + column
                for c in range(0, N, LANES):
                    for k in range(LANES):
                        inside = c + k < C
                        v = load(grad, source + (c + k) * H * W) if inside else splat(_ZERO)
                        store(scratch, tile + k * LANES, v)
                    transpose(scratch, values + c, N, scratch, tile, LANES)
                for p in range(begin, LANES):
                    pixel = (task * H + y) * W + column + p
                    x_of, y_of = get(columns, pixel), get(rows, pixel)
                    i, fx, right = _place(x_of, w)
                    j, fy, below = _place(y_of, h)
                    if x_of != x_of or y_of != y_of:
                        put(d_columns, pixel, _ZERO)
                        put(d_rows, pixel, _ZERO)
                        continue
                    place = ((b * h + j) * w + i) * step + g * N
                    next_column = place + step if right else place
                    next_row = w * step if below else 0
                    gx, gy = splat(fx), splat(fy)
                    hx, hy = splat(_ONE - fx), splat(_ONE - fy)
                    along, down = splat(_ZERO), splat(_ZERO)
                    for c in range(0, N, LANES):
                        v = load(scratch, values + p * N + c)
                        upper_left, upper_right = load(low, place + c), load(low, next_column + c)
                        lower_left = load(low, place + next_row + c)
                        lower_right = load(low, next_column + next_row + c)
                        upper, lower = upper_right - upper_left, lower_right - lower_left
                        along = fma(v, fma(lower, gy, upper * hy), along)
                        down = fma(v, fma(lower_right - upper_right, gx, (lower_left - upper_left) * hx), down)
                        above, beneath = v * hy, v * gy
                        store(d_low, place + c, fma(above, hx, load(d_low, place + c)))
                        if right:
                            store(d_low, next_column + c, fma(above, gx, load(d_low, next_column + c)))
                        if below:
                            q = place + next_row + c
                            store(d_low, q, fma(beneath, hx, load(d_low, q)))
                            if right:
                                q = next_column + next_row + c
                                store(d_low, q, fma(beneath, gx, load(d_low, q)))
                    # What is clamped does not move.
                    moves_along = x_of > _ZERO and x_of < types.float32(w - 1)
                    moves_down = y_of > _ZERO and y_of < types.float32(h - 1)
                    put(d_columns, pixel, total(along) if moves_along else _ZERO)
                    put(d_rows, pixel, total(down) if moves_down else _ZERO)
