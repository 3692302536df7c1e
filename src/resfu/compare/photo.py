"""The features of any photo before and after upsampling."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resfu.evaluation.cost import count_parameters
from resfu.hosts import create_host
from resfu.tasks.loading import load_module
from resfu.tasks.pictures import FeaturePair, shared_colours
from resfu.upsamplers import Upsampler
from resfu.visualize import Panel, Picture, draw_kernels, draw_sheet, figures, find_edges

HOST = "efficientnet-lite0"


@dataclass(frozen=True)
class Source:
    """A network to look through, and in words where its weights come from."""

    host: Any
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
        return Source(load_module(weights[upsampler]).host, f"trained, {weights[upsampler]}", trained=True)
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
        A sheet: the photo, then for each upsampler both maps, and for ReSFU some of its kernels on the photo.
    """
    photo = _shrunk(photo, longest_side)
    rgb = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    images = [_normalised(rgb, source.host) for source in sources.values()]
    # One pass through each network gives its features and its kernels.
    passes = [figures.slot_calls(source.host, image) for source, image in zip(sources.values(), images, strict=True)]
    pairs = [[FeaturePair.of(figures.choose_call(calls))] for calls in passes]
    rows: list[list[Panel | None]] = []
    bases = shared_colours(pairs)
    for (name, source), calls, (pair,), basis in zip(sources.items(), passes, pairs, bases, strict=True):
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
        kernels = _kernels(photo, calls)
        if kernels is not None:
            rows[-1].append(Panel(kernels, f"{name} ({state}), kernels of some pixels"))
    return draw_sheet(rows, title=title, panel_height=320)


def _normalised(rgb: Tensor, host: Any) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (host.mean, host.std))
    return (rgb - mean) / std


def _kernels(photo: Picture, calls: Mapping[str, figures.SlotCall]) -> Picture | None:
    """Some kernels of the ReSFU whose features are shown; None in a network without one."""
    found = figures.choose_call(calls).resfu
    if not found:
        return None
    call = found[-1]  # of a chain the step with the finest output
    pixels = [call.frame.to_map(pixel, call.size) for pixel in find_edges(photo, 2, 3)]
    # The kernels cover the image with its continuation.
    height, width = photo.shape[:2]
    more = [round(covered) - own for covered, own in zip(call.frame.covered, (height, width), strict=True)]
    whole = np.pad(photo, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")
    return draw_kernels(whole, call.explain()["kernel"], call.ratio, pixels)[:height, :width]


def _shrunk(photo: Picture, longest_side: int) -> Picture:
    height, width = photo.shape[:2]
    if max(height, width) <= longest_side:
        return np.ascontiguousarray(photo)
    ratio = longest_side / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.array(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
