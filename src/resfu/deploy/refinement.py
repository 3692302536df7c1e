"""Upsample masks, logits, depth or features to an image's size, along the image's edges, without training."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.deploy.decisions import largest_class
from resfu.deploy.fitting import fit_upsampler
from resfu.ops import correlate, guided_filter, reassemble
from resfu.ops.checks import check_int, pair
from resfu.ops.grid import window
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.jbu import StackJBU

Method = Literal["guided", "bilateral", "upsampler"]
_SPREAD = 0.5  # spatial deviation of the bilateral kernel, in low-resolution pixels
_COLOUR = 0.2  # colour deviation of the bilateral kernel, for colours in 0..1
_ROUNDS = 2  # rounds of back-projection
_TELLING, _OTHER_SHAPE = 4, 1.5  # from this side on, ratios of both sides that differ by this are another image's
_SLACK = 0.1  # by which an image may leave 0..1, as resampled ones do


@torch.no_grad()
def refine(
    values: Tensor,
    image: Tensor,
    size: tuple[int, int] | None = None,
    method: Method = "guided",
    *,
    radius: int | None = None,
    eps: float = 1e-4,
    rounds: int = _ROUNDS,
    upsampler: Upsampler | None = None,
    fit: int = 0,
    report: Callable[[str], object] | None = None,
) -> Tensor:
    """Upsample values to a size, with edges aligned to the image's.

    "guided" interpolates and applies the guided filter (He et al., 2013) with the image's brightness as guide.
    "bilateral" weighs 3 x 3 low-resolution neighbours by their distance and by the similarity of their colours (joint
    bilateral upsampling, Kopf et al., 2007). "upsampler" runs an upsampler that is guided by the image. Then, `rounds`
    times, the result is average-pooled to the values' size, and the difference from the values is upsampled in the same
    way and added (iterative back-projection, Irani & Peleg, 1991).

    The defaults were chosen on training images of CamVid; docs/large_images.md has the results on other images.

    Args:
        values: floating point [B, K, h, w] (logits, probabilities, depth or features). Or masks [h, w] or [B, h, w]:
            bool (also [B, K, h, w]), or uint8 label maps with any labels. Each label of a label map is refined as a map
            of its own, and the largest wins.
        image: [B, c, H, W] or [c, H, W], uint8 or floating point in 0..1.
        size: (H, W) of the result, to which the image is resized. Default: the image's size.
        method: "guided", "bilateral" or "upsampler".
        radius: of the guided filter, in pixels of the result. Default: half the ratio.
        eps: of the guided filter, in units of the image's variance.
        rounds: of back-projection; use 0 for values that are not averages over their pixels.
        upsampler: for "upsampler": one whose guidance has as many channels as the image, and whose features have as
            many channels as the values. Default: a StackJBU, which must be fitted.
        fit: number of steps for which a copy of the upsampler is fitted to these values and this image, see
            `fit_upsampler`; 0 for no fit.
        report: function that is called with a line of text that says how long the fit took.

    Returns:
        The upsampled values, with the dtype and the leading axes of `values`.

    Raises:
        ValueError: for input of another rank, type, batch or shape, a size smaller than the values', an unknown method,
            or an upsampler that is missing, unfitted or given to another method.

    >>> mask = torch.zeros(64, 64, dtype=torch.bool)
    >>> resfu.refine(mask, torch.rand(3, 512, 512)).shape
    torch.Size([512, 512])
    """
    if method not in ("guided", "bilateral", "upsampler"):
        raise ValueError(f"method must be guided, bilateral or upsampler, got {method!r}.")
    if method != "upsampler" and (upsampler is not None or fit):
        raise ValueError(f"upsampler and fit belong to method='upsampler', got method={method!r}.")
    check_int("rounds", rounds, 0)
    check_int("fit", fit, 0)
    maps, restore = _as_maps(values)
    guide = _as_guide(image, maps, size)
    if method == "upsampler":
        module = _fitted(maps, guide, upsampler, fit, report)
        run = lambda x: module(x, guide.to(x.dtype), size=(guide.shape[-2], guide.shape[-1]))  # noqa: E731
    elif method == "guided":
        ratio = max(guide.shape[-2] / maps.shape[-2], guide.shape[-1] / maps.shape[-1])
        reach = max(1, round(ratio / 2)) if radius is None else radius
        bright = guide.mean(1, keepdim=True)
        run = lambda x: guided_filter(bright.expand(-1, x.shape[1], -1, -1), x, reach, eps)  # noqa: E731
    else:
        scores = _bilateral_scores(guide, (maps.shape[-2], maps.shape[-1]))
        run = lambda x: reassemble(x, scores, None, "fine", softmax=True, mask=True)  # noqa: E731
    return restore(_back_projected(maps, run, rounds))


def _back_projected(maps: Tensor, run: Callable[[Tensor], Tensor], rounds: int) -> Tensor:
    out, low = run(maps), (maps.shape[-2], maps.shape[-1])
    for _ in range(rounds):
        out = out + run(maps - F.adaptive_avg_pool2d(out, low))
    return out


def _bilateral_scores(guide: Tensor, low: tuple[int, int]) -> Tensor:
    """Minus half the squared distances of 3 x 3 neighbours in colour and position, up to a constant for each pixel."""
    key = F.adaptive_avg_pool2d(guide, low)
    query = torch.cat([guide, torch.ones_like(guide[:, :1])], 1) / _COLOUR
    key = torch.cat([key, -key.square().sum(1, keepdim=True) / 2], 1) / _COLOUR
    distance = [(y * y + x * x) / (2 * _SPREAD**2) for y in window(3) for x in window(3)]
    return correlate(query, key, 3, "fine", "replicate") - guide.new_tensor(distance).view(1, -1, 1, 1)


def _as_maps(values: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The values as maps [B, K, h, w] in at least fp32, and a function that converts refined maps back to values."""
    if not isinstance(values, Tensor) or values.dim() not in (2, 3, 4) or 0 in values.shape:
        what = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"values must be [h, w], [B, h, w] or [B, K, h, w] without an empty axis, got {what}.")
    if values.is_floating_point():
        if values.dim() != 4:
            raise ValueError(f"values in floating point must be [B, K, h, w], got {list(values.shape)}.")
        return values.to(torch.promote_types(values.dtype, torch.float32)), lambda maps: maps.to(values.dtype)
    if values.dtype not in (torch.bool, torch.uint8):
        raise ValueError(f"values must be floating point, bool or uint8, got {values.dtype}: convert them.")
    rest = values.shape[:-2]
    flat = values.reshape(-1, 1, *values.shape[-2:])
    if values.dtype == torch.bool:
        images = rest[0] if len(rest) else 1
        maps = flat.reshape(images, -1, *values.shape[-2:]).float()
        return maps, lambda out: (out > 0.5).reshape(*rest, *out.shape[-2:])
    labels = values.unique()
    if values.dim() == 4 and values.shape[1] != 1:
        raise ValueError(f"a label map has no channels: values must be [h, w] or [B, h, w], got {list(values.shape)}.")
    maps = (flat == labels.view(1, -1, 1, 1)).float()
    return maps, lambda out: labels[largest_class(out)].reshape(*rest, *out.shape[-2:])


def _as_guide(image: Tensor, maps: Tensor, size: tuple[int, int] | None) -> Tensor:
    """The image [B, c, H, W] in 0..1, in the maps' type and at the size of the result."""
    if not isinstance(image, Tensor) or image.dim() not in (3, 4):
        what = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image must be a tensor [B, c, H, W] or [c, H, W], got {what}.")
    image = image if image.dim() == 4 else image[None]
    if image.numel() == 0:
        raise ValueError(f"image must have a pixel at least, got {list(image.shape)}.")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(f"image must be uint8, or floating point in 0..1, got {image.dtype}.")
    if image.shape[0] != maps.shape[0] or image.device != maps.device:
        raise ValueError(
            f"values and image must hold the same images on one device, got {maps.shape[0]} on {maps.device} and "
            f"{image.shape[0]} on {image.device}."
        )
    if image.is_floating_point() and not (image.min() >= -_SLACK and image.max() <= 1 + _SLACK):
        raise ValueError(
            f"image in floating point must be in 0..1, got {float(image.min()):.4g} to {float(image.max()):.4g}: "
            "divide it by 255, or undo its normalisation."
        )
    guide = image.to(maps.dtype) / 255 if image.dtype == torch.uint8 else image.to(maps.dtype)
    H, W = (image.shape[-2], image.shape[-1]) if size is None else pair("size", size)
    if H < maps.shape[-2] or W < maps.shape[-1]:
        raise ValueError(f"the result must be at least as large as the values {list(maps.shape[-2:])}, got {H} x {W}.")
    (h, w), (Hy, Wy) = maps.shape[-2:], image.shape[-2:]
    if min(h, w) >= _TELLING and not 1 / _OTHER_SHAPE < (Hy / h) / (Wy / w) < _OTHER_SHAPE:
        raise ValueError(
            f"values of {h} x {w} do not have the shape of an image of {Hy} x {Wy}: turn, or crop, one of them."
        )
    if tuple(guide.shape[-2:]) == (H, W):
        return guide
    return F.interpolate(guide, size=(H, W), mode="bilinear", align_corners=False, antialias=True)


def _power_of_two(maps: Tensor, guide: Tensor) -> int:
    """The ratio of a Stack-JBU from the maps' size to the guide's, which may lack some of the last rows and columns."""
    (h, w), (H, W) = maps.shape[-2:], guide.shape[-2:]
    for ratio in (1 << n for n in range(1, 12)):
        if -(-H // ratio) == h and -(-W // ratio) == w:
            return ratio
    raise ValueError(
        f"without an upsampler of yours a Stack-JBU is fitted, and {h} x {w} to {H} x {W} is no power of two: give an "
        "upsampler for any ratio, such as resfu.ReSFUImage, or resize the values."
    )


def _fitted(
    maps: Tensor, guide: Tensor, upsampler: Upsampler | None, fit: int, report: Callable[[str], object] | None
) -> Upsampler:
    if upsampler is None:
        if not fit:
            raise ValueError("method='upsampler' needs an upsampler with weights, or fit=STEPS (100, for example).")
        with torch.random.fork_rng(devices=[]):  # the same fit each time, and the caller's random numbers stay
            torch.manual_seed(0)
            upsampler = StackJBU(maps.shape[1], guide.shape[1], scale_factor=_power_of_two(maps, guide)).eval()
        upsampler.to(maps.device)
    if not isinstance(upsampler, Upsampler):
        raise ValueError(f"upsampler must be one of resfu.UPSAMPLERS, got {type(upsampler).__name__}.")
    if not upsampler.guided:
        raise ValueError(f"{type(upsampler).__name__} is not guided, and would not look at the image: take another.")
    if not fit:
        return upsampler
    fitted, seconds = fit_upsampler(upsampler, maps, guide, fit)
    if report is not None:
        report(f"{type(fitted).__name__} fitted to this image in {seconds:.1f} s, {fit} steps")
    return fitted
