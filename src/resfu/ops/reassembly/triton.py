"""Reassembly on the GPU: the operators of `operators.py`, each of which launches a kernel of `triton_kernels.py`."""
# A type checker sees kernels as Python functions that get integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.layout import memory_format
from resfu.ops.reassembly.tiles import weights_format
from resfu.ops.reassembly.triton_kernels import to_features_kernel, to_weights_kernel, window_sum_kernel
from resfu.ops.reassembly.triton_tiles import correlated_channels, summed_channels, tiling

# Codes that tell the kernels where windows begin; see `tiles.window_start`.
READ = {"coarse": 0, "dense": 0, "fine": 1, "central": 2}
_ENOUGH_PROGRAMS = 1024  # with fewer, the channels of a tile are divided among several programs


def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """`operators.window_sum` on CUDA."""
    return _window_sum(padded, weights, M, M, h, w, neighbours, groups, False, False)


def softmax_window_sum(
    padded: Tensor, scores: Tensor, K: int, h: int, w: int, neighbours: str, groups: int, mask: bool
) -> Tensor:
    """`operators.softmax_window_sum` on CUDA."""
    return _window_sum(padded, scores, K + (neighbours == "fine"), K, h, w, neighbours, groups, True, mask)


def _window_sum(
    padded: Tensor, s: Tensor, M: int, K: int, h: int, w: int, neighbours: str, groups: int, softmax: bool, mask: bool
) -> Tensor:
    (B, C), (H, W) = padded.shape[:2], s.shape[-2:]
    out = torch.empty((B, C, H, W), dtype=padded.dtype, device=padded.device, memory_format=memory_format(padded))
    if out.numel() == 0:
        return out
    size = padded.element_size()
    width, tiles = C // groups, tiling(H, W, h, w, M, neighbours, out.stride(1) == 1, size)
    channels = summed_channels(width, tiles.pixels, tiles.taps, size)
    blocks, places = triton.cdiv(width, channels), B * tiles.number
    loops = max(1, min(blocks, places * groups * blocks // _ENOUGH_PROGRAMS))
    parts = triton.cdiv(blocks, loops)
    with torch.cuda.device_of(out):  # Triton launches on the current device
        window_sum_kernel[(places, groups * parts)](
            padded, s, out, h, w, H, W, *tiles.origin, *tiles.grid, parts, loops, width,
            *padded.stride(), *s.stride(), *out.stride(),
            READ=READ[neighbours], M=M, K=K, SOFTMAX=softmax, MASK=mask, **tiles.constants(),
            CHANNELS=channels, SUM=_sum_type(padded),
        )  # fmt: skip
    return out


def window_sum_to_weights(grad: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """`operators.window_sum_to_weights` on CUDA."""
    B, C, H, W = grad.shape
    size = (B, groups * M * M, H, W)
    out = torch.empty(size, dtype=grad.dtype, device=grad.device, memory_format=weights_format(neighbours))
    if out.numel() == 0:
        return out
    width, tiles = C // groups, tiling(H, W, h, w, M, neighbours, grad.stride(1) == 1, grad.element_size())
    channels = correlated_channels(width, tiles.pixels, tiles.taps, grad.element_size())
    with torch.cuda.device_of(out):  # Triton launches on the current device
        to_weights_kernel[(B * tiles.number, groups)](
            grad, padded, out, h, w, H, W, *tiles.origin, *tiles.grid, width,
            *grad.stride(), *padded.stride(), *out.stride(),
            READ=READ[neighbours], M=M, **tiles.constants(), CHANNELS=channels, SUM=_sum_type(grad),
        )  # fmt: skip
    return out


def window_sum_to_features(
    grad: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """`operators.window_sum_to_features` on CUDA."""
    (B, C), (H, W) = grad.shape[:2], weights.shape[-2:]
    size = (h + M // 2 * 2, w + M // 2 * 2)
    out = grad.new_empty((B, C, *size))
    if out.numel() == 0:
        return out
    width = C // groups
    side = 4  # of a tile: each pixel is then read by ((4 + M - 1) / 4)^2 programs
    channels = summed_channels(width, side * side, 32, grad.element_size())
    tiles, parts = (triton.cdiv(size[0], side), triton.cdiv(size[1], side)), triton.cdiv(width, channels)
    with torch.cuda.device_of(out):  # Triton launches on the current device
        to_features_kernel[(B * tiles[0] * tiles[1], groups * parts)](
            grad, weights, out, h, w, H, W, *size, *tiles, parts, width,
            *grad.stride(), *weights.stride(), *out.stride(),
            READ=READ[neighbours], M=M, ROWS=side, COLUMNS=side, PIXELS=32, CHANNELS=channels, SUM=_sum_type(grad),
        )  # fmt: skip
    return out


def _sum_type(x: Tensor):
    return tl.float64 if x.dtype == torch.float64 else tl.float32
