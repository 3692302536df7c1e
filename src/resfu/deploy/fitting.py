"""Fit an upsampler to a single image."""

import copy
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.upsamplers.base import Upsampler

_RATE = 2e-2


def fit_upsampler(up: Upsampler, values: Tensor, image: Tensor, steps: int) -> tuple[Upsampler, float]:
    """Learn to upsample an image's values from the same image at a lower resolution.

    The values are average-pooled by the upsampler's ratio and upsampled again, guided by the image resized to the
    values' size. Adam minimises the mean squared difference from the original values. The fitted upsampler is then used
    at the next higher resolution (as in "zero-shot" super-resolution, Shocher et al., 2018).

    Args:
        up: the upsampler, guided by the image; it is not changed.
        values: [B, K, h, w], in at least fp32.
        image: [B, c, H, W].
        steps: number of steps of Adam.

    Returns:
        A fitted copy in evaluation mode, and the seconds that the fit took.

    Raises:
        ValueError: if the upsampler is unguided, if the values are too small to be pooled, or in inference mode.
    """
    if not up.guided:
        raise ValueError(f"{type(up).__name__} has no guidance to be fitted to: take a guided upsampler.")
    if torch.is_inference_mode_enabled():
        raise ValueError("fitting needs gradients: call it outside of torch.inference_mode().")
    h, w = values.shape[-2:]
    ratio = int(up.scale_factor or max(2, round(image.shape[-1] / w)))
    low = (h // ratio, w // ratio)
    if min(low) < 2:
        raise ValueError(
            f"values of {h} x {w} are too small to fit at the ratio {ratio}: that leaves {low[0]} x {low[1]}."
        )
    start = time.perf_counter()
    fitted = copy.deepcopy(up).to(values.dtype).eval()
    whole = (low[0] * ratio, low[1] * ratio)
    target = values[..., : whole[0], : whole[1]]
    guide = F.interpolate(image, size=(h, w), mode="bilinear", antialias=True)[..., : whole[0], : whole[1]]
    small = F.adaptive_avg_pool2d(target, low)
    with torch.enable_grad():
        optimiser = torch.optim.Adam(fitted.parameters(), lr=_RATE)
        for _ in range(steps):
            optimiser.zero_grad()
            F.mse_loss(fitted(small, guide, size=whole), target).backward()
            optimiser.step()
    return fitted.requires_grad_(False), time.perf_counter() - start
