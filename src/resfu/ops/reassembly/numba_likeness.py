"""The compiled range kernel of joint bilateral upsampling: scores of 7 x 7 neighbours, their softmax, and a distance.

In tiles of 32 pixels of a row, of which the last overlaps the one before. All arrays are flat and fp32.
"""

from typing import no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.kernel import shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.softmax import softmax
from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS, window_product

WINDOW = 7
_window = window_product()
_LEAST = 1e-7  # what the weights are divided by is not smaller


@no_type_check
@shared_kernel
def likeness(first, last, thread, keys, D, H, W, S, temperature, nearness, least, out, planes, table, scratch, size):
    """The first 49 planes of out [images, planes, H, W], of keys [images, D, H + 6, S]. A task is a row of an image."""
    begin = thread * size
    taps, height = WINDOW * WINDOW, H + WINDOW - 1
    everywhere = begin
    query = everywhere + WINDOW * PIXELS
    raw = query + D * PIXELS
    share = raw + (taps + 1) * PIXELS
    for i in range(WINDOW * PIXELS):
        put(scratch, everywhere + i, 0)
    for task in range(first, last):
        b, y = task // H, task % H
        for t in range((W + PIXELS - 1) // PIXELS):
            column = min(t * PIXELS, W - PIXELS)
            place = (b * D * height + y) * S + column
            for d in range(D):
                source = place + (d * height + WINDOW // 2) * S + WINDOW // 2
                for p in range(PIXELS):
                    put(scratch, query + d * PIXELS + p, temperature * get(keys, source + p))
            for x in range(WINDOW):  # 8 shifts at a time, of which the next row replaces the last
                _window(scratch, raw + x * WINDOW * PIXELS, PIXELS, scratch, query, keys, place + x * S, 1, D, table, 0)
            softmax(scratch, raw, PIXELS, taps, scratch, everywhere, -1, scratch, share)
            total = raw
            for p in range(PIXELS):
                put(scratch, total + p, 0)
            for n in range(taps):
                for p in range(PIXELS):
                    value = get(scratch, share + n * PIXELS + p) * get(nearness, n)
                    put(scratch, share + n * PIXELS + p, value)
                    put(scratch, total + p, get(scratch, total + p) + value)
            for p in range(PIXELS):
                value = get(scratch, total + p)
                put(scratch, total + p, 1 / (least if value < least else value))
            for n in range(taps):
                target = ((b * planes + n) * H + y) * W + column
                for p in range(PIXELS):
                    put(out, target + p, get(scratch, share + n * PIXELS + p) * get(scratch, total + p))


def takes(W: int, radius: int) -> bool:
    """Whether the window is the published one, and a row holds a tile."""
    return radius == WINDOW // 2 and W >= PIXELS


def range_kernel(keys: Tensor, temperature: Tensor, nearness: Tensor, out: Tensor) -> None:
    """Fill the first 49 planes of out [B, planes, H, W] with normalised weights.

    softmax_n(temperature <key[p], key[p + o_n]>) nearness_n, over its sum. The border is mirrored.

    Args:
        keys: [B, D, H, W].
        temperature: [].
        nearness: [49].
        out: contiguous.
    """
    B, D, H, W = keys.shape
    reach, planes = WINDOW // 2, out.shape[1]
    padded = F.pad(keys, (reach, reach + 1, reach, reach), mode="reflect")  # a column more, which a shift reads
    S = padded.shape[-1]
    size = (WINDOW + D + 2 * WINDOW**2 + 3) * PIXELS
    table = ((H + 2 * reach) * S * torch.arange(D, device="cpu")).numpy()
    space, source, target, near = scratch(size), flat(padded), flat(out), flat(nearness)
    factor, least = flat(temperature)[0], flat(torch.tensor([_LEAST], dtype=torch.float32, device="cpu"))[0]

    run(likeness, B * H, source, D, H, W, S, factor, near, least, target, planes, table, space, size)
