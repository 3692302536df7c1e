"""The upsamplers as they are published, in plain PyTorch, as a yardstick: every neighbourhood unfolded in memory.

They share our parameters, so that both compute the same numbers. Whole ratios, evaluation mode.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu import CARAFE, FADE, JBU, SAPA, DySample, StackJBU


def windows(x: Tensor, K: int, ratio: int) -> Tensor:
    """[B, C, h, w] -> [B, C, K * K, H, W]: the neighbours of the pixel that holds each output pixel; 0 beyond."""
    B, C, h, w = x.shape
    unfolded = F.unfold(x, K, padding=K // 2).view(B, C * K * K, h, w)
    return F.interpolate(unfolded, scale_factor=ratio, mode="nearest").view(B, C, K * K, ratio * h, ratio * w)


def reassembled(x: Tensor, scores: Tensor, ratio: int) -> Tensor:
    """The softmax of the scores weighs the neighbours."""
    return (windows(x, round(scores.shape[1] ** 0.5), ratio) * scores.softmax(1)[:, None]).sum(2)


def carafe(up: CARAFE, x: Tensor) -> Tensor:
    return reassembled(x, F.pixel_shuffle(up.encoder(up.compressor(x)), up.ratio), up.ratio)


def fade(up: FADE, x: Tensor, y: Tensor) -> Tensor:
    ratio = y.shape[-1] // x.shape[-1]
    coarse = F.interpolate(up.encoder(up.features_compressor(x)), scale_factor=ratio, mode="nearest")
    return reassembled(x, up.encoder(up.guidance_compressor(y)) + coarse, ratio)


def sapa(up: SAPA, x: Tensor, y: Tensor) -> Tensor:
    ratio = y.shape[-1] // x.shape[-1]
    query, key = up.query(up.guidance_norm(y)), up.key(up.features_norm(x))
    return reassembled(x, (query[:, :, None] * windows(key, up.kernel_size, ratio)).sum(1), ratio)


def stack_jbu(up: StackJBU, x: Tensor, image: Tensor) -> Tensor:
    for stage in up.stages.values():
        assert isinstance(stage, JBU)
        size = (2 * x.shape[-2], 2 * x.shape[-1])
        x = joint_bilateral(stage, x, F.adaptive_avg_pool2d(image, size))
    return x + 0.1 * up.fixup(x)


def joint_bilateral(stage: JBU, x: Tensor, guide: Tensor) -> Tensor:
    """Range kernel times spatial kernel, normalised, corrected; then the weighted sum of the bicubic features."""
    radius, size = stage.radius, guide.shape[-2:]
    side = 2 * radius + 1

    def unfolded(t: Tensor) -> Tensor:
        t = F.pad(t, (radius,) * 4, mode="reflect")
        return F.unfold(t, side).view(*t.shape[:2], side * side, *size)

    key = stage.range_projection(guide)
    temperature = stage.log_temperature.exp().clamp(1e-4, 1e4)
    likeness = (temperature * (unfolded(key) * key[:, :, None]).sum(1)).softmax(1)
    line = torch.linspace(-1, 1, side)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    kernel = likeness * (-(rows**2 + columns**2) / (2 * stage.deviation**2)).exp().view(1, -1, 1, 1)
    kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-7)
    kernel = kernel + 0.1 * stage.kernel_fixup(torch.cat([kernel, guide], 1))
    smooth = F.interpolate(x, size=size, mode="bicubic", align_corners=False)
    return (unfolded(smooth) * kernel[:, None]).sum(2)


def dysample(up: DySample, x: Tensor) -> Tensor:
    """Offsets and grid at low resolution, interleaved at the end; with dynamic scope."""
    assert up.scope is not None
    (B, _, h, w), r, g = x.shape, up.ratio, up.groups
    if up.style == "pl":
        fine = F.pixel_shuffle(x, r)
        offset = F.pixel_unshuffle(up.offset(fine) * up.scope(fine).sigmoid(), r)
    else:
        offset = up.offset(x) * up.scope(x).sigmoid()
    line = (torch.arange(r) - (r - 1) / 2) / r
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    regular = torch.stack([columns, rows]).view(2, 1, r * r).expand(2, g, r * r).reshape(1, -1, 1, 1)
    offset = (0.5 * offset + regular).view(B, 2, -1, h, w)
    rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    position = torch.stack([columns, rows]).view(1, 2, 1, h, w) + offset
    position = 2 * position / torch.tensor([w, h]).view(1, 2, 1, 1, 1) - 1
    grid = F.pixel_shuffle(position.view(B, -1, h, w), r).view(B, 2, g, r * h, r * w)
    grid = grid.permute(0, 2, 3, 4, 1).flatten(0, 1)
    values = x.reshape(B * g, -1, h, w)
    sampled = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.view(B, -1, r * h, r * w)
