"""`PixelFeatures`: a frozen encoder's features at every pixel."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resfu.deploy.streaming import stream
from resfu.frozen.cache import FeatureCache
from resfu.frozen.encoder import IMAGENET_MEAN, IMAGENET_STD, resized
from resfu.frozen.find import Encoder, find_encoder
from resfu.frozen.images import images_of
from resfu.frozen.points import values_at_points
from resfu.frozen.weights import load_weights
from resfu.ops.checks import pair
from resfu.upsamplers import UPSAMPLERS, StackJBU, Upsampler, create_upsampler


class PixelFeatures(nn.Module):
    """Features of a frozen encoder, upsampled to the pixels of the image by an image-guided upsampler.

    The image is resized to the nearest size of whole patches for the encoder. The upsampler goes from there to any
    size, because it supports any real ratio. No gradients are computed. Modules given as encoder or upsampler are not
    copied: they are put into evaluation mode, and `requires_grad` of their parameters is set to False. If a network is
    still to be trained, pass a `copy.deepcopy` of it.

    Args:
        encoder: "efficientnet-lite0", "-lite1" or "-lite2" (weights from their packages); the name of a timm model, or
            "timm:NAME"; "torchvision:NAME"; "transformers:NAME" or a folder that transformers wrote; a module of one of
            these three packages; or any callable from normalised images [B, 3, H, W] to features [B, C, h, w] or tokens
            [B, N, C].
        upsampler: a key of `resfu.UPSAMPLERS` that supports any ratio, or a module; "stack-jbu" gives sizes of 2^steps
            times the features, by default with the steps from the encoder's stride. Methods with weights start at
            random: give `weights` of a fit (`resfu distill`), or published ones.
        weights: weights of the upsampler: a file of `resfu distill`, or of the method's authors.
        cache: folder in which to store the low-resolution features of images.
        stride: pixels per patch, or per pixel of the deepest map, of the encoder, if it cannot be found. By default it
            is the patch size of a timm or transformers model, else it is found from the features of an image of
            224 x 224.
        prefix: number of tokens before those of the patches; by default all extra tokens, at most 12.
        pretrained: load the weights of an encoder given by name; False: random weights.
        **options: constructor arguments of an upsampler given by name, which gets the encoder's dtype and device.

    Raises:
        ValueError: for an unknown encoder or upsampler, weights that do not fit, or a method of fixed ratios.

    >>> pf = resfu.PixelFeatures("efficientnet-lite0", "bilinear", pretrained=False)
    >>> pf(torch.rand(1, 3, 90, 120)).shape
    torch.Size([1, 112, 90, 120])
    """

    def __init__(
        self,
        encoder: Encoder,
        upsampler: str | Upsampler = "bilinear",
        weights: str | os.PathLike[str] | None = None,
        cache: str | Path | None = None,
        stride: int | None = None,
        prefix: int | None = None,
        pretrained: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        method = UPSAMPLERS.get(upsampler) if isinstance(upsampler, str) else None
        if method is not None and not _fits(method):
            raise _no_fit(method)
        self.encoder = find_encoder(encoder, stride, prefix, pretrained)
        if isinstance(upsampler, str):
            width = self.encoder.width() if "channels" not in options else options.pop("channels")
            if method is StackJBU and "steps" not in options and "scale_factor" not in options:
                options |= self._steps()
            upsampler = create_upsampler(upsampler, channels=width, **options)
            like = next((p for p in self.encoder.parameters() if p.is_floating_point()), None)
            if like is not None:
                upsampler.to(like.device, like.dtype)
        if not isinstance(upsampler, Upsampler):
            raise ValueError(f"upsampler must be a name or a resfu.Upsampler, got {type(upsampler).__name__}.")
        if not _fits(type(upsampler)):
            raise _no_fit(type(upsampler))
        if weights is not None:
            load_weights(upsampler, weights)
        self.upsampler = upsampler.eval().requires_grad_(False)
        self.cache = None if cache is None else FeatureCache(cache, self.encoder)

    @property
    def channels(self) -> int:
        """C, the width of the features."""
        return self.encoder.width()

    def train(self, mode: bool = True) -> "PixelFeatures":
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Any, size: tuple[int, int] | None = None) -> Tensor:
        """Compute the features of every pixel.

        Args:
            image: [B, 3, H, W] or [3, H, W] in 0..1 or uint8, an array [H, W, 3] of uint8, a PIL image, or a path.
            size: (H, W) of the result, at least that of the low-resolution features. Default: the image's size.

        Returns:
            [B, C, H, W] in the dtype of the encoder.
        """
        images = self._images(image)
        features = self._low(images)
        size = self._size(images, features, size)
        return self.upsampler(features, self.guide(images, features), size=size)

    @torch.no_grad()
    def low(self, image: Any) -> Tensor:
        """The encoder's own features, [B, C, h, w]."""
        return self._low(self._images(image))

    @torch.no_grad()
    def at(self, image: Any, points: Any) -> Tensor:
        """Compute the features at points, as `forward` followed by bilinear sampling, without the map of all pixels.

        Nearest, bilinear, ReSFU, NAF and AnyUp compute features only at the points. Maps that are computed from the
        image (ReSFU's scores, the queries of NAF and AnyUp) still have all pixels. Other methods compute the whole
        result.

        Args:
            image: as in `forward`.
            points: [n, 2] or [B, n, 2], (x, y) in pixels: (0, 0) is the centre of the first pixel. Points beyond the
                outermost centres are clamped.

        Returns:
            [B, n, C].

        Raises:
            ValueError: for points of another shape, or not finite.
        """
        images, points = self._images(image), _as_points(points)
        if points.dim() not in (2, 3) or points.shape[-1] != 2 or (points.dim() == 3 and len(points) != len(images)):
            raise ValueError(f"points must be [n, 2] or [B, n, 2] with B = {len(images)}, got {list(points.shape)}.")
        if not torch.isfinite(points).all():
            raise ValueError("points must be finite numbers, got NaN or infinity.")
        features = self._low(images)
        if len(images) == 0:
            return features.new_empty((0, points.shape[-2], features.shape[1]))
        guide, size = self.guide(images, features), self._size(images, features)
        each = points if points.dim() == 3 else points.expand(len(images), -1, -1)
        parts = zip(features.split(1), guide.split(1), each, strict=True)
        return torch.stack([values_at_points(self.upsampler, x, y, size, p) for x, y, p in parts])

    @torch.no_grad()
    def stream(
        self, image: Any, size: tuple[int, int] | None = None, *, budget: str | int | None = "256MB", to: Any = None
    ) -> Any:
        """Compute the features of every pixel in bands of rows, which together equal `forward` up to rounding.

        Args:
            image: as in `forward`.
            size: as in `forward`.
            budget: limit for the memory of the upsampling beyond its inputs and the output, in bytes or as text such as
                "256MB"; None for no limit. It does not include the memory of the encoder, which runs before.
            to: what is done with the bands. None: they are returned as an iterator. A function or module: it is called
                with each band, and its results are concatenated along the rows. "labels": the index of the largest
                channel at each pixel. A tensor on any device, or an array such as `numpy.memmap`, [B, C, H, W]: it is
                filled.

        Returns:
            Without `to`, an iterator of bands [B, C, rows, W] from top to bottom. Otherwise the function's results
            [B, ..., H, W], the labels [B, H, W], or `to` itself.

        Raises:
            ValueError: for an upsampler that cannot be computed in bands, a budget that is too small for one band (the
                message says what is needed), or a `to` of another shape.

        >>> pf = resfu.PixelFeatures("efficientnet-lite0", "bilinear", pretrained=False)
        >>> sum(band.shape[2] for band in pf.stream(torch.rand(1, 3, 90, 120)))
        90
        """
        images = self._images(image)
        features = self._low(images)
        guide, size = self.guide(images, features), self._size(images, features, size)
        return stream(self.upsampler, features, guide, size, budget=budget, to=to)

    def _steps(self) -> dict[str, int]:
        """The steps of a stack of doublings from the encoder's stride; nothing where that is no power of two."""
        stride = self.encoder.stride or 1
        return {"steps": stride.bit_length() - 1} if stride > 1 and stride & (stride - 1) == 0 else {}

    def _size(self, images: Tensor, features: Tensor, size: tuple[int, int] | None = None) -> tuple[int, int]:
        size = (images.shape[-2], images.shape[-1]) if size is None else pair("size", size)
        if isinstance(self.upsampler, StackJBU):  # what it crops would not lie where it lies in the image
            h, w = (self.upsampler.ratio * n for n in features.shape[-2:])
            if tuple(size) != (h, w):
                raise ValueError(
                    f"stack-jbu makes {h} x {w} of these features in {len(self.upsampler.stages)} steps, not "
                    f"{size[0]} x {size[1]}: give an image of {h} x {w}, or other steps."
                )
        return size

    def _images(self, image: Any) -> Tensor:
        parameter = next(self.parameters(), None)
        images = images_of(image)
        return images if parameter is None else images.to(parameter.device)

    def _low(self, images: Tensor) -> Tensor:
        size = self.encoder.size_for((images.shape[-2], images.shape[-1]))
        if self.cache is None:
            return self.encoder(resized(images, size))
        dtype = next((p.dtype for p in self.encoder.parameters() if p.is_floating_point()), images.dtype)
        if torch.is_autocast_enabled(images.device.type):
            dtype = torch.get_autocast_dtype(images.device.type)
        found = []
        for one in images.split(1):
            features = self.cache.get(one, size, dtype)
            if features is None:
                features = self.encoder(resized(one, size))
                self.cache.put(one, size, features, dtype)
            found.append(features)
        return torch.cat(found) if found else self.encoder(resized(images, size))

    def guide(self, images: Tensor, features: Tensor) -> Tensor:
        """Normalise images in 0..1 for the upsampler, in the dtype of the features."""
        mean, std = (torch.tensor(t, device=images.device)[:, None, None] for t in (IMAGENET_MEAN, IMAGENET_STD))
        return ((images - mean) / std).to(features.dtype)


def _as_points(points: Any) -> Tensor:
    try:
        return torch.as_tensor(points)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"points must be numbers [n, 2] or [B, n, 2], got {type(points).__name__}: {error}") from error


def _fits(method: type[Upsampler]) -> bool:
    return method.image_guided or (method.ratios == "any" and not method.guided)


def _no_fit(method: type[Upsampler]) -> ValueError:
    return ValueError(
        f"{method.__name__} is not steered by an image alone, or not free in its ratio: choose one of nearest, "
        "bilinear, bicubic, resfu-image, naf, anyup, stack-jbu."
    )
