"""Image files without labels, and the label maps that are written for them."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors

from resfu.data import Sample, Transform
from resfu.data.image_files import UnreadableFileError, read_image
from resfu.files.atomic import replacing

# What cameras, telephones and browsers write. A file that Pillow does not read is named, not passed over.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".tga"),
)


def find_images(places: Sequence[str | Path]) -> list[Path]:
    """List image files.

    Args:
        places: files, and folders whose image files are taken in order of name.

    Returns:
        The files, in order.

    Raises:
        FileNotFoundError: for a place that is not there.
        ValueError: for a folder without images, or none at all, or two files of one name (their results would be too).
    """
    return find_files(places, SUFFIXES, "image", lambda file: file.stem)


def find_files(
    places: Sequence[str | Path], suffixes: tuple[str, ...], kind: str, name_of: Callable[[Path], str]
) -> list[Path]:
    """List files of a kind.

    Args:
        places: files, and folders whose files with one of the suffixes are taken in order of name, without those
            ("._NAME") that macOS lays beside its copies.
        suffixes: in lower case.
        kind: "image" or another word for the messages.
        name_of: what the result of a file is called.

    Returns:
        The files, in order.

    Raises:
        FileNotFoundError: for a place that is not there.
        ValueError: for a folder without such files, or none at all, or two files whose results have one name.
    """
    files: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"there is no {kind} or folder {place}.")
        found = [place]
        if place.is_dir():
            named = (file for file in place.iterdir() if file.name.lower().endswith(suffixes))
            found = sorted(file for file in named if not file.name.startswith("._"))
        if not found:
            raise ValueError(f"the folder {place} holds no {kind} ({', '.join(suffixes)}).")
        files += found
    if not files:
        raise ValueError(f"no {kind}s to predict: give files or folders.")
    twice = [name for name, count in Counter(map(name_of, files)).items() if count > 1]
    if twice:
        raise ValueError(
            f"several {kind}s are called {twice[0]}: their results would overwrite one another. Rename them."
        )
    return files


class Photos(Dataset[Sample]):
    """Image files as samples without labels.

    Args:
        places: files and folders, see `find_images`.
        transform: called with each sample {"image": uint8 [3, H, W], "name": stem of the file}. What it returns gets
            "size", the (H, W) of the file, which a transform may change in the image but not in the label map.
        on_error: "raise" stops at an unreadable file; "skip" gives {"error": message, "name": stem} in its place.

    Raises:
        FileNotFoundError: see `find_images`.
        ValueError: see `find_images`; on access with "raise" for an unreadable file, naming it.
    """

    def __init__(self, places: Sequence[str | Path], transform: Transform, on_error: Literal["raise", "skip"]) -> None:
        self.files = find_images(places)
        self.transform = transform
        self.on_error = on_error

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        try:
            pixels = read_image(file)
        except UnreadableFileError as error:
            if self.on_error == "raise":
                raise
            return {"error": str(error).removesuffix("."), "name": file.stem}
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
        return {**self.transform({"image": image, "name": file.stem}), "size": pixels.shape[:2]}


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


class LabelMapWriter(Callback):
    """Write each predicted label map as a palette PNG: the stored numbers are the classes.

    Args:
        folder: where `NAME.png` goes; made when it is not there.

    Raises:
        OSError: when the folder or a file cannot be written.
        ValueError: at the end, when not one image could be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.written: list[Path] = []
        self.skipped: list[str] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder before the work begins."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {self.folder} ({error.strerror}): choose another.") from error

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

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a run that had nothing to show."""
        if not self.written and self.skipped:
            raise ValueError(f"no image could be read, of {len(self.skipped)}; {self.skipped[0]}.")
