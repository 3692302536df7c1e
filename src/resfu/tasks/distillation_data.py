"""Photos for fitting an upsampler without labels."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from resfu.data import create_dataset
from resfu.data.image_files import PHOTO_SUFFIXES, list_files, read_image
from resfu.data.unreadable import FirstReadable, OnError
from resfu.ops.checks import check_int
from resfu.training.arguments import plain_arguments
from resfu.training.data import TrainingData

_LARGEST = 1.5  # the shorter side of a training image is at most this factor times the crop's size


class PhotoCrops(Dataset[dict[str, Any]]):
    """Square crops of photos.

    Args:
        photos: a sequence of names and photos, uint8 [3, H, W].
        size: side of a crop in pixels.
        training: crop at random positions and scales and mirror at random; otherwise crop the centre.
        on_error: "raise" stops at an unreadable photo; "skip" takes the next one in its place, with a warning.
    """

    def __init__(self, photos: Any, size: int, training: bool, on_error: OnError = "raise") -> None:
        self.photos, self.size, self.training = photos, size, training
        self._readable = FirstReadable(on_error, "photo")

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, photo = self._readable.read(self.photos.__getitem__, index, len(self), "photos to fit to")
        scale = 1 + (_LARGEST - 1) * torch.rand(()).item() if self.training else 1.0
        H, W = (max(self.size, round(n * self.size * scale / min(photo.shape[1:]))) for n in photo.shape[1:])
        # Bytes are shrunk faster than fp32.
        photo = F.interpolate(photo[None], size=(H, W), mode="bilinear", antialias=True)[0]
        top, left = (
            (int(torch.randint(n - self.size + 1, ())) if self.training else (n - self.size) // 2) for n in (H, W)
        )
        crop = photo[:, top : top + self.size, left : left + self.size]
        if self.training and torch.rand(()) < 0.5:
            crop = crop.flip(-1)
        return {"image": crop.float().contiguous() / 255, "name": name}


class _Files:
    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        file = self._files[index]
        return file.name, torch.tensor(read_image(file)).permute(2, 0, 1)


class _Labelled:
    """The photos of a data set, without its labels."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        sample = self._dataset.load(index)
        return sample["name"], sample["image"].as_subclass(Tensor)


class DistillationData(TrainingData):
    """Photos of a folder, of which one in `held_out` is for validation, or photos of a data set with its own splits.

    Args:
        dataset: "photos" for the folder `root`, or a key of `resfu.data.DATASETS`.
        crop_size: side of the square crops; the low-resolution features are those of a crop at half this size.
        held_out: one in this many photos of the folder is for validation.
        **shared: further arguments of `TrainingData`.

    Raises:
        ValueError: for a folder with fewer than two photos, a crop of one pixel, or all photos held out.
    """

    def __init__(self, dataset: str = "photos", *, crop_size: int = 256, held_out: int = 10, **shared: Any) -> None:
        arguments = plain_arguments(locals())
        check_int("crop_size", crop_size, least=2)
        check_int("held_out", held_out, least=2)
        super().__init__(dataset, **shared)
        self.save_hyperparameters(arguments)
        self.crop_size, self.held_out = crop_size, held_out

    @property
    def dataset_class(self) -> type:
        """See `TrainingData`."""
        return PhotoCrops

    def open_split(self, split: str, training: bool) -> PhotoCrops:
        """See `TrainingData`."""
        if self.dataset != "photos":
            options = self.train_options if training else self.eval_options
            photos: Any = _Labelled(create_dataset(self.dataset, split, self.root, **options))
        else:
            if self.root is None:
                raise ValueError("photos to fit to are missing: give their folder as --images.")
            files = list_files(Path(self.root), PHOTO_SUFFIXES, "Give a folder of photos as --images.")
            if len(files) < 2:
                raise ValueError(f"{self.root} holds {len(files)} photo: fitting needs one to validate with too.")
            every = min(self.held_out, len(files))
            photos = _Files([f for n, f in enumerate(files) if (n % every == every - 1) != training])
        return PhotoCrops(photos, self.crop_size, training, self.on_error)

    def open_files(self) -> Any:
        """Not supported: there are no predictions."""
        raise ValueError("a fit without labels predicts nothing: use resfu.PixelFeatures with its weights.")
