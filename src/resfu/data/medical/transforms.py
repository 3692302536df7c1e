"""TransUNet's augmentation of medical slices, with spline interpolation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import rotate, zoom
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from resfu.data.base import Transform
from resfu.data.transforms import eval_transform
from resfu.ops.checks import are_ints

MAX_ANGLE = 20  # degrees


class TurnOrRotate(v2.Transform):
    """With probability 1/2, turn by a random multiple of 90 degrees and flip along a random axis; otherwise, with
    probability 1/2, rotate by an integer angle from -20 to 19 degrees.

    The rotation uses the nearest pixel for both image and label, and pads with 0.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the change."""
        if _coin():
            return {"turns": int(torch.randint(4, ())), "axis": int(torch.randint(2, ())), "angle": None}
        angle = int(torch.randint(-MAX_ANGLE, MAX_ANGLE, ())) if _coin() else None
        return {"turns": None, "axis": None, "angle": angle}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change the image or its label."""
        pixels = inpt.as_subclass(Tensor)
        if params["turns"] is not None:
            # Axes count from the end, because a label has no channels.
            pixels = pixels.rot90(params["turns"], (-2, -1)).flip(params["axis"] - 2)
        elif params["angle"] is not None:
            turned = rotate(pixels.numpy(), params["angle"], axes=(-2, -1), order=0, reshape=False)
            pixels = torch.from_numpy(np.ascontiguousarray(turned))
        return type(inpt)(pixels.contiguous())


class SplineResize(v2.Transform):
    """Resize the image by cubic splines, and optionally the label by nearest neighbour.

    It aligns the corners, like `scipy.ndimage.zoom` in TransUNet.

    Args:
        size: (H, W) of the output.
        label: also resize the label; evaluation is at the label's own size.

    Raises:
        ValueError: for a size below 1.
    """

    def __init__(self, size: Sequence[int], label: bool) -> None:
        super().__init__()
        if not are_ints(size, 2):
            raise ValueError(f"a size is (H, W), two whole numbers of at least 1; got {size!r}.")
        self.size = (size[0], size[1])
        self.label = label

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize the image or its label."""
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.Mask(self._zoomed(inpt.as_subclass(Tensor), order=0)) if self.label else inpt
        image = inpt.as_subclass(Tensor)
        if not bool(image.isfinite().all()):
            raise ValueError("a medical slice holds NaN or infinity: correct it before resizing.")
        if not torch.equal(image[:1].expand_as(image), image):
            raise ValueError("a medical slice has one channel, repeated three times; this image has colours.")
        return tv_tensors.Image(self._zoomed(image[0], order=3).repeat(image.shape[0], 1, 1))

    def _zoomed(self, pixels: Tensor, order: int) -> Tensor:
        if tuple(pixels.shape) == self.size:
            return pixels
        factors = [new / old for new, old in zip(self.size, pixels.shape, strict=True)]
        return torch.from_numpy(np.asarray(zoom(pixels.numpy(), factors, order=order)))


def slice_train_transform(size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Transform:
    """TransUNet's training pipeline: turn and flip or rotate, resize, normalise.

    Args:
        size: (H, W) of the output, such as (224, 224).
        mean: per channel, for images in 0..1.
        std: per channel, for images in 0..1.

    Returns:
        A transform of samples: "image" float32 [3, H, W]; "label" int64 [H, W].

    Raises:
        ValueError: for an invalid size, mean or std.
    """
    return v2.Compose([TurnOrRotate(), SplineResize(size, label=True), eval_transform(mean, std)])


def slice_eval_transform(size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Transform:
    """The validation pipeline: resize the image, not its label, and normalise it; arguments as in training."""
    return v2.Compose([SplineResize(size, label=False), eval_transform(mean, std)])


def _coin() -> bool:
    return bool(torch.rand(()) < 0.5)
