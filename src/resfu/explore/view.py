"""The page's content for one photo, network and upsampler."""

import base64
import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from resfu.evaluation.cost import count_parameters, peak_memory
from resfu.hosts.slot import Slot
from resfu.visualize import Picture, figures
from resfu.visualize.recorder import recorded


@dataclass(frozen=True)
class View:
    """A photo's features in a network, before and after its upsampler.

    Attributes:
        photo: uint8 [H, W, 3], at the network's input size.
        call: of the slot with the highest ratio.
        milliseconds: of the slot alone, the second of two passes.
        peak_bytes: memory of the slot beyond its input.
        parameters: of the upsampler.
    """

    photo: Picture
    call: figures.SlotCall
    milliseconds: float
    peak_bytes: int
    parameters: int

    def answer(self) -> dict[str, Any]:
        """Pictures and numbers for the page, in a form for JSON."""
        (basis,) = figures.shared_colours([[self.call]])
        pictures = figures.feature_pictures(self.call, basis)
        (h, w), (H, W) = self.call.features.shape[-2:], self.call.size
        answer: dict[str, Any] = {
            "photo": _png(self.photo),
            "pictures": {name: _png(picture) for name, picture in pictures.items()},
            "words": f"{self.call.features.shape[1]} channels, {h} x {w} to {H} x {W}",
            "milliseconds": round(self.milliseconds, 2),
            "megabytes": round(self.peak_bytes / 1e6, 2),
            "parameters": self.parameters,
            "kernel": None,
        }
        if self.call.resfu:
            answer["kernel"] = self._kernels()
        return answer

    def similarity(self, row: float, column: float) -> dict[str, str]:
        """The similarity of all pixels' features to those of one pixel, before and after upsampling.

        Args:
            row: of the pixel, 0 at the photo's top and 1 at its bottom.
            column: of the pixel, 0 at the left and 1 at the right.

        Returns:
            Pictures of the cosine, black for -1 and white for 1, by "before" and "after".

        Raises:
            ValueError: for a pixel outside the photo.
        """
        if not (0 <= row <= 1 and 0 <= column <= 1):
            raise ValueError(f"row and column must lie in 0..1, got {row} and {column}.")
        found = {}
        for name, map_ in (("before", self.call.features[0]), ("after", self.call.output[0])):
            rows, columns = self.call.frame.kept((map_.shape[-2], map_.shape[-1]))
            y, x = min(int(row * rows), rows - 1), min(int(column * columns), columns - 1)
            cosine = F.cosine_similarity(map_[:, :rows, :columns], map_[:, y, x, None, None], dim=0)
            found[name] = _png(_grey((cosine + 1) / 2))
        return found

    def _kernels(self) -> dict[str, Any]:
        """ReSFU's kernels of all pixels, drawn under the pointer: weights in 1/255 of each pixel's largest."""
        call = self.call.resfu[-1]
        kernel = call.explain()["kernel"]
        rows, columns = self.call.frame.kept((kernel.shape[-2], kernel.shape[-1]))
        kernel = kernel[:, :rows, :columns]
        scaled = kernel.clamp_min(0) / kernel.amax(0).clamp_min(1e-12)
        return {
            "count": kernel.shape[0],
            "rows": rows,
            "columns": columns,
            "ratio": list(call.ratio),
            "weights": base64.b64encode(scaled.mul(255).round().byte().cpu().numpy().tobytes()).decode(),
        }


@torch.no_grad()
def look(host: nn.Module, image: Tensor, photo: Picture) -> View:
    """Pass a photo through a network and measure its slot.

    Args:
        host: a network of `resfu.create_host`, in evaluation mode.
        image: [3, H, W], the photo normalised for it.
        photo: uint8 [H, W, 3].

    Raises:
        ValueError: for a network without an upsampler slot.
    """
    with recorded(host) as records:
        calls = figures.slot_calls(host, image)  # pyright: ignore[reportArgumentType]
    call = figures.choose_call(calls)
    slot = next(one for one in records if isinstance(one.module, Slot) and one.output is call.output)
    inputs = dict(slot.inputs)
    start = time.perf_counter()
    slot.module(**inputs)
    milliseconds = 1000 * (time.perf_counter() - start)
    peak = peak_memory(lambda _: slot.module(**inputs), image)
    return View(photo, call, milliseconds, peak, count_parameters(slot.module))


def _grey(values: Tensor) -> Picture:
    grey = values.clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return np.repeat(grey[..., None], 3, axis=2)


def _png(picture: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
