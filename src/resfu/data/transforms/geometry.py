"""Resizing, cropping and padding of an image together with its label."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from resfu.data.base import IGNORE_INDEX
from resfu.ops.checks import are_ints

CROP_RETRIES = 10


class RandomResize(v2.Transform):
    """Resize by a random factor, keeping the aspect ratio.

    Labels use "nearest-exact", which stays aligned with the bilinear image; torchvision's default for masks is off by
    up to half a pixel.

    Args:
        scale_range: (smallest, largest) factor.
        base_size: (long, short) in pixels: the factor is relative to the largest size that fits these bounds for the
            longer and the shorter side. None: relative to the image's own size.

    Raises:
        ValueError: unless 0 < smallest <= largest, and for an invalid `base_size`.
    """

    def __init__(self, scale_range: tuple[float, float], base_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        low, high = scale_range
        if not 0 < low <= high:
            raise ValueError(
                f"scale_range must be (smallest, largest) with 0 < smallest <= largest, got {scale_range}."
            )
        self.low, self.high = low, high
        self.base_size = None if base_size is None else _checked_bounds(base_size)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the factor and compute the size."""
        height, width = _size_of(flat_inputs)
        factor = self.low + (self.high - self.low) * float(torch.rand(()))
        if self.base_size is not None:
            factor *= _fitting_factor(height, width, self.base_size)
        return {"size": _scaled(height, width, factor)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize the image or its label."""
        if isinstance(inpt, tv_tensors.Mask):
            label = F.resize_image(inpt.as_subclass(Tensor)[None], params["size"], InterpolationMode.NEAREST_EXACT)[0]
            return tv_tensors.Mask(label)
        return self._call_kernel(F.resize, inpt, params["size"], antialias=True)


class FitImage(v2.Transform):
    """Resize the image, but not its label, to the largest size within bounds, keeping the aspect ratio.

    Evaluation is at the label's size: the caller resizes the logits to it.

    Args:
        bounds: (long, short): upper bounds of the longer and the shorter side, in pixels.
        enlarge: also enlarge smaller images to that size.

    Raises:
        ValueError: for bounds below 1, or with long < short.
    """

    def __init__(self, bounds: tuple[int, int], enlarge: bool = True) -> None:
        super().__init__()
        self.bounds = _checked_bounds(bounds)
        self.enlarge = enlarge

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Compute the size."""
        height, width = next(part for part in flat_inputs if isinstance(part, tv_tensors.Image)).shape[-2:]
        factor = _fitting_factor(height, width, self.bounds)
        return {"size": _scaled(height, width, factor) if self.enlarge or factor < 1 else [height, width]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize the image; labels stay unchanged."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        return self._call_kernel(F.resize, inpt, params["size"], antialias=True)


class RandomCrop(v2.Transform):
    """Crop a random window, preferably one that no single class dominates.

    Args:
        size: (H, W) of the window; a smaller side of the image is not cropped.
        cat_max_ratio: a window in which one class covers this share or more of the labelled pixels is drawn again, up
            to 10 times; the last one is used. 1 accepts any.

    Raises:
        ValueError: for a size below 1 or a ratio outside 0 to 1.
    """

    def __init__(self, size: tuple[int, int], cat_max_ratio: float = 1.0) -> None:
        super().__init__()
        self.size = _checked_size(size)
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f"cat_max_ratio must be above 0 and at most 1, got {cat_max_ratio}.")
        self.cat_max_ratio = cat_max_ratio

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the window."""
        height, width = _size_of(flat_inputs)
        label = next(part for part in flat_inputs if isinstance(part, tv_tensors.Mask))
        crop_height, crop_width = min(height, self.size[0]), min(width, self.size[1])

        def draw() -> tuple[int, int]:
            return int(torch.randint(height - crop_height + 1, ())), int(torch.randint(width - crop_width + 1, ()))

        top, left = draw()
        for _ in range(CROP_RETRIES):
            if self._is_mixed(label[top : top + crop_height, left : left + crop_width]):
                break
            top, left = draw()
        return {"top": top, "left": left, "height": crop_height, "width": crop_width}

    def _is_mixed(self, label: Tensor) -> bool:
        if self.cat_max_ratio == 1:
            return True
        counts = torch.bincount(label[label != IGNORE_INDEX].flatten())
        return bool(counts.numel()) and float(counts.max()) < self.cat_max_ratio * float(counts.sum())

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop the image or its label."""
        return self._call_kernel(F.crop, inpt, **params)


class PadTo(v2.Transform):
    """Pad on the right and below, images with 0 and labels with 255.

    Args:
        size: (H, W) to reach; larger sides stay unchanged.

    Raises:
        ValueError: for a size below 1.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = _checked_size(size)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Compute the padding: left, top, right, bottom."""
        height, width = _size_of(flat_inputs)
        return {"padding": [0, 0, max(0, self.size[1] - width), max(0, self.size[0] - height)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad the image or its label."""
        fill = IGNORE_INDEX if isinstance(inpt, tv_tensors.Mask) else 0
        return self._call_kernel(F.pad, inpt, params["padding"], fill=fill)


def _checked_size(size: Sequence[int]) -> tuple[int, int]:
    if not are_ints(size, 2):
        raise ValueError(f"a size is (H, W), two whole numbers of at least 1; got {size!r}.")
    return size[0], size[1]


def _checked_bounds(bounds: Sequence[int]) -> tuple[int, int]:
    if not are_ints(bounds, 2) or bounds[0] < bounds[1]:
        raise ValueError(
            f"bounds are (long, short), two whole numbers of at least 1, the larger one first; got {bounds!r}."
        )
    return bounds[0], bounds[1]


def _fitting_factor(height: int, width: int, bounds: tuple[int, int]) -> float:
    return min(bounds[0] / max(height, width), bounds[1] / min(height, width))


def _scaled(height: int, width: int, factor: float) -> list[int]:
    return [max(1, int(side * factor + 0.5)) for side in (height, width)]


def _size_of(flat_inputs: list[Any]) -> tuple[int, int]:
    sizes = [tuple(part.shape[-2:]) for part in flat_inputs if isinstance(part, tv_tensors.Image | tv_tensors.Mask)]
    if len(sizes) != 2 or sizes[0] != sizes[1]:
        raise ValueError(
            "a sample must hold one tv_tensors.Image and one tv_tensors.Mask of the same size "
            f"(torchvision cannot tell plain tensors apart); got the sizes {sizes}."
        )
    height, width = sizes[0]
    return height, width
