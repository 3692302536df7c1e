"""A frozen network as a function from images to one feature map."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST_EXTRA = 12  # limit for the number of tokens before the patches; no published encoder has so many
_FIRST_SIZE = (224, 224)  # divisible by patches of 8, 14, 16, 28, 32 and 56, with clearly different numbers of tokens


class FrozenEncoder(nn.Module):
    """A network in evaluation mode, without gradients, with its normalisation, stride and input size.

    A module is not copied: it is put into evaluation mode, and `requires_grad` of its parameters is set to False.

    Args:
        network: called with normalised images [B, 3, H, W].
        name: name of the network and its variant, for the cache; "" if unknown.
        mean: mean of the network's images for each channel, for values in 0..1.
        std: standard deviation of the network's images for each channel.
        stride: pixels per patch, or per pixel of the deepest map. None: it is found from the features of a grey image
            of `size`, or of 224 x 224.
        prefix: number of tokens before those of the patches; None: all extra tokens, at most 12.
        size: (H, W) of the images, for a network that only takes one size.
        call: function that computes the features; default: `network` itself.

    Raises:
        ValueError: when called, for a network that fails or returns no feature map, or tokens from which the patches
            cannot be determined.
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
        self.call = network if call is None else call
        self._width: int | None = None
        if isinstance(network, nn.Module):
            network.eval()
            for parameter in network.parameters():  # TorchScript's modules have no requires_grad_
                parameter.requires_grad_(False)

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
        self._find_stride()
        return self._as_map(self._output(images), (images.shape[-2], images.shape[-1]))

    def width(self) -> int:
        """C, the number of channels, found from the features of a grey image."""
        width = self._width
        if width is None:
            self._width = width = int(self(self._grey(self.size_for(_FIRST_SIZE))).shape[1])
        return width

    def _output(self, images: Tensor) -> Tensor:
        try:
            with torch.no_grad():
                return _tensor_of(self.call(self.normalized(images)))
        except (RuntimeError, AssertionError, TypeError, IndexError, AttributeError) as error:
            if "memory" in str(error).lower():  # out of memory is not the encoder's fault
                raise
            H, W = images.shape[-2:]
            raise ValueError(
                f"the encoder failed on images of {H} x {W}. One that takes images of a single size is given as "
                "resfu.frozen.encoder.FrozenEncoder(network, size=(H, W)), any other as a callable from images "
                f"[B, 3, H, W] to its features. It said: {' '.join(str(error).split())}"
            ) from error

    def _grey(self, size: tuple[int, int]) -> Tensor:
        parameter = next(self.parameters(), None)
        return torch.zeros(1, 3, *size, device=None if parameter is None else parameter.device)

    def normalized(self, images: Tensor) -> Tensor:
        """Normalise images in 0..1 for the network, in its dtype."""
        mean, std = (torch.tensor(t, device=images.device)[:, None, None] for t in (self.mean, self.std))
        images = (images.float() - mean) / std
        weight = next((p for p in self.parameters() if p.is_floating_point()), None)
        return images if weight is None else images.to(weight.dtype)

    def size_for(self, size: tuple[int, int]) -> tuple[int, int]:
        """The nearest size that the network accepts: multiples of the stride, at least twice the stride."""
        if self.size is not None:
            return self.size
        self._find_stride()
        assert self.stride is not None
        H, W = (max(2, round(n / self.stride)) * self.stride for n in size)
        return H, W

    def _find_stride(self) -> None:
        """Find the stride, if it is unknown, from the features of a grey image."""
        if self.stride is not None:
            return
        H, W = self.size or _FIRST_SIZE
        x = self._output(self._grey((H, W)))
        if x.dim() == 3:
            self.stride = patch_of(x.shape[1], (H, W), self.prefix)
        elif x.dim() == 4:
            h = _channels_first(x, (H, W)).shape[2]
            stride = H // h if H % h == 0 else 2 ** round(math.log2(H / h))
            if abs(H / stride - h) > 1:  # a row may be lost at the border
                raise ValueError(f"{h} rows of features of an image of {H} x {W} show no stride: pass it.")
            self.stride = stride
        else:
            raise _no_map(x)

    def _as_map(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if x.dim() == 3:
            return self._from_tokens(x, size)
        if x.dim() != 4:
            raise _no_map(x)
        return _channels_first(x, size).contiguous()

    def _from_tokens(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        assert self.stride is not None
        h, w = size[0] // self.stride, size[1] // self.stride
        extra = x.shape[1] - h * w
        if self.prefix is None and 0 <= extra <= MOST_EXTRA:
            self.prefix = extra
        if extra != self.prefix:
            raise ValueError(
                f"an image of {size[0]} x {size[1]} in patches of {self.stride} has {h * w} tokens and "
                f"{f'at most {MOST_EXTRA}' if self.prefix is None else self.prefix} before them, but the encoder gave "
                f"{x.shape[1]}: pass its stride and prefix."
            )
        return x[:, extra:].transpose(1, 2).unflatten(2, (h, w)).contiguous()


def _tensor_of(output: Any) -> Tensor:
    """The deepest features in a network's output."""
    if isinstance(output, Tensor):
        return output
    maps = list(output.values()) if isinstance(output, dict) else output
    for key in ("last_hidden_state", "x_norm_patchtokens", "out", "features", "feature_maps"):
        found = output.get(key) if isinstance(output, dict) else getattr(output, key, None)
        if isinstance(found, Tensor):
            return found
        maps = maps if found is None else found
    if isinstance(maps, list | tuple) and maps and isinstance(maps[-1], Tensor):
        return maps[-1]
    raise ValueError(f"the encoder must give a tensor of features, or a list of them, got {type(output).__name__}.")


def _no_map(x: Tensor) -> ValueError:
    return ValueError(
        f"the encoder must give a map [B, C, h, w] or tokens [B, N, C], got the shape {list(x.shape)}: pass a callable "
        "that returns its features."
    )


def _channels_first(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Convert a map to [B, C, h, w]; its channels may be the last axis, which its aspect ratio shows."""

    def difference(shape: torch.Size) -> float:
        return abs(math.log(shape[0] / size[0]) - math.log(shape[1] / size[1]))

    return x.permute(0, 3, 1, 2) if difference(x.shape[1:3]) < difference(x.shape[2:4]) else x


def patch_of(tokens: int, size: tuple[int, int], prefix: int | None = None) -> int:
    """The size of square patches, from the number of tokens.

    Args:
        tokens: number of tokens, including those before the patches.
        size: (H, W) of the image.
        prefix: number of tokens before those of the patches; None: unknown, at most 12 (a class and registers).

    Raises:
        ValueError: if no size fits, or several do.
    """
    least, most = (0, MOST_EXTRA) if prefix is None else (prefix, prefix)
    whole = [patch for patch in range(2, min(size) + 1) if size[0] % patch == size[1] % patch == 0]
    fits = [patch for patch in whole if least <= tokens - (size[0] // patch) * (size[1] // patch) <= most]
    if len(fits) == 1:
        return fits[0]
    found = f"patches of {' or '.join(map(str, fits))}" if fits else "no whole patches"
    before = f"at most {most}" if prefix is None else str(prefix)
    raise ValueError(
        f"{tokens} tokens of an image of {size[0]} x {size[1]}, {before} of them before the patches, fit {found}: pass "
        "the stride and prefix of the encoder."
    )


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images bilinearly with antialiasing."""
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
