"""The splits of a data set of objects as a LightningDataModule."""

from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from resfu.data import Sample
from resfu.data.coco import (
    INSTANCE_DATASETS,
    PANOPTIC_DATASETS,
    ObjectDataset,
    collate,
    create_instance_dataset,
    create_panoptic_dataset,
)
from resfu.data.coco.sampling import AspectRatioSampler
from resfu.data.coco.transforms import eval_transform, train_transform
from resfu.ops.checks import check_int
from resfu.training.loader import ResumableLoader, SeededDataset, ShardSampler
from resfu.training.options import dataset_options
from resfu.training.photos import Photos


class DetectionData(LightningDataModule):
    """The splits of a data set of objects, ready for `DetectionTask`.

    Training batches hold upright or lying images. They are a function of the seed and their number alone: not of the
    workers, nor of an interruption. The hosts resize images themselves.

    Args:
        dataset: a key of `resfu.data.coco.INSTANCE_DATASETS`.
        panoptic: load panoptic segments, for a panoptic host.
        root: folder of the data ("scenes": of its cache).
        options: further arguments of the data set's class, for every split.
        train_options: the same for the training split alone, such as "scenes"' count.
        eval_options: the same for the other splits.
        flip: mirror training samples at random.
        batch_size: training images per process and step.
        eval_batch_size: images per batch outside training.
        num_workers: processes that load; 0 loads in the training process.
        train_split: split that `fit` trains on.
        val_split: split of `fit` and `validate`.
        test_split: split of `test`.
        seed: of order and augmentation.
        images: image files and folders for prediction.
        on_error: what an unreadable file leads to, in the splits (where `options` do not say) and in prediction:
            "raise", or "skip" and go on.

    Raises:
        ValueError: for an unknown data set, batch or worker count.
    """

    def __init__(
        self,
        dataset: str = "scenes",
        panoptic: bool = False,
        root: str | None = None,
        options: dict[str, Any] | None = None,
        train_options: dict[str, Any] | None = None,
        eval_options: dict[str, Any] | None = None,
        flip: bool = True,
        batch_size: int = 2,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        seed: int = 0,
        images: list[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        super().__init__()
        if dataset not in INSTANCE_DATASETS:
            raise ValueError(f"unknown dataset {dataset!r} of objects; choose one of {', '.join(INSTANCE_DATASETS)}.")
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
                "flip": flip,
                "batch_size": batch_size,
                "eval_batch_size": eval_batch_size,
                "num_workers": num_workers,
                "train_split": train_split,
                "val_split": val_split,
                "test_split": test_split,
                "on_error": on_error,
            }
        )
        self.dataset, self.panoptic, self.root, self.flip = dataset, panoptic, root, flip
        kinds = PANOPTIC_DATASETS if panoptic else INSTANCE_DATASETS
        self.train_options = dataset_options(kinds[dataset], {"on_error": on_error}, options, train_options)
        self.eval_options = dataset_options(kinds[dataset], {"on_error": on_error}, options, eval_options)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.train_split = train_split
        self.splits = {"fit": val_split, "validate": val_split, "test": test_split}
        self.seed = seed
        self.images = images or []
        self.on_error: Literal["raise", "skip"] = on_error

    @property
    def monitor(self) -> str:
        """What a better network has more of, as the task logs it."""
        return "val/pq" if self.panoptic else "val/mask_ap"

    def prepare_data(self) -> None:
        """Generate scenes in one process before the others open them."""
        if self.dataset == "scenes" and self.trainer is not None and self.trainer.state.fn is not None:
            self.setup(self.trainer.state.fn)

    def setup(self, stage: str) -> None:
        """Open the splits that a stage ("fit", "validate", "test" or "predict") needs."""
        if stage == "predict":
            self.predicted = Photos(self.images, eval_transform(), self.on_error)
            return
        create = create_panoptic_dataset if self.panoptic else create_instance_dataset
        if stage == "fit":
            transform = train_transform(self.flip)
            self.trained: ObjectDataset = create(
                self.dataset, self.train_split, self.root, transform, **self.train_options
            )
        split = self.splits[stage]
        self.evaluated: ObjectDataset = create(self.dataset, split, self.root, eval_transform(), **self.eval_options)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled and augmented batches of one orientation each."""
        if getattr(self.trainer, "overfit_batches", 0):
            raise ValueError("trainer.overfit_batches does not work here: give train_options a small count instead.")
        sampler = AspectRatioSampler(self.trained.sizes, self.batch_size, self.seed, *self._process())
        return ResumableLoader(SeededDataset(self.trained, self.seed), sampler, self.num_workers, collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every image of the validation split once."""
        return self._in_order(self.evaluated, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Every image of the test split once."""
        return self._in_order(self.evaluated, self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every image file once, one at a time."""
        return self._in_order(self.predicted, 1)

    def _in_order(self, dataset: ObjectDataset | Photos, batch_size: int) -> DataLoader[Any]:
        # Lightning's own sampler would repeat images to even out the processes.
        sampler = ShardSampler(len(dataset), *self._process())
        items: Dataset[Any] = dataset
        return DataLoader(
            items, batch_size=batch_size, sampler=sampler, num_workers=self.num_workers, collate_fn=_collate
        )

    def _process(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _collate(samples: Sequence[Sample]) -> dict[str, Any]:
    return samples[0] if "error" in samples[0] else collate(samples)
