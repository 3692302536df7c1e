"""The upsamplers as they are published, in plain PyTorch, as yardsticks that share our parameters and give our numbers.

Two forms: `unfolded=True` copies every neighbourhood to memory and sums once; otherwise one shift of the map after
another is added to the output, which takes no more memory than that. Whole ratios, evaluation mode.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu import CARAFE, FADE, JBU, SAPA, DySample, StackJBU


def reassembled(x: Tensor, scores: Tensor, ratio: int, unfolded: bool) -> Tensor:
    """The softmax of the scores [B, K * K, H, W] weighs the neighbours of the pixel that holds each output pixel."""
    share = scores.softmax(1)
    K = round(share.shape[1] ** 0.5)
    if unfolded:
        return (windows(x, K, ratio) * share[:, None]).sum(2)
    B, C, h, w = x.shape
    share = share.view(B, K * K, h, ratio, w, ratio)
    out = x.new_zeros(B, C, h, ratio, w, ratio)
    for n, shifted in enumerate(shifts(F.pad(x, (K // 2,) * 4), K, h, w)):
        out.addcmul_(shifted[:, :, :, None, :, None], share[:, n : n + 1])
    return out.view(B, C, h * ratio, w * ratio)


def windows(x: Tensor, K: int, ratio: int) -> Tensor:
    """[B, C, h, w] -> [B, C, K * K, H, W]: the neighbours; 0 beyond."""
    B, C, h, w = x.shape
    copies = F.unfold(x, K, padding=K // 2).view(B, C * K * K, h, w)
    return F.interpolate(copies, scale_factor=ratio, mode="nearest").view(B, C, K * K, ratio * h, ratio * w)


def shifts(padded: Tensor, K: int, h: int, w: int, dilation: int = 1) -> list[Tensor]:
    """The K * K views [B, C, h, w] of a padded map."""
    return [
        padded[:, :, y : y + h, x : x + w]
        for y in range(0, K * dilation, dilation)
        for x in range(0, K * dilation, dilation)
    ]


def carafe(up: CARAFE, x: Tensor, unfolded: bool = True) -> Tensor:
    return reassembled(x, F.pixel_shuffle(up.encoder(up.compressor(x)), up.ratio), up.ratio, unfolded)


def fade(up: FADE, x: Tensor, y: Tensor, unfolded: bool = True) -> Tensor:
    ratio = y.shape[-1] // x.shape[-1]
    coarse = F.interpolate(up.encoder(up.features_compressor(x)), scale_factor=ratio, mode="nearest")
    return reassembled(x, up.encoder(up.guidance_compressor(y)) + coarse, ratio, unfolded)


def sapa(up: SAPA, x: Tensor, y: Tensor, unfolded: bool = True) -> Tensor:
    (h, w), ratio, K = x.shape[-2:], y.shape[-1] // x.shape[-1], up.kernel_size
    query, key = up.query(up.guidance_norm(y)), up.key(up.features_norm(x))
    if unfolded:
        return reassembled(x, (query[:, :, None] * windows(key, K, ratio)).sum(1), ratio, unfolded)
    split = query.view(*query.shape[:2], h, ratio, w, ratio)
    keys = shifts(F.pad(key, (K // 2,) * 4), K, h, w)
    scores = torch.stack([(split * shifted[:, :, :, None, :, None]).sum(1) for shifted in keys], 1)
    return reassembled(x, scores.view(x.shape[0], K * K, *y.shape[-2:]), ratio, unfolded)


def stack_jbu(up: StackJBU, x: Tensor, image: Tensor, unfolded: bool = True) -> Tensor:
    for stage in up.stages.values():
        assert isinstance(stage, JBU)
        size = (2 * x.shape[-2], 2 * x.shape[-1])
        x = joint_bilateral(stage, x, F.adaptive_avg_pool2d(image, size), unfolded)
    return x + 0.1 * up.fixup(x)


def joint_bilateral(stage: JBU, x: Tensor, guide: Tensor, unfolded: bool) -> Tensor:
    """Range kernel times spatial kernel, normalised, corrected; then the weighted sum of the bicubic features."""
    radius, (H, W) = stage.radius, guide.shape[-2:]
    side = 2 * radius + 1

    def neighbours(t: Tensor) -> list[Tensor]:
        return shifts(F.pad(t, (radius,) * 4, mode="reflect"), side, H, W)

    def copied(t: Tensor) -> Tensor:
        t = F.pad(t, (radius,) * 4, mode="reflect")
        return F.unfold(t, side).view(*t.shape[:2], side * side, H, W)

    key = stage.range_projection(guide)
    if unfolded:
        likeness = (copied(key) * key[:, :, None]).sum(1)
    else:
        likeness = torch.stack([(key * shifted).sum(1) for shifted in neighbours(key)], 1)
    likeness = (stage.log_temperature.exp().clamp(1e-4, 1e4) * likeness).softmax(1)
    line = torch.linspace(-1, 1, side)  # fp32 as published, in fp64 too
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    kernel = likeness * (-(rows**2 + columns**2) / (2 * stage.deviation**2)).exp().view(1, -1, 1, 1)
    kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-7)
    kernel = kernel + 0.1 * stage.kernel_fixup(torch.cat([kernel, guide], 1))
    smooth = F.interpolate(x, size=(H, W), mode="bicubic", align_corners=False)
    if unfolded:
        return (copied(smooth) * kernel[:, None]).sum(2)
    out = torch.zeros_like(smooth)
    for n, shifted in enumerate(neighbours(smooth)):
        out.addcmul_(shifted, kernel[:, n : n + 1])
    return out


def dysample(up: DySample, x: Tensor) -> Tensor:
    """Offsets and grid at low resolution, interleaved at the end; with dynamic scope. There is nothing to unfold."""
    assert up.scope is not None
    (B, _, h, w), r, g = x.shape, up.ratio, up.groups
    if up.style == "pl":
        fine = F.pixel_shuffle(x, r)
        offset = F.pixel_unshuffle(up.offset(fine) * up.scope(fine).sigmoid(), r)
    else:
        offset = up.offset(x) * up.scope(x).sigmoid()
    line = (torch.arange(r, dtype=x.dtype) - (r - 1) / 2) / r
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    regular = torch.stack([columns, rows]).view(2, 1, r * r).expand(2, g, r * r).reshape(1, -1, 1, 1)
    offset = (0.5 * offset + regular).view(B, 2, -1, h, w)
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=x.dtype) + 0.5 for n in (h, w)), indexing="ij")
    position = torch.stack([columns, rows]).view(1, 2, 1, h, w) + offset
    position = 2 * position / torch.tensor([w, h]).view(1, 2, 1, 1, 1) - 1
    grid = F.pixel_shuffle(position.view(B, -1, h, w), r).view(B, 2, g, r * h, r * w)
    grid = grid.permute(0, 2, 3, 4, 1).flatten(0, 1)
    values = x.reshape(B * g, -1, h, w)
    sampled = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.view(B, -1, r * h, r * w)
