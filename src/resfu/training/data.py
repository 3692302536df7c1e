"""The base class of all tasks' data modules: the splits of a data set, in an order that can be resumed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from resfu.data import Sample
from resfu.data.unreadable import OnError
from resfu.ops.checks import check_int
from resfu.training.arguments import dataset_options
from resfu.training.loader import ResumableLoader, SeededDataset, ShardSampler, StreamSampler, TrainingOrder


class TrainingData(LightningDataModule, ABC):
    """Base class of the tasks' data modules. A subclass opens splits and photos and calls `save_hyperparameters`.

    Training batches depend only on the seed and on their number, not on the workers or on an interruption.

    Args:
        dataset: name of the data set.
        root: folder of the data; for generated data the folder of their cache.
        options: further arguments of the data set's class, for every split.
        train_options: further arguments for the training split only, such as the count of "scenes".
        eval_options: further arguments for the other splits.
        batch_size: training samples per process and step.
        eval_batch_size: images per batch outside training; images of another size go into a separate batch.
        num_workers: number of processes that load data; 0 loads in the training process.
        train_split: split that `fit` trains on.
        val_split: split that `fit` and `validate` evaluate.
        test_split: split that `test` evaluates.
        seed: seed of order and augmentation.
        images: image files (or scans) and folders for prediction.
        on_error: what to do about an unreadable file, in the splits (unless `options` say it) and in prediction:
            "raise", or "skip" it and continue.

    Raises:
        ValueError: for an unknown data set, or a batch or worker count that is too small.
    """

    trained: Any  # the splits that `setup` opens
    evaluated: Any
    predicted: Any

    def __init__(
        self,
        dataset: str,
        root: str | None = None,
        options: dict[str, Any] | None = None,
        train_options: dict[str, Any] | None = None,
        eval_options: dict[str, Any] | None = None,
        batch_size: int = 2,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        seed: int = 0,
        images: list[str] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        check_int("batch_size", batch_size)
        check_int("eval_batch_size", eval_batch_size)
        check_int("num_workers", num_workers, least=0)
        self.dataset, self.root = dataset, root
        self.train_options = dataset_options(self.dataset_class, on_error, options, train_options)
        self.eval_options = dataset_options(self.dataset_class, on_error, options, eval_options)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.train_split = train_split
        self.splits = {"fit": val_split, "validate": val_split, "test": test_split}
        self.seed = seed
        self.images = images or []
        self.on_error: OnError = on_error
        self._opened: str | None = None  # the stage whose splits `prepare_data` has opened

    @property
    @abstractmethod
    def dataset_class(self) -> type:
        """The class of the data set.

        Raises:
            ValueError: for an unknown name; the message lists the known ones.
        """

    @abstractmethod
    def open_split(self, split: str, training: bool) -> Any:
        """Open a split; its samples are augmented if `training`.

        Returns:
            A data set with a length, whose items are dictionaries: "image", float [3, H, W] as the network takes it,
            "name", a str, and the annotations, such as "label". `_collate` makes a batch of them.
        """

    @abstractmethod
    def open_files(self) -> Any:
        """Open the files in `images`; for photos see `resfu.tasks.photos.Photos`."""

    def prepare_data(self) -> None:
        """Open the splits in one process before the others do, so that generated data are only made once."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.setup(self.trainer.state.fn)
            self._opened = str(self.trainer.state.fn)

    def setup(self, stage: str) -> None:
        """Open the splits that a stage ("fit", "validate", "test" or "predict") needs."""
        opened, self._opened = self._opened, None
        if opened == str(stage):  # by `prepare_data`, in this process
            return
        if stage == "predict":
            self.predicted = self.open_files()
            return
        if stage == "fit":
            self.trained = self.open_split(self.train_split, training=True)
        self.evaluated = self.open_split(self.splits[stage], training=False)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled and augmented batches, without an incomplete one."""
        if getattr(self.trainer, "overfit_batches", 0):
            raise ValueError("trainer.overfit_batches does not work here: give train_options a small count instead.")
        dataset = SeededDataset(self.trained, self.seed)
        return ResumableLoader(dataset, self._training_sampler(), self.num_workers, self._collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every sample of the validation split once."""
        return self._in_order(self._measured(), self.eval_batch_size, partial(_batches, self._apart, self._collate))

    def test_dataloader(self) -> DataLoader[Any]:
        """Every sample of the test split once."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every photo or scan once, one at a time."""
        return self._in_order(self.predicted, 1, self._collate)

    @property
    def process(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _training_sampler(self) -> TrainingOrder:
        return StreamSampler(len(self.trained), self.batch_size, self.seed, *self.process)

    def _measured(self) -> Any:
        """The samples on which the evaluated split is measured."""
        return self.evaluated

    def _in_order(self, samples: Any, batch_size: int, collate: Callable[[list[Sample]], Any]) -> DataLoader[Any]:
        # Lightning's own sampler repeats samples so that all processes have as many, and these would be counted twice.
        sampler = ShardSampler(len(samples), *self.process)
        return DataLoader(
            samples, batch_size=batch_size, sampler=sampler, num_workers=self.num_workers, collate_fn=collate
        )

    @staticmethod
    def _collate(samples: list[Sample]) -> dict[str, Any]:
        # A task whose samples contain more than an image and a label overrides this.
        return pixel_batch(samples)

    @staticmethod
    def _apart(samples: list[Sample]) -> list[list[Sample]]:
        # Samples that may share a batch: those whose images and labels have the same sizes. Tasks may override this.
        groups: dict[tuple, list[Sample]] = {}
        for sample in samples:
            sizes = tuple(sample[key].shape[-2:] for key in ("image", "label") if key in sample)
            groups.setdefault(sizes, []).append(sample)
        return list(groups.values())


def _batches(apart: Callable[..., list[list[Sample]]], collate: Callable[..., Any], samples: list[Sample]) -> Any:
    """Make one batch of the samples, or a list of batches if their sizes differ."""
    batches = [collate(group) for group in apart(samples)]
    return batches[0] if len(batches) == 1 else batches


def pixel_batch(samples: list[Sample]) -> dict[str, Any]:
    """Make a batch of samples with an image and a label for each pixel; other entries are left out.

    Args:
        samples: each with "image" [3, h, w], "name" and "label" [H, W]; for prediction with "size", the (H, W) of the
            label map, in place of "label". Samples for prediction, and samples with a "volume" or an "error" in place
            of an image, come one at a time.

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
                    f"{key}s of a batch, that of {samples[0]['name']!r} among them, have sizes {sorted(sizes)}: "
                    "crop them to one (data.crop_size), or set the batch size to 1."
                )
            batch[key] = torch.stack([sample[key] for sample in samples])
    return batch
