"""Image files without labels, and the label maps that are written for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors

from resfu.data import Sample, Transform
from resfu.data.image_files import UnreadableFileError, read_image
from resfu.files.atomic import replacing
from resfu.tasks.files import check_output, find_files
from resfu.tasks.legend import over_photo
from resfu.tasks.writing import PredictionWriter

# What cameras, telephones and browsers write. A file that Pillow does not read is named, not passed over.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".tga"),
)


class Photos(Dataset[Sample]):
    """Image files as samples without labels.

    Args:
        places: files and folders, see `find_files`.
        transform: called with each sample {"image": uint8 [3, H, W], "name": of its results}. What it returns gets
            "size", the (H, W) of the file, which a transform may change in the image but not in the label map.
        on_error: "raise" stops at an unreadable file; "skip" gives {"error": message, "name": name} in its place.

    Raises:
        FileNotFoundError: for places that are not there.
        ValueError: see `find_files`; on access with "raise" for an unreadable file, naming it.
    """

    def __init__(self, places: Sequence[str | Path], transform: Transform, on_error: Literal["raise", "skip"]) -> None:
        self.found = find_files(places, SUFFIXES, "image")
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
            raise ValueError(f"a photo must be uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}.")
    return {"image": tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous()), "name": name}


class LabelMapWriter(PredictionWriter):
    """Write each predicted label map as a palette PNG: the stored numbers are the classes.

    Args:
        folder: where `NAME.png` goes; made when it is not there.
        overlay: write `NAME.overlay.jpg` too: the classes over the photo, with a legend.

    Raises:
        OSError: when the folder or a file cannot be written.
        ValueError: for a folder among the photos to predict, or `overlay` without colours; at the end, when not one
            image could be read.
    """

    def __init__(self, folder: str | Path, overlay: bool = False) -> None:
        super().__init__(folder)
        self.overlay = overlay

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder before the work begins."""
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self._photos: dict[str, Path] = data.predicted.found
        self.make_folder()
        check_output(data.images, self._photos, self.folder, ".png")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the maps of a batch, or note the image that could not be read."""
        if "error" in batch:
            self.skipped.append(batch["error"])
            return
        for name, label_map in zip(batch["name"], outputs["label_map"], strict=True):
            picture = Image.fromarray(label_map.numpy())
            palette = getattr(pl_module, "palette", None)
            if palette is not None:
                picture.putpalette([value for colour in palette for value in colour])
            self.written.append(self.folder / f"{name}.png")
            with replacing(self.written[-1]) as draft:
                picture.save(draft)
            if self.overlay:
                if palette is None:
                    raise ValueError("this checkpoint does not keep the colours of its classes: leave --overlay out.")
                shown = over_photo(read_image(self._photos[name]), label_map, pl_module.class_names, palette)  # pyright: ignore
                with replacing(self.folder / f"{name}.overlay.jpg") as draft:
                    Image.fromarray(shown).save(draft, quality=90)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a run that had nothing to show."""
        self.check_written()
