"""Colour augmentation, which does not change the label."""

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F


class PhotometricDistortion(v2.Transform):
    """Change brightness, contrast, saturation and hue of a float image in 0..1, each with probability 1/2.

    Brightness is shifted by up to 32/255. Contrast, a factor on all values, comes before or after the colour changes
    with equal probability. Saturation is scaled in HSV, and hue is turned by up to a tenth of the circle.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the changes; None means no change."""
        contrast = _uniform(0.5, 1.5) if _coin() else None
        first = _coin()
        return {
            "brightness": _uniform(-32 / 255, 32 / 255) if _coin() else None,
            "contrast_before": contrast if first else None,
            "saturation": _uniform(0.5, 1.5) if _coin() else None,
            "hue": _uniform(-0.1, 0.1) if _coin() else None,
            "contrast_after": None if first else contrast,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change the image; labels stay unchanged."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        image = inpt.as_subclass(Tensor)
        if (shift := params["brightness"]) is not None:
            image = (image + shift).clamp(0, 1)
        if (factor := params["contrast_before"]) is not None:
            image = (image * factor).clamp(0, 1)
        if (factor := params["saturation"]) is not None:
            image = scale_saturation(image, factor)
        if (turn := params["hue"]) is not None:
            image = F.adjust_hue_image(image, turn)
        if (factor := params["contrast_after"]) is not None:
            image = (image * factor).clamp(0, 1)
        return tv_tensors.Image(image)


def scale_saturation(image: Tensor, factor: float) -> Tensor:
    """Scale the HSV saturation of an image, keeping hue and value.

    Args:
        image: [3, H, W], floating point in 0..1.
        factor: 0 or more; the saturation is limited to 1.
    """
    # In HSV a colour is V * (1 - S * u) with u in 0..1 per channel and S = (V - min) / V: scaling S scales V - colour.
    value = image.amax(0, keepdim=True)
    chroma = value - image.amin(0, keepdim=True)
    largest = value / chroma.clamp_min(torch.finfo(image.dtype).tiny)
    return (value - (value - image) * largest.clamp_max(factor)).clamp_min(0)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _coin() -> bool:
    return bool(torch.rand(()) < 0.5)
