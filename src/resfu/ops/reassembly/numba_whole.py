"""The compiled kernel of the window sum over whole low-resolution pixels ("coarse" at a whole ratio, and "dense").

`numba_adjoints.py` has its derivatives.

The rows that a tile of 32 pixels reads are widened to the output's columns once and used by all its windows: then each
neighbour is a shift of whole vectors, and nothing is multiplied by 0. All arrays are flat and fp32.
"""

from typing import no_type_check

import torch
from torch import Tensor

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.softmax import softmax
from resfu.ops.compiled.threads import flat, in_memory, run, scratch
from resfu.ops.compiled.tile import PIXELS, ROWS, window_product
from resfu.ops.kept import kept

BAND = 8  # low-resolution rows of a task
_product = window_product()


@no_type_check
@kernel
def _widened(low, source, ratio, count, out, o):
    """Low-resolution pixels, each `ratio` times."""
    if ratio == 1:
        for j in range(count):
            put(out, o + j, get(low, source + j))
    elif ratio == 2:
        for j in range(count):
            put(out, o + 2 * j, get(low, source + j))
            put(out, o + 2 * j + 1, get(low, source + j))
    else:
        for j in range(count):
            for i in range(ratio):
                put(out, o + j * ratio + i, get(low, source + j))


@no_type_check
@kernel
def widened_band(low, b, C, h1, w1, top, rows, column, rw, out, o, plane, S):
    """Rows of all channels of image b from `column` on, each pixel `rw` times: out [C, rows, S], planes apart."""
    known = min(w1 - column, S // rw)
    for c in range(C):
        for y in range(rows):
            _widened(low, ((b * C + c) * h1 + top + y) * w1 + column, rw, known, out, o + c * plane + y * S)


@no_type_check
@shared_kernel
def whole_window_sum(
    first, last, thread, bands, h, W, rh, rw, low, h1, w1, C, K, scores, sb, sn, sh, sw, normalise, out, table,
    scratch, size, S,
):  # fmt: skip
    """out [images, C, h rh, W] of planes [images, C, h1, w1] and scores [images, K K, ...] with these strides.

    A task is a band of low-resolution rows of an image. S: elements of a widened row.
    """
    begin = thread * size
    T, H, taps = (W + PIXELS - 1) // PIXELS, h * rh, K * K
    weights = begin
    raw = weights + (taps + 2) * PIXELS
    everywhere = raw + taps * PIXELS
    edge = everywhere + K * PIXELS
    wide = edge + ROWS * PIXELS
    plane = (BAND + K - 1) * S
    for i in range(K * PIXELS):
        put(scratch, everywhere + i, 0)
    for task in range(first, last):
        b, top = task // bands, task % bands * BAND
        rows = min(BAND, h - top)
        for t in range(T):
            count = min(PIXELS, W - t * PIXELS)
            column = t * PIXELS // rw
            inset = t * PIXELS - column * rw
            widened_band(low, b, C, h1, w1, top, rows + K - 1, column, rw, scratch, wide, plane, S)
            for y in range(rows * rh):
                place = b * sb + (top * rh + y) * sh + t * PIXELS * sw
                for n in range(taps):
                    for p in range(count):
                        put(scratch, raw + n * PIXELS + p, get(scores, place + n * sn + p * sw))
                    for p in range(count, PIXELS):
                        put(scratch, raw + n * PIXELS + p, 0)
                used = raw
                if normalise:
                    softmax(scratch, raw, PIXELS, taps, scratch, everywhere, -1, scratch, weights)
                    used = weights
                for c in range(0, C, ROWS):
                    target = ((b * C + c) * H + top * rh + y) * W + t * PIXELS
                    begins = wide + c * plane + y // rh * S + inset
                    if count == PIXELS and c + ROWS <= C:
                        _product(out, target, H * W, scratch, used, scratch, begins, plane, taps, table, 0)
                    else:
                        _product(scratch, edge, PIXELS, scratch, used, scratch, begins, plane, taps, table, 0)
                        for i in range(min(ROWS, C - c)):
                            for p in range(count):
                                put(out, target + i * H * W + p, get(scratch, edge + i * PIXELS + p))


@kept()
def _taps(K: int, S: int, ratio: int) -> Tensor:
    return torch.tensor([y * S + x * ratio for y in range(K) for x in range(K)], device="cpu")


def window_sum(padded: Tensor, weights: Tensor, K: int, h: int, w: int, softmax: bool, out: Tensor | None) -> Tensor:
    """[B, C, h + K - 1, w + K - 1], weights or scores [B, K K, H, W] -> [B, C, H, W], multiples of h and w."""
    (B, C, h1, w1), (H, W) = padded.shape, weights.shape[-2:]
    ratio = W // w
    S = (-(-PIXELS // ratio) + K) * ratio
    filled = -(-C // ROWS) * ROWS
    out = padded.new_empty((B, C, H, W)) if out is None else out
    size = (2 * K * K + 2 + K + ROWS) * PIXELS + filled * (BAND + K - 1) * S + PIXELS
    space, source, target = scratch(size), flat(padded), flat(out)
    table = _taps(K, S, ratio).numpy()
    bands = -(-h // BAND)

    run(
        whole_window_sum, B * bands, bands, h, W, H // h, ratio, source, h1, w1, C, K, *in_memory(weights),
        int(softmax), target, table, space, size, S,
    )  # fmt: skip
    return out
