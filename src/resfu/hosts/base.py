"""The base class of the semantic segmentation networks: an encoder and a head with upsampler slots."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.canvas import at_least, cropped_to, extended_to
from resfu.ops.checks import check_int
from resfu.upsamplers.base import check_dtype, check_map
from resfu.upsamplers.options import check_choice

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Continuation = Literal["border", "zeros"]


class SegmentationHead(nn.Module, ABC):
    """The part of a network after the encoder: projections, the upsampler slots and the classifier."""

    @abstractmethod
    def upsampled_features(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """For every slot, its input features [B, C, h, w] and its output features [B, C, H', W']."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Encoder maps and the image -> logits [B, num_classes, H', W'] at the resolution of the slots' outputs."""


class SegmentationHost(nn.Module):
    """An encoder and a head, which take images of any size and give logits of the same size.

    Parameter names start with `encoder.` or `head.`.

    Args:
        encoder: [B, 3, H, W] -> sequence of feature maps.
        head: (feature maps, images) -> logits at 1/`stride`.
        num_classes: number of logits for each pixel.
        stride: stride of the upsampled features, in image pixels.
        mean: mean that the encoder expects to be subtracted from images in 0..1, for each channel.
        std: standard deviation by which the encoder expects the images to be divided, for each channel.
        multiple: images are padded at the bottom and right to a multiple of this, and the logits are cropped.
        minimum: smaller images are padded to this size in the same way.
        continuation: how images are padded: by repeating the "border", or by "zeros", which are pixels of the colour
            `mean`.

    Raises:
        ValueError: for another way of padding.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: SegmentationHead,
        num_classes: int,
        stride: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        multiple: int = 1,
        minimum: int = 1,
        continuation: Continuation = "border",
    ) -> None:
        super().__init__()
        check_choice("continuation", continuation, get_args(Continuation))
        self.encoder = encoder
        self.head = head
        self.num_classes = num_classes
        self.stride = stride
        self.mean = mean
        self.std = std
        self.multiple = multiple
        self.minimum = minimum
        self.continuation = continuation

    def forward(self, images: Tensor) -> Tensor:
        """Classify every pixel.

        Args:
            images: [B, 3, H, W], floating point, normalised with `mean` and `std`. Any size.

        Returns:
            Logits [B, num_classes, H, W].

        Raises:
            ValueError: for anything but a floating point [B, 3, H, W].
        """
        self._check(images)
        H, W = images.shape[-2:]
        if images.shape[0] == 0:
            return images.new_empty((0, self.num_classes, H, W))
        return self.enlarge(self.coarse_logits(images), (H, W))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Compute the logits at the resolution of the head, which are far fewer than those of all pixels.

        Args:
            images: as for `forward`, at least one.

        Returns:
            Logits [B, num_classes, H', W'] for `enlarge`. They cover the image after padding to a size that the network
            accepts.

        Raises:
            ValueError: as `forward`.
        """
        self._check(images)
        images = self._padded(images)
        return self.head(self.encoder(images), images)

    def enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample coarse logits to the size of their images; every class is upsampled by itself.

        Args:
            logits: [B, K, H', W'] with any number of classes K, see `coarse_logits`.
            size: (H, W) of the images.

        Returns:
            Logits [B, K, H, W].
        """
        logits = F.interpolate(logits, size=self.accepted_size(size), mode="bilinear", align_corners=False)
        return cropped_to(logits, size)

    def losses(
        self, images: Tensor, label: Tensor, cross_entropy: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Compute the losses, whose sum training minimises.

        Args:
            images: as for `forward`.
            label: int64 [B, H, W], 255 = ignored.
            cross_entropy: function of (logits [B, num_classes, H', W'], label) that returns a scalar. Networks with a
                loss of their own do not use it.

        Returns:
            Scalars by name; the loss of the network's output is "main".

        Raises:
            ValueError: as `forward`.
        """
        return {"main": cross_entropy(self(images), label)}

    def upsampled_features(self, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the inputs and outputs of the upsamplers.

        Args:
            images: as for `forward`, at least one.

        Returns:
            For every slot, by name: low-resolution features [B, C, h, w] and upsampled features [B, C, H', W']. Both
            cover the image after padding to a size that the network accepts (`multiple`, `minimum`).

        Raises:
            ValueError: as `forward`, and for an empty batch.
        """
        self._check(images)
        if images.shape[0] == 0:
            raise ValueError("upsampled_features needs at least one image, got an empty batch.")
        images = self._padded(images)
        return self.head.upsampled_features(self.encoder(images), images)

    def _check(self, images: Tensor) -> None:
        if isinstance(images, Tensor) and not images.is_floating_point():
            raise ValueError(
                f"images must be floating point and normalised, got {images.dtype}: "
                "divide by 255, subtract the host's mean and divide by its std."
            )
        check_map("images", images, "[B, 3, H, W]", 3)
        check_dtype("images", images, self)

    def _padded(self, images: Tensor) -> Tensor:
        H, W = images.shape[-2:]
        return extended_to(images, self.accepted_size((H, W)), zeros=self.continuation == "zeros")

    def accepted_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size to which an image is padded."""
        # Other runtimes round quotients towards zero, so the numerator must not be negative.
        height, width = ((n + self.multiple - 1) // self.multiple * self.multiple for n in size)
        if self.minimum <= self.multiple:
            return height, width
        return at_least(height, self.minimum), at_least(width, self.minimum)


def check_num_classes(num_classes: int) -> None:
    """Refuse anything but an int from 1 as number of classes.

    Raises:
        ValueError: for anything else; the message shows the value.
    """
    check_int("num_classes", num_classes)
