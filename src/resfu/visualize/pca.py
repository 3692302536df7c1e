"""Feature maps as colours: the first three principal components, on a basis that several maps can share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from resfu.visualize.picture import Picture


@dataclass(frozen=True)
class PCABasis:
    """Three directions in feature space and the range that each colour channel shows.

    Attributes:
        mean: [C], float64.
        components: [C, 3], float64: columns by falling variance, orthonormal when they come from `fit_pca` (zero
            columns where C < 3).
        low: [3], the coordinates that are shown as 0.
        high: [3], the coordinates that are shown as 255.
    """

    mean: Tensor
    components: Tensor
    low: Tensor
    high: Tensor

    def project(self, features: Tensor) -> Tensor:
        """Coordinates of every pixel: [C, H, W] -> [H * W, 3], in fp64 for fp64 features, else in fp32."""
        x = _checked(features).flatten(1)
        directions = self.components.T.to(x.dtype)  # no copy of a large map: project first, centre after
        return (directions @ x).T - (directions @ self.mean.to(x.dtype))

    def colour(self, features: Tensor) -> Picture:
        """Convert a feature map to a colour picture in this basis.

        Args:
            features: [C, H, W], floating point, any device.

        Returns:
            uint8 [H, W, 3].
        """
        span = self.high - self.low
        scaled = torch.where(span > 0, (self.project(features) - self.low) / span.clamp_min(1e-30), 0.5)
        rgb = scaled.clamp(0, 1).mul(255).round().to(torch.uint8)
        return rgb.reshape(*features.shape[-2:], 3).numpy()


def fit_pca(maps: Sequence[Tensor], quantile: float = 0.01) -> PCABasis:
    """Principal components of all pixels of some maps.

    Signs are fixed (the largest entry of each component is positive), so equal features give equal colours.

    Args:
        maps: one or more [C, H, W] of the same width; they may differ in size.
        quantile: share of the pixels that may saturate at either end of each colour channel.

    Returns:
        The basis.

    Raises:
        ValueError: for no maps, maps of differing widths, or values that are not finite.
    """
    if not maps:
        raise ValueError("fit_pca needs at least one feature map [C, H, W], got none.")
    widths = {m.shape[0] for m in maps}
    if len(widths) > 1:
        raise ValueError(f"the maps of one basis must have the same number of channels, got {sorted(widths)}.")
    x = torch.cat([_pixels(m) for m in maps])
    if not x.isfinite().all():
        raise ValueError("the features hold values that are not finite (NaN or infinity): nothing to show.")
    mean = x.mean(0)
    centred = x - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # by rising variance
    components = vectors.flip(1)[:, :3]
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    components = components * torch.where(largest < 0, -1.0, 1.0)
    components = torch.nn.functional.pad(components, (0, 3 - components.shape[1]))
    return _with_range(PCABasis(mean, components, mean.new_zeros(3), mean.new_zeros(3)), x, quantile)


def align(
    basis: PCABasis,
    maps: Sequence[Tensor],
    reference: PCABasis,
    reference_maps: Sequence[Tensor],
    quantile: float = 0.01,
) -> PCABasis:
    """Turn a basis so that its colours resemble another network's on the same images.

    Two networks hold the same content in different coordinates. To make their pictures comparable, the three
    (standardised) axes are rotated so that one network's coordinates come nearest to the other's (the orthogonal
    Procrustes solution). A rotation adds nothing to the content.

    Args:
        basis: of the network whose colours are to change.
        maps: its feature maps [C, h, w].
        reference: basis of the network to follow.
        reference_maps: that network's maps of the same images at the same sizes, in the same order.
        quantile: as in `fit_pca`.

    Returns:
        The turned basis, with its own colour ranges.

    Raises:
        ValueError: for maps whose sizes do not match.
    """
    x = torch.cat([basis.project(m.double()) for m in maps]).cpu()
    y = torch.cat([reference.project(m.double()) for m in reference_maps]).cpu()
    if x.shape != y.shape:
        raise ValueError(f"align needs maps of the same sizes, got {x.shape[0]} and {y.shape[0]} pixels.")
    scale = [v.std(0, correction=0).clamp_min(1e-12) for v in (x, y)]
    u, _, v = torch.linalg.svd((x / scale[0]).T @ (y / scale[1]))
    turned = replace(basis, components=basis.components / scale[0] @ (u @ v))
    return _with_range(turned, torch.cat([_pixels(m) for m in maps]), quantile)


def _with_range(basis: PCABasis, pixels: Tensor, quantile: float) -> PCABasis:
    scores = ((pixels - basis.mean) @ basis.components).numpy()
    low, high = (torch.from_numpy(np.quantile(scores, q, axis=0)) for q in (quantile, 1 - quantile))
    return replace(basis, low=low, high=high)


def _pixels(features: Tensor) -> Tensor:
    return _checked(features).double().flatten(1).T


def _checked(features: Tensor) -> Tensor:
    if features.dim() != 3:
        raise ValueError(f"a feature map must be [C, H, W], got the shape {list(features.shape)}.")
    features = features.detach().cpu()
    return features if features.dtype == torch.float64 else features.float()
