"""What the page shows of one photo, one network and one upsampler."""

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
from resfu.frozen import PixelFeatures
from resfu.hosts.slot import Slot
from resfu.visualize import Picture, figures
from resfu.visualize.recorder import recorded


@dataclass(frozen=True)
class PhotoView:
    """A photo seen through a network.

    Attributes:
        photo: uint8 [H, W, 3], as the network saw it.
        call: the call of the slot with the highest ratio.
        milliseconds: time of the slot alone, in the second of two passes.
        peak_bytes: memory that the slot needs in addition to its input.
        parameters: number of the upsampler's parameters.
    """

    photo: Picture
    call: figures.SlotCall
    milliseconds: float
    peak_bytes: int
    parameters: int

    def answer(self) -> dict[str, Any]:
        """Pictures and numbers for the page, ready for JSON."""
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
        """Compare the features of all pixels with those of one pixel, before and after upsampling.

        Args:
            row: position of the pixel, 0 at the photo's top and 1 at its bottom.
            column: position of the pixel, 0 at the left and 1 at the right.

        Returns:
            Pictures of the cosine similarity, black for -1 and white for 1, as "before" and "after".

        Raises:
            ValueError: for a place outside the photo.
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
        """ReSFU's kernels of all pixels, for drawing under the pointer; each kernel's largest weight becomes 255."""
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
def look(network: nn.Module, photo: Picture, ratio: int) -> PhotoView:
    """Pass a photo through a network and measure its upsampler.

    Args:
        network: of `resfu.create_host`, in evaluation mode, or `PixelFeatures`.
        photo: uint8 [H, W, 3].
        ratio: upsampling ratio for the features of a frozen encoder; ignored for a host, whose slots set the ratio.

    Raises:
        ValueError: for a network without an upsampler slot.
    """
    image = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    if isinstance(network, PixelFeatures):
        call, module, inputs = _pixel_call(network, image[None], ratio)
    else:
        call, module, inputs = _slot_call(network, image)
    start = time.perf_counter()
    module(**inputs)
    milliseconds = 1000 * (time.perf_counter() - start)
    peak = peak_memory(lambda _: module(**inputs), image)
    return PhotoView(photo, call, milliseconds, peak, count_parameters(module))


def _slot_call(host: Any, image: Tensor) -> tuple[figures.SlotCall, nn.Module, dict[str, Any]]:
    """The slot with the highest ratio: its call, the slot itself and the arguments of the call."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (host.mean, host.std))
    with recorded(host) as heard:
        calls = figures.slot_calls(host, (image - mean) / std)
    call = figures.choose_call(calls)
    slot = next(one for one in heard if isinstance(one.module, Slot) and one.output is call.output)
    return call, slot.module, dict(slot.inputs)


def _pixel_call(
    network: PixelFeatures, images: Tensor, ratio: int
) -> tuple[figures.SlotCall, nn.Module, dict[str, Any]]:
    features = network.low(images)
    photo = (images.shape[-2], images.shape[-1])
    size = (ratio * features.shape[-2], ratio * features.shape[-1])
    inputs = {"features": features, "guidance": network.guide(images, features), "size": size}
    output = network.upsampler(**inputs)
    call = figures.SlotCall("features", features, size, figures.Frame(photo, photo), output, ())
    return call, network.upsampler, inputs


def _grey(values: Tensor) -> Picture:
    grey = values.clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return np.repeat(grey[..., None], 3, axis=2)


def _png(picture: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
