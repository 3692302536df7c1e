"""The features of any photo before and after upsampling."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resfu.compare.pictures import feature_pair, shared_colours
from resfu.compare.weights import load_host
from resfu.evaluation.cost import count_parameters
from resfu.hosts import create_host
from resfu.hosts.base import SegmentationHost
from resfu.upsamplers import Upsampler
from resfu.visualize import Panel, Picture, draw_sheet

HOST = "efficientnet-lite0"


@dataclass(frozen=True)
class Source:
    """A network to look through, and in words where its weights come from."""

    host: SegmentationHost
    origin: str
    trained: bool

    @property
    def learns(self) -> bool:
        """Whether an upsampler in the network has parameters."""
        upsamplers = (module for module in self.host.modules() if isinstance(module, Upsampler))
        return any(count_parameters(module) for module in upsamplers)


def find_source(upsampler: str, weights: Mapping[str, Path]) -> Source:
    """A network with an upsampler: trained where there are weights, else as it is before training.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        weights: checkpoints by upsampler, see `find_weights`.

    Returns:
        The network in evaluation mode. Without weights of its own: the ImageNet encoder, and a head of random numbers,
        the same ones for every upsampler.

    Raises:
        ValueError: for an unknown upsampler, or weights that cannot be had.
    """
    if upsampler in weights:
        return Source(load_host(weights[upsampler]), f"trained, {weights[upsampler]}", trained=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        host = create_host(HOST, upsampler, num_classes=2, pretrained=True)
    return Source(host.eval(), f"ImageNet encoder, untrained head and {upsampler}", trained=False)


def upsample_photo(photo: Picture, sources: Mapping[str, Source], title: str, longest_side: int) -> Image.Image:
    """Draw the features of a photo before and after each upsampler.

    Args:
        photo: uint8 [H, W, 3].
        sources: networks by upsampler.
        title: of the sheet.
        longest_side: a larger photo is shrunk to this first.

    Returns:
        A sheet: the photo, then for each upsampler both maps.
    """
    photo = _shrunk(photo, longest_side)
    rgb = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    pairs = []
    for source in sources.values():
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (source.host.mean, source.host.std))
        pairs.append([feature_pair(source.host, (rgb - mean) / std)])
    rows: list[list[Panel | None]] = []
    for (name, source), (pair,), basis in zip(sources.items(), pairs, shared_colours(pairs), strict=True):
        before, after = pair.colour(basis)
        h, w = pair.before.shape[-2:]
        H, W = pair.after.shape[-2:]
        state = "trained" if source.trained else "untrained"
        rows.append(
            [
                Panel(photo, "photo") if not rows else None,
                Panel(before, f"features before, {h} x {w}"),
                Panel(after, f"{name} ({state}), {H} x {W}"),
            ]
        )
    return draw_sheet(rows, title=title, panel_height=320)


def _shrunk(photo: Picture, longest_side: int) -> Picture:
    height, width = photo.shape[:2]
    if max(height, width) <= longest_side:
        return np.ascontiguousarray(photo)
    ratio = longest_side / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.array(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
