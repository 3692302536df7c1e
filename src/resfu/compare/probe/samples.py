"""Pixels drawn from every image, so that an image need not be upsampled again at every step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from resfu.compare.probe.photos import Seen, upsampled
from resfu.frozen.pixel_features import PixelFeatures

_IGNORED = 255


class Samples:
    """Features and labels of labelled pixels, drawn at random; each seed has different pixels.

    Which pixels are drawn depends only on the image's position in `trained` and its labels, so that all upsamplers are
    measured on the same pixels.

    Args:
        pf: makes the features.
        trained: images to draw from.
        pixels: pixels per image and seed; an image with too few labelled pixels gives each seed an equal share of them.
        seeds: seeds that `batch` can be asked for.
    """

    def __init__(self, pf: PixelFeatures, trained: Sequence[Seen], pixels: int, seeds: Sequence[int]) -> None:
        self._pixels, self._places = pixels, {seed: n for n, seed in enumerate(seeds)}
        self._kept = [self._of(pf, seen, number) for number, seen in enumerate(trained)]

    def batch(self, seed: int, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Features [1, C, 1, N] and labels [1, 1, N] of the images at these indices of `trained`."""
        parts = [self._share(*self._kept[place], self._places[seed]) for place in places]
        features, labels = zip(*parts, strict=True)
        return torch.cat(features, 1)[None, :, None], torch.cat(labels)[None, None]

    def _share(self, features: Tensor, label: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """The pixels of one image for one seed; of fewer pixels than seeds, all of them."""
        count = min(self._pixels, len(label) // len(self._places))
        part = slice(number * count, (number + 1) * count) if count else slice(None)
        return features[:, part], label[part]

    def _of(self, pf: PixelFeatures, seen: Seen, number: int) -> tuple[Tensor, Tensor]:
        labelled = (seen.label.flatten() != _IGNORED).nonzero().flatten()
        generator = torch.Generator().manual_seed(number)
        drawn = labelled[torch.randperm(len(labelled), generator=generator)[: self._pixels * len(self._places)]]
        return upsampled(pf, seen)[0].flatten(1)[:, drawn], seen.label.flatten()[drawn]
