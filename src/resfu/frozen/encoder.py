"""A frozen network as a function from images to one feature map."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FrozenEncoder(nn.Module):
    """A network in evaluation mode, without gradients, with its normalisation, stride and input size.

    Args:
        network: called with normalised images [B, 3, H, W].
        name: of the network and its variant, for the cache; "" if unknown.
        mean: of its images, per channel, for values in 0..1.
        std: their standard deviation.
        stride: pixels per patch or per cell of the deepest map; None: found from the features of a first image.
        prefix: number of tokens before those of the patches; None: all extra tokens.
        size: (H, W) of its images, for a network with a fixed size.
        call: computes the features; default: `network` itself.

    Raises:
        ValueError: when called, for a network that returns no feature map.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        name: str = "",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        stride: int | None = None,
        prefix: int | None = None,
        size: tuple[int, int] | None = None,
        call: Callable[[Tensor], Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network  # a module is registered as a submodule here
        self.name, self.mean, self.std = name, tuple(mean), tuple(std)
        self.stride, self.prefix, self.size = stride, prefix, size
        self._call = network if call is None else call
        if isinstance(network, nn.Module):
            network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features.

        Args:
            images: [B, 3, H, W], in 0..1; H and W are multiples of the stride.

        Returns:
            [B, C, H / stride, W / stride], in the dtype of the network.
        """
        with torch.no_grad():
            return self._as_map(self._call(self.normalized(images)), (images.shape[-2], images.shape[-1]))

    def normalized(self, images: Tensor) -> Tensor:
        """Normalise images in 0..1 for the network, in its dtype."""
        mean, std = (torch.tensor(t, device=images.device)[:, None, None] for t in (self.mean, self.std))
        images = (images.float() - mean) / std
        weight = next((p for p in self.parameters() if p.is_floating_point()), None)
        return images if weight is None else images.to(weight.dtype)

    def size_for(self, size: tuple[int, int]) -> tuple[int, int]:
        """The nearest size that the network accepts: multiples of the stride, at least two."""
        if self.size is not None:
            return self.size
        if self.stride is None:
            self._find_stride(size)
        assert self.stride is not None
        H, W = (max(2, round(n / self.stride)) * self.stride for n in size)
        return H, W

    def _find_stride(self, size: tuple[int, int]) -> None:
        parameter = next(self.parameters(), None)
        side = max(64, min(224, *size)) // 32 * 32
        image = torch.zeros(1, 3, side, side, device=None if parameter is None else parameter.device)
        self(image)

    def _as_map(self, output: Any, size: tuple[int, int]) -> Tensor:
        x = _tensor_of(output)
        if x.dim() == 3:
            return self._from_tokens(x, size)
        if x.dim() != 4:
            raise ValueError(
                f"the encoder must give a map [B, C, h, w] or tokens [B, N, C], got the shape {list(x.shape)}: pass a "
                "callable that returns its features."
            )
        if _difference(x.shape[1:3], size) < _difference(x.shape[2:4], size):  # channels-last
            x = x.permute(0, 3, 1, 2)
        if self.stride is None:
            self.stride = 2 ** round(math.log2(size[0] / x.shape[2])) if size[0] % x.shape[2] else size[0] // x.shape[2]
        return x.contiguous()

    def _from_tokens(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if self.stride is None:
            self.stride = _patch_of(x.shape[1], size)
        h, w = size[0] // self.stride, size[1] // self.stride
        prefix = x.shape[1] - h * w
        if prefix < 0 or self.prefix not in (None, prefix):
            raise ValueError(
                f"an image of {size[0]} x {size[1]} in patches of {self.stride} has {h * w} tokens and "
                f"{self.prefix or 'no'} before them, but the encoder gave {x.shape[1]}: pass its stride and prefix."
            )
        return x[:, prefix:].transpose(1, 2).unflatten(2, (h, w)).contiguous()


def _tensor_of(output: Any) -> Tensor:
    """The deepest features in a network's output."""
    if isinstance(output, Tensor):
        return output
    for key in ("last_hidden_state", "x_norm_patchtokens", "out", "features"):
        found = output.get(key) if isinstance(output, dict) else getattr(output, key, None)
        if isinstance(found, Tensor):
            return found
    if isinstance(output, list | tuple) and output and isinstance(output[-1], Tensor):
        return output[-1]
    raise ValueError(f"the encoder must give a tensor of features, or a list of them, got {type(output).__name__}.")


def _difference(shape: torch.Size, size: tuple[int, int]) -> float:
    """The difference in aspect ratio between two dimensions and the image; it is small for a map's height and width."""
    return abs(math.log(shape[0] / size[0]) - math.log(shape[1] / size[1]))


def _patch_of(tokens: int, size: tuple[int, int]) -> int:
    """The largest common patch size that leaves at most a few extra tokens, for a class and registers."""
    for patch in (32, 16, 14, 8):
        rest = tokens - (size[0] // patch) * (size[1] // patch)
        if size[0] % patch == size[1] % patch == 0 and 0 <= rest <= 16:
            return patch
    raise ValueError(
        f"{tokens} tokens for an image of {size[0]} x {size[1]} fit no patch of 8, 14, 16 or 32: pass the stride."
    )


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images at another size, antialiased."""
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
