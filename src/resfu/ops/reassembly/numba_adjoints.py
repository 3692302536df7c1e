"""The window sum over whole low-resolution pixels, differentiable by compiled kernels: the two adjoints of its kernel.

With x [C, h1, w1] the padded map, u [K K, H, W] weights and g [C, H, W] pixels, n = (ky, kx) and (Y, X) the
low-resolution pixel that holds (y, p):

    sum          g[c, y, p]  = sum_n u[n, y, p] x[c, Y + ky, X + kx]
    to weights   u[n, y, p]  = sum_c g[c, y, p] x[c, Y + ky, X + kx]
    to features  x[c, Y, X]  = sum_n sum of u[n, y, p] g[c, y, p] over the pixels (y, p) in (Y - ky, X - kx)

Each is linear in both its maps, and its derivatives are the other two. All arrays are flat and fp32.
"""

from typing import Any, no_type_check

import torch
from numba import types
from torch import Tensor

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS, ROWS, window_product
from resfu.ops.kept import kept
from resfu.ops.reassembly import numba_doubled, numba_whole
from resfu.ops.reassembly.numba_whole import BAND, widened_band

_three, _five, _seven = (window_product(rows=K, apart=True) for K in (3, 5, 7))
_product = window_product(apart=True)


@no_type_check
@shared_kernel
def whole_window_sum_to_weights(
    first, last, thread, bands, h, W, rh, rw, low, h1, w1, C, K, pixels, out, table, scratch, size, S
):  # fmt: skip
    """out [images, K K, h rh, W] of pixels [images, C, h rh, W] and planes [images, C, h1, w1].

    A task is a band of low-resolution rows of an image. S: elements of a widened row. table [3 C]: where the channels
    of the widened rows lie, then those of the pixels, then those of a tile that is copied.
    """
    begin = thread * size
    T, H = (W + PIXELS - 1) // PIXELS, h * rh
    edge = begin
    copied = edge + K * PIXELS
    wide = copied + C * PIXELS
    plane = (BAND + K - 1) * S
    for i in range(C * PIXELS):
        put(scratch, copied + i, 0)
    for task in range(first, last):
        b, top = task // bands, task % bands * BAND
        rows = min(BAND, h - top)
        for t in range(T):
            count = min(PIXELS, W - t * PIXELS)
            column = t * PIXELS // rw
            inset = t * PIXELS - column * rw
            widened_band(low, b, C, h1, w1, top, rows + K - 1, column, rw, scratch, wide, plane, S)
            for y in range(rows * rh):
                place = (b * C * H + top * rh + y) * W + t * PIXELS
                if count < PIXELS:
                    for c in range(C):
                        for p in range(count):
                            put(scratch, copied + c * PIXELS + p, get(pixels, place + c * H * W + p))
                for ky in range(K):
                    target = ((b * K + ky) * K * H + top * rh + y) * W + t * PIXELS
                    source = wide + (y // rh + ky) * S + inset
                    if count == PIXELS:
                        _rows_of(K, out, target, H * W, pixels, place, scratch, source, rw, C, table, 0, C)
                    else:
                        _rows_of(K, scratch, edge, PIXELS, scratch, copied, scratch, source, rw, C, table, 0, 2 * C)
                        for n in range(K):
                            for p in range(count):
                                put(out, target + n * H * W + p, get(scratch, edge + n * PIXELS + p))


@no_type_check
@kernel
def _rows_of(K, out, o, so, w, a, x, b, sx, C, table, t, u):
    if K == 3:
        _three(out, o, so, w, a, x, b, sx, C, table, t, u)
    elif K == 5:
        _five(out, o, so, w, a, x, b, sx, C, table, t, u)
    else:
        _seven(out, o, so, w, a, x, b, sx, C, table, t, u)


@no_type_check
@shared_kernel
def whole_window_sum_to_features(
    first, last, thread, h, W, rh, rw, w1, C, K, pixels, weights, out, table, scratch, size, S, before
):  # fmt: skip
    """out [images, C, h + K - 1, w1] of pixels [images, C, h rh, W] and weights [images, K K, h rh, W].

    A task is a row of the result. The rows of pixels that reach it, K rh at most, are copied with zeros at both ends,
    S numbers each, `before` of them zeros at the left. Then a tap is a shift. table [2 K rh K]: where the pixels of a
    tap lie, then its weights.
    """
    begin = thread * size
    h1, H, most = h + K - 1, h * rh, K * rh
    tiles = (w1 * rw + PIXELS - 1) // PIXELS
    sums = begin
    rows = sums + ROWS * tiles * PIXELS
    shares = rows + ROWS * most * S
    for i in range((ROWS + K) * most * S):
        put(scratch, rows + i, 0)
    for task in range(first, last):
        b, row = task // h1, task % h1
        top = max(0, row - K + 1)
        number = (min(h - 1, row) - top + 1) * rh
        for m in range(number):
            y = top * rh + m
            for kx in range(K):
                n = (row - y // rh) * K + kx
                source, target = ((b * K * K + n) * H + y) * W, shares + (m * K + kx) * S + before
                for p in range(W):
                    put(scratch, target + p, get(weights, source + p))
        for c in range(0, C, ROWS):
            channels = min(ROWS, C - c)
            for i in range(channels):
                for m in range(number):
                    source = ((b * C + c + i) * H + top * rh + m) * W
                    target = rows + (i * most + m) * S + before
                    for p in range(W):
                        put(scratch, target + p, get(pixels, source + p))
            for t in range(tiles):
                place = before + t * PIXELS
                _product(
                    scratch, sums + t * PIXELS, tiles * PIXELS, scratch, shares + place, scratch, rows + place,
                    most * S, number * K, table, 0, most * K,
                )  # fmt: skip
            for i in range(channels):
                target = ((b * C + c + i) * h1 + row) * w1
                for x in range(w1):
                    value = types.float32(0.0)
                    for p in range(x * rw, (x + 1) * rw):
                        value += get(scratch, sums + i * tiles * PIXELS + p)
                    put(out, target + x, value)


def window_sum(padded: Tensor, weights: Tensor, K: int, h: int, w: int) -> Tensor:
    """[B, C, h + K - 1, w + K - 1], [B, K K, H, W] -> [B, C, H, W], multiples of h and w. Differentiable."""
    return _Sum.apply(padded, weights, K, h, w)  # pyright: ignore[reportReturnType]


def window_sum_to_weights(pixels: Tensor, padded: Tensor, K: int, h: int, w: int) -> Tensor:
    """The adjoint in the weights: [B, C, H, W], [B, C, h + K - 1, w + K - 1] -> [B, K K, H, W]. Differentiable."""
    return _ToWeights.apply(pixels, padded, K, h, w)  # pyright: ignore[reportReturnType]


def window_sum_to_features(pixels: Tensor, weights: Tensor, K: int, h: int, w: int) -> Tensor:
    """The adjoint in the map: [B, C, H, W], [B, K K, H, W] -> [B, C, h + K - 1, w + K - 1]. Differentiable."""
    return _ToFeatures.apply(pixels, weights, K, h, w)  # pyright: ignore[reportReturnType]


def plain_sum(
    padded: Tensor, weights: Tensor, K: int, h: int, w: int, softmax: bool = False, out: Tensor | None = None
) -> Tensor:
    """The sum without derivatives, of weights or of the softmax of scores."""
    kernels = numba_doubled if numba_doubled.takes(padded.shape[1], h, w, *weights.shape[-2:]) else numba_whole
    return kernels.window_sum(padded.contiguous(), weights, K, h, w, softmax, out)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, weights: Tensor, K: int, h: int, w: int) -> Tensor:
        _keep(ctx, padded, weights, (K, h, w))
        return plain_sum(padded, weights, K, h, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (padded, weights), (grad,) = ctx.saved_tensors, grads
        return (
            window_sum_to_features(grad, weights, *ctx.rest) if ctx.needs_input_grad[0] else None,
            window_sum_to_weights(grad, padded, *ctx.rest) if ctx.needs_input_grad[1] else None,
            *(None for _ in ctx.rest),
        )


class _ToWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, padded: Tensor, K: int, h: int, w: int) -> Tensor:
        _keep(ctx, pixels, padded, (K, h, w))
        return _to_weights(pixels, padded, K, h, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (pixels, padded), (grad,) = ctx.saved_tensors, grads
        return (
            window_sum(padded, grad, *ctx.rest) if ctx.needs_input_grad[0] else None,
            window_sum_to_features(pixels, grad, *ctx.rest) if ctx.needs_input_grad[1] else None,
            *(None for _ in ctx.rest),
        )


class _ToFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weights: Tensor, K: int, h: int, w: int) -> Tensor:
        _keep(ctx, pixels, weights, (K, h, w))
        return _to_features(pixels, weights, K, h, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (pixels, weights), (grad,) = ctx.saved_tensors, grads
        return (
            window_sum(grad, weights, *ctx.rest) if ctx.needs_input_grad[0] else None,
            window_sum_to_weights(pixels, grad, *ctx.rest) if ctx.needs_input_grad[1] else None,
            *(None for _ in ctx.rest),
        )


def _keep(ctx: Any, first: Tensor, second: Tensor, rest: tuple[int, ...]) -> None:
    ctx.save_for_backward(first, second)
    ctx.rest = rest


def _to_weights(pixels: Tensor, padded: Tensor, K: int, h: int, w: int) -> Tensor:
    (B, C, H, W), (h1, w1) = pixels.shape, padded.shape[2:]
    rh, rw, bands = H // h, W // w, -(-h // BAND)
    S = (-(-PIXELS // rw) + K) * rw
    plane = (BAND + K - 1) * S
    size = (K + C) * PIXELS + C * plane + PIXELS
    out = pixels.new_empty((B, K * K, H, W))
    given, low, target = flat(pixels.contiguous()), flat(padded.contiguous()), flat(out)
    channels = torch.arange(C, device="cpu")
    table = torch.cat([channels * plane, channels * H * W, channels * PIXELS]).numpy()
    space = scratch(size)

    arguments = bands, h, W, rh, rw, low, h1, w1, C, K, given, target, table, space, size, S
    run(whole_window_sum_to_weights, B * bands, *arguments)
    return out


def _to_features(pixels: Tensor, weights: Tensor, K: int, h: int, w: int) -> Tensor:
    (B, C, H, W), h1, w1 = pixels.shape, h + K - 1, w + K - 1
    rh, rw = H // h, W // w
    tiles, before = -(-w1 * rw // PIXELS), (K - 1) * rw
    S = before + tiles * PIXELS
    size = ROWS * tiles * PIXELS + (ROWS + K) * K * rh * S
    out = pixels.new_empty((B, C, h1, w1))
    given, shares, target = flat(pixels.contiguous()), flat(weights.contiguous()), flat(out)
    table, space = _taps(K, rh, rw, S).numpy(), scratch(size)

    arguments = h, W, rh, rw, w1, C, K, given, shares, target, table, space, size, S, before
    run(whole_window_sum_to_features, B * h1, *arguments)
    return out


@kept()
def _taps(K: int, rh: int, rw: int, S: int) -> Tensor:
    """Where the pixels of each row and shift lie, then their weights: [2 K rh K]."""
    row, shift = torch.arange(K * rh, device="cpu")[:, None], torch.arange(K, device="cpu")
    return torch.cat([(row * S - shift * rw).flatten(), ((row * K + shift) * S - shift * rw).flatten()])
