"""The splits of a data set as a LightningDataModule: augmentation, batches, and an order that can be resumed."""

from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resfu.data import DATASETS, Sample, SegmentationDataset, create_dataset
from resfu.data.medical.base import SliceDataset
from resfu.data.medical.transforms import slice_eval_transform, slice_train_transform
from resfu.data.transforms import eval_transform, train_transform
from resfu.ops.checks import check_int
from resfu.training.loader import ResumableLoader, SeededDataset, ShardSampler, StreamSampler
from resfu.training.options import dataset_options
from resfu.training.photos import Photos
from resfu.training.scans import Scans
from resfu.training.volumes import Cases


class SegmentationData(LightningDataModule):
    """The splits of a data set, ready for `SegmentationTask`.

    Training batches are a function of the seed and their number alone: not of the workers, nor of an interruption.

    Args:
        dataset: a key of `resfu.data.DATASETS`.
        mean: per channel, for images in 0..1: the host's.
        std: per channel, for images in 0..1: the host's.
        root: folder of the data ("scenes": of its cache).
        options: further arguments of the data set's class, for every split.
        train_options: the same for the training split alone, such as "scenes"' count.
        eval_options: the same for the other splits.
        augmentation: "photo", or for data sets of volumes "slice": TransUNet's, see `slice_train_transform`. Then the
            settings from `scale_range` to `eval_size` have no meaning, and validation and test go by whole volumes.
        crop_size: (H, W) of a training sample; with "slice" a square, and what the network sees of each slice.
        scale_range: bounds of the random resize of a training sample.
        base_size: (long, short): what that resize is relative to, such as (2048, 512) for ADE20K; None: the image.
        flip: mirror training samples at random.
        photometric: distort the colours of training samples at random.
        cat_max_ratio: largest share of one class in a crop, where ten draws allow it.
        eval_size: (long, short): bounds to which images are resized outside training, keeping their ratio; metrics and
            label maps stay at the original size. None: images as they are.
        batch_size: training samples per process and step.
        eval_batch_size: images per batch outside training; above 1 all must have one size.
        num_workers: processes that load; 0 loads in the training process.
        train_split: split that `fit` trains on.
        val_split: split of `fit` and `validate`.
        test_split: split of `test`.
        seed: of order and augmentation.
        scan_flip: reverse the second axis of a NIfTI scan's slices for prediction and back, where the training data
            were prepared so (`resfu prepare --flip`).
        images: image files (or scans) and folders for prediction.
        longest_side: photos for prediction that are larger are shrunk to this for the network, and `eval_size` keeps
            within it; label maps have the size of the file all the same. None: no such bound.
        on_error: what an unreadable file leads to, in the splits (where `options` do not say) and in prediction:
            "raise", or "skip" and go on.

    Raises:
        ValueError: for an unknown data set, batch or worker count, or an augmentation or crop that does not fit it.
    """

    def __init__(
        self,
        dataset: str = "scenes",
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        root: str | None = None,
        options: dict[str, Any] | None = None,
        train_options: dict[str, Any] | None = None,
        eval_options: dict[str, Any] | None = None,
        augmentation: Literal["photo", "slice"] = "photo",
        crop_size: tuple[int, int] = (512, 512),
        scale_range: tuple[float, float] = (0.5, 2.0),
        base_size: tuple[int, int] | None = None,
        flip: bool = True,
        photometric: bool = True,
        cat_max_ratio: float = 0.75,
        eval_size: tuple[int, int] | None = None,
        batch_size: int = 2,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        scan_flip: bool = False,
        seed: int = 0,
        images: list[str] | None = None,
        longest_side: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        super().__init__()
        self.volumetric = augmentation == "slice"
        if self.volumetric and longest_side is not None:
            raise ValueError("longest_side is for photos; the slices of a scan are resized to crop_size.")
        _check_augmentation(dataset, augmentation, crop_size)
        check_int("batch_size", batch_size)
        check_int("eval_batch_size", eval_batch_size)
        check_int("num_workers", num_workers, least=0)
        # Plain values, for a checkpoint; what the host, the seed or the command line gives is not repeated there.
        self.save_hyperparameters(
            {
                "dataset": dataset,
                "root": root,
                "options": options,
                "train_options": train_options,
                "eval_options": eval_options,
                "augmentation": augmentation,
                "crop_size": list(crop_size),
                "scale_range": list(scale_range),
                "base_size": None if base_size is None else list(base_size),
                "flip": flip,
                "photometric": photometric,
                "cat_max_ratio": cat_max_ratio,
                "eval_size": None if eval_size is None else list(eval_size),
                "batch_size": batch_size,
                "eval_batch_size": eval_batch_size,
                "num_workers": num_workers,
                "train_split": train_split,
                "val_split": val_split,
                "test_split": test_split,
                "scan_flip": scan_flip,
                "on_error": on_error,
            }
        )
        self.dataset, self.root = dataset, root
        self.train_options = dataset_options(dataset_class(dataset), on_error, options, train_options)
        self.eval_options = dataset_options(dataset_class(dataset), on_error, options, eval_options)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.train_split = train_split
        self.splits = {"fit": val_split, "validate": val_split, "test": test_split}
        self.seed = seed
        self.images = images or []
        self.on_error: Literal["raise", "skip"] = on_error
        self.input_size, self.scan_flip = crop_size[0], scan_flip
        if self.volumetric:
            self.train_transform = slice_train_transform(crop_size, mean, std)
            self.eval_transform = self.photo_transform = slice_eval_transform(crop_size, mean, std)
        else:
            self.train_transform = train_transform(
                crop_size, mean, std, scale_range, flip, photometric, cat_max_ratio, base_size
            )
            self.eval_transform = eval_transform(mean, std, eval_size)
            self.photo_transform = eval_transform(mean, std, eval_size, longest_side)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return dataset_class(self.dataset).classes

    @property
    def palette(self) -> Tensor:
        """RGB of each class, uint8 [num_classes, 3]."""
        return dataset_class(self.dataset).palette

    @property
    def monitor(self) -> str:
        """What a better network has more of, as the task logs it."""
        return "val/dice" if self.volumetric else "val/miou"

    def prepare_data(self) -> None:
        """Open the splits in one process before the others do: generated data are made once."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.setup(self.trainer.state.fn)

    def setup(self, stage: str) -> None:
        """Open the splits that a stage ("fit", "validate", "test" or "predict") needs."""
        if stage == "predict":
            if self.volumetric:
                self.predicted = Scans(self.images, self.dataset, self.input_size, self.scan_flip, self.on_error)
            else:
                self.predicted = Photos(self.images, self.photo_transform, self.on_error)
            return
        if stage == "fit":
            self.trained = create_dataset(
                self.dataset, self.train_split, self.root, self.train_transform, **self.train_options
            )
        split = self.splits[stage]
        self.evaluated = create_dataset(self.dataset, split, self.root, self.eval_transform, **self.eval_options)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled and augmented batches, without an incomplete one."""
        if getattr(self.trainer, "overfit_batches", 0):
            raise ValueError("trainer.overfit_batches does not work here: give train_options a small count instead.")
        sampler = StreamSampler(len(self.trained), self.batch_size, self.seed, *self._process())
        return ResumableLoader(SeededDataset(self.trained, self.seed), sampler, self.num_workers, collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every image, or volume, of the validation split once."""
        return self._evaluation_loader()

    def test_dataloader(self) -> DataLoader[Any]:
        """Every image, or volume, of the test split once."""
        return self._evaluation_loader()

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every photo or scan once, one at a time."""
        return self._in_order(self.predicted, 1)

    def _evaluation_loader(self) -> DataLoader[Any]:
        if isinstance(self.evaluated, SliceDataset):
            return self._in_order(Cases(self.evaluated, self.input_size), 1)
        return self._in_order(self.evaluated, self.eval_batch_size)

    def _in_order(self, dataset: SegmentationDataset | Photos | Cases | Scans, batch_size: int) -> DataLoader[Any]:
        # Lightning's own sampler would repeat images to even out the processes, and the metrics would count them twice.
        sampler = ShardSampler(len(dataset), *self._process())
        items: Dataset[Any] = dataset
        # A volume is read where it is predicted, slice by slice.
        workers = 0 if self.volumetric else self.num_workers
        return DataLoader(items, batch_size=batch_size, sampler=sampler, num_workers=workers, collate_fn=collate)

    def _process(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def dataset_class(name: str) -> type[SegmentationDataset]:
    """The class of a data set by name.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; choose one of {', '.join(DATASETS)}.")
    return DATASETS[name]


def _check_augmentation(dataset: str, augmentation: str, crop_size: tuple[int, int]) -> None:
    """Refuse an augmentation that does not fit the data."""
    fitting = "slice" if issubclass(dataset_class(dataset), SliceDataset) else "photo"
    if augmentation != fitting:
        raise ValueError(f"the data set {dataset!r} needs data.augmentation {fitting!r}, got {augmentation!r}.")
    if augmentation == "slice" and crop_size[0] != crop_size[1]:
        raise ValueError(f"slices are resized to a square, such as crop_size (224, 224); got {tuple(crop_size)}.")


def collate(samples: list[Sample]) -> dict[str, Any]:
    """Make a batch of samples.

    Args:
        samples: each with "image" [3, h, w] and "name", and "label" [H, W], or for prediction "size", the (H, W) of the
            label map. A sample for prediction passes alone, as does one with a "volume" or an "error" instead of an
            image.

    Returns:
        "image" [B, 3, h, w], "label" [B, H, W] or "size", and "name", a list.

    Raises:
        ValueError: for images or labels of several sizes.
    """
    if "error" in samples[0] or "volume" in samples[0]:
        return samples[0]
    batch: dict[str, Any] = {"name": [sample["name"] for sample in samples]}
    if "size" in samples[0]:
        batch["size"] = samples[0]["size"]
    for key in ("image", "label"):
        if key in samples[0]:
            sizes = {tuple(sample[key].shape[-2:]) for sample in samples}
            if len(sizes) > 1:
                raise ValueError(
                    f"a batch with {samples[0]['name']} holds {key}s of the sizes {sorted(sizes)}: "
                    "set eval_batch_size to 1."
                )
            batch[key] = torch.stack([sample[key] for sample in samples])
    return batch
