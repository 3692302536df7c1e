"""The compiled kernel of the "coarse" window sum at ratio 2, on tiles of 16 low-resolution pixels of a row.

The four pixels of a low-resolution pixel read the same neighbours: each value that is read counts for four. All
arrays are flat and fp32. The last tile of a row, and the last block of channels, overlap those before: all are whole.
"""

from typing import Any, no_type_check

import torch
from torch import Tensor

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import fence, get, put
from resfu.ops.compiled.phases import CHANNELS, PHASES, doubled_product
from resfu.ops.compiled.softmax import softmax
from resfu.ops.compiled.threads import flat, in_memory, past_the_cache, run, scratch
from resfu.ops.compiled.tile import LANES, PIXELS, product, window_product
from resfu.ops.kept import kept
from resfu.ops.layout import pad
from resfu.ops.reassembly.enlargement import mirrored_bicubic

WINDOW = 7  # rows and columns of an enlarged map's windows
TILES = 8  # whose weights are held at once: 100 kB with K = 7

_rows, _window = product(rows=WINDOW), window_product()
_product, _past_the_cache = doubled_product(), doubled_product(streaming=True)


@no_type_check
@kernel
def row_of_weights(scores, place, sn, sw, count, out, o):
    """`count` rows of 32 pixels, those of even columns first."""
    for n in range(count):
        for z in range(2):
            source, target = place + n * sn + z * sw, o + n * PIXELS + z * LANES
            if sw == 1:
                for p in range(LANES):
                    put(out, target + p, get(scores, source + 2 * p))
            else:
                for p in range(LANES):
                    put(out, target + p, get(scores, source + 2 * p * sw))


@no_type_check
@kernel
def through_enlargement(weights, a, rows, r, columns, c, scratch, between, out, o, shifts):
    """Weights of 7 x 7 pixels of an enlarged map as those of 7 x 7 low-resolution pixels: out [8, 7, 32].

    rows [7, 7]: how much each low-resolution row counts in each row of the window; columns [7, 7, 32] likewise.
    """
    for x in range(WINDOW):
        _rows(
            scratch, between + x * PIXELS, WINDOW * PIXELS, rows, r, WINDOW, 1, weights, a + x * PIXELS,
            WINDOW * PIXELS, WINDOW, rows, 0, shifts, 0,
        )  # fmt: skip
    for x in range(WINDOW):
        _window(
            out, o + x * PIXELS, WINDOW * PIXELS, columns, c + x * WINDOW * PIXELS, scratch, between, WINDOW * PIXELS,
            WINDOW, shifts, 0,
        )  # fmt: skip


@no_type_check
@shared_kernel
def doubled_window_sum(
    first, last, thread, h, w, low, C, K, scores, sb, sn, sh, sw, normalise, out, streaming, table, bias, biased,
    enlarged, rows, columns, shifts, scratch, size,
):  # fmt: skip
    """out [images, C, 2 h, 2 w] of planes [images, C, h + K - 1, w + K - 1] and scores [images, K K, ...] with strides.

    A task is a low-resolution row of an image. Where the map is `enlarged` first, rows [2 h, 7, 7], columns
    [T, 7, 7, 32] and shifts [7] are what `through_enlargement` reads.
    """
    begin = thread * size
    T, taps, h1, w1 = (w + LANES - 1) // LANES, K * K, h + K - 1, w + K - 1
    everywhere = begin
    raw = everywhere + K * PIXELS
    share = raw + taps * PIXELS
    between = share + (taps + 2) * PIXELS
    composed = between + (taps + WINDOW) * PIXELS
    weights = composed + (taps + WINDOW) * PIXELS
    for i in range(K * PIXELS):
        put(scratch, everywhere + i, 0)
    for task in range(first, last):
        b, y = task // h, task % h
        for t0 in range(0, T, TILES):
            last_tile = min(T, t0 + TILES)
            for t in range(t0, last_tile):
                for z in range(2):
                    place = b * sb + (2 * y + z) * sh + 2 * min(t * LANES, w - LANES) * sw
                    row_of_weights(scores, place, sn, sw, taps, scratch, raw)
                    used = raw
                    if normalise:
                        softmax(scratch, raw, PIXELS, taps, scratch, everywhere, -1, scratch, share)
                        used = share
                    if enlarged:
                        through_enlargement(
                            scratch, used, rows, (2 * y + z) * taps, columns, t * taps * PIXELS, scratch, between,
                            scratch, composed, shifts,
                        )  # fmt: skip
                        used = composed
                    for n in range(taps):
                        target = weights + (((t - t0) * taps + n) * PHASES + 2 * z) * LANES
                        for p in range(PIXELS):
                            put(scratch, target + p, get(scratch, used + n * PIXELS + p))
            for block in range((C + CHANNELS - 1) // CHANNELS):
                c = min(block * CHANNELS, C - CHANNELS)
                plane = b * C + c
                for t in range(t0, last_tile):
                    column = min(t * LANES, w - LANES)
                    panel = weights + (t - t0) * taps * PHASES * LANES
                    target, source = (plane * h + y) * 4 * w + 2 * column, (plane * h1 + y) * w1 + column
                    start = c if biased else -1
                    if streaming:
                        _past_the_cache(
                            out, target, 4 * h * w, 2 * w, scratch, panel, low, source, h1 * w1, taps, table, bias,
                            start,
                        )  # fmt: skip
                    else:
                        _product(
                            out, target, 4 * h * w, 2 * w, scratch, panel, low, source, h1 * w1, taps, table, bias,
                            start,
                        )  # fmt: skip
    fence()


@kept()
def _taps(K: int, w1: int) -> Tensor:
    return torch.tensor([y * w1 + x for y in range(K) for x in range(K)], device="cpu")


def takes(C: int, h: int, w: int, H: int, W: int) -> bool:
    """Whether the ratio is 2, with enough channels and columns for a whole tile."""
    return C >= CHANNELS and w >= LANES and (H, W) == (2 * h, 2 * w)


def window_sum(padded: Tensor, weights: Tensor, K: int, h: int, w: int, softmax: bool, out: Tensor | None) -> Tensor:
    """[B, C, h + K - 1, w + K - 1], weights or scores [B, K K, 2 h, 2 w] -> [B, C, 2 h, 2 w]."""
    out = padded.new_empty((*padded.shape[:2], 2 * h, 2 * w)) if out is None else out
    _run(padded, weights, K, softmax, out, None, None)
    return out


def enlarged_window_sum(features: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """See `enlargement.enlarged_sum`: [B, C, h, w], weights [B, 49, 2 h, 2 w], bias [C] -> [B, C, 2 h, 2 w]."""
    h, w = features.shape[-2:]
    out = features.new_empty((*features.shape[:2], 2 * h, 2 * w))
    _run(pad(features, WINDOW // 2, WINDOW // 2), weights, WINDOW, False, out, bias, _enlargement(h, w))
    return out


def _run(padded: Tensor, weights: Tensor, K: int, softmax: bool, out: Tensor, bias: Tensor | None, tables: Any) -> None:
    (B, C), (h, w) = padded.shape[:2], (n - K + 1 for n in padded.shape[2:])
    size = (K + 4 * K * K + 2 + 2 * WINDOW) * PIXELS + TILES * K * K * PHASES * LANES
    space, source, target, numbers = scratch(size), flat(padded), flat(out), in_memory(weights)
    table, streaming = _taps(K, w + K - 1).numpy(), past_the_cache(out)
    added = source if bias is None else flat(bias)
    rows, columns, shifts = (source, source, table) if tables is None else (flat(t) for t in tables)

    run(
        doubled_window_sum, B * h, h, w, source, C, K, *numbers, int(softmax), target, streaming, table, added,
        int(bias is not None), int(tables is not None), rows, columns, shifts, space, size,
    )  # fmt: skip


@kept()
def _enlargement(h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and shifts as `doubled_window_sum` reads them."""
    rows, columns = (mirrored_bicubic(p, WINDOW) for p in (h, w))  # [2 p, 7 low, 7]
    tiles = [columns[2 * min(t, w - LANES) : 2 * min(t, w - LANES) + PIXELS] for t in range(0, w, LANES)]
    by_phase = torch.stack(tiles).unflatten(1, (LANES, 2)).permute(0, 3, 4, 2, 1).contiguous()
    return rows.contiguous(), by_phase, PIXELS * torch.arange(WINDOW, device="cpu")
