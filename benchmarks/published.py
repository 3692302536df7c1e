"""The published ReSFU algorithm in plain PyTorch, as a yardstick: the key at high resolution, dilated neighbourhoods.

It shares our parameters, so that both compute the same numbers. `unfolded` as in `plain`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain import shifts
from resfu import ReSFU, ops
from resfu.upsamplers.similarity import SimilarityBlock


def resfu(up: ReSFU, x: Tensor, y: Tensor, unfolded: bool = True) -> Tensor:
    """Published steps 1 to 7 for an integer ratio."""
    h, (H, W), K = x.shape[-2], y.shape[-2:], up.kernel_size
    r = H // h
    q, k = up.query(up.guidance_norm(y)), up.key(up.features_norm(x))
    k = F.interpolate(k, size=(H, W), mode="bilinear", align_corners=False)
    q_gs, q_gf = ops.gaussian_filter(q), guided_filter(q, k, up.guided_filter_radius, up.guided_filter_eps)
    scores = similarity(up.semantic_similarity, k, q_gf, r) + similarity(up.detail_similarity, q_gs, q, r)
    mask = F.pad(torch.zeros(1, 1, H, W, dtype=scores.dtype, device=scores.device), (r * (K // 2),) * 4, value=-1e7)
    scores = scores + F.unfold(mask, K, dilation=r).view(1, K * K, H, W)
    upsampled = F.interpolate(x, size=(H, W), mode="bilinear", align_corners=False)
    share, upsampled = scores.softmax(1), F.pad(upsampled, (r * (K // 2),) * 4, mode="replicate")
    if unfolded:
        values = F.unfold(upsampled, K, dilation=r)
        return (values.view(*x.shape[:2], K * K, H, W) * share[:, None]).sum(2)
    out = x.new_zeros(*x.shape[:2], H, W)
    for n, shifted in enumerate(shifts(upsampled, K, H, W, r)):
        out.addcmul_(shifted, share[:, n : n + 1])
    return out


def similarity(block: SimilarityBlock, key: Tensor, query: Tensor, r: int) -> Tensor:
    key, query = block.norm(key), block.norm(query)
    groups, K = key.shape[1] // block.weight.shape[1], block.weight.shape[-1]
    v = F.conv2d(F.pad(key, (r * (K // 2),) * 4, mode="replicate"), block.weight, dilation=r, groups=groups)
    v = v - F.conv2d(query, block.weight.sum((2, 3), keepdim=True), groups=groups) + block.bias.view(-1, 1, 1)
    return block.score(block.reduce_norm(torch.relu(block.reduce(torch.relu(v)))))


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    def box(t: Tensor) -> Tensor:
        line = t.new_ones(t.shape[1], 1, 2 * radius + 1, 1)
        t = F.conv2d(t, line, padding=(radius, 0), groups=t.shape[1])
        return F.conv2d(t, line.mT, padding=(0, radius), groups=t.shape[1])

    n = box(torch.ones_like(guide))
    mean_guide, mean_x = box(guide) / n, box(x) / n
    slope = (box(guide * x) / n - mean_guide * mean_x) / (box(guide * guide) / n - mean_guide**2 + eps)
    return box(slope) / n * guide + box(mean_x - slope * mean_guide) / n
