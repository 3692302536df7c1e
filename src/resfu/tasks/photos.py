"""Image files without labels, for prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchvision import tv_tensors

from resfu.data import Sample, Transform
from resfu.data.image_files import PHOTO_SUFFIXES, UnreadableFileError, read_image
from resfu.data.unreadable import OnError
from resfu.tasks.files import find_files


class Photos(Dataset[Sample]):
    """Image files as samples without labels.

    Args:
        places: files and folders, see `find_files`.
        transform: called with each sample {"image": uint8 [3, H, W], "name": name of the result}. To its result is
            added "size", the (H, W) of the file: the transform may resize the image, but the label map has this size.
        on_error: "raise" stops at an unreadable file; "skip" gives {"error": message, "name": name} in its place.

    Raises:
        FileNotFoundError: for places that do not exist.
        ValueError: see `find_files`; on access with "raise" for an unreadable file, naming it.
    """

    def __init__(self, places: Sequence[str | Path], transform: Transform, on_error: OnError) -> None:
        self.found = find_files(places, PHOTO_SUFFIXES, "image")
        self.names, self.files = list(self.found), list(self.found.values())
        self.transform = transform
        self.on_error = on_error

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        name, file = self.names[index], self.files[index]
        try:
            pixels = read_image(file)
        except UnreadableFileError as error:
            if self.on_error == "raise":
                raise
            return {"error": str(error).removesuffix("."), "name": name}
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
        return {**self.transform({"image": image, "name": name}), "size": pixels.shape[:2]}


def photo_sample(image: str | Path | NDArray[np.uint8]) -> Sample:
    """A photo as a sample without a label.

    Args:
        image: the path of an image file, or uint8 [H, W, 3].

    Raises:
        ValueError: for a file that cannot be read, or another array.
    """
    if isinstance(image, str | Path):
        pixels, name = read_image(Path(image)), Path(image).stem
    else:
        pixels, name = np.asarray(image), "photo"
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f"a photo must be uint8 [H, W, 3] in RGB, got {pixels.dtype} {list(pixels.shape)}: convert it, as by "
                'PIL\'s convert("RGB"), or give the path of its file.'
            )
        pixels = np.ascontiguousarray(pixels)  # PyTorch takes no negative strides, as those of bgr[..., ::-1]
    return {"image": tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous()), "name": name}
