"""Logits of whole images, in one pass or in overlapping windows."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def predict(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    mode: Literal["whole", "slide"] = "whole",
    crop_size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
) -> Tensor:
    """Run a segmentation network without gradients. The caller sets the network to evaluation mode.

    "slide" follows mmsegmentation: windows of `crop_size` start every `stride` pixels, the last of a row or column is
    shifted back to end at the border, and logits are averaged where windows overlap. Windows run one after the other,
    each for the whole batch, and are summed in place: beyond one window's pass, the memory is that of the result and
    one row of windows. For label maps, `predict_labels` needs less.

    Args:
        model: images [B, 3, H, W] -> logits [B, K, H, W].
        images: [B, 3, H, W], floating point, normalised as the model expects.
        mode: "whole" or "slide".
        crop_size: window of "slide": (height, width), or one number for both; limited to the image's size.
        stride: step of "slide", in the same form, at most the window.

    Returns:
        Logits [B, K, H, W]; from "slide" in float32 or higher.

    Raises:
        ValueError: for images of the wrong rank, an unknown mode, a missing or invalid window, or logits of another
            size than the window.
    """
    if images.dim() != 4:
        raise ValueError(f"images must be [B, 3, H, W], got shape {list(images.shape)}.")
    windows = checked_windows(mode, crop_size, stride)
    if windows is None:
        return model(images)
    total: Tensor | None = None
    for top, logits in slide(model, images, *windows):
        if total is None:
            total = logits.new_empty(*logits.shape[:2], *images.shape[-2:])
        total[..., top : top + logits.shape[-2], :] = logits
    assert total is not None  # every axis has at least one window
    return total


def checked_windows(
    mode: str, crop_size: int | tuple[int, int] | None, stride: int | tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Check the arguments of `predict`.

    Returns:
        Window and step as (height, width); None for the whole image.

    Raises:
        ValueError: for an unknown mode, or a missing or invalid window.
    """
    if mode == "whole":
        if crop_size is not None or stride is not None:
            raise ValueError("crop_size and stride belong to mode='slide'; leave them out or choose 'slide'.")
        return None
    if mode != "slide":
        raise ValueError(f"mode must be 'whole' or 'slide', got {mode!r}.")
    if crop_size is None or stride is None:
        raise ValueError("mode='slide' needs crop_size and stride, such as crop_size=512, stride=480.")
    crop, step = _pair("crop_size", crop_size), _pair("stride", stride)
    if step[0] > crop[0] or step[1] > crop[1]:
        raise ValueError(f"stride {step} is larger than crop_size {crop}: pixels between the windows would be missed.")
    return crop, step


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits to the label's size, bilinearly with `align_corners=False`; labels are never resized.

    Args:
        logits: [B, K, h, w], floating point.
        size: (H, W) of the label.

    Returns:
        [B, K, H, W]; the input itself if it has that size already.
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """The starts of the windows along an axis: every `stride`, the last shifted back to end at `length`."""
    if crop >= length:
        return [0]
    steps = -(-(length - crop) // stride)
    return [min(i * stride, length - crop) for i in range(steps + 1)]


def slide(
    model: Callable[[Tensor], Tensor], images: Tensor, crop: tuple[int, int], stride: tuple[int, int]
) -> Iterator[tuple[int, Tensor]]:
    """The averaged logits of overlapping windows, band by band from the top.

    Args:
        model: images [B, 3, H, W] -> logits [B, K, H, W].
        images: [B, 3, H, W].
        crop: (height, width) of the window.
        stride: its step.

    Yields:
        The first row of a band, and its logits [B, K, rows, W], which the next band overwrites.

    Raises:
        ValueError: for logits of another size than the window.
    """
    H, W = images.shape[-2:]
    height, width = min(crop[0], H), min(crop[1], W)
    tops, lefts = window_starts(H, height, stride[0]), window_starts(W, width, stride[1])
    rows, columns = _coverage(tops, height, H), _coverage(lefts, width, W)
    total: Tensor | None = None  # of the rows that the current windows cover
    for place, top in enumerate(tops):
        for left in lefts:
            logits = model(images[..., top : top + height, left : left + width])
            if tuple(logits.shape[-2:]) != (height, width):
                raise ValueError(
                    f"the model gave logits of {list(logits.shape[-2:])} for a window of {[height, width]}: "
                    "resize them to the input's size inside the model (resize_logits)."
                )
            if total is None:
                dtype = torch.promote_types(logits.dtype, torch.float32)
                total = torch.zeros(*logits.shape[:2], height, W, dtype=dtype, device=logits.device)
            total[..., left : left + width] += logits
        assert total is not None
        done = (tops[place + 1] if place + 1 < len(tops) else H) - top  # rows that no later window covers
        counts = rows[top : top + done, None] * columns
        yield top, total[..., :done, :].div_(counts.to(total))
        total[..., : height - done, :] = total[..., done:, :].clone()
        total[..., height - done :, :] = 0


def _coverage(starts: list[int], size: int, length: int) -> Tensor:
    """Number of windows over each position of an axis; the counts of both axes multiply."""
    count = torch.zeros(length)
    for start in starts:
        count[start : start + size] += 1
    return count


def _pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) and n >= 1 for n in pair):
        raise ValueError(f"{name} must be a positive number or (height, width) of them, got {value!r}.")
    return pair
